//! Masqueraded flows for which the worker that their first packet comes to has no port.

use ringway_dataplane::config::PipelineConfig;
use ringway_dataplane::verdict::Verdict;
use ringway_shared::counters::Counter;
use ringway_shared::{DropReason, PortSet};

use crate::bed::{INSIDE, OUTSIDE, ms, snapshot};
use crate::{Team, source_port};

/// The handshake of a masqueraded connection whose packets of the client come in at `worker`, and the endpoint's at another.
/// Which worker has the flow, and by which port; nothing when it is refused.
fn connect(team: &mut Team, worker: usize, client: u16, now: u64) -> Option<(usize, u16)> {
    let from = format!("203.0.113.9:{client} > 192.168.0.2:30080");
    let (at, verdict, sent) = team.line(worker, &format!("outside tcp S {from}"), ms(now));
    if verdict != (Verdict::Forward { out: INSIDE }) {
        assert_eq!(verdict, Verdict::Drop(DropReason::SnatPortsExhausted));
        return None;
    }
    let port = source_port(&sent.unwrap());
    let reply = format!("inside tcp SA 10.0.1.1:8080 > 192.168.0.2:{port} seq=5000 ack=1001");
    let workers = team.workers.len();
    assert_eq!(team.line((worker + 1) % workers, &reply, ms(now)).0, at);
    let (still, verdict, sent) = team.line(worker, &format!("outside tcp A {from} seq=1001 ack=5001"), ms(now));
    assert_eq!((still, verdict, source_port(&sent.unwrap())), (at, Verdict::Forward { out: INSIDE }, port));
    Some((at, port))
}

#[test]
fn a_worker_without_a_free_port_gives_the_flow_to_another() {
    let mut team = Team::with_ports(PortSet::of([2000..=2001, 61_000..=61_001]).unwrap());
    let mut ports = Vec::new();
    // All come in at worker 0. It has the first two ports.
    for (client, owner) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
        let (at, port) = connect(&mut team, 0, 40_000 + client, 1).unwrap();
        assert_eq!(at, owner, "client {client}");
        ports.push(port);
    }
    ports.sort_unstable();
    assert_eq!(ports, [2000, 2001, 61_000, 61_001]);
    // Nobody has one, wherever it comes in.
    assert_eq!(connect(&mut team, 0, 40_005, 2), None);
    assert_eq!(connect(&mut team, 1, 40_006, 2), None);
    let sum = team.sum();
    assert_eq!(sum.get(Counter::FlowsOpened), 4);
    assert_eq!(sum.get(Counter::FlowsEvicted), 0);
}

#[test]
fn a_flood_that_no_worker_has_ports_for_fills_no_queue() {
    let mut team = Team::with_ports(PortSet::from(61_000..=61_001));
    for worker in 0..2 {
        connect(&mut team, worker, 40_000 + worker as u16, 1).unwrap();
    }
    let handed_over = team.sum().get(Counter::HandedOver);
    for client in 0..10_000 {
        assert_eq!(connect(&mut team, 0, 41_000 + client, 2), None);
    }
    assert_eq!(team.sum().get(Counter::HandedOver) - handed_over, 4_000);
}

/// NodePorts may be configured to lie among the SNAT ports: a segment of TCP tells whether it begins something.
#[test]
fn a_reply_to_a_port_that_is_a_node_port_too_finds_its_owner() {
    let mut team = Team::with_ports(PortSet::from(30_080..=30_081));
    // The flow of worker 0 gets the NodePort's number; a new connection to the NodePort stays where it comes in.
    assert_eq!(connect(&mut team, 0, 40_000, 1), Some((0, 30_080)));
    assert_eq!(connect(&mut team, 1, 40_001, 1), Some((1, 30_081)));
}

/// A frontend whose address is the node's and whose port is among the SNAT ports: UDP never says that it begins.
#[test]
fn udp_to_a_frontend_among_the_snat_ports_is_for_its_service_whoever_sends_it() {
    let snat_addresses = vec!["192.168.0.2".parse().unwrap()];
    let ports = PortSet::from(30_052..=30_057);
    let config = PipelineConfig { snat_ports: ports, snat_addresses, ..PipelineConfig::single() };
    let mut team = Team::with(2, &config);
    team.snapshot = snapshot(&["dns udp 172.30.0.53:53 node=30053 -> 10.0.1.3:5353"]);
    let mut used = Vec::new();
    for (client, worker) in [(1, 0), (2, 1), (3, 0), (4, 1), (5, 1)] {
        let question = format!("outside udp 203.0.113.9:{} > 192.168.0.2:30053", 40_000 + client);
        let (at, verdict, sent) = team.line(worker, &question, ms(1));
        assert_eq!((at, verdict), (worker, Verdict::Forward { out: INSIDE }), "client {client}");
        used.push((source_port(&sent.unwrap()), worker));
    }
    used.sort_unstable();
    assert_eq!(used, [(30_052, 0), (30_054, 0), (30_055, 1), (30_056, 1), (30_057, 1)]);
    for (port, owner) in &used {
        for worker in 0..2 {
            let reply = format!("inside udp 10.0.1.3:5353 > 192.168.0.2:{port}");
            let (at, verdict, _) = team.line(worker, &reply, ms(2));
            assert_eq!((at, verdict), (*owner, Verdict::Forward { out: OUTSIDE }), "{port} at {worker}");
        }
    }
    // The endpoint itself as a client, from the very port that it answers from.
    let (_, verdict, _) = team.line(1, "inside udp 10.0.1.3:5353 > 192.168.0.2:30053", ms(400));
    assert_eq!(verdict, Verdict::Forward { out: INSIDE });
    assert_eq!(team.sum().get(Counter::FlowsOpened), 6);
}

/// Four hundred frontends of UDP, one beside the other, among the ports of a worker.
#[test]
fn a_run_of_frontends_among_the_snat_ports_hides_no_free_one() {
    let snat_addresses = vec!["192.168.0.2".parse().unwrap()];
    let snat_ports = PortSet::from(30_000..=30_599);
    let mut team = Team::with(1, &PipelineConfig { snat_ports, snat_addresses, ..PipelineConfig::single() });
    let spec = |port| format!("dns{port} udp 172.30.0.53:{port} node={port} -> 10.0.1.3:5353");
    let all = |ports: std::ops::Range<u16>| -> Vec<String> { ports.map(spec).collect() };
    let take = |team: &mut Team, services: &[String]| {
        team.snapshot = snapshot(&services.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let ask = |team: &mut Team, client: u16, now| {
        let question = format!("outside udp 203.0.113.9:{client} > 192.168.0.2:30050");
        let (_, verdict, sent) = team.line(0, &question, ms(now));
        let answer = |port| format!("inside udp 10.0.1.3:5353 > 192.168.0.2:{port}");
        let port = (verdict == (Verdict::Forward { out: INSIDE })).then(|| source_port(&sent.unwrap()))?;
        assert_eq!(team.line(0, &answer(port), ms(now)).1, Verdict::Forward { out: OUTSIDE });
        Some(port)
    };
    // Every port is in use once, while there is one frontend.
    take(&mut team, &all(30_050..30_051));
    let first: Vec<u16> = (0..599).filter_map(|n| ask(&mut team, 1_000 + n, 1)).collect();
    assert_eq!((first.len(), first.contains(&30_050)), (599, false));
    // Then four hundred are; ports go from flow to flow as these are over, and those of frontends to none.
    take(&mut team, &all(30_000..30_400));
    for round in 1..4 {
        team.workers[0].pipeline.expire(ms(u64::from(round) * 400_000), 1_000);
        for client in 0..200 {
            let port = ask(&mut team, 2_000 + 1_000 * round + client, u64::from(round) * 400_000);
            assert!(port.is_some_and(|port| port >= 30_400), "client {client} of round {round}: {port:?}");
        }
    }
    // The Services are gone again: so are their claims.
    take(&mut team, &all(30_050..30_051));
    team.workers[0].pipeline.expire(ms(2_000_000), 1_000);
    let last: Vec<u16> = (0..599).filter_map(|n| ask(&mut team, 10_000 + n, 2_000_000)).collect();
    assert_eq!((last.len(), last.contains(&30_050)), (599, false));
}
