//! Counters: one block a worker, written by that worker alone, read by anyone.
//!
//! A worker counts in plain memory ([`Tally`]) and publishes at the end of each batch. A block carries a sequence number
//! that is odd while the worker writes, so a reader gets the state after a whole batch and never a mix: the ledger
//! closes at every moment it is read.

mod backends;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam::utils::CachePadded;

use crate::answers::AnswerCell;
use crate::drop_reason::{DROP_REASONS, DropReason};
use backends::BackendCell;

pub use backends::BackendTally;

/// What a worker counts, besides drops by reason. Packets unless the name says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Counter {
    /// Received: taken from a NIC queue, or handed over by another worker.
    Rx,
    /// Received bytes, Ethernet header included.
    RxBytes,
    /// Sent on to an endpoint or back to a client.
    Forwarded,
    /// Answered by Ringway itself.
    Replied,
    /// Given to the kernel.
    Passed,
    /// Gauge: waiting for a neighbour, or for the first fragment of their datagram, unless another worker may take them;
    /// neither forwarded nor dropped yet.
    Held,
    /// Gauge: fragments that wait for the first one of their datagram. With several workers they are not received yet.
    FragmentsWaiting,
    /// Frames put on a tx ring.
    Tx,
    /// Bytes put on a tx ring.
    TxBytes,
    /// Frames given to another worker, which counts them as received.
    HandedOver,
    /// Flows opened.
    FlowsOpened,
    /// Flows that ended, whatever the way.
    FlowsClosed,
    /// Flows that ended early because the table was full, or because no SNAT port was free.
    FlowsEvicted,
    /// Gauge: flows in the table.
    Flows,
    /// Gauge: half-open and unreplied flows in the table.
    FlowsHalfOpen,
    /// Gauge: the most SNAT ports that were ever in use towards one endpoint.
    SnatPortsHighWater,
    /// Half-open and unreplied flows that ended early because no SNAT port was free. Contained in `FlowsEvicted`.
    SnatPortsReclaimed,
    /// Flows that were moved to another endpoint because the first one did not answer the client's SYN or INIT.
    FlowsRescued,
    /// UDP packets of kept sources forwarded by Maglev without a flow, because the table was full.
    Stateless,
    /// Answers that the rate limit held back (their packets count as drops).
    RepliesLimited,
    /// Batches that had packets.
    Batches,
    /// System calls that woke the kernel for transmit or receive.
    Kicks,
    /// Kicks that failed (device down, peer down).
    KickErrors,
    /// Packets that offloads had merged, and that a port cut again; each piece counts as received.
    LargeCut,
    /// Packets larger than a frame that a port lost: they cannot be cut, or no frame was free. Not received.
    LargeLost,
    /// Received descriptors that lay outside the UMEM. Not received.
    OutsideUmem,
    /// Gauge: frames of the worker's packet memory that are free.
    FreeFrames,
    /// Kernel: frames dropped because the rx ring was full.
    KernelRxRingFull,
    /// Kernel: times that the fill ring was empty. A frame dropped each in copy mode, none perhaps in zero-copy mode.
    KernelFillRingEmpty,
    /// Kernel: frames dropped for other reasons.
    KernelRxDropped,
    /// Kernel: invalid rx descriptors.
    KernelRxInvalid,
    /// Kernel: invalid tx descriptors.
    KernelTxInvalid,
}

/// How many counters there are besides the drops.
pub const COUNTERS: usize = Counter::ALL.len();

impl Counter {
    /// Every counter, in order.
    pub const ALL: [Counter; 32] = [
        Counter::Rx,
        Counter::RxBytes,
        Counter::Forwarded,
        Counter::Replied,
        Counter::Passed,
        Counter::Held,
        Counter::FragmentsWaiting,
        Counter::Tx,
        Counter::TxBytes,
        Counter::HandedOver,
        Counter::FlowsOpened,
        Counter::FlowsClosed,
        Counter::FlowsEvicted,
        Counter::Flows,
        Counter::FlowsHalfOpen,
        Counter::SnatPortsHighWater,
        Counter::SnatPortsReclaimed,
        Counter::FlowsRescued,
        Counter::Stateless,
        Counter::RepliesLimited,
        Counter::Batches,
        Counter::Kicks,
        Counter::KickErrors,
        Counter::LargeCut,
        Counter::LargeLost,
        Counter::OutsideUmem,
        Counter::FreeFrames,
        Counter::KernelRxRingFull,
        Counter::KernelFillRingEmpty,
        Counter::KernelRxDropped,
        Counter::KernelRxInvalid,
        Counter::KernelTxInvalid,
    ];

    /// The name in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Counter::Rx => "rx",
            Counter::RxBytes => "rxBytes",
            Counter::Forwarded => "forwarded",
            Counter::Replied => "replied",
            Counter::Passed => "passed",
            Counter::Held => "held",
            Counter::FragmentsWaiting => "fragmentsWaiting",
            Counter::Tx => "tx",
            Counter::TxBytes => "txBytes",
            Counter::HandedOver => "handedOver",
            Counter::FlowsOpened => "flowsOpened",
            Counter::FlowsClosed => "flowsClosed",
            Counter::FlowsEvicted => "flowsEvicted",
            Counter::Flows => "flows",
            Counter::FlowsHalfOpen => "flowsHalfOpen",
            Counter::SnatPortsHighWater => "snatPortsHighWater",
            Counter::SnatPortsReclaimed => "snatPortsReclaimed",
            Counter::FlowsRescued => "flowsRescued",
            Counter::Stateless => "stateless",
            Counter::RepliesLimited => "repliesLimited",
            Counter::Batches => "batches",
            Counter::Kicks => "kicks",
            Counter::KickErrors => "kickErrors",
            Counter::LargeCut => "largeCut",
            Counter::LargeLost => "largeLost",
            Counter::OutsideUmem => "outsideUmem",
            Counter::FreeFrames => "freeFrames",
            Counter::KernelRxRingFull => "kernelRxRingFull",
            Counter::KernelFillRingEmpty => "kernelFillRingEmpty",
            Counter::KernelRxDropped => "kernelRxDropped",
            Counter::KernelRxInvalid => "kernelRxInvalid",
            Counter::KernelTxInvalid => "kernelTxInvalid",
        }
    }
}

const REPLIES_AT: usize = COUNTERS + DROP_REASONS;
const VALUES: usize = COUNTERS + 2 * DROP_REASONS;

/// All counters of one worker at one moment, or a sum over workers. Values: counters, drops by reason, replies by reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally([u64; VALUES]);

impl Default for Tally {
    fn default() -> Self {
        Tally([0; VALUES])
    }
}

impl Tally {
    /// Adds to a counter.
    #[inline]
    pub fn add(&mut self, counter: Counter, amount: u64) {
        self.0[counter as usize] += amount;
    }

    /// Sets a gauge, or a value that somebody else counts (the kernel's).
    #[inline]
    pub fn set(&mut self, counter: Counter, value: u64) {
        self.0[counter as usize] = value;
    }

    /// A counter's value.
    #[inline]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Counts a dropped packet.
    #[inline]
    pub fn add_drop(&mut self, reason: DropReason) {
        self.0[COUNTERS + reason.index()] += 1;
    }

    /// Packets dropped for this reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.0[COUNTERS + reason.index()]
    }

    /// Counts a packet that Ringway answered itself, under the reason of the answer. Counts it as replied, too.
    #[inline]
    pub fn add_reply(&mut self, reason: DropReason) {
        self.0[REPLIES_AT + reason.index()] += 1;
        self.add(Counter::Replied, 1);
    }

    /// Packets answered for this reason.
    pub fn replies(&self, reason: DropReason) -> u64 {
        self.0[REPLIES_AT + reason.index()]
    }

    /// Packets dropped, over all reasons.
    pub fn dropped(&self) -> u64 {
        self.0[COUNTERS..REPLIES_AT].iter().sum()
    }

    /// Whether the ledger closes: rx = forwarded + replied + passed + held + drops.
    pub fn closes(&self) -> bool {
        let fates = [Counter::Forwarded, Counter::Replied, Counter::Passed, Counter::Held];
        self.get(Counter::Rx) == fates.into_iter().map(|fate| self.get(fate)).sum::<u64>() + self.dropped()
    }

    /// Adds another worker's values.
    pub fn merge(&mut self, other: &Tally) {
        for (value, more) in self.0.iter_mut().zip(other.0) {
            *value += more;
        }
    }
}

/// A worker's published counters.
pub struct WorkerCounters {
    sequence: CachePadded<AtomicU64>,
    values: [AtomicU64; VALUES],
    backends: Box<[BackendCell]>,
    answers: Box<[AnswerCell]>,
}

impl WorkerCounters {
    /// Counters with room for backend numbers below `backends`; larger numbers are counted nowhere.
    pub fn new(backends: usize) -> Arc<Self> {
        Arc::new(WorkerCounters {
            sequence: CachePadded::new(AtomicU64::new(0)),
            values: std::array::from_fn(|_| AtomicU64::new(0)),
            backends: (0..backends).map(|_| BackendCell::default()).collect(),
            answers: (0..backends).map(|_| AnswerCell::default()).collect(),
        })
    }

    /// Publishes the worker's counts. Only the owning worker calls it.
    pub fn publish(&self, tally: &Tally) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (published, value) in self.values.iter().zip(tally.0) {
            published.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// A number that grows with every [`WorkerCounters::publish`]: whether the worker is alive.
    pub fn publications(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// The counts after some whole batch.
    pub fn read(&self) -> Tally {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let tally = Tally(std::array::from_fn(|index| self.values[index].load(Ordering::Relaxed)));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return tally;
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_stands_at_its_place() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index);
        }
    }

    #[test]
    fn the_ledger_closes_at_every_read_while_a_worker_writes() {
        let counters = WorkerCounters::new(1);
        let reader = counters.clone();
        let thread = std::thread::spawn(move || {
            let mut last = 0;
            while last < 200_000 {
                let tally = reader.read();
                assert!(tally.closes(), "{tally:?}");
                assert!(tally.get(Counter::Rx) >= last);
                last = tally.get(Counter::Rx);
            }
        });
        let mut tally = Tally::default();
        for round in 0..100_000u64 {
            tally.add(Counter::Rx, 2);
            tally.add_drop(DropReason::ALL[round as usize % DROP_REASONS]);
            tally.add_reply(DropReason::NoEndpoint);
            counters.publish(&tally);
        }
        thread.join().unwrap();
        assert_eq!(counters.read(), tally);
    }
}
