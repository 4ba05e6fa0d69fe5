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

/// The most chunks of a message that are looked at for its length.
const MOST_CHUNKS: usize = 64;

/// How many bytes of a message are missing behind `part`, its first: up to where the last chunk ends that begins there, as a sender's
/// kernel packs what it has cut for a larger path MTU before. Nothing when that does not tell.
pub(crate) fn missing(part: &[u8]) -> Option<u16> {
    let mut at = HEADER;
    for _ in 0..MOST_CHUNKS {
        let length = u16::from_be_bytes(*part.get(at + 2..)?.first_chunk()?);
        // It has a header at least, and the next one begins at a multiple of four.
        if length < 4 {
            return None;
        }
        at += usize::from(length).next_multiple_of(4);
        if at > part.len() {
            return u16::try_from(at).ok().map(|whole| whole - part.len() as u16);
        }
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chunk_tells_what_is_missing_of_a_message() {
        let part = |length: usize, chunks: &[(usize, u16)]| {
            let mut part = vec![0; length];
            for (at, length) in chunks {
                part[at + 2..at + 4].copy_from_slice(&length.to_be_bytes());
            }
            part
        };
        assert_eq!(missing(&part(80, &[(12, 1000)])), Some(932));
        // With what fills the chunk up.
        assert_eq!(missing(&part(80, &[(12, 1001)])), Some(936));
        assert_eq!(missing(&part(80, &[(12, 18), (32, 16), (48, 40)])), Some(8));
        assert_eq!(missing(&part(80, &[(12, 0xffff)])), None, "longer than any packet");
        assert_eq!(missing(&part(80, &[(12, 3)])), None);
        assert_eq!(missing(&part(80, &[(12, 68)])), None, "another may follow, or none");
        assert_eq!(missing(&part(80, &[(12, 66)])), None);
        assert_eq!(missing(&part(15, &[])), None);
        assert_eq!(missing(&part(12, &[])), None);
        let small: Vec<(usize, u16)> = (0..200).map(|number| (12 + 4 * number, 4)).collect();
        assert_eq!(missing(&part(812, &small)), None);
        assert_eq!(missing(&part(264, &[&small[..62], &[(260, 40)]].concat())), Some(36), "the 63rd");
    }
}
