//! Questions of the workers to the control thread: who is this neighbour?

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use ringway_shared::InterfaceId;

use crate::waker::Waker;

/// Neighbours that packets wait for. Bounded; a question that finds no room is asked again by the next packet.
pub struct Resolver {
    questions: ArrayQueue<(InterfaceId, IpAddr)>,
    waker: Waker,
}

impl Resolver {
    /// A resolver that nobody listens to yet.
    pub fn new() -> rustix::io::Result<Arc<Self>> {
        Ok(Arc::new(Resolver { questions: ArrayQueue::new(1024), waker: Waker::new()? }))
    }

    /// Asks for a neighbour's MAC address. The answer comes with a later snapshot.
    pub fn ask(&self, interface: InterfaceId, neighbor: IpAddr) {
        if self.questions.push((interface, neighbor)).is_ok() {
            self.waker.wake();
        }
    }

    /// The next question.
    pub fn next_question(&self) -> Option<(InterfaceId, IpAddr)> {
        self.questions.pop()
    }

    /// What the control thread sleeps on: [`Waker::sleep`], then empty the queue, then poll [`Waker::fd`], then
    /// [`Waker::awake`].
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}
