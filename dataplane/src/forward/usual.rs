//! The rewrite of the usual packet: TCP or UDP over IPv4 without options, or over IPv6 without extension headers, with a whole
//! checksum. It is done in one straight line at fixed places, over IPv4 in half the instructions of [`nat::rewrite`], which
//! knows all others; a property test holds the two against each other.

use ringway_shared::Family;

use super::nat::{self, Rewrite};
use crate::wire::checksum::{self, Delta};
use crate::wire::transport::{read_u16, write};
use crate::wire::{Kind, Packet, ethernet, ipv4, ipv6, tcp, udp};

const L3: usize = ethernet::HEADER;
const L4: usize = L3 + ipv4::HEADER;
const L4_V6: usize = L3 + ipv6::HEADER;

/// What a hop adds to the sum of the header: the TTL is the high byte of its word.
const HOP: u32 = 0xffff - 0x0100;

/// Where a packet over IPv4 goes, as its headers have it, and what that changes in the sums over it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    /// Source port in the high half.
    pub(crate) ports: u32,
    pub(crate) delta: Delta,
}

/// Rewrites the packet that `packet` was parsed from, usual or not. Both say where it goes; `ends` is asked for over IPv4 alone.
#[inline]
pub(crate) fn rewrite(frame: &mut [u8], packet: &Packet, ends: impl FnOnce() -> Ends, other: impl FnOnce() -> Rewrite) {
    match packet.kind {
        Kind::Tcp { .. } => rewrite_segment(frame, packet, ends, other),
        Kind::Udp => rewrite_datagram(frame, packet, ends, other),
        _ => rewrite_other(frame, packet, &other()),
    }
}

/// [`rewrite`] of TCP.
#[inline(always)]
pub(crate) fn rewrite_segment(
    frame: &mut [u8],
    packet: &Packet,
    ends: impl FnOnce() -> Ends,
    other: impl FnOnce() -> Rewrite,
) {
    if !segment_v4(frame, packet, ends) {
        rewrite_other(frame, packet, &other());
    }
}

/// [`rewrite`] of UDP.
#[inline(always)]
pub(crate) fn rewrite_datagram(
    frame: &mut [u8],
    packet: &Packet,
    ends: impl FnOnce() -> Ends,
    other: impl FnOnce() -> Rewrite,
) {
    if !datagram_v4(frame, packet, ends) {
        rewrite_other(frame, packet, &other());
    }
}

#[inline(never)]
fn rewrite_other(frame: &mut [u8], packet: &Packet, rewrite: &Rewrite) {
    if !rewrite_v6(frame, packet, rewrite) {
        nat::rewrite(frame, packet, rewrite);
    }
}

/// Whether L4 begins at `l4` of a whole packet that may go another hop: no header but those of IP ends there.
#[inline(always)]
fn begins_at(packet: &Packet, l4: usize) -> bool {
    usize::from(packet.l4) == l4 && packet.ttl > 1 && packet.fragment.is_none()
}

/// Rewrites a segment of TCP if it is usual over IPv4. False, and nothing done, for any other.
#[inline(always)]
fn segment_v4(frame: &mut [u8], packet: &Packet, ends: impl FnOnce() -> Ends) -> bool {
    if !begins_at(packet, L4) {
        return false;
    }
    let Some(head) = frame.first_chunk_mut::<{ L4 + tcp::HEADER }>() else { return false };
    let before = read_u16(head, L4 + tcp::CHECKSUM);
    // One that a local sender's offload left partial is to be completed.
    if may_be_partial(before, packet, tcp::PROTOCOL, packet.end.wrapping_sub(packet.l4)) {
        return false;
    }
    let ends = ends();
    write(head, L4 + tcp::CHECKSUM, checksum::adjust(before, ends.delta.all).to_be_bytes());
    rewrite_head(head, &ends);
    true
}

/// The same with a datagram of UDP.
#[inline(always)]
fn datagram_v4(frame: &mut [u8], packet: &Packet, ends: impl FnOnce() -> Ends) -> bool {
    if !begins_at(packet, L4) {
        return false;
    }
    let Some(head) = frame.first_chunk_mut::<{ L4 + udp::HEADER }>() else { return false };
    let before = read_u16(head, L4 + udp::CHECKSUM);
    if before != 0 && may_be_partial(before, packet, udp::PROTOCOL, read_u16(head, L4 + udp::LENGTH)) {
        return false;
    }
    let ends = ends();
    // No checksum stays none.
    if before != 0 {
        let after = udp::written(checksum::adjust(before, ends.delta.all));
        write(head, L4 + udp::CHECKSUM, after.to_be_bytes());
    }
    rewrite_head(head, &ends);
    true
}

/// The same of both over IPv6.
#[inline(always)]
fn rewrite_v6(frame: &mut [u8], packet: &Packet, rewrite: &Rewrite) -> bool {
    if packet.family() != Family::V6 || !begins_at(packet, L4_V6) {
        return false;
    }
    let partial = |protocol, length| checksum::pseudo_header(&packet.tuple, protocol, length);
    match packet.kind {
        Kind::Tcp { .. } => {
            let Some(head) = frame.first_chunk_mut::<{ L4_V6 + tcp::HEADER }>() else { return false };
            let before = read_u16(head, L4_V6 + tcp::CHECKSUM);
            if before == partial(tcp::PROTOCOL, packet.end.wrapping_sub(packet.l4)) {
                return false;
            }
            write(head, L4_V6 + tcp::CHECKSUM, checksum::adjust(before, rewrite.delta.all).to_be_bytes());
            rewrite_head_v6(head, rewrite);
        }
        Kind::Udp => {
            let Some(head) = frame.first_chunk_mut::<{ L4_V6 + udp::HEADER }>() else { return false };
            let before = read_u16(head, L4_V6 + udp::CHECKSUM);
            if before != 0 {
                if before == partial(udp::PROTOCOL, read_u16(head, L4_V6 + udp::LENGTH)) {
                    return false;
                }
                let after = udp::written(checksum::adjust(before, rewrite.delta.all));
                write(head, L4_V6 + udp::CHECKSUM, after.to_be_bytes());
            }
            rewrite_head_v6(head, rewrite);
        }
        _ => return false,
    }
    true
}

/// Whether a packet over IPv4 may be an unfinished one: its checksum is the sum of the pseudo-header. To such sums 0 and 0xffff
/// are the same, and which of them it is makes a difference to the other rewrite alone.
#[inline(always)]
fn may_be_partial(checksum: u16, packet: &Packet, protocol: u8, length: u16) -> bool {
    let ([_, source], [_, destination]) = (packet.tuple.source, packet.tuple.destination);
    let addresses = u64::from(source as u32) + u64::from(destination as u32);
    (addresses + u64::from(protocol) + u64::from(length) + u64::from(!checksum)).is_multiple_of(0xffff)
}

/// Hop, addresses and ports.
#[inline(always)]
fn rewrite_head<const N: usize>(head: &mut [u8; N], ends: &Ends) {
    const SUM: usize = L3 + ipv4::CHECKSUM;
    let sum = !read_u16(head, SUM);
    head[L3 + ipv4::TTL] = head[L3 + ipv4::TTL].wrapping_sub(1);
    let sum = !checksum::fold_short(u32::from(sum) + u32::from(ends.delta.addresses) + HOP);
    write(head, SUM, sum.to_be_bytes());
    write(head, L3 + ipv4::SOURCE, ends.source.to_be_bytes());
    write(head, L3 + ipv4::DESTINATION, ends.destination.to_be_bytes());
    write(head, L4, ends.ports.to_be_bytes());
}

#[inline(always)]
fn rewrite_head_v6<const N: usize>(head: &mut [u8; N], rewrite: &Rewrite) {
    head[L3 + ipv6::HOP_LIMIT] = head[L3 + ipv6::HOP_LIMIT].wrapping_sub(1);
    let to = &rewrite.to;
    let words = [to.source[0], to.source[1], to.destination[0], to.destination[1]];
    for (at, word) in (L3 + ipv6::SOURCE..).step_by(8).zip(words) {
        write(head, at, word.to_be_bytes());
    }
    write(head, L4_V6, ((to.ports >> 32) as u32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sample::{L4 as L4Sample, other_ends, samples};
    use crate::wire::transport;
    use proptest::prelude::*;
    use ringway_shared::FiveTuple;

    fn rewrite_v4(frame: &mut [u8], packet: &Packet, ends: impl FnOnce() -> Ends) -> bool {
        match packet.kind {
            Kind::Tcp { .. } => segment_v4(frame, packet, ends),
            Kind::Udp => datagram_v4(frame, packet, ends),
            _ => false,
        }
    }

    fn ends(to: &FiveTuple, delta: Delta) -> Ends {
        let ([_, source], [_, destination]) = (to.source, to.destination);
        Ends { source: source as u32, destination: destination as u32, ports: (to.ports >> 32) as u32, delta }
    }

    proptest! {
        /// What is done here is what the other rewrite does, and nothing is done to what is not usual.
        #[test]
        fn both_rewrites_agree(
            (sample, to) in samples().prop_flat_map(|sample| {
                let to = other_ends(sample.tuple());
                (Just(sample), to)
            }),
            sum in any::<u16>(),
            kind in 0..5,
            plain in any::<bool>(),
            rare in 0..8,
        ) {
            let ttl = if rare == 0 { 1 } else { sample.ttl };
            let extras = if plain { 0 } else { sample.extras };
            let sample = crate::wire::sample::Sample { extras, ttl, ..sample };
            let mut frame = sample.frame();
            // A first fragment.
            if rare == 1 && sample.source.is_ipv4() {
                let header = &mut frame[L3..L3 + ipv4::HEADER + 4 * usize::from(sample.extras % 11)];
                write(header, ipv4::FLAGS, [0x20, 0]);
                write(header, ipv4::CHECKSUM, [0, 0]);
                let sum = checksum::checksum(header);
                write(header, ipv4::CHECKSUM, sum.to_be_bytes());
            }
            let packet = Packet::parse(&frame).unwrap();
            let at = match packet.kind {
                Kind::Tcp { .. } => Some(tcp::CHECKSUM),
                Kind::Udp => Some(udp::CHECKSUM),
                _ => None,
            };
            let forth = Rewrite::new(&packet.tuple, to);
            // As it is, none, any, partial, or what becomes zero, which UDP writes as ones.
            if let (Some(at), Some(segment)) = (at, packet.transport_mut(&mut frame)) {
                let length = segment.len() as u16;
                match kind {
                    1 => transport::write(segment, at, [0, 0]),
                    2 => transport::write(segment, at, sum.to_be_bytes()),
                    3 => {
                        let pseudo = checksum::pseudo_header(&packet.tuple, packet.tuple.ports as u8, length);
                        transport::write(segment, at, pseudo.to_be_bytes());
                    }
                    4 => transport::write(segment, at, checksum::adjust(0, forth.delta.inverse().all).to_be_bytes()),
                    _ => {}
                }
            }
            let (mut here, mut there) = (frame.clone(), frame.clone());
            let (is_done, l4) = match packet.family() {
                Family::V4 => (rewrite_v4(&mut here, &packet, || ends(&to, forth.delta)), L4),
                Family::V6 => (rewrite_v6(&mut here, &packet, &forth), L4_V6),
            };
            let is_usual = matches!(sample.l4, L4Sample::Tcp(_) | L4Sample::Udp)
                && usize::from(packet.l4) == l4
                && packet.ttl > 1
                && packet.fragment.is_none();
            prop_assert!(is_usual || !is_done);
            if is_usual && kind == 0 {
                prop_assert!(is_done);
            }
            if is_usual && kind == 3 {
                prop_assert!(!is_done);
            }
            nat::rewrite(&mut there, &packet, &forth);
            prop_assert_eq!(here, if is_done { there } else { frame });
        }
    }
}
