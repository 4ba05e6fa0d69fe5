//! Two workers: packets that the NIC gives to the wrong one reach the flow's owner, and the sum of the ledgers closes.

#[path = "handover/answers.rs"]
mod answers;
mod bed;
#[path = "handover/errors.rs"]
mod errors;
#[path = "handover/fragments.rs"]
mod fragments_by_queue;
#[path = "handover/loans.rs"]
mod loans;
#[path = "handover/sources.rs"]
mod sources;

use std::collections::HashMap;

use bed::random::Random;
use bed::*;
use ringway_dataplane::af_xdp::{Frame, Umem};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::batch::Batch;
use ringway_dataplane::clock::Time;
use ringway_dataplane::config::{PipelineConfig, port_share};
use ringway_dataplane::directory::FlowDirectory;
use ringway_dataplane::dispatch::{Transmit, dispatch};
use ringway_dataplane::io::memory::{MemoryWorker, Sent};
use ringway_dataplane::verdict::Verdict;
use ringway_shared::PortSet;
use ringway_shared::counters::{Counter, Tally};
use ringway_shared::{DropReason, InterfaceId, Snapshot};

const SERVICES: &[&str] = &[
    "web tcp 172.30.0.41:80 node=30080 -> 10.0.1.1:8080 10.0.1.2:8080",
    "dns udp 172.30.0.53:53 -> 10.0.1.3:5353",
    "web tcp [fd00:172:30::41]:80 -> [fd00:10::1]:8080",
    "dns udp [fd00:172:30::53]:53 -> [fd00:10::3]:5353",
    "sig sctp 172.30.0.42:2905 -> 10.0.1.4:2906",
    "sig sctp [fd00:172:30::42]:2905 -> [fd00:10::4]:2906",
    "local tcp 172.30.0.46:80 lb=198.51.100.7 etp=Local -> 10.0.1.5:80/local",
    "alias tcp 172.30.0.47:80 lb=198.51.100.8 etp=Local -> 10.0.1.5:80/local",
];

/// Workers with disjoint SNAT ports and one directory.
struct Team {
    workers: Vec<MemoryWorker>,
    snapshot: Snapshot,
}

impl Team {
    fn new(workers: u16) -> Self {
        Self::with(workers, &PipelineConfig::single())
    }

    /// One backend of a NodePort, few ports to it, and the same address for both.
    fn with_ports(ports: PortSet) -> Self {
        let snat_addresses = vec!["192.168.0.2".parse().unwrap()];
        let config = PipelineConfig { snat_ports: ports, snat_addresses, ..PipelineConfig::single() };
        let snapshot = snapshot(&["web tcp 172.30.0.41:80 node=30080 -> 10.0.1.1:8080"]);
        Team { snapshot, ..Self::with(2, &config) }
    }

    fn with(workers: u16, config: &PipelineConfig) -> Self {
        let directory = FlowDirectory::new(4096);
        let worker_of = |number| {
            let pipeline = PipelineConfig { worker: number, workers, ..config.clone() };
            worker(&Settings { pipeline, directory: Some(directory.clone()), flows: 4096, ..Settings::default() })
        };
        Team { workers: (0..workers).map(worker_of).collect(), snapshot: snapshot(SERVICES) }
    }

    /// Gives a packet to a worker, and what it hands over to the others. Where it was dealt with, and what left.
    fn receive(
        &mut self,
        worker: usize,
        arrives: InterfaceId,
        bytes: &[u8],
        now: Time,
    ) -> (usize, Verdict, Option<Sent>) {
        let snapshot = &self.snapshot;
        let first = &mut self.workers[worker];
        assert!(first.run(bytes, arrives, 1, snapshot, now));
        let (mut at, mut verdict) = (worker, first.collector.fates.pop().expect("not held").verdict);
        if let Verdict::HandOver { worker: owner, .. } = verdict {
            let handed = first.collector.handed.pop().expect("a packet is handed over");
            assert_eq!((handed.worker, handed.arrived, &*handed.bytes), (owner, arrives, bytes));
            assert_ne!(usize::from(owner), worker);
            at = usize::from(owner);
            let second = &mut self.workers[at];
            assert!(second.take_over(&handed, snapshot, now));
            verdict = second.collector.fates.pop().expect("not held").verdict;
            assert!(!matches!(verdict, Verdict::HandOver { .. }), "handed on");
        }
        (at, verdict, self.workers[at].collector.sent.pop())
    }

    fn line(&mut self, worker: usize, line: &str, now: Time) -> (usize, Verdict, Option<Sent>) {
        let (name, text) = line.split_once(' ').unwrap();
        let arrives = text::interface(name).unwrap();
        self.receive(worker, arrives, &text::frame(arrives, text), now)
    }

    /// The sum of the ledgers, each of which closes by itself.
    fn sum(&mut self) -> Tally {
        let mut sum = Tally::default();
        for worker in &mut self.workers {
            let tally = worker.tally();
            assert!(tally.closes(), "{tally:?}");
            sum.merge(&tally);
        }
        assert!(sum.closes());
        sum
    }
}

/// Source port of a packet that left.
fn source_port(sent: &Sent) -> u16 {
    let at = if sent.bytes[12] == 8 { 34 } else { 54 };
    u16::from_be_bytes([sent.bytes[at], sent.bytes[at + 1]])
}

/// A client's next connection comes in on another queue, after endpoints were added.
#[test]
fn session_affinity_holds_across_workers() {
    let affinities = Some(Affinities::new(512, 1));
    let mut workers = [0, 1].map(|number| {
        let pipeline = PipelineConfig { worker: number, workers: 2, ..PipelineConfig::single() };
        worker(&Settings { pipeline, affinities: affinities.clone(), ..Settings::default() })
    });
    let one = snapshot(&["web tcp 172.30.0.41:80 affinity=60 -> 10.0.1.1:8080"]);
    let three = snapshot(&["web tcp 172.30.0.41:80 affinity=60 -> 10.0.1.1:8080 10.0.1.2:8080 10.0.1.3:8080"]);
    for client in 1..=32 {
        for (worker, snapshot) in workers.iter_mut().zip([&one, &three]) {
            let port = 40_000 + worker.collector.sent.len();
            let syn = text::frame(INSIDE, &format!("tcp S 10.0.2.{client}:{port} > 172.30.0.41:80"));
            assert!(worker.run(&syn, INSIDE, 1, snapshot, ms(1)));
            let sent = worker.collector.sent.last().expect("a SYN is forwarded");
            assert_eq!(sent.bytes[30..34], [10, 0, 1, 1], "client {client}");
        }
    }
}

/// A direct connection under a flow's tuple arrives where the flow is not.
#[test]
fn a_direct_connection_beside_a_flow_of_another_worker_gets_another_port() {
    let mut team = Team::new(2);
    let (at, verdict, _) = team.line(0, "inside udp 10.0.1.9:5000 > 172.30.0.53:53", ms(1));
    assert_eq!((at, verdict), (0, Verdict::Forward { out: INSIDE }));
    for step in 0..2 {
        let (at, verdict, sent) = team.line(1, "inside udp 10.0.1.9:5000 > 10.0.1.3:5353", ms(2 + step));
        assert_eq!((at, verdict), (0, Verdict::Forward { out: INSIDE }));
        let port = source_port(&sent.unwrap());
        assert_ne!(port, 5000);
        for worker in 0..2 {
            let (at, verdict, sent) =
                team.line(worker, &format!("inside udp 10.0.1.3:5353 > 10.0.1.9:{port}"), ms(3 + step));
            assert_eq!((at, verdict), (0, Verdict::Forward { out: INSIDE }));
            assert_eq!(sent.unwrap().bytes[26..34], [10, 0, 1, 3, 10, 0, 1, 9], "from the endpoint itself");
        }
    }
    assert_eq!(team.sum().get(Counter::FlowsOpened), 2);
}

#[test]
fn a_masqueraded_reply_finds_its_owner_by_its_port() {
    let mut team = Team::new(3);
    for owner in 0..3 {
        let line = format!("outside tcp S 203.0.113.9:{} > 172.30.0.41:80", 40_000 + owner);
        let (at, verdict, sent) = team.line(owner, &line, ms(1));
        assert_eq!((at, verdict), (owner, Verdict::Forward { out: INSIDE }));
        let sent = sent.unwrap();
        let port = source_port(&sent);
        assert!(port_share(&PortSet::from(61_000..=65_535), owner as u16, 3).unwrap().contains(port));
        let endpoint = if sent.bytes[33] == 1 { "10.0.1.1" } else { "10.0.1.2" };
        for worker in 0..3 {
            let reply = format!("inside tcp SA {endpoint}:8080 > 10.0.255.254:{port} ack=1001");
            let (at, verdict, _) = team.line(worker, &reply, ms(2));
            assert_eq!((at, verdict), (owner, Verdict::Forward { out: OUTSIDE }));
        }
    }
    let sum = team.sum();
    let counts = [Counter::Rx, Counter::Forwarded, Counter::HandedOver, Counter::FlowsOpened];
    assert_eq!(counts.map(|counter| sum.get(counter)), [12, 12, 6, 3]);
}

#[test]
fn source_kept_replies_and_retransmissions_find_their_owner_by_the_directory() {
    let mut team = Team::new(2);
    let syn = "outside tcp S 203.0.113.9:40000 > 198.51.100.7:80";
    assert_eq!(team.line(1, syn, ms(1)).0, 1);
    assert_eq!(team.line(0, syn, ms(2)).0, 1);
    let reply = "inside tcp SA 10.0.1.5:80 > 203.0.113.9:40000 ack=1001";
    for worker in [0, 1] {
        let (at, verdict, _) = team.line(worker, reply, ms(3));
        assert_eq!((at, verdict), (1, Verdict::Forward { out: OUTSIDE }));
    }
    let sum = team.sum();
    let counts = [Counter::Rx, Counter::Forwarded, Counter::HandedOver, Counter::FlowsOpened];
    assert_eq!(counts.map(|counter| sum.get(counter)), [4, 4, 2, 1]);
}

#[test]
fn what_belongs_to_nobody_is_dealt_with_by_its_owner_once() {
    let mut team = Team::new(2);
    // A port of the other worker's share without a flow.
    let (at, verdict, _) = team.line(0, "inside tcp SA 10.0.1.1:8080 > 10.0.255.254:65000", ms(1));
    assert_eq!((at, verdict), (1, Verdict::Pass { arrived: INSIDE }));
    // A flow that is over belongs to nobody.
    let udp = "outside udp 203.0.113.9:5000 > 172.30.0.53:53";
    assert_eq!(team.line(1, udp, ms(1)).0, 1);
    for worker in &mut team.workers {
        worker.tick(&team.snapshot, ms(100_000));
    }
    assert_eq!(team.line(0, udp, ms(100_000)).0, 0);
    // Broken packets and pings are dealt with where they arrive.
    let ping = team.line(0, "outside echo 203.0.113.9 > 172.30.0.41", ms(100_000));
    assert_eq!((ping.0, ping.1), (0, Verdict::Reply { out: OUTSIDE, reason: DropReason::EchoRequest }));
    let sum = team.sum();
    let counts = [Counter::Rx, Counter::Passed, Counter::HandedOver, Counter::FlowsOpened, Counter::FlowsClosed];
    assert_eq!(counts.map(|counter| sum.get(counter)), [4, 1, 1, 2, 1]);
}

#[test]
fn what_was_handed_over_is_not_handed_on() {
    let mut team = Team::new(2);
    let udp = "udp 203.0.113.9:5000 > 172.30.0.53:53";
    let line = format!("outside {udp}");
    assert_eq!(team.line(1, &line, ms(1)).0, 1);
    let first = &mut team.workers[0];
    assert!(first.run(&text::frame(OUTSIDE, udp), OUTSIDE, 1, &team.snapshot, ms(2)));
    let handed = first.collector.handed.pop().expect("a packet is handed over");
    first.collector.fates.clear();
    // Before the other one gets it, its flow is over, and this worker has the next one.
    for worker in &mut team.workers {
        worker.tick(&team.snapshot, ms(100_000));
    }
    assert_eq!(team.line(0, &line, ms(100_000)).0, 0);
    let second = &mut team.workers[1];
    assert!(second.take_over(&handed, &team.snapshot, ms(100_001)));
    let fate = second.collector.fates.pop().expect("not held");
    assert_eq!(fate.verdict, Verdict::Forward { out: INSIDE });
    team.sum();
}

#[test]
fn one_client_port_to_two_vips_with_one_backend_at_two_workers_gets_two_source_ports() {
    let mut team = Team::new(2);
    let first = team.line(0, "outside tcp S 203.0.113.9:40000 > 198.51.100.7:80", ms(1));
    let second = team.line(1, "outside tcp S 203.0.113.9:40000 > 198.51.100.8:80", ms(1));
    let ports = [first, second].map(|(_, _, sent)| source_port(&sent.unwrap()));
    assert_eq!(ports[0], 40_000);
    assert_ne!(ports[1], 40_000);
    for (vip, port) in [(7, ports[0]), (8, ports[1])] {
        for worker in [0, 1] {
            let reply = format!("inside tcp SA 10.0.1.5:80 > 203.0.113.9:{port} ack=1001");
            let (at, verdict, sent) = team.line(worker, &reply, ms(2));
            assert_eq!((at, verdict), (vip - 7, Verdict::Forward { out: OUTSIDE }));
            let sent = sent.unwrap().bytes;
            assert_eq!((sent[29], &sent[36..38]), (vip as u8, &40_000u16.to_be_bytes()[..]));
        }
    }
}

/// A worker whose surroundings take nothing.
struct Alone;

impl Transmit for Alone {
    fn send(&mut self, _: &mut Umem, _: InterfaceId, frame: Frame, _: u64) -> Result<(), (Frame, DropReason)> {
        Err((frame, DropReason::TxRingFull))
    }

    fn pass(&mut self, _: &[u8], _: InterfaceId) -> bool {
        false
    }

    fn hand_over(&mut self, _: u16, _: &[u8], _: InterfaceId, _: u64, _: bool) -> bool {
        false
    }
}

#[test]
fn a_packet_that_cannot_be_sent_handed_over_or_passed_is_a_counted_drop() {
    let mut team = Team::new(2);
    let MemoryWorker { umem, pipeline, .. } = &mut team.workers[0];
    let mut batch = Batch::new();
    let lines = [
        "tcp SA 10.0.1.1:8080 > 10.0.255.254:65000",
        "tcp S 10.0.1.1:8080 > 10.0.255.254:22",
        "tcp S 10.0.1.9:40000 > 172.30.0.41:80",
        "tcp S 10.0.1.9:40000 > 172.30.0.41:81",
    ];
    for line in lines {
        assert!(batch.push(umem, &text::frame(INSIDE, line), INSIDE, 0));
    }
    pipeline.process(umem, &mut batch, &team.snapshot, ms(1));
    dispatch(&mut batch, umem, pipeline.tally(), &mut Alone);
    assert_eq!(umem.free_frames(), umem.total());
    pipeline.publish();
    let expected = [
        ("drop:handover_queue_full", 1),
        ("drop:kernel_unreachable", 1),
        ("drop:tx_ring_full", 2),
        ("flowsOpened", 1),
        ("rx", 4),
    ];
    assert_eq!(ledger(pipeline.tally()), expected.map(|(name, count)| (name.to_owned(), count)).into());
}

/// Exchanges both ends: what the endpoint answers.
fn answer(sent: &Sent) -> Vec<u8> {
    let mut bytes = sent.bytes.clone();
    let mut swap = |at: usize, length: usize| {
        let (first, second) = bytes[at..at + 2 * length].split_at_mut(length);
        first.swap_with_slice(second);
    };
    swap(0, 6);
    if sent.bytes[12] == 8 {
        swap(26, 4);
        swap(34, 2);
    } else {
        swap(22, 16);
        swap(54, 2);
    }
    bytes
}

#[test]
fn random_packets_at_random_workers_all_come_back_to_their_clients() {
    let mut random = Random::new(7);
    let mut team = Team::new(4);
    let mut owners: HashMap<String, usize> = HashMap::new();
    let (mut time, mut handed) = (1, 0);
    for _ in 0..20_000 {
        time += random.below(2) as u64;
        let client = random.below(400);
        let line = match random.below(5) {
            0 => format!("outside tcp A 203.0.113.{}:{} > 172.30.0.41:80", client % 200, 1000 + client),
            1 => format!("inside tcp A 10.0.1.{}:{} > 172.30.0.41:80", 1 + client % 9, 1000 + client),
            2 => format!("outside udp 203.0.113.{}:{} > 172.30.0.53:53", client % 200, 1000 + client),
            3 => format!("outside tcp A [2001:db8:c::{client}]:{} > [fd00:172:30::41]:80", 1000 + client),
            _ => format!("outside tcp A 203.0.113.{}:{} > 198.51.100.7:80", client % 200, 1000 + client),
        };
        let (name, text) = line.split_once(' ').unwrap();
        let arrives = text::interface(name).unwrap();
        let bytes = text::frame(arrives, text);
        let arrival = random.below(4);
        let (at, verdict, sent) = team.receive(arrival, arrives, &bytes, ms(time));
        handed += u64::from(at != arrival);
        let Verdict::Forward { out } = verdict else { panic!("{verdict:?}: {line}") };
        assert_eq!(*owners.entry(line.clone()).or_insert(at), at, "{line} has two flows");
        let arrival = random.below(4);
        let (back_at, verdict, back) = team.receive(arrival, out, &answer(&sent.unwrap()), ms(time));
        handed += u64::from(back_at != arrival);
        assert_eq!((back_at, verdict), (at, Verdict::Forward { out: arrives }), "the answer to {line}");
        // Addresses and ports are the client's packet's, exchanged.
        let (l3, end) = if bytes[12] == 8 { (26, 38) } else { (22, 58) };
        let exchanged = answer(&Sent { out, tag: 0, bytes });
        assert_eq!(back.unwrap().bytes[l3..end], exchanged[l3..end], "the answer to {line}");
    }
    let sum = team.sum();
    let counts = [Counter::Rx, Counter::Forwarded, Counter::HandedOver];
    assert_eq!(counts.map(|counter| sum.get(counter)), [40_000, 40_000, handed]);
    assert!(handed > 20_000, "only {handed} were handed over");
}
