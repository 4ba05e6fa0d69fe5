use super::*;
use proptest::prelude::*;

type Packets = Vec<(usize, Duration, Vec<u8>)>;

fn write(format: Format, packets: &Packets) -> Vec<u8> {
    let mut writer = CaptureWriter::new(Vec::new(), format, ["eth0", "wan1"]).unwrap();
    for (interface, timestamp, data) in packets {
        writer.write(*interface, *timestamp, data).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> (Vec<Captured>, Vec<Option<String>>, Result<(), String>) {
    let mut reader = match CaptureReader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Vec::new(), Err(error.to_string())),
    };
    let mut packets = Vec::new();
    let end = loop {
        match reader.next_packet() {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        }
    };
    let names = packets.iter().map(|packet| reader.interface_name(packet.interface).map(str::to_owned)).collect();
    (packets, names, end)
}

fn sample() -> Packets {
    let at = |nanos| Duration::new(1_700_000_000, nanos);
    vec![(0, at(1_000), vec![1; 60]), (1, at(2_000), vec![2; 61]), (0, at(999_999_000), vec![])]
}

#[test]
fn what_is_written_is_read_again() {
    for format in [Format::Pcap(Resolution::Micros), Format::Pcap(Resolution::Nanos), Format::PcapNg] {
        let (packets, names, end) = read(&write(format, &sample()));
        assert_eq!(end, Ok(()));
        for ((interface, timestamp, data), (packet, name)) in sample().into_iter().zip(packets.iter().zip(names)) {
            assert_eq!((packet.timestamp, &packet.data), (timestamp, &data));
            assert_eq!(packet.original_length as usize, data.len());
            let expected = (format == Format::PcapNg).then(|| ["eth0", "wan1"][interface].to_owned());
            assert_eq!(name, expected);
        }
        assert_eq!(packets.len(), 3);
    }
}

#[test]
fn another_implementation_reads_the_same() {
    let bytes = write(Format::Pcap(Resolution::Nanos), &sample());
    let mut judge = pcap_file::pcap::PcapReader::new(&bytes[..]).unwrap();
    for (_, timestamp, data) in sample() {
        let packet = judge.next_packet().unwrap().unwrap();
        assert_eq!((packet.timestamp, &*packet.data), (timestamp, &data[..]));
    }
    assert!(judge.next_packet().is_none());
    let bytes = write(Format::PcapNg, &sample());
    let mut judge = pcap_file::pcapng::PcapNgReader::new(&bytes[..]).unwrap();
    let mut expected = sample().into_iter();
    while let Some(block) = judge.next_block() {
        if let pcap_file::pcapng::Block::EnhancedPacket(packet) = block.unwrap() {
            let (interface, timestamp, data) = expected.next().unwrap();
            assert_eq!(
                (packet.interface_id as usize, packet.timestamp, &*packet.data),
                (interface, timestamp, &data[..])
            );
        }
    }
    assert!(expected.next().is_none());
    assert_eq!(judge.interfaces().len(), 2);
}

#[test]
fn pcapng_of_other_byte_order_resolution_and_several_sections_is_read() {
    let block = |kind: u32, body: &[u32]| {
        let length = (body.len() as u32 + 3) * 4;
        [&[kind, length][..], body, &[length]].concat()
    };
    let section = block(SECTION_HEADER, &[BYTE_ORDER, 0x0001_0000, u32::MAX, u32::MAX]);
    // Timestamps in 1/1024 s (if_tsresol 0x8a), and 100 s later than they say (if_tsoffset).
    let interface = block(INTERFACE_DESCRIPTION, &[0x0001_0000, 0, 0x0009_0001, 0x8a00_0000, 0x000e_0008, 0, 100, 0]);
    let packet = block(ENHANCED_PACKET, &[0, 0, 1536, 3, 1500, 0xaabb_cc00]);
    // A name without a letter is none.
    let plain = block(INTERFACE_DESCRIPTION, &[0x0001_0000, 2, 0x0002_0000]);
    let simple = block(SIMPLE_PACKET, &[1000, 0x1122_0000]);
    let unknown = block(0x0bad, &[1, 2]);
    let words = [section.clone(), interface, unknown, packet, section, plain, simple].concat();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let (packets, names, end) = read(&bytes);
    assert_eq!((names, end), (vec![None, None], Ok(())));
    let expected = [
        Captured {
            timestamp: Duration::from_millis(101_500),
            interface: 0,
            data: vec![0xaa, 0xbb, 0xcc],
            original_length: 1500,
        },
        Captured {
            timestamp: Duration::from_millis(101_500),
            interface: 1,
            data: vec![0x11, 0x22],
            original_length: 1000,
        },
    ];
    assert_eq!(packets, expected);
}

#[test]
fn broken_captures_are_told_with_the_place() {
    let pcap = write(Format::Pcap(Resolution::Micros), &sample());
    let (packets, _, end) = read(&pcap[..24 + 16 + 60 + 16 + 7]);
    assert_eq!(packets.len(), 1);
    assert_eq!(end.unwrap_err(), "the file ends at byte 123, inside packet 2 (packets before it are whole)");
    assert_eq!(read(&[]).2.unwrap_err(), "not a pcap or pcapng file: it begins with nothing, the file is empty");
    assert_eq!(read(b"PK\x03\x04").2.unwrap_err(), "not a pcap or pcapng file: it begins with 504b0304");
    let mut cooked = pcap.clone();
    cooked[20] = 113;
    assert!(read(&cooked).2.unwrap_err().starts_with("the link type is 113, not Ethernet (1): it was captured on all"));
    let mut huge = pcap.clone();
    huge[24 + 11] = 0x7f;
    assert_eq!(read(&huge).2.unwrap_err(), "corrupt at byte 24, after 0 packets: a packet of 2130706492 bytes");
    let mut ng = write(Format::PcapNg, &sample());
    let last = ng.len() - 1;
    ng[last] = 1;
    let (packets, _, end) = read(&ng);
    assert_eq!(packets.len(), 2);
    assert!(end.unwrap_err().contains("after 2 packets: a block of 32 bytes that ends as one of"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), start in 0..3usize) {
        let format = [Format::Pcap(Resolution::Micros), Format::Pcap(Resolution::Nanos), Format::PcapNg][start];
        let mut file = write(format, &Vec::new());
        file.extend(bytes);
        let _ = read(&file);
    }

    #[test]
    fn mutated_captures_never_panic(at in any::<proptest::sample::Index>(), value: u8, cut in any::<proptest::sample::Index>()) {
        let mut file = write(Format::PcapNg, &sample());
        let index = at.index(file.len());
        file[index] = value;
        file.truncate(cut.index(file.len() + 1));
        let _ = read(&file);
    }
}
