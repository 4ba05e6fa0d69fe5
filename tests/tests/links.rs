//! Links that go down and come up, and neighbours that are forgotten under load.

use ringway_tests::process::{ask, try_ask};
use ringway_tests::topology::{Bed, CLUSTER_IPS, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn down_and_up(link: &str) {
    if !can_run("a link goes down and up", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    // The kernel takes IPv6 addresses off a link that goes down unless told otherwise.
    bed.gateway.sysctl("net/ipv6/conf/all/keep_addr_on_down", "1").expect("a sysctl");
    for ip in CLUSTER_IPS {
        ask(&bed.client, at(ip, HTTP.port));
    }
    bed.gateway.set_link(link, false).expect("ip link set down");
    try_ask(&bed.client, at(CLUSTER_IPS[0], HTTP.port)).expect_err("there is no way");
    assert!(bed.ringway().runs(), "it goes on running");
    let down = bed.ledger();
    bed.gateway.set_link(link, true).expect("ip link set up");
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        eventually(SOON, "traffic flows again", || try_ask(&bed.client, at(ip, HTTP.port)).map(|_| ()));
    }
    let ledger = bed.ledger().since(&down);
    assert!(ledger.forwarded >= 4 * 8, "{ledger:?}");
}

#[test]
fn towards_clients() {
    down_and_up("front");
}

#[test]
fn towards_backends() {
    down_and_up("back");
}

#[test]
fn neighbors_flushed_under_load_cost_no_request() {
    if !can_run("neighbors_flushed_under_load_cost_no_request", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            let mut flushes = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for link in ["front", "back"] {
                    // It gives up when entries come faster than it takes them away: then enough were flushed.
                    let _ = bed.gateway.ip(&["neighbor", "flush", "dev", link]);
                }
                flushes += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            flushes
        });
        let result: Result<(), String> = (0..60).try_for_each(|number| {
            let ips = [CLUSTER_IPS, LOAD_BALANCER_IPS];
            try_ask(&bed.client, at(ips[number % 2][number / 2 % 2], HTTP.port)).map(|_| ())
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let flushes = flusher.join().expect("the flusher");
        result.unwrap_or_else(|error| panic!("{error}"));
        assert!(flushes > 2, "only {flushes} flushes");
    });
    let ledger = bed.ledger();
    assert_eq!(ledger.dropped(), 0, "packets waited for their neighbour instead: {ledger:?}");
}
