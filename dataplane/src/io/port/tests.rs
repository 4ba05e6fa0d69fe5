use super::*;
use crate::af_xdp::UmemLayout;
use proptest::prelude::*;
use std::collections::VecDeque;

const SIZES: RingSizes = RingSizes { fill: 8, completion: 4, receive: 8, transmit: 4, driver: 0 };

fn bed() -> (Umem, Port, KernelSide) {
    let mut umem = Umem::new(UmemLayout::of_frames(32)).unwrap();
    let (port, kernel) = Port::in_memory(InterfaceId(3), 1, SIZES, &mut umem).unwrap();
    (umem, port, kernel)
}

fn packet(number: u8) -> Vec<u8> {
    vec![number; 60 + usize::from(number)]
}

#[test]
fn what_comes_in_goes_out_and_every_chunk_returns() {
    let (mut umem, mut port, mut kernel) = bed();
    assert_eq!((port.in_receive(), umem.free_frames()), (8, 24));
    for number in 0..3 {
        assert!(kernel.deliver(&mut umem, &packet(number)));
    }
    let mut batch = ArrayVec::new();
    assert_eq!(port.receive(&mut umem, &mut batch), 3);
    for (number, Received { frame, interface, .. }) in batch.drain(..).enumerate() {
        assert_eq!(interface, InterfaceId(3));
        assert_eq!(umem.packet(&frame), packet(number as u8));
        port.send(&mut umem, frame).unwrap();
    }
    assert_eq!(kernel.transmit(&mut umem), None, "not before the flush");
    port.flush(&mut umem);
    assert_eq!((port.in_receive(), port.in_transmit(), umem.free_frames()), (8, 3, 21));
    for number in 0..3 {
        assert_eq!(kernel.transmit(&mut umem), Some(packet(number)));
    }
    port.flush(&mut umem);
    assert_eq!((port.in_flight(), umem.free_frames()), (8, 24));
}

#[test]
fn a_full_ring_and_a_frame_without_a_header_give_the_frame_back() {
    let (mut umem, mut port, _kernel) = bed();
    let mut short = umem.allocate().unwrap();
    assert!(umem.fill(&mut short, &[0; 13]));
    let short = port.send(&mut umem, short).unwrap_err();
    umem.free(short);
    for _ in 0..4 {
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &[0; 14]));
        port.send(&mut umem, frame).unwrap();
    }
    let mut fifth = umem.allocate().unwrap();
    assert!(umem.fill(&mut fifth, &[5; 14]));
    let fifth = port.send(&mut umem, fifth).unwrap_err();
    assert_eq!(umem.packet(&fifth), [5; 14]);
    umem.free(fifth);
}

#[test]
fn a_closed_port_leaves_its_chunks() {
    let (mut umem, mut port, mut kernel) = bed();
    assert!(kernel.deliver(&mut umem, &packet(1)));
    let mut frame = umem.allocate().unwrap();
    assert!(umem.fill(&mut frame, &packet(2)));
    port.send(&mut umem, frame).unwrap();
    port.flush(&mut umem);
    // One packet is received and not fetched, one sent and not completed, and the fill ring is full again.
    assert_eq!(port.close().reclaim(&mut umem), 10);
    assert_eq!(umem.free_frames(), umem.total());
}

#[test]
fn rings_that_need_more_frames_than_there_are_are_refused() {
    let mut umem = Umem::new(UmemLayout::of_frames(23)).unwrap();
    let error = Port::in_memory(InterfaceId(0), 0, SIZES, &mut umem).unwrap_err();
    assert_eq!(error, PortError::Frames { needed: 24, free: 23 });
    assert_eq!(umem.free_frames(), 23);
}

proptest! {
    /// Random traffic on both sides against queues: order and bytes are kept, and free + in flight + in hand == total
    /// after every step.
    #[test]
    fn no_chunk_is_lost_and_no_packet_mixed_up(operations in proptest::collection::vec((0u8..7, any::<u8>()), 1..300)) {
        let (mut umem, mut port, mut kernel) = bed();
        let mut arriving: VecDeque<Vec<u8>> = VecDeque::new();
        let mut submitted: VecDeque<Vec<u8>> = VecDeque::new();
        let mut pushed: VecDeque<Vec<u8>> = VecDeque::new();
        let mut hand: VecDeque<Frame> = VecDeque::new();
        let mut batch = ArrayVec::new();
        for (operation, number) in operations {
            match operation {
                0 | 1 => {
                    if kernel.deliver(&mut umem, &packet(number)) {
                        arriving.push_back(packet(number));
                    }
                }
                2 => {
                    port.receive(&mut umem, &mut batch);
                    for Received { frame, .. } in batch.drain(..) {
                        prop_assert_eq!(umem.packet(&frame), arriving.pop_front().unwrap());
                        hand.push_back(frame);
                    }
                }
                3 => {
                    if let Some(frame) = hand.pop_front() {
                        let bytes = umem.packet(&frame).to_vec();
                        match port.send(&mut umem, frame) {
                            Ok(()) => pushed.push_back(bytes),
                            Err(frame) => umem.free(frame),
                        }
                    }
                }
                4 => {
                    if let Some(frame) = hand.pop_back() {
                        umem.free(frame);
                    }
                }
                5 => {
                    if let Some(packet) = kernel.transmit(&mut umem) {
                        prop_assert_eq!(packet, submitted.pop_front().unwrap());
                    }
                }
                _ => {
                    port.flush(&mut umem);
                    submitted.append(&mut pushed);
                }
            }
            prop_assert_eq!(umem.free_frames() + port.in_flight() + hand.len() as u32, umem.total());
        }
        for frame in hand {
            umem.free(frame);
        }
    }
}

#[test]
fn a_packet_longer_than_the_links_goes_on_whole_when_it_cannot_be_cut() {
    let (mut umem, mut port, mut kernel) = bed();
    port.longest = 100;
    assert!(kernel.deliver(&mut umem, &[9; 101]));
    let mut batch = ArrayVec::new();
    assert_eq!(port.receive(&mut umem, &mut batch), 1);
    for received in batch.drain(..) {
        assert_eq!(umem.packet(&received.frame), [9; 101]);
        umem.free(received.frame);
    }
    port.flush(&mut umem);
    assert_eq!((port.in_receive(), port.counters().large_lost), (8, 0));
}

#[test]
fn a_port_waits_from_the_first_look_without_a_completion_until_one_comes() {
    let (mut umem, mut port, mut kernel) = bed();
    let second = |seconds: u64| Time(seconds * 1_000_000_000);
    let send = |port: &mut Port, umem: &mut Umem| {
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &packet(1)));
        port.send(umem, frame).unwrap();
        port.flush(umem);
    };
    let progress = port.progress();
    let look = |port: &mut Port, at| {
        port.note(second(at));
        let Progress { completed, in_transmit, waits, .. } = progress.read();
        (completed, in_transmit, waits)
    };
    let untaken = || progress.read().untaken;
    assert_eq!(look(&mut port, 1), (0, 0, 0));
    send(&mut port, &mut umem);
    assert_eq!(look(&mut port, 2), (0, 1, 0));
    send(&mut port, &mut umem);
    assert_eq!(look(&mut port, 3), (0, 2, 1_000), "more frames are no progress");
    assert_eq!(untaken(), 2);
    assert!(kernel.transmit(&mut umem).is_some());
    assert_eq!(look(&mut port, 4), (0, 2, 2_000), "not fetched yet");
    assert_eq!(untaken(), 1);
    port.flush(&mut umem);
    assert_eq!(look(&mut port, 5), (1, 1, 0), "one was sent");
    assert_eq!(look(&mut port, 7), (1, 1, 2_000));
    assert!(kernel.transmit(&mut umem).is_some());
    port.flush(&mut umem);
    send(&mut port, &mut umem);
    assert_eq!(look(&mut port, 8), (2, 1, 0), "another frame waits than the last time");
    assert!(kernel.deliver(&mut umem, &packet(3)));
    let mut batch = ArrayVec::new();
    port.receive(&mut umem, &mut batch);
    batch.drain(..).for_each(|received| umem.free(received.frame));
    look(&mut port, 9);
    assert_eq!((progress.read().received, progress.read().in_receive), (1, 7));
}

/// A deletion marks sockets as gone before the driver lets go, and some drivers say it where only the XDP program is gone.
#[test]
fn a_socket_that_says_that_it_is_gone_proves_nothing() {
    let (_umem, mut port, _kernel) = bed();
    port.is_gone = true;
    assert!(!port.may_be_used("igc"), "in copy mode, and nothing to send");
    port.is_direct = true;
    assert!(port.may_be_used("igc"));
    (port.is_direct, port.in_transmit) = (false, 1);
    assert!(port.may_be_used("virtio_net") && !port.may_be_used("igc"));
    port.in_transmit = 0;
    // It is looked after from time to time.
    port.resting = Some(Instant::now() + Duration::from_secs(3600));
    assert!(!port.is_back() && port.is_gone());
    port.resting = None;
    assert!(port.is_back() && !port.is_gone());
}
