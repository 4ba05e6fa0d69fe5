//! IPv4 headers (RFC 791).

use ringway_shared::{DropReason, Family};

use super::quote::{Headers, length_at};
use super::transport::read_u16;
use super::{Fragment, IpHeader, Packet, Refusal, broken, broken_l4, checksum, ethernet};

/// Bytes of a header without options.
pub(crate) const HEADER: usize = 20;
/// The offsets of its fields.
pub(crate) const TOTAL_LENGTH: usize = 2;
pub(crate) const IDENTIFICATION: usize = 4;
/// Flags, and the place of a fragment in its datagram.
pub(crate) const FLAGS: usize = 6;
pub(crate) const TTL: usize = 8;
pub(crate) const PROTOCOL: usize = 9;
pub(crate) const CHECKSUM: usize = 10;
pub(crate) const SOURCE: usize = 12;
pub(crate) const DESTINATION: usize = 16;

/// The bits of the field at [`FLAGS`].
pub(crate) mod flag {
    pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
    pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
    /// In units of eight bytes.
    pub(crate) const OFFSET: u16 = 0x1fff;
}

/// Kinds of options.
pub(crate) mod option {
    pub(crate) const END: u8 = 0;
    pub(crate) const NO_OPERATION: u8 = 1;
    pub(crate) const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub(crate) const STRICT_SOURCE_ROUTE: u8 = 137;
    /// The bit of those that every fragment has.
    pub(crate) const COPIED: u8 = 0x80;
}

const V4_MAPPED: u64 = 0xffff << 32;

/// Reads a packet: version, header length, total length within the frame, checksum, options; in this order.
#[inline(always)]
pub(super) fn parse(frame: &[u8], link: &[u8; ethernet::HEADER]) -> Result<Packet, Refusal> {
    let l3 = ethernet::HEADER;
    let bytes = frame.get(l3..).unwrap_or(&[]);
    let header = bytes.first_chunk::<HEADER>().ok_or(Refusal::Foreign)?;
    let ([first, second, third, source, destination], _) = header.as_chunks::<4>() else {
        return Err(Refusal::Foreign);
    };
    let ([version, _, t0, t1], [i0, i1, f0, f1], [ttl, protocol, ..]) = (*first, *second, *third);
    let header_length = header_length(version);
    let total_length = usize::from(u16::from_be_bytes([t0, t1]));
    let (l4, end) = (l3 + header_length, l3 + total_length);
    if version >> 4 != 4 || header_length < HEADER {
        return Err(broken(frame, DropReason::InvalidIpv4Header));
    }
    let Some(whole) = bytes.get(..header_length) else { return Err(broken(frame, DropReason::TruncatedIpv4)) };
    if total_length < header_length {
        return Err(broken(frame, DropReason::InvalidIpv4Header));
    }
    if total_length > bytes.len() {
        return Err(broken_ports(frame, DropReason::TruncatedIpv4, protocol, l4, end, f0, f1));
    }
    let is_right = if header_length == HEADER { checksum::is_right(header) } else { checksum::sum(whole) == 0xffff };
    if !is_right {
        return Err(broken_ports(frame, DropReason::Ipv4HeaderChecksum, protocol, l4, end, f0, f1));
    }
    let mut source_routed = false;
    if header_length > HEADER {
        match source_route(whole.get(HEADER..).unwrap_or(&[])) {
            Some(found) => source_routed = found,
            None => return Err(broken_ports(frame, DropReason::InvalidIpv4Header, protocol, l4, end, f0, f1)),
        }
    }
    let fragment = fragment(f0, f1).map(|(offset, more)| Fragment {
        offset,
        more,
        identification: u32::from(u16::from_be_bytes([i0, i1])),
    });
    let ip = IpHeader {
        source: words(u32::from_be_bytes(*source)),
        destination: words(u32::from_be_bytes(*destination)),
        family: Family::V4,
        protocol,
        ttl,
        l4,
        end,
        fragment,
        source_routed,
    };
    Packet::finish(frame, link, ip)
}

/// Bytes of a header with its options, by its first byte.
#[inline(always)]
pub(crate) fn header_length(first: u8) -> usize {
    usize::from(first & 0xf) * 4
}

/// Offset in bytes and whether more follow, when the two bytes of flags and offset make a fragment.
#[inline]
fn fragment(f0: u8, f1: u8) -> Option<(u16, bool)> {
    let flags = u16::from_be_bytes([f0, f1]);
    let is_fragment = flags & (flag::OFFSET | flag::MORE_FRAGMENTS) != 0;
    is_fragment.then_some(((flags & flag::OFFSET) << 3, flags & flag::MORE_FRAGMENTS != 0))
}

/// The refusal of a packet with a broken header; a later fragment has no ports.
#[cold]
fn broken_ports(frame: &[u8], reason: DropReason, protocol: u8, l4: usize, end: usize, f0: u8, f1: u8) -> Refusal {
    match fragment(f0, f1) {
        Some((1.., _)) => broken(frame, reason),
        _ => broken_l4(frame, reason, protocol, l4, end),
    }
}

/// The two words of an address in a tuple.
#[inline(always)]
pub(super) fn words(address: u32) -> [u64; 2] {
    [0, V4_MAPPED | u64::from(address)]
}

/// Source and destination of the header at `l3`.
pub(crate) fn addresses(frame: &[u8], l3: usize) -> Option<[[u64; 2]; 2]> {
    let (header, _) = frame.get(l3..)?.first_chunk::<HEADER>()?.as_chunks::<4>();
    let [_, _, _, source, destination] = *header else { return None };
    Some([source, destination].map(|address| words(u32::from_be_bytes(address))))
}

/// Reads the header of a quoted packet, which nothing vouches for; nothing of a later fragment.
pub(super) fn quoted(header: &[u8]) -> Option<Headers> {
    let [first, second] = read_u16(header, FLAGS).to_be_bytes();
    let l4 = header_length(*header.first()?);
    let fragment = fragment(first, second);
    if l4 < HEADER || fragment.is_some_and(|(offset, _)| offset != 0) {
        return None;
    }
    Some(Headers {
        protocol: *header.get(PROTOCOL)?,
        l4,
        total: length_at(header, TOTAL_LENGTH),
        fragment: fragment.is_some(),
    })
}

/// Protocol and identification of the header at `l3`.
pub(crate) fn identification(frame: &[u8], l3: usize) -> Option<(u8, u32)> {
    let header = frame.get(l3..)?.first_chunk::<HEADER>()?;
    Some((header[PROTOCOL], u32::from(read_u16(header, IDENTIFICATION))))
}

/// Whether `options` hold a source route; nothing when they cannot be walked to their end.
fn source_route(mut options: &[u8]) -> Option<bool> {
    loop {
        match *options {
            // The end of the list, explicit or not.
            [] | [option::END, ..] => return Some(false),
            [option::NO_OPERATION, ref rest @ ..] => options = rest,
            [option::LOOSE_SOURCE_ROUTE | option::STRICT_SOURCE_ROUTE, ..] => return Some(true),
            [_, length, ..] if length >= 2 => options = options.get(usize::from(length)..)?,
            _ => return None,
        }
    }
}

/// Whether no host can have this address: 0.0.0.0/8, loopback, multicast or limited broadcast.
#[inline]
pub(super) fn is_impossible_source(address: u32) -> bool {
    let first = address >> 24;
    first == 0 || first == 127 || (224..240).contains(&first) || address == u32::MAX
}

/// A header of a packet that Ringway makes itself, without options.
pub(crate) struct NewHeader {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) protocol: u8,
    pub(crate) tos: u8,
    pub(crate) identification: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) ttl: u8,
    /// Bytes that follow.
    pub(crate) payload: u16,
}

impl NewHeader {
    /// The bytes, checksum included.
    pub(crate) fn bytes(&self) -> [u8; HEADER] {
        let [t0, t1] = (HEADER as u16).saturating_add(self.payload).to_be_bytes();
        let [i0, i1] = self.identification.to_be_bytes();
        let [s0, s1, s2, s3] = self.source.to_be_bytes();
        let [d0, d1, d2, d3] = self.destination.to_be_bytes();
        let [f0, f1] = if self.dont_fragment { flag::DONT_FRAGMENT } else { 0 }.to_be_bytes();
        let mut header =
            [0x45, self.tos, t0, t1, i0, i1, f0, f1, self.ttl, self.protocol, 0, 0, s0, s1, s2, s3, d0, d1, d2, d3];
        [header[CHECKSUM], header[CHECKSUM + 1]] = checksum::checksum(&header).to_be_bytes();
        header
    }
}
