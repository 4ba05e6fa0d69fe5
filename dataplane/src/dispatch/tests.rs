use super::*;
use crate::af_xdp::UmemLayout;
use crate::wire::sample::{L4, Sample};

/// A way out with room for so many frames.
struct Room(usize);

impl Transmit for Room {
    fn send(&mut self, umem: &mut Umem, _out: InterfaceId, frame: Frame, _tag: u64) -> Result<(), (Frame, DropReason)> {
        let Some(room) = self.0.checked_sub(1) else { return Err((frame, DropReason::TxRingFull)) };
        self.0 = room;
        umem.free(frame);
        Ok(())
    }

    fn pass(&mut self, _packet: &[u8], _arrived: InterfaceId) -> bool {
        false
    }

    fn hand_over(&mut self, _worker: u16, _packet: &[u8], _arrived: InterfaceId, _tag: u64, _doubted: bool) -> bool {
        false
    }
}

/// Dispatches a packet of 1,228 bytes that leaves by an MTU of 500: three fragments. What is not said in the ledger is 0.
fn fragment(frames: u32, room: usize, dont_fragment: bool) -> Tally {
    let mut umem = Umem::new(UmemLayout::of_frames(frames)).unwrap();
    let sample = Sample { dont_fragment, ..Sample::new(L4::Udp, "192.0.2.1:40000", "198.51.100.7:443", &[7; 1200]) };
    let mut frame = umem.allocate().unwrap();
    assert!(umem.fill(&mut frame, &sample.frame()));
    let mut batch = Batch::new();
    let verdict = Verdict::Fragment { out: InterfaceId(0), mtu: 500 };
    batch.output.push(Outcome { frame, tag: 0, verdict, service_port: None });
    let mut tally = Tally::default();
    dispatch(&mut batch, &mut umem, &mut tally, &mut Room(room));
    assert_eq!(umem.free_frames(), frames, "no frame is lost");
    tally
}

fn counts(tally: &Tally) -> [u64; 3] {
    [tally.get(Counter::Forwarded), tally.get(Counter::Tx), tally.get(Counter::TxBytes)]
}

#[test]
fn a_packet_in_fragments_is_forwarded_once() {
    let tally = fragment(3, 3, false);
    // Three headers of Ethernet and IP.
    assert_eq!(counts(&tally), [1, 3, 3 * 34 + 1208]);
}

#[test]
fn a_packet_without_a_frame_for_each_fragment_is_dropped_whole() {
    let tally = fragment(2, 3, false);
    assert_eq!(counts(&tally), [0; 3]);
    assert_eq!(tally.drops(DropReason::NoFreeFrame), 1);
}

#[test]
fn a_packet_whose_fragments_do_not_all_find_room_is_dropped() {
    for room in 0..3 {
        let tally = fragment(3, room, false);
        assert_eq!((tally.get(Counter::Forwarded), tally.get(Counter::Tx)), (0, room as u64));
        assert_eq!(tally.drops(DropReason::TxRingFull), 1);
    }
}

/// A packet that waited while its way out became a smaller one.
#[test]
fn a_packet_that_must_not_be_fragmented_is_dropped() {
    let tally = fragment(3, 3, true);
    assert_eq!(counts(&tally), [0; 3]);
    assert_eq!(tally.drops(DropReason::TooBig), 1);
}
