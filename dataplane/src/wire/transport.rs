//! The L4 checksum of a parsed packet, whatever its protocol: judged, and completed when a local sender left it partial.

use ringway_shared::{Family, FiveTuple};

use super::{Kind, Packet, checksum, icmp, sctp, tcp, udp};

/// What an L4 checksum turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumState {
    /// It fits the packet.
    Right,
    /// Only the sum of the pseudo-header (SCTP: 0), as a sender with checksum offload leaves it: as good as right.
    Partial,
    /// IPv4 UDP without a checksum.
    Absent,
    /// It does not fit.
    Wrong,
    /// A fragment, or a protocol whose checksum is not known here.
    Unknown,
}

/// The sum of the pseudo-header of the packet that `segment` belongs to.
#[inline]
fn pseudo_header(tuple: &FiveTuple, length: usize) -> u16 {
    checksum::pseudo_header(tuple, tuple.ports as u8, length as u16)
}

/// Whether a datagram of UDP, which was parsed from `frame`, has no checksum, as it may over IPv4.
#[inline]
pub(crate) fn has_no_checksum(frame: &[u8], packet: &Packet) -> bool {
    packet.family() == Family::V4 && read_u16(frame, usize::from(packet.l4) + udp::CHECKSUM) == 0
}

/// Judges the L4 checksum of `packet`, which was parsed from `frame`, by reading all of it.
pub fn checksum_state(frame: &[u8], packet: &Packet) -> ChecksumState {
    let Some(segment) = packet.transport(frame).filter(|_| packet.fragment.is_none()) else {
        return ChecksumState::Unknown;
    };
    let (at, covered) = match packet.kind {
        Kind::Tcp { .. } => (tcp::CHECKSUM, segment),
        Kind::Udp => (udp::CHECKSUM, segment.get(..udp::covered(segment)).unwrap_or(segment)),
        Kind::Icmp { .. } => (icmp::CHECKSUM, segment),
        Kind::Sctp => {
            return match read_u32_le(segment, sctp::CHECKSUM) {
                0 => ChecksumState::Partial,
                crc if sctp::right_checksum(segment) == Some(crc) => ChecksumState::Right,
                _ => ChecksumState::Wrong,
            };
        }
        Kind::Other(_) | Kind::LaterFragment { .. } => return ChecksumState::Unknown,
    };
    let field = read_u16(covered, at);
    let is_icmp = matches!(packet.kind, Kind::Icmp { .. });
    if packet.kind == Kind::Udp && field == 0 {
        // RFC 8200 8.1 forbids it over IPv6.
        return if packet.family() == Family::V4 { ChecksumState::Absent } else { ChecksumState::Wrong };
    }
    let pseudo = if is_icmp && packet.family() == Family::V4 { 0 } else { pseudo_header(&packet.tuple, covered.len()) };
    if checksum::fold(u64::from(pseudo) + u64::from(checksum::sum(covered))) == 0xffff {
        ChecksumState::Right
    } else if field == pseudo && !is_icmp {
        ChecksumState::Partial
    } else {
        ChecksumState::Wrong
    }
}

/// Completes the checksum of a packet that goes on as it is, if it is partial, and says whether it was. A TAP device, or
/// any other way out that knows nothing of the sender's offload, needs it whole.
#[inline]
pub fn complete_partial(frame: &mut [u8], packet: &Packet) -> bool {
    let Some(segment) = packet.transport_mut(frame).filter(|_| packet.fragment.is_none()) else { return false };
    let (at, length) = match packet.kind {
        Kind::Tcp { .. } => (tcp::CHECKSUM, segment.len()),
        Kind::Udp => (udp::CHECKSUM, udp::covered(segment)),
        Kind::Sctp => {
            let partial = read_u32_le(segment, sctp::CHECKSUM) == 0;
            if partial {
                complete_sctp(segment);
            }
            return partial;
        }
        Kind::Icmp { .. } | Kind::Other(_) | Kind::LaterFragment { .. } => return false,
    };
    let partial = read_u16(segment, at) == pseudo_header(&packet.tuple, length);
    if partial {
        complete(segment, at, length, &packet.tuple);
    }
    partial
}

/// Writes the whole checksum at `at` over the first `length` bytes of a TCP segment or UDP datagram that goes between
/// the ends of `tuple`.
pub(crate) fn complete(segment: &mut [u8], at: usize, length: usize, tuple: &FiveTuple) {
    let Some(covered) = segment.get_mut(..length) else { return };
    write(covered, at, pseudo_header(tuple, length).to_be_bytes());
    let sum = checksum::checksum(covered);
    // The two forms of zero are the same to TCP, so only UDP needs the care.
    let sum = if at == udp::CHECKSUM { udp::written(sum) } else { sum };
    write(covered, at, sum.to_be_bytes());
}

/// Writes the whole CRC32c.
pub(crate) fn complete_sctp(message: &mut [u8]) {
    if let Some(crc) = sctp::right_checksum(message) {
        write(message, sctp::CHECKSUM, crc.to_le_bytes());
    }
}

/// Writes `bytes` at `at`, when they fit.
#[inline]
pub(crate) fn write<const N: usize>(to: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = to.get_mut(at..at + N) {
        place.copy_from_slice(&bytes);
    }
}

/// The `N` bytes at `at`; zeros when they are not there.
#[inline]
fn read<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    from.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

/// A big-endian field of two bytes.
#[inline]
pub(crate) fn read_u16(from: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(read(from, at))
}

/// A little-endian field of four bytes.
#[inline]
pub(crate) fn read_u32_le(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(read(from, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sample::{L4, Sample, samples};
    use proptest::prelude::*;

    proptest! {
        /// Also where the field is 0 over IPv6, and behind options and extension headers.
        #[test]
        fn a_datagram_without_a_checksum_is_known_by_the_field_alone(sample in samples(), is_zero in any::<bool>()) {
            let mut frame = Sample { l4: L4::Udp, ..sample }.frame();
            let packet = Packet::parse(&frame).unwrap();
            if is_zero {
                write(packet.transport_mut(&mut frame).unwrap(), udp::CHECKSUM, [0, 0]);
            }
            let is_absent = checksum_state(&frame, &packet) == ChecksumState::Absent;
            prop_assert_eq!(has_no_checksum(&frame, &packet), is_absent);
            prop_assert_eq!(is_absent, is_zero && packet.family() == Family::V4);
        }
    }
}
