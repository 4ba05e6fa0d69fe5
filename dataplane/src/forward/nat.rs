//! The rewrite of one router hop with NAT: addresses, ports, TTL, and every checksum that covers them.
//!
//! Checksums are adjusted, never computed anew, so that a wrong one stays wrong by exactly as much; only a *partial* one,
//! which a local sender with checksum offload left unfinished, is completed. Everything else in the packet is kept:
//! TOS, DF, identification, flow label, options and extension headers.

use ringway_shared::{Family, FiveTuple};

use crate::wire::checksum::{self, Delta};
use crate::wire::{IPV4_CHECKSUM, IPV4_HEADER, IPV6_HEADER, Kind, Packet, icmp, sctp, tcp, udp};

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

#[inline]
fn rewrite_ipv4(header: &mut [u8], rewrite: &Rewrite) {
    let Some(header) = header.first_chunk_mut::<IPV4_HEADER>() else { return };
    let ttl = header[8].saturating_sub(1);
    // The TTL is the high byte of its word.
    let ttl_delta = u64::from(!(u16::from(header[8]) << 8)) + (u64::from(ttl) << 8);
    header[8] = ttl;
    let sum = read_u16(header, IPV4_CHECKSUM);
    let delta = checksum::fold(u64::from(rewrite.delta.addresses) + ttl_delta);
    write(header, IPV4_CHECKSUM, checksum::adjust(sum, delta).to_be_bytes());
    write(header, 12, (rewrite.to.source[1] as u32).to_be_bytes());
    write(header, 16, (rewrite.to.destination[1] as u32).to_be_bytes());
}

#[inline]
fn rewrite_ipv6(header: &mut [u8], rewrite: &Rewrite) {
    let Some(header) = header.first_chunk_mut::<IPV6_HEADER>() else { return };
    header[7] = header[7].saturating_sub(1);
    write(header, 8, rewrite.to.source[0].to_be_bytes());
    write(header, 16, rewrite.to.source[1].to_be_bytes());
    write(header, 24, rewrite.to.destination[0].to_be_bytes());
    write(header, 32, rewrite.to.destination[1].to_be_bytes());
}

#[inline]
fn rewrite_tcp(segment: &mut [u8], packet: &Packet, rewrite: &Rewrite) {
    let length = segment.len() as u16;
    let Some(header) = segment.first_chunk_mut::<{ tcp::HEADER }>() else { return };
    let before = read_u16(header, tcp::CHECKSUM);
    let protocol = packet.tuple.ports as u8;
    set_ports(header, &rewrite.to);
    if packet.fragment.is_none() && before == checksum::pseudo_header(&packet.tuple, protocol, length) {
        complete(segment, tcp::CHECKSUM, &rewrite.to, length);
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
        complete(datagram, udp::CHECKSUM, &rewrite.to, length);
    } else {
        let after = not_zero(checksum::adjust(before, rewrite.delta.all));
        write(header, udp::CHECKSUM, after.to_be_bytes());
    }
}

#[inline]
fn rewrite_sctp(message: &mut [u8], packet: &Packet, rewrite: &Rewrite) {
    let rest = message.len().saturating_sub(4) as u16;
    let Some(header) = message.first_chunk_mut::<{ sctp::HEADER }>() else { return };
    let before = read_u32(header, sctp::CHECKSUM);
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

/// Completes the checksum of a packet that goes on as it is, if it is partial, and says whether it was. A TAP device, or
/// any other way out that knows nothing of the sender's offload, needs it whole.
#[inline]
pub fn complete_partial(frame: &mut [u8], packet: &Packet) -> bool {
    let Some(segment) = packet.transport_mut(frame) else { return false };
    if packet.fragment.is_some() {
        return false;
    }
    let (at, length) = match packet.kind {
        Kind::Tcp { .. } => (tcp::CHECKSUM, segment.len() as u16),
        Kind::Udp => match segment.first_chunk() {
            Some(header) => (udp::CHECKSUM, udp::length(header)),
            None => return false,
        },
        Kind::Sctp => {
            let partial = segment.first_chunk::<{ sctp::HEADER }>().is_some_and(|h| read_u32(h, sctp::CHECKSUM) == 0);
            if partial {
                complete_sctp(segment);
            }
            return partial;
        }
        Kind::Icmp { .. } | Kind::Other(_) | Kind::LaterFragment { .. } => return false,
    };
    let field = segment.get(at..).and_then(|rest| rest.first_chunk::<2>()).map(|field| u16::from_be_bytes(*field));
    let partial = field == Some(checksum::pseudo_header(&packet.tuple, packet.tuple.ports as u8, length));
    if partial {
        complete(segment, at, &packet.tuple, length);
    }
    partial
}

/// Writes the whole checksum of the first `length` bytes of a TCP segment or UDP datagram between the ends of `tuple`.
fn complete(segment: &mut [u8], at: usize, tuple: &FiveTuple, length: u16) {
    let protocol = tuple.ports as u8;
    let Some(covered) = segment.get_mut(..usize::from(length)) else { return };
    write(covered, at, checksum::pseudo_header(tuple, protocol, length).to_be_bytes());
    // 0 would say that a UDP datagram has no checksum; to TCP both forms of zero are the same.
    let sum = checksum::checksum(covered);
    let sum = if at == udp::CHECKSUM { not_zero(sum) } else { sum };
    write(covered, at, sum.to_be_bytes());
}

fn complete_sctp(message: &mut [u8]) {
    if let Some(crc) = sctp::right_checksum(message) {
        write(message, sctp::CHECKSUM, crc.to_le_bytes());
    }
}

#[inline]
fn not_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[inline]
fn set_ports(header: &mut [u8], tuple: &FiveTuple) {
    write(header, 0, ((tuple.ports >> 32) as u32).to_be_bytes());
}

/// Writes `bytes` at `at`, when they fit.
#[inline]
fn write<const N: usize>(to: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = to.get_mut(at..at + N) {
        place.copy_from_slice(&bytes);
    }
}

#[inline]
fn read_u16(header: &[u8], at: usize) -> u16 {
    header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

#[inline]
fn read_u32(header: &[u8], at: usize) -> u32 {
    header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
    use ringway_shared::Protocol;

    #[test]
    fn a_datagram_gets_new_ends_and_right_checksums() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, 0, 2], [172, 30, 0, 41], 64)
            .udp(4242, 80)
            .write(&mut frame, b"hello")
            .unwrap();
        let packet = Packet::parse(&frame).unwrap();
        let to =
            FiveTuple::new(Protocol::Udp, "192.168.0.2:61000".parse().unwrap(), "10.180.0.1:8080".parse().unwrap());
        rewrite(&mut frame, &packet, &Rewrite::new(&packet.tuple, to));
        let after = Packet::parse(&frame).unwrap();
        assert_eq!((after.tuple, after.ttl), (to, 63));
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!() };
        let right = udp.to_header().calc_checksum_ipv4_raw([192, 168, 0, 2], [10, 180, 0, 1], udp.payload()).unwrap();
        assert_eq!(udp.checksum(), right);
    }
}
