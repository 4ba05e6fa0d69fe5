use super::*;
use crate::af_xdp::{RingSizes, UmemLayout};
use crate::handover::Mesh;
use crate::io::KernelSide;
use ringway_shared::network::Lower;

const SIZES: RingSizes = RingSizes { fill: 8, completion: 8, receive: 8, transmit: 4, driver: 0 };

/// A worker's ports on devices 10, 11 and so on, one queue each, and the kernel's side of each.
struct Bed {
    umem: Umem,
    ports: Ports,
    kernel: Vec<KernelSide>,
    tally: Tally,
    batch: ArrayVec<Received, BATCH>,
}

fn bed(devices: u32) -> Bed {
    let mut umem = Umem::new(UmemLayout::of_frames(128)).unwrap();
    let (_, mut ends) = Mesh::new(1).unwrap();
    let mut ports = Ports::new(ends.pop().unwrap());
    let mut kernel = Vec::new();
    for device in 0..devices {
        let (mut port, side) = Port::in_memory(InterfaceId(0), 0, SIZES, &mut umem).unwrap();
        port.device = 10 + device;
        ports.push(port);
        kernel.push(side);
    }
    Bed { umem, ports, kernel, tally: Tally::default(), batch: ArrayVec::new() }
}

/// Carried by these devices, `(ifindex, receives, sends)`.
fn by(devices: &[(u32, bool, bool)], vlan: Option<u16>) -> Lowers {
    let lower = |(index, receives, sends): &(u32, bool, bool)| Lower {
        index: *index,
        name: format!("eth{index}").into(),
        receives: *receives,
        sends: *sends,
    };
    Lowers { devices: devices.iter().map(lower).collect(), vlan, ..Lowers::default() }
}

fn only(device: u32, vlan: Option<u16>) -> Lowers {
    by(&[(device, true, true)], vlan)
}

/// A frame of 60 bytes or more whose header goes on like this, then its number.
fn frame(rest: &[u8], number: u8) -> Vec<u8> {
    let mut frame: Vec<u8> = (1..=12).chain(rest.iter().copied()).collect();
    frame.resize(60.max(frame.len()), number);
    frame
}

/// An IPv4 TCP frame with this source port.
fn tcp(port: u16) -> Vec<u8> {
    let mut frame = frame(&[8, 0, 0x45], 0);
    frame[23] = 6;
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame
}

impl Bed {
    /// What arrives at the device at `place` as these frames: interface and bytes of each.
    fn receive(&mut self, place: usize, frames: &[Vec<u8>]) -> Vec<(u16, Vec<u8>)> {
        for frame in frames {
            assert!(self.kernel[place].deliver(&mut self.umem, frame));
        }
        let received = self.ports.receive(place, &mut self.umem, &mut self.batch, &mut self.tally);
        assert_eq!(received, frames.len());
        let umem = &mut self.umem;
        let mut taken = |Received { frame, interface, .. }: Received| {
            let bytes = umem.packet(&frame).to_vec();
            umem.free(frame);
            (interface.0, bytes)
        };
        self.batch.drain(..).map(&mut taken).collect()
    }

    fn send(&mut self, out: u16, bytes: &[u8]) -> Result<(), DropReason> {
        let mut frame = self.umem.allocate().unwrap();
        assert!(self.umem.fill(&mut frame, bytes));
        self.ports.send(&mut self.umem, InterfaceId(out), frame, 0).map_err(|(frame, reason)| {
            self.umem.free(frame);
            reason
        })
    }

    /// What left by the device at `place`.
    fn sent(&mut self, place: usize) -> Vec<Vec<u8>> {
        self.ports.flush(&mut self.umem);
        let sent = std::iter::from_fn(|| self.kernel[place].transmit(&mut self.umem)).collect();
        self.ports.flush(&mut self.umem);
        sent
    }

    fn conserves(&self) {
        let held: u32 = self.ports.iter().map(Port::in_flight).sum();
        assert_eq!(self.umem.free_frames() + held, self.umem.total());
    }
}

#[test]
fn a_device_that_carries_itself_is_left_alone() {
    let mut bed = bed(2);
    bed.ports.carry(InterfaceId(0), only(10, None));
    bed.ports.carry(InterfaceId(3), only(11, None));
    let tagged = frame(&[0x81, 0, 0, 100, 8, 0], 1);
    assert_eq!(bed.receive(0, &[tagged.clone(), tcp(1)]), [(0, tagged), (0, tcp(1))]);
    assert_eq!(bed.receive(1, &[tcp(2)]), [(3, tcp(2))]);
    bed.send(3, &tcp(3)).unwrap();
    assert_eq!((bed.sent(0), bed.sent(1)), (vec![], vec![tcp(3)]));
    assert_eq!(bed.send(1, &tcp(3)), Err(DropReason::InterfaceDown));
    assert_eq!(bed.send(9, &tcp(3)), Err(DropReason::InterfaceDown));
    bed.conserves();
}

#[test]
fn tags_come_off_and_name_the_interface() {
    let mut bed = bed(1);
    bed.ports.carry(InterfaceId(2), only(10, Some(200)));
    bed.ports.carry(InterfaceId(0), only(10, None));
    bed.ports.carry(InterfaceId(1), only(10, Some(100)));
    let of = |vlan: &[u8], number| frame(&[&[0x81, 0], vlan, &[8, 0, number]].concat(), number);
    let bare = |number| {
        let mut bare = frame(&[8, 0, number], number);
        bare.truncate(56);
        bare
    };
    let foreign = [
        // Another VLAN, a priority tag, two tags, a provider's, one that the frame ends in.
        of(&[0, 101], 4),
        of(&[0xe0, 0], 5),
        frame(&[0x81, 0, 0, 100, 0x81, 0, 0, 200, 8, 0], 6),
        frame(&[0x88, 0xa8, 0, 100, 8, 0], 7),
    ];
    let ours = [of(&[0, 100], 1), of(&[0xf0, 200], 2), frame(&[8, 0, 3], 3)];
    assert_eq!(bed.receive(0, &ours), [(1, bare(1)), (2, bare(2)), (0, frame(&[8, 0, 3], 3))]);
    let untouched: Vec<_> = foreign.iter().map(|frame| (0, frame.clone())).collect();
    assert_eq!(bed.receive(0, &foreign), untouched);
    let short = ours[0][..17].to_vec();
    assert_eq!(bed.receive(0, std::slice::from_ref(&short)), [(0, short)]);
    bed.conserves();
}

#[test]
fn a_tag_goes_on_where_an_interface_has_one() {
    let mut bed = bed(1);
    bed.ports.carry(InterfaceId(0), only(10, None));
    bed.ports.carry(InterfaceId(1), only(10, Some(0x123)));
    bed.send(1, &tcp(7)).unwrap();
    bed.send(0, &tcp(8)).unwrap();
    let tagged = [&tcp(7)[..12], &[0x81, 0, 0x01, 0x23], &tcp(7)[12..]].concat();
    assert_eq!(bed.sent(0), [tagged.clone(), tcp(8)]);
    // What came in under a tag and goes out under another one.
    bed.ports.carry(InterfaceId(2), only(10, Some(0x124)));
    assert!(bed.kernel[0].deliver(&mut bed.umem, &tagged));
    bed.ports.receive(0, &mut bed.umem, &mut bed.batch, &mut bed.tally);
    let Received { frame, interface, .. } = bed.batch.pop().unwrap();
    assert_eq!(interface, InterfaceId(1));
    bed.ports.send(&mut bed.umem, InterfaceId(2), frame, 0).unwrap();
    assert_eq!(bed.sent(0), [[&tcp(7)[..12], &[0x81, 0, 0x01, 0x24], &tcp(7)[12..]].concat()]);
    for _ in 0..4 {
        bed.send(1, &tcp(1)).unwrap();
    }
    assert_eq!(bed.send(1, &tcp(1)), Err(DropReason::TxRingFull));
    bed.conserves();
}

#[test]
fn a_frame_without_room_for_a_tag_is_refused() {
    let mut bed = bed(1);
    bed.ports.carry(InterfaceId(1), only(10, Some(100)));
    let mut frame = bed.umem.allocate().unwrap();
    assert!(bed.umem.fill(&mut frame, &tcp(1)));
    assert!(bed.umem.grow_head(&mut frame, 253));
    let (frame, reason) = bed.ports.send(&mut bed.umem, InterfaceId(1), frame, 0).unwrap_err();
    assert_eq!(reason, DropReason::TooBig);
    bed.umem.free(frame);
    assert_eq!(bed.send(1, &[1; 13]), Err(DropReason::TooBig));
    bed.conserves();
}

#[test]
fn what_is_for_nobody_is_counted_and_freed() {
    let mut bed = bed(2);
    bed.ports.carry(InterfaceId(1), only(10, Some(100)));
    let tagged = frame(&[0x81, 0, 0, 100, 8, 0], 1);
    let mut bare = frame(&[8, 0], 1);
    bare.truncate(56);
    // In a batch with others, which keep their order; and on a device that carries nothing.
    let frames = [tcp(1), tagged.clone(), tcp(2), tagged, tcp(3)];
    assert_eq!(bed.receive(0, &frames), [(1, bare.clone()), (1, bare)]);
    assert_eq!(bed.receive(1, &[tcp(4)]), []);
    assert_eq!(bed.tally.get(Counter::Rx), 4);
    assert_eq!(bed.tally.get(Counter::RxBytes), 240);
    assert_eq!(bed.tally.drops(DropReason::KernelUnreachable), 4);
    bed.conserves();
}

#[test]
fn a_bond_takes_from_every_member_and_spreads_flows_over_those_that_send() {
    let mut bed = bed(3);
    bed.ports.carry(InterfaceId(0), by(&[(10, true, true), (11, true, true), (12, false, false)], None));
    for device in 0..2 {
        assert_eq!(bed.receive(device, &[tcp(1)]), [(0, tcp(1))]);
    }
    assert_eq!(bed.receive(2, &[tcp(1)]), [], "a backup member receives nothing");
    let mut by_device = [0, 0];
    for port in 0..64 {
        let mut ways = Vec::new();
        for _ in 0..2 {
            bed.send(0, &tcp(port)).unwrap();
            ways.push([0, 1, 2].map(|device| bed.sent(device).len()));
        }
        assert_eq!(ways[0], ways[1], "a flow keeps its way");
        assert_eq!(ways[0][2], 0);
        (0..2).for_each(|device| by_device[device] += ways[0][device]);
    }
    assert!(by_device.iter().all(|count| *count > 16), "{by_device:?}");
    // The first fails, the third becomes active, and carries a VLAN too.
    bed.ports.carry(InterfaceId(0), by(&[(10, false, false), (12, true, true)], None));
    bed.ports.carry(InterfaceId(1), by(&[(10, false, false), (12, true, true)], Some(5)));
    (0..4).for_each(|port| bed.send(0, &tcp(port)).unwrap());
    assert_eq!([0, 1, 2].map(|device| bed.sent(device).len()), [0, 0, 4]);
    bed.send(1, &tcp(1)).unwrap();
    assert_eq!(bed.sent(2), [[&tcp(1)[..12], &[0x81, 0, 0, 5], &tcp(1)[12..]].concat()]);
    // All have failed.
    bed.ports.carry(InterfaceId(0), by(&[(10, false, false), (12, false, false)], None));
    assert_eq!(bed.send(0, &tcp(1)), Err(DropReason::InterfaceDown));
    bed.conserves();
}

#[test]
fn a_detached_device_leaves_the_others_their_interfaces() {
    let mut bed = bed(3);
    bed.ports.carry(InterfaceId(0), only(10, None));
    bed.ports.carry(InterfaceId(1), by(&[(10, true, true), (12, true, true)], Some(7)));
    bed.ports.carry(InterfaceId(2), only(11, None));
    for port in bed.ports.detach(10) {
        port.close().reclaim(&mut bed.umem);
    }
    bed.kernel.remove(0);
    assert_eq!(bed.send(0, &tcp(1)), Err(DropReason::InterfaceDown));
    bed.send(2, &tcp(2)).unwrap();
    bed.send(1, &tcp(3)).unwrap();
    assert_eq!(bed.sent(0), [tcp(2)]);
    assert_eq!(bed.sent(1), [[&tcp(3)[..12], &[0x81, 0, 0, 7], &tcp(3)[12..]].concat()]);
    bed.ports.carry(InterfaceId(1), Lowers::default());
    assert_eq!(bed.send(1, &tcp(1)), Err(DropReason::InterfaceDown));
    bed.conserves();
}

/// A driver that takes frames and completes none is found by one frame of ours, without any traffic.
#[test]
fn a_probe_leaves_by_the_ports_of_its_device_and_shows_who_completes() {
    let mut bed = bed(2);
    bed.ports.carry(InterfaceId(0), only(10, Some(100)));
    let second = |seconds: u64| Time(seconds * 1_000_000_000);
    let probe = [7; 60];
    bed.ports.probe(10, &probe, &mut bed.umem);
    bed.ports.probe(11, &probe, &mut bed.umem);
    assert_eq!(bed.sent(0), [probe.to_vec()], "as it is, without a tag");
    bed.ports.flush(&mut bed.umem);
    for at in [1, 3] {
        bed.ports.note(second(at));
    }
    let progress: Vec<_> = bed.ports.iter().map(|port| port.progress().read()).collect();
    assert_eq!((progress[0].completed, progress[0].in_transmit, progress[0].waits), (1, 0, 0));
    assert_eq!((progress[1].completed, progress[1].untaken, progress[1].waits), (0, 1, 2_000));
    bed.conserves();
}
