//! The SCTP common header (RFC 9260).

use ringway_shared::DropReason;

use super::{Kind, checksum};

/// Bytes of the common header.
pub const HEADER: usize = 12;
/// The offset of the CRC32c, which is written least significant byte first.
pub(crate) const CHECKSUM: usize = 8;

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
