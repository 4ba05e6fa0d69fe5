//! Who owns a flow: a shared table of hints.
//!
//! NIC queues do not always agree about a flow: replies, and on some devices retransmissions, arrive on another queue
//! than the first packet did. A worker notes its number here under the flow's hashes while the flow lives; a worker that
//! misses looks here before it opens a second flow for the same packets. Nothing is written per packet.
//!
//! A bucket is one cache line of sixteen entries, and there is room for twice as many hints as there can be: with all
//! tables full of source-kept flows three hints in a thousand are lost, with half of that practically none. Those of flows
//! that both sides take part in are kept: however many flows come and go, none of theirs takes such a place.
//! Where a hint is lost, or where two of a bucket look the same (21 bits), the worker that gets the packet treats it as its own, as it
//! would without the directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam::utils::CachePadded;

/// Entries of a bucket.
const WAYS: usize = 16;
/// Bits of an entry that are the worker's number plus one.
const WORKER_BITS: u32 = 10;
const WORKER: u32 = (1 << WORKER_BITS) - 1;
const FREE: u32 = 0;
/// The flow is one that both sides take part in.
const KEPT: u32 = 1 << WORKER_BITS;
const TAG_SHIFT: u32 = WORKER_BITS + 1;
const TAG: u32 = !0 << TAG_SHIFT;

/// The hints of all workers.
pub struct FlowDirectory {
    buckets: Box<[CachePadded<[AtomicU32; WAYS]>]>,
}

impl FlowDirectory {
    /// A directory for `flows` flows in all workers together.
    pub fn new(flows: usize) -> Arc<Self> {
        // Two hints a flow, one a direction, in twice as many entries.
        let buckets = (flows.max(1) * 4).div_ceil(WAYS);
        let bucket = || CachePadded::new(std::array::from_fn(|_| AtomicU32::new(FREE)));
        Arc::new(FlowDirectory { buckets: (0..buckets).map(|_| bucket()).collect() })
    }

    /// The bucket of a hash, by its upper half, and what its entry would be for worker 0, by its lower half.
    #[inline]
    fn place(&self, hash: u64) -> Option<(&[AtomicU32; WAYS], u32)> {
        let bucket = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        Some((self.buckets.get(bucket as usize)?, (hash as u32) << TAG_SHIFT))
    }

    /// Notes that `worker` owns the flow with this hash.
    pub fn note(&self, hash: u64, worker: u16) {
        self.put(hash, worker, 0);
    }

    /// The same, of a flow that both sides take part in: the hint gives way to no other.
    pub fn keep(&self, hash: u64, worker: u16) {
        self.put(hash, worker, KEPT);
    }

    fn put(&self, hash: u64, worker: u16, kept: u32) {
        let Some((bucket, tag)) = self.place(hash) else { return };
        let new = tag | kept | (u32::from(worker) + 1) & WORKER;
        // The last one to say so is right.
        if let Some(same) = bucket.iter().find(|entry| is_of(entry.load(Ordering::Relaxed), tag)) {
            return same.store(new, Ordering::Relaxed);
        }
        let claim = |entry: &AtomicU32| {
            entry.load(Ordering::Relaxed) == FREE
                && entry.compare_exchange(FREE, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if !bucket.iter().any(claim)
            && let Some(victim) = victim(bucket, hash)
        {
            victim.store(new, Ordering::Relaxed);
        }
    }

    /// Forgets that `worker` owns the flow with this hash.
    pub fn forget(&self, hash: u64, worker: u16) {
        let Some((bucket, tag)) = self.place(hash) else { return };
        let own = tag | (u32::from(worker) + 1) & WORKER;
        for entry in bucket {
            let found = entry.load(Ordering::Relaxed);
            if found & !KEPT == own {
                // If it changed meanwhile, it is another's.
                let _ = entry.compare_exchange(found, FREE, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// The worker that owns the flow with this hash, if there is one.
    #[inline]
    pub fn owner(&self, hash: u64) -> Option<u16> {
        let (bucket, tag) = self.place(hash)?;
        let entry = bucket.iter().map(|entry| entry.load(Ordering::Relaxed)).find(|entry| is_of(*entry, tag))?;
        Some((entry & WORKER) as u16 - 1)
    }
}

#[inline]
fn is_of(entry: u32, tag: u32) -> bool {
    entry & TAG == tag && entry & WORKER != 0
}

/// An entry of a full bucket that may be overwritten, by the hash; none where all are kept.
#[cold]
fn victim(bucket: &[AtomicU32; WAYS], hash: u64) -> Option<&AtomicU32> {
    let (before, after) = bucket.split_at(hash as usize >> 22 & (WAYS - 1));
    after.iter().chain(before).find(|entry| entry.load(Ordering::Relaxed) & KEPT == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_found_by_its_hash_only_until_it_is_forgotten() {
        let directory = FlowDirectory::new(16);
        let hash = 0xfeed_beef_0000_0007;
        assert_eq!(directory.owner(hash), None);
        directory.note(hash, 3);
        assert_eq!(directory.owner(hash), Some(3));
        assert_eq!(directory.owner(hash ^ 1), None, "same bucket, other tag");
        directory.note(hash, 0);
        assert_eq!(directory.owner(hash), Some(0));
        directory.forget(hash, 3);
        assert_eq!(directory.owner(hash), Some(0), "another's");
        directory.forget(hash, 0);
        assert_eq!(directory.owner(hash), None);
    }

    fn hash(number: u64) -> u64 {
        let word = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    #[test]
    fn what_is_kept_outlives_any_number_of_flows_that_come_and_go() {
        const FLOWS: u64 = 10_000;
        let directory = FlowDirectory::new(FLOWS as usize);
        let kept = 0..1_000;
        let others = 2 * FLOWS - kept.end;
        for number in kept.end..kept.end + others {
            directory.note(hash(number), 1);
        }
        // Some of them find a full bucket.
        for number in kept.clone() {
            directory.note(hash(number), 0);
        }
        kept.clone().for_each(|number| directory.keep(hash(number), 0));
        for number in kept.end..kept.end + 50 * others {
            directory.forget(hash(number), 1);
            directory.note(hash(number + others), 1);
        }
        let lost = kept.clone().filter(|number| directory.owner(hash(*number)) != Some(0)).count();
        assert_eq!(lost, 0, "of {} that are kept", kept.end);
        kept.clone().for_each(|number| directory.forget(hash(number), 0));
        assert!(kept.clone().all(|number| directory.owner(hash(number)) != Some(0)));
    }

    #[test]
    fn a_full_directory_loses_next_to_nothing() {
        const FLOWS: u64 = 100_000;
        let directory = FlowDirectory::new(FLOWS as usize);
        // Flows come and go; as many as fit are alive at any time.
        let hints = 2 * FLOWS;
        for number in 0..5 * hints {
            directory.note(hash(number), (number % 7) as u16);
            if let Some(oldest) = number.checked_sub(hints) {
                directory.forget(hash(oldest), (oldest % 7) as u16);
            }
        }
        let alive = 4 * hints..5 * hints;
        let lost = alive.clone().filter(|number| directory.owner(hash(*number)) != Some((number % 7) as u16)).count();
        assert!(lost < 1000, "{lost} of {hints} hints are lost");
        let stale = (3 * hints..4 * hints).filter(|number| directory.owner(hash(*number)).is_some()).count();
        assert!(stale < 20, "{stale} hints are stale");
    }
}
