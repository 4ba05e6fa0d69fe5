//! The fate of a frame.

use ringway_shared::{DropReason, InterfaceId, ServicePortId};

use crate::af_xdp::Frame;

/// What becomes of a packet. Every received packet gets exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sent on, rewritten, by this interface.
    Forward {
        /// The way out.
        out: InterfaceId,
    },
    /// Sent on as fragments by this interface, since it is larger than the way out; [`Verdict::Forward`] once that is done.
    Fragment {
        /// The way out.
        out: InterfaceId,
        /// The largest IP packet that it carries.
        mtu: u16,
    },
    /// Answered by Ringway itself: the frame now holds the answer.
    Reply {
        /// The way out.
        out: InterfaceId,
        /// What the answer says.
        reason: DropReason,
    },
    /// Given to the kernel as if it had never been taken.
    Pass {
        /// The interface it arrived on.
        arrived: InterfaceId,
    },
    /// Dropped.
    Drop(DropReason),
    /// Belongs to another worker's flow.
    HandOver {
        /// That worker.
        worker: u16,
        /// The interface it arrived on.
        arrived: InterfaceId,
        /// Nothing but its own word says so: it takes no more than a part of the room that there is.
        doubted: bool,
    },
}

/// A frame with its verdict, on its way out of the pipeline.
#[derive(Debug)]
#[must_use]
pub struct Outcome {
    /// The frame: what to send, pass or free.
    pub frame: Frame,
    /// The number that the packet carried into the pipeline.
    pub tag: u64,
    /// The verdict.
    pub verdict: Verdict,
    /// The service port whose packet it was, when one was found.
    pub service_port: Option<ServicePortId>,
}
