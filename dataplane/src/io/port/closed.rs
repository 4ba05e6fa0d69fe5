//! What ports leave behind: chunks that the kernel may still use for a while.

use crate::af_xdp::Umem;
use crate::af_xdp::umem::Holder;
use crate::clock::Time;

/// How long a driver that worked on the chunks directly may take to let go of them, in nanoseconds. The kernel takes them
/// away from it after the socket is closed, in a work queue, once it has the lock that all changes of devices share.
const LETTING_GO: u64 = 2_000_000_000;

/// What is left of a closed port: its chunks.
#[derive(Debug)]
#[must_use = "the chunks that the kernel held are lost until they are reclaimed"]
pub struct Closed {
    holder: Holder,
    umem: u32,
    chunks: u32,
    in_use: bool,
}

impl Closed {
    /// `chunks`: how many the port held. `in_use`: whether a driver may go on using them for a moment.
    pub(super) fn new(holder: Holder, umem: u32, chunks: u32, in_use: bool) -> Self {
        Closed { holder, umem, chunks, in_use }
    }

    /// Frees the port's chunks; how many. Right at once only after copy mode, or when the device is gone; [`Leftovers`] know
    /// when otherwise.
    pub fn reclaim(self, umem: &mut Umem) -> u32 {
        debug_assert_eq!(umem.id(), self.umem, "the UMEM of another worker");
        if umem.id() == self.umem { umem.reclaim(self.holder) } else { 0 }
    }
}

/// Closed ports whose chunks a driver may still read and write. Until they are free again they belong to the number that
/// the port had, which no other port gets meanwhile.
#[derive(Debug, Default)]
pub struct Leftovers(Vec<(Time, Closed)>);

impl Leftovers {
    /// Takes what a port left, and frees it as soon as that is right: now, or by [`Self::reclaim`].
    pub fn take(&mut self, closed: Closed, umem: &mut Umem, now: Time) {
        if closed.in_use {
            self.0.push((Time(now.0 + LETTING_GO), closed));
        } else {
            closed.reclaim(umem);
        }
    }

    /// Frees what nobody uses any more.
    pub fn reclaim(&mut self, umem: &mut Umem, now: Time) {
        while let Some(place) = self.0.iter().position(|(due, _)| *due <= now) {
            let (_, closed) = self.0.swap_remove(place);
            closed.reclaim(umem);
        }
    }

    /// Chunks that are not free yet.
    pub fn chunks(&self) -> u32 {
        self.0.iter().map(|(_, closed)| closed.chunks).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::af_xdp::{RingSizes, UmemLayout};
    use crate::io::Port;
    use crate::io::kernel_side::KernelSide;
    use proptest::prelude::*;
    use ringway_shared::InterfaceId;

    const SIZES: RingSizes = RingSizes { fill: 8, completion: 4, receive: 8, transmit: 4, driver: 0 };

    /// A port that a driver works on directly, and the driver's end.
    fn open(umem: &mut Umem) -> Option<(Port, KernelSide)> {
        let (mut port, kernel) = Port::in_memory(InterfaceId(0), 0, SIZES, umem).ok()?;
        port.is_direct = true;
        Some((port, kernel))
    }

    #[test]
    fn a_driver_that_still_writes_hits_nobodys_chunks() {
        let mut umem = Umem::new(UmemLayout::of_frames(64)).unwrap();
        let mut leftovers = Leftovers::default();
        let (port, mut driver) = open(&mut umem).unwrap();
        leftovers.take(port.close(), &mut umem, Time(5));
        assert_eq!((umem.free_frames(), leftovers.chunks()), (56, 8));
        // The next port gets other chunks and another number; what the driver writes now, it writes into the old ones.
        let (next, mut its_driver) = open(&mut umem).unwrap();
        assert!(its_driver.deliver(&mut umem, &[7; 60]));
        assert!(driver.deliver(&mut umem, &[9; 60]));
        let mut next = next;
        let mut batch = arrayvec::ArrayVec::new();
        next.receive(&mut umem, &mut batch);
        let received = batch.pop().unwrap();
        assert_eq!(umem.packet(&received.frame), [7; 60]);
        umem.free(received.frame);
        leftovers.reclaim(&mut umem, Time(5 + LETTING_GO - 1));
        assert_eq!(leftovers.chunks(), 8);
        leftovers.reclaim(&mut umem, Time(5 + LETTING_GO));
        assert_eq!((leftovers.chunks(), umem.free_frames() + next.in_flight()), (0, umem.total()));
    }

    #[test]
    fn what_no_driver_uses_is_free_at_once() {
        let mut umem = Umem::new(UmemLayout::of_frames(64)).unwrap();
        let mut leftovers = Leftovers::default();
        let (port, _) = Port::in_memory(InterfaceId(0), 0, SIZES, &mut umem).unwrap();
        leftovers.take(port.close(), &mut umem, Time(0));
        assert!(leftovers.is_empty());
        assert_eq!(umem.free_frames(), 64);
    }

    proptest! {
        /// Ports come and go with traffic on them: free + in flight + left over == total after every step, no chunk is free
        /// before its time, and all are in the end.
        #[test]
        fn no_chunk_is_lost_and_none_is_early(steps in proptest::collection::vec((0u8..5, 0u64..LETTING_GO), 1..120)) {
            let mut umem = Umem::new(UmemLayout::of_frames(96)).unwrap();
            let mut leftovers = Leftovers::default();
            let mut ports: Vec<(Port, KernelSide)> = Vec::new();
            let mut due: Vec<(u64, u32)> = Vec::new();
            let mut now = 0;
            for (step, number) in steps {
                match step {
                    0 | 1 => ports.extend(open(&mut umem)),
                    2 if !ports.is_empty() => {
                        let (port, _) = ports.swap_remove(number as usize % ports.len());
                        due.push((now + LETTING_GO, port.in_flight()));
                        leftovers.take(port.close(), &mut umem, Time(now));
                    }
                    3 => {
                        now += number;
                        leftovers.reclaim(&mut umem, Time(now));
                        due.retain(|(at, _)| *at > now);
                    }
                    _ => {
                        for (port, driver) in &mut ports {
                            if driver.deliver(&mut umem, &[1; 60]) {
                                let mut batch = arrayvec::ArrayVec::new();
                                port.receive(&mut umem, &mut batch);
                                for received in batch.drain(..) {
                                    if let Err(frame) = port.send(&mut umem, received.frame) {
                                        umem.free(frame);
                                    }
                                }
                                port.flush(&mut umem);
                            }
                        }
                    }
                }
                let held: u32 = ports.iter().map(|(port, _)| port.in_flight()).sum();
                prop_assert_eq!(leftovers.chunks(), due.iter().map(|(_, chunks)| chunks).sum::<u32>());
                prop_assert_eq!(umem.free_frames() + held + leftovers.chunks(), umem.total());
            }
            for (port, _) in ports.drain(..) {
                leftovers.take(port.close(), &mut umem, Time(now));
            }
            leftovers.reclaim(&mut umem, Time(now + LETTING_GO));
            prop_assert_eq!(umem.free_frames(), umem.total());
            prop_assert_eq!(umem.unpromised(), umem.total());
        }
    }
}
