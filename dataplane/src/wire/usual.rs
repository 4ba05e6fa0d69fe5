//! The usual packet: a whole TCP or UDP packet over IPv4 without options, or over IPv6 without extension headers, and nothing
//! wrong with it. It is read in one straight line from fixed places, in half the instructions of the parser that knows all the
//! others; a property test holds the two against each other.

use super::{Kind, Packet, checksum, ethernet, ipv4, ipv6, objection_to, tcp, udp};
use ringway_shared::{Family, MacAddress};

const L4: usize = ethernet::HEADER + ipv4::HEADER;
/// Up to the end of the shortest L4 header.
const HEAD: usize = L4 + udp::HEADER;
/// The same over IPv6.
const L4_V6: usize = ethernet::HEADER + ipv6::HEADER;
const HEAD_V6: usize = L4_V6 + udp::HEADER;

/// EtherType, version, header length; then TOS.
const IPV4_WITHOUT_OPTIONS: u32 = 0x0800_4500;

/// Reads `frame` if it is usual over IPv4. Whatever is not goes to the parser of its family, broken or not.
#[inline(always)]
pub(super) fn parse_v4(frame: &[u8]) -> Option<Packet> {
    let head = frame.first_chunk::<HEAD>()?;
    let [
        m0,
        m1,
        m2,
        m3,
        m4,
        m5,
        s0,
        s1,
        s2,
        s3,
        s4,
        s5,
        e0,
        e1,
        version,
        tos,
        t0,
        t1,
        _,
        _,
        f0,
        f1,
        ttl,
        protocol,
        _,
        _,
        a0,
        a1,
        a2,
        a3,
        b0,
        b1,
        b2,
        b3,
        p0,
        p1,
        p2,
        p3,
        u0,
        u1,
        _,
        _,
    ] = *head;
    let start = u32::from_be_bytes([e0, e1, version, tos]);
    let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff;
    let length = usize::from(u16::from_be_bytes([t0, t1]));
    let end = ethernet::HEADER + length;
    if start & 0xffff_ff00 != IPV4_WITHOUT_OPTIONS
        || fragment != 0
        || end > frame.len().min(usize::from(u16::MAX))
        || end < HEAD
    {
        return None;
    }
    let header = head.get(ethernet::HEADER..L4)?.first_chunk::<{ ipv4::HEADER }>()?;
    if !checksum::is_right(header) {
        return None;
    }
    let kind = kind::<L4>(frame, protocol, end, [u0, u1])?;
    let [source, destination] =
        [[a0, a1, a2, a3], [b0, b1, b2, b3]].map(|bytes| ipv4::words(u32::from_be_bytes(bytes)));
    let ports = u32::from_be_bytes([p0, p1, p2, p3]);
    let tuple = super::tuple(source, destination, Family::V4, protocol, ports);
    Some(Packet {
        tuple,
        kind,
        fragment: None,
        objection: objection_to(&tuple),
        ttl,
        destination_mac: MacAddress([m0, m1, m2, m3, m4, m5]),
        source_mac: MacAddress([s0, s1, s2, s3, s4, s5]),
        l3: ethernet::HEADER as u16,
        l4: L4 as u16,
        end: end as u16,
    })
}

/// Reads `frame` if it is usual over IPv6.
#[inline(always)]
pub(super) fn parse_v6(frame: &[u8]) -> Option<Packet> {
    let (link, rest) = frame.first_chunk::<HEAD_V6>()?.split_first_chunk::<{ ethernet::HEADER }>()?;
    let ([fixed, s0, s1, d0, d1, transport], _) = rest.as_chunks::<8>() else { return None };
    let [version, _, _, _, n0, n1, next, ttl] = *fixed;
    let [p0, p1, p2, p3, u0, u1, _, _] = *transport;
    let end = L4_V6 + usize::from(u16::from_be_bytes([n0, n1]));
    if ethernet::ether_type(link) != ethernet::IPV6
        || version >> 4 != 6
        || end > frame.len().min(usize::from(u16::MAX))
        || end < HEAD_V6
    {
        return None;
    }
    let kind = kind::<L4_V6>(frame, next, end, [u0, u1])?;
    let [source, destination] = [[s0, s1], [d0, d1]].map(|address| address.map(|half| u64::from_be_bytes(*half)));
    let ports = u32::from_be_bytes([p0, p1, p2, p3]);
    let tuple = super::tuple(source, destination, Family::V6, next, ports);
    let [destination_mac, source_mac] = ethernet::macs(link);
    Some(Packet {
        tuple,
        kind,
        fragment: None,
        objection: objection_to(&tuple),
        ttl,
        destination_mac,
        source_mac,
        l3: ethernet::HEADER as u16,
        l4: L4_V6 as u16,
        end: end as u16,
    })
}

/// TCP or UDP from `L4` to `end`, if nothing is wrong with it; `covered` is where UDP says how much its checksum covers.
#[inline(always)]
fn kind<const L4: usize>(frame: &[u8], protocol: u8, end: usize, covered: [u8; 2]) -> Option<Kind> {
    match protocol {
        udp::PROTOCOL => {
            let covered = usize::from(u16::from_be_bytes(covered));
            if covered < udp::HEADER || covered > end - L4 {
                return None;
            }
            Some(Kind::Udp)
        }
        tcp::PROTOCOL => tcp::parse(frame.get(L4..end)?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sample::{L4 as L4Sample, Sample};
    use proptest::prelude::*;

    proptest! {
        /// What is read here is what the other parser reads, however the bytes were changed.
        #[test]
        fn both_parsers_agree(
            tcp in any::<bool>(),
            v6 in any::<bool>(),
            length in 0usize..80,
            changes in proptest::collection::vec((12usize..80, any::<u8>()), 0..3),
            mend in any::<bool>(),
        ) {
            let mut frame = usual(tcp, v6, length);
            for (at, byte) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            if mend && !v6 && frame.len() >= L4 {
                frame[24..26].fill(0);
                let sum = checksum::checksum(&frame[14..L4]).to_be_bytes();
                frame[24..26].copy_from_slice(&sum);
            }
            for packet in [parse_v4(&frame), parse_v6(&frame)].into_iter().flatten() {
                prop_assert_eq!(Packet::parse_any(&frame), Ok(packet));
            }
        }
    }

    fn usual(tcp: bool, v6: bool, length: usize) -> Vec<u8> {
        let l4 = if tcp { L4Sample::Tcp(0x18) } else { L4Sample::Udp };
        let [from, to] = match v6 {
            false => ["192.0.2.1:40000", "198.51.100.7:443"],
            true => ["[2001:db8::1]:40000", "[2001:db8:2::7]:443"],
        };
        Sample::new(l4, from, to, &vec![9; length]).frame()
    }

    #[test]
    fn good_packets_are_usual() {
        for tcp in [false, true] {
            let (v4, v6) = (usual(tcp, false, 6), usual(tcp, true, 6));
            assert!(parse_v4(&v4).is_some() && parse_v6(&v4).is_none());
            assert!(parse_v6(&v6).is_some() && parse_v4(&v6).is_none());
        }
    }
}
