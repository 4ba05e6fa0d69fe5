//! The SCTP common header (RFC 9260).

use ringway_shared::DropReason;

use super::{Kind, checksum};

/// Bytes of the common header.
pub const HEADER: usize = 12;
/// The offset of the CRC32c, which is written least significant byte first.
pub(crate) const CHECKSUM: usize = 8;

/// The offset of the verification tag.
pub(crate) const VERIFICATION_TAG: usize = 4;
/// The offset of the initiate tag in an INIT or INIT ACK chunk, from the start of the packet.
pub(crate) const INITIATE_TAG: usize = HEADER + 4;

/// Types of chunks.
pub(crate) mod chunk {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const INIT_ACK: u8 = 2;
    pub(crate) const SACK: u8 = 3;
    pub(crate) const HEARTBEAT: u8 = 4;
    pub(crate) const HEARTBEAT_ACK: u8 = 5;
    pub(crate) const ABORT: u8 = 6;
    pub(crate) const COOKIE_ACK: u8 = 11;
}

/// The verification tag, the type of the first chunk, and the initiate tag if that is an INIT or INIT ACK (else 0).
pub(crate) fn tags(message: &[u8]) -> (u32, u8, u32) {
    let read = |at: usize| message.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    let kind = message.get(HEADER).copied().unwrap_or_default();
    let initiate = if matches!(kind, chunk::INIT | chunk::INIT_ACK) { read(INITIATE_TAG) } else { [0; 4] };
    (u32::from_be_bytes(read(VERIFICATION_TAG)), kind, u32::from_be_bytes(initiate))
}

/// Judges the header at the start of `message`, which ends where IP ends.
#[inline]
pub(super) fn parse(message: &[u8]) -> Result<Kind, DropReason> {
    message.first_chunk::<HEADER>().map(|_| Kind::Sctp).ok_or(DropReason::TruncatedSctp)
}

/// The CRC32c that `message` should carry, whatever it carries now; nothing when it is too short for one.
pub(crate) fn right_checksum(message: &[u8]) -> Option<u32> {
    let (header, chunks) = message.split_first_chunk::<HEADER>()?;
    Some(checksum::crc32c(&[&header[..CHECKSUM], &[0; 4], chunks]))
}
