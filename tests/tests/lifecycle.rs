//! Start, end, and start again after a kill -9: nothing is left behind.

use ringway_tests::process::{ask, links};
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, echo::EchoClient};
use serde_json::Value;

/// Links of the gateway, as names, and those with an XDP program.
fn state(bed: &Bed) -> (Vec<String>, Vec<String>) {
    let links = links(&bed.gateway);
    let name = |link: &Value| link["ifname"].as_str().unwrap_or_default().to_owned();
    (links.iter().map(name).collect(), links.iter().filter(|link| link.get("xdp").is_some()).map(name).collect())
}

fn serves(bed: &mut Bed) {
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        ask(&bed.client, at(ip, HTTP.port));
        EchoClient::new(&bed.client, at(ip, ECHO.port)).ask(b"hello").unwrap_or_else(|error| panic!("{error}"));
    }
    let ledger = bed.ledger();
    assert!(ledger.forwarded >= 4 * 10, "{ledger:?}");
}

#[test]
fn sigterm_ends_it_and_nothing_is_left() {
    if !can_run("sigterm_ends_it_and_nothing_is_left", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { queues: 2, ..Options::default() });
    bed.serve();
    let (before, _) = state(&bed);
    bed.start_ringway();
    assert_eq!(state(&bed).1, ["front", "back"], "attached to both links");
    serves(&mut bed);
    let status = bed.ringway().stop();
    assert_eq!(status.code(), Some(0), "{}", bed.ringway().output());
    let (after, attached) = state(&bed);
    assert_eq!(after, before, "no TAP device is left");
    assert!(attached.is_empty(), "XDP programs are left on {attached:?}");
    assert!(!bed.socket().exists(), "the admin socket is left");
    // And again in the same place.
    bed.start_ringway();
    serves(&mut bed);
}

#[test]
fn it_starts_after_kill_9() {
    if !can_run("it_starts_after_kill_9", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options { queues: 2, ..Options::default() });
    for _ in 0..3 {
        serves(&mut bed);
        bed.ringway().kill();
        bed.start_ringway();
    }
    serves(&mut bed);
    assert_eq!(bed.ringway().stop().code(), Some(0));
    assert!(state(&bed).1.is_empty());
}
