//! The early stages of a batch: all packets are parsed and hashed, then what the last stage needs is loaded for all, so that
//! the cache misses overlap. Nothing is decided here.

use crate::af_xdp::Umem;
use crate::batch::Received;
use crate::flow::{Candidate, FlowTable};
use crate::wire::{Packet, Refusal};

/// What the stages know of a packet.
pub(super) struct Staged {
    pub(super) parsed: Result<Packet, Refusal>,
    pub(super) hash: u64,
    pub(super) candidate: Candidate,
}

impl Default for Staged {
    fn default() -> Self {
        Staged { parsed: Err(Refusal::Foreign), hash: 0, candidate: Candidate::default() }
    }
}

impl Staged {
    /// The first stage. Each way to the end writes here by itself: a packet in between would be copied.
    #[inline(always)]
    fn read(&mut self, frame: &[u8], flows: &FlowTable) {
        match Packet::parse_usual_v4(frame) {
            Some(packet) => self.keep(packet, flows),
            None => self.read_v6(frame, flows),
        }
    }

    /// As straight as over IPv4. Cold only where it is called: that loop keeps all registers for packets over IPv4.
    #[cold]
    fn read_v6(&mut self, frame: &[u8], flows: &FlowTable) {
        match Packet::parse_usual_v6(frame) {
            Some(packet) => self.keep(packet, flows),
            None => self.read_any(frame, flows),
        }
    }

    #[cold]
    fn read_any(&mut self, frame: &[u8], flows: &FlowTable) {
        self.parsed = Packet::parse_any(frame);
        self.hash = self.parsed.as_ref().map_or(0, |packet| flows.hash(&packet.tuple));
    }

    #[inline(always)]
    fn keep(&mut self, packet: Packet, flows: &FlowTable) {
        self.hash = flows.hash(&packet.tuple);
        self.parsed = Ok(packet);
    }
}

/// The first stage: parses and hashes. How many bytes there are.
#[inline(never)]
pub(super) fn read(stage: &mut [Staged], input: &[Received], umem: &Umem, flows: &FlowTable) -> u64 {
    let mut bytes = 0;
    for (received, staged) in input.iter().zip(stage) {
        bytes += received.frame.len() as u64;
        staged.read(umem.packet(&received.frame), flows);
    }
    bytes
}

/// The stages that load what the last one needs.
#[inline(never)]
pub(super) fn preload(stage: &mut [Staged], flows: &FlowTable) {
    for staged in &mut *stage {
        staged.candidate = flows.probe(staged.hash);
    }
    for staged in &mut *stage {
        staged.candidate = flows.guess(staged.hash, staged.candidate);
    }
    for staged in stage {
        flows.touch(staged.candidate);
    }
}
