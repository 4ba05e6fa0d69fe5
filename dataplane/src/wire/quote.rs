//! The packet that an ICMP error quotes: its first bytes, as they were when it met its end.
//!
//! Offsets are from the ICMP header on. A quote is of use when it reaches the ports: eight bytes of L4 are what RFC 792 asks
//! for, more is usual. What it has beyond that is changed where it is there, and nothing else is: what follows the quote may be
//! extensions of RFC 4884, which begin where the error says, never within the first 128 bytes.

use std::net::IpAddr;

use ringway_shared::address::address_of_words;
use ringway_shared::{Family, FiveTuple, Protocol};

use super::transport::read_u16;
use super::{icmp, ipv4, ipv6, ports, tuple};

/// The protocol number of IPv4 inside IP.
pub(crate) const IPV4_INSIDE: u8 = 4;
/// The protocol number of IPv6 inside IP.
pub(crate) const IPV6_INSIDE: u8 = 41;

/// Where an error has the length of what it quotes (RFC 4884), in words of four (ICMP) or eight bytes (ICMPv6).
const LENGTH_V4: usize = 5;
const LENGTH_V6: usize = 4;
/// What an error quotes at least if it says how much.
const SHORTEST: usize = 128;

/// A quoted packet that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quote {
    /// Addresses, ports and protocol.
    pub(crate) tuple: FiveTuple,
    /// Where its L4 header begins.
    pub(crate) l4: usize,
    /// Where the quote ends.
    pub(crate) end: usize,
    /// How much of L4 the packet had, quoted or not, as far as its headers say; of a fragment nobody knows.
    pub(crate) length: Option<usize>,
}

impl Quote {
    /// A field of L4, as far as it is quoted.
    pub(crate) fn field<const N: usize>(&self, message: &[u8], at: usize) -> Option<[u8; N]> {
        message.get(..self.end)?.get(self.l4 + at..)?.first_chunk().copied()
    }
}

/// A quoted packet that is inside another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inside {
    /// Between which addresses the outer one went.
    pub(crate) outer: [IpAddr; 2],
    /// The inner one.
    pub(crate) quote: Quote,
    /// Where it begins.
    pub(crate) start: usize,
}

/// Whether an error of this type says that a packet does not arrive: nobody listens, no way leads there, or somebody forbids
/// it. Not that it is too large.
pub(crate) fn is_unreachable(icmp_type: u8, code: u8, family: Family) -> bool {
    match family {
        Family::V4 => icmp_type == 3 && code != 4,
        Family::V6 => icmp_type == 1,
    }
}

/// The packet that `message`, an ICMP error from its header on, quotes. Nothing when that has no ports: a later fragment,
/// another protocol, or too few bytes.
pub(crate) fn quoted(message: &[u8], family: Family) -> Option<Quote> {
    quoted_at(message, icmp::HEADER, end(message, family)?, family)
}

/// The same of a quoted packet that is all that another one has inside.
pub(crate) fn quoted_inside(message: &[u8], family: Family) -> Option<Inside> {
    let end = end(message, family)?;
    let (ends, headers) = read(message.get(icmp::HEADER..end)?, family)?;
    let inner = match headers.protocol {
        IPV4_INSIDE => Family::V4,
        IPV6_INSIDE => Family::V6,
        _ => return None,
    };
    let start = icmp::HEADER + headers.l4;
    let outer = ends.map(|end| address_of_words(end, family));
    Some(Inside { outer, quote: quoted_at(message, start, end, inner)?, start })
}

/// The packet whose first bytes stand at `start`, up to `end`.
fn quoted_at(message: &[u8], start: usize, end: usize, family: Family) -> Option<Quote> {
    let quote = message.get(start..end)?;
    let ([source, destination], headers) = read(quote, family)?;
    let Headers { protocol, l4, total, fragment } = headers;
    Protocol::from_number(protocol)?;
    Some(Quote {
        tuple: tuple(source, destination, family, protocol, ports(quote.get(l4..)?)?),
        l4: start + l4,
        end,
        length: total.checked_sub(l4).filter(|_| !fragment),
    })
}

/// Addresses and headers of a quoted packet of this family.
fn read(quote: &[u8], family: Family) -> Option<([[u64; 2]; 2], Headers)> {
    match (family, quote.first()? >> 4) {
        (Family::V4, 4) => Some((ipv4::addresses(quote, 0)?, ipv4::quoted(quote)?)),
        (Family::V6, 6) => Some((ipv6::addresses(quote, 0)?, ipv6::quoted(quote)?)),
        _ => None,
    }
}

/// What the IP headers of a quoted packet say; offsets are from their start on.
pub(super) struct Headers {
    pub(super) protocol: u8,
    /// Where L4 begins.
    pub(super) l4: usize,
    /// How long the packet was.
    pub(super) total: usize,
    /// Whether it was a first fragment.
    pub(super) fragment: bool,
}

/// Where the quote ends: with the message, or where the error says.
fn end(message: &[u8], family: Family) -> Option<usize> {
    let icmp_type = *message.first()?;
    let (at, word) = match (family, icmp_type) {
        (Family::V4, 3 | 11 | 12) => (LENGTH_V4, 4),
        (Family::V6, 1 | 3) => (LENGTH_V6, 8),
        _ => return Some(message.len()),
    };
    let length = usize::from(*message.get(at)?) * word;
    // Less than that says nothing: whoever wrote it knows no extensions.
    let end = if length < SHORTEST { message.len() } else { icmp::HEADER + length };
    Some(end.min(message.len()))
}

/// The length that an IPv4 or IPv6 header gives, at `at` in it.
pub(super) fn length_at(header: &[u8], at: usize) -> usize {
    usize::from(read_u16(header, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(v6: bool, protocol: u8) -> Vec<u8> {
        let mut message = vec![0; icmp::HEADER];
        if v6 {
            message.extend([0x60, 0, 0, 0, 0, 9, protocol, 64]);
            message.extend((1..=32).collect::<Vec<u8>>());
        } else {
            message.extend([0x46, 0, 0, 40, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0]);
        }
        message.extend([0x9c, 0x40, 0, 53]);
        message
    }

    fn quoted_tuple(message: &[u8], family: Family) -> Option<FiveTuple> {
        quoted(message, family).map(|quote| quote.tuple)
    }

    /// The quoted IPv6 packet with these headers between IP and L4.
    fn extended(first: u8, headers: &[u8]) -> Vec<u8> {
        let mut message = quote(true, first);
        message.splice(48..48, headers.iter().copied());
        message
    }

    #[test]
    fn ports_and_addresses_are_those_of_the_packet_that_died() {
        let found = quoted(&quote(false, 17), Family::V4).unwrap();
        let expected = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:53".parse().unwrap());
        assert_eq!(found.tuple, FiveTuple::new(Protocol::Udp, expected.0, expected.1));
        assert_eq!((found.l4, found.end, found.length), (32, 36, Some(16)));
        let found = quoted(&quote(true, 132), Family::V6).unwrap();
        let tuple = found.tuple;
        assert_eq!((tuple.protocol(), tuple.source_port(), tuple.destination_port()), (Protocol::Sctp, 40000, 53));
        assert_eq!(tuple.source_address(), "102:304:506:708:90a:b0c:d0e:f10".parse::<std::net::IpAddr>().unwrap());
        assert_eq!((found.l4, found.end, found.length), (48, 52, Some(9)));
    }

    #[test]
    fn what_has_no_ports_has_no_tuple() {
        for v6 in [false, true] {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let whole = quote(v6, 17);
            assert!((0..whole.len()).all(|length| quoted_tuple(&whole[..length], family).is_none()));
            assert_eq!(quoted_tuple(&quote(v6, 47), family), None);
            assert_eq!(quoted_tuple(&quote(!v6, 17), family), None);
        }
        let mut fragment = quote(false, 17);
        fragment[icmp::HEADER + 7] = 1;
        assert_eq!(quoted_tuple(&fragment, Family::V4), None);
        let later = extended(44, &[17, 0, 0, 8, 0, 0, 0, 1]);
        assert_eq!(quoted_tuple(&later, Family::V6), None);
    }

    #[test]
    fn extension_headers_of_a_quoted_packet_are_passed_over() {
        let plain = quoted(&quote(true, 17), Family::V6).unwrap();
        for (first, headers) in [
            (60, vec![17, 0, 1, 4, 0, 0, 0, 0]),
            (0, vec![17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (44, vec![17, 0, 0, 0, 0, 0, 0, 1]),
        ] {
            let found = quoted(&extended(first, &headers), Family::V6).unwrap();
            assert_eq!((found.tuple, found.l4), (plain.tuple, plain.l4 + headers.len()));
        }
        let first = quoted(&extended(44, &[17, 0, 0, 1, 0, 0, 0, 1]), Family::V6).unwrap();
        assert_eq!((first.tuple, first.length), (plain.tuple, None), "nobody knows how long it was");
        let nine = [[60, 0, 1, 4, 0, 0, 0, 0]; 8].concat();
        assert_eq!(quoted_tuple(&extended(60, &[&nine[..], &[17, 0, 1, 4, 0, 0, 0, 0]].concat()), Family::V6), None);
    }

    #[test]
    fn extensions_of_the_error_are_no_part_of_the_quote() {
        for (family, icmp_type, at, words) in [(Family::V4, 3, 5, 32), (Family::V4, 11, 5, 32), (Family::V6, 1, 4, 16)]
        {
            let mut message = quote(family == Family::V6, 17);
            message.resize(icmp::HEADER + SHORTEST + 12, 0);
            message[0] = icmp_type;
            assert_eq!(quoted(&message, family).unwrap().end, message.len());
            message[at] = words;
            assert_eq!(quoted(&message, family).unwrap().end, icmp::HEADER + SHORTEST);
            message[at] = words - 1;
            assert_eq!(quoted(&message, family).unwrap().end, message.len(), "no length of RFC 4884");
            message[at] = u8::MAX;
            assert_eq!(quoted(&message, family).unwrap().end, message.len());
        }
        // Nothing but a pointer.
        let mut message = quote(true, 17);
        (message[0], message[4]) = (4, 16);
        assert_eq!(quoted(&message, Family::V6).unwrap().end, message.len());
    }
}
