//! Source-kept flows: the client's own port, or another one where that is taken.

use ringway_shared::{FiveTuple, Protocol};

use super::FlowId;
use super::holders::NO_POOL;
use super::opening::{NewFlow, Source, is_taken, with_port};
use super::replies::ReplyQueues;
use super::table::FlowTable;
use crate::clock::Time;

/// Ports tried for a source-kept flow whose own is taken.
const PORT_ATTEMPTS: u32 = 128;

impl FlowTable {
    /// The reply tuple of a new source-kept flow, its hash, and that its port is from no pool. A function of its own, so that
    /// masqueraded ones pay for nothing of it.
    #[inline(never)]
    pub(super) fn keep_reply(
        &mut self,
        reply: &FiveTuple,
        new: &NewFlow,
        replies: Option<ReplyQueues<'_>>,
        now: Time,
    ) -> Option<(FiveTuple, u64, u32)> {
        let own = with_port(reply, new.original.source_port());
        let (reply, over) = self.kept_reply(own, new, replies, now)?;
        if let Some(over) = over {
            self.remove(over, now);
        }
        Some((reply, self.hash(&reply), NO_POOL))
    }

    /// The reply tuple of a source-kept flow: the client's own port, or another one where that is taken. And the flow that has
    /// it, and whose time is up.
    pub(super) fn kept_reply(
        &self,
        reply: FiveTuple,
        new: &NewFlow,
        replies: Option<ReplyQueues<'_>>,
        now: Time,
    ) -> Option<(FiveTuple, Option<FlowId>)> {
        let original = &new.original;
        let hash = self.hash(&reply);
        // A connection that is picked up has the port that the endpoint knows it by.
        let begins = original.protocol() != Protocol::Tcp || new.segment.flags.syn();
        if new.source == Source::Kept && !(begins && self.is_direct(hash, &reply, now)) {
            match self.search(hash, &reply) {
                None if reply != *original && !self.is_elsewhere(hash) => return Some((reply, None)),
                Some((flow, number, _)) if self.lists.is_over(flow, now.millis()) => {
                    return Some((reply, Some(FlowId(number))));
                }
                _ => {}
            }
        }
        let judge = replies.and_then(|replies| replies.judge(&reply));
        let fits = |other: &FiveTuple| judge.is_some_and(|judge| judge.fits(other.destination_port()));
        let others = kept_ports(reply, hash, now).filter(fits).chain(kept_ports(reply, hash, now));
        let other = others.filter(|other| *other != reply && other != original).find(|reply| {
            let hash = self.hash(reply);
            let taken = is_taken(&self.index, &self.flows, hash, reply) || self.is_elsewhere(hash);
            !taken && !self.is_direct(hash, reply, now)
        });
        other.map(|other| (other, None))
    }

    /// Whether another worker has a flow with a tuple of this hash.
    fn is_elsewhere(&self, hash: u64) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|(directory, worker)| directory.owner(hash).is_some_and(|owner| owner != *worker))
    }
}

/// The reply tuples that are tried for a source-kept flow whose own, with `hash`, is taken. As Linux does: a port of the
/// same kind, since some servers trust low ones.
pub(super) fn kept_ports(reply: FiveTuple, hash: u64, now: Time) -> impl Iterator<Item = FiveTuple> {
    let (first, last) = match reply.destination_port() {
        0..512 => (1, 511),
        512..1024 => (600, 1023),
        _ => (1024, u16::MAX),
    };
    let count = u32::from(last - first) + 1;
    let start = (hash as u32).wrapping_add(now.millis()) % count;
    (0..PORT_ATTEMPTS.min(count)).map(move |step| with_port(&reply, first + ((start + step) % count) as u16))
}
