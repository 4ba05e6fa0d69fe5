//! What the changes and the ends of flows tell of the endpoints they lead to. Nothing here is done for every packet.

use std::sync::Arc;

use ringway_shared::BackendId;
use ringway_shared::counters::WorkerCounters;
use ringway_shared::suspects::Suspects;

use super::Direction;
use super::record::Flow;
use super::segment::Segment;
use super::state::{PATIENCE, State};
use crate::wire::sctp::chunk;

/// A client repeats its SYN after a second; a copy that comes sooner is no sign that an answer is missing.
pub(crate) const REPEATED: u32 = 500;

/// Who is told; nobody at first.
#[derive(Default)]
pub(super) struct Observer {
    pub(super) counters: Option<Arc<WorkerCounters>>,
    pub(super) suspects: Option<Arc<Suspects>>,
}

impl Observer {
    /// A packet of `direction`, `idle` milliseconds after the one before it, led from one state to another, or to none
    /// other. The flow has its new state.
    pub(super) fn changed(
        &self,
        flow: &mut Flow,
        before: State,
        direction: Direction,
        segment: &Segment,
        idle: u32,
        now: u32,
    ) {
        let Some(counters) = &self.counters else { return };
        let (after, backend) = (flow.state(), flow.backend());
        match (before, after, direction) {
            (State::SynSent, State::SynSent, Direction::Original)
                if segment.flags.syn() && idle >= REPEATED && !flow.take_refusal() =>
            {
                counters.unanswered(backend, now);
            }
            (State::UdpUnreplied, State::UdpUnreplied, Direction::Original) if flow.is_left_unanswered(now) => {
                counters.unanswered(backend, now);
            }
            (State::SctpUnreplied, State::SctpUnreplied, Direction::Original)
                if segment.chunk == chunk::INIT
                    && idle >= REPEATED
                    && !flow.seen(Direction::Reply)
                    && !flow.take_refusal() =>
            {
                counters.unanswered(backend, now);
            }
            (State::SynSent, State::SynReceived, Direction::Reply) => {
                // Which of several SYNs is answered, nobody knows.
                let once = flow.packets(Direction::Original) == 1;
                self.clear(backend);
                counters.answered(backend, once.then_some(idle), now);
            }
            (State::SynSent, State::Closed, Direction::Reply) => {
                self.clear(backend);
                counters.refused(backend, now);
            }
            (State::SctpUnreplied, State::Closed, Direction::Reply) if flow.asks_for_association() => {
                self.clear(backend);
                counters.refused(backend, now);
            }
            (State::UdpUnreplied | State::UdpUnanswered, State::UdpAnswered, _)
            | (State::SctpUnreplied, State::SctpReplied, _) => {
                self.clear(backend);
                counters.answered(backend, None, now);
            }
            _ => {}
        }
    }

    /// A backend has said something: it is not dead.
    fn clear(&self, backend: BackendId) {
        if let Some(suspects) = &self.suspects {
            suspects.clear(backend);
        }
    }

    /// Something on the endpoint's side refused what the client sent last.
    pub(super) fn refused(&self, flow: &Flow, now: u32) {
        if let Some(counters) = &self.counters {
            counters.refused(flow.backend(), now);
        }
    }

    /// The endpoint has left what the client sent last unanswered.
    pub(super) fn gave_up(&self, flow: &mut Flow, now: u32) {
        if !flow.take_refusal()
            && let Some(counters) = &self.counters
        {
            counters.unanswered(flow.backend(), now);
        }
    }

    /// A flow ends.
    pub(super) fn ended(&self, flow: &mut Flow, now: u32) {
        // Nobody sees whether it was answered.
        if flow.is_one_way() {
            return;
        }
        let waited = matches!(flow.state(), State::SynSent | State::UdpUnreplied | State::SctpUnreplied);
        if !waited || flow.seen(Direction::Reply) || flow.idle(now) < PATIENCE {
            return;
        }
        self.gave_up(flow, now);
    }
}
