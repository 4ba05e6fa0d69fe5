//! Frames from and to plain memory: what tests, benches and replay use in place of a NIC.

use ringway_shared::counters::Tally;
use ringway_shared::{DropReason, InterfaceId, Snapshot};

use crate::af_xdp::{Frame, Umem};
use crate::batch::Batch;
use crate::clock::Time;
use crate::dispatch::{Fate, Transmit, dispatch};
use crate::pipeline::Pipeline;

/// A packet that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The interface it left by.
    pub out: InterfaceId,
    /// The number of the packet that caused it.
    pub tag: u64,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// A packet that went to another worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// That worker.
    pub worker: u16,
    /// The interface it arrived on.
    pub arrived: InterfaceId,
    /// Its number.
    pub tag: u64,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// Collects what leaves.
#[derive(Debug, Default)]
pub struct Collector {
    /// Sent packets.
    pub sent: Vec<Sent>,
    /// Passed packets.
    pub passed: Vec<Vec<u8>>,
    /// Packets for other workers.
    pub handed: Vec<Handed>,
    /// Fates in the order in which they were known.
    pub fates: Vec<Fate>,
}

impl Transmit for Collector {
    fn send(&mut self, umem: &mut Umem, out: InterfaceId, frame: Frame, tag: u64) -> Result<(), (Frame, DropReason)> {
        self.sent.push(Sent { out, tag, bytes: umem.packet(&frame).to_vec() });
        umem.free(frame);
        Ok(())
    }

    fn pass(&mut self, packet: &[u8], _arrived: InterfaceId) -> bool {
        self.passed.push(packet.to_vec());
        true
    }

    fn hand_over(&mut self, worker: u16, packet: &[u8], arrived: InterfaceId, tag: u64, _doubted: bool) -> bool {
        self.handed.push(Handed { worker, arrived, tag, bytes: packet.to_vec() });
        true
    }

    fn note(&mut self, fate: &Fate) {
        self.fates.push(*fate);
    }
}

/// One worker's packet path without a NIC.
pub struct MemoryWorker {
    /// The frames.
    pub umem: Umem,
    /// The packet path.
    pub pipeline: Pipeline,
    /// What left.
    pub collector: Collector,
    batch: Batch,
}

impl MemoryWorker {
    /// A worker around a pipeline.
    pub fn new(umem: Umem, pipeline: Pipeline) -> Self {
        MemoryWorker { umem, pipeline, collector: Collector::default(), batch: Batch::new() }
    }

    /// Runs one packet through, alone in its batch. False when it does not fit into a frame.
    pub fn run(&mut self, bytes: &[u8], arrived: InterfaceId, tag: u64, snapshot: &Snapshot, now: Time) -> bool {
        self.run_all([(bytes, arrived, tag)], snapshot, now) == 1
    }

    /// Runs packets through in one batch (at most [`crate::batch::BATCH`]); returns how many there was room for.
    pub fn run_all<'p>(
        &mut self,
        packets: impl IntoIterator<Item = (&'p [u8], InterfaceId, u64)>,
        snapshot: &Snapshot,
        now: Time,
    ) -> usize {
        let mut count = 0;
        for (bytes, arrived, tag) in packets {
            count += usize::from(self.batch.push(&mut self.umem, bytes, arrived, tag));
        }
        self.pipeline.process(&mut self.umem, &mut self.batch, snapshot, now);
        self.dispatch();
        self.release(snapshot, now);
        count
    }

    /// Runs a packet through that another worker handed over. False when it does not fit into a frame.
    pub fn take_over(&mut self, handed: &Handed, snapshot: &Snapshot, now: Time) -> bool {
        let fits = self.batch.push(&mut self.umem, &handed.bytes, handed.arrived, handed.tag);
        if let Some(received) = self.batch.input.last_mut() {
            received.handed_over = true;
        }
        self.pipeline.process(&mut self.umem, &mut self.batch, snapshot, now);
        self.dispatch();
        self.release(snapshot, now);
        fits
    }

    /// Lets time pass: held packets and expiry.
    pub fn tick(&mut self, snapshot: &Snapshot, now: Time) {
        self.release(snapshot, now);
        self.pipeline.expire(now, 64);
    }

    /// What waits no more, as in every turn of a worker.
    fn release(&mut self, snapshot: &Snapshot, now: Time) {
        let mut more = self.pipeline.held() > 0;
        while more {
            more = self.pipeline.release(&mut self.umem, &mut self.batch, snapshot, now);
            self.dispatch();
        }
    }

    /// The counts so far.
    pub fn tally(&mut self) -> Tally {
        self.pipeline.publish();
        self.pipeline.tally().clone()
    }

    fn dispatch(&mut self) {
        dispatch(&mut self.batch, &mut self.umem, self.pipeline.tally(), &mut self.collector);
        // Frames are conserved: what is not free is held.
        debug_assert_eq!(self.umem.free_frames() as usize + self.pipeline.held(), self.umem.total() as usize);
    }
}
