use arrayvec::ArrayVec;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use ringway_shared::InterfaceId;

use crate::af_xdp::{RingSizes, Umem, UmemLayout};
use crate::forward::nat::complete_partial;
use crate::io::{KernelSide, Port};
use crate::wire::{Packet, checksum};

const SIZES: RingSizes = RingSizes { fill: 128, completion: 8, receive: 128, transmit: 8, driver: 0 };

fn bed(spare: u32) -> (Umem, Port, KernelSide) {
    let mut umem = Umem::new(UmemLayout::of_frames(SIZES.frames() + spare)).unwrap();
    let (port, kernel) = Port::in_memory(InterfaceId(0), 0, SIZES, &mut umem).unwrap();
    (umem, port, kernel)
}

/// A TCP packet with every flag that cutting must treat with care, and TCP options.
fn tcp(is_v6: bool, payload: &[u8], is_partial: bool) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
    let ip = match is_v6 {
        false => ethernet.ipv4([10, 0, 0, 2], [10, 99, 0, 1], 64),
        true => ethernet.ipv6([0xfd; 16], [0xfe; 16], 64),
    };
    let step = ip.tcp(1234, 80, u32::MAX - 2000, 5000).ack(77).psh().fin().cwr();
    let step = step.options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).unwrap();
    let mut packet = Vec::new();
    step.write(&mut packet, payload).unwrap();
    if is_partial {
        let parsed = Packet::parse(&packet).unwrap();
        let (l4, length) = (usize::from(parsed.l4), packet.len() - usize::from(parsed.l4));
        let partial = checksum::pseudo_header(&parsed.tuple, 6, length as u16);
        packet[l4 + 16..l4 + 18].copy_from_slice(&partial.to_be_bytes());
    }
    packet
}

/// Everything that the port has to give, in batches as a worker takes them.
fn receive_all(umem: &mut Umem, port: &mut Port) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    loop {
        let mut batch = ArrayVec::new();
        let count = port.receive(umem, &mut batch);
        assert_eq!(umem.free_frames() + port.in_flight() + count as u32, umem.total());
        if count == 0 {
            return packets;
        }
        for received in batch.drain(..) {
            packets.push(umem.packet(&received.frame).to_vec());
            umem.free(received.frame);
        }
        port.flush(umem);
    }
}

/// What one piece says, judged by etherparse with its checksum completed.
struct Piece {
    sequence: u32,
    identification: Option<u16>,
    flags: [bool; 3],
    payload: Vec<u8>,
}

fn judged(piece: &[u8]) -> Piece {
    assert!(piece.len() <= 14 + 1280);
    let parsed = Packet::parse(piece).unwrap();
    let mut piece = piece.to_vec();
    assert!(complete_partial(&mut piece, &parsed), "the checksum is partial");
    let sliced = SlicedPacket::from_ethernet(&piece).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("not TCP") };
    let (right, identification) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
            let header = ip.header();
            let right = tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap();
            (right, Some(header.identification()))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (tcp.calc_checksum_ipv6(header.source(), header.destination()).unwrap(), None)
        }
        NetSlice::Arp(_) => panic!("not IP"),
    };
    assert_eq!(tcp.checksum(), right);
    assert!(tcp.ack());
    assert_eq!(tcp.options(), [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    Piece {
        sequence: tcp.sequence_number(),
        identification,
        flags: [tcp.psh(), tcp.fin(), tcp.cwr()],
        payload: tcp.payload().to_vec(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the size, the pieces together are the packet, each of them right.
    #[test]
    fn the_pieces_are_the_packet(
        size in 1793usize..65_000,
        seed in any::<u8>(),
        is_v6 in any::<bool>(),
        is_partial in any::<bool>(),
        is_tagged in any::<bool>(),
    ) {
        let payload: Vec<u8> = (0..size).map(|index| (index as u8).wrapping_mul(31) ^ (index >> 8) as u8 ^ seed).collect();
        let (mut umem, mut port, mut kernel) = bed(64);
        // In generic mode the kernel merges what came under a tag, too.
        let tag: &[u8] = if is_tagged { &[0x81, 0, 0xf0, 100] } else { &[] };
        let mut packet = tcp(is_v6, &payload, is_partial);
        packet.splice(12..12, tag.iter().copied());
        prop_assert!(kernel.deliver(&mut umem, &packet));
        let untagged = |mut piece: Vec<u8>| {
            assert_eq!(piece.drain(12..12 + tag.len()).collect::<Vec<_>>(), tag);
            judged(&piece)
        };
        let pieces: Vec<Piece> = receive_all(&mut umem, &mut port).into_iter().map(untagged).collect();
        let mut next = u32::MAX - 2000;
        for (number, piece) in pieces.iter().enumerate() {
            let is_last = number + 1 == pieces.len();
            prop_assert_eq!(piece.sequence, next);
            prop_assert_eq!(piece.flags, [is_last, is_last, number == 0]);
            let expected = pieces[0].identification.map(|first| first.wrapping_add(number as u16));
            prop_assert_eq!(piece.identification, expected);
            next = next.wrapping_add(piece.payload.len() as u32);
        }
        prop_assert_eq!(pieces.concat_payloads(), payload);
        prop_assert_eq!((port.counters().large_cut, port.counters().large_lost), (1, 0));
        prop_assert_eq!((umem.free_frames(), port.in_receive()), (umem.total() - SIZES.fill, SIZES.fill));
    }
}

trait ConcatPayloads {
    fn concat_payloads(&self) -> Vec<u8>;
}

impl ConcatPayloads for Vec<Piece> {
    fn concat_payloads(&self) -> Vec<u8> {
        self.iter().flat_map(|piece| piece.payload.iter().copied()).collect()
    }
}

#[test]
fn what_cannot_be_cut_is_lost_counted_and_in_nobodys_way() {
    let good = tcp(false, &[7; 5000], false);
    let with = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    let mut udp = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([1; 4], [2; 4], 9).udp(1, 2);
    builder.write(&mut udp, &[0; 3000]).unwrap();
    let rows = [
        ("UDP", udp),
        ("a wrong TCP checksum", with(60, 8)),
        ("a wrong IPv4 checksum", with(22, 63)),
        ("a fragment", with(20, 0x20)),
        ("a TCP header that is too short", with(46, 0x40)),
        ("a TCP header that is longer than the packet says", with(46, 0xf0)),
        ("an IP length beyond the end", good[..4000].to_vec()),
        ("no IP at all", with(12, 0x88)),
        ("more chunks than a packet has", vec![0; 1792 * 60]),
    ];
    let small = tcp(true, b"small", false);
    for (name, large) in rows {
        let (mut umem, mut port, mut kernel) = bed(64);
        assert!(kernel.deliver(&mut umem, &large), "{name}");
        assert!(kernel.deliver(&mut umem, &small), "{name}");
        assert_eq!(receive_all(&mut umem, &mut port), std::slice::from_ref(&small), "{name}");
        assert_eq!((port.counters().large_cut, port.counters().large_lost), (0, 1), "{name}");
        assert_eq!(port.in_receive(), SIZES.fill, "{name}");
    }
}

#[test]
fn without_free_frames_the_rest_is_lost_and_the_port_goes_on() {
    let (mut umem, mut port, mut kernel) = bed(0);
    assert!(kernel.deliver(&mut umem, &tcp(false, &[7; 20_000], true)));
    let mut hoard: Vec<_> = std::iter::from_fn(|| umem.allocate()).collect();
    for _ in 0..5 {
        umem.free(hoard.pop().unwrap());
    }
    let mut batch = ArrayVec::new();
    assert_eq!(port.receive(&mut umem, &mut batch), 5);
    assert_eq!((port.counters().large_cut, port.counters().large_lost), (0, 1));
    for frame in batch.drain(..).map(|received| received.frame).chain(hoard) {
        umem.free(frame);
    }
    port.flush(&mut umem);
    assert_eq!(umem.free_frames() + port.in_flight(), umem.total());
    assert!(kernel.deliver(&mut umem, &tcp(false, &[7; 2000], true)));
    assert_eq!(receive_all(&mut umem, &mut port).len(), 2);
}

#[test]
fn closing_in_the_middle_of_a_packet_loses_no_chunk() {
    let (mut umem, mut port, mut kernel) = bed(64);
    assert!(kernel.deliver(&mut umem, &tcp(false, &[7; 60_000], true)));
    assert!(kernel.deliver(&mut umem, &tcp(false, &[7; 60_000], true)));
    let mut batch = ArrayVec::new();
    assert_eq!(port.receive(&mut umem, &mut batch), 64);
    let _ = port.close().reclaim(&mut umem);
    for received in batch.drain(..) {
        umem.free(received.frame);
    }
    assert_eq!(umem.free_frames(), umem.total());
}
