//! The kernel as second judge: what leaves the packet path goes by a veth pair into the stack of another namespace, to
//! real sockets there, and what those send, with their default offloads, comes back. The kernel's own counters say that
//! no checksum was wrong. Needs root.

mod bed;
#[allow(dead_code, reason = "made for tests of other files, too")]
#[path = "af_xdp/veth.rs"]
mod veth;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use bed::text::Names;
use bed::wire::{Sum, Transport, Wire};
use bed::*;
use ringway_dataplane::af_xdp::program::{SteeringEntry, XdpMode};
use ringway_dataplane::clock::{Clock, Time};
use ringway_dataplane::io::memory::MemoryWorker;
use ringway_shared::counters::Counter;
use ringway_shared::{Frontend, PortSet, Protocol, Snapshot};
use veth::Worker;

const SERVICES: &[&str] = &[
    "web tcp 172.30.0.41:80 -> 10.0.1.1:8080",
    "web tcp [fd00:172:30::41]:80 -> [fd00:10::1]:8080",
    "dns udp 172.30.0.53:53 -> 10.0.1.1:5353",
    "dns udp [fd00:172:30::53]:53 -> [fd00:10::1]:5353",
    "empty tcp 172.30.0.44:80 ->",
    "empty udp 172.30.0.44:53 ->",
    "empty tcp [fd00:172:30::44]:80 ->",
    "empty udp [fd00:172:30::44]:53 ->",
];

/// The MAC address of the peer's interface.
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The packet path between a kernel on its inside, and a client made by hand on its outside.
struct Path {
    veth: Worker,
    worker: MemoryWorker,
    snapshot: Snapshot,
    clock: Clock,
    /// Frames for the client.
    outside: Vec<Vec<u8>>,
    /// Packets of the kernel whose checksums its offloads left unfinished.
    partial: usize,
}

impl Path {
    /// The peer's namespace gets the addresses of endpoint and pod, 10.0.1.1 and fd00:10::1, and routes to the VIPs.
    fn new() -> Option<(veth::Bed, Path)> {
        let bed = veth::Bed::new(1, 1)?;
        for address in ["10.0.1.1/16", "fd00:10::1/64 nodad"] {
            bed.peer_ip(&format!("address add {address} dev c0"));
        }
        for (gateway, vips) in [("10.0.255.254", "172.30.0.0/16"), ("fd00:10::fffe", "fd00:172:30::/112")] {
            bed.peer_ip(&format!("neigh replace {gateway} lladdr 02:00:00:00:00:01 dev c0"));
            let source = if gateway.contains(':') { "fd00:10::1" } else { "10.0.1.1" };
            bed.peer_ip(&format!("route add {vips} via {gateway} dev c0 src {source}"));
        }
        let snapshot = snapshot(SERVICES);
        let mut entries: Vec<_> = snapshot.services.vips.keys().map(|address| SteeringEntry::Vip(*address)).collect();
        for snat in ["10.0.255.254", "fd00:10::fffe"] {
            entries.push(SteeringEntry::Snat(snat.parse().unwrap()));
        }
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            for address in ["10.0.1.1", "fd00:10::1"] {
                let endpoint = Frontend { address: address.parse().unwrap(), protocol, port };
                entries.push(SteeringEntry::MasqueradedEndpoint(endpoint));
            }
        }
        let mut veth = Worker::start(&bed, "l0", XdpMode::Auto, &entries);
        veth.program.set_snat_ports(&PortSet::from(61_000..=65_535)).unwrap();
        let worker = worker(&Settings::default());
        Some((bed, Path { veth, worker, snapshot, clock: Clock::start(), outside: Vec::new(), partial: 0 }))
    }

    fn now(&self) -> Time {
        self.clock.tick()
    }

    /// A packet of the client.
    fn client(&mut self, packet: &Wire) {
        let now = self.now();
        assert!(self.worker.run(&packet.build(), OUTSIDE, 0, &self.snapshot, now));
        self.deliver();
    }

    /// Takes what the kernel sent, and delivers what becomes of it.
    fn pump(&mut self) {
        for (_, mut bytes) in self.veth.poll() {
            self.partial += usize::from(!sums::is_right(&bytes));
            bytes[..6].copy_from_slice(&own_mac(INSIDE).0);
            let now = self.now();
            assert!(self.worker.run(&bytes, INSIDE, 0, &self.snapshot, now));
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        for mut sent in std::mem::take(&mut self.worker.collector.sent) {
            assert!(sums::is_right(&sent.bytes) || is_meant_wrong(&sent.bytes), "{:02x?}", sent.bytes);
            if sent.out == INSIDE {
                sent.bytes[..6].copy_from_slice(&PEER_MAC);
                self.veth.send(0, &sent.bytes);
            } else {
                self.outside.push(sent.bytes);
            }
        }
    }

    /// Runs `work` in the peer's namespace, and the packet path meanwhile.
    fn serve<T: Send>(&mut self, bed: &veth::Bed, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let peer = scope.spawn(|| bed.peer(work));
            while !peer.is_finished() {
                self.pump();
            }
            peer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The next frame for the client; ten seconds are too long.
    fn answer(&mut self) -> Vec<u8> {
        veth::until("an answer comes back", || {
            self.pump();
            !self.outside.is_empty()
        });
        self.outside.remove(0)
    }
}

/// Frames that carry no checksum, and those that a test wants to be refused: their payload says so.
fn is_meant_wrong(frame: &[u8]) -> bool {
    frame.ends_with(b"WRONG") || frame[12] == 8 && frame[23] == 17 && frame[40..42] == [0, 0]
}

/// A counter of the calling thread's namespace.
fn kernel_counter(protocol: &str, name: &str) -> u64 {
    if protocol.ends_with('6') {
        let text = std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(&format!("{protocol}{name}")));
        return line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    }
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{protocol}:")));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split_whitespace().position(|other| other == name).unwrap();
    values.split_whitespace().nth(place).unwrap().parse().unwrap()
}

/// What the peer's kernel counted as wrong: UDP, TCP, ICMP, UDP over IPv6, ICMPv6.
fn wrong_sums(bed: &veth::Bed) -> [u64; 5] {
    bed.peer(|| ["Udp", "Tcp", "Icmp", "Udp6", "Icmp6"].map(|protocol| kernel_counter(protocol, "InCsumErrors")))
}

/// One family's addresses: client, and the VIPs of TCP, UDP and of the Service without endpoints; the endpoint.
struct Family {
    client: &'static str,
    web: &'static str,
    dns: &'static str,
    empty: &'static str,
    endpoint: &'static str,
    v4: bool,
}

const FAMILIES: [Family; 2] = [
    Family {
        client: "203.0.113.9:4000",
        web: "172.30.0.41:80",
        dns: "172.30.0.53:53",
        empty: "172.30.0.44",
        endpoint: "10.0.1.1",
        v4: true,
    },
    Family {
        client: "[2001:db8:c::9]:4000",
        web: "[fd00:172:30::41]:80",
        dns: "[fd00:172:30::53]:53",
        empty: "[fd00:172:30::44]",
        endpoint: "[fd00:10::1]",
        v4: false,
    },
];

#[test]
fn datagrams_reach_a_socket_and_its_answers_come_back() {
    for Family { client, dns, endpoint, v4, .. } in FAMILIES {
        let Some((bed, mut path)) = Path::new() else { return };
        let socket = bed.peer(|| UdpSocket::bind(format!("{endpoint}:5353"))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut packet = text::packet(OUTSIDE, &format!("udp {client} > {dns}"), &Names::new());
        for (number, length) in (0..1400).step_by(35).enumerate() {
            packet.payload = (0..length).map(|at| (at * 31 + number) as u8).collect();
            packet.sum = match number % 3 {
                0 => Sum::Partial,
                1 if v4 => Sum::Absent,
                _ => Sum::Right,
            };
            path.client(&packet);
            let mut bytes = [0; 2000];
            let (read, from) = socket.recv_from(&mut bytes).expect("the datagram arrives");
            assert_eq!(&bytes[..read], packet.payload);
            socket.send_to(&bytes[..read], from).unwrap();
            let answer = path.answer();
            let header = if v4 { 42 } else { 62 };
            assert_eq!(answer[header..], packet.payload, "the answer");
        }
        assert_eq!(wrong_sums(&bed), [0; 5]);
        // The judge judges: a wrong checksum is still wrong behind the packet path.
        (packet.payload, packet.sum) = (b"WRONG".to_vec(), Sum::Wrong);
        path.client(&packet);
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        // With a timeout the kernel does not go on waiting after a signal.
        let mut answers = std::iter::repeat_with(|| socket.recv_from(&mut [0; 100]).unwrap_err());
        let refused = answers.find(|error| error.kind() != ErrorKind::Interrupted).unwrap();
        assert!(matches!(refused.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{refused}");
        assert_eq!(wrong_sums(&bed), if v4 { [1, 0, 0, 0, 0] } else { [0, 0, 0, 1, 0] });
    }
}

/// The TCP numbers of a frame: sequence, acknowledgment, flags, payload.
fn segment(frame: &[u8]) -> (u32, u32, u8, Vec<u8>) {
    let l4 = if frame[12] == 8 { 34 } else { 54 };
    let number = |at: usize| u32::from_be_bytes(frame[l4 + at..l4 + at + 4].try_into().unwrap());
    (number(4), number(8), frame[l4 + 13], frame[l4 + usize::from(frame[l4 + 12] >> 4) * 4..].to_vec())
}

#[test]
fn a_connection_is_made_used_and_closed() {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    for Family { client, web, endpoint, .. } in FAMILIES {
        let Some((bed, mut path)) = Path::new() else { return };
        let listener = bed.peer(|| TcpListener::bind(format!("{endpoint}:8080"))).unwrap();
        let send = |path: &mut Path, flags: &str, numbers: (u32, u32), data: &[u8], sum: Sum| {
            let mut packet = text::packet(OUTSIDE, &format!("tcp {flags} {client} > {web}"), &Names::new());
            (packet.payload, packet.sum) = (data.to_vec(), sum);
            if let Transport::Tcp { sequence, acknowledgment, .. } = &mut packet.transport {
                (*sequence, *acknowledgment) = numbers;
            }
            path.client(&packet);
        };
        send(&mut path, "S", (1000, 0), b"", Sum::Partial);
        let (theirs, ours, flags, _) = segment(&path.answer());
        assert_eq!((ours, flags & SYN), (1001, SYN), "the kernel takes the SYN");
        send(&mut path, "A", (1001, theirs + 1), b"", Sum::Right);
        send(&mut path, "AP", (1001, theirs + 1), b"a request", Sum::Partial);
        let mut received: Vec<u8> = Vec::new();
        let server = std::thread::spawn(move || {
            let (mut stream, from) = listener.accept().unwrap();
            let mut request = [0; 9];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&[b"the answer to ".as_slice(), &request, &[7; 1001]].concat()).unwrap();
            from
        });
        let mut finished = false;
        while !finished {
            let (sequence, _, flags, data) = segment(&path.answer());
            let next = theirs + 1 + received.len() as u32;
            if sequence != next {
                continue;
            }
            received.extend(&data);
            finished = flags & FIN != 0;
            let next = next + data.len() as u32 + u32::from(finished);
            send(&mut path, if finished { "FA" } else { "A" }, (1010, next), b"", Sum::Right);
        }
        assert_eq!(received, [b"the answer to a request".as_slice(), &[7; 1001]].concat());
        let from = server.join().unwrap();
        assert!((61_000..=65_535).contains(&from.port()), "{from}");
        assert_eq!(wrong_sums(&bed), [0; 5]);
        let tally = path.worker.tally();
        assert!(tally.closes());
        assert_eq!(tally.get(Counter::Rx), tally.get(Counter::Forwarded));
        assert!(path.partial > 0, "the kernel finished every checksum itself, so nothing was tested");
    }
}

#[test]
fn the_kernel_believes_rejects_and_echo_replies() {
    let Some((bed, mut path)) = Path::new() else { return };
    for Family { empty, v4, .. } in FAMILIES {
        let refused = path.serve(&bed, || {
            let address: SocketAddr = format!("{empty}:80").parse().unwrap();
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap_err()
        });
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{empty}");
        let unreachable = path.serve(&bed, || {
            let socket = UdpSocket::bind(if v4 { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.connect(format!("{empty}:53")).unwrap();
            socket.send(b"a question that nobody answers").unwrap();
            socket.recv(&mut [0; 10]).unwrap_err()
        });
        assert_eq!(unreachable.kind(), ErrorKind::ConnectionRefused, "{empty}");
    }
    for vip in ["172.30.0.41", "fd00:172:30::41"] {
        let pinged = path.serve(&bed, || veth::run(&format!("ping -c 1 -W 5 {vip}")));
        assert!(pinged.is_ok(), "{pinged:?}");
    }
    assert_eq!(wrong_sums(&bed), [0; 5]);
    let tally = path.worker.tally();
    assert!(tally.closes());
    assert_eq!(tally.get(Counter::Replied), 6);
}
