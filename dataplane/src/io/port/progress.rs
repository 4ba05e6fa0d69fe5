//! How far a port has come: noted by its worker twice a second, read by whoever watches over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Time;

/// A port's progress at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Descriptors that it took from its receive ring since it was opened.
    pub received: u64,
    /// Frames that the kernel gave back as sent since then.
    pub completed: u64,
    /// Chunks that wait to be received into.
    pub in_receive: u32,
    /// Frames that wait to be sent, or to be given back as sent.
    pub in_transmit: u32,
    /// Of these, those that the driver has not taken from the transmit ring.
    pub untaken: u32,
    /// For how long frames have waited without one being sent, in milliseconds.
    pub waits: u64,
}

/// Where a port's progress is to be read while its worker has the port.
#[derive(Debug, Default)]
pub struct ProgressCell {
    received: AtomicU64,
    completed: AtomicU64,
    in_receive: AtomicU64,
    in_transmit: AtomicU64,
    untaken: AtomicU64,
    waits: AtomicU64,
}

impl ProgressCell {
    /// What was noted last.
    pub fn read(&self) -> Progress {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        Progress {
            received: read(&self.received),
            completed: read(&self.completed),
            in_receive: read(&self.in_receive) as u32,
            in_transmit: read(&self.in_transmit) as u32,
            untaken: read(&self.untaken) as u32,
            waits: read(&self.waits),
        }
    }

    fn write(&self, progress: Progress) {
        let write = |value: &AtomicU64, to| value.store(to, Ordering::Relaxed);
        write(&self.received, progress.received);
        write(&self.completed, progress.completed);
        write(&self.in_receive, progress.in_receive.into());
        write(&self.in_transmit, progress.in_transmit.into());
        write(&self.untaken, progress.untaken.into());
        write(&self.waits, progress.waits);
    }
}

/// The port's own side of it.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Counted as it happens.
    pub(super) received: u64,
    /// Likewise.
    pub(super) completed: u64,
    /// How many had been completed when it was looked at last.
    seen: u64,
    /// Since when frames wait without one being sent.
    since: Option<Time>,
    cell: Arc<ProgressCell>,
}

impl Tracker {
    /// Where others read.
    pub(super) fn cell(&self) -> Arc<ProgressCell> {
        self.cell.clone()
    }

    /// Notes how far the port is. Frames wait since the first of these looks that found them waiting and none sent since the
    /// one before; that there were none meanwhile takes a completion.
    pub(super) fn note(&mut self, in_receive: u32, in_transmit: u32, untaken: u32, now: Time) {
        if in_transmit == 0 {
            self.since = None;
        } else if self.completed != self.seen || self.since.is_none() {
            self.since = Some(now);
        }
        self.seen = self.completed;
        let waits = self.since.map_or(0, |since| now.0.saturating_sub(since.0) / 1_000_000);
        let (received, completed) = (self.received, self.completed);
        self.cell.write(Progress { received, completed, in_receive, in_transmit, untaken, waits });
    }
}
