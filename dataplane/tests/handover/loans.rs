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

/// NodePorts may be configured to lie among the SNAT ports: no flow gets their numbers.
#[test]
fn a_node_port_among_the_snat_ports_is_no_flows() {
    let mut team = Team::with_ports(PortSet::from(30_080..=30_083));
    assert_eq!(connect(&mut team, 0, 40_000, 1), Some((0, 30_081)));
    let mut others = [(0, 40_001), (1, 40_002)].map(|(worker, client)| connect(&mut team, worker, client, 1).unwrap());
    others.sort_unstable();
    assert_eq!(others, [(1, 30_082), (1, 30_083)]);
    assert_eq!(connect(&mut team, 0, 40_003, 2), None);
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
