//! Datagrams larger than an MTU: through VIPs and NodePorts, in whatever order, and past Ringway to the node itself.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use etherparse::PacketBuilder;
use ringway_tests::echo::{EchoClient, EchoServer};
use ringway_tests::netns::Namespace;
use ringway_tests::process::run;
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, LOAD_BALANCER_IPS, NODE_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

const PATIENCE: Duration = Duration::from_secs(20);

/// Text of so many bytes.
fn text(bytes: usize) -> String {
    (0..bytes).map(|at| char::from(b'a' + (at * 7 % 26) as u8)).collect()
}

/// Asks until the answer comes: a machine that is busy may lose a fragment of any datagram.
fn asks(client: &EchoClient, payload: &str) {
    eventually(PATIENCE, "a large datagram is answered", || {
        let answer = client.ask(payload.as_bytes())?;
        if answer.payload == payload { Ok(()) } else { Err(format!("{} other bytes", answer.payload.len())) }
    });
}

fn large_datagrams_go_both_ways(queues: u32) {
    if !can_run("large datagrams", &["ip", "nginx"]) {
        return;
    }
    let mut bed = Bed::start(Options { queues, ..Options::default() });
    let frontends: Vec<SocketAddr> = [CLUSTER_IPS, LOAD_BALANCER_IPS]
        .into_iter()
        .flatten()
        .map(|ip| at(ip, ECHO.port))
        .chain(NODE_IPS.map(|ip| at(ip, ECHO.node_port)))
        .collect();
    for frontend in frontends {
        let client = EchoClient::new(&bed.client, frontend);
        // Small, then its neighbours are known.
        for bytes in [10, 4_000, 60_000] {
            asks(&client, &text(bytes));
        }
    }
    let ledger = bed.ledger();
    // 3 and 41 fragments there, and as many back.
    assert!(ledger.forwarded >= 6 * 2 * (1 + 3 + 41), "{ledger:?}");
    for reason in ["tiny_fragment", "fragment_overlap", "invalid_fragment"] {
        assert_eq!(ledger.drops(reason), 0, "{ledger:?}");
    }
}

#[test]
fn large_datagrams_go_both_ways_by_one_queue() {
    large_datagrams_go_both_ways(1);
}

#[test]
fn large_datagrams_go_both_ways_by_four_queues() {
    large_datagrams_go_both_ways(4);
}

#[test]
fn the_nodes_own_fragments_reach_it() {
    if !can_run("the_nodes_own_fragments_reach_it", &["ip", "nginx", "ping"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    // The node has NodePorts of UDP, so fragments of UDP to it come up.
    let _server = EchoServer::start(&bed.gateway, "gateway", 5999);
    for ip in NODE_IPS {
        let client = EchoClient::new(&bed.client, at(ip, 5999));
        asks(&client, &text(4_000));
        let pings = ["-n", "-i", "0.2", "-W", "2", "-c", "3", "-s", "4000", ip];
        run(&bed.client, "ping", &pings, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    }
    let ledger = bed.ledger();
    assert!(ledger.passed >= 6 && ledger.forwarded == 0, "{ledger:?}");
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
}

/// They come by the interface that they arrived by, not by the device that Ringway gives them back by.
#[test]
fn rules_by_interface_see_the_nodes_own_fragments() {
    if !can_run("rules_by_interface_see_the_nodes_own_fragments", &["ip", "nginx", "nft"]) {
        return;
    }
    for xdp in ["native", "generic"] {
        let mut bed = Bed::prepare(Options { xdp, ..Options::default() });
        bed.serve();
        bed.start_ringway();
        let _server = EchoServer::start(&bed.gateway, "gateway", 5999);
        let nft = |rule: &str| {
            run(&bed.gateway, "nft", &[rule], PATIENCE).unwrap_or_else(|error| panic!("nft {rule}: {error}"))
        };
        nft("add table inet rules");
        nft("add chain inet rules input { type filter hook input priority 0 ; }");
        nft("add rule inet rules input iifname != { lo, front, back } drop");
        for ip in NODE_IPS {
            asks(&EchoClient::new(&bed.client, at(ip, 5999)), &text(4_000));
        }
        nft("add rule inet rules input iifname front udp dport 5999 counter drop");
        let server = at(NODE_IPS[0], 5999);
        let (raw, from) = (Raw::new(&bed.client), SocketAddr::new("192.168.0.1".parse().unwrap(), 4444));
        let mut id = 0x2000;
        eventually(PATIENCE, "a datagram in fragments is dropped by a rule", || {
            id += 1;
            fragments(from, server, &[7; 3_000], 1_400, id).iter().for_each(|piece| raw.send(piece, server.ip()));
            let rules = nft("list chain inet rules input");
            if rules.contains("counter packets 0 ") { Err(rules) } else { Ok(()) }
        });
        assert!(bed.ledger().passed >= 6, "{xdp}: they went by a worker");
    }
}

/// Sends IP packets that are whole already.
struct Raw(OwnedFd, OwnedFd);

impl Raw {
    fn new(namespace: &Namespace) -> Raw {
        let open = |family| socket(family, SocketType::RAW, Some(ipproto::RAW));
        let both = namespace.enter(|| (open(AddressFamily::INET), open(AddressFamily::INET6))).expect("the namespace");
        Raw(both.0.expect("a raw socket"), both.1.expect("a raw socket"))
    }

    fn send(&self, packet: &[u8], to: IpAddr) {
        let sent = match to {
            IpAddr::V4(to) => sendto(&self.0, packet, SendFlags::empty(), &SocketAddrV4::new(to, 0)),
            IpAddr::V6(to) => sendto(&self.1, packet, SendFlags::empty(), &SocketAddrV6::new(to, 0, 0, 0)),
        };
        sent.unwrap_or_else(|error| panic!("a raw packet to {to}: {error}"));
    }
}

/// The fragments of a datagram, each with so many bytes.
fn fragments(from: SocketAddr, to: SocketAddr, payload: &[u8], each: usize, id: u32) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let header = match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let udp = PacketBuilder::ipv4(source.octets(), destination.octets(), 64).udp(from.port(), to.port());
            udp.write(&mut whole, payload).expect("a packet");
            20
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let udp = PacketBuilder::ipv6(source.octets(), destination.octets(), 64).udp(from.port(), to.port());
            udp.write(&mut whole, payload).expect("a packet");
            40
        }
        _ => panic!("{from} and {to} are of two families"),
    };
    let (header, data) = whole.split_at(header);
    let last = data.len().div_ceil(each) - 1;
    let fragment = |(number, data): (usize, &[u8])| {
        let (place, more) = ((number * each) as u16, number < last);
        let mut header = header.to_vec();
        if header.len() == 20 {
            header[2..4].copy_from_slice(&(data.len() as u16 + 20).to_be_bytes());
            header[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            header[6..8].copy_from_slice(&(place / 8 + (u16::from(more) << 13)).to_be_bytes());
        } else {
            header[4..6].copy_from_slice(&(data.len() as u16 + 8).to_be_bytes());
            header[6] = 44;
            header.extend([17, 0]);
            header.extend((place | u16::from(more)).to_be_bytes());
            header.extend(id.to_be_bytes());
        }
        header.extend(data);
        header
    };
    data.chunks(each).enumerate().map(fragment).collect()
}

/// A connected socket, and where its packets come from.
fn connected(namespace: &Namespace, server: SocketAddr) -> (UdpSocket, SocketAddr) {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = namespace
        .enter(|| UdpSocket::bind(any).and_then(|socket| socket.connect(server).map(|()| socket)))
        .and_then(|socket| socket)
        .unwrap_or_else(|error| panic!("a UDP socket towards {server}: {error}"));
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a read timeout");
    let own = socket.local_addr().expect("an address");
    (socket, own)
}

fn received(socket: &UdpSocket) -> Result<Vec<u8>, String> {
    let mut buffer = [0; 65_536];
    let length = socket.recv(&mut buffer).map_err(|error| format!("no answer: {error}"))?;
    Ok(buffer[..length].to_vec())
}

/// Two clients' datagrams, each with its last fragment first, interleaved.
#[test]
fn reversed_and_interleaved_fragments_arrive() {
    if !can_run("reversed_and_interleaved_fragments_arrive", &["ip", "nginx"]) {
        return;
    }
    let mut bed = Bed::start(Options { queues: 2, ..Options::default() });
    let raw = Raw::new(&bed.client);
    let mut id = 0x1000;
    for ip in [CLUSTER_IPS, LOAD_BALANCER_IPS].into_iter().flatten() {
        let server = at(ip, ECHO.port);
        let clients = [connected(&bed.client, server), connected(&bed.client, server)];
        eventually(PATIENCE, "both datagrams are answered", || {
            id += 2;
            let payloads = [text(4_001), text(5_003)];
            let [one, other] = [0, 1].map(|which| {
                let payload = payloads[which].as_bytes();
                fragments(clients[which].1, server, payload, 1_400, id + which as u32)
            });
            let places = one.len().max(other.len());
            for place in (0..places).rev() {
                for fragments in [&one, &other] {
                    if let Some(fragment) = fragments.get(place) {
                        raw.send(fragment, server.ip());
                    }
                }
            }
            for ((socket, _), payload) in clients.iter().zip(&payloads) {
                let answer = received(socket)?;
                if !answer.ends_with(payload.as_bytes()) {
                    return Err(format!("{} other bytes", answer.len()));
                }
            }
            Ok(())
        });
    }
    let ledger = bed.ledger();
    assert_eq!(ledger.drops("fragment_overlap") + ledger.drops("tiny_fragment"), 0, "{ledger:?}");
}

/// Later fragments without a first, of forged sources: what is in order needs no room of theirs.
#[test]
fn a_flood_of_later_fragments_costs_others_nothing() {
    if !can_run("a_flood_of_later_fragments_costs_others_nothing", &["ip", "nginx"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let server = at(LOAD_BALANCER_IPS[0], ECHO.port);
    bed.gateway.route("100.64.0.0/10", "192.168.0.1").expect("a route to the sources");
    let (raw, client) = (Raw::new(&bed.client), EchoClient::new(&bed.client, server));
    asks(&client, &text(4_000));
    let mut forged = 0;
    for _ in 0..50 {
        for _ in 0..40 {
            forged += 1;
            let source = SocketAddr::new([100, 64, (forged >> 8) as u8, forged as u8].into(), 5);
            let pieces = fragments(source, server, &[7; 3_000], 1_400, forged);
            raw.send(&pieces[1], server.ip());
        }
        asks(&client, &text(4_000));
    }
    let ledger = eventually(PATIENCE, "all forged fragments are dropped", || {
        let ledger = bed.ledger();
        // A busy queue may lose some of them.
        if ledger.drops("fragment_without_first") > 1_000 && ledger.held == 0 {
            Ok(ledger)
        } else {
            Err(format!("{ledger:?}"))
        }
    });
    // Each time it was answered at once, or nearly so: 3 fragments there and 3 back.
    assert!(ledger.forwarded >= 51 * 6, "{ledger:?}");
}
