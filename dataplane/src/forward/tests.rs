//! Every rewrite and every answer, judged by etherparse.

use proptest::prelude::*;
use ringway_shared::FiveTuple;

use super::nat::{Rewrite, complete_partial, rewrite};
use super::{ANSWER_ROOM, echo, icmp_error, may_answer, reject};
use crate::wire::sample::{L4, Sample, judge, other_ends, samples};
use crate::wire::transport::{ChecksumState, checksum_state, write};
use crate::wire::{Kind, Packet, checksum, icmp, sctp, tcp, udp};

/// Where the L4 checksum is, and how long it is.
fn checksum_field(packet: &Packet) -> std::ops::Range<usize> {
    let (at, length) = match packet.kind {
        Kind::Tcp { .. } => (tcp::CHECKSUM, 2),
        Kind::Udp => (udp::CHECKSUM, 2),
        Kind::Sctp => (sctp::CHECKSUM, 4),
        _ => (icmp::CHECKSUM, 2),
    };
    let at = usize::from(packet.l4) + at;
    at..at + length
}

/// Leaves the checksum as a sender with checksum offload does. ICMP is never partial.
fn make_partial(frame: &mut [u8], packet: &Packet) {
    let field = checksum_field(packet);
    let length = packet.end - packet.l4;
    match packet.kind {
        Kind::Sctp => frame[field].fill(0),
        Kind::Icmp { .. } => {}
        _ => {
            let pseudo = checksum::pseudo_header(&packet.tuple, packet.tuple.ports as u8, length);
            frame[field].copy_from_slice(&pseudo.to_be_bytes());
        }
    }
}

/// The frame cut to what IP says, with room behind it.
fn with_room(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.resize(frame.len().max(ANSWER_ROOM), 0xdd);
    frame
}

fn sample_and_ends() -> impl Strategy<Value = (Sample, FiveTuple)> {
    samples().prop_flat_map(|sample| {
        let to = other_ends(sample.tuple());
        (Just(sample), to)
    })
}

/// The rewrite's target for a packet: an echo request has no ports.
fn target(packet: &Packet, mut to: FiveTuple) -> FiveTuple {
    if matches!(packet.kind, Kind::Icmp { .. }) {
        to.ports &= 0xffff_ffff;
    }
    to
}

proptest! {
    #[test]
    fn a_rewritten_packet_is_right_and_the_inverse_brings_it_back((sample, to) in sample_and_ends()) {
        let before = sample.frame();
        judge(&before).unwrap();
        let mut frame = before.clone();
        let packet = Packet::parse(&frame).unwrap();
        let forth = Rewrite::new(&packet.tuple, target(&packet, to));
        rewrite(&mut frame, &packet, &forth);
        judge(&frame).map_err(TestCaseError::fail)?;

        let after = Packet::parse(&frame).unwrap();
        prop_assert_eq!(after, Packet { tuple: forth.to, ttl: packet.ttl - 1, ..packet });
        let back = Rewrite { to: packet.tuple, delta: forth.delta.inverse() };
        prop_assert_eq!(Rewrite::new(&after.tuple, packet.tuple).to, back.to);
        rewrite(&mut frame, &after, &back);
        judge(&frame).map_err(TestCaseError::fail)?;
        // All but TTL and the sum over it.
        let expected = Sample { ttl: sample.ttl - 2, ..sample }.frame();
        prop_assert_eq!(frame, expected);
    }

    #[test]
    fn a_rewrite_changes_nothing_but_addresses_ports_ttl_and_checksums((sample, to) in sample_and_ends()) {
        let before = sample.frame();
        let mut after = before.clone();
        let packet = Packet::parse(&before).unwrap();
        rewrite(&mut after, &packet, &Rewrite::new(&packet.tuple, target(&packet, to)));
        let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
        let allowed = |at: usize| {
            let ip: &[std::ops::Range<usize>] =
                if sample.source.is_ipv4() { &[8..9, 10..20] } else { &[7..8, 8..40] };
            let ports = if sample.l4 == L4::Echo { 0..0 } else { l4..l4 + 4 };
            ip.iter().any(|range| range.contains(&at.wrapping_sub(l3)))
                || ports.contains(&at)
                || checksum_field(&packet).contains(&at)
        };
        for (at, (old, new)) in before.iter().zip(&after).enumerate() {
            prop_assert!(old == new || allowed(at), "byte {} changed from {:#x} to {:#x}", at, old, new);
        }
    }

    #[test]
    fn a_partial_checksum_is_completed((sample, to) in sample_and_ends()) {
        let whole = sample.frame();
        let packet = Packet::parse(&whole).unwrap();
        let mut frame = whole.clone();
        make_partial(&mut frame, &packet);
        let state = checksum_state(&frame, &packet);
        prop_assert!(matches!(state, ChecksumState::Partial | ChecksumState::Right), "{:?}", state);

        let mut passed = frame.clone();
        let completed = complete_partial(&mut passed, &packet);
        prop_assert_eq!(completed, sample.l4 != L4::Echo);
        prop_assert_eq!(&passed, &whole);

        rewrite(&mut frame, &packet, &Rewrite::new(&packet.tuple, target(&packet, to)));
        judge(&frame).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_and_is_never_answered((sample, to) in sample_and_ends(), damage in 1u8..) {
        let mut frame = sample.frame();
        let packet = Packet::parse(&frame).unwrap();
        let field = checksum_field(&packet);
        frame[field.start] ^= damage;
        // One in 65,536 becomes partial by chance; 0xffff and 0 are one number, and 0 is no UDP checksum.
        let state = checksum_state(&frame, &packet);
        prop_assume!(state == ChecksumState::Wrong);
        prop_assume!(packet.kind != Kind::Udp || frame[field.clone()] != [0, 0]);

        let mut answered = with_room(&frame);
        let untouched = answered.clone();
        prop_assert_eq!(reject::reject(&mut answered, &packet), None);
        prop_assert_eq!(echo::reply(&mut answered, &packet), None);
        let router = if sample.source.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
        prop_assert_eq!(icmp_error::time_exceeded(&mut answered, &packet, router.parse().unwrap()), None);
        prop_assert_eq!(answered, untouched);
        prop_assert!(!complete_partial(&mut frame, &packet));

        let before = frame.clone();
        let forth = Rewrite::new(&packet.tuple, target(&packet, to));
        rewrite(&mut frame, &packet, &forth);
        prop_assert!(judge(&frame).is_err());
        let after = Packet::parse(&frame).unwrap();
        prop_assume!(checksum_state(&frame, &after) == ChecksumState::Wrong);
        rewrite(&mut frame, &after, &Rewrite { to: packet.tuple, delta: forth.delta.inverse() });
        let (is, was) = (&frame[field.clone()], &before[field.clone()]);
        prop_assert!(is == was || (is.iter().all(|byte| *byte == 0) && was.iter().all(|byte| *byte == 0xff)));
    }

    #[test]
    fn udp_without_a_checksum_keeps_none((sample, to) in sample_and_ends()) {
        let sample = Sample { l4: L4::Udp, ..sample };
        let mut frame = sample.frame();
        let packet = Packet::parse(&frame).unwrap();
        let field = checksum_field(&packet);
        frame[field.clone()].fill(0);
        let state = if sample.source.is_ipv4() { ChecksumState::Absent } else { ChecksumState::Wrong };
        prop_assert_eq!(checksum_state(&frame, &packet), state);
        let to = FiveTuple { ports: (to.ports & !0xff) | 17, ..to };
        rewrite(&mut frame, &packet, &Rewrite::new(&packet.tuple, to));
        prop_assert_eq!(&frame[field], &[0, 0]);
        prop_assert_eq!(Packet::parse(&frame).unwrap().tuple, to);
    }

    #[test]
    fn every_answer_is_right(sample in samples(), partial: bool, mtu: u16) {
        let mut frame = sample.frame();
        let whole = frame.clone();
        let packet = Packet::parse(&frame).unwrap();
        if partial {
            make_partial(&mut frame, &packet);
        }
        let router = if sample.source.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
        type Answer<'a> = &'a dyn Fn(&mut [u8]) -> Option<usize>;
        let answers: [(bool, Answer<'_>); 3] = [
            (true, &|frame| reject::reject(frame, &packet)),
            (false, &|frame| icmp_error::time_exceeded(frame, &packet, router)),
            (false, &|frame| icmp_error::too_big(frame, &packet, router, mtu)),
        ];
        for (from_destination, answer) in answers {
            let mut out = with_room(&frame);
            let length = answer(&mut out);
            prop_assert_eq!(length.is_some(), may_answer(&packet));
            let Some(length) = length else { continue };
            out.truncate(length);
            judge(&out).map_err(TestCaseError::fail)?;
            let reply = Packet::parse(&out).unwrap();
            prop_assert_eq!(usize::from(reply.end), length);
            prop_assert_eq!(reply.ttl, 64);
            prop_assert_eq!(reply.tuple.destination, packet.tuple.source);
            if from_destination {
                prop_assert_eq!(reply.tuple.source, packet.tuple.destination);
            } else {
                prop_assert_eq!(reply.tuple.source_address(), router);
            }
            if let Kind::Icmp { class, .. } = reply.kind {
                prop_assert_eq!(class, icmp::Class::Error);
                let quote = &out[usize::from(reply.l4) + icmp::HEADER..];
                prop_assert_eq!(quote, &whole[14..14 + quote.len()]);
                let limit = if sample.source.is_ipv4() { 576 } else { 1280 };
                let room = limit - usize::from(reply.l4 - reply.l3) - icmp::HEADER;
                prop_assert_eq!(quote.len(), room.min(usize::from(packet.ip_length())));
                // An error is never answered.
                prop_assert!(!may_answer(&reply));
            } else {
                prop_assert_eq!(reply.tuple, packet.tuple.reversed());
            }
        }
    }

    #[test]
    fn an_echo_reply_is_the_request_turned_round(sample in samples()) {
        let sample = Sample { l4: L4::Echo, ..sample };
        prop_assume!(sample.source.ip() != sample.destination.ip());
        let mut frame = sample.frame();
        let packet = Packet::parse(&frame).unwrap();
        let message = packet.transport(&frame).unwrap().to_vec();
        let length = echo::reply(&mut frame, &packet).unwrap();
        frame.truncate(length);
        judge(&frame).map_err(TestCaseError::fail)?;
        let reply = Packet::parse(&frame).unwrap();
        prop_assert_eq!(reply.tuple, packet.tuple.reversed());
        prop_assert_eq!(super::class(&frame, &reply), sample.class);
        let icmp_type = if sample.source.is_ipv4() { 0 } else { 129 };
        prop_assert_eq!(reply.kind, Kind::Icmp { class: icmp::Class::Other, icmp_type, code: 0 });
        prop_assert_eq!(&reply.transport(&frame).unwrap()[4..], &message[4..]);
        prop_assert_eq!(echo::reply(&mut frame, &reply), None);
    }
}

#[test]
fn resets_answer_as_rfc_9293_says() {
    // SYN, FIN and payload count; flags, sequence, acknowledgment of the answer.
    const SEQ: u32 = 0x0102_0304;
    const ACK: u32 = 0x0a0b_0c0d;
    let rows = [
        (0x02, "", (0x14, 0, SEQ + 1)),
        (0x02, "fast open", (0x14, 0, SEQ + 10)),
        (0x03, "", (0x14, 0, SEQ + 2)),
        (0x00, "abc", (0x14, 0, SEQ + 3)),
        (0x10, "", (0x04, ACK, 0)),
        (0x12, "", (0x04, ACK, 0)),
        (0x18, "abc", (0x04, ACK, 0)),
        (0x11, "", (0x04, ACK, 0)),
    ];
    for ends in [["10.0.0.2:4242", "172.30.0.41:80"], ["[2001:db8::1]:4242", "[fd00::a]:80"]] {
        for (flags, payload, (answer_flags, sequence, acknowledgment)) in rows {
            let frame =
                Sample { class: 0xff, ..Sample::new(L4::Tcp(flags), ends[0], ends[1], payload.as_bytes()) }.frame();
            let packet = Packet::parse(&frame).unwrap();
            let mut out = with_room(&frame);
            let length = reject::tcp_reset(&mut out, &packet).unwrap();
            assert!(length <= frame.len());
            let reply = Packet::parse(&out[..length]).unwrap();
            let numbers = tcp::numbers(&out, &reply).unwrap();
            assert_eq!(reply.kind, Kind::Tcp { flags: tcp::Flags(answer_flags), payload: false });
            assert_eq!((numbers.sequence, numbers.acknowledgment, numbers.window), (sequence, acknowledgment, 0));
            assert_eq!(super::class(&out, &reply), 0);
            if reply.family() == ringway_shared::Family::V4 {
                assert_eq!(out[18..22], [0, 0, 0x40, 0], "identification 0, DF");
            }
        }
    }
}

#[test]
fn errors_have_their_types_and_the_mtu() {
    for (ends, router, rows) in [
        (["10.0.0.2:4242", "172.30.0.41:80"], "192.0.2.1", [[3, 3, 0, 0], [11, 0, 0, 0], [3, 4, 0x05, 0x78]]),
        (["[2001:db8::1]:4242", "[fd00::a]:80"], "2001:db8::2", [[1, 4, 0, 0], [3, 0, 0, 0], [2, 0, 0x05, 0x78]]),
    ] {
        let frame = Sample::new(L4::Udp, ends[0], ends[1], &[7; 1400]).frame();
        let packet = Packet::parse(&frame).unwrap();
        let router = router.parse().unwrap();
        let mut outs = [const { Vec::new() }; 3].map(|_: Vec<u8>| with_room(&frame));
        assert!(reject::reject(&mut outs[0], &packet).is_some());
        assert!(icmp_error::time_exceeded(&mut outs[1], &packet, router).is_some());
        assert!(icmp_error::too_big(&mut outs[2], &packet, router, 1400).is_some());
        for (out, [icmp_type, code, high, low]) in outs.iter().zip(rows) {
            let reply = Packet::parse(out).unwrap();
            assert_eq!(super::class(out, &reply), 0xc0);
            let header = &reply.transport(out).unwrap()[..8];
            assert_eq!([header[0], header[1]], [icmp_type, code]);
            assert_eq!(header[4..], [0, 0, high, low]);
        }
        // The other family's address cannot be the source.
        let other = if router.is_ipv4() { "::1" } else { "1.1.1.1" }.parse().unwrap();
        assert_eq!(icmp_error::time_exceeded(&mut with_room(&frame), &packet, other), None);
        // With less room the quote is shorter, and without room for the ports there is none.
        let mut tight = frame.clone();
        let length = icmp_error::time_exceeded(&mut tight, &packet, router).unwrap();
        assert!(length <= tight.len());
        judge(&tight[..length]).unwrap();
        let small = Sample::new(L4::Udp, ends[0], ends[1], b"").frame();
        let packet = Packet::parse(&small).unwrap();
        assert_eq!(icmp_error::time_exceeded(&mut small.clone(), &packet, router), None);
    }
}

#[test]
fn some_packets_are_never_answered() {
    let rows: [(Sample, &[(usize, u8)]); 11] = [
        (Sample::new(L4::Tcp(0x04), "10.0.0.2:1", "172.30.0.41:80", b""), &[]),
        (Sample::new(L4::Tcp(0x14), "10.0.0.2:1", "172.30.0.41:80", b""), &[]),
        (Sample::new(L4::Udp, "0.0.0.0:1", "172.30.0.41:80", b""), &[]),
        (Sample::new(L4::Udp, "127.0.0.1:1", "172.30.0.41:80", b""), &[]),
        (Sample::new(L4::Udp, "10.0.0.2:1", "224.0.0.1:80", b""), &[]),
        (Sample::new(L4::Udp, "10.0.0.2:1", "255.255.255.255:80", b""), &[]),
        (Sample::new(L4::Udp, "172.30.0.41:80", "172.30.0.41:80", b""), &[]),
        (Sample::new(L4::Udp, "[::]:1", "[fd00::a]:80", b""), &[]),
        (Sample::new(L4::Udp, "[fd00::1]:1", "[ff02::1]:80", b""), &[]),
        // A link-layer multicast; an ICMP message that is an unknown type.
        (Sample::new(L4::Udp, "10.0.0.2:1", "172.30.0.41:80", b""), &[(0, 3)]),
        (Sample::new(L4::Echo, "10.0.0.2:1", "172.30.0.41:80", b""), &[(34, 19)]),
    ];
    for (sample, changes) in rows {
        let mut frame = sample.frame();
        for (at, value) in changes {
            write(&mut frame, *at, [*value]);
        }
        let packet = Packet::parse(&frame).unwrap();
        assert!(!may_answer(&packet), "{sample:?}");
        assert_eq!(reject::reject(&mut with_room(&frame), &packet), None);
    }
    // A packet that came with TTL 0 is dropped in silence; its time was up before.
    let frame = Sample { ttl: 0, ..Sample::new(L4::Udp, "10.0.0.2:1", "172.30.0.41:80", b"") }.frame();
    let packet = Packet::parse(&frame).unwrap();
    assert_eq!(icmp_error::time_exceeded(&mut with_room(&frame), &packet, "192.0.2.1".parse().unwrap()), None);
}
