//! UDP headers (RFC 768).

use ringway_shared::DropReason;

use super::Kind;

/// Its number in IP headers.
pub(crate) const PROTOCOL: u8 = 17;
/// Bytes of a header.
pub const HEADER: usize = 8;
/// The offsets of its fields.
pub(crate) const LENGTH: usize = 4;
pub(crate) const CHECKSUM: usize = 6;

/// Judges the header at the start of `datagram`, which ends where IP ends. The length of a first fragment speaks of the
/// whole datagram, so it may be larger than what is here.
#[inline(always)]
pub(super) fn parse(datagram: &[u8], first_fragment: bool) -> Result<Kind, DropReason> {
    let header = datagram.first_chunk::<HEADER>().ok_or(DropReason::TruncatedUdp)?;
    let length = usize::from(length(header));
    if length < HEADER || (length > datagram.len() && !first_fragment) {
        return Err(DropReason::InvalidUdpLength);
    }
    Ok(Kind::Udp)
}

/// The length of header and payload.
#[inline]
pub(crate) fn length(header: &[u8; HEADER]) -> u16 {
    u16::from_be_bytes([header[LENGTH], header[LENGTH + 1]])
}

/// How much of `datagram`, which ends where IP ends, its checksum covers: what the header says.
#[inline]
pub(crate) fn covered(datagram: &[u8]) -> usize {
    datagram.first_chunk().map_or(0, |header| usize::from(length(header)))
}

/// A computed checksum as it is written: 0 would say that there is none.
#[inline]
pub(crate) fn written(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}
