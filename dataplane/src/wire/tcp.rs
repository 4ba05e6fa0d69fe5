//! TCP headers (RFC 9293).

use ringway_shared::DropReason;

use super::{Kind, Packet};

/// Its number in IP headers.
pub(crate) const PROTOCOL: u8 = 6;
/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// The offsets of its fields.
pub(crate) const SEQUENCE: usize = 4;
pub(crate) const ACKNOWLEDGMENT: usize = 8;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
pub(crate) const CHECKSUM: usize = 16;

/// Kinds of options, and the length of one (RFC 9293 3.1).
pub(crate) mod option {
    pub(crate) const END: u8 = 0;
    pub(crate) const NO_OPERATION: u8 = 1;
    pub(crate) const SEGMENT_SIZE: u8 = 2;
    pub(crate) const SEGMENT_SIZE_LENGTH: usize = 4;
    pub(crate) const WINDOW_SCALE: u8 = 3;
    pub(crate) const SACK_PERMITTED: u8 = 4;
    pub(crate) const TIMESTAMPS: u8 = 8;
}

/// The control bits, CWR to FIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;

    /// Whether FIN is set.
    #[inline]
    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Whether SYN is set.
    #[inline]
    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Whether RST is set.
    #[inline]
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Whether ACK is set.
    #[inline]
    pub fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }
}

/// The numbers of a segment, for state and for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgment number; it counts only with the ACK flag.
    pub acknowledgment: u32,
    /// The window as written, not scaled.
    pub window: u16,
    /// What the segment takes of the sequence space: payload, SYN and FIN.
    pub length: u32,
}

/// Judges the header at the start of `segment`, which ends where IP ends.
#[inline(always)]
pub(super) fn parse(segment: &[u8]) -> Result<Kind, DropReason> {
    let header = segment.first_chunk::<HEADER>().ok_or(DropReason::TruncatedTcp)?;
    let offset = data_offset(header);
    if offset < HEADER || offset > segment.len() {
        return Err(DropReason::InvalidTcpHeader);
    }
    Ok(Kind::Tcp { flags: Flags(header[FLAGS]), payload: offset < segment.len() })
}

/// Whether the data offset of a header that is too short for it is one that a header can have.
#[cold]
pub(super) fn has_whole_offset(segment: &[u8]) -> bool {
    segment.first_chunk().is_some_and(|header| data_offset(header) >= HEADER)
}

/// Where data begins: behind the options.
#[inline]
pub(crate) fn data_offset(header: &[u8; HEADER]) -> usize {
    usize::from(header[DATA_OFFSET] >> 4) * 4
}

/// The numbers of the TCP segment that `packet` is in `frame`; nothing when it is no TCP.
#[inline]
pub fn numbers(frame: &[u8], packet: &Packet) -> Option<Numbers> {
    let Kind::Tcp { flags, .. } = packet.kind else { return None };
    let segment = packet.transport(frame)?;
    let header = segment.first_chunk::<HEADER>()?;
    let [_, _, _, _, a, b, c, d, e, f, g, h, _, _, i, j, ..] = *header;
    let payload = segment.len().checked_sub(data_offset(header))? as u32;
    Some(Numbers {
        sequence: u32::from_be_bytes([a, b, c, d]),
        acknowledgment: u32::from_be_bytes([e, f, g, h]),
        window: u16::from_be_bytes([i, j]),
        length: payload + u32::from(flags.syn()) + u32::from(flags.fin()),
    })
}
