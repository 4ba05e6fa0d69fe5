//! Which of several equal ways a frame takes: a number that all frames of a flow in one direction share.
//!
//! As Linux does with bonds (layer 3+4): addresses and, unless it is a fragment, ports. Each direction has a number of its
//! own. Anyone who chooses addresses can have all frames take one way, as with every switch.

use super::{ethernet, ipv4, ipv6};

/// Where the IP header starts.
const IP: usize = ethernet::HEADER;
/// More fragments, or an offset.
const FRAGMENT: u16 = ipv4::flag::MORE_FRAGMENTS | ipv4::flag::OFFSET;

/// The number of an untagged frame. Of what is no IP, its addresses' and type's.
#[inline]
pub fn spread(frame: &[u8]) -> u32 {
    let word =
        |at: usize| frame.get(at..at + 4).and_then(|four| four.first_chunk::<4>().copied()).map(u32::from_ne_bytes);
    let (addresses, ports) = match frame.first_chunk::<IP>().map(ethernet::ether_type) {
        Some(ethernet::IPV4) => {
            let words = [word(IP + ipv4::SOURCE), word(IP + ipv4::DESTINATION)];
            let fragment = word(IP + ipv4::IDENTIFICATION).map_or(0, |four| u32::from_be(four) as u16 & FRAGMENT);
            let header = usize::from(frame.get(IP).map_or(0, |first| first & 0x0f)) * 4;
            let protocol = frame.get(IP + ipv4::PROTOCOL).copied();
            (mix(words), word(IP + header).filter(|_| fragment == 0 && has_ports(protocol)))
        }
        Some(ethernet::IPV6) => {
            let words: [Option<u32>; 8] = std::array::from_fn(|place| word(IP + ipv6::SOURCE + 4 * place));
            let protocol = frame.get(IP + ipv6::NEXT_HEADER).copied();
            (mix(words), word(IP + ipv6::HEADER).filter(|_| has_ports(protocol)))
        }
        _ => (mix([word(0), word(4), word(8), word(12)]), None),
    };
    (mix_one(addresses, ports.unwrap_or(0)) >> 32) as u32
}

/// TCP, UDP and SCTP begin with their ports.
fn has_ports(protocol: Option<u8>) -> bool {
    matches!(protocol, Some(6 | 17 | 132))
}

fn mix<const N: usize>(words: [Option<u32>; N]) -> u64 {
    words.into_iter().fold(0, |hash, word| mix_one(hash, word.unwrap_or(0)))
}

fn mix_one(hash: u64, word: u32) -> u64 {
    let mixed = (hash ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(client: u8, port: u16, fragment: u16) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        frame[23] = 6;
        frame[26..34].copy_from_slice(&[10, 0, 0, client, 10, 9, 0, 1]);
        frame[34..38].copy_from_slice(&[(port >> 8) as u8, port as u8, 0, 80]);
        frame
    }

    fn ipv6(client: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![0; 80];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[14] = 0x60;
        frame[20] = 17;
        frame[37] = client;
        frame[53] = 1;
        frame[54..58].copy_from_slice(&[(port >> 8) as u8, port as u8, 0, 53]);
        frame
    }

    /// How many of 1,000 frames take the first of two ways.
    fn first_of_two(frames: impl Iterator<Item = Vec<u8>>) -> usize {
        frames.take(1000).filter(|frame| spread(frame) >> 31 == 0).count()
    }

    #[test]
    fn flows_spread_evenly_by_port_and_by_address() {
        let even = 420..580;
        assert!(even.contains(&first_of_two((1024..).map(|port| ipv4(1, port, 0)))));
        assert!(even.contains(&first_of_two((0..1000).map(|n: u16| ipv4(n as u8, 1024 + (n >> 8), 0)))));
        assert!(even.contains(&first_of_two((1024..).map(|port| ipv6(1, port)))));
    }

    #[test]
    fn nothing_but_addresses_and_ports_matters() {
        let mut changed = ipv4(1, 5000, 0);
        changed[0] = 9;
        changed[22] = 64;
        changed[50] = 7;
        assert_eq!(spread(&changed), spread(&ipv4(1, 5000, 0)));
        assert_eq!(spread(&ipv4(1, 5000, 0x4000)), spread(&ipv4(1, 5000, 0)), "don't fragment");
        assert_eq!(spread(&ipv4(1, 5000, 0x2000)), spread(&ipv4(1, 6000, 0x00b9)), "fragments of a datagram");
        assert_ne!(spread(&ipv6(1, 5000)), spread(&ipv6(1, 5001)));
        for length in 0..60 {
            spread(&ipv4(1, 5000, 0)[..length]);
            spread(&ipv6(1, 5000)[..length]);
        }
    }
}
