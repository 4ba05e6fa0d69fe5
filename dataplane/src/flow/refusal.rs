//! Refusals that are no packets of their flow: ICMP errors about what the client sent.

use super::FlowId;
use super::record::{Flow, REFUSED};
use super::state::State;
use super::table::FlowTable;
use crate::clock::Time;

impl FlowTable {
    /// Something on the endpoint's side says that what the client sent last does not arrive. That is counted, once for what is
    /// asked at a time. A conversation over UDP waits for an answer again; everything else is left to both ends.
    pub fn refuse(&mut self, id: FlowId, now: Time) {
        let Some(flow) = self.flows.get_mut(id.0 as usize) else { return };
        let before = flow.state();
        let asks = match before {
            State::SynSent | State::UdpUnreplied | State::UdpAnswered | State::UdpReplied => true,
            State::SctpUnreplied => flow.asks_for_association(),
            _ => false,
        };
        if !asks || flow.flags & REFUSED != 0 {
            return;
        }
        flow.flags |= REFUSED;
        self.observer.refused(flow, now.millis());
        if matches!(before, State::UdpAnswered | State::UdpReplied) {
            self.ask_again(id, now.millis());
        }
    }

    fn ask_again(&mut self, id: FlowId, now: u32) {
        let Some(flow) = self.flows.get_mut(id.0 as usize) else { return };
        let (before, pooled) = (flow.state(), Flow::pooled(flow));
        let after = flow.ask_by_datagram(now);
        flow.state = after as u8;
        flow.last_seen = now;
        self.lists.unlink(&mut self.flows, id.0, before);
        self.lists.link(&mut self.flows, id.0);
        if pooled {
            self.ports.holders.moved(id.0, before, after);
        }
    }
}
