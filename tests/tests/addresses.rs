//! HTTP and UDP through every kind of address that a Service has, IPv4 and IPv6, with clients and backends at their
//! default offloads; what the backend sees as client is right for each.

use ringway_tests::can_run;
use ringway_tests::echo::EchoClient;
use ringway_tests::process::ask;
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, EXTERNAL_IPS, HTTP, LOAD_BALANCER_IPS, NODE_IPS, Options, at};
use std::collections::BTreeSet;

/// The client's own addresses, and those of the gateway towards the backends, which masquerade puts in their place.
const CLIENTS: [&str; 2] = ["192.168.0.1", "fd00:168::1"];
const GATEWAYS: [&str; 2] = ["10.180.0.1", "fd00:180::1"];

/// Asks each family's address 20 times by HTTP and UDP, each time from a new port.
fn serves(ips: [&str; 2], http: u16, echo: u16, seen_as: [&str; 2]) {
    if !can_run("HTTP and UDP through an address", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    for (ip, seen_as) in ips.into_iter().zip(seen_as) {
        let before = bed.ledger();
        let mut web = BTreeSet::new();
        let mut udp = BTreeSet::new();
        for number in 0..20 {
            let answer = ask(&bed.client, at(ip, http));
            assert_eq!(answer.client, seen_as, "HTTP to {ip}");
            web.insert(answer.backend);
            let payload = format!("datagram {number}");
            let client = EchoClient::new(&bed.client, at(ip, echo));
            let answer = client.ask(payload.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((answer.client.as_str(), &answer.payload), (seen_as, &payload), "UDP to {ip}");
            udp.insert(answer.backend);
        }
        // 20 draws from 3 leave one out with a chance of 0.1 %; all on one backend would be a broken table.
        assert!(web.len() > 1 && udp.len() > 1, "only {web:?} and {udp:?} were asked");
        let ledger = bed.ledger().since(&before);
        // A connection is at least SYN, ACK, request, FIN and their answers; a datagram and its echo two.
        assert!(ledger.forwarded >= 20 * (8 + 2), "{ledger:?}");
        assert_eq!(ledger.dropped(), 0, "{ledger:?}");
    }
}

#[test]
fn cluster_ip() {
    serves(CLUSTER_IPS, HTTP.port, ECHO.port, CLIENTS);
}

#[test]
fn node_port() {
    serves(NODE_IPS, HTTP.node_port, ECHO.node_port, GATEWAYS);
}

#[test]
fn external_ip() {
    serves(EXTERNAL_IPS, HTTP.port, ECHO.port, GATEWAYS);
}

#[test]
fn load_balancer_ip() {
    serves(LOAD_BALANCER_IPS, HTTP.port, ECHO.port, GATEWAYS);
}
