//! Connections that a client begins anew from a port whose last one was never ended: the endpoint is perhaps dead.
//!
//! A live endpoint answers such a SYN, whatever its number: it resets what it does not know, and acknowledges what it does (RFC 5961
//! 4), Linux once in half a second. So a client whose SYN comes again twice, each time after that, and nothing at all since the first, has
//! nobody there any more: the endpoint would have answered the first repetition at the latest. This next try goes where a repeated first SYN
//! goes. Only SYNs count that every host takes ([`super::owed`]); a forger who knows the flow's tuple is told apart by the endpoint's answer.

use super::owed::is_owed_an_answer;
use super::{Context, Core};
use crate::batch::Received;
use crate::flow::{Direction, FlowId, REPEATED, Segment};
use crate::wire::Packet;

/// Such SYNs that a worker remembers, a power of two; of two in one place the later one.
const REMEMBERED: usize = 1024;

/// The first SYN of its number on a flow.
#[derive(Clone, Copy)]
struct Asked {
    id: FlowId,
    sequence: u32,
    /// What the endpoint had sent by then.
    answers: u32,
    /// When it came last, in milliseconds.
    since: u32,
    /// Whether it has come again.
    repeated: bool,
}

/// The last of them, by the numbers of their flows.
pub(super) struct Again(Box<[Asked]>);

impl Default for Again {
    fn default() -> Self {
        Again(
            vec![Asked { id: FlowId(u32::MAX), sequence: 0, answers: 0, since: 0, repeated: false }; REMEMBERED]
                .into_boxed_slice(),
        )
    }
}

impl Again {
    fn place(&mut self, id: FlowId) -> Option<&mut Asked> {
        self.0.get_mut(id.0 as usize & (REMEMBERED - 1))
    }

    /// Notes a SYN; whether it is one that has come twice before, each long enough ago, and nothing of the endpoint since.
    fn repeats(&mut self, id: FlowId, sequence: u32, answers: u32, now: u32) -> bool {
        let Some(asked) = self.place(id) else { return false };
        if (asked.id, asked.sequence, asked.answers) == (id, sequence, answers) {
            if now.wrapping_sub(asked.since) < REPEATED {
                return false;
            }
            asked.since = now;
            return std::mem::replace(&mut asked.repeated, true);
        }
        *asked = Asked { id, sequence, answers, since: now, repeated: false };
        false
    }

    /// The endpoint has said something that is not counted.
    #[cold]
    pub(super) fn forget(&mut self, id: FlowId) {
        if let Some(asked) = self.place(id).filter(|asked| asked.id == id) {
            asked.id = FlowId(u32::MAX);
        }
    }
}

impl Core {
    /// Whether this SYN shows that nobody is at the other end of the client's flow any more.
    #[cold]
    pub(super) fn is_deserted(
        &mut self,
        context: &Context,
        received: &Received,
        packet: &Packet,
        id: FlowId,
        segment: &Segment,
    ) -> bool {
        let answers = self.flows.flow(id).packets(Direction::Reply);
        is_owed_an_answer(context.umem.packet(&received.frame), packet)
            && self.again.repeats(id, segment.sequence, answers, context.now.millis())
    }
}
