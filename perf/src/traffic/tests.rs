use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use ringway_dataplane::wire::Packet;

use super::*;

fn mix(kind: Kind) -> Mix {
    let (client, frontend): (&str, &str) =
        if kind.is_v6() { ("fd00:198::1", "[2001:db8::1]:53") } else { ("198.18.0.1", "192.0.2.1:53") };
    Mix {
        kind,
        flows: 40_000,
        sizes: SizeList::Shortest.of(kind),
        destination_mac: MacAddress([2; 6]),
        source_mac: MacAddress([4; 6]),
        first_client: client.parse().unwrap(),
        destination: frontend.parse().unwrap(),
    }
}

/// Everything that etherparse can say against a frame.
#[track_caller]
fn judge(mix: &Mix, flow: u32, frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(net) = &packet.net else { panic!("no IP: {frame:?}") };
    let tuple = mix.tuple(flow);
    let addresses = match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            (IpAddr::from(header.source), IpAddr::from(header.destination))
        }
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        other => panic!("not IP: {other:?}"),
    };
    assert_eq!(addresses, (tuple.source_address(), tuple.destination_address()));
    let ports = match packet.transport.unwrap() {
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            assert_eq!(usize::from(header.length), frame.len() - mix.kind.l4());
            let expected = match net {
                NetSlice::Ipv6(ip) => {
                    let (from, to) = (ip.header().source_addr().octets(), ip.header().destination_addr().octets());
                    header.calc_checksum_ipv6_raw(from, to, udp.payload()).unwrap()
                }
                _ => 0,
            };
            assert_eq!(header.checksum, expected);
            (header.source_port, header.destination_port)
        }
        TransportSlice::Tcp(tcp) => {
            let (header, payload) = (tcp.to_header(), tcp.payload());
            let expected = match net {
                NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), payload).unwrap(),
                NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), payload).unwrap(),
                other => panic!("not IP: {other:?}"),
            };
            assert_eq!(header.checksum, expected);
            assert_eq!(header.ack, !header.syn);
            (header.source_port, header.destination_port)
        }
        other => panic!("neither TCP nor UDP: {other:?}"),
    };
    assert_eq!(ports, (tuple.source_port(), tuple.destination_port()));
}

#[test]
fn frames_are_right_in_every_kind_and_size() {
    for kind in Kind::ALL {
        let mix = mix(kind);
        let mut frame = [0; LONGEST];
        for (round, size) in (kind.shortest()..=LONGEST).rev().step_by(7).chain([kind.shortest()]).enumerate() {
            let flow = round as u32 * 997 % mix.flows;
            let stamp = Stamp { sequence: round as u64, nanos: 0x0123_4567_89ab_cdef ^ round as u64 };
            let flags = if round % 2 == 0 { SYN } else { PSH_ACK };
            let length = mix.write(flow, size, flags, stamp, &mut frame);
            assert_eq!(length, size);
            judge(&mix, flow, &frame[..length]);
            let expected = (size >= kind.shortest_stamped()).then_some(stamp);
            assert_eq!(Stamp::read(&frame[..length]), expected, "{kind} {size}");
        }
    }
}

#[test]
fn flows_differ_and_ringway_reads_them() {
    for kind in Kind::ALL {
        let mix = mix(kind);
        let mut frame = [0; 128];
        let mut seen = std::collections::HashSet::new();
        for flow in 0..mix.flows {
            let length = mix.write(flow, 0, PSH_ACK, Stamp::default(), &mut frame);
            assert_eq!(length, kind.shortest());
            let packet = Packet::parse(&frame[..length]).unwrap();
            assert_eq!(packet.tuple, mix.tuple(flow));
            assert!(seen.insert(packet.tuple), "{kind}: flow {flow} is another one's");
        }
    }
}

#[test]
fn what_is_no_stamp_is_not_read_as_one() {
    let mix = mix(Kind::Udp4);
    let mut frame = [0; 100];
    mix.write(1, 100, 0, Stamp { sequence: 7, nanos: 8 }, &mut frame);
    assert!(Stamp::read(&frame).is_some());
    assert_eq!(Stamp::read(&frame[..40]), None);
    frame[42] ^= 1;
    assert_eq!(Stamp::read(&frame), None);
}

#[test]
fn sizes_are_read_and_what_is_wrong_is_named() {
    let read = |text: &str| text.parse::<SizeList>();
    assert_eq!(read("60,60,1514").unwrap().of(Kind::Udp4)[..], [60, 60, 1514]);
    assert_eq!(read("shortest").unwrap().of(Kind::Tcp6)[..], [74]);
    let imix = read("imix").unwrap().of(Kind::Tcp4);
    let count = |size| imix.iter().filter(|other| **other == size).count();
    assert_eq!((imix.len(), count(60), count(590), count(1514)), (12, 7, 4, 1));
    for (text, said) in [
        ("59", "\"59\" is no frame length; write shortest, imix, or up to 16 lengths of 60 to 1514, as in 60,60,1514"),
        ("60,big", "\"big\" is no frame length; "),
        ("60,1515", "\"1515\" is no frame length; "),
        ("", "\"\" is no frame length; "),
        (&["60"; 17].join(","), "17 lengths; write "),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(said), "{text}: {error}");
    }
    for list in ["shortest", "imix", "60,1514"] {
        assert_eq!(read(list).unwrap().to_string(), list);
    }
}

#[test]
fn a_mix_that_cannot_be_sent_is_refused() {
    assert_eq!(mix(Kind::Tcp6).check(), Ok(()));
    let said = |mix: Mix| mix.check().unwrap_err().0;
    assert_eq!(
        said(Mix { sizes: SizeList::Shortest.of(Kind::Udp4), ..mix(Kind::Tcp6) }),
        "frames of 60 bytes: the shortest of tcp6 have 74; allowed are 74 to 1514"
    );
    assert_eq!(
        said(Mix { first_client: [10, 0, 0, 1].into(), ..mix(Kind::Udp6) }),
        "the client 10.0.0.1: udp6 takes an IPv6 address"
    );
    assert_eq!(said(Mix { flows: 0, ..mix(Kind::Udp4) }), "0 flows: allowed are 1 to 16777216");
    assert_eq!(
        "tcp5".parse::<Kind>().unwrap_err(),
        "\"tcp5\" is no kind of traffic; allowed are udp4, tcp4, udp6, tcp6"
    );
}
