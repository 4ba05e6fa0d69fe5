//! What changes at NICs, as the kernel's `ethtool` family tells it; and a look at all of them every few seconds, since older
//! kernels tell nothing of RSS, and drivers nothing of what their firmware does.

use std::time::Duration;

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_GENERIC};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::attributes::Attributes;
use super::error::NicError;
use super::generic::{Asker, BODY};

/// How often everything is to be looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Hears of changes.
pub struct Changes {
    socket: TokioSocket,
    tick: Interval,
}

impl Changes {
    /// Listens in the calling thread's network namespace, on a runtime; from here on no change is missed.
    pub fn listen() -> Result<Changes, NicError> {
        let mut socket = TokioSocket::new(NETLINK_GENERIC)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        // A kernel without the family tells nothing: then there are only looks.
        if let Some(group) = Asker::open()?.family("ethtool")?.and_then(|family| family.group("monitor")) {
            socket.socket_mut().add_membership(group)?;
        }
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        Ok(Changes { socket, tick })
    }

    /// Waits for a change: the ifindex of a NIC where something is another way now, or `None` when all are to be looked at.
    /// May be dropped while it waits.
    pub async fn next(&mut self) -> Option<u32> {
        tokio::select! {
            message = self.socket.recv_from_full() => match message {
                Ok((bytes, _)) => changed(&bytes),
                // Messages were lost. Should the socket be broken for good, this is as often as is useful.
                Err(_) => {
                    self.tick.tick().await;
                    None
                }
            },
            _ = self.tick.tick() => None,
        }
    }
}

/// The interface that a notification is about.
fn changed(message: &[u8]) -> Option<u32> {
    const HEADER: u16 = 1;
    const HEADER_INDEX: u16 = 1;
    Attributes(message.get(BODY..)?).nested(HEADER).u32(HEADER_INDEX)
}
