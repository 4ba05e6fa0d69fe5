//! SYNs, with data or without: a SYN may bring some, which the endpoint's answer acknowledges or not (TCP Fast Open, RFC 7413).

use super::record::Flow;
use super::segment::Segment;
use super::state::State;
use super::tcp::{FIN_ORIGINAL, FIN_REPLY};

/// While a SYN alone was seen: it brought data, and where the endpoint's mark will be stands how much. No side has sent a FIN
/// then.
const BROUGHT_DATA: u8 = FIN_ORIGINAL;

impl Flow {
    /// The client asks for a connection.
    pub(super) fn ask(&mut self, segment: &Segment) -> State {
        let asked = segment.sequence.wrapping_add(1);
        let [before, brought] = self.expected;
        // Its repetition need not bring the data again.
        let brought =
            if self.state() == State::SynSent && before == asked && self.brought_data() { brought } else { 0 };
        let brought = brought.max(segment.length.into());
        self.flags &= !(FIN_ORIGINAL | FIN_REPLY);
        if brought > 0 {
            self.flags |= BROUGHT_DATA;
        }
        self.expected = [asked, brought];
        State::SynSent
    }

    /// Whether the client's SYN, which nothing has answered yet, brought data.
    pub(super) fn brought_data(&self) -> bool {
        self.flags & BROUGHT_DATA != 0
    }

    /// Whether this acknowledges the client's SYN, and any part of what it brought.
    pub(super) fn is_syn_acknowledged(&self, acknowledgment: u32) -> bool {
        let [asked, brought] = self.expected;
        let most = if self.brought_data() { brought } else { 0 };
        acknowledgment.wrapping_sub(asked) <= most
    }
}
