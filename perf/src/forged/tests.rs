use std::collections::HashSet;

use ringway_dataplane::wire::{Packet, Refusal};
use ringway_shared::{DropReason, FiveTuple};

use super::headers::{CHAIN, ICMP_V4};
use super::*;

fn aim(is_v6: bool, is_about: bool) -> Aim {
    let [from, to, about] = match is_v6 {
        true => ["fd00:100::fff0", "[2001:db8::1]:53", "[fd00:10::1]:5353"],
        false => ["100.64.255.240", "192.0.2.1:53", "10.0.0.1:5353"],
    };
    Aim {
        destination_mac: MacAddress([2; 6]),
        source_mac: MacAddress([4; 6]),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        about: is_about.then(|| about.parse().unwrap()),
    }
}

/// All that there are, in both families.
fn floods() -> Vec<(Forgery, bool, Flood)> {
    let all = Forgery::ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]);
    all.filter(|(kind, is_v6)| *is_v6 || *kind != Forgery::LongChain)
        .map(|(kind, is_v6)| (kind, is_v6, Flood::new(kind, &aim(is_v6, kind.is_about())).unwrap()))
        .collect()
}

/// The sum of L4 with its pseudo-header: nothing but ones, when the checksum is right.
fn sum_of_l4(frame: &[u8], is_v6: bool, kind: Forgery) -> u16 {
    let (l4, end, pseudo) = match is_v6 {
        false => (34, 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])), [(26, 4), (30, 4)]),
        true => (54, 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]])), [(22, 16), (38, 16)]),
    };
    let (l4, protocol) = match (kind, is_v6) {
        (Forgery::LongChain, _) => (l4 + CHAIN * 8, 17),
        (_, false) => (l4, frame[23]),
        (_, true) => (l4, frame[20]),
    };
    let mut sum = u64::from(checksum::sum(&frame[l4..end]));
    if protocol != ICMP_V4 {
        sum += u64::from(protocol) + (end - l4) as u64;
        sum += pseudo.iter().map(|(at, length)| u64::from(checksum::sum(&frame[*at..at + length]))).sum::<u64>();
    }
    checksum::fold(sum)
}

#[test]
fn every_frame_of_a_flood_is_right_and_none_is_the_other() {
    for (kind, is_v6, flood) in floods() {
        let mut frames = HashSet::new();
        for number in [0, 1, 15, 16, 255, 4_095, 4_096, 65_534, 65_535, 65_536, 1_000_003, u32::MAX] {
            let mut frame = [0; LONGEST];
            let length = flood.write(number, &mut frame);
            let frame = &frame[..length];
            let context = format!("{kind} {number} {frame:x?}");
            if !is_v6 {
                assert_eq!(checksum::sum(&frame[14..34]), 0xffff, "{context}");
            }
            let is_fragment = matches!(kind, Forgery::LaterFragment | Forgery::FirstFragment);
            let has_sum = !is_fragment && (is_v6 || kind != Forgery::Datagram);
            if has_sum {
                assert_eq!(sum_of_l4(frame, is_v6, kind), 0xffff, "{context}");
            }
            let is_error = matches!(kind, Forgery::Error | Forgery::ErrorFromInside | Forgery::ErrorOutsideWindow);
            if is_error && !is_v6 {
                assert_eq!(checksum::sum(&frame[42..62]), 0xffff, "{context}");
            }
            match Packet::parse(frame) {
                Ok(packet) => {
                    assert_eq!(packet.objection, None, "{context}");
                    assert_eq!(packet.fragment.is_some(), is_fragment, "{context}");
                    assert_eq!(packet.tuple.destination_address(), aim(is_v6, false).to.ip(), "{context}");
                }
                Err(Refusal::Invalid(invalid)) if kind == Forgery::LongChain => {
                    assert_eq!(invalid.reason, DropReason::ExtensionChainTooLong, "{context}");
                }
                Err(_) => panic!("{context}"),
            }
            frames.insert(frame.to_vec());
        }
        // Errors vary by the first number alone, and so do pings and chains.
        assert!(frames.len() >= 7, "{kind}: {} frames", frames.len());
    }
}

#[test]
fn an_error_is_about_what_the_frontend_sent() {
    for (kind, is_v6, flood) in floods() {
        let mut frame = [0; LONGEST];
        flood.write(3, &mut frame);
        if kind != Forgery::ErrorFromInside {
            continue;
        }
        let (at, ports) = if is_v6 { (70, 102) } else { (54, 62) };
        let inner = if is_v6 { &frame[at..at + 32] } else { &frame[at..at + 8] };
        let about = aim(is_v6, true).about.unwrap();
        let tuple = FiveTuple::new(kind.protocol(), aim(is_v6, true).to, about);
        let octets: Vec<u8> = [tuple.source_address(), tuple.destination_address()]
            .iter()
            .flat_map(|address| match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            })
            .collect();
        assert_eq!(inner, octets, "{kind}");
        // The third port after the first one.
        assert_eq!(frame[ports..ports + 4], [0, 56, (5353_u16 >> 8) as u8, (5353_u16 & 0xff) as u8], "{kind}");
    }
}

#[test]
fn what_cannot_be_forged_is_refused_with_the_reason() {
    let refused = |kind: Forgery, aim: &Aim| Flood::new(kind, aim).expect_err("refused").0;
    assert_eq!(
        refused(Forgery::LongChain, &aim(false, false)),
        "long-chain to 192.0.2.1:53: IPv4 has no extension headers; give a frontend of IPv6"
    );
    assert_eq!(
        refused(Forgery::ErrorFromInside, &aim(false, false)),
        "error-from-inside is about a packet of 192.0.2.1:53 to an address that you have to give (--about ADDRESS:PORT)"
    );
    let mixed = Aim { from: aim(true, false).from, ..aim(false, false) };
    assert_eq!(
        refused(Forgery::Syn, &mixed),
        "the source fd00:100::fff0 and the frontend 192.0.2.1:53 are of two families"
    );
}
