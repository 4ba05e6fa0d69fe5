//! What is remembered, for how long, and what a forger makes of it.

use super::*;
use proptest::prelude::*;

const SECOND_NS: u64 = 1_000_000_000;

fn hashes(number: u64) -> [u64; 2] {
    let hash = |word: u64| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    [hash(2 * number + 1), hash(2 * number + 2)]
}

fn at(seconds: u64) -> Time {
    Time(seconds * SECOND_NS)
}

fn tcp(flags: u8, sequence_end: u32, acknowledgment: u32) -> Passed {
    Passed { kind: Kind::Tcp { flags: Flags(flags), payload: false }, sequence_end, acknowledgment }
}

fn data(sequence_end: u32, acknowledgment: u32) -> Passed {
    let kind = Kind::Tcp { flags: Flags(Flags::ACK), payload: true };
    Passed { kind, sequence_end, acknowledgment }
}

fn other(kind: Kind) -> Passed {
    Passed { kind, sequence_end: 0, acknowledgment: 0 }
}

impl DirectConnections {
    fn hear(&self, hashes: [u64; 2], packet: Passed, now: Time) -> Noted {
        self.note(hashes, &packet, now, || true)
    }

    /// A whole handshake and an exchange, of which we see everything but the SYN.
    fn converse(&self, [one, other]: [u64; 2], now: Time) {
        self.hear([other, one], tcp(Flags::SYN | Flags::ACK, 501, 101), now);
        self.hear([one, other], tcp(Flags::ACK, 101, 501), now);
        self.hear([one, other], data(200, 501), now);
        self.hear([other, one], tcp(Flags::ACK, 501, 200), now);
    }
}

#[test]
fn both_directions_are_one_connection_that_is_remembered_by_its_evidence() {
    for (number, packet, seconds) in [
        (1, tcp(Flags::SYN | Flags::ACK, 7, 7), 60),
        (2, other(Kind::Udp), 240),
        (3, other(Kind::Sctp), 240),
        (4, tcp(Flags::RST, 7, 7), 240),
        (5, tcp(Flags::ACK, 7, 7), 240),
    ] {
        let direct = DirectConnections::new();
        let [one, other] = hashes(number);
        direct.hear([one, other], packet, at(0));
        assert!(direct.knows([other, one], at(seconds)), "{packet:?}");
        assert!(!direct.knows([other, one], at(seconds + 1)), "{packet:?}");
        direct.hear([other, one], packet, at(seconds));
        assert!(direct.knows([one, other], at(seconds + 1)), "{packet:?} goes on");
        assert!(!direct.knows(hashes(6), at(0)));
    }
}

#[test]
fn a_connection_lasts_when_both_sides_have_acknowledged_each_other() {
    let direct = DirectConnections::new();
    let [one, other] = hashes(1);
    assert_eq!(direct.hear([other, one], tcp(Flags::SYN | Flags::ACK, 501, 101), at(0)), Noted::Unproven);
    assert_eq!(direct.hear([one, other], tcp(Flags::ACK, 101, 501), at(0)), Noted::Known);
    assert_eq!(direct.hear([one, other], data(200, 501), at(0)), Noted::Known);
    // Of something before that.
    assert_eq!(direct.hear([other, one], tcp(Flags::ACK, 501, 199), at(0)), Noted::Known);
    assert_eq!(direct.hear([other, one], data(600, 200), at(1)), Noted::Proven);
    assert!(direct.knows([one, other], at(8_001)));
    assert!(!direct.knows([one, other], at(8_002)));
    // The end is remembered for as long as the endpoint may remember it, and nothing but data brings it back.
    direct.hear([one, other], data(300, 600), at(7_000));
    direct.hear([one, other], tcp(Flags::FIN | Flags::ACK, 301, 600), at(7_000));
    assert_eq!(direct.hear([other, one], tcp(Flags::ACK, 600, 301), at(7_001)), Noted::Known, "nothing is to be seen");
    assert!(direct.knows([one, other], at(7_241)) && !direct.knows([one, other], at(7_242)));
    direct.hear([other, one], data(700, 300), at(7_240));
    direct.hear([one, other], data(400, 700), at(7_240));
    direct.hear([other, one], data(800, 400), at(7_240));
    assert!(direct.knows([one, other], at(7_240 + 8_000)));
}

#[test]
fn what_comes_by_another_interface_shows_nothing() {
    let direct = DirectConnections::new();
    let [one, other] = hashes(1);
    direct.note([other, one], &tcp(Flags::ACK, 501, 101), at(0), || false);
    assert!(direct.knows([one, other], at(60)) && !direct.knows([one, other], at(61)));
    direct.converse([one, other], at(0));
    assert!(direct.knows([one, other], at(8_000)));
    direct.note([other, one], &tcp(Flags::RST, 501, 200), at(5), || false);
    assert!(direct.knows([one, other], at(8_000)), "a reset of a forger");
}

/// Of many connections those that are known.
fn known(direct: &DirectConnections, of: std::ops::Range<u64>, now: Time) -> Vec<u64> {
    of.filter(|number| direct.knows(hashes(*number), now)).collect()
}

/// 400,000 packets of forgers, each of a connection of its own, within three seconds.
fn flood(direct: &DirectConnections, after: u64) {
    for (number, second) in (1_000_000..1_400_000).zip((1..4).cycle()) {
        let packet = match number % 4 {
            0 => tcp(Flags::SYN, 1, 0),
            1 => tcp(Flags::ACK, 1, 1),
            2 => data(100, 100),
            _ => other(Kind::Udp),
        };
        direct.hear(hashes(number), packet, at(after + second));
    }
}

/// Whatever of one side is forged, in whatever number, pushes out nothing that lasts, also where that would be forgotten
/// sooner.
#[test]
fn a_flood_pushes_out_no_connection_that_lasts() {
    for after in [0, 7_890] {
        let direct = DirectConnections::new();
        (0..1_000).for_each(|number| direct.converse(hashes(number), at(0)));
        let before = known(&direct, 0..1_000, at(after + 100));
        assert!(before.len() > 990, "{}", before.len());
        flood(&direct, after);
        assert_eq!(known(&direct, 0..1_000, at(after + 100)), before);
        // And who really begins a connection meanwhile finds a place.
        (500_000..500_500).for_each(|number| direct.converse(hashes(number), at(after + 4)));
        let newcomers = known(&direct, 500_000..500_500, at(after + 300)).len();
        assert!(newcomers > 490, "{newcomers} after {after} s");
    }
}

#[test]
fn connections_that_last_give_way_to_nobody_when_all_places_are_theirs() {
    let direct = DirectConnections::new();
    (0..120_000).for_each(|number| direct.converse(hashes(number), at(0)));
    let before = known(&direct, 0..120_000, at(100));
    assert!(before.len() > WAYS * BUCKETS * 9 / 10, "{}", before.len());
    flood(&direct, 0);
    (500_000..510_000).for_each(|number| direct.converse(hashes(number), at(4)));
    assert!(known(&direct, 0..120_000, at(100)) == before, "one was pushed out");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// A forger of one side says what it likes. The other side answers as RFC 9293 says, with numbers of its own choice,
    /// which the forger does not see.
    #[test]
    fn nothing_that_one_side_forges_lasts(
        secret in 0x5000_0000..0xf000_0000u32,
        listens in any::<bool>(),
        of_client in any::<bool>(),
        moves in proptest::collection::vec((0u8..32, 0usize..5, 0usize..5, any::<bool>(), 0u64..300), 1..80),
    ) {
        const GUESSES: [u32; 5] = [0, 1, 1000, 1001, 0x3000_0000];
        let direct = DirectConnections::new();
        let [forger, honest] = if of_client { hashes(1) } else { let [one, other] = hashes(1); [other, one] };
        let (mut now, mut expects) = (0, None);
        for (flags, sequence, acknowledgment, payload, wait) in moves {
            now += wait;
            let (sequence, acknowledgment) = (GUESSES[sequence], GUESSES[acknowledgment]);
            let length = u32::from(flags & Flags::SYN != 0) + u32::from(flags & Flags::FIN != 0) + u32::from(payload) * 9;
            let kind = Kind::Tcp { flags: Flags(flags), payload };
            let forged = Passed { kind, sequence_end: sequence.wrapping_add(length), acknowledgment };
            prop_assert_ne!(direct.hear([forger, honest], forged, at(now)), Noted::Proven);
            let answer = match (flags & Flags::RST != 0, flags & Flags::SYN != 0, flags & Flags::ACK != 0, expects) {
                (true, ..) => None,
                (_, true, false, None) if listens => {
                    expects = Some(sequence + 1);
                    Some(tcp(Flags::SYN | Flags::ACK, secret, sequence + 1))
                }
                // It knows of a SYN: whatever else does not fit is told where it stands.
                (_, _, false, Some(expects)) => Some(tcp(Flags::ACK, secret, expects)),
                (_, _, true, Some(expects)) if sequence != expects => Some(tcp(Flags::ACK, secret, expects)),
                (_, _, true, _) => Some(tcp(Flags::RST, acknowledgment, 0)),
                _ => Some(tcp(Flags::RST | Flags::ACK, 0, sequence.wrapping_add(length))),
            };
            if let Some(answer) = answer {
                prop_assert_ne!(direct.hear([honest, forger], answer, at(now)), Noted::Proven);
            }
            prop_assert!(!direct.knows([forger, honest], at(now + 241)));
        }
    }
}
