//! The workers' questions for neighbours, brought into the runtime.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringway_dataplane::resolver::Resolver;
use ringway_shared::InterfaceId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

use crate::watch;

/// Questions under way. More are dropped: packets that wait ask again.
const ROOM: usize = 1024;

/// So many at once are a flood.
const MANY: usize = 16;
/// The pause in a flood.
const BREATH: Duration = Duration::from_millis(5);

/// How often the thread looks whether anybody still listens.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// The questions of all workers. They wake a thread of their own, by a descriptor that the runtime cannot safely wait
/// for; it ends with the receiver.
pub(super) fn listen(resolver: Arc<Resolver>) -> io::Result<mpsc::Receiver<(InterfaceId, IpAddr)>> {
    let (sender, receiver) = mpsc::channel(ROOM);
    thread::Builder::new().name("ringway-ask".into()).spawn(move || {
        let waker = resolver.waker();
        let heart = watch::heart("workers' questions");
        while !sender.is_closed() {
            heart.beat();
            waker.sleep();
            // What came before `sleep` woke nobody, so the queue is emptied after it.
            let mut asked = 0;
            while asked < ROOM
                && let Some(question) = resolver.next_question()
            {
                asked += 1;
                let _ = sender.try_send(question);
            }
            if asked >= MANY {
                // Workers that ask for thousands a second need not wake anybody for each.
                thread::sleep(BREATH);
            } else if asked == 0 {
                let _ = poll(&mut [PollFd::from_borrowed_fd(waker.fd(), PollFlags::IN)], Some(&LOOK));
            }
            waker.awake();
        }
    })?;
    Ok(receiver)
}
