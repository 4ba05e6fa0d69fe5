//! For how long a queue that is busy is waited for. Nobody waits for what another process has; what is waited for is that the kernel
//! lets go of a socket that is closed, which it does a little later: of one of ours, or, at a start, of one of an instance that was
//! killed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::{Device as KernelDevice, SocketError};
use ringway_dataplane::io::port::Closed;
use ringway_dataplane::io::{Port, PortError, PortOptions};
use ringway_dataplane::worker::{Opening, Patience};

use super::Interfaces;
use super::fit::Fit;
use super::ports::held_by_another;
use super::tags::is_virtual;
use crate::network::nic::Nic;

/// A driver that resets its NIC for a program may say for a moment that it is busy.
const MOMENT: Patience = Patience::of(Duration::from_millis(100));
/// After so long nobody waits on and on for a driver that has not let go: another may have the queue by now.
const LETTING_GO: Duration = Duration::from_secs(10);

const NONE: Patience = Patience::of(Duration::ZERO);

/// What busy queues may be waited for.
pub(super) struct Patiences {
    /// What is left for the start, all devices together; `None` afterwards.
    start: Option<Patience>,
    /// By ifindex: when a socket of ours was closed there last.
    closed: BTreeMap<u32, Instant>,
}

impl Default for Patiences {
    fn default() -> Self {
        Patiences { start: Some(Patience::FULL), closed: BTreeMap::new() }
    }
}

impl Patiences {
    /// What is attached from now on is no part of the start.
    pub(super) fn end_of_start(&mut self) {
        self.start = None;
    }

    /// A socket of ours was closed at a device.
    pub(super) fn note_closed(&mut self, index: u32, now: Instant) {
        self.closed.retain(|_, at| now.saturating_duration_since(*at) < Patience::FULL.limit());
        self.closed.insert(index, now);
    }

    /// For a queue of a device. `left`: when ports were closed there that its driver may still use.
    fn of(&self, index: u32, left: Option<Instant>, now: Instant) -> Patience {
        if left.is_some_and(|left| now.saturating_duration_since(left) < LETTING_GO) {
            return Patience::FULL;
        }
        let closed = self.closed.get(&index).map(|at| now.saturating_duration_since(*at));
        let closed = closed.map(|age| Patience::of(Patience::FULL.limit().saturating_sub(age)));
        closed.max(self.start).unwrap_or(NONE)
    }

    /// What is left of it after an attempt: at a start, for all that come later.
    fn note_left(&mut self, before: Patience, left: Patience) {
        if let Some(start) = &mut self.start
            && (left > before || before == *start)
        {
            *start = left;
        }
    }
}

impl Interfaces {
    /// Waits until nobody has a queue of a device any more, as far as it is to be waited for and the kernel tells who has one (since
    /// Linux 6.15): before there is a program of ours on the device, which would only be in the way.
    pub(super) fn wait_for_queues(&mut self, device: &KernelDevice, fit: &Fit) -> Result<(), String> {
        let Ok(mut nic) = Nic::open() else { return Ok(()) };
        let mut look = || fit.held_queue(&mut nic, device);
        let Some(queue) = look() else { return Ok(()) };
        let (before, meanwhile) = (self.patience_of(device), self.meanwhile());
        let mut patience = before;
        let is_free = patience.wait(|| look().is_some(), meanwhile);
        self.patience.note_left(before, patience);
        let held = || held_by_another(&SocketError::Busy { interface: device.name.clone(), queue });
        if is_free { Ok(()) } else { Err(held()) }
    }

    /// Opens a port, with as much patience as there is for the device.
    pub(super) fn open_patiently(
        &mut self,
        opening: Opening,
        options: &PortOptions<'_>,
    ) -> Result<Port, (PortError, Box<Closed>)> {
        let before = self.patience_of(options.device);
        let (mut patience, at_work) = (before, self.placement.cpus.clone());
        // A device without hardware has no driver that anybody would have to wait for.
        let opened = match is_virtual(options.device) {
            true => opening.open_here(options, &mut patience, self.meanwhile()),
            false => opening.open(options, &mut patience, &at_work, self.meanwhile()),
        };
        self.patience.note_left(before, patience);
        opened
    }

    fn patience_of(&self, device: &KernelDevice) -> Patience {
        let patience = self.patience.of(device.index, self.leftovers.last_of(device.index), Instant::now());
        if is_virtual(device) { patience } else { patience.max(MOMENT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_waits_once_for_all_that_others_have() {
        let (mut all, now) = (Patiences::default(), Instant::now());
        assert_eq!(all.of(1, None, now), Patience::FULL);
        all.note_left(Patience::FULL, NONE);
        assert_eq!((all.of(1, None, now), all.of(2, None, now)), (NONE, NONE));
        // One of ours was let go of: others may be about to be.
        all.note_left(NONE, Patience::FULL);
        assert_eq!(all.of(2, None, now), Patience::FULL);
        all.end_of_start();
        assert_eq!(all.of(2, None, now), NONE);
        all.note_left(NONE, Patience::FULL);
        assert_eq!(all.of(2, None, now), NONE, "the start is over");
    }

    #[test]
    fn what_was_ours_a_moment_ago_is_waited_for_and_nothing_else() {
        let (mut all, now) = (Patiences::default(), Instant::now());
        all.end_of_start();
        let later = |milliseconds| now + Duration::from_millis(milliseconds);
        all.note_closed(1, now);
        assert_eq!(all.of(1, None, later(300)), Patience::of(Duration::from_millis(700)));
        assert_eq!((all.of(1, None, later(1000)), all.of(2, None, later(0))), (NONE, NONE));
        // A driver may still have it.
        assert_eq!((all.of(1, Some(now), later(9_000)), all.of(2, Some(now), later(11_000))), (Patience::FULL, NONE));
        all.note_closed(2, later(2_000));
        assert_eq!(all.closed.len(), 1, "what matters no more is forgotten");
    }
}
