//! The maximum segment size that a SYN offers, lowered to what the way can carry (as the nftables expression
//! `tcp option maxseg size set rt mtu` does).
//!
//! Never raised, and never put in: without the option the other side sends segments of 536 bytes (IPv6: 1,220), which pass
//! every link that IP passes, and a longer header might pass none. What stands behind a malformed option is left alone, as the
//! receiver ignores it too.

use ringway_shared::Family;

use crate::wire::checksum;
use crate::wire::tcp;
use crate::wire::transport::{read_u16, write};
use crate::wire::{Packet, ipv4, ipv6};

/// The largest segment whose packet, with headers that have no options, is no larger than `mtu`.
pub fn segment_size(family: Family, mtu: u32) -> u16 {
    let headers = match family {
        Family::V4 => ipv4::HEADER + tcp::HEADER,
        Family::V6 => ipv6::HEADER + tcp::HEADER,
    };
    u16::try_from(mtu.saturating_sub(headers as u32)).unwrap_or(u16::MAX)
}

/// Lowers every maximum segment size that the TCP segment of `packet` offers to `most`; the checksum is adjusted. `packet`
/// was parsed from the frame, whatever its addresses and ports are by now.
pub fn lower(frame: &mut [u8], packet: &Packet, most: u16) {
    let Some(segment) = packet.transport_mut(frame) else { return };
    let Some(end) = segment.first_chunk().map(tcp::data_offset) else { return };
    let mut at = tcp::HEADER;
    while let Some([kind, rest @ ..]) = segment.get(at..end) {
        let length = match (*kind, rest.first()) {
            (tcp::option::END, _) | (_, None) => return,
            (tcp::option::NO_OPERATION, _) => 1,
            (_, Some(length)) => usize::from(*length),
        };
        if length == 0 || length > rest.len() + 1 || (length == 1 && *kind != tcp::option::NO_OPERATION) {
            return;
        }
        if *kind == tcp::option::SEGMENT_SIZE && length == tcp::option::SEGMENT_SIZE_LENGTH {
            let value = read_u16(segment, at + 2);
            if value > most {
                write(segment, at + 2, most.to_be_bytes());
                // Behind an odd number of bytes it lies across two words of the sum.
                let of_sum = |value: u16| if at.is_multiple_of(2) { value } else { value.swap_bytes() };
                let delta = checksum::fold(u64::from(!of_sum(value)) + u64::from(of_sum(most)));
                let sum = read_u16(segment, tcp::CHECKSUM);
                write(segment, tcp::CHECKSUM, checksum::adjust(sum, delta).to_be_bytes());
            }
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sample::{L4, Sample};
    use crate::wire::transport::{ChecksumState, checksum_state};
    use proptest::prelude::*;

    const SYN: u8 = 2;

    /// A SYN with these options, whose length is a multiple of four, and a right checksum.
    fn syn(v6: bool, options: &[u8]) -> Vec<u8> {
        let ends =
            if v6 { ("[2001:db8::1]:40000", "[2001:db8::2]:80") } else { ("192.0.2.1:40000", "198.51.100.7:80") };
        // The sample has four bytes of options itself; with none they become data.
        let mut frame = Sample::new(L4::Tcp(SYN), ends.0, ends.1, options.get(4..).unwrap_or_default()).frame();
        let packet = Packet::parse(&frame).unwrap();
        let segment = packet.transport_mut(&mut frame).unwrap();
        segment[12] = ((tcp::HEADER + options.len()) as u8 / 4) << 4;
        segment[tcp::HEADER..tcp::HEADER + options.len()].copy_from_slice(options);
        let length = segment.len();
        crate::wire::transport::complete(segment, tcp::CHECKSUM, length, &packet.tuple);
        frame
    }

    /// The options after the size was lowered to `most`; the checksum is as good as before.
    fn lowered(v6: bool, options: &[u8], most: u16) -> Vec<u8> {
        let mut frame = syn(v6, options);
        let packet = Packet::parse(&frame).unwrap();
        lower(&mut frame, &packet, most);
        assert_eq!(checksum_state(&frame, &packet), ChecksumState::Right);
        let changed = packet.transport(&frame).unwrap()[tcp::HEADER..][..options.len()].to_vec();
        // One that was wrong stays wrong by as much.
        let mut wrong = syn(v6, options);
        let at = usize::from(packet.l4) + tcp::CHECKSUM;
        let sum = read_u16(&wrong, at);
        write(&mut wrong, at, checksum::adjust(sum, 7).to_be_bytes());
        lower(&mut wrong, &packet, most);
        let sum = read_u16(&wrong, at);
        write(&mut wrong, at, checksum::adjust(sum, !7).to_be_bytes());
        assert_eq!(checksum_state(&wrong, &packet), ChecksumState::Right);
        changed
    }

    #[test]
    fn a_size_is_lowered_wherever_it_stands_and_never_raised() {
        for v6 in [false, true] {
            assert_eq!(lowered(v6, &[2, 4, 0x05, 0xb4], 1240), [2, 4, 0x04, 0xd8]);
            assert_eq!(lowered(v6, &[2, 4, 0x05, 0xb4], 1460), [2, 4, 0x05, 0xb4]);
            assert_eq!(lowered(v6, &[2, 4, 0x02, 0x18], 1240), [2, 4, 0x02, 0x18]);
            // Behind others, at an odd place, and twice.
            assert_eq!(
                lowered(v6, &[1, 3, 3, 7, 1, 2, 4, 0xff, 0xff, 2, 4, 0x23, 0x28, 0, 0, 0], 1220),
                [1, 3, 3, 7, 1, 2, 4, 0x04, 0xc4, 2, 4, 0x04, 0xc4, 0, 0, 0]
            );
        }
    }

    #[test]
    fn what_is_malformed_or_over_is_left_alone() {
        for options in [
            &[][..],
            &[0, 2, 4, 0xff, 0xff, 0, 0, 0],
            &[2, 3, 0xff, 1],
            &[2, 5, 0xff, 0xff, 0, 0, 0, 0],
            &[3, 0, 2, 4, 0xff, 0xff, 0, 0],
            &[3, 1, 2, 4, 0xff, 0xff, 0, 0],
            &[8, 11, 2, 4, 0xff, 0xff, 0, 0],
            &[1, 1, 2, 4],
            &[1, 1, 1, 2],
        ] {
            assert_eq!(lowered(false, options, 1240), options);
        }
    }

    #[test]
    fn a_segment_fits_its_mtu() {
        assert_eq!([1280, 1500, 30, 70_000].map(|mtu| segment_size(Family::V4, mtu)), [1240, 1460, 0, u16::MAX]);
        assert_eq!(segment_size(Family::V6, 1280), 1220);
    }

    proptest! {
        /// Whatever options are, none is raised, the checksum stays right, and nothing else changes.
        #[test]
        fn options_at_random(words in proptest::collection::vec(any::<[u8; 4]>(), 0..10), most in 1u16..) {
            let options = words.concat();
            let after = lowered(false, &options, most);
            let size = |options: &[u8], at: usize| u16::from_be_bytes([options[at], options[at + 1]]);
            let changed: Vec<usize> = (0..options.len()).filter(|at| options[*at] != after[*at]).collect();
            for at in changed {
                let start = (at.saturating_sub(3)..at).rev().find(|start| options[*start..].starts_with(&[2, 4]));
                let value = start.unwrap() + 2;
                prop_assert!(size(&after, value) == most && size(&options, value) > most);
            }
        }
    }
}
