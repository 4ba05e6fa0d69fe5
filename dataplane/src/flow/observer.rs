//! What the changes and the ends of flows tell of the endpoints they lead to. Nothing here is done for every packet.

use std::sync::Arc;

use ringway_shared::counters::WorkerCounters;

use super::Direction;
use super::record::Flow;
use super::segment::Segment;
use super::state::State;

/// A client repeats its SYN after a second; a copy that comes sooner is no sign that an answer is missing.
const REPEATED: u32 = 500;

/// A flow that ends sooner after its last packet, because another needs its place, was not left unanswered.
const GIVEN_UP: u32 = 3_000;

/// Who is told; nobody at first.
#[derive(Default)]
pub(super) struct Observer {
    pub(super) counters: Option<Arc<WorkerCounters>>,
}

impl Observer {
    /// A packet of `direction`, `idle` milliseconds after the one before it, led from one state to another, or to none
    /// other. The flow has its new state.
    pub(super) fn changed(
        &self,
        flow: &Flow,
        before: State,
        direction: Direction,
        segment: &Segment,
        idle: u32,
        now: u32,
    ) {
        let Some(counters) = &self.counters else { return };
        let (after, backend) = (flow.state(), flow.backend());
        match (before, after, direction) {
            (State::SynSent, State::SynSent, Direction::Original) if segment.flags.syn() && idle >= REPEATED => {
                counters.unanswered(backend, now);
            }
            (State::SynSent, State::SynReceived, Direction::Reply) => {
                // Which of several SYNs is answered, nobody knows.
                let once = flow.packets(Direction::Original) == 1;
                counters.answered(backend, once.then_some(idle), now);
            }
            (State::SynSent, State::Closed, Direction::Reply) => counters.refused(backend, now),
            (State::UdpUnreplied, State::UdpAnswered, _) | (State::SctpUnreplied, State::SctpReplied, _) => {
                counters.answered(backend, None, now);
            }
            _ => {}
        }
    }

    /// A flow ends.
    pub(super) fn ended(&self, flow: &Flow, now: u32) {
        let waited = matches!(flow.state(), State::SynSent | State::UdpUnreplied | State::SctpUnreplied);
        if !waited || flow.seen(Direction::Reply) || flow.idle(now) < GIVEN_UP {
            return;
        }
        if let Some(counters) = &self.counters {
            counters.unanswered(flow.backend(), now);
        }
    }
}
