//! The table under random operations, against a plain list of flows.

use super::*;
use proptest::prelude::*;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// How late in milliseconds the order of a queue may let a flow end or be evicted.
const SLACK: u64 = 1300;
/// Milliseconds of silence from which on a flow goes by its rank.
const PATIENCE: u64 = 3_000;

#[derive(Clone, Debug)]
enum Operation {
    Open { client: u8, vip: u8, endpoint: u8, protocol: u8, kept: bool, established: bool },
    Packet { which: usize, reply: bool, flags: u8, sent: u32 },
    Remove { which: usize },
    Wait { millis: u64, budget: u32 },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let open = (0u8..12, 0u8..3, 0u8..3, 0u8..3, any::<bool>(), any::<bool>());
    let open = open.prop_map(|(client, vip, endpoint, protocol, kept, established)| Operation::Open {
        client,
        vip,
        endpoint,
        protocol,
        kept,
        established,
    });
    let flags = prop_oneof![Just(ACK), Just(ACK), Just(FIN), Just(RST), Just(Flags::SYN), Just(Flags::SYN | ACK)];
    let packet = (any::<usize>(), any::<bool>(), flags, prop_oneof![4 => Just(0u32), 1 => Just(9)]);
    let packet = packet.prop_map(|(which, reply, flags, sent)| Operation::Packet { which, reply, flags, sent });
    let wait = (prop_oneof![0..50u64, 0..3_000u64, 0..80_000u64], prop_oneof![0..3u32, Just(1000)])
        .prop_map(|(millis, budget)| Operation::Wait { millis, budget });
    let operation = prop_oneof![
        6 => open,
        6 => packet,
        1 => any::<usize>().prop_map(|which| Operation::Remove { which }),
        2 => wait,
    ];
    proptest::collection::vec(operation, 1..300)
}

#[derive(Clone, Copy, Debug)]
struct Known {
    reply: FiveTuple,
    state: State,
    last_seen: u64,
    masquerade: bool,
}

/// Whether a masqueraded flow uses a port that `new` could use, too.
fn is_rival(known: &Known, new: &NewFlow) -> bool {
    let (reply, endpoint) = (known.reply, SocketAddr::new(new.endpoint, new.endpoint_port));
    known.masquerade
        && SocketAddr::new(reply.source_address(), reply.source_port()) == endpoint
        && reply.protocol() == new.original.protocol()
}

struct Oracle {
    table: FlowTable,
    flows: HashMap<FiveTuple, Known>,
    now: u64,
    // When a flow over UDP ended last.
    last_end: u64,
}

fn timeout(state: State) -> u64 {
    match state {
        State::Free => 0,
        State::SynSent | State::SynReceived | State::PickedUp | State::Answered => 30_000,
        State::Established | State::Doubted | State::EndingOriginal | State::EndingReply | State::OneWay => 8_000_000,
        State::Closing | State::LastAckOriginal | State::LastAckReply | State::OneWayClosing => 120_000,
        State::Closed => 10_000,
        State::UdpUnreplied | State::UdpUnanswered | State::SctpUnreplied => 60_000,
        State::UdpAnswered | State::UdpReplied => 120_000,
        State::SctpReplied => 210_000,
    }
}

impl Oracle {
    fn is_over(&self, known: &Known) -> bool {
        self.now - known.last_seen >= timeout(known.state)
    }

    /// Which flow has this tuple.
    fn owner(&self, tuple: &FiveTuple) -> Option<(FiveTuple, Direction)> {
        if self.flows.contains_key(tuple) {
            return Some((*tuple, Direction::Original));
        }
        let mut hits = self.flows.iter().filter(|(_, known)| known.reply == *tuple);
        hits.next().map(|(original, _)| (*original, Direction::Reply))
    }

    fn shown(&self) -> HashMap<FiveTuple, FlowId> {
        let mut shown = HashMap::new();
        assert_eq!(self.table.scan(0, u32::MAX, |id, flow| assert!(shown.insert(flow.original(), id).is_none())), None);
        shown
    }

    /// Whether `victim` may have gone while `other`, which could have gone too, stayed.
    fn goes_before(&self, victim: &Known, other: &Known) -> bool {
        let [rank, others] = [victim, other].map(|known| known.state.eviction_rank());
        let [silence, silence_of_other] = [victim, other].map(|known| self.now - known.last_seen);
        // Conversations have no order but a second chance.
        let in_order = other.state == State::UdpReplied || silence_of_other <= silence + SLACK;
        let other_is_young = others != Some(0) && silence_of_other < PATIENCE + SLACK;
        match rank.cmp(&others) {
            Ordering::Less => rank == Some(0) || silence >= PATIENCE || in_order,
            Ordering::Equal => in_order,
            Ordering::Greater => in_order && other_is_young,
        }
    }

    /// Takes out of the list what the table no longer has, and says what that was.
    fn settle(&mut self) -> Vec<Known> {
        let shown = self.shown();
        let gone: Vec<_> = self.flows.keys().filter(|original| !shown.contains_key(original)).copied().collect();
        gone.into_iter().filter_map(|original| self.forget(&original)).collect()
    }

    fn forget(&mut self, original: &FiveTuple) -> Option<Known> {
        if original.protocol() == Protocol::Udp && self.flows.contains_key(original) {
            self.last_end = self.now;
        }
        self.flows.remove(original)
    }

    /// Whether `victim` may have given its port up while `other` did not, of all flows over UDP to one endpoint.
    fn yields_before(&self, victim: &Known, other: &Known) -> bool {
        let [rank, others] = [victim, other].map(|known| known.state.eviction_rank());
        let [silence, silence_of_other] = [victim, other].map(|known| self.now - known.last_seen);
        let in_order = other.state == State::UdpReplied || silence_of_other <= silence + SLACK;
        let other_may_be_answered = silence_of_other < PATIENCE + SLACK;
        rank < others || other_may_be_answered || (rank == others && in_order)
    }

    /// Takes over for which flows the table does not wait for an answer any more: all for which it was time, if it had the
    /// budget for all.
    fn give_up(&mut self, all: bool) {
        let shown = self.shown();
        for (original, known) in self.flows.iter_mut().filter(|(_, known)| known.state == State::UdpUnreplied) {
            let (state, silence) = (self.table.flow(shown[original]).state(), self.now - known.last_seen);
            let waits = state == State::UdpUnreplied;
            assert!(waits || (state == State::UdpUnanswered && silence >= PATIENCE), "{known:?} is {state:?}");
            assert!(!(waits && all && silence >= PATIENCE + SLACK), "{known:?} waits for {silence} ms");
            known.state = state;
        }
    }

    fn open(&mut self, new: &NewFlow) {
        let now = millis(self.now);
        let capacity = self.table.capacity() as usize;
        let owner = self.owner(&new.original).filter(|(original, _)| !self.is_over(&self.flows[original]));
        let evictable = |known: &Known| known.state.eviction_rank().is_some();
        let was_full = self.flows.len() == capacity;
        let could_evict = self.flows.values().any(evictable);
        let an_end = self.flows.values().any(|known| self.is_over(known));
        let is_udp = new.original.protocol() == Protocol::Udp;
        match open_as_told(&mut self.table, new, now) {
            Ok(opened) => {
                assert_eq!(owner, None);
                let flow = *self.table.flow(opened.id);
                assert_eq!(flow.original(), new.original);
                let mut gone = self.settle();
                // A record of the same tuple whose time was up.
                gone.extend(self.forget(&new.original));
                if let Some(state) = opened.evicted {
                    assert!(was_full);
                    let evicted: Vec<_> = gone.iter().filter(|known| known.state == state).collect();
                    let [victim] = evicted[..] else { panic!("{gone:?} went for {opened:?}") };
                    let mut others = self.flows.values().filter(|other| evictable(other));
                    let converse = others.clone().filter(|known| known.state == State::UdpReplied).count() + 1;
                    let few =
                        converse * 2 <= others.clone().count() + 1 && others.any(|o| o.state != State::UdpReplied);
                    assert!(state != State::UdpReplied || !few, "{converse} conversations among many");
                    for other in self.flows.values().filter(|other| evictable(other)) {
                        assert!(self.goes_before(victim, other), "{victim:?} went before {other:?}");
                    }
                }
                if let Some(state) = opened.reclaimed {
                    let rivals: Vec<_> = self.flows.values().filter(|known| is_rival(known, new)).collect();
                    // With the victim six of eight: kept sources and clients that are endpoints may be in the way of two.
                    let rest = is_udp && self.now - self.last_end < PATIENCE + SLACK;
                    assert!(rest || rivals.len() >= 5, "a port was taken back while others were free: {rivals:?}");
                    // The victim's own packets may have been in the way of another port, which became free with it.
                    let had =
                        |known: &&Known| known.state == state && (known.reply == flow.reply() || is_rival(known, new));
                    let victim = gone.iter().find(had).unwrap_or_else(|| panic!("{gone:?} went for {opened:?}"));
                    let converse = rivals.iter().filter(|known| known.state == State::UdpReplied).count();
                    assert!(state != State::UdpReplied || converse >= 4, "others have more than half of the ports");
                    for other in rivals.into_iter().filter(|other| evictable(other)) {
                        let in_order =
                            if is_udp { self.yields_before(victim, other) } else { self.goes_before(victim, other) };
                        assert!(in_order, "{victim:?} went before {other:?}");
                    }
                }
                let ended = gone.iter().filter(|known| self.is_over(known)).count();
                let early = usize::from(opened.evicted.is_some()) + usize::from(opened.reclaimed.is_some());
                assert!(gone.len() - ended <= early);
                match new.source {
                    Source::Kept => {
                        let mut own = flow.reply();
                        own.ports = own.ports & 0xffff_0000_ffff_ffff | u64::from(new.original.source_port()) << 32;
                        if own != flow.reply() {
                            let taken = self.owner(&own).is_some() || gone.iter().any(|known| known.reply == own);
                            assert!(taken || own == new.original, "{new:?} lost its port for nothing");
                        }
                    }
                    Source::Moved | Source::OneWay(_) => panic!("{new:?} is none of those opened here"),
                    Source::Masquerade(_) => assert!((50..=57).contains(&flow.reply().destination_port())),
                }
                assert_eq!(self.owner(&flow.reply()), None, "two flows share a tuple");
                assert_ne!(flow.reply(), flow.original());
                let masquerade = flow.masquerade();
                let known = Known { reply: flow.reply(), state: flow.state(), last_seen: self.now, masquerade };
                self.flows.insert(new.original, known);
            }
            Err(OpenError::Exists(id)) => {
                assert_eq!(Some(self.table.flow(id).original()), owner.map(|(original, _)| original));
            }
            Err(OpenError::TableFull) => {
                assert!(was_full && (!could_evict || an_end));
                self.settle();
            }
            Err(OpenError::PortsExhausted) => {
                assert!(matches!(new.source, Source::Masquerade(_)));
                let mut ports = HashSet::new();
                for known in self.flows.values() {
                    let reply = known.reply;
                    let same = reply.source_address() == new.endpoint && reply.protocol() == new.original.protocol();
                    if same {
                        ports.insert(reply.destination_port());
                    }
                }
                let rest = is_udp && self.now - self.last_end < PATIENCE + SLACK;
                assert!(rest || ports.len() >= 7, "{ports:?}");
                self.settle();
                let mut rivals = self.flows.values().filter(|known| is_rival(known, new));
                let converse = rivals.clone().filter(|known| known.state == State::UdpReplied).count();
                let may_stay = |known: &Known| {
                    let may_be_answered = self.now - known.last_seen < PATIENCE + SLACK;
                    is_udp && (may_be_answered || (known.state == State::UdpReplied && converse <= 4))
                };
                let left = rivals.find(|known| evictable(known) && !may_stay(known));
                assert!(left.is_none(), "{left:?} could have given its port up");
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.table.len() as usize, self.flows.len());
        let shown = self.shown();
        assert_eq!(shown.len(), self.flows.len());
        let half_open = self.flows.values().filter(|known| known.state.is_half_open()).count();
        assert_eq!(self.table.half_open_len() as usize, half_open);
        let statistics = self.table.statistics();
        assert_eq!(statistics.opened - statistics.closed, u64::from(self.table.len()));
        let now = millis(self.now);
        for (original, known) in &self.flows {
            let id = shown[original];
            let flow = self.table.flow(id);
            assert_eq!((flow.reply(), flow.state()), (known.reply, known.state));
            let found = |direction| (!self.is_over(known)).then_some((id, direction));
            assert_eq!(self.table.lookup(original, now), found(Direction::Original));
            assert_eq!(self.table.lookup(&known.reply, now), found(Direction::Reply));
        }
    }
}

fn random_flow(operation: &Operation) -> NewFlow {
    let Operation::Open { client, vip, endpoint, protocol, kept, established } = *operation else { unreachable!() };
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(protocol)];
    // Clients 0 and 1 are the SNAT address and an endpoint, at ports where they are in the way of others.
    let client = match client {
        0 => SocketAddr::from(([192, 0, 2, 1], 53)),
        1 => SocketAddr::from(([10, 180, 0, 1], 80)),
        other => SocketAddr::from(([10, 0, 0, other % 3], 50 + u16::from(other))),
    };
    let vip = SocketAddr::from(if vip == 0 { ([192, 0, 2, 1], 51) } else { ([172, 30, 0, vip], 80) });
    let source = if kept { Source::Kept } else { Source::Masquerade(snat(true)) };
    let endpoint = SocketAddr::from(([10, 180, 0, endpoint], 80));
    let new = new_flow(FiveTuple::new(protocol, client, vip), &endpoint.to_string(), source);
    if protocol == Protocol::Tcp && established {
        return NewFlow { segment: super::client(ACK, 0, 0), ..new };
    }
    new
}

fn run(capacity: u32, start: u64, operations: &[Operation]) {
    let mut oracle =
        Oracle { table: FlowTable::new(&config(capacity, 50..=57)), flows: HashMap::new(), now: start, last_end: 0 };
    for operation in operations {
        let mut originals: Vec<_> = oracle.flows.keys().copied().collect();
        originals.sort_by_key(|original| (original.source, original.destination, original.ports));
        match *operation {
            Operation::Open { .. } => oracle.open(&random_flow(operation)),
            Operation::Packet { which, reply, flags, sent } if !originals.is_empty() => {
                let original = originals[which % originals.len()];
                let known = oracle.flows[&original];
                let (tuple, segment, direction) = if reply {
                    (known.reply, endpoint(flags, sent, 0), Direction::Reply)
                } else {
                    (original, client(flags, sent, sent), Direction::Original)
                };
                let now = millis(oracle.now);
                let found = oracle.table.lookup(&tuple, now);
                assert_eq!(found.is_none(), oracle.is_over(&known));
                if let Some((id, found)) = found {
                    assert_eq!(found, direction);
                    let state = oracle.table.advance(id, direction, &segment, now);
                    let last_seen = oracle.now;
                    oracle.flows.insert(original, Known { state, last_seen, ..known });
                }
            }
            Operation::Remove { which } if !originals.is_empty() => {
                let original = originals[which % originals.len()];
                let id = oracle.shown()[&original];
                assert!(oracle.table.remove(id, millis(oracle.now)));
                oracle.forget(&original);
            }
            Operation::Packet { .. } | Operation::Remove { .. } => {}
            Operation::Wait { millis: wait, budget } => {
                oracle.now += wait;
                let ended = oracle.table.expire(millis(oracle.now), budget);
                assert!(ended <= budget);
                let gone = oracle.settle();
                assert_eq!(gone.len(), ended as usize);
                assert!(gone.iter().all(|known| oracle.is_over(known)), "{gone:?} ended early");
                oracle.give_up(budget == 1000);
                if budget == 1000 {
                    let late = |known: &&Known| oracle.now - known.last_seen >= timeout(known.state) + SLACK;
                    assert_eq!(oracle.flows.values().filter(late).count(), 0, "a flow is left over");
                }
            }
        }
        oracle.check();
    }
}

proptest! {
    #[test]
    fn the_table_is_a_list_of_flows(
        capacity in 1u32..40,
        start in prop_oneof![Just(1u64), Just((1 << 32) - 100_000), 0..u64::MAX / 1_000_000 / 2],
        operations in operations(),
    ) {
        run(capacity, start, &operations);
    }
}
