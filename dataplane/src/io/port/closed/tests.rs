use super::*;
use crate::af_xdp::{RingSizes, UmemLayout};
use crate::io::Port;
use crate::io::kernel_side::KernelSide;
use crate::io::port::Loan;
use proptest::prelude::*;
use ringway_shared::InterfaceId;

const SIZES: RingSizes = RingSizes { fill: 8, completion: 4, receive: 8, transmit: 4, driver: 0 };

fn umem(frames: u32) -> Umem {
    Umem::new(UmemLayout::of_frames(frames)).unwrap()
}

/// A port in memory, and the driver's end.
fn open(umem: &mut Umem) -> Option<(Port, KernelSide)> {
    Port::in_memory(InterfaceId(0), 0, SIZES, umem).ok()
}

/// What a port leaves whose driver may work on.
fn used(port: Port, device: u32, queue: u32) -> Closed {
    Closed { used_by: Some(UsedBy::of(&socket(device, queue))), ..port.close() }
}

/// A socket at a queue, as far as leftovers see.
fn socket(device: u32, queue: u32) -> Arc<Socket> {
    Arc::new(Socket::in_name_only(Device { name: "nic0".into(), index: device }, queue))
}

fn reclaim(freed: Vec<(u16, Closed)>, umem: &mut Umem) -> u32 {
    freed.into_iter().map(|(_, closed)| closed.reclaim(umem)).sum()
}

#[test]
fn a_driver_that_still_writes_hits_nobodys_chunks() {
    let mut umem = umem(64);
    let mut leftovers = Leftovers::default();
    let (port, mut driver) = open(&mut umem).unwrap();
    leftovers.add(0, used(port, 7, 0));
    assert_eq!(reclaim(leftovers.take_free_by(Instant::now(), |_, _| Holding::Held), &mut umem), 0);
    assert_eq!(umem.free_frames(), 56);
    // The next port gets other chunks and another number; what the driver writes now, it writes into the old ones.
    let (mut next, mut its_driver) = open(&mut umem).unwrap();
    assert!(its_driver.deliver(&mut umem, &[7; 60]));
    assert!(driver.deliver(&mut umem, &[9; 60]));
    let mut batch = arrayvec::ArrayVec::new();
    next.receive(&mut umem, &mut batch);
    let received = batch.pop().unwrap();
    assert_eq!(umem.packet(&received.frame), [7; 60]);
    umem.free(received.frame);
    assert_eq!(reclaim(leftovers.take_free_by(Instant::now(), |_, _| Holding::Free), &mut umem), 8);
    assert_eq!(umem.free_frames() + next.in_flight(), umem.total());
    assert!(leftovers.is_empty());
}

#[test]
fn what_no_driver_uses_is_free_without_asking() {
    let mut umem = umem(64);
    let mut leftovers = Leftovers::default();
    let (port, _) = open(&mut umem).unwrap();
    leftovers.add(3, port.close());
    leftovers.add(4, Loan::of(&mut umem, SIZES).unwrap().unused());
    assert!(leftovers.has(3) && leftovers.has(4) && !leftovers.has(0));
    let freed = leftovers.take_free_by(Instant::now(), |_, _| panic!("nothing to ask"));
    assert_eq!(freed.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(reclaim(freed, &mut umem), 16);
    assert_eq!((umem.free_frames(), umem.unpromised()), (64, 64));
}

#[test]
fn a_socket_of_ours_at_the_queue_proves_that_the_one_before_let_go() {
    let mut umem = umem(96);
    let mut leftovers = Leftovers::default();
    for (device, queue) in [(7, 0), (7, 1), (8, 0)] {
        let (port, _) = open(&mut umem).unwrap();
        leftovers.add(queue as u16, used(port, device, queue));
    }
    let ours = socket(7, 1);
    leftovers.bound(&ours);
    let freed = leftovers.take_free_by(Instant::now(), |_, _| Holding::Held);
    assert_eq!(freed.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [1]);
    assert_eq!(reclaim(freed, &mut umem), 8);
}

/// A worker that was stuck hands a port back after the next one was opened in its place.
#[test]
fn a_socket_of_ours_proves_it_of_ports_that_come_back_late_as_well() {
    let mut umem = umem(96);
    let mut leftovers = Leftovers::default();
    let (late, _) = open(&mut umem).unwrap();
    let ours = socket(7, 1);
    leftovers.bound(&ours);
    leftovers.add(0, used(late, 7, 1));
    let freed = leftovers.take_unused();
    assert_eq!(reclaim(freed, &mut umem), 8);
    // What was ours itself is not proven by that, and nothing is by a socket that is closed.
    let (port, _) = open(&mut umem).unwrap();
    leftovers.add(0, Closed { used_by: Some(UsedBy::of(&ours)), ..port.close() });
    assert!(leftovers.take_unused().is_empty());
    drop(ours);
    let (port, _) = open(&mut umem).unwrap();
    leftovers.add(0, used(port, 7, 1));
    assert!(leftovers.take_unused().is_empty());
    assert_eq!(reclaim(leftovers.take_free_by(Instant::now(), |_, _| Holding::Free), &mut umem), 16);
}

#[test]
fn what_is_proven_free_is_not_asked_about_again() {
    let mut umem = umem(64);
    let mut leftovers = Leftovers::default();
    let (port, _) = open(&mut umem).unwrap();
    leftovers.add(0, used(port, 7, 0));
    for (worker, closed) in leftovers.take_free_by(Instant::now(), |_, _| Holding::Free) {
        // The worker has no time for it.
        leftovers.add(worker, closed);
    }
    assert_eq!(reclaim(leftovers.take_free_by(Instant::now(), |_, _| panic!("nothing to ask")), &mut umem), 8);
}

#[test]
fn a_queue_that_is_held_for_long_is_asked_about_seldom() {
    let mut umem = umem(64);
    let mut leftovers = Leftovers::default();
    let (port, _) = open(&mut umem).unwrap();
    leftovers.add(0, used(port, 7, 0));
    let (start, asked) = (Instant::now(), std::cell::Cell::new(0));
    let held = |_: &Device, _| {
        asked.set(asked.get() + 1);
        Holding::Held
    };
    let mut looks = |from: u64, seconds: u64| {
        asked.set(0);
        (from..from + seconds).for_each(|second| {
            assert!(leftovers.take_free_by(start + Duration::from_secs(second), held).is_empty());
        });
        asked.get()
    };
    assert_eq!(looks(0, 8), 8, "each second at first, while a driver may take so long");
    assert!((1..=3).contains(&looks(7_200, 120)));
    let late = start + Duration::from_secs(7_400);
    assert_eq!(reclaim(leftovers.take_free_by(late, |_, _| Holding::Free), &mut umem), 8);
}

#[test]
fn time_counts_only_where_the_kernel_does_not_let_us_ask() {
    let mut umem = umem(64);
    let mut leftovers = Leftovers::default();
    let (port, _) = open(&mut umem).unwrap();
    leftovers.add(0, used(port, 7, 0));
    let start = Instant::now();
    let early = start + LETTING_GO / 2;
    assert_eq!(reclaim(leftovers.take_free_by(early, |_, _| Holding::Unknown), &mut umem), 0);
    let late = start + LETTING_GO + Duration::from_secs(1);
    assert_eq!(reclaim(leftovers.take_free_by(late, |_, _| Holding::Held), &mut umem), 0, "it is in use, however long");
    let later = start + LETTING_GO * 2;
    assert_eq!(reclaim(leftovers.take_free_by(later, |_, _| Holding::Unknown), &mut umem), 8);
}

proptest! {
    /// Ports come and go with traffic on them, and so do loans: free + in flight + lent + left over == total after every
    /// step, no chunk is free while a driver has it, and all are in the end.
    #[test]
    fn no_chunk_is_lost_and_none_is_early(steps in proptest::collection::vec((0u8..6, 0u32..8), 1..120)) {
        let mut umem = umem(96);
        let mut leftovers = Leftovers::default();
        let mut ports: Vec<(Port, KernelSide)> = Vec::new();
        let mut held: Vec<(u32, u32)> = Vec::new();
        let (mut next, now) = (0, Instant::now());
        for (step, number) in steps {
            match step {
                0 | 1 => ports.extend(open(&mut umem)),
                2 if !ports.is_empty() => {
                    let (port, _) = ports.swap_remove(number as usize % ports.len());
                    held.push((next, port.in_flight()));
                    leftovers.add(0, used(port, next, 0));
                    next += 1;
                }
                3 => {
                    held.retain(|(device, _)| device % 8 != number);
                    let is_held = |device: &Device, _| match held.iter().any(|(held, _)| *held == device.index) {
                        true => Holding::Held,
                        false => Holding::Free,
                    };
                    reclaim(leftovers.take_free_by(now, is_held), &mut umem);
                }
                4 => {
                    if let Ok(loan) = Loan::of(&mut umem, SIZES) {
                        prop_assert_eq!(loan.unused().reclaim(&mut umem), 8);
                    }
                }
                _ => {
                    for (port, driver) in &mut ports {
                        if driver.deliver(&mut umem, &[1; 60]) {
                            let mut batch = arrayvec::ArrayVec::new();
                            port.receive(&mut umem, &mut batch);
                            for received in batch.drain(..) {
                                if let Err(frame) = port.send(&mut umem, received.frame) {
                                    umem.free(frame);
                                }
                            }
                            port.flush(&mut umem);
                        }
                    }
                }
            }
            let in_ports: u32 = ports.iter().map(|(port, _)| port.in_flight()).sum();
            let left: u32 = held.iter().map(|(_, chunks)| chunks).sum();
            prop_assert_eq!(umem.free_frames() + in_ports + left, umem.total());
        }
        for (port, _) in ports.drain(..) {
            leftovers.add(0, used(port, 0, 0));
        }
        reclaim(leftovers.take_free_by(now, |_, _| Holding::Free), &mut umem);
        prop_assert_eq!(umem.free_frames(), umem.total());
        prop_assert_eq!(umem.unpromised(), umem.total());
    }
}
