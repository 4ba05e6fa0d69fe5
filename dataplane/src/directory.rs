//! Who owns a flow: a shared table of hints, one small atomic a slot.
//!
//! NIC queues do not always agree about a flow: replies, and on some devices retransmissions, arrive on another queue
//! than the first packet did. A worker that opens a flow notes its number here under the flow's hash; a worker that misses
//! looks here before it opens a second flow for the same packets. Nothing is written per packet. A hint may be stale or
//! overwritten by another flow; then the worker that gets the packet treats it as its own, which is what it would have
//! done without the hint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The hints of all workers.
pub struct FlowDirectory {
    slots: Box<[AtomicU16]>,
}

impl FlowDirectory {
    /// A directory for `flows` flows in all workers together.
    pub fn new(flows: usize) -> Arc<Self> {
        // Two hints a flow (both directions), and as many free slots.
        let slots = (flows.max(1) * 4).next_power_of_two();
        Arc::new(FlowDirectory { slots: (0..slots).map(|_| AtomicU16::new(0)).collect() })
    }

    /// The slot of a hash and the entry that a worker would leave there: six hash bits above the worker's number plus one.
    fn place(&self, hash: u64, worker: u16) -> Option<(&AtomicU16, u16)> {
        let slot = self.slots.get(hash as usize & (self.slots.len() - 1))?;
        Some((slot, (((hash >> 58) as u16) << 10) | ((worker + 1) & 0x3ff)))
    }

    /// Notes that `worker` owns the flow with this hash.
    #[inline]
    pub fn note(&self, hash: u64, worker: u16) {
        if let Some((slot, entry)) = self.place(hash, worker) {
            slot.store(entry, Ordering::Relaxed);
        }
    }

    /// The worker that may own the flow with this hash.
    #[inline]
    pub fn owner(&self, hash: u64) -> Option<u16> {
        let (slot, tag) = self.place(hash, 0)?;
        let entry = slot.load(Ordering::Relaxed);
        (entry != 0 && entry >> 10 == tag >> 10).then(|| (entry & 0x3ff).wrapping_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_found_by_its_hash_only() {
        let directory = FlowDirectory::new(16);
        let hash = 0xfeed_beef_0000_0007;
        assert_eq!(directory.owner(hash), None);
        directory.note(hash, 3);
        assert_eq!(directory.owner(hash), Some(3));
        assert_eq!(directory.owner(hash ^ (1 << 60)), None, "same slot, other tag");
        directory.note(hash, 0);
        assert_eq!(directory.owner(hash), Some(0));
    }
}
