//! IPv6 headers and their extension headers (RFC 8200).

use ringway_shared::{DropReason, Family};

use super::quote::{Headers, length_at};
use super::{Fragment, IpHeader, Packet, Refusal, broken, broken_l4, ethernet};

/// Bytes of the fixed header.
pub(crate) const HEADER: usize = 40;
/// The offsets of its fields.
const PAYLOAD_LENGTH: usize = 4;
pub(crate) const NEXT_HEADER: usize = 6;
pub(crate) const HOP_LIMIT: usize = 7;
pub(crate) const SOURCE: usize = 8;
pub(crate) const DESTINATION: usize = 24;
/// Bytes of a fragment header.
pub(crate) const FRAGMENT_HEADER: usize = 8;
/// The longest chain of extension headers that is followed.
const CHAIN_LIMIT: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

/// Reads a packet: version, payload length within the frame, extension headers.
#[inline(always)]
pub(super) fn parse(frame: &[u8], link: &[u8; ethernet::HEADER]) -> Result<Packet, Refusal> {
    let l3 = ethernet::HEADER;
    let bytes = frame.get(l3..).unwrap_or(&[]);
    let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Refusal::Foreign)?;
    let ([fixed, s0, s1, d0, d1], _) = header.as_chunks::<8>() else { return Err(Refusal::Foreign) };
    let [version, _, _, _, p0, p1, next, ttl] = *fixed;
    let payload_length = usize::from(u16::from_be_bytes([p0, p1]));
    let end = l3 + HEADER + payload_length;
    if version >> 4 != 6 {
        return Err(broken(frame, DropReason::InvalidIpv6Header));
    }
    let mut chain = Chain::new(next, l3 + HEADER);
    if is_extension(next) {
        match chain.follow(rest.get(..payload_length).unwrap_or(rest)) {
            Ok(followed) => chain = followed,
            // What the frame lacks, the packet has perhaps.
            Err(DropReason::TinyFragment) if payload_length > rest.len() => {
                return Err(broken(frame, DropReason::TruncatedIpv6));
            }
            Err(reason) => return Err(broken(frame, reason)),
        }
    }
    if payload_length > rest.len() {
        let truncated = DropReason::TruncatedIpv6;
        return Err(match chain.fragment {
            Some(Fragment { offset: 1.., .. }) => broken(frame, truncated),
            _ => broken_l4(frame, truncated, chain.protocol, chain.l4, end),
        });
    }
    let ip = IpHeader {
        source: [u64::from_be_bytes(*s0), u64::from_be_bytes(*s1)],
        destination: [u64::from_be_bytes(*d0), u64::from_be_bytes(*d1)],
        family: Family::V6,
        protocol: chain.protocol,
        ttl,
        l4: chain.l4,
        end,
        fragment: chain.fragment,
        source_routed: chain.source_routed,
    };
    Packet::finish(frame, link, ip)
}

/// How far the chain of extension headers has been followed.
#[derive(Clone, Copy)]
struct Chain {
    protocol: u8,
    l4: usize,
    fragment: Option<Fragment>,
    /// Whether there was a fragment header, though of a whole packet.
    fragment_header: bool,
    source_routed: bool,
}

impl Chain {
    #[inline]
    fn new(protocol: u8, l4: usize) -> Self {
        Chain { protocol, l4, fragment: None, fragment_header: false, source_routed: false }
    }

    /// Follows the extension headers in `payload` up to L4, or up to the fragment header of a later fragment.
    fn follow(mut self, payload: &[u8]) -> Result<Chain, DropReason> {
        let mut at = 0;
        for _ in 0..CHAIN_LIMIT {
            let header = payload.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(|| self.cut_short())?;
            let [next, length, routing_type, segments_left, ..] = *header;
            let mut header_length = (usize::from(length) + 1) * 8;
            match self.protocol {
                // Type 0 is a source route even when it is used up; any other type is one while segments are left.
                ROUTING => self.source_routed |= routing_type == 0 || segments_left != 0,
                // At most one (RFC 8200 4.1): each would make another datagram of it.
                FRAGMENT if self.fragment_header => return Err(DropReason::InvalidIpv6Header),
                FRAGMENT => {
                    header_length = FRAGMENT_HEADER;
                    self.fragment_header = true;
                    self.fragment = fragment(header);
                }
                _ => {}
            }
            at += header_length;
            if at > payload.len() {
                return Err(self.cut_short());
            }
            self.protocol = next;
            self.l4 += header_length;
            if !is_extension(next) || self.fragment.is_some_and(|fragment| fragment.offset != 0) {
                return Ok(self);
            }
        }
        Err(DropReason::ExtensionChainTooLong)
    }

    /// Why the chain ends inside a header: a first fragment has to have all headers (RFC 7112).
    #[cold]
    fn cut_short(&self) -> DropReason {
        if self.fragment.is_some() { DropReason::TinyFragment } else { DropReason::TruncatedIpv6 }
    }
}

/// Source and destination of the header at `l3`.
pub(crate) fn addresses(frame: &[u8], l3: usize) -> Option<[[u64; 2]; 2]> {
    let (header, _) = frame.get(l3..)?.first_chunk::<HEADER>()?.as_chunks::<8>();
    let [_, s0, s1, d0, d1] = *header else { return None };
    Some([[s0, s1], [d0, d1]].map(|address| address.map(u64::from_be_bytes)))
}

/// Reads the headers of a quoted packet, which nothing vouches for; nothing of a later fragment.
pub(super) fn quoted(headers: &[u8]) -> Option<Headers> {
    let protocol = *headers.get(NEXT_HEADER)?;
    let mut chain = Chain::new(protocol, HEADER);
    if is_extension(protocol) {
        chain = chain.follow(headers.get(HEADER..)?).ok()?;
    }
    if chain.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return None;
    }
    let total = HEADER + length_at(headers, PAYLOAD_LENGTH);
    Some(Headers { protocol: chain.protocol, l4: chain.l4, total, fragment: chain.fragment.is_some() })
}

/// Where in a packet's headers, extension headers included, the number of the protocol stands that follows them; nothing
/// when no header follows.
pub(crate) fn protocol_offset(headers: &[u8]) -> Option<u32> {
    let (mut place, mut at) = (NEXT_HEADER, HEADER);
    while let Some([_, length, ..]) = headers.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let is_fragment = headers.get(place) == Some(&FRAGMENT);
        place = at;
        at += if is_fragment { 8 } else { (usize::from(*length) + 1) * 8 };
    }
    headers.get(place).filter(|next| **next != NO_NEXT_HEADER).map(|_| place as u32)
}

/// Where behind the fragment header its data begins, in a packet that has one.
pub(crate) fn fragment_data(packet: &[u8]) -> Option<usize> {
    let (mut next, mut at) = (*packet.get(NEXT_HEADER)?, HEADER);
    for _ in 0..=CHAIN_LIMIT {
        let [following, length, ..] = packet.get(at..)?.first_chunk::<FRAGMENT_HEADER>()?;
        match next {
            FRAGMENT => return Some(at + FRAGMENT_HEADER),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => at += (usize::from(*length) + 1) * 8,
            _ => return None,
        }
        next = *following;
    }
    None
}

/// The identification in the fragment header of a packet that has one.
pub(crate) fn identification(packet: &[u8]) -> Option<u32> {
    let at = fragment_data(packet)?;
    packet.get(at - 4..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// Whether this number of a next header is that of an extension header, which another one follows.
#[inline]
pub(crate) fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// What a fragment header says, unless it makes no fragment: offset 0 and none that follow.
fn fragment(header: &[u8; 8]) -> Option<Fragment> {
    let [_, _, o0, o1, i0, i1, i2, i3] = *header;
    let offset_and_flags = u16::from_be_bytes([o0, o1]);
    let (offset, more) = (offset_and_flags & 0xfff8, offset_and_flags & 1 != 0);
    let identification = u32::from_be_bytes([i0, i1, i2, i3]);
    (offset != 0 || more).then_some(Fragment { offset, more, identification })
}

/// Whether nobody whose packet is sent on can have this address: unspecified, loopback, multicast, IPv4-mapped (which Linux refuses
/// on the wire as well), or of a link, which no packet leaves that has such a source (RFC 4291 2.5.6).
#[inline]
pub(super) fn is_impossible_source(address: [u64; 2]) -> bool {
    let [high, low] = address;
    (high == 0 && (low <= 1 || low >> 32 == 0xffff)) || high >> 56 == 0xff || is_link_local(address)
}

/// Whether this is an address of a link: fe80::/10.
#[inline]
pub(super) fn is_link_local([high, _]: [u64; 2]) -> bool {
    high >> 54 == 0xfe80 >> 6
}

/// A header of a packet that Ringway makes itself, without extension headers.
pub(crate) struct NewHeader {
    pub(crate) source: [u64; 2],
    pub(crate) destination: [u64; 2],
    pub(crate) next_header: u8,
    pub(crate) traffic_class: u8,
    pub(crate) hop_limit: u8,
    /// Bytes that follow.
    pub(crate) payload: u16,
}

impl NewHeader {
    /// The bytes.
    pub(crate) fn bytes(&self) -> [u8; HEADER] {
        let version = 6 << 28 | u32::from(self.traffic_class) << 20;
        let first = u64::from(version) << 32
            | u64::from(self.payload) << 16
            | u64::from(self.next_header) << 8
            | u64::from(self.hop_limit);
        let words = [first, self.source[0], self.source[1], self.destination[0], self.destination[1]];
        let mut header = [0; HEADER];
        for (place, word) in header.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        header
    }
}
