//! Forged errors beside a connection.

use etherparse::PacketBuilder;
use ringway_tests::can_run;
use ringway_tests::journey::{FAR, Journey, POD, addresses, known_mtu};
use ringway_tests::netns::Namespace;
use ringway_tests::topology::{BULK_TCP, CLUSTER_IPS};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Somebody who sends the same few packets over and over from a namespace, as fast as the other side of a queue lets him.
struct Forger {
    sent: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forger {
    fn start(namespace: &Namespace, packets: Vec<(Ipv4Addr, Vec<u8>)>) -> Forger {
        let raw = || socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW));
        let socket = namespace.enter(raw).expect("the namespace").expect("a raw socket");
        let (sent, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end) = (sent.clone(), ends.clone());
        let thread = std::thread::spawn(move || {
            for round in 0u32.. {
                for (to, packet) in &packets {
                    if end.load(Ordering::Relaxed) {
                        return;
                    }
                    // A full queue loses some: it is a flood.
                    if sendto(&socket, packet, SendFlags::empty(), &SocketAddrV4::new(*to, 0)).is_ok() {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if round % 4 == 0 {
                    std::thread::sleep(Duration::from_millis(4));
                }
            }
        });
        Forger { sent, ends, thread: Some(thread) }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// "Fragmentation needed, 600 bytes" from `from`, about a TCP segment with this sequence number.
fn forged(from: Ipv4Addr, died: [SocketAddrV4; 2], sequence: u32) -> (Ipv4Addr, Vec<u8>) {
    let [source, destination] = died;
    let mut quoted = Vec::new();
    let tcp = PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), 60);
    let tcp = tcp.tcp(source.port(), destination.port(), sequence, 64_000);
    tcp.write(&mut quoted, &[7; 64]).expect("a packet");
    let mut packet = Vec::new();
    let error = PacketBuilder::ipv4(from.octets(), source.ip().octets(), 60).icmpv4_raw(3, 4, [0, 0, 2, 88]);
    error.write(&mut packet, &quoted).expect("a packet");
    (*source.ip(), packet)
}

/// Errors that a forger sends from both sides, about a connection that he knows all of but its numbers, and about others: the
/// connection never hears of one, and all of them are counted by name.
#[test]
fn a_flood_of_forged_errors_does_not_touch_a_connection() {
    let programs = ["ip", "nginx", "iperf3"];
    if !can_run("a_flood_of_forged_errors_does_not_touch_a_connection", &programs) {
        return;
    }
    let mut journey = Journey::start(1500, 1500);
    let (vip, client_port) = (CLUSTER_IPS[0], 50_123);
    let end = |ip: &str, port| SocketAddrV4::new(ip.parse().expect("an address"), port);
    let [client, front] = [end(&addresses(FAR, 2)[0], client_port), end(vip, BULK_TCP.port)];
    let pod = end(&addresses(POD, 2)[0], BULK_TCP.target);
    let numbers = || (0..8u32).map(|part| part << 29);
    let [outside, inside] = ["192.168.51.2", "192.168.61.2"].map(|ip| ip.parse().expect("an address"));
    let about_replies = numbers().map(|number| forged(outside, [front, client], number));
    let about_nothing = (0..8).map(|port| forged(outside, [front, end("203.0.113.77", 2000 + port)], 1));
    let about_questions = numbers().map(|number| forged(inside, [client, pod], number));
    let before = journey.bed.ledger();
    let forgers = [
        Forger::start(&journey.bed.client, about_replies.chain(about_nothing).collect()),
        Forger::start(&journey.bed.backends[0], about_questions.collect()),
    ];
    let (port, from) = (BULK_TCP.port.to_string(), client_port.to_string());
    let more = ["--cport", &from, "--bytes", "30M", "--json", "--connect-timeout", "5000"];
    let report = journey.run("iperf3", &[&["--client", vip, "--port", &port][..], &more].concat());
    let sent: Vec<u64> = forgers.iter().map(Forger::sent).collect();
    drop(forgers);
    let report: Value = serde_json::from_str(&report[report.find('{').expect("a report")..]).expect("a report");
    assert!(report["end"]["sum_sent"]["bytes"].as_u64() >= Some(30_000_000), "{report:#}");
    let since = journey.bed.ledger().since(&before);
    let [doubted, nobodys] = ["icmp_outside_window", "icmp_without_flow"].map(|reason| since.drops(reason));
    assert!(sent.iter().all(|sent| *sent > 1_000), "{sent:?} errors are no flood");
    assert!(doubted > 1_000 && nobodys > 1_000, "{since:?}");
    // The pod's own numbers hardly move, so a forger would have to guess one of four thousand million. (The client's pass by one
    // of his now and then; that his guess must be right at the right time is all that an end host relies on.)
    let route = known_mtu(&journey.pod, &addresses(FAR, 2)[0]);
    assert!(!route.contains("mtu"), "the pod believed a forger: {route}");
}
