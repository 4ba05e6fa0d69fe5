//! A forger plays against the states: it sends whatever it likes as a client, and never sees an answer. The endpoint behaves
//! as RFC 9293, 5961 and 9260 say, and knows nothing, listens, or has another connection between the same ports.

use super::*;
use proptest::prelude::*;

/// Numbers that the forger tries. Those of the endpoint are elsewhere, since one in some thousands would be near.
const GUESSES: [u32; 7] = [0, 1, 1000, 1001, 1_000_000, 0x3000_0000, 0x3000_0001];

fn secret() -> impl Strategy<Value = u32> {
    0x5000_0000..0xf000_0000u32
}

#[derive(Clone, Copy, Debug)]
enum Tcp {
    Closed,
    Listen,
    /// It answered a SYN.
    SynReceived {
        sent: u32,
        expects: u32,
    },
    /// It has a connection with somebody who is not the forger.
    Other {
        sent: u32,
        expects: u32,
    },
}

impl Tcp {
    /// What it answers to this segment.
    fn answer(&mut self, forged: &Segment, initial: u32) -> Option<Segment> {
        let Segment { flags, sequence, acknowledgment, .. } = *forged;
        let length = u32::from(flags.syn()) + u32::from(flags.fin()) + u32::from(forged.payload);
        match *self {
            _ if flags.rst() && !matches!(*self, Tcp::SynReceived { .. }) => None,
            Tcp::Closed | Tcp::Listen if flags.ack() => Some(segment(Flags::RST, acknowledgment, 0)),
            Tcp::Closed => Some(segment(Flags::RST | ACK, 0, sequence.wrapping_add(length))),
            Tcp::Listen if flags.syn() => {
                let expects = sequence.wrapping_add(1);
                *self = Tcp::SynReceived { sent: initial.wrapping_add(1), expects };
                Some(segment(SYN | ACK, initial, expects))
            }
            Tcp::Listen => None,
            Tcp::SynReceived { sent, expects } => {
                if flags.rst() {
                    if sequence == expects {
                        *self = Tcp::Listen;
                    }
                    return None;
                }
                if sequence != expects && !(flags.syn() && sequence.wrapping_add(1) == expects) {
                    return Some(segment(ACK, sent, expects));
                }
                if flags.syn() {
                    return Some(segment(SYN | ACK, sent.wrapping_sub(1), expects));
                }
                assert!(!flags.ack() || acknowledgment != sent, "the forger is not blind");
                flags.ack().then(|| segment(Flags::RST, acknowledgment, 0))
            }
            // Neither its numbers nor its acknowledgments are right.
            Tcp::Other { sent, expects } => Some(segment(ACK, sent, expects)),
        }
    }

    /// What it says by itself: another SYN-ACK, or data of its other connection.
    fn speak(self) -> Option<Segment> {
        match self {
            Tcp::Closed | Tcp::Listen => None,
            Tcp::SynReceived { sent, expects } => Some(segment(SYN | ACK, sent.wrapping_sub(1), expects)),
            Tcp::Other { sent, expects } => Some(Segment { payload: true, ..segment(ACK, sent, expects) }),
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    Forge { flags: u8, sequence: usize, acknowledgment: usize, payload: bool },
    Speak,
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let forge = (0u8..32, any::<usize>(), any::<usize>(), any::<bool>());
    let forge = forge.prop_map(|(flags, sequence, acknowledgment, payload)| Move::Forge {
        flags,
        sequence,
        acknowledgment,
        payload,
    });
    let other = prop_oneof![Just(Move::Speak), (0..9_000u64).prop_map(Move::Wait)];
    proptest::collection::vec(prop_oneof![5 => forge, 1 => other], 1..60)
}

fn tcp() -> impl Strategy<Value = Tcp> {
    let other = (secret(), secret()).prop_map(|(sent, expects)| Tcp::Other { sent, expects });
    prop_oneof![1 => Just(Tcp::Closed), 3 => Just(Tcp::Listen), 2 => other]
}

/// The flow as it stands: of all that may go, and short-lived.
fn is_harmless(state: State) {
    assert!(state.eviction_rank().is_some() && state.label() != "established", "{state:?}");
}

fn play_tcp(mut endpoint: Tcp, initial: u32, moves: &[Move]) {
    let mut table = table(4);
    let mut now = 1_000;
    let mut flow: Option<FlowId> = None;
    for step in moves {
        let spoken = match *step {
            Move::Wait(millis) => {
                now += millis;
                None
            }
            Move::Speak => endpoint.speak(),
            Move::Forge { flags, sequence, acknowledgment, payload } => {
                let [sequence, acknowledgment] = [sequence, acknowledgment].map(|n| GUESSES[n % GUESSES.len()]);
                let forged = Segment { payload, ..segment(flags, sequence, acknowledgment) };
                let new = NewFlow { segment: forged, ..masqueraded(Protocol::Tcp, "10.0.0.9:4000") };
                let found = table.lookup(&new.original, millis(now)).map(|(id, _)| id);
                match found {
                    Some(id) if !table.flow(id).reopens(Direction::Original, &forged) => {
                        is_harmless(table.advance(id, Direction::Original, &forged, millis(now)));
                    }
                    // What opens no flow goes nowhere.
                    None if forged.flags.rst() => continue,
                    found => {
                        found.map(|id| table.remove(id, millis(now)));
                        flow = Some(table.open(&new, millis(now)).unwrap().id);
                    }
                }
                endpoint.answer(&forged, initial)
            }
        };
        let Some(id) = flow.filter(|id| table.lookup(&table.flow(*id).original(), millis(now)).is_some()) else {
            continue;
        };
        if let Some(answer) = spoken {
            let before = table.flow(id).state();
            let state = table.advance(id, Direction::Reply, &answer, millis(now));
            is_harmless(state);
            if before == State::PickedUp && answer.flags.rst() {
                assert_eq!(state, State::Closed, "the endpoint knows no such connection");
            }
        }
        is_harmless(table.flow(id).state());
    }
}

#[derive(Clone, Copy, Debug)]
enum Sctp {
    Listen,
    /// It has an association with somebody who is not the forger; the tags to it and from it.
    Other {
        to: u32,
        from: u32,
        shutting_down: bool,
    },
}

fn sctp(chunk: u8, tag: u32, initiate: u32) -> Segment {
    Segment { sequence: tag, acknowledgment: initiate, chunk, ..Segment::default() }
}

impl Sctp {
    fn answer(self, forged: &Segment, own_tag: u32) -> Option<Segment> {
        let Segment { sequence: tag, acknowledgment: initiate, chunk, .. } = *forged;
        match (self, chunk) {
            // SHUTDOWN ACK instead.
            (Sctp::Other { from, shutting_down: true, .. }, 1) => Some(sctp(8, from, 0)),
            (_, 1) => Some(sctp(2, initiate, own_tag)),
            (Sctp::Other { to, .. }, _) => {
                assert_ne!(tag, to, "the forger is not blind");
                None
            }
            // SHUTDOWN COMPLETE; nothing, for what answers nothing; else ABORT.
            (Sctp::Listen, 8) => Some(sctp(14, tag, 0)),
            (Sctp::Listen, 6 | 10 | 11 | 14) => None,
            (Sctp::Listen, _) => Some(sctp(6, tag, 0)),
        }
    }

    /// Data, or a heartbeat.
    fn speak(self, chunk: u8) -> Option<Segment> {
        match self {
            Sctp::Listen => None,
            Sctp::Other { from, .. } => Some(sctp(chunk, from, 0)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_tcp_flow_of_a_forger_stays(endpoint in tcp(), initial in secret(), moves in moves()) {
        play_tcp(endpoint, initial, &moves);
    }

    #[test]
    fn no_sctp_flow_of_a_forger_stays(
        endpoint in prop_oneof![
            Just(Sctp::Listen),
            (secret(), secret(), any::<bool>()).prop_map(|(to, from, shutting_down)| Sctp::Other { to, from, shutting_down }),
        ],
        own_tag in secret(),
        moves in proptest::collection::vec((0u8..16, any::<usize>(), any::<usize>(), 0u8..6), 1..60),
    ) {
        let mut table = table(4);
        let mut flow = None;
        for (chunk, tag, initiate, speaks) in moves {
            let initiate = if matches!(chunk, 1 | 2) { GUESSES[initiate % GUESSES.len()] } else { 0 };
            let forged = sctp(chunk, GUESSES[tag % GUESSES.len()], initiate);
            let new = NewFlow { segment: forged, ..masqueraded(Protocol::Sctp, "10.0.0.9:4000") };
            let id = *flow.get_or_insert_with(|| table.open(&new, seconds(1)).unwrap().id);
            if table.flow(id).packets(Direction::Original) > 1 || table.flow(id).seen(Direction::Reply) {
                is_harmless(table.advance(id, Direction::Original, &forged, seconds(1)));
            }
            if let Some(answer) = endpoint.answer(&forged, own_tag) {
                is_harmless(table.advance(id, Direction::Reply, &answer, seconds(1)));
            }
            if let Some(said) = [0, 4].get(usize::from(speaks)).and_then(|chunk| endpoint.speak(*chunk)) {
                is_harmless(table.advance(id, Direction::Reply, &said, seconds(1)));
            }
        }
    }

    /// However many datagrams it sends and has answered, others need the place more.
    #[test]
    fn no_udp_flow_of_a_forger_stays(moves in proptest::collection::vec((any::<bool>(), 0..5_000u64), 1..60)) {
        let mut table = table(4);
        let id = table.open(&masqueraded(Protocol::Udp, "10.0.0.9:4000"), millis(0)).unwrap().id;
        let (mut now, mut alone, mut since) = (0, true, None);
        for (answered, wait) in moves {
            now += wait;
            let state = table.advance(id, Direction::Original, &Segment::default(), millis(now));
            is_harmless(state);
            prop_assert!(!alone || state == State::UdpUnreplied);
            let long = since.is_some_and(|since| now - since >= 2_000);
            prop_assert_eq!(state == State::UdpReplied, long);
            if answered {
                is_harmless(table.advance(id, Direction::Reply, &Segment::default(), millis(now)));
                (alone, since) = (false, since.or(Some(now)));
            }
        }
    }
}
