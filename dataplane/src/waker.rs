//! A bell for a thread that sleeps: a worker, or the control thread that answers the workers' questions.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// Wakes whoever sleeps on it in `poll(2)`; costs one exchange when nobody does.
pub struct Waker {
    asleep: AtomicBool,
    event: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> rustix::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { asleep: AtomicBool::new(false), event })
    }

    /// Wakes the sleeper, if there is one.
    pub fn wake(&self) {
        // SeqCst pairs with `sleep`: either this sees `asleep`, or the sleeper sees what was pushed before this call.
        if self.asleep.swap(false, Ordering::SeqCst) {
            // The event counter cannot overflow: it is written once a sleep.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Says that somebody is about to sleep, who must look for work once more before.
    pub fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Says that the sleeper is awake again.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.event, &mut count);
    }

    /// What to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
