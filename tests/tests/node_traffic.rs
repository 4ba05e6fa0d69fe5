//! What is not ours reaches the kernel: the gateway's own traffic, packets it routes, and a router hop that shows itself.

use ringway_tests::can_run;
use ringway_tests::process::{ask, nginx, ping, run, tracepath};
use ringway_tests::topology::{Bed, ECHO, HTTP, LOAD_BALANCER_IPS, NODE_IPS, Options, at};
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn the_node_and_what_it_routes_are_left_alone() {
    if !can_run("the_node_and_what_it_routes_are_left_alone", &["ip", "nginx", "curl", "ping"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let folder = bed.folder().to_owned();
    let _own_server = nginx(&bed.gateway, "gateway", 8090, &folder);
    for (family, ip) in NODE_IPS.into_iter().enumerate() {
        ping(&bed.client, ip.parse().expect("an address"), 2).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ask(&bed.client, at(ip, 8090)).backend, "gateway", "a server on the node itself");
        // A backend's own address, past the Service.
        let backend = bed.backend_ip(0, family == 1);
        ping(&bed.client, backend, 2).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ask(&bed.client, SocketAddr::new(backend, HTTP.target)).backend, "backend0");
        // And the node as a client of its backends.
        assert_eq!(ask(&bed.gateway, SocketAddr::new(backend, HTTP.target)).backend, "backend0");
    }
    let ledger = bed.ledger();
    assert_eq!((ledger.forwarded, ledger.dropped()), (0, 0), "{ledger:?}");
}

#[test]
fn a_path_through_a_vip_shows_the_gateway_as_a_hop() {
    if !can_run("a_path_through_a_vip_shows_the_gateway_as_a_hop", &["ip", "nginx", "curl", "tracepath"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    for (family, ip) in LOAD_BALANCER_IPS.into_iter().enumerate() {
        let path = tracepath(&bed.client, ip.parse().expect("an address"), ECHO.port);
        let path = path.unwrap_or_else(|error| panic!("{error}"));
        assert!(path.contains(NODE_IPS[family]), "time exceeded comes from the gateway:\n{path}");
    }
    let ledger = bed.ledger();
    assert!(ledger.replied >= 2, "{ledger:?}");
    // The kernel judges checksums of what Ringway generated: it would have counted an error.
    let counters = run(&bed.client, "cat", &["/proc/net/snmp"], Duration::from_secs(5)).unwrap_or_default();
    let icmp: Vec<&str> = counters.lines().filter(|line| line.starts_with("Icmp:")).collect();
    let column = icmp.first().and_then(|head| head.split_whitespace().position(|name| name == "InCsumErrors"));
    let errors = column.and_then(|column| icmp.get(1)?.split_whitespace().nth(column)).unwrap_or("?");
    assert_eq!(errors, "0", "{counters}");
}
