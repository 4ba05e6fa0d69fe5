//! Ports that are opened and closed beside a worker that runs.

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ringway_dataplane::af_xdp::program::{SteeringEntry, SteeringProgram, XdpMode};
use ringway_dataplane::af_xdp::socket::Holding;
use ringway_dataplane::af_xdp::{Device, SocketOptions};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::clock::Clock;
use ringway_dataplane::config::{PipelineConfig, Poll};
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::flow::{FlowConfig, FlowTable, Timeouts};
use ringway_dataplane::handover::Mesh;
use ringway_dataplane::io::PortOptions;
use ringway_dataplane::io::port::Leftovers;
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_dataplane::worker::{Patience, WorkerHandle, WorkerParts, spawn};
use ringway_shared::counters::{Counter, WorkerCounters};
use ringway_shared::handoff::{Publisher, Reader};
use ringway_shared::{MacAddress, PortSet, Snapshot};

use crate::veth::{Bed, SIZES, inside, open_port, options, umem, until};

const VIP: &str = "10.99.0.1";

/// A worker that runs, with room for this many ports. It knows no Service.
fn start(ports: u32, snapshots: Reader<Snapshot>) -> WorkerHandle {
    let (mesh, mut ends) = Mesh::new(1).unwrap();
    let flows =
        FlowConfig { capacity: 64, seed: 1, timeouts: Timeouts::default(), snat_ports: PortSet::from(61_000..=61_007) };
    let counters = WorkerCounters::new(1);
    let shared = Shared {
        directory: None,
        direct: DirectConnections::new(),
        affinities: Affinities::new(64, 1),
        suspects: Default::default(),
        resolver: Resolver::new().unwrap(),
        counters: counters.clone(),
    };
    let parts = WorkerParts {
        id: 0,
        cpu: Some(0),
        poll: Poll::Adaptive,
        umem: umem(ports),
        pipeline: Pipeline::new(PipelineConfig::single(), FlowTable::new(&flows), shared),
        snapshots,
        handover: ends.pop().unwrap(),
        clock: Clock::start(),
    };
    spawn(parts, mesh, counters).unwrap()
}

/// Opens a port on queue 0 of an interface of the calling thread's namespace for a worker, which takes it.
fn attach(worker: &mut WorkerHandle, interface: &str, socket: SocketOptions, program: &mut SteeringProgram) {
    let device = Device::by_name(interface).unwrap();
    let opening = worker.lend(SIZES).unwrap();
    let options = PortOptions { device: &device, queue: 0, socket };
    let port = opening.open(&options, &mut { Patience::FULL }, &[], || {}).unwrap();
    let socket = port.socket().cloned().unwrap();
    worker.take(port).unwrap();
    program.set_socket(device.index, 0, std::os::fd::AsFd::as_fd(&*socket)).unwrap();
}

/// Deleting many devices at once holds the lock that a bind needs, as a driver does that resets its NIC for one. Packet after
/// packet is received by the port that the worker has while the other one is not open yet.
#[test]
fn traffic_of_other_ports_goes_on_while_a_bind_takes_long() {
    let Some(bed) = Bed::new(2, 1) else { return };
    bed.peer_ip("route add 10.99.0.0/24 via 10.77.0.1");
    let (_publisher, mut readers) = Publisher::new(Snapshot::default(), 1);
    let mut worker = start(2, readers.pop().unwrap());
    let counters = worker.counters.clone();
    let mut program = bed.gateway(|| {
        let device = Device::by_name("l0").unwrap();
        let mut program = SteeringProgram::load().unwrap();
        program.add_missing(&[SteeringEntry::Vip(VIP.parse::<IpAddr>().unwrap())].into()).unwrap();
        program.set_link(device.index, None, MacAddress([2, 0, 0, 0, 0, 1])).unwrap();
        program.attach("l0", device.index, XdpMode::Native).unwrap();
        attach(&mut worker, "l0", options(false), &mut program);
        program
    });
    let client = bed.peer(|| UdpSocket::bind("10.77.0.2:0").unwrap());
    let received = || counters.read().get(Counter::Rx);
    let index = bed.gateway(|| Device::by_name("l1").unwrap().index);
    let mut leftovers = Leftovers::default();
    until("three packets after each other were received during one bind", || {
        let lines: String = (0..24).map(|number| format!("link add b{number} group 7 type bridge\n")).collect();
        let file = std::env::temp_dir().join(format!("{}-links", bed.gateway_name()));
        std::fs::write(&file, lines).unwrap();
        bed.gateway_ip(&format!("-batch {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        let is_open = AtomicBool::new(false);
        let during = thread::scope(|scope| {
            let deleting = scope.spawn(|| bed.gateway_ip("link del group 7"));
            let (opening, gateway) = (worker.lend(SIZES).unwrap(), bed.gateway_name());
            let is_open = &is_open;
            let opener = scope.spawn(move || {
                inside(gateway, || {
                    let device = Device::by_name("l1").unwrap();
                    let options = PortOptions { device: &device, queue: 0, socket: options(false) };
                    let port = opening.open(&options, &mut { Patience::FULL }, &[], || {}).unwrap();
                    is_open.store(true, Ordering::Relaxed);
                    port
                })
            });
            let mut during = 0;
            while !is_open.load(Ordering::Relaxed) {
                let before = received();
                client.send_to(b"hello", (VIP, 80)).unwrap();
                until("the packet was received", || received() > before);
                during += u32::from(!is_open.load(Ordering::Relaxed));
            }
            worker.take(opener.join().unwrap()).unwrap();
            deleting.join().unwrap();
            during
        });
        // The ports are closed by us, and their frames come back.
        for port in worker.hand_back(index).unwrap() {
            leftovers.add(0, port.close());
        }
        until("its frames are free", || {
            leftovers.take_free().into_iter().for_each(|(_, closed)| worker.reclaim(closed).unwrap());
            leftovers.is_empty() && worker.has_room(SIZES.frames()).is_ok()
        });
        during >= 3
    });
    program.remove_sockets(bed.gateway(|| Device::by_name("l0").unwrap().index));
    assert!(worker.join());
}

/// Sockets share the registration of their worker's memory; that of one whose device is gone cannot be shared.
#[test]
fn a_port_opens_when_the_devices_of_those_before_are_gone() {
    let Some(bed) = Bed::new(3, 1) else { return };
    let (_publisher, mut readers) = Publisher::new(Snapshot::default(), 1);
    let mut worker = start(3, readers.pop().unwrap());
    let mut program = SteeringProgram::load().unwrap();
    bed.gateway(|| attach(&mut worker, "l0", options(false), &mut program));
    bed.gateway(|| attach(&mut worker, "l1", options(false), &mut program));
    bed.gateway_ip("link del l0");
    bed.gateway_ip("link del l1");
    bed.gateway(|| attach(&mut worker, "l2", options(false), &mut program));
    assert!(worker.join());
}

/// A driver lets go of a socket's chunks before its queue can be bound again.
#[test]
fn a_queue_is_held_until_the_kernel_has_let_go_of_it_or_its_device_is_gone() {
    let Some(bed) = Bed::new(2, 1) else { return };
    bed.gateway(|| {
        let mut memory = umem(2);
        let ports = ["l0", "l1"].map(|name| open_port(name, 0, options(false), &mut memory, &[]).unwrap());
        let devices = ["l0", "l1"].map(|name| Device::by_name(name).unwrap());
        let asked = || devices.each_ref().map(|device| Holding::of(device, 0));
        let sockets = ports.each_ref().map(|port| port.socket().cloned());
        assert_eq!(asked(), [Holding::Held; 2]);
        for port in ports {
            assert_eq!(port.close().reclaim(&mut memory), 256);
        }
        assert_eq!(asked(), [Holding::Held; 2], "{sockets:?} are open");
        bed.gateway_ip("link del l1");
        assert_eq!(asked(), [Holding::Held, Holding::Free]);
        drop(sockets);
        until("the kernel has let go", || asked() == [Holding::Free; 2]);
        assert_eq!(Holding::of(&devices[0], 7), Holding::Unknown, "there is no such queue, or not any more");
    });
}
