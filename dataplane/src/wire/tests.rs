//! The parser against etherparse's packets, broken headers and noise.

use std::net::IpAddr;

use proptest::prelude::*;
use ringway_shared::{DropReason, Family, Frontend, MacAddress, Protocol};

use super::sample::{L4, Sample, samples};
use super::{Fragment, Kind, Packet, Refusal, checksum, icmp, tcp};

proptest! {
    #[test]
    fn a_valid_packet_is_read_as_it_was_built(sample in samples()) {
        let frame = sample.frame();
        let packet = Packet::parse(&frame).unwrap();
        prop_assert_eq!(packet.tuple, sample.tuple());
        prop_assert_eq!(packet.family(), Family::of(sample.source.ip()));
        prop_assert_eq!(packet.ttl, sample.ttl);
        prop_assert_eq!(packet.fragment, None);
        prop_assert_eq!(packet.objection, None);
        prop_assert_eq!(packet.destination_mac, MacAddress([2, 0, 0, 0, 0, 2]));
        prop_assert_eq!(packet.source_mac, MacAddress([2, 0, 0, 0, 0, 1]));
        prop_assert_eq!(packet.l3, 14);
        prop_assert_eq!(usize::from(packet.end), frame.len() - sample.padding);
        prop_assert_eq!(packet.ip_length(), packet.end - 14);
        let (kind, header) = match sample.l4 {
            L4::Tcp(flags) => (Kind::Tcp { flags: tcp::Flags(flags), payload: !sample.payload.is_empty() }, 24),
            L4::Udp => (Kind::Udp, 8),
            L4::Sctp => (Kind::Sctp, 12),
            L4::Echo => {
                let icmp_type = if sample.source.is_ipv4() { 8 } else { 128 };
                (Kind::Icmp { class: icmp::Class::EchoRequest, icmp_type, code: 0 }, 8)
            }
        };
        prop_assert_eq!(packet.kind, kind);
        prop_assert_eq!(&packet.transport(&frame).unwrap()[header..], sample.payload.as_slice());
    }

    #[test]
    fn a_cut_packet_is_truncated_or_shows_no_address(sample in samples(), cut in 0.0f64..1.0) {
        let frame = sample.frame();
        let whole = usize::from(Packet::parse(&frame).unwrap().end);
        let length = (whole as f64 * cut) as usize;
        let (needed, truncated) =
            if sample.source.is_ipv4() { (34, DropReason::TruncatedIpv4) } else { (54, DropReason::TruncatedIpv6) };
        match Packet::parse(&frame[..length]) {
            Err(Refusal::Foreign) => prop_assert!(length < needed),
            Err(Refusal::Invalid(invalid)) => {
                prop_assert!(length >= needed);
                prop_assert_eq!(invalid.reason, truncated);
                prop_assert_eq!(invalid.source, sample.source.ip());
                prop_assert_eq!(invalid.destination, sample.destination.ip());
                prop_assert_eq!(invalid.destination_mac, MacAddress([2, 0, 0, 0, 0, 2]));
                prop_assert!(invalid.tuple.is_none_or(|tuple| tuple == sample.tuple()));
            }
            Ok(packet) => prop_assert!(false, "{:?} from {} of {} bytes", packet, length, whole),
        }
    }
}

pub(super) const CLIENT: &str = "10.0.0.2:4242";
pub(super) const VIP: &str = "172.30.0.41:80";
pub(super) const CLIENT6: &str = "[2001:db8::1]:4242";
pub(super) const VIP6: &str = "[fd00::a]:80";

/// Sets bytes, with the IPv4 header checksum made right again.
fn changed(mut frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for (at, value) in changes {
        frame[*at] = *value;
    }
    if frame[12] == 8 {
        fix(&mut frame);
    }
    frame
}

/// Makes the IPv4 header checksum right.
pub(super) fn fix(frame: &mut [u8]) {
    let end = (14 + usize::from(frame[14] & 0xf) * 4).min(frame.len());
    frame[24..26].fill(0);
    let sum = checksum::checksum(&frame[14..end]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

fn v4(l4: L4) -> Vec<u8> {
    Sample::new(l4, CLIENT, VIP, b"0123456789").frame()
}

fn v6(l4: L4) -> Vec<u8> {
    Sample::new(l4, CLIENT6, VIP6, b"0123456789").frame()
}

/// A UDP packet to the VIP with these extension headers of `size` bytes each, all of type `next`.
fn chain(next: u8, count: usize, header: &[u8]) -> Vec<u8> {
    let plain = v6(L4::Udp);
    let (fixed, payload) = plain.split_at(54);
    let mut frame = fixed.to_vec();
    frame[20] = next;
    for left in (0..count).rev() {
        frame.push(if left == 0 { 17 } else { next });
        frame.extend(header);
    }
    frame.extend(payload);
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame
}

#[test]
fn broken_packets_have_their_reasons() {
    use DropReason::*;
    const TCP: L4 = L4::Tcp(0x10);
    let nops = |frame: Sample| Sample { extras: 1, ..frame }.frame();
    let options = nops(Sample::new(TCP, CLIENT, VIP, b""));
    // Name, frame, reason, whether the ports can be read all the same.
    let rows = [
        ("version 5", changed(v4(TCP), &[(14, 0x55)]), InvalidIpv4Header, false),
        ("header of 4 words", changed(v4(TCP), &[(14, 0x44)]), InvalidIpv4Header, false),
        ("header longer than the packet", changed(v4(TCP), &[(14, 0x4a), (17, 39)]), InvalidIpv4Header, false),
        ("header longer than the frame", changed(v4(TCP)[..50].to_vec(), &[(14, 0x4a)]), TruncatedIpv4, false),
        ("total length 19", changed(v4(TCP), &[(16, 0), (17, 19)]), InvalidIpv4Header, false),
        ("total length 65535", changed(v4(TCP), &[(16, 0xff), (17, 0xff)]), TruncatedIpv4, true),
        (
            "checksum",
            {
                let mut f = v4(TCP);
                f[24] ^= 1;
                f
            },
            Ipv4HeaderChecksum,
            true,
        ),
        ("option of length 0", changed(options.clone(), &[(34, 7), (35, 0)]), InvalidIpv4Header, true),
        ("option of length 1", changed(options.clone(), &[(34, 7), (35, 1)]), InvalidIpv4Header, true),
        ("option longer than the header", changed(options.clone(), &[(34, 7), (35, 5)]), InvalidIpv4Header, true),
        ("option without a length", changed(options, &[(37, 7)]), InvalidIpv4Header, true),
        ("TCP of 3 bytes", changed(v4(TCP), &[(17, 23)]), TruncatedTcp, false),
        ("TCP of 19 bytes", changed(v4(TCP), &[(17, 39)]), TruncatedTcp, true),
        ("TCP data offset 4", changed(v4(TCP), &[(46, 0x40)]), InvalidTcpHeader, true),
        ("TCP data offset 15", changed(v4(TCP), &[(46, 0xf0)]), InvalidTcpHeader, true),
        ("UDP of 0 bytes", changed(v4(L4::Udp), &[(17, 20)]), TruncatedUdp, false),
        ("UDP of 7 bytes", changed(v4(L4::Udp), &[(17, 27)]), TruncatedUdp, true),
        ("UDP length 7", changed(v4(L4::Udp), &[(39, 7)]), InvalidUdpLength, true),
        ("UDP length 19", changed(v4(L4::Udp), &[(39, 19)]), InvalidUdpLength, true),
        ("SCTP of 11 bytes", changed(v4(L4::Sctp), &[(17, 31)]), TruncatedSctp, true),
        ("ICMP of 7 bytes", changed(v4(L4::Echo), &[(17, 27)]), TruncatedIcmp, false),
        ("IPv6 version 4", changed(v6(TCP), &[(14, 0x40)]), InvalidIpv6Header, false),
        ("IPv6 payload length too large", changed(v6(TCP), &[(18, 1)]), TruncatedIpv6, true),
        ("IPv6 TCP of 19 bytes", changed(v6(TCP), &[(19, 19)]), TruncatedTcp, true),
        ("IPv6 TCP data offset 0", changed(v6(TCP), &[(66, 0)]), InvalidTcpHeader, true),
        ("IPv6 UDP of 7 bytes", changed(v6(L4::Udp), &[(19, 7)]), TruncatedUdp, true),
        ("IPv6 UDP length 0", changed(v6(L4::Udp), &[(58, 0), (59, 0)]), InvalidUdpLength, true),
        ("IPv6 SCTP of 4 bytes", changed(v6(L4::Sctp), &[(19, 4)]), TruncatedSctp, true),
        ("ICMPv6 of 0 bytes", changed(v6(L4::Echo), &[(19, 0)]), TruncatedIcmp, false),
        ("extension header past the payload", changed(chain(60, 1, &[0; 7]), &[(55, 9)]), TruncatedIpv6, false),
        ("extension header cut", changed(chain(60, 1, &[0; 7]), &[(19, 7)]), TruncatedIpv6, false),
        ("9 extension headers", chain(60, 9, &[0; 7]), ExtensionChainTooLong, false),
        ("9 hop-by-hop headers", chain(0, 9, &[0; 7]), ExtensionChainTooLong, false),
    ];
    for (name, frame, reason, readable) in rows {
        let Err(Refusal::Invalid(invalid)) = Packet::parse(&frame) else {
            panic!("{name}: {:?}", Packet::parse(&frame));
        };
        assert_eq!(invalid.reason, reason, "{name}");
        let v4 = invalid.source.is_ipv4();
        let (source, vip): (IpAddr, IpAddr) = if v4 {
            ("10.0.0.2".parse().unwrap(), "172.30.0.41".parse().unwrap())
        } else {
            ("2001:db8::1".parse().unwrap(), "fd00::a".parse().unwrap())
        };
        assert_eq!((invalid.source, invalid.destination), (source, vip), "{name}");
        let frontend = invalid.frontend().map(|Frontend { address, port, .. }| (address, port));
        assert_eq!(frontend, readable.then_some((vip, 80)), "{name}");
        assert!(invalid.tuple.is_none_or(|tuple| tuple.source_port() == 4242), "{name}");
    }
}

#[test]
fn frames_of_others_are_foreign() {
    let arp = [vec![0xff; 12], vec![8, 6], vec![0; 46]].concat();
    let vlan = [v4(L4::Udp)[..12].to_vec(), vec![0x81, 0, 0, 5], v4(L4::Udp)[12..].to_vec()].concat();
    let qinq = [v4(L4::Udp)[..12].to_vec(), vec![0x88, 0xa8, 0, 5], v4(L4::Udp)[12..].to_vec()].concat();
    let length = [vec![2; 12], vec![0, 60], vec![0; 60]].concat();
    for frame in [vec![], vec![0; 13], vec![0; 14], arp, vlan, qinq, length, v4(L4::Udp)[..33].to_vec()] {
        assert_eq!(Packet::parse(&frame), Err(Refusal::Foreign));
    }
    assert_eq!(Packet::parse(&v6(L4::Udp)[..53]), Err(Refusal::Foreign));
}

#[test]
fn sources_that_cannot_be_and_source_routes_are_objected_to() {
    use DropReason::*;
    let from = |source: &str| {
        let vip = if source.starts_with('[') { VIP6 } else { VIP };
        Sample::new(L4::Udp, source, vip, b"").frame()
    };
    let option = |words: u8, bytes: &[(usize, u8)]| {
        changed(Sample { extras: words, ..Sample::new(L4::Udp, CLIENT, VIP, b"") }.frame(), bytes)
    };
    let rows = [
        (from(CLIENT), None),
        (from("0.0.0.0:1"), Some(ImpossibleSource)),
        (from("0.1.2.3:1"), Some(ImpossibleSource)),
        (from("1.0.0.0:1"), None),
        (from("127.0.0.1:1"), Some(ImpossibleSource)),
        (from("127.255.255.254:1"), Some(ImpossibleSource)),
        (from("128.0.0.1:1"), None),
        (from("223.255.255.255:1"), None),
        (from("224.0.0.1:1"), Some(ImpossibleSource)),
        (from("239.255.255.255:1"), Some(ImpossibleSource)),
        (from("240.0.0.1:1"), None),
        (from("255.255.255.255:1"), Some(ImpossibleSource)),
        (from("172.30.0.41:80"), Some(Land)),
        (from("172.30.0.41:81"), None),
        (from("[::]:1"), Some(ImpossibleSource)),
        (from("[::1]:1"), Some(ImpossibleSource)),
        (from("[::2]:1"), None),
        (from("[::ffff:10.0.0.2]:1"), Some(ImpossibleSource)),
        (from("[ff02::1]:1"), Some(ImpossibleSource)),
        (from("[fe7f::1]:1"), None),
        (from("[fe80::1]:1"), Some(ImpossibleSource)),
        (from("[febf::1]:1"), Some(ImpossibleSource)),
        (from("[fec0::1]:1"), None),
        (from("[fd00::a]:80"), Some(Land)),
        (from("[fd00::a]:81"), None),
        (Sample::new(L4::Echo, "172.30.0.41:80", "172.30.0.41:81", b"").frame(), Some(Land)),
        // Loose and strict source routes, also behind another option; record route is none; nothing counts behind the end.
        (option(1, &[(34, 131), (35, 3), (36, 4)]), Some(SourceRouted)),
        (option(1, &[(34, 137), (35, 3), (36, 4)]), Some(SourceRouted)),
        (option(2, &[(34, 7), (35, 3), (36, 4), (37, 1), (38, 131)]), Some(SourceRouted)),
        (option(2, &[(34, 7), (35, 7), (36, 4)]), None),
        (option(2, &[(34, 0), (35, 131)]), None),
        (option(1, &[(34, 148), (35, 4)]), None),
        // Routing headers: type 0, with segments and used up; type 4 used up, and not.
        (chain(43, 1, &[0, 0, 1, 0, 0, 0, 0]), Some(SourceRouted)),
        (chain(43, 1, &[0, 0, 0, 0, 0, 0, 0]), Some(SourceRouted)),
        (chain(43, 1, &[0, 4, 0, 0, 0, 0, 0]), None),
        (chain(43, 1, &[0, 4, 1, 0, 0, 0, 0]), Some(SourceRouted)),
    ];
    for (index, (frame, objection)) in rows.into_iter().enumerate() {
        assert_eq!(Packet::parse(&frame).unwrap().objection, objection, "row {index}");
    }
}

#[test]
fn extension_headers_are_followed_to_l4() {
    for (count, l4) in [(1, 62), (8, 118)] {
        let frame = chain(60, count, &[0; 7]);
        let packet = Packet::parse(&frame).unwrap();
        assert_eq!((packet.l4, packet.kind), (l4, Kind::Udp));
        assert_eq!(packet.tuple, Packet::parse(&v6(L4::Udp)).unwrap().tuple);
    }
    // Authentication, ESP and "no next header" end the chain.
    for next in [50, 51, 59, 1] {
        let packet = Packet::parse(&changed(v6(L4::Udp), &[(20, next)])).unwrap();
        assert_eq!((packet.kind, packet.tuple.ports), (Kind::Other(next), 0x100 | u64::from(next)));
    }
    let packet = Packet::parse(&changed(v4(L4::Udp), &[(23, 58)])).unwrap();
    assert_eq!((packet.kind, packet.tuple.ports), (Kind::Other(58), 58));
}

#[test]
fn fragments_are_told_from_whole_packets() {
    let at = |offset, more| Some(Fragment { offset, more, identification: 7 });
    let later = Kind::LaterFragment { protocol: 17 };
    for (flags, low, fragment, kind) in [
        (0x40, 0, None, Kind::Udp),
        (0x20, 0, at(0, true), Kind::Udp),
        (0x20, 1, at(8, true), later),
        (0x00, 185, at(1480, false), later),
        (0x1f, 0xff, at(65528, false), later),
    ] {
        let packet = Packet::parse(&changed(v4(L4::Udp), &[(20, flags), (21, low)])).unwrap();
        assert_eq!((packet.fragment, packet.kind), (fragment, kind));
        let port = if kind == later { 0 } else { 80 };
        assert_eq!(packet.tuple.destination_port(), port);
    }
    let six = |high, low| Packet::parse(&chain(44, 1, &[0, high, low, 1, 2, 3, 4])).unwrap();
    let at = |offset, more| Some(Fragment { offset, more, identification: 0x0102_0304 });
    assert_eq!((six(0, 0).fragment, six(0, 0).kind), (None, Kind::Udp));
    assert_eq!((six(0, 1).fragment, six(0, 1).kind), (at(0, true), Kind::Udp));
    assert_eq!((six(0, 9).fragment, six(0, 9).kind), (at(8, true), later));
    assert_eq!((six(0xff, 0xf8).fragment, six(0xff, 0xf8).kind), (at(65528, false), later));
    // The first fragment of a larger datagram: the UDP length reaches past it.
    let first = changed(v4(L4::Udp), &[(20, 0x20), (38, 9)]);
    assert_eq!(Packet::parse(&first).unwrap().kind, Kind::Udp);
}

#[test]
fn icmp_messages_have_their_class() {
    use icmp::Class::*;
    for (icmp_type, code, class) in [
        (8, 0, EchoRequest),
        (8, 1, Other),
        (0, 0, Other),
        (3, 4, Error),
        (5, 0, Error),
        (11, 0, Error),
        (13, 0, Other),
    ] {
        let packet = Packet::parse(&changed(v4(L4::Echo), &[(34, icmp_type), (35, code)])).unwrap();
        assert_eq!(packet.kind, Kind::Icmp { class, icmp_type, code });
    }
    for (icmp_type, class) in [
        (128, EchoRequest),
        (129, Other),
        (1, Error),
        (2, Error),
        (127, Error),
        (132, Other),
        (133, Discovery),
        (135, Discovery),
        (137, Discovery),
        (138, Other),
    ] {
        let packet = Packet::parse(&changed(v6(L4::Echo), &[(54, icmp_type)])).unwrap();
        assert_eq!(packet.kind, Kind::Icmp { class, icmp_type, code: 0 });
    }
}

#[test]
fn a_packet_longer_than_offsets_can_say_is_refused() {
    let mut frame = Sample::new(L4::Udp, CLIENT, VIP, &[0; 65_490]).frame();
    assert_eq!(usize::from(Packet::parse(&frame).unwrap().end), frame.len());
    frame.resize(14 + 65_535, 0);
    let frame = changed(frame, &[(16, 0xff), (17, 0xff)]);
    let Err(Refusal::Invalid(invalid)) = Packet::parse(&frame) else { panic!("{:?}", Packet::parse(&frame)) };
    assert_eq!(invalid.reason, DropReason::TooBig);
    assert_eq!(invalid.frontend().map(|frontend| frontend.protocol), Some(Protocol::Udp));
}
