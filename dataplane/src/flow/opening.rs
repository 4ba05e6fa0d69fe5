//! Opening a flow: a reply tuple that nobody else has, and a record, somebody else's if need be.

use std::cmp::Reverse;
use std::hint::black_box;
use std::net::IpAddr;

use arrayvec::ArrayVec;
use ringway_shared::address::address_words;
use ringway_shared::service::ForwardingMode;
use ringway_shared::snapshot::Services;
use ringway_shared::{BackendId, FiveTuple, Protocol, ServicePortId};

use super::holders::NO_POOL;
use super::index::Index;
use super::kept::kept_ports;
use super::record::Flow;
use super::replies::ReplyQueues;
use super::segment::Segment;
use super::state::{PATIENCE, State, is_ripe};
use super::table::{FlowTable, NONE, number_of, value};
use super::{Direction, FlowId};
use crate::clock::Time;

/// Flows that the table gets ready to evict at once.
const LOOK_AHEAD: u32 = 8;

/// What becomes of the source of a new flow's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Address and port are kept; only if another flow, or a connection past us, has the same reply tuple, another port is
    /// chosen.
    Kept,
    /// The address is kept, the port is another one: a direct connection under a flow's tuple.
    Moved,
    /// The source becomes this address and a free port.
    Masquerade(IpAddr),
    /// Nothing changes, not even the destination: the endpoint answers the client itself (`one_way.rs`).
    OneWay(ForwardingMode),
}

/// What a new flow may take when no port is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Nothing.
    Free,
    /// The port of a flow that is over, or half-open or unreplied and silent for long.
    Idle,
    /// The port of any flow that ever gives its own up.
    Any,
}

/// Which ports a masqueraded flow should have, and which it must not have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// Preferred are those whose replies come to this worker.
    pub replies: Option<ReplyQueues<'a>>,
    /// None by which the answers of a UDP flow would have the destination of one of these: a datagram does not tell an answer
    /// from what the endpoint asks a Service.
    pub frontends: Option<&'a Services>,
}

/// A flow to be opened by the packet that asked for it.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// The packet's tuple.
    pub original: FiveTuple,
    /// The packet's TCP header; zeros for other protocols.
    pub segment: Segment,
    /// The chosen endpoint's address.
    pub endpoint: IpAddr,
    /// The chosen endpoint's port.
    pub endpoint_port: u16,
    /// The source's fate.
    pub source: Source,
    /// The service port that was asked for.
    pub service_port: ServicePortId,
    /// The chosen backend.
    pub backend: BackendId,
}

/// A flow that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The new flow.
    pub id: FlowId,
    /// The table was full: a flow in this state had to go for it.
    pub evicted: Option<State>,
    /// No port was free: a flow in this state had to give up its own.
    pub reclaimed: Option<State>,
}

/// Why no flow was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The packet belongs to a flow that there is already.
    Exists(FlowId),
    /// All records hold flows that may not be evicted.
    TableFull,
    /// No port is free towards this endpoint.
    PortsExhausted,
}

impl FlowTable {
    /// Opens a flow and counts the packet that asked for it.
    pub fn open(&mut self, new: &NewFlow, now: Time) -> Result<Opened, OpenError> {
        let hash = self.hash(&new.original);
        if let Some((flow, number, _)) = self.search(hash, &new.original) {
            if !self.lists.is_over(flow, now.millis()) {
                return Err(OpenError::Exists(FlowId(number)));
            }
            self.remove(FlowId(number), now);
        }
        self.open_new(hash, new, None, now)
    }

    /// As [`Self::open`], for who has just looked for the tuple with this hash, and found none or removed what was over.
    /// Where a port is to be chosen, one is preferred whose replies come to this worker by `replies`.
    pub fn open_new(
        &mut self,
        hash: u64,
        new: &NewFlow,
        replies: Option<ReplyQueues<'_>>,
        now: Time,
    ) -> Result<Opened, OpenError> {
        self.open_with(hash, new, Wishes { replies, ..Wishes::default() }, Effort::Any, now)
    }

    /// As [`Self::open_new`], with no more than this effort for a port.
    pub fn open_with(
        &mut self,
        hash: u64,
        new: &NewFlow,
        wishes: Wishes<'_>,
        effort: Effort,
        now: Time,
    ) -> Result<Opened, OpenError> {
        debug_assert!(self.search(hash, &new.original).is_none(), "{} has a flow", new.original);
        if self.free == NONE && !self.lists.can_evict() {
            return Err(OpenError::TableFull);
        }
        let ((reply, reply_hash, pool), reclaimed) = match self.reply(new, wishes, now) {
            Some(found) => (found, None),
            None => self.reply_instead(new, wishes, effort, now).ok_or(OpenError::PortsExhausted)?,
        };
        let evicted = if self.free == NONE { self.evict(now) } else { None };
        let id = self.enter(hash, new, &reply, (reply_hash, pool), now).ok_or(OpenError::TableFull)?;
        Ok(Opened { id, evicted, reclaimed })
    }

    /// Takes a free record for a new flow that has its reply tuple. A function of its own: it needs nothing of how that was found.
    #[inline(never)]
    fn enter(
        &mut self,
        hash: u64,
        new: &NewFlow,
        reply: &FiveTuple,
        (reply_hash, pool): (u64, u32),
        now: Time,
    ) -> Option<FlowId> {
        let pooled = pool != NO_POOL;
        let number = self.free;
        let masquerade = matches!(new.source, Source::Masquerade(_));
        let flow = self.flows.get_mut(number as usize)?;
        self.free = flow.next;
        *flow = Flow::new(&new.original, reply, new.service_port, new.backend, masquerade, pooled);
        if let Source::OneWay(forwarding) = new.source {
            flow.mark_one_way(forwarding);
            flow.state = flow.begin_one_way(&new.segment) as u8;
        } else {
            flow.begin(&new.original, &new.segment, now.millis());
        }
        if new.source == Source::Moved {
            flow.mark_direct();
        }
        flow.last_seen = now.millis();
        flow.packets = [1, 0];
        if self.len == 0 {
            self.lists.start(now.millis());
        }
        self.len += 1;
        self.used.set(number);
        self.statistics.opened += 1;
        self.index.insert(hash, value(number, Direction::Original));
        let one_way = flow.is_one_way();
        if !one_way {
            self.index.insert(reply_hash, value(number, Direction::Reply));
        }
        if let Some(direct) = self.direct.as_ref().filter(|_| !masquerade) {
            flow.claimed().into_iter().flatten().for_each(|tuple| direct.claim(&tuple));
        }
        let state = flow.state();
        self.lists.link(&mut self.flows, number);
        if pooled {
            self.ports.holders.hold(number, pool, state);
        }
        if let Some((directory, worker)) = &self.shared {
            directory.note(hash, *worker);
            // The port of a masqueraded flow's reply says whose it is.
            if !masquerade && !one_way {
                directory.note(reply_hash, *worker);
            }
        }
        Some(FlowId(number))
    }

    /// [`Self::reply`] with the port of a flow that ends for it, since nothing else is free: one that is over, or may never be
    /// answered. And what state that was in.
    #[cold]
    #[inline(never)]
    fn reply_instead(
        &mut self,
        new: &NewFlow,
        wishes: Wishes<'_>,
        effort: Effort,
        now: Time,
    ) -> Option<((FiveTuple, u64, u32), Option<State>)> {
        let reclaimed = self.reclaim_port(new, effort, now)?;
        Some((self.reply(new, wishes, now)?, Some(reclaimed)))
    }

    /// Ends a flow whose port `new` can use: by [`State::eviction_rank`], then the oldest. Says what state it was in; nothing
    /// when there is none, or none that may be taken.
    #[cold]
    fn reclaim_port(&mut self, new: &NewFlow, effort: Effort, now: Time) -> Option<State> {
        if effort == Effort::Free {
            return None;
        }
        let (reply, original) = (reply_without_port(new), &new.original);
        let found = match new.source {
            Source::Masquerade(_) => self.ports.holder(&reply, effort, &self.flows, now).or_else(|| {
                if effort != Effort::Any {
                    return None;
                }
                let tried = self.ports.tried(&reply, now);
                self.least_useful(tried.map(|port| with_port(&reply, port)), now)
            }),
            Source::OneWay(_) => None,
            Source::Kept | Source::Moved => {
                let reply = with_port(&reply, original.source_port());
                self.least_useful(kept_ports(reply, self.hash(&reply), now), now)
            }
        };
        let victim = FlowId(found?);
        let state = self.flow(victim).state();
        if state != State::Closed {
            self.statistics.evicted += 1;
            self.statistics.ports_reclaimed += 1;
        }
        self.remove(victim, now).then_some(state)
    }

    /// Of the flows with these reply tuples the one that can go most easily, if any can. Of UDP, none to which an answer may be
    /// under way, and no conversation while others have half of the tuples.
    pub(super) fn least_useful(&self, replies: impl Iterator<Item = FiveTuple>, now: Time) -> Option<u32> {
        let now = now.millis();
        let (mut all, mut conversations) = (0, 0);
        let mut first = None;
        for reply in replies {
            let Some((flow, number, direction)) = self.search(self.hash(&reply), &reply) else { continue };
            let state = flow.state();
            all += 1;
            conversations += u32::from(state == State::UdpReplied);
            let Some(rank) = state.eviction_rank().filter(|_| direction == Direction::Reply) else { continue };
            if flow.may_be_answered(now, || PATIENCE) {
                continue;
            }
            let idle = flow.idle(now);
            // The higher ranks of those that are not ripe yet do not count.
            let ripe = is_ripe(rank, idle) || reply.protocol() == Protocol::Udp;
            let order = if ripe { (true, Reverse(rank)) } else { (false, Reverse(0)) };
            first = first.max(Some((order, idle, number)));
        }
        let (_, _, number) = first?;
        let converses = self.flow(FlowId(number)).state() == State::UdpReplied;
        (!converses || conversations > all / 2).then_some(number)
    }

    /// Ends the flow that is of least use.
    fn evict(&mut self, now: Time) -> Option<State> {
        let victim = FlowId(self.lists.evictable(&mut self.flows, now.millis())?);
        let state = self.flow(victim).state();
        if self.looked_ahead == 0 {
            self.look_ahead(victim.0);
            self.looked_ahead = LOOK_AHEAD;
        }
        self.looked_ahead -= 1;
        self.remove(victim, now);
        self.statistics.evicted += 1;
        Some(state)
    }

    /// Loads what evicting this flow and those behind it in its list will need, so that the cache misses overlap.
    fn look_ahead(&self, first: u32) {
        let mut hashes = ArrayVec::<_, { LOOK_AHEAD as usize }>::new();
        let mut number = first;
        while !hashes.is_full() {
            hashes.push(self.hashes(number));
            number = self.flow(FlowId(number)).next;
        }
        for [original, reply] in hashes {
            black_box(self.index.probe(original) ^ self.index.probe(reply));
        }
    }

    /// The reply tuple of a new flow, its hash, and the pool that its port is from.
    #[inline(always)]
    fn reply(&mut self, new: &NewFlow, wishes: Wishes<'_>, now: Time) -> Option<(FiveTuple, u64, u32)> {
        let (reply, original) = (reply_without_port(new), &new.original);
        let Wishes { replies, frontends } = wishes;
        match new.source {
            Source::Kept | Source::Moved => self.keep_reply(&reply, new, replies, now),
            // Nobody looks for it, so others may have the same.
            Source::OneWay(_) => Some((with_port(&reply, original.source_port()), 0, NO_POOL)),
            Source::Masquerade(_) => {
                let (index, flows, addresses) = (&self.index, &self.flows, self.hasher.addresses(&reply));
                let mut hash = 0;
                let is_free = |port| {
                    let reply = with_port(&reply, port);
                    hash = addresses.with_ports(reply.ports);
                    reply != *original && !is_taken(index, flows, hash, &reply)
                };
                let is_frontend = |port| {
                    frontends.is_some_and(|services| {
                        services.has_udp_port(port) && services.find(&with_port(&reply, port).frontend()).is_some()
                    })
                };
                let preload = |port| {
                    black_box(index.probe(addresses.with_ports(with_port(&reply, port).ports)));
                };
                let pool = addresses.with_ports(reply.ports);
                let found = self.ports.allocate((&reply, pool), replies, now, is_frontend, is_free, preload)?;
                Some((with_port(&reply, found.port), hash, found.pool))
            }
        }
    }
}

/// The reply tuple of a new flow, with 0 for the port that its packets will come from.
#[inline]
pub(super) fn reply_without_port(new: &NewFlow) -> FiveTuple {
    let destination = match new.source {
        Source::Kept | Source::Moved | Source::OneWay(_) => new.original.source,
        Source::Masquerade(address) => address_words(address),
    };
    let ports = u64::from(new.endpoint_port) << 48 | (new.original.ports & 0xffff_ffff);
    FiveTuple { source: address_words(new.endpoint), destination, ports }
}

#[inline]
pub(super) fn with_port(reply: &FiveTuple, port: u16) -> FiveTuple {
    FiveTuple { ports: (reply.ports & 0xffff_0000_ffff_ffff) | u64::from(port) << 32, ..*reply }
}

#[inline]
pub(super) fn is_taken(index: &Index, flows: &[Flow], hash: u64, tuple: &FiveTuple) -> bool {
    let hit = index.find(hash, |value| {
        let (number, direction) = number_of(value);
        flows.get(number as usize).is_some_and(|flow| flow.answers_to(direction, tuple))
    });
    hit.is_some()
}
