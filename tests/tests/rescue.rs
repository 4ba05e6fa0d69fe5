//! One of three backends is dead and still listed: every connection succeeds all the same, some late by one repetition of their
//! SYN. Without that a third fails. When it lives again it has its share again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringway_tests::process::try_ask;
use ringway_tests::topology::{Bed, CLUSTER_IPS, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually, objects};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use serde_json::Value;

/// Connections that begin at once.
const BURST: usize = 250;

/// Opens so many connections from the client; how many were open within `patience` of the moment when their SYNs were sent.
/// Nothing else is asked of them: whoever answers a SYN is a backend that lives.
fn connections(bed: &Bed, server: SocketAddr, count: usize, patience: Duration) -> usize {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let burst = |count: usize| {
        let flags = SocketFlags::NONBLOCK;
        let sockets: Vec<_> = (0..count)
            .map(|_| {
                let socket = socket_with(family, SocketType::STREAM, flags, None).expect("a socket");
                let begun = connect(&socket, &server);
                assert!(matches!(begun, Ok(()) | Err(Errno::INPROGRESS)), "{begun:?}");
                socket
            })
            .collect();
        let deadline = Instant::now() + patience;
        let mut waiting: Vec<_> = sockets.iter().collect();
        let mut open = 0;
        while !waiting.is_empty() && Instant::now() < deadline {
            let mut polled: Vec<PollFd<'_>> = waiting.iter().map(|s| PollFd::new(*s, PollFlags::OUT)).collect();
            let _ = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 }));
            let mut done: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            let refused = polled.iter().filter(|fd| fd.revents().contains(PollFlags::ERR)).count();
            open += done.iter().filter(|done| **done).count() - refused;
            let mut done = done.drain(..);
            waiting.retain(|_| !done.next().unwrap_or(false));
        }
        open
    };
    let mut open = 0;
    for begun in (0..count).step_by(BURST) {
        open += bed.client.enter(|| burst(BURST.min(count - begun))).expect("the client's namespace");
    }
    open
}

/// What `services` says of an endpoint of the Service's HTTP port.
fn endpoint(bed: &mut Bed, index: usize, v6: bool) -> Value {
    let wanted = SocketAddr::new(bed.backend_ip(index, v6), HTTP.target).to_string();
    let services = bed.ringway().ask("/services");
    let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
    let ports = list(&services, "services").into_iter().flat_map(|service| list(&service, "ports"));
    let mut endpoints = ports.flat_map(|port| list(&port, "endpoints"));
    endpoints.find(|endpoint| endpoint["endpoint"] == *wanted).unwrap_or_else(|| panic!("no {wanted}: {services:#}"))
}

fn rescued(bed: &mut Bed) -> u64 {
    bed.ringway().ask("/status")["flows"]["rescued"].as_u64().expect("a number")
}

/// The gateway and the client as backends know them.
const PEERS: [&str; 4] = ["10.180.0.1/32", "192.168.0.1/32", "fd00:180::1/128", "fd00:168::1/128"];

/// The backend hears everything and says nothing: its packets have no way.
fn silence(bed: &Bed, index: usize) {
    PEERS.iter().for_each(|to| bed.backends[index].ip(&["route", "add", "blackhole", to]).expect("no way back"));
}

fn revive(bed: &Bed, index: usize) {
    PEERS.iter().for_each(|to| bed.backends[index].ip(&["route", "del", "blackhole", to]).expect("a way back"));
}

/// Linux sends a SYN again after one second, then after two: both are allowed to be late on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a connection takes that need not be moved, shorter than the time to a fourth SYN.
const LITTLE: Duration = Duration::from_secs(5);

fn bed() -> Bed {
    let mut bed = Bed::prepare(Options { backends: 3, ..Options::default() });
    bed.serve();
    bed.start_ringway();
    bed
}

#[test]
fn of_a_thousand_connections_none_fails_while_a_listed_backend_is_silent_and_it_comes_back() {
    if !can_run("of_a_thousand_connections_none_fails", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = bed();
    let vips = [LOAD_BALANCER_IPS[0], LOAD_BALANCER_IPS[1], CLUSTER_IPS[0], CLUSTER_IPS[1]];
    // Masqueraded (external traffic) and with their sources kept (ClusterIPs, without a detector).
    for vip in vips {
        eventually(Duration::from_secs(20), "a connection", || try_ask(&bed.client, at(vip, HTTP.port)));
    }
    silence(&bed, 1);
    for (vip, is_first) in vips.into_iter().zip([true, true, false, false]) {
        let before = rescued(&mut bed);
        let open = connections(&bed, at(vip, HTTP.port), 1_000, PATIENCE);
        let moved = rescued(&mut bed) - before;
        assert_eq!(open, 1_000, "{vip}: {moved} were moved");
        assert!(!is_first || moved >= 2, "{vip}: {moved} were moved");
    }
    for v6 in [false, true] {
        let silent = endpoint(&mut bed, 1, v6);
        assert!(silent["suspect"]["connections"].as_u64().is_some_and(|count| count >= 2), "{silent:#}");
        assert_eq!(endpoint(&mut bed, 0, v6)["suspect"], Value::Null);
    }
    let told = bed.ringway().command(&["services", "default/web"]).stdout;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("suspected of being dead: for "), "{told}");
    // A suspect gets no more than probes.
    let flows = |bed: &mut Bed| endpoint(bed, 1, false)["flows"].as_u64().expect("a number");
    let before = flows(&mut bed);
    let begun = Instant::now();
    assert_eq!(connections(&bed, at(vips[0], HTTP.port), 500, PATIENCE), 500);
    let (more, probes) = (flows(&mut bed) - before, begun.elapsed().as_secs() / 5 + 2);
    assert!(more <= probes, "{more} flows in {:?}", begun.elapsed());
    // Once it has answered one of them, it has its share.
    revive(&bed, 1);
    for (vip, v6) in [(vips[0], false), (vips[1], true)] {
        eventually(Duration::from_secs(60), "its return", || {
            connections(&bed, at(vip, HTTP.port), 50, PATIENCE);
            let suspect = endpoint(&mut bed, 1, v6)["suspect"].clone();
            if suspect.is_null() { Ok(()) } else { Err(suspect.to_string()) }
        });
    }
    let before = flows(&mut bed);
    assert_eq!(connections(&bed, at(vips[0], HTTP.port), 500, PATIENCE), 500);
    let share = flows(&mut bed) - before;
    assert!((100..250).contains(&share), "{share} of 500");
    bed.ledger();
}

#[test]
fn a_third_of_them_fails_where_nobody_is_moved_and_a_reload_changes_that() {
    if !can_run("a_third_of_them_fails_where_nobody_is_moved", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { backends: 3, ..Options::default() });
    let config = std::fs::read_to_string(bed.config()).expect("the configuration");
    let without = config.replace("  perWorker: 16384\n", "  perWorker: 16384\n  synRescue: false\n");
    assert_ne!(config, without);
    std::fs::write(bed.config(), without).expect("the configuration");
    bed.serve();
    bed.start_ringway();
    let server = at(LOAD_BALANCER_IPS[0], HTTP.port);
    eventually(Duration::from_secs(20), "a connection", || try_ask(&bed.client, server));
    silence(&bed, 1);
    let open = connections(&bed, server, 1_000, LITTLE);
    assert!((550..780).contains(&open), "{open} of 1000");
    assert_eq!(rescued(&mut bed), 0);
    assert_eq!(endpoint(&mut bed, 1, false)["suspect"], Value::Null);
    std::fs::write(bed.config(), config).expect("the configuration");
    let said = bed.ringway().command(&["reload"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("flows.synRescue: false -> true: in force"), "{said}");
    assert_eq!(connections(&bed, server, 250, PATIENCE), 250);
    assert!(rescued(&mut bed) > 0);
}

/// Nobody answers ARP or neighbour discovery for it: its packets are held, then dropped.
#[test]
fn none_fails_while_a_listed_backend_has_no_neighbour() {
    if !can_run("none_fails_while_a_listed_backend_has_no_neighbour", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = bed();
    bed.backends[2].ip(&["link", "set", "eth0", "down"]).expect("a link");
    // The kernel has forgotten it, as after some minutes.
    for v6 in [false, true] {
        let address = bed.backend_ip(2, v6).to_string();
        let _ = bed.gateway.ip(&["neighbor", "del", &address, "dev", "back"]);
    }
    for vip in [LOAD_BALANCER_IPS[0], LOAD_BALANCER_IPS[1], CLUSTER_IPS[0], CLUSTER_IPS[1]] {
        let open = connections(&bed, at(vip, HTTP.port), 250, PATIENCE);
        assert_eq!(open, 250, "{vip}");
    }
    assert!(rescued(&mut bed) >= 2);
    let ledger = bed.ledger();
    assert!(ledger.drops.get("neighbor_unresolved").is_some_and(|count| *count > 0), "{ledger:?}");
}

/// A client with session affinity moves once, and stays where it was moved to after the return of the other.
#[test]
fn session_affinity_follows_a_client_that_was_moved() {
    if !can_run("session_affinity_follows_a_client_that_was_moved", &["ip", "nginx", "curl"]) {
        return;
    }
    let bed = bed();
    let addresses = objects::Addresses {
        cluster: CLUSTER_IPS.map(str::to_owned).to_vec(),
        load_balancer: LOAD_BALANCER_IPS.map(str::to_owned).to_vec(),
        ..objects::Addresses::default()
    };
    let mut service = objects::service("web", &addresses, &[HTTP]);
    service["spec"]["sessionAffinity"] = "ClientIP".into();
    bed.write_object("web-service.json", &service);
    let server = at(LOAD_BALANCER_IPS[0], HTTP.port);
    eventually(Duration::from_secs(20), "session affinity", || {
        let answers = (0..6).map(|_| try_ask(&bed.client, server).map(|answer| answer.backend));
        let mut answers = answers.collect::<Result<Vec<_>, _>>()?;
        answers.dedup();
        if answers.len() == 1 { Ok(()) } else { Err(format!("{answers:?}")) }
    });
    let ask = || eventually(Duration::from_secs(20), "an answer", || try_ask(&bed.client, server)).backend;
    let first = ask();
    let index: usize = first.trim_start_matches("backend").parse().expect("its number");
    silence(&bed, index);
    let second = ask();
    assert_ne!(first, second);
    revive(&bed, index);
    let later: Vec<String> = (0..5).map(|_| ask()).collect();
    assert!(later.iter().all(|backend| *backend == second), "{second}, then {later:?}");
}
