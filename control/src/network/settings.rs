//! What the kernel's settings say about the interfaces (`net.ipv4.conf`), asked and followed over netlink: that way it is
//! the settings of the namespace whose network is watched, whichever thread asks.

use std::collections::HashMap;
use std::io;

use ringway_shared::network::{Interface, ReversePath};
use rtnetlink::MulticastGroup;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

use super::questions::{number, word};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWNETCONF: u16 = 80;
const RTM_GETNETCONF: u16 = 82;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const AF_INET: u8 = 2;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_RP_FILTER: u16 = 3;
/// The interface that stands for all.
const ALL: i32 = -1;
/// A netlink header, and with it the family, padded.
const HEADER: usize = 16;
const BODY: usize = HEADER + 4;

/// The filter settings by ifindex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(HashMap<i32, u32>);

impl Filters {
    /// What the kernel asks of sources on these interfaces: the larger of an interface's own value and that of all.
    pub(super) fn of(&self, interfaces: &[Interface]) -> Vec<ReversePath> {
        let value = |index: i32| self.0.get(&index).copied().unwrap_or_default();
        let index = |interface: &Interface| i32::try_from(interface.index).unwrap_or_default();
        let asked = |interface| ReversePath::of_setting(value(index(interface)).max(value(ALL)));
        interfaces.iter().map(asked).collect()
    }
}

/// Hears of changes, and has who asks.
pub(super) struct Settings {
    /// Away while it asks.
    pub(super) asker: Option<Asker>,
    changes: TokioSocket,
}

/// A socket for questions.
pub(super) struct Asker(Socket);

impl Settings {
    /// Opens the sockets in the calling thread's network namespace. From here on no change is missed.
    pub(super) fn open() -> io::Result<Self> {
        let mut questions = Socket::new(NETLINK_ROUTE)?;
        questions.bind_auto()?;
        questions.connect(&SocketAddr::new(0, 0))?;
        // The kernel answers within the call that asks: nothing is waited for.
        questions.set_non_blocking(true)?;
        let mut changes = TokioSocket::new(NETLINK_ROUTE)?;
        changes.socket_mut().bind(&SocketAddr::new(0, 0))?;
        changes.socket_mut().add_membership(MulticastGroup::Ipv4Netconf as u32)?;
        Ok(Settings { asker: Some(Asker(questions)), changes })
    }

    /// Waits for a change; also when some were lost.
    pub(super) async fn changed(&mut self) {
        let _ = self.changes.recv_from_full().await;
    }
}

impl Asker {
    /// The settings now. The kernel answers within the calls, which takes milliseconds where there are thousands of interfaces.
    pub(super) fn filters(&self) -> io::Result<Filters> {
        let mut question = Vec::with_capacity(BODY);
        question.extend((BODY as u32).to_ne_bytes());
        question.extend(RTM_GETNETCONF.to_ne_bytes());
        question.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        question.extend([0; 8]);
        question.extend([AF_INET, 0, 0, 0]);
        self.0.send(&question, 0)?;
        let mut filters = Filters::default();
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            let mut rest = &datagram[..];
            while let Some(length) = number(rest, 0).map(|length| length as usize)
                && let Some(message) = rest.get(..length)
            {
                match word(message, 4) {
                    Some(NLMSG_DONE) => return Ok(filters),
                    Some(NLMSG_ERROR) => {
                        let error = number(message, HEADER).map_or(0, |number| (number as i32).wrapping_neg());
                        return Err(io::Error::from_raw_os_error(error));
                    }
                    Some(RTM_NEWNETCONF) => filters.0.extend(filter(message)),
                    _ => {}
                }
                rest = rest.get(length.next_multiple_of(4).max(HEADER)..).unwrap_or_default();
            }
        }
    }
}

/// The ifindex and the filter setting that a message tells.
fn filter(message: &[u8]) -> Option<(i32, u32)> {
    let (mut index, mut value) = (None, None);
    let mut rest = message.get(BODY..)?;
    while let (Some(length), Some(kind)) = (word(rest, 0), word(rest, 2)) {
        let length = usize::from(length);
        match kind {
            NETCONFA_IFINDEX => index = number(rest, 4),
            NETCONFA_RP_FILTER => value = number(rest, 4),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    Some((index? as i32, value?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_or_odd_message_tells_nothing() {
        let attribute =
            |kind: u16, value: i32| [&8u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value.to_ne_bytes()].concat();
        let whole = [vec![0; BODY], attribute(NETCONFA_IFINDEX, ALL), attribute(NETCONFA_RP_FILTER, 2)].concat();
        assert_eq!(filter(&whole), Some((ALL, 2)));
        for length in 0..whole.len() {
            assert_eq!(filter(&whole[..length]), None, "{length}");
        }
        assert_eq!(filter(&[vec![0; BODY], vec![0; 64]].concat()), None);
    }
}
