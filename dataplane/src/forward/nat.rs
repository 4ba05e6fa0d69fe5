//! The rewrite of one router hop with NAT: addresses, ports, TTL, and every checksum that covers them.
//!
//! Checksums are adjusted, never computed anew, so that a wrong one stays wrong by exactly as much; only a *partial* one,
//! which a local sender with checksum offload left unfinished, is completed. Everything else in the packet is kept:
//! TOS, DF, identification, flow label, options and extension headers.

use ringway_shared::{Family, FiveTuple};

use crate::wire::checksum::{self, Delta};
use crate::wire::transport::{complete, complete_sctp, read_u16, read_u32_le, write};
use crate::wire::{Kind, Packet, icmp, ipv4, ipv6, sctp, tcp, udp};

pub use crate::wire::transport::complete_partial;

/// Where a packet goes, and what that changes in the sums over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Source and destination after the rewrite, of the same family and protocol as before.
    pub to: FiveTuple,
    /// The change from the tuple before.
    pub delta: Delta,
}

impl Rewrite {
    /// The rewrite of packets with the tuple `from` into `to`. The delta depends on nothing else, so a flow may keep it
    /// (and use [`Delta::inverse`] for the replies) and fill in the struct itself.
    #[inline]
    pub fn new(from: &FiveTuple, to: FiveTuple) -> Self {
        Rewrite { to, delta: Delta::between(from, &to) }
    }
}

/// Rewrites the packet that `packet` was parsed from: addresses and ports become `rewrite.to`, TTL or hop limit goes down
/// by one (it must be at least 2: [`crate::forward`] has the answer for less), checksums follow. `packet` describes the
/// frame before, not after. ICMP keeps its data, a later fragment has no ports.
#[inline]
pub fn rewrite(frame: &mut [u8], packet: &Packet, rewrite: &Rewrite) {
    if let Some(segment) = packet.transport_mut(frame) {
        match packet.kind {
            Kind::Tcp { .. } => rewrite_tcp(segment, packet, rewrite),
            Kind::Udp => rewrite_udp(segment, packet, rewrite),
            Kind::Sctp => rewrite_sctp(segment, packet, rewrite),
            Kind::Icmp { .. } => rewrite_icmp(segment, rewrite),
            Kind::Other(_) | Kind::LaterFragment { .. } => {}
        }
    }
    let Some(header) = frame.get_mut(usize::from(packet.l3)..) else { return };
    match packet.family() {
        Family::V4 => rewrite_ipv4(header, rewrite),
        Family::V6 => rewrite_ipv6(header, rewrite),
    }
}

/// The hop alone: TTL or hop limit goes down by one.
pub(super) fn hop(frame: &mut [u8], packet: &Packet) {
    let stays = Rewrite { to: packet.tuple, delta: Delta { addresses: 0, all: 0 } };
    let Some(header) = frame.get_mut(usize::from(packet.l3)..) else { return };
    match packet.family() {
        Family::V4 => rewrite_ipv4(header, &stays),
        Family::V6 => rewrite_ipv6(header, &stays),
    }
}

#[inline]
fn rewrite_ipv4(header: &mut [u8], rewrite: &Rewrite) {
    let Some(header) = header.first_chunk_mut::<{ ipv4::HEADER }>() else { return };
    let ttl = header[ipv4::TTL].saturating_sub(1);
    // The TTL is the high byte of its word.
    let ttl_delta = u64::from(!(u16::from(header[ipv4::TTL]) << 8)) + (u64::from(ttl) << 8);
    header[ipv4::TTL] = ttl;
    let sum = read_u16(header, ipv4::CHECKSUM);
    let delta = checksum::fold(u64::from(rewrite.delta.addresses) + ttl_delta);
    write(header, ipv4::CHECKSUM, checksum::adjust(sum, delta).to_be_bytes());
    write(header, ipv4::SOURCE, (rewrite.to.source[1] as u32).to_be_bytes());
    write(header, ipv4::DESTINATION, (rewrite.to.destination[1] as u32).to_be_bytes());
}

#[inline]
fn rewrite_ipv6(header: &mut [u8], rewrite: &Rewrite) {
    let Some(header) = header.first_chunk_mut::<{ ipv6::HEADER }>() else { return };
    header[ipv6::HOP_LIMIT] = header[ipv6::HOP_LIMIT].saturating_sub(1);
    write(header, ipv6::SOURCE, rewrite.to.source[0].to_be_bytes());
    write(header, ipv6::SOURCE + 8, rewrite.to.source[1].to_be_bytes());
    write(header, ipv6::DESTINATION, rewrite.to.destination[0].to_be_bytes());
    write(header, ipv6::DESTINATION + 8, rewrite.to.destination[1].to_be_bytes());
}

#[inline]
fn rewrite_tcp(segment: &mut [u8], packet: &Packet, rewrite: &Rewrite) {
    let length = segment.len() as u16;
    let Some(header) = segment.first_chunk_mut::<{ tcp::HEADER }>() else { return };
    let before = read_u16(header, tcp::CHECKSUM);
    let protocol = packet.tuple.ports as u8;
    set_ports(header, &rewrite.to);
    if packet.fragment.is_none() && before == checksum::pseudo_header(&packet.tuple, protocol, length) {
        complete(segment, tcp::CHECKSUM, segment.len(), &rewrite.to);
    } else {
        write(header, tcp::CHECKSUM, checksum::adjust(before, rewrite.delta.all).to_be_bytes());
    }
}

#[inline]
fn rewrite_udp(datagram: &mut [u8], packet: &Packet, rewrite: &Rewrite) {
    let Some(header) = datagram.first_chunk_mut::<{ udp::HEADER }>() else { return };
    let length = udp::length(header);
    let before = read_u16(header, udp::CHECKSUM);
    set_ports(header, &rewrite.to);
    // No checksum stays none; over IPv6 too, where it may be legal (RFC 6935) and is the receiver's to judge.
    if before == 0 {
        return;
    }
    let protocol = packet.tuple.ports as u8;
    if packet.fragment.is_none() && before == checksum::pseudo_header(&packet.tuple, protocol, length) {
        complete(datagram, udp::CHECKSUM, usize::from(length), &rewrite.to);
    } else {
        let after = udp::written(checksum::adjust(before, rewrite.delta.all));
        write(header, udp::CHECKSUM, after.to_be_bytes());
    }
}

#[inline]
fn rewrite_sctp(message: &mut [u8], packet: &Packet, rewrite: &Rewrite) {
    // Of a first fragment that does not tell, no ports are changed.
    let missing = if packet.fragment.is_some() { sctp::missing(message).unwrap_or(0) } else { 0 };
    let rest = (message.len().saturating_sub(4) as u16).saturating_add(missing);
    let Some(header) = message.first_chunk_mut::<{ sctp::HEADER }>() else { return };
    let before = read_u32_le(header, sctp::CHECKSUM);
    set_ports(header, &rewrite.to);
    if before == 0 && packet.fragment.is_none() {
        complete_sctp(message);
        return;
    }
    // The CRC covers the ports, and nothing of IP.
    let difference = ((packet.tuple.ports ^ rewrite.to.ports) >> 32) as u32;
    if difference != 0 {
        let after = before ^ checksum::crc32c_change(difference.to_be_bytes(), rest);
        write(header, sctp::CHECKSUM, after.to_le_bytes());
    }
}

#[inline]
fn rewrite_icmp(message: &mut [u8], rewrite: &Rewrite) {
    // Only ICMPv6 has a pseudo-header.
    if rewrite.to.family() == Family::V6
        && let Some(header) = message.first_chunk_mut::<{ icmp::HEADER }>()
    {
        let before = read_u16(header, icmp::CHECKSUM);
        write(header, icmp::CHECKSUM, checksum::adjust(before, rewrite.delta.addresses).to_be_bytes());
    }
}

#[inline]
fn set_ports(header: &mut [u8], tuple: &FiveTuple) {
    write(header, 0, ((tuple.ports >> 32) as u32).to_be_bytes());
}
