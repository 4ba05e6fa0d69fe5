//! An ICMP error about a packet that went inside another one ([`super::dsr`]), made one about the packet inside, for its sender
//! (RFC 2003 5.1, RFC 2473 8).
//!
//! The sender learns what it can use: how large its packets may be with the outer header, or that the endpoint is out of reach,
//! whether a router does not find it, the outer hop limit ran out, or the endpoint takes no such packets. What is quoted of
//! the packet inside stays as it is: as it went into the tunnel.

use std::net::IpAddr;
use std::ops::Range;

use ringway_shared::address::address_words;
use ringway_shared::{Family, FiveTuple};

use super::icmp_error::{CLASS, Error, limit};
use super::{Answer, finish_icmp, ip_header};
use crate::wire::quote::Inside;
use crate::wire::transport::{read_u16, write};
use crate::wire::{Packet, ethernet, icmp, ipv4};

/// The MTU in "fragmentation needed", and in "packet too big".
const MTU_V4: usize = 6;
const MTU_V6: usize = 4;
/// What every IPv6 link carries; nobody heeds less.
const LEAST_V6: u32 = 1280;
/// Of the L4 header an error quotes at least this (RFC 792).
const LEAST_QUOTED: usize = 8;
/// The offset of the EtherType.
const ETHER_TYPE: usize = 12;

/// What the sender of the packet inside is told; nothing when the error is about the tunnel alone. `message` is the error,
/// of `family`, about a packet whose payload is of the family `inner`.
pub(crate) fn meaning(message: &[u8], family: Family, inner: Family) -> Option<Meaning> {
    let [icmp_type, code, ..] = *message.first_chunk::<{ icmp::HEADER }>()?;
    let mtu = match (family, icmp_type, code) {
        (Family::V4, 3, 4) => u32::from(read_u16(message, MTU_V4)),
        (Family::V6, 2, _) => u32::from_be_bytes(*message.get(MTU_V6..)?.first_chunk()?),
        // The route that a packet was to take is of the outer header.
        (Family::V4, 3, 5) => return None,
        (Family::V4, 3 | 11, _) | (Family::V6, 1 | 3, _) | (Family::V6, 4, 1) => {
            return Some(Meaning(Error::HostUnreachable));
        }
        _ => return None,
    };
    // Where an old router says nothing it stays 0, which its receiver knows as well.
    let left = mtu.saturating_sub(ip_header(family) as u32);
    let left = if inner == Family::V6 { left.max(LEAST_V6) } else { left };
    Some(Meaning(Error::TooBig { mtu: u16::try_from(left).unwrap_or(u16::MAX) }))
}

/// See [`meaning`].
pub(crate) struct Meaning(Error);

/// Turns the error that `packet` is in `frame` into one about the packet inside that it quotes, from `source`, an address of this
/// node of that one's family. Gives back how long the frame is now; nothing, and the frame is as it was, when too little is quoted.
pub(crate) fn translate(
    frame: &mut [u8],
    packet: &Packet,
    inside: &Inside,
    source: IpAddr,
    Meaning(error): &Meaning,
) -> Option<usize> {
    let tuple = &inside.quote.tuple;
    let family = tuple.family();
    let from = usize::from(packet.l4) + inside.start;
    let l4 = ethernet::HEADER + ip_header(family);
    let to = l4 + icmp::HEADER;
    let headers = inside.quote.l4.checked_sub(inside.start)?;
    // What follows the packet in the quote is none of it.
    let whole = inside.quote.length.map_or(usize::MAX, |length| headers.saturating_add(length));
    let quoted = inside.quote.end.checked_sub(inside.start)?.min(whole).min(ethernet::HEADER + limit(family) - to);
    if quoted < headers + LEAST_QUOTED || Family::of(source) != family {
        return None;
    }
    let Range { start, end } = to..to + quoted;
    if from + quoted > frame.len() || end > frame.len() {
        return None;
    }
    let identification = read_u16(frame, from + ipv4::IDENTIFICATION);
    frame.copy_within(from..from + quoted, start);
    let (source, destination) = (address_words(source), tuple.source);
    let answer = Answer {
        source,
        destination,
        family,
        protocol: if family == Family::V4 { icmp::V4 } else { icmp::V6 },
        class: CLASS,
        identification: Some(identification),
        payload: (end - l4) as u16,
    };
    let ether_type = if family == Family::V4 { ethernet::IPV4 } else { ethernet::IPV6 };
    write(frame, ETHER_TYPE, ether_type.to_be_bytes());
    answer.write(frame, ethernet::HEADER);
    let (icmp_type, code, rest) = error.header(family);
    write(frame, l4, [icmp_type, code, 0, 0]);
    write(frame, l4 + 4, rest.to_be_bytes());
    finish_icmp(frame, l4..end, FiveTuple { source, destination, ports: tuple.ports });
    Some(end)
}
