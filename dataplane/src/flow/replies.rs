//! Where replies arrive: a port *fits* when the NIC delivers the reply to it to a queue of the worker that opens the flow.
//!
//! Queue q belongs to worker q modulo the number of workers. What all replies of one endpoint to one address have in common
//! is hashed once ([`Rss::base`]); a port adds two loads to that.

use ringway_shared::FiveTuple;
use ringway_shared::network::rss::{PortTable, Rss, port_hash};

/// How the NIC that replies arrive by chooses their queue, and whose they should be.
#[derive(Clone, Copy, Debug)]
pub struct ReplyQueues<'a> {
    rss: &'a Rss,
    worker: u16,
    workers: u16,
}

impl<'a> ReplyQueues<'a> {
    /// For flows of `worker`, of several.
    #[inline]
    pub fn new(rss: &'a Rss, worker: u16, workers: u16) -> Option<Self> {
        (workers > 1).then_some(ReplyQueues { rss, worker, workers })
    }

    /// Tells the RSS from others.
    #[inline]
    pub(super) fn stamp(&self) -> u32 {
        self.rss.stamp()
    }

    #[inline]
    fn owns(&self, queue: u16) -> bool {
        // Most often there are no more queues than workers, and a division is slow.
        if queue < self.workers { queue == self.worker } else { queue % self.workers == self.worker }
    }

    /// Whether replies with these addresses come to the worker, whatever their ports. `None` where ports decide, or nothing
    /// is known.
    pub fn fits_by_addresses(&self, reply: &FiveTuple) -> Option<bool> {
        let hash = self.rss.base(reply).filter(|_| self.rss.ports(reply).is_none())?;
        Some(self.owns(self.rss.queue_of(hash)))
    }

    /// Judges destination ports of replies whose other parts are these. `None` where ports make no difference, or no port
    /// would do.
    pub(super) fn judge(&self, reply: &FiveTuple) -> Option<Judge<'a>> {
        // Looked at first: it is cheap, and often the answer.
        self.rss.ports(reply)?;
        let judge = self.judge_with(reply, self.rss.base(reply)?);
        judge.filter(|_| self.rss.reaches(|queue| self.owns(queue)))
    }

    /// As [`Self::judge`], with the base that such a judge had.
    #[inline]
    pub(super) fn judge_with(&self, reply: &FiveTuple, base: u32) -> Option<Judge<'a>> {
        Some(Judge { replies: *self, ports: self.rss.ports(reply)?, base })
    }
}

/// Tells which ports fit.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    replies: ReplyQueues<'a>,
    ports: &'a PortTable,
    pub(super) base: u32,
}

impl Judge<'_> {
    /// Tells the RSS from others.
    #[inline]
    pub(super) fn stamp(&self) -> u32 {
        self.replies.stamp()
    }

    #[inline]
    pub(super) fn fits(&self, port: u16) -> bool {
        let queue = self.replies.rss.queue_of(self.base ^ port_hash(self.ports, port));
        self.replies.owns(queue)
    }
}
