//! What a worker counts by backend: flows, packets, answers. Only the owning worker writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::WorkerCounters;
use crate::answers::{self, AnswerCell, Answers, Silence};
use crate::endpoint::BackendId;

#[derive(Default)]
pub(super) struct BackendCell {
    flows: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// What one backend got from one worker, or in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTally {
    /// Flows opened to it.
    pub flows: u64,
    /// Packets of its flows, both directions.
    pub packets: u64,
    /// Bytes of its flows, both directions, Ethernet header included.
    pub bytes: u64,
    /// What it answered.
    pub answers: Answers,
}

impl BackendTally {
    /// Adds another worker's values.
    pub fn merge(&mut self, other: BackendTally) {
        self.flows += other.flows;
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.answers.merge(&other.answers);
    }
}

impl WorkerCounters {
    /// Counts a flow opened to a backend. Only the owning worker calls it.
    #[inline]
    pub fn backend_flow(&self, backend: BackendId) {
        if let Some(cell) = self.backends.get(backend.0 as usize) {
            raise(&cell.flows, 1);
        }
    }

    /// Counts a packet of a backend's flow. Only the owning worker calls it.
    #[inline]
    pub fn backend_packet(&self, backend: BackendId, bytes: u64) {
        if let Some(cell) = self.backends.get(backend.0 as usize) {
            raise(&cell.packets, 1);
            raise(&cell.bytes, bytes);
        }
    }

    /// Counts a new flow's first packet that a backend answered; a SYN that was sent once with the time to its answer in
    /// milliseconds. Only the owning worker calls it, as with the next two.
    pub fn answered(&self, backend: BackendId, handshake: Option<u32>, now: u32) {
        self.answers.get(backend.0 as usize).inspect(|cell| cell.note_answer(handshake, now));
    }

    /// Counts one that a backend did not answer.
    pub fn unanswered(&self, backend: BackendId, now: u32) {
        self.answers.get(backend.0 as usize).inspect(|cell| cell.note_failure(false, now));
    }

    /// Counts one that a backend refused.
    pub fn refused(&self, backend: BackendId, now: u32) {
        self.answers.get(backend.0 as usize).inspect(|cell| cell.note_failure(true, now));
    }

    /// What a backend has not answered in any worker since its last answer.
    pub fn silence(workers: &[Arc<Self>], backend: BackendId) -> Silence {
        answers::silence(workers.iter().filter_map(|worker| worker.answers.get(backend.0 as usize)))
    }

    /// Whether a backend answered anybody, in any worker, at this time of the workers' clock or later.
    pub fn answered_since(workers: &[Arc<Self>], backend: BackendId, time: u32) -> bool {
        workers.iter().filter_map(|worker| worker.answers.get(backend.0 as usize)).any(|cell| cell.answered_since(time))
    }

    /// What a backend got.
    pub fn backend(&self, backend: BackendId) -> BackendTally {
        self.backends.get(backend.0 as usize).map_or(BackendTally::default(), |cell| BackendTally {
            flows: cell.flows.load(Ordering::Relaxed),
            packets: cell.packets.load(Ordering::Relaxed),
            bytes: cell.bytes.load(Ordering::Relaxed),
            answers: self.answers.get(backend.0 as usize).map(AnswerCell::read).unwrap_or_default(),
        })
    }
}

/// A single writer needs no read-modify-write instruction.
#[inline]
fn raise(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}
