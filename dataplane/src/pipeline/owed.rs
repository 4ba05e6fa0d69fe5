//! First packets that their backend had to answer: a connection that went unanswered proves nothing else.
//!
//! A host throws a SYN away in silence when its checksum is wrong, when it is signed and the host has no key (RFC 2385, RFC
//! 5925), when it has a source route, or when its TTL ends on the way. So the only ones that count are plain SYNs, with
//! options that every host takes, and with hops to spare. INITs can be void in so many ways that none counts.
//!
//! Only of backends that something speaks against is this asked, and the flow keeps what it says (`Flow::set_owed`).

use crate::wire::tcp::{self, Flags, option};
use crate::wire::transport::{ChecksumState, checksum_state};
use crate::wire::{Kind, Packet};
use ringway_shared::Family;

/// The TTL that is left to a packet that arrives wherever backends are. Clients begin with 64 at least.
const HOPS: u8 = 16;
/// CWR and ECE, by which a SYN offers ECN.
const ECN: u8 = 0xc0;
/// The length of an IP header without options, by family.
const PLAIN: [u16; 2] = [20, 40];
/// Options that every host takes, with their lengths.
const COMMON: [(u8, usize); 4] = [
    (option::SEGMENT_SIZE, option::SEGMENT_SIZE_LENGTH),
    (option::WINDOW_SCALE, 3),
    (option::SACK_PERMITTED, 2),
    (option::TIMESTAMPS, 10),
];

/// Whether any host that listens answers this packet, and any other one that lives resets it. Reads all of it.
#[cold]
pub(super) fn is_owed_an_answer(frame: &[u8], packet: &Packet) -> bool {
    let is_syn = matches!(packet.kind, Kind::Tcp { flags, payload: false } if flags.0 & !ECN == Flags::SYN);
    let [v4, v6] = PLAIN;
    let plain = if packet.family() == Family::V4 { v4 } else { v6 };
    is_syn
        && packet.fragment.is_none()
        && packet.ttl >= HOPS
        && packet.l4.checked_sub(packet.l3) == Some(plain)
        && packet.transport(frame).is_some_and(has_common_options)
        && matches!(checksum_state(frame, packet), ChecksumState::Right | ChecksumState::Partial)
}

fn has_common_options(header: &[u8]) -> bool {
    let mut rest = header.get(tcp::HEADER..).unwrap_or_default();
    while let [kind, after @ ..] = rest {
        let length = match (*kind, after.first()) {
            (option::END, _) => return true,
            (option::NO_OPERATION, _) => 1,
            (kind, Some(length)) if COMMON.contains(&(kind, usize::from(*length))) => usize::from(*length),
            _ => return false,
        };
        match rest.get(length..) {
            Some(more) => rest = more,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sample::{L4, Sample};
    use crate::wire::transport;

    const SYN: u8 = 2;

    fn owed(sample: &Sample, change: impl FnOnce(&mut [u8])) -> bool {
        let mut frame = sample.frame();
        let packet = Packet::parse(&frame).unwrap();
        let segment = packet.transport_mut(&mut frame).unwrap();
        let length = segment.len();
        transport::complete(segment, tcp::CHECKSUM, length, &packet.tuple);
        change(&mut frame[usize::from(packet.l4)..]);
        is_owed_an_answer(&frame, &packet)
    }

    #[test]
    fn a_plain_syn_is_owed_an_answer_and_what_some_hosts_throw_away_is_not() {
        for (client, server) in [("192.0.2.1:40000", "198.51.100.7:80"), ("[2001:db8::1]:40000", "[2001:db8::2]:80")] {
            let sample = |l4, payload: &[u8]| Sample::new(l4, client, server, payload);
            let syn = || sample(L4::Tcp(SYN), b"");
            assert!(owed(&syn(), |_| {}));
            assert!(owed(&sample(L4::Tcp(SYN | ECN), b""), |_| {}));
            assert!(owed(&Sample { ttl: HOPS, ..syn() }, |_| {}));
            assert!(!owed(&Sample { ttl: HOPS - 1, ..syn() }, |_| {}));
            assert!(!owed(&Sample { extras: 1, ..syn() }, |_| {}), "a longer IP header");
            assert!(!owed(&sample(L4::Tcp(SYN), b"data"), |_| {}));
            assert!(!owed(&sample(L4::Tcp(SYN | Flags::FIN), b""), |_| {}));
            assert!(!owed(&syn(), |segment| segment[tcp::CHECKSUM] ^= 1));
        }
    }

    #[test]
    fn options_are_common_with_their_right_lengths_alone() {
        let common = |options: &[u8]| has_common_options(&[&[0; tcp::HEADER], options].concat());
        assert!(common(&[]));
        assert!(common(&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]));
        assert!(common(&[1, 3, 3, 7, 0, 19, 18, 0]));
        for strange in [&[19, 18][..], &[29, 4, 0, 0], &[2, 3, 0, 1], &[8, 10, 0, 0], &[3], &[3, 0, 0, 0]] {
            assert!(!common(strange), "{strange:?}");
        }
    }
}
