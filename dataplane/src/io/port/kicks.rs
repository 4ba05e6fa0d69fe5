//! Waking the kernel.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Port;

/// How long transmit kicks rest after one failed because a device is down.
const REST: Duration = Duration::from_millis(1);

/// How long all kicks rest after one found no device. It is mostly gone for good.
const LONG_REST: Duration = Duration::from_millis(100);

impl Port {
    /// Has the kernel send what is in the transmit ring. In copy mode one call sends a few dozen packets on kernels that
    /// do not know a larger budget, then says EAGAIN; so a few calls may be needed for a batch.
    pub(super) fn kick_transmit(&mut self) {
        if let Some(until) = self.resting {
            if Instant::now() < until {
                return;
            }
            self.resting = None;
        }
        for _ in 0..8 {
            if !self.rings.transmit.needs_wakeup() || self.rings.transmit.is_drained() {
                return;
            }
            let Some(socket) = &self.socket else { return };
            self.counters.kicks += 1;
            match socket.kick_transmit() {
                Ok(()) => return,
                Err(Errno::AGAIN) => {
                    self.counters.kicks_again += 1;
                    continue;
                }
                Err(Errno::BUSY | Errno::NOBUFS) => self.counters.kicks_busy += 1,
                Err(Errno::NETDOWN) => self.counters.kicks_down += 1,
                Err(Errno::NXIO) => return self.rest_gone(),
                Err(_) => self.counters.kicks_failed += 1,
            }
            self.resting = Some(Instant::now() + REST);
            return;
        }
    }

    pub(super) fn kick_receive(&mut self) {
        let Some(socket) = &self.socket else { return };
        self.counters.kicks += 1;
        match socket.kick_receive() {
            Ok(()) | Err(Errno::AGAIN) => {}
            Err(Errno::NETDOWN) => self.counters.kicks_down += 1,
            Err(Errno::NXIO) => self.rest_gone(),
            Err(_) => self.counters.kicks_failed += 1,
        }
    }

    /// The kernel found no device, or the driver no XDP program.
    #[cold]
    fn rest_gone(&mut self) {
        self.is_gone = true;
        self.resting = Some(Instant::now() + LONG_REST);
    }

    /// Whether a device that was not there is now. It is looked after ten times a second.
    #[cold]
    pub(super) fn is_back(&mut self) -> bool {
        if self.resting.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        self.is_gone = false;
        self.kick_receive();
        !self.is_gone
    }
}
