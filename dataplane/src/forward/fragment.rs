//! Fragmenting (RFC 791 3.2): an IPv4 packet that is larger than the way out, and whose sender does not forbid it, leaves as
//! several.
//!
//! As Linux forwards: every fragment has the whole header, and in all but the first the options that are not to be copied are
//! overwritten by such as do nothing. Identification, TOS and TTL are kept, the reserved flag is not. What is a fragment already is cut further.

use std::ops::Range;

use crate::wire::ipv4::{self, flag};
use crate::wire::transport::{read_u16, write};
use crate::wire::{checksum, ethernet};

/// How a packet is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of the IP header.
    header: usize,
    /// Bytes of data behind it.
    data: usize,
    /// Bytes of data in every fragment but the last: a multiple of eight.
    each: usize,
    /// How many fragments there are.
    count: usize,
    /// Of the packet's flags whether more fragments follow it, and its place in its datagram in units of eight bytes.
    flags: u16,
    place: usize,
}

impl Cut {
    /// How the packet of `frame`, which ends where the packet does, becomes fragments of at most `mtu` bytes. Nothing when it
    /// must not be: another protocol, DF, or an MTU that holds no data.
    pub fn new(frame: &[u8], mtu: u16) -> Option<Cut> {
        if ethernet::Header::parse(frame)?.ether_type != ethernet::IPV4 {
            return None;
        }
        let packet = frame.get(ethernet::HEADER..)?;
        let header = ipv4::header_length(*packet.first()?);
        let data = packet.len().checked_sub(header)?;
        let flags = read_u16(packet, ipv4::FLAGS);
        let room = usize::from(mtu).checked_sub(header)?;
        let each = room & !7;
        if flags & flag::DONT_FRAGMENT != 0 || header < ipv4::HEADER || each == 0 {
            return None;
        }
        let place = usize::from(flags & flag::OFFSET);
        // Its end would lie beyond the longest datagram: no host puts such a thing together.
        let fits = place * 8 + data <= usize::from(u16::MAX);
        // Of the last one the whole room is used.
        let count = 1 + data.saturating_sub(room).div_ceil(each);
        fits.then_some(Cut { header, data, each, count, flags: flags & flag::MORE_FRAGMENTS, place })
    }

    /// How many fragments there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Where the data of a fragment stands in the packet's.
    fn data(&self, number: usize) -> Range<usize> {
        let start = number * self.each;
        start..if number + 1 < self.count { start + self.each } else { self.data.max(start) }
    }

    /// Bytes of the frame of a fragment.
    pub fn frame_length(&self, number: usize) -> usize {
        ethernet::HEADER + self.header + self.data(number).len()
    }

    /// Writes the frame of a fragment to `to`, which has its length.
    pub fn copy(&self, frame: &[u8], number: usize, to: &mut [u8]) {
        let headers = ethernet::HEADER + self.header;
        let Range { start, end } = self.data(number);
        let (Some(from), Some(data)) = (frame.get(..headers), frame.get(headers + start..headers + end)) else {
            return;
        };
        let Some((head, rest)) = to.split_at_mut_checked(headers) else { return };
        if rest.len() == data.len() {
            head.copy_from_slice(from);
            rest.copy_from_slice(data);
            self.finish(head, number);
        }
    }

    /// Makes the packet itself its last fragment, whose frame starts so many bytes later. The data before it is lost.
    pub fn keep_last(&self, frame: &mut [u8]) -> usize {
        let headers = ethernet::HEADER + self.header;
        let last = self.count - 1;
        let start = self.data(last).start;
        if start + headers <= frame.len() {
            frame.copy_within(..headers, start);
        }
        if let Some(head) = frame.get_mut(start..start + headers) {
            self.finish(head, last);
        }
        start
    }

    /// Writes what differs between fragments into the headers of one.
    fn finish(&self, headers: &mut [u8], number: usize) {
        let Some(ip) = headers.get_mut(ethernet::HEADER..) else { return };
        let data = self.data(number);
        if number > 0
            && let Some(options) = ip.get_mut(ipv4::HEADER..)
        {
            forget_first(options);
        }
        let more = if number + 1 < self.count { flag::MORE_FRAGMENTS } else { 0 };
        let flags = self.flags | more | (self.place + data.start / 8) as u16;
        write(ip, ipv4::TOTAL_LENGTH, ((self.header + data.len()) as u16).to_be_bytes());
        write(ip, ipv4::FLAGS, flags.to_be_bytes());
        write(ip, ipv4::CHECKSUM, [0; 2]);
        let sum = checksum::checksum(ip);
        write(ip, ipv4::CHECKSUM, sum.to_be_bytes());
    }
}

/// Overwrites the options that only the first fragment has.
fn forget_first(mut options: &mut [u8]) {
    while let [kind, rest @ ..] = options {
        let length = match (*kind, rest.first()) {
            (ipv4::option::END, _) | (_, None) => return,
            (ipv4::option::NO_OPERATION, _) => 1,
            (_, Some(length)) => usize::from(*length).max(2),
        };
        let is_copied = *kind & ipv4::option::COPIED != 0;
        let Some((option, behind)) = std::mem::take(&mut options).split_at_mut_checked(length) else { return };
        if !is_copied {
            option.fill(ipv4::option::NO_OPERATION);
        }
        options = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Packet;
    use crate::wire::sample::{L4, Sample};
    use proptest::prelude::*;

    /// A UDP packet with `data` bytes behind an IP header with these options, and the flags and place that `flags` says.
    fn packet(data: usize, options: &[u8], flags: u16) -> Vec<u8> {
        let payload: Vec<u8> = (0..data - 8).map(|at| (at * 7 / 3) as u8).collect();
        let mut frame = Sample::new(L4::Udp, "192.0.2.1:40000", "198.51.100.7:443", &payload).frame();
        frame.splice(34..34, options.iter().copied());
        let ip = &mut frame[ethernet::HEADER..];
        let header = ipv4::HEADER + options.len();
        ip[0] = 0x40 | (header / 4) as u8;
        write(ip, ipv4::TOTAL_LENGTH, ((header + data) as u16).to_be_bytes());
        write(ip, ipv4::FLAGS, flags.to_be_bytes());
        write(ip, ipv4::CHECKSUM, [0; 2]);
        let sum = checksum::checksum(&ip[..header]);
        write(ip, ipv4::CHECKSUM, sum.to_be_bytes());
        frame
    }

    fn cut(frame: &[u8], mtu: u16) -> Vec<Vec<u8>> {
        let cut = Cut::new(frame, mtu).unwrap();
        let mut fragments: Vec<Vec<u8>> = (0..cut.count() - 1)
            .map(|number| {
                let mut fragment = vec![0; cut.frame_length(number)];
                cut.copy(frame, number, &mut fragment);
                fragment
            })
            .collect();
        let mut last = frame.to_vec();
        let start = cut.keep_last(&mut last);
        fragments.push(last[start..].to_vec());
        fragments
    }

    /// Offset and whether more follow, of each.
    fn places(fragments: &[Vec<u8>]) -> Vec<(u16, bool)> {
        let parsed = fragments.iter().map(|fragment| Packet::parse(fragment).unwrap().fragment.unwrap());
        parsed.map(|fragment| (fragment.offset, fragment.more)).collect()
    }

    #[test]
    fn the_last_fragment_uses_the_whole_room() {
        // 60 bytes leave 40 for data, a multiple of eight; 63 leave 43.
        assert_eq!(places(&cut(&packet(80, &[], 0), 60)), [(0, true), (40, false)]);
        assert_eq!(places(&cut(&packet(83, &[], 0), 63)), [(0, true), (40, false)]);
        assert_eq!(places(&cut(&packet(84, &[], 0), 63)), [(0, true), (40, true), (80, false)]);
    }

    #[test]
    fn a_fragment_is_cut_further_at_its_place() {
        let more = flag::MORE_FRAGMENTS;
        assert_eq!(places(&cut(&packet(80, &[], more), 60)), [(0, true), (40, true)]);
        assert_eq!(places(&cut(&packet(80, &[], more | 185), 60)), [(1480, true), (1520, true)]);
        assert_eq!(places(&cut(&packet(80, &[], 185), 60)), [(1480, true), (1520, false)]);
    }

    #[test]
    fn the_reserved_flag_is_not_kept() {
        let fragments = cut(&packet(80, &[], 0x8000), 60);
        let flags = fragments.iter().map(|fragment| read_u16(fragment, ethernet::HEADER + ipv4::FLAGS));
        assert_eq!(flags.collect::<Vec<_>>(), [flag::MORE_FRAGMENTS, 5]);
    }

    #[test]
    fn what_must_not_be_cut_is_not() {
        assert_eq!(Cut::new(&packet(80, &[], flag::DONT_FRAGMENT), 60), None);
        assert_eq!(Cut::new(&packet(80, &[], 0), 27), None, "no room for eight bytes");
        assert_eq!(Cut::new(&packet(80, &[1; 40], 0), 67), None, "no room behind the options");
        assert_eq!(Cut::new(&packet(80, &[], flag::OFFSET), 60), None, "it ends behind the longest datagram");
        assert_eq!(Cut::new(&Sample::new(L4::Udp, "[::1]:1", "[::2]:2", &[0; 80]).frame(), 60), None);
        assert_eq!(Cut::new(&[0; 20], 60), None);
    }

    #[test]
    fn options_of_the_first_alone_are_overwritten_in_the_others() {
        // A router alert is copied, a record of the route is not; the last one goes on beyond the header.
        let options = [0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0x44, 4, 5, 0, 1, 0, 9, 9, 9];
        let fragments = cut(&packet(64, &options, 0), 80);
        assert_eq!(fragments.len(), 2);
        assert_eq!(fragments[0][34..54], options);
        assert_eq!(fragments[1][34..54], [0x94, 4, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 9, 9, 9]);
        let mut broken = [7, 200, 4, 0];
        forget_first(&mut broken);
        assert_eq!(broken, [7, 200, 4, 0]);
    }

    proptest! {
        /// However a packet is cut, no fragment is too large, each header is right, and together they are the packet.
        #[test]
        fn the_fragments_are_the_packet(
            data in 8usize..3000, words in 0usize..11, mtu in 28u16..1500, place in 0u16..4000, more: bool,
        ) {
            let options = [0x94, 4, 0, 0].repeat(words);
            let flags = if more { flag::MORE_FRAGMENTS } else { 0 } | place;
            let frame = packet(data, &options, flags);
            let header = ipv4::HEADER + options.len();
            if usize::from(mtu) < header + 8 {
                prop_assert_eq!(Cut::new(&frame, mtu), None);
                return Ok(());
            }
            let mut joined: Vec<u8> = Vec::new();
            let fragments = cut(&frame, mtu);
            for (number, fragment) in fragments.iter().enumerate() {
                let ip = &fragment[ethernet::HEADER..];
                prop_assert!(ip.len() <= usize::from(mtu));
                prop_assert_eq!(usize::from(read_u16(ip, ipv4::TOTAL_LENGTH)), ip.len());
                prop_assert_eq!(checksum::sum(&ip[..header]), 0xffff);
                prop_assert_eq!(&fragment[..ethernet::HEADER], &frame[..ethernet::HEADER]);
                let is_last = number + 1 == fragments.len();
                let expected = if is_last { flags } else { flags | flag::MORE_FRAGMENTS } + (joined.len() / 8) as u16;
                prop_assert_eq!(read_u16(ip, ipv4::FLAGS), expected);
                let same = |at: usize, bytes: usize| ip[at..at + bytes] == frame[14 + at..14 + at + bytes];
                prop_assert!(same(0, 2) && same(ipv4::IDENTIFICATION, 2) && same(ipv4::TTL, 2) && same(12, header - 12));
                joined.extend(&ip[header..]);
                prop_assert!(is_last || joined.len().is_multiple_of(8));
            }
            prop_assert_eq!(&joined[..], &frame[ethernet::HEADER + header..]);
        }
    }
}
