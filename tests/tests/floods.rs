//! Floods with forged sources: who really wants to connect still can.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use etherparse::PacketBuilder;
use ringway_tests::echo::EchoClient;
use ringway_tests::netns::Namespace;
use ringway_tests::process::try_ask;
use ringway_tests::topology::{Bed, ECHO, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

/// Packets sent at once, and the pause after them.
const BURST: u32 = 32;
const PAUSE: Duration = Duration::from_millis(8);

/// Conversations are silent for so long: several times as long as all ports take to change hands.
const PAUSE_OF_CLIENT: Duration = Duration::from_secs(3);

/// Somebody who sends first packets of connections and never goes on, each from another address in 100.64.0.0/10.
struct Flood {
    sent: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(namespace: &Namespace, server: SocketAddr, udp: bool) -> Flood {
        let IpAddr::V4(address) = server.ip() else { panic!("{server} is no IPv4 address") };
        let raw = || socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW));
        let socket = namespace.enter(raw).expect("the namespace").expect("a raw socket");
        let (sent, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end) = (sent.clone(), ends.clone());
        let thread = std::thread::spawn(move || {
            for number in 0..u32::MAX {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let source = Ipv4Addr::from(0x6440_0000 | (number & 0x3f_ffff)).octets();
                let builder = PacketBuilder::ipv4(source, address.octets(), 64);
                let mut packet = Vec::new();
                let port = 1024 + (number % 60_000) as u16;
                let built = if udp {
                    builder.udp(port, server.port()).write(&mut packet, b"?")
                } else {
                    let sequence = number.wrapping_mul(0x9e37_79b9);
                    builder.tcp(port, server.port(), sequence, 64_000).syn().write(&mut packet, &[])
                };
                built.expect("a packet");
                // A full queue loses some: it is a flood.
                let to = SocketAddrV4::new(address, server.port());
                if sendto(&socket, &packet, SendFlags::empty(), &to).is_ok() {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                if number % BURST == 0 {
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Flood { sent, ends, thread: Some(thread) }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// A gateway with one backend and 4,096 ports towards it; the sources of floods are behind the client, who ignores answers.
fn bed() -> Bed {
    let mut bed = Bed::prepare(Options { backends: 1, ..Options::default() });
    bed.write_config("snat: {ports: 20000-24095}\n");
    bed.gateway.route("100.64.0.0/10", "192.168.0.1").expect("a route to the sources");
    bed.serve();
    bed.start_ringway();
    bed
}

fn status(bed: &mut Bed, pointer: &str) -> u64 {
    let status = bed.ringway().ask("/status");
    status.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {status:#}"))
}

/// The port that an endpoint sees this client at.
fn answered(client: &EchoClient) -> String {
    let answer = (0..5).find_map(|_| client.ask(b"?").ok());
    answer.expect("an answer to one of five datagrams").port
}

#[test]
fn forged_syns_and_datagrams_keep_nobody_out() {
    if !can_run("forged_syns_and_datagrams_keep_nobody_out", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = bed();
    let [web, echo] = [HTTP, ECHO].map(|port| at(LOAD_BALANCER_IPS[0], port.port));
    // They go on two seconds after their first answer.
    let clients: Vec<_> = (0..20).map(|_| EchoClient::new(&bed.client, echo)).collect();
    let first: Vec<_> = clients.iter().map(answered).collect();
    std::thread::sleep(Duration::from_millis(2_100));
    let conversations: Vec<_> = clients.into_iter().map(|client| (answered(&client), client)).collect();
    assert!(conversations.iter().zip(&first).all(|((port, _), first)| port == first));
    // More than there are ports, of both protocols, long before the first of them times out.
    let floods = [Flood::start(&bed.client, web, false), Flood::start(&bed.client, echo, true)];
    eventually(Duration::from_secs(60), "the flood to use up all ports", || {
        match status(&mut bed, "/snat/highWater") {
            4096 if floods.iter().all(|flood| flood.sent() > 5000) => Ok(()),
            ports => Err(format!("{ports} ports were used at most")),
        }
    });
    let failed: Vec<String> = (0..60).filter_map(|_| try_ask(&bed.client, web).err()).collect();
    assert!(failed.is_empty(), "{} of 60 connections failed: {failed:#?}", failed.len());
    // Who converses keeps the port, pauses or not, though all ports change hands each second; and who is new gets one. A
    // datagram may be lost in the crowd, so they ask again.
    for _ in 0..3 {
        std::thread::sleep(PAUSE_OF_CLIENT);
        for (port, client) in &conversations {
            assert_eq!(&answered(client), port, "a conversation has another port");
        }
    }
    for _ in 0..30 {
        answered(&EchoClient::new(&bed.client, echo));
    }
    drop(floods);
    assert!(status(&mut bed, "/snat/reclaimed") > 0);
}
