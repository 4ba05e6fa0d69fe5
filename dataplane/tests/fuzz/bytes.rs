//! What is read byte by byte: frames and captures.

use std::io::{Cursor, Read};
use std::time::Duration;

use ringway_dataplane::io::pcap::{CaptureError, CaptureReader, CaptureWriter, Captured, Format, Resolution};
use ringway_dataplane::wire::transport::{ChecksumState, checksum_state};
use ringway_dataplane::wire::{Kind, Packet};
use ringway_shared::Family;

use crate::bed::random::Random;
use crate::bed::sums;
use crate::vary;

/// [`parsed`], of a frame made up.
pub(crate) fn parse(random: &mut Random) {
    let (_, mut frame) = vary::frame(random);
    frame.truncate(4096);
    parsed(frame, random);
}

/// A frame says the same whatever stands behind the packet, and nothing when its end is missing.
pub(crate) fn parsed(frame: Vec<u8>, random: &mut Random) {
    let Ok(packet) = Packet::parse(&frame) else { return };
    let [l3, l4, end] = [packet.l3, packet.l4, packet.end].map(usize::from);
    assert!(l3 < l4 && l4 <= end && end <= frame.len(), "{packet:?}");
    let trimmed = &frame[..end];
    assert_eq!(Packet::parse(trimmed), Ok(packet), "padding matters");
    let mut longer = trimmed.to_vec();
    longer.resize(end + 1 + random.below(60), random.next() as u8);
    assert_eq!(Packet::parse(&longer), Ok(packet), "padding matters");
    let shorter = &frame[..random.below(end)];
    assert!(Packet::parse(shorter).is_err(), "read beyond its end");
    // Read once more, as plainly as RFC 791 and 8200 put it.
    let ip = &frame[14..];
    let (source, destination, ttl, total) = match packet.family() {
        Family::V4 => {
            assert_eq!(sums::sum(&[&ip[..usize::from(ip[0] & 15) * 4]]), 0xffff, "the header's checksum");
            (&ip[12..16], &ip[16..20], ip[8], usize::from(u16::from_be_bytes([ip[2], ip[3]])))
        }
        Family::V6 => (&ip[8..24], &ip[24..40], ip[7], 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]))),
    };
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    assert_eq!(octets(packet.tuple.source_address()), source);
    assert_eq!(octets(packet.tuple.destination_address()), destination);
    assert_eq!((packet.ttl, end), (ttl, 14 + total));
    if let Kind::Tcp { .. } | Kind::Udp | Kind::Sctp = packet.kind {
        let ports = [packet.tuple.source_port().to_be_bytes(), packet.tuple.destination_port().to_be_bytes()].concat();
        assert_eq!(ports, frame[l4..l4 + 4]);
    }
    if let (Kind::Tcp { .. }, None) = (packet.kind, packet.fragment) {
        let length = ((end - l4) as u16).to_be_bytes();
        let right = sums::sum(&[source, destination, &[0, 6], &length, &frame[l4..end]]) == 0xffff;
        assert_eq!(checksum_state(&frame, &packet) == ChecksumState::Right, right, "{frame:02x?}");
    }
}

/// What reads from a file that gives a few bytes at a time.
struct Slowly<R>(R, usize);

impl<R: Read> Read for Slowly<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let length = to.len().min(self.1);
        self.0.read(&mut to[..length])
    }
}

fn packets(from: impl Read) -> (Vec<Captured>, Option<String>) {
    let mut packets = Vec::new();
    let read = || -> Result<(), CaptureError> {
        let mut reader = CaptureReader::new(from)?;
        while let Some(packet) = reader.next_packet()? {
            let _ = reader.interface_name(packet.interface);
            packets.push(packet);
            assert_eq!(reader.packets(), packets.len() as u64);
        }
        Ok(())
    };
    let error = read().err().map(|error| error.to_string());
    (packets, error)
}

/// A capture is what was written, and a damaged one is read to where it breaks, however its bytes come.
pub(crate) fn capture(random: &mut Random) {
    let format = if random.once_in(2) { Format::Pcap(Resolution::Nanos) } else { Format::PcapNg };
    let mut writer = CaptureWriter::new(Vec::new(), format, ["outside", "inside"]).unwrap();
    let count = random.below(4);
    let mut written = Vec::new();
    for at in 0..count {
        let data: Vec<u8> = (0..random.below(90)).map(|_| random.next() as u8).collect();
        let interface = if format == Format::PcapNg { at % 2 } else { 0 };
        let timestamp = Duration::new(1 + random.below(1 << 30) as u64, random.below(1_000_000) as u32 * 1000);
        writer.write(interface, timestamp, &data).unwrap();
        written.push((timestamp, interface, data));
    }
    let mut file = writer.finish().unwrap();
    let (read, error) = packets(Cursor::new(&file));
    assert_eq!(error, None);
    let read: Vec<_> = read.into_iter().map(|packet| (packet.timestamp, packet.interface, packet.data)).collect();
    assert_eq!(read, written, "not what was written");
    for _ in 0..1 + random.below(4) {
        match random.below(5) {
            0 => file.truncate(random.below(file.len() + 1)),
            1 => file.extend(random.next().to_ne_bytes()),
            _ if file.is_empty() => {}
            2 => {
                let at = random.below(file.len());
                let words =
                    [0, 1, 6, 0xffff_ffff, 0x8000_0000, 0x0a0d_0d0a, 0x1a2b_3c4d, 16 << 20, random.next() as u32];
                let word = random.pick(&words).to_le_bytes();
                file.iter_mut().skip(at / 4 * 4).zip(word).for_each(|(place, byte)| *place = byte);
            }
            _ => {
                let at = random.below(file.len());
                file[at] = random.next() as u8;
            }
        }
    }
    let at_once = packets(Cursor::new(&file));
    assert!(at_once.0.iter().map(|packet| packet.data.len()).sum::<usize>() <= file.len(), "more than there is");
    assert_eq!(packets(Slowly(Cursor::new(&file), 1 + random.below(7))), at_once, "how the bytes come matters");
}
