//! A batch: the packets that go through the pipeline together, and what became of them.

use arrayvec::ArrayVec;
use ringway_shared::InterfaceId;

use crate::af_xdp::{Frame, Umem};
use crate::verdict::Outcome;

/// Packets in a batch. Large enough to hide cache misses behind each other, small enough to stay in the first cache.
pub const BATCH: usize = 64;

/// A packet on its way into the pipeline.
#[derive(Debug)]
#[must_use]
pub struct Received {
    /// The packet.
    pub frame: Frame,
    /// The interface it arrived on.
    pub interface: InterfaceId,
    /// A number that comes back with the verdict; the pipeline does not look at it.
    pub tag: u64,
    /// Another worker handed it over: it is processed here, whoever it belongs to.
    pub handed_over: bool,
}

/// What became of packets.
pub type Outcomes = ArrayVec<Outcome, { 2 * BATCH }>;

/// Packets in, outcomes out. The order of outcomes is the order of packets, but held packets come whenever their wait
/// ends.
#[derive(Default)]
pub struct Batch {
    /// Packets to process.
    pub input: ArrayVec<Received, BATCH>,
    /// Processed packets: as many as came in, less the held ones, plus released ones.
    pub output: Outcomes,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a packet copied from `bytes`. False when the batch or the UMEM is full, or the packet larger than a frame.
    pub fn push(&mut self, umem: &mut Umem, bytes: &[u8], interface: InterfaceId, tag: u64) -> bool {
        if self.input.is_full() {
            return false;
        }
        let Some(mut frame) = umem.allocate() else { return false };
        if !umem.fill(&mut frame, bytes) {
            umem.free(frame);
            return false;
        }
        self.input.push(Received { frame, interface, tag, handed_over: false });
        true
    }
}
