//! A bed of two network namespaces, gateway and peer, joined by veth pairs, and the ports that tests open there.

use std::fmt::Debug;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use ringway_dataplane::af_xdp::program::{AttachedMode, SteeringEntry, SteeringProgram, XdpMode};
use ringway_dataplane::af_xdp::{Device, RingSizes, SocketOptions, Umem, UmemLayout, ZeroCopy};
use ringway_dataplane::io::{Port, PortError, PortOptions};
use ringway_shared::{MacAddress, PortSet};
use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) const SIZES: RingSizes = RingSizes { fill: 256, completion: 256, receive: 256, transmit: 256, driver: 0 };

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Two namespaces, deleted on drop. Link `n` is l`n` (gateway) and c`n` (peer), with the addresses 10.77.`n`.1 and .2,
/// fd77:`n`::1 and ::2, and the MAC addresses 02:00:00:00:`n`:01 and :02.
pub(crate) struct Bed {
    gateway: String,
    peer: String,
}

impl Drop for Bed {
    fn drop(&mut self) {
        for name in [&self.gateway, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// Runs a command; its output if it succeeded.
pub(crate) fn run(command: &str) -> Result<String, String> {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command}: {}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout)))
}

/// Waits until `done` holds; at most ten seconds.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "ten seconds passed and still not: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `work` on a thread of its own inside a namespace.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let file = open(format!("/run/netns/{namespace}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file.unwrap()), Some(LinkNameSpaceType::Network))
                .unwrap();
            work()
        });
        match worker.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Bed {
    /// A bed with `links` links of `queues` queues. `None`, said loudly, without root; in CI that is a failure.
    pub(crate) fn new(links: u8, queues: u32) -> Option<Bed> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |side: char| format!("rwx{}n{number}{side}", std::process::id());
        let bed = Bed { gateway: name('g'), peer: name('p') };
        if let Err(error) = run(&format!("ip netns add {}", bed.gateway)) {
            let test = thread::current().name().unwrap_or_default().to_owned();
            eprintln!("\n*** SKIPPED {test}: it needs root and network namespaces: {error} ***\n");
            assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{test} must not be skipped in CI");
            return None;
        }
        run(&format!("ip netns add {}", bed.peer)).unwrap();
        for namespace in [&bed.gateway, &bed.peer] {
            run(&format!("ip -n {namespace} link set lo up")).unwrap();
        }
        for link in 0..links {
            bed.add_link(link, queues);
        }
        Some(bed)
    }

    /// Adds link `n`.
    pub(crate) fn add_link(&self, link: u8, queues: u32) {
        let Bed { gateway, peer } = self;
        let sizes = format!("numrxqueues {queues} numtxqueues {queues}");
        let mac = |end: u8| format!("address 02:00:00:00:{link:02x}:0{end}");
        run(&format!(
            "ip link add l{link} netns {gateway} {} {sizes} type veth peer name c{link} netns {peer} {} {sizes}",
            mac(1),
            mac(2),
        ))
        .unwrap();
        for (namespace, side, end) in [(gateway, 'l', 1), (peer, 'c', 2)] {
            run(&format!("ip -n {namespace} address add 10.77.{link}.{end}/24 dev {side}{link}")).unwrap();
            run(&format!("ip -n {namespace} address add fd77:{link}::{end}/64 dev {side}{link} nodad")).unwrap();
            run(&format!("ip -n {namespace} link set {side}{link} up")).unwrap();
        }
        // Neighbours are given, so that no test depends on when ARP answers.
        for (namespace, side, other) in [(gateway, 'l', 2), (peer, 'c', 1)] {
            for address in [format!("10.77.{link}.{other}"), format!("fd77:{link}::{other}")] {
                let mac = format!("02:00:00:00:{link:02x}:0{other}");
                run(&format!("ip -n {namespace} neigh replace {address} lladdr {mac} dev {side}{link}")).unwrap();
            }
        }
    }

    pub(crate) fn gateway_name(&self) -> &str {
        &self.gateway
    }

    /// Runs `work` in the gateway's namespace.
    pub(crate) fn gateway<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.gateway, work)
    }

    /// Runs `work` in the peer's namespace.
    pub(crate) fn peer<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.peer, work)
    }

    /// `ip` with these arguments in the gateway's namespace.
    pub(crate) fn gateway_ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.gateway)).unwrap()
    }

    /// `ip` with these arguments in the peer's namespace.
    pub(crate) fn peer_ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.peer)).unwrap()
    }

    /// Whether the peer can ping the address.
    pub(crate) fn peer_pings(&self, address: &str) -> bool {
        run(&format!("ip netns exec {} ping -c 1 -W 1 {address}", self.peer)).is_ok()
    }
}

pub(crate) fn umem(ports: u32) -> Umem {
    Umem::new(UmemLayout::of_frames(ports * SIZES.frames() + 128)).unwrap()
}

pub(crate) fn options(generic: bool) -> SocketOptions {
    SocketOptions { rings: SIZES, zero_copy: ZeroCopy::Auto, generic, busy_poll: false, announces: None }
}

/// A port on a queue of an interface of the calling thread's namespace.
pub(crate) fn open_port(
    name: &str,
    queue: u32,
    socket: SocketOptions,
    umem: &mut Umem,
    ports: &[Port],
) -> Result<Port, PortError> {
    let device = Device::by_name(name).unwrap();
    Port::open_patiently(&PortOptions { device: &device, queue, socket }, umem, ports)
}

/// What a worker has, on all queues of one gateway interface, with the steering program attached.
pub(crate) struct Worker {
    pub(crate) umem: Umem,
    pub(crate) ports: Vec<Port>,
    pub(crate) program: SteeringProgram,
    pub(crate) mode: AttachedMode,
}

/// The MAC address of VLAN 200 of every interface that a worker is attached to.
pub(crate) const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

impl Worker {
    /// Attaches and binds every queue of `interface`.
    pub(crate) fn start(bed: &Bed, interface: &str, how: XdpMode, entries: &[SteeringEntry]) -> Worker {
        bed.gateway(|| Self::start_here(interface, how, entries))
    }

    /// The same in the namespace of the calling thread.
    pub(crate) fn start_here(interface: &str, how: XdpMode, entries: &[SteeringEntry]) -> Worker {
        Self::start_with(SteeringProgram::load().unwrap(), interface, how, entries)
    }

    /// The same with this program.
    pub(crate) fn start_with(
        mut program: SteeringProgram,
        interface: &str,
        how: XdpMode,
        entries: &[SteeringEntry],
    ) -> Worker {
        let device = Device::by_name(interface).unwrap();
        let queues = device.queues().unwrap();
        let mut umem = umem(queues);
        program.set_snat_ports(&PortSet::of([2000..=2063, 61_000..=62_000]).unwrap()).unwrap();
        program.add_missing(&entries.iter().cloned().collect()).unwrap();
        // VLAN 100 has the device's MAC address, VLAN 200 one of its own.
        let mac = device.mac().unwrap();
        for (vlan, mac) in [(None, mac), (Some(100), mac), (Some(200), MacAddress(OTHER_MAC))] {
            program.set_link(device.index, vlan, mac).unwrap();
        }
        let mode = program.attach(interface, device.index, how).unwrap();
        let mut ports = Vec::new();
        for queue in 0..queues {
            let generic = mode != AttachedMode::Native;
            let port = open_port(interface, queue, options(generic), &mut umem, &ports).unwrap();
            program.set_socket(device.index, queue, port.fd().unwrap()).unwrap();
            ports.push(port);
        }
        Worker { umem, ports, program, mode }
    }

    /// One round over all ports: what came, with the place of its port.
    pub(crate) fn poll(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut packets = Vec::new();
        for (place, port) in self.ports.iter_mut().enumerate() {
            let mut batch = ArrayVec::new();
            port.receive(&mut self.umem, &mut batch);
            for received in batch.drain(..) {
                packets.push((place, self.umem.packet(&received.frame).to_vec()));
                self.umem.free(received.frame);
            }
            port.flush(&mut self.umem);
        }
        self.assert_whole();
        packets
    }

    /// Sends a packet by a port.
    pub(crate) fn send(&mut self, place: usize, packet: &[u8]) {
        let mut frame = self.umem.allocate().unwrap();
        assert!(self.umem.fill(&mut frame, packet));
        let port = &mut self.ports[place];
        if let Err(frame) = port.send(&mut self.umem, frame) {
            self.umem.free(frame);
            panic!("the transmit ring is full");
        }
        port.flush(&mut self.umem);
    }

    /// Free + in flight == total.
    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        let in_flight: u32 = self.ports.iter().map(Port::in_flight).sum();
        assert_eq!(self.umem.free_frames() + in_flight, self.umem.total());
    }
}

/// The value of an error that had to come.
#[track_caller]
pub(crate) fn refused<T, E: Debug>(result: Result<T, E>) -> E {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error,
    }
}
