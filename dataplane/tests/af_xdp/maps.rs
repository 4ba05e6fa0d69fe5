//! Maps of the steering program: entries that share a key, and maps that are full.

use std::collections::HashSet;

use ringway_dataplane::af_xdp::program::{Capacities, SteeringEntry, SteeringProgram, XdpMode};
use ringway_shared::Protocol;

use crate::packets::{udp, with};
use crate::steering::{coming_up, extended, frontend};
use crate::veth::{Bed, Worker, open_port, options, umem, until};

/// Fragments are steered by what there is behind an address, whichever of it goes first.
#[test]
fn fragments_come_up_while_any_port_of_their_address_is_ours() {
    let Some(bed) = Bed::new(1, 1) else { return };
    let mut worker = Worker::start(&bed, "l0", XdpMode::Native, &[SteeringEntry::Vip("10.99.0.1".parse().unwrap())]);
    let mut umem = umem(1);
    let mut sender = bed.peer(|| open_port("c0", 0, options(true), &mut umem, &[]).unwrap());
    let packets =
        [with(&udp("10.77.0.3:9", "10.77.0.1:9", b"x"), 20, &[0, 10]), udp("10.77.0.2:1", "10.99.0.1:1", b"m")];
    let packets = packets.each_ref().map(Vec::as_slice);
    let mut came = |worker: &mut Worker| coming_up(worker, (&mut sender, &mut umem), &packets).len() - 1;
    let [a, b] = [53, 54].map(|port| SteeringEntry::Frontend(frontend(Protocol::Udp, "10.77.0.1", port)));
    let other = SteeringEntry::Frontend(frontend(Protocol::Tcp, "10.77.0.1", 53));
    for (entry, comes, count) in
        [(&other, true, 0), (&a, true, 1), (&b, true, 1), (&a, false, 1), (&other, false, 1), (&b, false, 0)]
    {
        let entries: HashSet<_> = [entry.clone()].into();
        match comes {
            true => worker.program.add_missing(&entries).unwrap(),
            false => worker.program.remove_present(&entries).unwrap(),
        }
        assert_eq!(came(&mut worker), count, "{entry:?} {comes}");
    }
}

/// A flood of what may be the kernel's costs the worker a bounded number of system calls: the kernel gets the rest without it.
#[test]
fn so_many_fragments_to_a_node_address_go_up_in_a_moment_and_the_others_pass() {
    let Some(bed) = Bed::new(1, 1) else { return };
    let entries = [
        SteeringEntry::Vip("10.99.0.1".parse().unwrap()),
        SteeringEntry::Frontend(frontend(Protocol::Udp, "10.77.0.1", 53)),
        SteeringEntry::Frontend(frontend(Protocol::Udp, "10.77.0.9", 53)),
        SteeringEntry::Endpoint(frontend(Protocol::Udp, "10.77.0.2", 53)),
    ];
    let mut worker = bed.gateway(|| {
        let program = SteeringProgram::load_with(Capacities { fragments: 8, ..Capacities::default() }).unwrap();
        Worker::start_with(program, "l0", XdpMode::Native, &entries)
    });
    let left = worker.program.left_fragments();
    let mut umem = umem(1);
    let mut sender = bed.peer(|| open_port("c0", 0, options(true), &mut umem, &[]).unwrap());
    let later = |from: &str, to: &str| with(&udp(from, to, b"x"), 20, &[0, 10]);
    let marker = later("10.77.0.3:1", "10.99.0.1:1");
    let mut came = |worker: &mut Worker, packet: &[u8]| {
        let mut packets = vec![packet; 20];
        packets.push(&marker);
        coming_up(worker, (&mut sender, &mut umem), &packets).len() as u64 - 1
    };
    // Those to a VIP all go up, and so do those of an endpoint.
    for (from, to) in [("10.77.0.3:9", "10.99.0.1:9"), ("10.77.0.2:9", "10.77.0.1:9")] {
        assert_eq!((came(&mut worker, &later(from, to)), left.count()), (20, 0), "{from} > {to}");
    }
    let (mut sent, mut up) = (0, 0);
    until("a moment with more than it takes", || {
        up += came(&mut worker, &later("10.77.0.3:9", "10.77.0.1:9"));
        sent += 20;
        assert_eq!(up + left.count(), sent, "each goes up or is left");
        left.count() > 0
    });
    assert!(up >= 4, "{up}");
    // A moment later there is room again.
    until("another moment", || came(&mut worker, &later("10.77.0.3:9", "10.77.0.9:9")) > 0);
}

/// Who sends from one address, or from all that he has of an IPv6 network, takes half of the room, and whatever there is for others
/// with the same share.
#[test]
fn a_flood_of_fragments_from_one_address_leaves_room_for_others() {
    const OTHERS: usize = 16;
    let Some(bed) = Bed::new(1, 1) else { return };
    let entries = [
        SteeringEntry::Vip("10.99.0.1".parse().unwrap()),
        SteeringEntry::Frontend(frontend(Protocol::Udp, "10.77.0.1", 53)),
        SteeringEntry::Frontend(frontend(Protocol::Udp, "fd77:0::1", 53)),
    ];
    let mut worker = bed.gateway(|| {
        let program = SteeringProgram::load_with(Capacities { fragments: 64, ..Capacities::default() }).unwrap();
        Worker::start_with(program, "l0", XdpMode::Native, &entries)
    });
    let left = worker.program.left_fragments();
    let mut umem = umem(1);
    let mut sender = bed.peer(|| open_port("c0", 0, options(true), &mut umem, &[]).unwrap());
    let later = |from: &str, to: &str| with(&udp(from, to, b"x"), 20, &[0, 10]);
    let header = [17, 0, 0, 8, 0, 0, 0, 9];
    let later6 = |host: u32| extended(&udp(&format!("[fd79::{host:x}]:9"), "[fd77:0::1]:9", b"x"), 44, &header);
    let by_kind = [vec![later("10.77.0.3:9", "10.77.0.1:9"); 100], (1..=100).map(later6).collect()];
    let others: Vec<_> = (0..OTHERS).map(|last| later(&format!("10.78.0.{last}:9"), "10.77.0.1:9")).collect();
    let marker = later("10.77.0.3:1", "10.99.0.1:1");
    let mut floods = 0;
    until("some moments with more than they take", || {
        let before = left.count();
        let flood = by_kind[floods % 2].iter();
        let packets: Vec<&[u8]> = flood.chain(&others).chain([&marker]).map(Vec::as_slice).collect();
        let came = coming_up(&mut worker, (&mut sender, &mut umem), &packets);
        let of_others = came.iter().filter(|packet| others.contains(packet)).count();
        // Some share the flood's share.
        assert!(
            of_others >= OTHERS / 2,
            "{of_others} of {OTHERS} went up, {} of the flood",
            came.len() - of_others - 1
        );
        floods += usize::from(left.count() - before >= 50);
        // Each round has a moment of its own.
        std::thread::sleep(std::time::Duration::from_millis(20));
        floods >= 6
    });
}

#[test]
fn a_full_map_is_named_with_its_size_and_the_rest_is_added() {
    let Some(_bed) = Bed::new(0, 1) else { return };
    let capacities = Capacities { vips: 2, endpoints: 1, ..Capacities::default() };
    let mut program = SteeringProgram::load_with(capacities).unwrap();
    let vips = (1..=3).map(|number| SteeringEntry::Vip([10, 99, 0, number].into()));
    let endpoint = SteeringEntry::Endpoint(frontend(Protocol::Tcp, "10.1.2.3", 80));
    let error = program.add_missing(&vips.chain([endpoint]).collect()).unwrap_err().to_string();
    assert!(error.starts_with("steering map vips: cannot add 10.99.0."), "{error}");
    assert!(error.ends_with("it holds 2 of at most 2 entries"), "{error}");
    assert_eq!(program.len(), 3);
    let unwanted = (1..=3).map(|number| SteeringEntry::Vip([10, 99, 0, number].into()));
    program.remove_present(&unwanted.collect()).unwrap();
    assert_eq!(program.len(), 1);
    let mut program = SteeringProgram::load_with(Capacities { portless: 1, ..Capacities::default() }).unwrap();
    let endpoints = [1, 2].map(|last| SteeringEntry::Endpoint(frontend(Protocol::Tcp, &format!("10.1.2.{last}"), 80)));
    let error = program.add_missing(&endpoints.into()).unwrap_err().to_string();
    assert!(error.starts_with("steering map portless: cannot add the address of tcp:10.1.2."), "{error}");
    assert_eq!(program.len(), 1);
}
