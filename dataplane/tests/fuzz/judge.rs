//! What must hold of a packet that left, whatever it was: only what a router and its NAT may change has changed, and every
//! checksum is as good as before. Sums are those of `bed/sums.rs`, which are as plain as their definitions.

use ringway_dataplane::io::memory::Sent;
use ringway_dataplane::wire::transport::{ChecksumState, checksum_state};
use ringway_dataplane::wire::{Kind, Packet};
use ringway_shared::{Family, InterfaceId};

use crate::bed::{DOWN, NARROW, fragments, own_mac, sums};
use crate::frames::unwrapped;

/// Where the L4 checksum stands, of protocols whose sum covers the addresses.
fn sum_at(protocol: u8) -> Option<usize> {
    match protocol {
        6 => Some(16),
        17 => Some(6),
        1 | 58 => Some(2),
        _ => None,
    }
}

/// How far an L4 checksum is from being right: what an adjustment must leave as it is. `length` is that of all of L4, of
/// which `segment` may be the beginning.
fn distance(addresses: &[u8], protocol: u8, segment: &[u8], length: usize) -> u16 {
    let pseudo = match protocol {
        1 => 0,
        _ => sums::sum(&[addresses, &[0, protocol], &(length as u16).to_be_bytes()]),
    };
    sums::add(pseudo, sums::sum(&[segment])) % 0xffff
}

fn addresses(ip: &[u8]) -> &[u8] {
    if ip[0] >> 4 == 4 { &ip[12..20] } else { &ip[8..40] }
}

/// A packet for the kernel: as it came, but for a checksum that its sender had left to the hardware.
pub(crate) fn passed(before: &[u8], after: &[u8]) {
    if before == after {
        return;
    }
    let packet = Packet::parse(before).expect("a packet for the kernel is changed, and cannot even be read");
    assert_eq!(checksum_state(before, &packet), ChecksumState::Partial, "a packet for the kernel is changed");
    let (at, length) = match packet.kind {
        Kind::Tcp { .. } => (16, 2),
        Kind::Udp => (6, 2),
        Kind::Sctp => (8, 4),
        _ => panic!("a packet for the kernel is changed"),
    };
    let mut expected = before.to_vec();
    let field = usize::from(packet.l4) + at..usize::from(packet.l4) + at + length;
    expected[field.clone()].copy_from_slice(&after[field]);
    assert!(expected == after, "a packet for the kernel has more than its checksum changed");
    let read = Packet::parse(after).expect("it is still one");
    assert_eq!(checksum_state(after, &read), ChecksumState::Right, "a checksum for the kernel is wrong");
}

/// What is true of every frame that leaves.
fn departed(sent: &Sent) -> Packet {
    let packet = Packet::parse(&sent.bytes).expect("what leaves can be read");
    assert_eq!(usize::from(packet.end), sent.bytes.len(), "padding left");
    assert_ne!(sent.out, DOWN, "left by an interface that is down");
    let mtu = if sent.out == NARROW { 1280 } else { 1500 };
    assert!(packet.ip_length() <= mtu, "larger than the way out: {}", packet.ip_length());
    assert_eq!(packet.source_mac, own_mac(sent.out), "the source MAC");
    assert!(packet.destination_mac.0[0] & 1 == 0, "left for a group");
    if packet.family() == Family::V4 {
        let header = &sent.bytes[14..14 + usize::from(sent.bytes[14] & 15) * 4];
        assert_eq!(sums::sum(&[header]), 0xffff, "the IPv4 header's checksum");
    }
    packet
}

/// An answer of ours.
pub(crate) fn replied(before: &[u8], sent: &[Sent]) {
    let [sent] = sent else { panic!("{} answers", sent.len()) };
    let packet = departed(sent);
    let ip = &sent.bytes[14..];
    let l4 = usize::from(packet.l4);
    let segment = &sent.bytes[l4..];
    let protocol = packet.tuple.ports as u8;
    let protocol = if let Kind::Icmp { .. } = packet.kind { [1, 58][usize::from(ip[0] >> 4 == 6)] } else { protocol };
    assert_eq!(distance(addresses(ip), protocol, segment, segment.len()), 0, "an answer's checksum");
    let asked = Packet::parse(before).expect("only what can be read is answered");
    assert!(asked.fragment.is_none_or(|fragment| fragment.offset == 0), "a later fragment was answered");
    assert!(asked.objection.is_none(), "an impossible source was answered");
    assert_eq!(packet.tuple.destination_address(), asked.tuple.source_address(), "an answer for somebody else");
    let is_error = |kind: &Kind| match (packet.family(), kind) {
        (Family::V4, Kind::Icmp { icmp_type, .. }) => matches!(icmp_type, 3 | 4 | 5 | 11 | 12),
        (Family::V6, Kind::Icmp { icmp_type, .. }) => *icmp_type < 128,
        _ => false,
    };
    assert!(!is_error(&asked.kind), "an error was answered");
    assert!(!matches!(asked.kind, Kind::Tcp { flags, .. } if flags.0 & 4 != 0), "a RST was answered");
    if checksum_state(before, &asked) == ChecksumState::Wrong {
        panic!("a packet with a wrong checksum was answered");
    }
    if is_error(&packet.kind) {
        let most = if packet.family() == Family::V4 { 576 } else { 1280 };
        assert!(ip.len() <= most, "an error of {} bytes", ip.len());
    }
}

/// A packet that was sent on, whole or as fragments.
pub(crate) fn forwarded(before: &[u8], out: InterfaceId, sent: &[Sent]) {
    assert!(!sent.is_empty(), "sent on, but nothing left");
    for sent in sent {
        departed(sent);
        assert_eq!(sent.out, out, "the way out");
    }
    let whole = match sent {
        [one] => one.bytes.clone(),
        pieces => fragments::joined(pieces.iter().map(|sent| &*sent.bytes)),
    };
    let was = Packet::parse(before).expect("only what can be read is sent on");
    assert!(was.objection.is_none(), "an impossible source was sent on");
    if let (Kind::Icmp { .. }, [sent]) = (was.kind, sent)
        && is_about_a_tunnel(before, &was)
    {
        return told_of_the_tunnel(before, sent);
    }
    // One that is tunnelled already may be wrapped once more.
    let inside = unwrapped(&whole).filter(|_| !matches!(was.kind, Kind::Other(_)));
    let cut = sent.len() > 1 && inside.is_none();
    let after = inside.unwrap_or(whole);
    let before = &before[..usize::from(was.end)];
    assert_eq!(after.len(), before.len(), "its length");
    let mut expected = before.to_vec();
    if cut && was.family() == Family::V4 {
        // The reserved flag is not kept by pieces. Of a packet in a tunnel it is the outer one that they are of.
        expected[20] &= 0x7f;
    }
    let mut may_change = |from: usize, length: usize| {
        if let (Some(place), Some(bytes)) = (expected.get_mut(from..from + length), after.get(from..from + length)) {
            place.copy_from_slice(bytes);
        }
    };
    may_change(0, 12);
    let hops = if was.family() == Family::V4 {
        may_change(22, 1);
        may_change(24, 10);
        22
    } else {
        may_change(21, 33);
        21
    };
    assert_eq!(after[hops], before[hops].wrapping_sub(1), "its TTL");
    assert!(before[hops] > 1, "sent on with no hop left");
    let l4 = usize::from(was.l4);
    let first = was.fragment.is_none_or(|fragment| fragment.offset == 0);
    match was.kind {
        _ if !first => {}
        Kind::Tcp { flags, .. } => {
            may_change(l4, 4);
            may_change(l4 + 16, 2);
            if flags.0 & 2 != 0 {
                lowered(&before[l4..], &after[l4..]).into_iter().for_each(|at| may_change(l4 + at, 2));
            }
        }
        Kind::Udp => {
            may_change(l4, 4);
            may_change(l4 + 6, 2);
        }
        Kind::Sctp => {
            may_change(l4, 4);
            may_change(l4 + 8, 4);
        }
        Kind::Icmp { icmp_type, code, .. } => {
            may_change(l4 + 2, 2);
            if (was.family(), icmp_type, code) == (Family::V4, 3, 4) {
                may_change(l4 + 6, 2);
            } else if (was.family(), icmp_type) == (Family::V6, 2) {
                may_change(l4 + 4, 4);
            }
            quoted(&before[l4 + 8..], &after[l4 + 8..]).into_iter().for_each(|(at, length)| {
                may_change(l4 + 8 + at, length);
            });
        }
        _ => {}
    }
    if expected != after {
        let at = expected.iter().zip(&after).position(|(one, other)| one != other).unwrap();
        panic!("byte {at} has changed:\n{before:02x?}\n{after:02x?}");
    }
    checksums(before, &after, &was);
}

/// Whether a message to this node quotes a packet that has another one inside.
fn is_about_a_tunnel(before: &[u8], was: &Packet) -> bool {
    let quote = &before[usize::from(was.l4) + 8..usize::from(was.end)];
    let at = if was.family() == Family::V4 { 9 } else { 6 };
    quote.get(at).is_some_and(|protocol| matches!(protocol, 4 | 41))
}

/// An error about a packet in a tunnel: its sender gets one of ours about what was inside, which is quoted as it was.
fn told_of_the_tunnel(before: &[u8], sent: &Sent) {
    let packet = departed(sent);
    let (ip, l4) = (&sent.bytes[14..], usize::from(packet.l4));
    let (protocol, most) = if packet.family() == Family::V4 { (1, 576) } else { (58, 1280) };
    assert!(matches!(packet.kind, Kind::Icmp { .. }) && ip.len() <= most, "an error of {} bytes", ip.len());
    let message = &sent.bytes[l4..];
    assert_eq!(distance(addresses(ip), protocol, message, message.len()), 0, "the checksum of an error about a tunnel");
    let quote = &message[8..];
    assert!(before.windows(quote.len()).any(|part| part == quote), "what was inside is quoted otherwise");
    let length = addresses(quote).len() / 2;
    assert_eq!(addresses(quote)[..length], addresses(ip)[length..], "told to somebody else than its sender");
}

/// The checksum of L4 is as good as before.
fn checksums(before: &[u8], after: &[u8], was: &Packet) {
    let is = Packet::parse(after).expect("what leaves can be read");
    let l4 = usize::from(was.l4);
    let protocol = match was.kind {
        Kind::Tcp { .. } => 6,
        Kind::Udp => 17,
        Kind::Icmp { .. } if was.family() == Family::V4 => 1,
        Kind::Icmp { .. } => 58,
        Kind::Sctp => {
            let (before, after) = (checksum_state(before, was), checksum_state(after, &is));
            let good = match before {
                ChecksumState::Partial => after == ChecksumState::Right,
                ChecksumState::Wrong => after != ChecksumState::Right,
                _ => after == before,
            };
            return assert!(good, "a CRC that was {before:?} is {after:?}");
        }
        Kind::Other(_) | Kind::LaterFragment { .. } => return,
    };
    let field = l4 + sum_at(protocol).unwrap();
    if protocol == 17 && before[field..field + 2] == [0, 0] {
        return assert_eq!(after[field..field + 2], [0, 0], "a datagram without a checksum has one");
    }
    let covered = if protocol == 17 && was.fragment.is_none() {
        usize::from(u16::from_be_bytes([before[l4 + 4], before[l4 + 5]]))
    } else {
        before.len() - l4
    };
    let of = |frame: &[u8]| distance(addresses(&frame[14..]), protocol, &frame[l4..l4 + covered], covered);
    if checksum_state(before, was) == ChecksumState::Partial {
        assert_eq!(of(after), 0, "a partial checksum is not completed");
    } else {
        assert_eq!(of(after), of(before), "a checksum is wrong by something else than before");
    }
    if protocol == 17 {
        assert_ne!(after[field..field + 2], [0, 0], "a datagram lost its checksum");
    }
}

/// Where values of maximum segment sizes stand that may be lower now.
fn lowered(before: &[u8], after: &[u8]) -> Vec<usize> {
    let end = (usize::from(before[12] >> 4) * 4).min(before.len());
    let mut places = Vec::new();
    let mut at = 20;
    while at + 1 < end && before[at] != 0 {
        let length = if before[at] == 1 { 1 } else { usize::from(before[at + 1]) };
        if length == 0 || at + length > end {
            break;
        }
        if before[at] == 2 && length == 4 {
            let value = |segment: &[u8]| u16::from_be_bytes([segment[at + 2], segment[at + 3]]);
            assert!(value(after) <= value(before), "a maximum segment size is raised");
            places.push(at + 2);
        }
        at += length;
    }
    places
}

/// Where what an error quotes may change, and that its sums are as far from right as before.
fn quoted(before: &[u8], after: &[u8]) -> Vec<(usize, usize)> {
    let read = |at: usize| before.get(at).copied();
    let is_ipv4 = read(0).is_some_and(|first| first >> 4 == 4);
    let (l4, protocol) = if is_ipv4 {
        (usize::from(before[0] & 15) * 4, read(9))
    } else {
        // As far as the chain goes, of which only its length matters.
        let (mut at, mut next) = (40, read(6));
        while let Some(0 | 43 | 44 | 60) = next {
            let length = if next == Some(44) { 8 } else { read(at + 1).map_or(8, |units| 8 + usize::from(units) * 8) };
            next = read(at);
            at += length;
        }
        (at, next)
    };
    let Some(protocol) = protocol.filter(|_| before.len() >= l4 + 4) else { return Vec::new() };
    let mut places = if is_ipv4 { vec![(10, 10)] } else { vec![(8, 32)] };
    if is_ipv4 {
        let of = |quote: &[u8]| sums::sum(&[&quote[..l4]]) % 0xffff;
        assert_eq!(of(after), of(before), "the checksum of a quoted header");
    }
    places.push((l4, 4));
    match protocol {
        6 | 17 => {
            let field = l4 + sum_at(protocol).unwrap();
            places.push((field, 2));
            if before.len() >= field + 2 {
                let none = protocol == 17 && before[field..field + 2] == [0, 0];
                let of = |quote: &[u8]| distance(addresses(quote), protocol, &quote[l4..], 0);
                if none {
                    assert_eq!(after[field..field + 2], [0, 0], "a quoted datagram without a checksum has one");
                } else {
                    assert_eq!(of(after), of(before), "the checksum of a quoted packet");
                }
            }
        }
        132 => places.push((l4 + 8, 4)),
        _ => {}
    }
    places
}
