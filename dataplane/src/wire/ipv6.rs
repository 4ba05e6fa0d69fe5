//! IPv6 headers and their extension headers (RFC 8200).

use ringway_shared::{DropReason, Family};

use super::{Fragment, IpHeader, IpRefusal, L4Found};

/// Bytes of the fixed header.
pub(crate) const HEADER: usize = 40;
/// The longest chain of extension headers that is followed.
const CHAIN_LIMIT: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Reads the headers at `l3`: version, payload length within the frame, extension headers.
#[inline]
pub(super) fn parse(frame: &[u8], l3: usize) -> Result<IpHeader, IpRefusal> {
    let bytes = frame.get(l3..).unwrap_or(&[]);
    let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(IpRefusal::Foreign)?;
    let (fixed, addresses) = header.split_first_chunk::<8>().ok_or(IpRefusal::Foreign)?;
    let [version, _, _, _, p0, p1, next, ttl] = *fixed;
    let (addresses, _) = addresses.as_chunks::<8>();
    let [s0, s1, d0, d1] = *addresses else { return Err(IpRefusal::Foreign) };
    let payload_length = usize::from(u16::from_be_bytes([p0, p1]));
    let l4 = l3 + HEADER;
    let mut ip = IpHeader {
        source: [u64::from_be_bytes(s0), u64::from_be_bytes(s1)],
        destination: [u64::from_be_bytes(d0), u64::from_be_bytes(d1)],
        family: Family::V6,
        protocol: next,
        ttl,
        l4,
        end: l4 + payload_length,
        fragment: None,
        source_routed: false,
    };
    if version >> 4 != 6 {
        return Err(IpRefusal::Invalid(DropReason::InvalidIpv6Header, ip, L4Found::No));
    }
    let truncated = payload_length > rest.len();
    let payload = rest.get(..payload_length).unwrap_or(rest);
    if is_extension(next) {
        ip = follow(ip, payload)?;
    }
    if truncated {
        return Err(IpRefusal::Invalid(DropReason::TruncatedIpv6, ip, L4Found::Yes));
    }
    Ok(ip)
}

#[inline]
fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// Follows the chain of extension headers in `payload` up to L4, or up to the fragment header of a later fragment.
fn follow(mut ip: IpHeader, payload: &[u8]) -> Result<IpHeader, IpRefusal> {
    let mut at = 0;
    for _ in 0..CHAIN_LIMIT {
        let Some([next, length, type_or_flags, segments_left, ..]) =
            payload.get(at..).and_then(|h| h.first_chunk::<8>())
        else {
            return Err(IpRefusal::Invalid(DropReason::TruncatedIpv6, ip, L4Found::No));
        };
        let mut header_length = (usize::from(*length) + 1) * 8;
        match ip.protocol {
            // Type 0 is a source route even when it is used up; any other type is one while segments are left.
            ROUTING => ip.source_routed |= *type_or_flags == 0 || *segments_left != 0,
            FRAGMENT => {
                header_length = 8;
                ip.fragment = fragment(payload.get(at..).unwrap_or(&[]));
            }
            _ => {}
        }
        at += header_length;
        if at > payload.len() {
            return Err(IpRefusal::Invalid(DropReason::TruncatedIpv6, ip, L4Found::No));
        }
        ip.protocol = *next;
        ip.l4 += header_length;
        if !is_extension(ip.protocol) || ip.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return Ok(ip);
        }
    }
    Err(IpRefusal::Invalid(DropReason::ExtensionChainTooLong, ip, L4Found::No))
}

/// The fragment header at the start of `header`, unless it makes no fragment: offset 0 and none that follow.
fn fragment(header: &[u8]) -> Option<Fragment> {
    let [_, _, o0, o1, i0, i1, i2, i3] = *header.first_chunk::<8>()?;
    let offset_and_flags = u16::from_be_bytes([o0, o1]);
    let (offset, more) = (offset_and_flags & 0xfff8, offset_and_flags & 1 != 0);
    let identification = u32::from_be_bytes([i0, i1, i2, i3]);
    (offset != 0 || more).then_some(Fragment { offset, more, identification })
}

/// Whether no host can have this address: unspecified, loopback, multicast, or IPv4-mapped (which Linux refuses on the
/// wire as well).
#[inline]
pub(super) fn is_impossible_source([high, low]: [u64; 2]) -> bool {
    (high == 0 && (low <= 1 || low >> 32 == 0xffff)) || high >> 56 == 0xff
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
