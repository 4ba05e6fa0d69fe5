//! An ICMP error about a packet that was rewritten, on its way to who sent that packet: the quoted packet becomes the one that
//! its sender knows, and the addresses around it follow.
//!
//! A flow's packets become others on their way ([`super::nat`]); this is the way back of what is said about them. Checksums are
//! adjusted, those of the quoted packet as far as they are quoted, so that one that was wrong stays wrong. The quoted packet
//! keeps all else as it was when it met its end, its TTL above all.

use ringway_shared::{Family, FiveTuple, Protocol};

use super::nat::{Rewrite, rewrite};
use crate::wire::quote::Quote;
use crate::wire::transport::{read_u16, write};
use crate::wire::{Packet, checksum, icmp, ipv4, ipv6, sctp, tcp, udp};

/// Translates the error that `packet` is in `frame`, and makes it one hop older. `to` is what packets of the flow become that
/// go where the error goes, and `quote` what it quotes: one that went the other way.
///
/// The error's destination becomes that of these packets, and as with Linux's NAT its source becomes theirs where the rewrite
/// changes the source: whoever gets it knows no other address for what lies behind. Where it does not, a router on the way is
/// seen as it is.
pub(crate) fn translate(frame: &mut [u8], packet: &Packet, quote: &Quote, to: &Rewrite) {
    let renamed = quote.tuple.destination != to.to.source || quote.tuple.destination_port() != to.to.source_port();
    let source = if renamed { to.to.source } else { packet.tuple.source };
    let outer = FiveTuple { source, destination: to.to.destination, ports: packet.tuple.ports };
    if let Some(message) = packet.transport_mut(frame) {
        let change = turn_back(message, quote, to);
        let sum = read_u16(message, icmp::CHECKSUM);
        write(message, icmp::CHECKSUM, checksum::adjust(sum, change).to_be_bytes());
    }
    rewrite(frame, packet, &Rewrite::new(&packet.tuple, outer));
}

/// Makes the quoted packet the one that its sender sent; says what that adds to the sum over the message.
fn turn_back(message: &mut [u8], quote: &Quote, to: &Rewrite) -> u16 {
    let sent = to.to.reversed();
    let mut quoted = Change { bytes: message.get_mut(..quote.end).unwrap_or_default(), sum: 0 };
    match sent.family() {
        Family::V4 => {
            quoted.adjust(icmp::HEADER + ipv4::CHECKSUM, to.delta.addresses);
            let [source, destination] = [sent.source, sent.destination].map(|[_, low]| low as u32);
            quoted.put(icmp::HEADER + ipv4::SOURCE, source.to_be_bytes());
            quoted.put(icmp::HEADER + ipv4::DESTINATION, destination.to_be_bytes());
        }
        Family::V6 => {
            let [s0, s1] = sent.source;
            let [d0, d1] = sent.destination;
            for (word, at) in [s0, s1, d0, d1].into_iter().zip((icmp::HEADER + ipv6::SOURCE..).step_by(8)) {
                quoted.put(at, word.to_be_bytes());
            }
        }
    }
    quoted.put(quote.l4, ((sent.ports >> 32) as u32).to_be_bytes());
    match sent.protocol() {
        Protocol::Tcp => quoted.adjust(quote.l4 + tcp::CHECKSUM, to.delta.all),
        Protocol::Udp => quoted.adjust_udp(quote.l4 + udp::CHECKSUM, to.delta.all),
        Protocol::Sctp => {
            // The CRC covers the ports, and depends on how much follows them.
            let difference = ((quote.tuple.ports ^ sent.ports) >> 32) as u32;
            let rest = quote.length.and_then(|length| u16::try_from(length.checked_sub(4)?).ok());
            let crc: Option<[u8; 4]> = quote.field(quoted.bytes, sctp::CHECKSUM);
            if let (Some(rest), Some(crc)) = (rest, crc) {
                let after = u32::from_le_bytes(crc) ^ checksum::crc32c_change(difference.to_be_bytes(), rest);
                quoted.put(quote.l4 + sctp::CHECKSUM, after.to_le_bytes());
            }
        }
    }
    checksum::fold(quoted.sum)
}

/// Bytes that are changed, and what that adds to the sum over them. All offsets and lengths are even.
struct Change<'b> {
    bytes: &'b mut [u8],
    sum: u64,
}

impl Change<'_> {
    /// Writes a field, if all of it is there.
    fn put<const N: usize>(&mut self, at: usize, new: [u8; N]) {
        if let Some(field) = self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
            self.sum += u64::from(!checksum::sum(&*field)) + u64::from(checksum::sum(&new));
            *field = new;
        }
    }

    /// Adjusts a checksum to data that changed by `delta`.
    fn adjust(&mut self, at: usize, delta: u16) {
        let before = read_u16(self.bytes, at);
        self.put(at, checksum::adjust(before, delta).to_be_bytes());
    }

    /// As [`Self::adjust`], but no checksum stays none.
    fn adjust_udp(&mut self, at: usize, delta: u16) {
        let before = read_u16(self.bytes, at);
        if before != 0 {
            self.put(at, udp::written(checksum::adjust(before, delta)).to_be_bytes());
        }
    }
}
