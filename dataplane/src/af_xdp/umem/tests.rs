use super::*;
use proptest::prelude::*;

fn umem(frames: u32) -> Umem {
    Umem::new(UmemLayout::of_frames(frames)).unwrap()
}

#[test]
fn layouts_that_the_kernel_refuses_are_refused_with_numbers() {
    for layout in [
        UmemLayout { frames: 0, chunk_size: 2048, headroom: 256 },
        UmemLayout { frames: 1, chunk_size: 1024, headroom: 256 },
        UmemLayout { frames: 1, chunk_size: 3000, headroom: 256 },
        UmemLayout { frames: 1, chunk_size: 2048, headroom: 255 },
        UmemLayout { frames: 1, chunk_size: 2048, headroom: 1025 },
    ] {
        let error = Umem::new(layout).unwrap_err();
        assert_eq!(error, UmemError::Layout(layout));
        assert!(error.to_string().contains(&layout.headroom.to_string()), "{error}");
    }
    assert!(Umem::new(UmemLayout { frames: 3, chunk_size: 4096, headroom: 512 }).is_ok());
}

#[test]
fn a_frame_carries_bytes_grows_and_shrinks_at_both_ends() {
    let mut umem = umem(2);
    let mut frame = umem.allocate().unwrap();
    assert_eq!((frame.len(), umem.packet(&frame).len()), (0, 0));
    assert!(umem.fill(&mut frame, b"hello"));
    assert!(umem.resize(&mut frame, 4));
    umem.packet_mut(&mut frame)[0] = b'H';
    assert_eq!(umem.packet(&frame), b"Hell");
    assert!(umem.grow_head(&mut frame, 256));
    assert!(!umem.grow_head(&mut frame, 1));
    assert!(umem.resize(&mut frame, 2048));
    assert!(!umem.resize(&mut frame, 2049));
    assert!(umem.shrink_head(&mut frame, 256));
    assert!(!umem.shrink_head(&mut frame, 1793));
    assert_eq!(&umem.packet(&frame)[..4], b"Hell");
    assert!(!umem.fill(&mut frame, &[0; 1793]));
    assert!(umem.fill(&mut frame, &[7; 1792]));
    let mut copy = umem.allocate().unwrap();
    assert!(umem.resize(&mut copy, 9));
    let (from, to) = umem.packet_pair(&frame, &mut copy);
    to.copy_from_slice(&from[..9]);
    assert_eq!(umem.packet(&copy), [7; 9]);
    umem.free(frame);
    umem.free(copy);
    assert_eq!(umem.free_frames(), umem.total());
}

#[test]
fn descriptors_outside_the_region_are_refused() {
    let mut umem = umem(2);
    assert!(umem.adopt(4096, 0).is_none());
    assert!(umem.adopt(2048, 2049).is_none());
    assert!(umem.adopt(4000, 96 + 1).is_none());
    assert!(umem.adopt(u64::MAX, u32::MAX).is_none());
    let frame = umem.adopt(4000, 96).unwrap();
    assert_eq!(frame.into_descriptor(), (4000, 96));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "was dropped")]
fn dropping_a_frame_is_stopped_in_debug_builds() {
    drop(umem(1).allocate());
}

proptest! {
    /// Random use against an oracle of what each frame holds: contents never mix and no chunk is lost.
    #[test]
    fn frames_keep_their_bytes_and_none_is_lost(
        operations in proptest::collection::vec((0u8..4, any::<u8>(), 0usize..1793), 1..200),
    ) {
        let mut umem = umem(8);
        let mut held: Vec<(Frame, Vec<u8>)> = Vec::new();
        for (operation, byte, length) in operations {
            let picked = usize::from(byte) % held.len().max(1);
            match operation {
                0 | 1 => match umem.allocate() {
                    Some(mut frame) => {
                        assert!(umem.fill(&mut frame, &vec![byte; length]));
                        held.push((frame, vec![byte; length]));
                    }
                    None => assert_eq!(held.len(), 8),
                },
                2 if !held.is_empty() => umem.free(held.swap_remove(picked).0),
                3 if !held.is_empty() => {
                    let (frame, bytes) = &mut held[picked];
                    if umem.shrink_head(frame, length) {
                        bytes.drain(..length);
                    } else {
                        assert!(length > bytes.len());
                    }
                }
                _ => {}
            }
            for (frame, bytes) in &held {
                assert_eq!(umem.packet(frame), bytes);
            }
            assert_eq!(umem.free_frames() as usize + held.len(), 8);
        }
        for (frame, _) in held {
            umem.free(frame);
        }
        assert_eq!(umem.free_frames(), 8);
    }
}

#[test]
fn frames_are_as_large_as_drivers_need_them_in_whole_kib() {
    let sizes = |mtu| {
        let (copy, direct) = (UmemLayout::for_mtu(8, mtu), UmemLayout::for_zero_copy(8, mtu));
        (copy.chunk_size, direct.chunk_size, mtu <= direct.zero_copy_mtu())
    };
    assert_eq!(sizes(0), (2048, 2048, true));
    assert_eq!(sizes(1006), (2048, 2048, true));
    // 2048 bytes less the headroom are 1 KiB to a driver that counts so.
    assert_eq!(sizes(1007), (2048, 4096, true));
    assert_eq!(sizes(1500), (2048, 4096, true));
    assert_eq!(sizes(1774), (2048, 4096, true));
    assert_eq!(sizes(1775), (4096, 4096, true));
    assert_eq!(sizes(3054), (4096, 4096, true));
    assert_eq!(sizes(3055), (4096, 4096, false));
    assert_eq!(sizes(9000), (4096, 4096, false));
}

#[test]
fn the_largest_mtu_is_one_number_for_each_way_of_packets() {
    let largest = UmemLayout::largest_mtu;
    assert_eq!((largest(true, true), largest(true, false), largest(false, false)), (3054, 3498, 3822));
}
