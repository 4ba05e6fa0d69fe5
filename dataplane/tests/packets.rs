//! The packet path: packets in, verdicts and packets out, and the whole ledger.

mod bed;

use bed::*;
use ringway_dataplane::verdict::Verdict;
use ringway_shared::{DropReason, Protocol};

#[test]
fn a_node_port_flow_goes_to_the_endpoint_and_back() {
    let mut web = Spec::new("web", Protocol::Tcp, 80, "172.30.0.41").endpoints(&["10.0.1.1:8080"]);
    web.node_port = Some(30080);
    let snapshot = snapshot(&[web]);
    let mut worker = worker(&Settings::default());
    let syn = Wire::tcp("203.0.113.9:40000", "192.168.0.2:30080", "S");
    assert_eq!(run(&mut worker, &snapshot, &syn, ms(1)), Some(Verdict::Forward { out: INSIDE }));
    let out = last_sent(&worker);
    assert_eq!(out.destination, "10.0.1.1:8080".parse().unwrap());
    assert_eq!((out.ttl, out.source_mac, out.destination_mac), (63, INSIDE_MAC, POD_MAC));
    let (pod, snat) = (out.destination.to_string(), out.source.to_string());
    let back = Wire { acknowledgment: 1001, ..Wire::tcp(&pod, &snat, "SA") }.inside();
    assert_eq!(run(&mut worker, &snapshot, &back, ms(2)), Some(Verdict::Forward { out: OUTSIDE }));
    let out = last_sent(&worker);
    assert_eq!((out.source, out.destination), (syn.destination, syn.source));
    let closed = Wire::tcp("203.0.113.9:40000", "172.30.0.41:81", "S");
    let reason = DropReason::NoServicePort;
    assert_eq!(run(&mut worker, &snapshot, &closed, ms(3)), Some(Verdict::Reply { out: OUTSIDE, reason }));
    let expected = [("forwarded", 2), ("replied", 1), ("reply:no_service_port", 1), ("rx", 3)];
    assert_eq!(ledger(&mut worker), expected.map(|(name, count)| (name.to_owned(), count)).into());
}
