//! What holds for any packets: a rewrite and its inverse give the original back, no two live flows share a tuple, frames
//! are conserved, and an explanation is what happens.

mod bed;

use std::collections::HashSet;
use std::net::SocketAddr;

use bed::*;
use proptest::prelude::*;
use ringway_dataplane::clock::Time;
use ringway_dataplane::flow::{Direction, Flow, State};
use ringway_dataplane::io::memory::MemoryWorker;
use ringway_dataplane::trace::{Question, TraceVerdict, View, explain};
use ringway_dataplane::verdict::Verdict;
use ringway_shared::{DropReason, Family, InterfaceId, Snapshot};

use bed::text::Names;
use bed::wire::{Sum, Wire};

const SERVICES: &[&str] = &[
    "web tcp 172.30.0.41:80 node=30080 -> 10.0.1.1:8080 10.0.1.2:80",
    "web tcp [fd00:172:30::41]:80 node=30080 -> [fd00:10::1]:8080 [fd00:10::2]:80",
    "dns udp 172.30.0.41:80 node=30080 -> 10.0.1.3:5353 10.0.1.4:80",
    "dns udp [fd00:172:30::41]:80 node=30080 -> [fd00:10::3]:5353 [fd00:10::4]:80",
    "sig sctp 172.30.0.41:80 node=30080 -> 10.0.1.5:1 10.0.1.6:65535",
    "sig sctp [fd00:172:30::41]:80 node=30080 -> [fd00:10::5]:1 [fd00:10::6]:65535",
];

fn settings(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A packet's fate, after held ones had their second.
fn run(worker: &mut MemoryWorker, snapshot: &Snapshot, arrives: InterfaceId, bytes: &[u8], now: Time) -> Verdict {
    assert!(worker.run(bytes, arrives, 0, snapshot, now));
    if worker.collector.fates.is_empty() {
        worker.tick(snapshot, Time(now.0 + 1_000_000_000));
    }
    assert_eq!(worker.umem.free_frames(), worker.umem.total(), "a frame is missing");
    worker.collector.fates.pop().expect("a fate").verdict
}

/// The one flow that there is.
fn only_flow(worker: &MemoryWorker) -> Flow {
    let mut flow = None;
    worker.pipeline.flows().scan(0, u32::MAX, |_, record| flow = Some(*record));
    flow.expect("a flow")
}

/// Client, whether it is a pod, and where its packets arrive.
fn client(family: Family, pod: bool, last: u8, port: u16) -> (InterfaceId, String) {
    match (family, pod) {
        (Family::V4, true) => (INSIDE, format!("10.0.1.{}:{port}", 1 + last % 9)),
        (Family::V4, false) => (OUTSIDE, format!("203.0.113.{last}:{port}")),
        (Family::V6, true) => (INSIDE, format!("[fd00:10::{}]:{port}", 1 + last % 9)),
        (Family::V6, false) => (OUTSIDE, format!("[2001:db8:c::{last:x}]:{port}")),
    }
}

proptest! {
    #![proptest_config(settings(2_000))]

    #[test]
    fn a_rewrite_and_its_inverse_give_the_original_back(
        v6: bool, protocol in 0..3usize, pod: bool, last: u8, port in 1..=u16::MAX, node_port: bool,
        there in proptest::collection::vec(any::<u8>(), 0..1400),
        back in proptest::collection::vec(any::<u8>(), 0..1400),
        sums: (u8, u8), tos: u8, id: u16, ttl in 2..=255u8, options: bool,
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let (arrives, client) = client(family, pod, last, port);
        let target = match (family, node_port) {
            (Family::V4, true) => "192.168.0.2:30080",
            (Family::V4, false) => "172.30.0.41:80",
            (Family::V6, true) => "[2001:db8::2]:30080",
            (Family::V6, false) => "[fd00:172:30::41]:80",
        };
        let protocol = ["tcp A", "udp", "sctp"][protocol];
        let sum = |choice: u8| match choice % 3 {
            0 => Sum::Partial,
            1 if protocol == "udp" && family == Family::V4 => Sum::Absent,
            _ => Sum::Right,
        };
        let snapshot = snapshot(SERVICES);
        let mut worker = worker(&Settings::default());
        let mut packet = text::packet(arrives, &format!("{protocol} {client} > {target}"), &Names::new());
        (packet.payload, packet.sum, packet.tos, packet.id, packet.ttl) = (there, sum(sums.0), tos, u32::from(id), ttl);
        // A heartbeat opens no flow.
        if protocol == "sctp" && packet.payload.first() == Some(&4) {
            packet.payload[0] = 0;
        }
        match family {
            Family::V4 if options => packet.options = vec![7, 7, 4, 10, 0, 1, 1, 0],
            Family::V6 if options => packet.extensions = vec![(0, vec![0, 1, 4, 0, 0, 0, 0])],
            _ => {}
        }
        if packet.family() == Family::V6 {
            (packet.flow_label, packet.id) = (u32::from(id), 0);
        }
        let verdict = run(&mut worker, &snapshot, arrives, &packet.build(), ms(1));
        let Verdict::Forward { out } = verdict else { panic!("{verdict:?}") };
        let sent = worker.collector.sent.pop().unwrap().bytes;
        let flow = only_flow(&worker);
        // The endpoint's view, rebuilt from the flow, is what left.
        let tuple = flow.reply().reversed();
        let at_endpoint = Wire {
            source: SocketAddr::new(tuple.source_address(), tuple.source_port()),
            destination: SocketAddr::new(tuple.destination_address(), tuple.destination_port()),
            source_mac: own_mac(out),
            destination_mac: neighbor_mac(out, tuple.destination_address()),
            ttl: packet.ttl - 1,
            sum: if packet.sum == Sum::Partial { Sum::Right } else { packet.sum },
            ..packet.clone()
        };
        prop_assert_eq!(&sent, &at_endpoint.build());
        // Its answer comes back as the VIP's, and nothing else changed.
        let answer = Wire {
            source: at_endpoint.destination,
            destination: at_endpoint.source,
            source_mac: neighbor_mac(out, tuple.destination_address()),
            destination_mac: own_mac(out),
            payload: back,
            sum: sum(sums.1),
            ..packet.clone()
        };
        let verdict = run(&mut worker, &snapshot, out, &answer.build(), ms(2));
        prop_assert_eq!(verdict, Verdict::Forward { out: arrives });
        let at_client = Wire {
            source: packet.destination,
            destination: packet.source,
            source_mac: own_mac(arrives),
            destination_mac: neighbor_mac(arrives, packet.source.ip()),
            ttl: answer.ttl - 1,
            sum: if answer.sum == Sum::Partial { Sum::Right } else { answer.sum },
            ..answer.clone()
        };
        prop_assert_eq!(worker.collector.sent.pop().unwrap().bytes, at_client.build());
    }
}

/// What a client or an endpoint does.
#[derive(Clone, Debug)]
struct Deed {
    client: usize,
    target: usize,
    flags: usize,
    wait: u64,
    answers: bool,
}

fn deed() -> impl Strategy<Value = Deed> {
    let wait = prop_oneof![4 => 0..100u64, 1 => 1_000..12_000u64, 1 => 30_000..70_000u64];
    (0..8usize, 0..4usize, 0..5usize, wait, any::<bool>()).prop_map(|(client, target, flags, wait, answers)| Deed {
        client,
        target,
        flags,
        wait,
        answers,
    })
}

proptest! {
    #![proptest_config(settings(300))]

    #[test]
    fn no_two_live_flows_share_a_tuple(deeds in proptest::collection::vec(deed(), 1..80), kept: bool) {
        let mut bed = Bed::of(&[
            "a tcp 172.30.0.41:80 -> 10.0.1.1:8080",
            "b tcp 172.30.0.42:80 -> 10.0.1.1:8080",
            "c tcp 172.30.0.43:80 -> 10.0.1.1:8080 10.0.1.2:8080",
            "d tcp 172.30.0.44:80 -> 10.0.1.2:8080",
        ])
        .flows(12)
        .ports(5);
        if kept {
            bed = bed.with(|services| services.node.pod_cidrs.clear());
        }
        let snapshot = bed.first().clone();
        let mut worker = worker(&bed.settings);
        let mut now = 1;
        for deed in deeds {
            now += deed.wait;
            worker.tick(&snapshot, ms(now));
            let (arrives, client) = client(Family::V4, deed.client % 2 == 0, deed.client as u8 % 3, 40_000);
            let flags = ["S", "A", "FA", "R", "S"][deed.flags];
            let frame = text::frame(arrives, &format!("tcp {flags} {client} > 172.30.0.{}:80", 41 + deed.target));
            let verdict = run(&mut worker, &snapshot, arrives, &frame, ms(now));
            if let (Verdict::Forward { .. }, true) = (verdict, deed.answers) {
                let sent = worker.collector.sent.pop().unwrap().bytes;
                let at = |range: std::ops::Range<usize>| <[u8; 4]>::try_from(&sent[range]).unwrap();
                let (source, destination) = (std::net::Ipv4Addr::from(at(26..30)), std::net::Ipv4Addr::from(at(30..34)));
                let ports = at(34..38);
                let (from, to) = (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]));
                let flags = ["SA", "A", "FA", "A", "RA"][deed.flags];
                let answer = format!("tcp {flags} {destination}:{to} > {source}:{from} seq=5000 ack=1001");
                let verdict = run(&mut worker, &snapshot, INSIDE, &text::frame(INSIDE, &answer), ms(now));
                if worker.pipeline.flows().len() < 12 {
                    prop_assert_eq!(verdict, Verdict::Forward { out: arrives });
                    let sent = worker.collector.sent.pop().unwrap().bytes;
                    prop_assert_eq!(&sent[26..30], &frame[30..34], "the answer comes from the VIP asked for");
                    prop_assert_eq!(&sent[30..34], &frame[26..30], "and goes to who asked");
                }
            }
            let mut tuples = HashSet::new();
            let mut count = 0;
            let mut shared = Vec::new();
            worker.pipeline.flows().scan(0, u32::MAX, |_, flow| {
                assert_ne!(flow.state(), State::Free);
                count += 1;
                for direction in [Direction::Original, Direction::Reply] {
                    if !tuples.insert(flow.tuple(direction)) {
                        shared.push(flow.tuple(direction));
                    }
                }
            });
            prop_assert!(shared.is_empty(), "shared: {:?}", shared);
            prop_assert_eq!(worker.pipeline.flows().len(), count);
            prop_assert!(worker.tally().closes());
        }
    }
}

const VIPS: [[&str; 4]; 2] = [
    ["172.30.0.1", "172.30.0.2", "198.51.100.1", "192.168.0.2"],
    ["fd00:172:30::1", "fd00:172:30::2", "2001:db8:f::1", "2001:db8::2"],
];
const ENDPOINTS: [[&str; 7]; 2] = [
    ["10.0.1.1:80", "10.0.1.2:8080", "10.0.1.9:80", "10.98.0.1:80", "10.99.0.1:80", "10.4.0.1:80", "10.0.1.77:80"],
    [
        "[fd00:10::1]:80",
        "[fd00:10::2]:8080",
        "[fd00:10::9]:80",
        "[fd00:99::1]:80",
        "[fd00:20::1]:80",
        "[fd00:5::1]:80",
        "[fd00:10::77]:80",
    ],
];
const SOURCES: [[&str; 8]; 2] = [
    ["10.0.1.1", "10.0.1.9", "203.0.113.9", "192.168.0.77", "192.168.0.2", "192.168.0.255", "0.0.0.0", "172.30.0.1"],
    ["fd00:10::1", "fd00:10::9", "2001:db8:c::9", "2001:db8:c::1", "2001:db8::2", "ff02::1", "::", "fd00:172:30::1"],
];

/// A Service of one line, for one family.
fn spec() -> impl Strategy<Value = (usize, String)> {
    let choices =
        (0..2usize, 0..3usize, 0..2usize, any::<[bool; 6]>(), proptest::collection::vec((0..7usize, 0..8u8), 0..4));
    choices.prop_map(|(family, vip, port, [node, external, balanced, ranges, local, internal], endpoints)| {
        let vip = VIPS[family][vip % 2];
        let frontend = if family == 0 { format!("{vip}:{}", 80 + port) } else { format!("[{vip}]:{}", 80 + port) };
        let mut line = format!("s{family} {} {frontend}", ["tcp", "udp"][port]);
        if node {
            line += " node=30080";
        }
        if external {
            line += &format!(" external={}", VIPS[family][2 + port]);
        }
        if balanced {
            line += &format!(" lb={}", VIPS[family][2]);
        }
        if ranges {
            line += if family == 0 { " ranges=203.0.113.0/24" } else { " ranges=2001:db8:c::/64" };
        }
        if local {
            line += " etp=Local";
        }
        if internal {
            line += " itp=Local";
        }
        line += " ->";
        let mut seen = HashSet::new();
        for (at, mark) in endpoints.into_iter().filter(|(at, _)| seen.insert(*at)) {
            let mark = ["", "", "", "", "/local", "/local", "/unready", "/refused"][usize::from(mark)];
            line += &format!(" {}{mark}", ENDPOINTS[family][at]);
        }
        (family, line)
    })
}

proptest! {
    #![proptest_config(settings(400))]

    #[test]
    fn an_explanation_is_what_happens(
        specs in proptest::collection::vec(spec(), 1..6),
        packets in proptest::collection::vec((0..2usize, 0..2usize, 0..8usize, 0..4usize, 0..4usize), 12),
        masquerade_all: bool, detector: bool, known: bool,
    ) {
        let lines: Vec<&str> = specs.iter().map(|(_, line)| line.as_str()).collect();
        let mut bed = Bed::of(&lines).with(|services| services.masquerade_all = masquerade_all);
        if !detector {
            bed = bed.with(|services| services.node.pod_cidrs.clear());
        }
        if !known {
            bed = bed.neighbors(Neighbors::Outside);
        }
        let snapshot = bed.first();
        for (family, protocol, source, vip, port) in packets {
            let port = [80, 81, 30080, 22][port];
            let (source, vip) = (SOURCES[family][source], VIPS[family][vip]);
            let ends = |address: &str, port: u16| SocketAddr::new(address.parse().unwrap(), port).to_string();
            let (source, destination) = (ends(source, 40_000), ends(vip, port));
            let protocol = ["tcp", "udp"][protocol];
            let question: Question = format!("{protocol}:{source}->{destination}").parse().unwrap();
            let view = View {
                services: &snapshot.services,
                network: Some(&snapshot.network),
                snat_addresses: &[],
                affinities: None,
                rescue: true,
                suspects: None,
            };
            let trace = explain(&view, &question);
            let flags = if protocol == "tcp" { "S " } else { "" };
            let frame = text::frame(OUTSIDE, &format!("{protocol} {flags}{source} > {destination}"));
            let mut worker = worker(&bed.settings);
            let verdict = run(&mut worker, snapshot, OUTSIDE, &frame, ms(1));
            let told = format!("{trace}\n{verdict:?}\n{lines:#?}");
            match (trace.verdict, verdict) {
                (TraceVerdict::Pass, Verdict::Pass { .. }) => {}
                // The explanation is about the node's own process; by a wire such a packet does not come.
                (_, Verdict::Drop(DropReason::ImpossibleSource))
                    if snapshot.network.is_local(question.tuple.source_address()) =>
                {
                    let said = |step: &String| step.contains("inside the node it is genuine");
                    prop_assert!(trace.steps.iter().any(said), "{}", told);
                }
                (TraceVerdict::Drop, Verdict::Drop(reason)) | (TraceVerdict::Reject, Verdict::Reply { reason, .. }) => {
                    prop_assert_eq!(trace.reason.as_deref(), Some(reason.label()), "{}", told);
                }
                // Nobody can be told: there is no way back, or its neighbour is silent.
                (TraceVerdict::Reject, Verdict::Drop(reason)) => {
                    let client = question.tuple.source_address();
                    prop_assert!(snapshot.network.resolve(client).is_err(), "{}", told);
                    let unsent = reason.label() == "neighbor_unresolved";
                    prop_assert!(unsent || trace.reason.as_deref() == Some(reason.label()), "{}", told);
                }
                (TraceVerdict::Forward, Verdict::Forward { .. }) => {
                    let flow = only_flow(&worker);
                    let reply = flow.reply();
                    let endpoint = SocketAddr::new(reply.source_address(), reply.source_port()).to_string();
                    prop_assert_eq!(&trace.chosen, &Some(endpoint), "{}", told);
                    prop_assert_eq!(trace.masquerade, flow.masquerade(), "{}", told);
                    let kept = reply.destination_address() == question.tuple.source_address();
                    prop_assert_eq!(trace.snat_address, (!kept).then(|| reply.destination_address()), "{}", told);
                }
                _ => prop_assert!(false, "{}", told),
            }
        }
    }
}

#[test]
fn every_value_of_a_udp_checksum_is_adjusted_right() {
    let snapshot = snapshot(SERVICES);
    let mut worker = worker(&Settings::default());
    let mut packet = text::packet(INSIDE, "udp 10.0.1.9:5000 > 172.30.0.41:80", &Names::new());
    let mut zeros = 0;
    for value in 0..=u16::MAX {
        packet.payload = value.to_be_bytes().to_vec();
        assert!(worker.run(&packet.build(), INSIDE, 0, &snapshot, ms(1)));
        let sent = worker.collector.sent.pop().unwrap().bytes;
        let expected = Wire {
            destination: format!("10.0.1.{}:{}", sent[33], u16::from_be_bytes([sent[36], sent[37]])).parse().unwrap(),
            ttl: 63,
            source_mac: own_mac(INSIDE),
            destination_mac: neighbor_mac(INSIDE, std::net::Ipv4Addr::new(10, 0, 1, sent[33]).into()),
            ..packet.clone()
        };
        assert_eq!(sent, expected.build(), "payload {value:04x}");
        assert_ne!(&sent[40..42], &[0, 0]);
        zeros += u32::from(sent[40..42] == [0xff, 0xff]);
    }
    assert_eq!(zeros, 1, "a computed 0 is written 0xffff");
}
