//! What a flow's state needs to know of a packet.

use ringway_shared::Protocol;

use crate::wire::quote::Quote;
use crate::wire::sctp;
use crate::wire::tcp::{self, Flags};
use crate::wire::transport::{ChecksumState, checksum_state, has_no_checksum};
use crate::wire::{Kind, Packet};

/// The numbers of a TCP segment or SCTP packet. All zeros for anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// TCP: the control bits.
    pub flags: Flags,
    /// TCP: the sequence number. SCTP: the verification tag, by which a receiver knows its association.
    pub sequence: u32,
    /// TCP: the acknowledgment number. SCTP: the initiate tag of INIT and INIT ACK; else 0.
    pub acknowledgment: u32,
    /// TCP: whether it carries data.
    pub payload: bool,
    /// TCP: how many bytes of data. Only of a SYN that asks, of a SYN or FIN that is believed, and where only the client is seen.
    pub length: u16,
    /// SCTP: the type of the first chunk.
    pub chunk: u8,
    /// Its receiver throws it away, since its checksum is wrong. Only where that was looked at; all else is zero then.
    pub void: bool,
}

impl Segment {
    /// The segment that `packet` is in `frame`.
    #[inline]
    pub fn of(frame: &[u8], packet: &Packet) -> Self {
        let (flags, payload) = match packet.kind {
            Kind::Tcp { flags, payload } => (flags, payload),
            Kind::Sctp => return Self::of_sctp(frame, packet),
            _ => return Segment::default(),
        };
        let header = frame.get(usize::from(packet.l4)..).and_then(|segment| segment.first_chunk::<{ tcp::HEADER }>());
        let Some([_, _, _, _, a, b, c, d, e, f, g, h, ..]) = header else { return Segment::default() };
        Segment {
            flags,
            sequence: u32::from_be_bytes([*a, *b, *c, *d]),
            acknowledgment: u32::from_be_bytes([*e, *f, *g, *h]),
            payload,
            length: 0,
            chunk: 0,
            void: false,
        }
    }

    /// The acknowledgment number alone, of a TCP segment.
    #[inline(always)]
    pub(crate) fn acknowledgment_of(frame: &[u8], packet: &Packet) -> Option<u32> {
        let number = frame.get(usize::from(packet.l4) + tcp::ACKNOWLEDGMENT..)?.first_chunk()?;
        Some(u32::from_be_bytes(*number))
    }

    /// As [`Self::of`], but what could open, end or reset something counts only with a right checksum: its receiver
    /// throws it away otherwise. Reads the whole packet then.
    pub fn believed(frame: &[u8], packet: &Packet) -> Self {
        let mut segment = Self::of(frame, packet);
        let turns = segment.flags.0 & (Flags::SYN | Flags::FIN | Flags::RST) != 0;
        let is_void = match packet.kind {
            // Of a fragment nobody knows whether the rest will come and what its checksum is.
            _ if packet.fragment.is_some() => turns,
            _ if turns || packet.kind == Kind::Sctp => checksum_state(frame, packet) == ChecksumState::Wrong,
            _ => false,
        };
        if is_void {
            return Segment { void: true, ..Segment::default() };
        }
        if segment.flags.fin() || (segment.flags.syn() && segment.payload) {
            segment.length = data(frame, packet, segment.flags);
        }
        segment
    }

    /// As [`Self::believed`], with the length of all segments: of a client whose endpoint is not seen.
    pub fn one_way(frame: &[u8], packet: &Packet) -> Self {
        let mut segment = Self::believed(frame, packet);
        if !segment.void {
            segment.length = data(frame, packet, segment.flags);
        }
        segment
    }

    /// As [`Self::of`], and a datagram counts only with a right checksum: for one that asks for an answer. Of a SYN it is not
    /// looked at, which would make every new connection an eighth dearer; its repetition is judged by [`Self::believed`].
    #[inline(always)]
    pub fn asking(frame: &[u8], packet: &Packet) -> Self {
        if packet.kind == Kind::Udp {
            let void = !has_no_checksum(frame, packet) && checksum_state(frame, packet) == ChecksumState::Wrong;
            return Segment { void, ..Segment::default() };
        }
        let mut segment = Self::of(frame, packet);
        if segment.payload && segment.flags.syn() {
            segment.length = data(frame, packet, segment.flags);
        }
        segment
    }

    /// The numbers of a packet that an ICMP error quotes, as far as they are quoted; nothing when not even the first is, which
    /// is among what every error has to quote.
    pub(crate) fn quoted(message: &[u8], quote: &Quote) -> Option<Self> {
        let number = |at: usize| quote.field(message, at).map(u32::from_be_bytes);
        match quote.tuple.protocol() {
            Protocol::Udp => Some(Segment::default()),
            Protocol::Tcp => Some(Segment { sequence: number(tcp::SEQUENCE)?, ..Segment::default() }),
            Protocol::Sctp => {
                let sequence = number(sctp::VERIFICATION_TAG)?;
                // What does not show its chunk may be an INIT, whose tag is never 0.
                let (chunk, acknowledgment) = match (quote.field(message, sctp::HEADER), number(sctp::INITIATE_TAG)) {
                    (Some([chunk]), Some(tag)) => (chunk, tag),
                    _ => (sctp::chunk::INIT, 0),
                };
                Some(Segment { sequence, acknowledgment, chunk, ..Segment::default() })
            }
        }
    }

    #[cold]
    fn of_sctp(frame: &[u8], packet: &Packet) -> Self {
        let Some(message) = packet.transport(frame) else { return Segment::default() };
        let (verification_tag, chunk, initiate_tag) = sctp::tags(message);
        Segment { sequence: verification_tag, acknowledgment: initiate_tag, chunk, ..Segment::default() }
    }
}

/// How many bytes of data a TCP segment brings: what it takes of the sequence space beside its controls.
#[cold]
fn data(frame: &[u8], packet: &Packet, flags: Flags) -> u16 {
    let controls = u32::from(flags.syn()) + u32::from(flags.fin());
    tcp::numbers(frame, packet).map_or(0, |numbers| numbers.length.saturating_sub(controls) as u16)
}
