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

/// Some drivers refuse what workers ask of ports whose device has no program.
#[test]
fn at_the_end_workers_let_go_of_ports_before_the_program_goes() {
    if !can_run("at_the_end_workers_let_go_of_ports_before_the_program_goes", &["ip"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { queues: 2, ..Options::default() });
    bed.write_config("log: ringway_control=debug,info\n");
    bed.start_ringway();
    let indexes: Vec<(String, u64)> = links(&bed.gateway)
        .iter()
        .filter(|link| link.get("xdp").is_some())
        .map(|link| {
            (link["ifname"].as_str().unwrap_or_default().to_owned(), link["ifindex"].as_u64().unwrap_or_default())
        })
        .collect();
    assert_eq!(indexes.len(), 2, "{indexes:?}");
    assert_eq!(bed.ringway().stop().code(), Some(0));
    let log = bed.ringway().output();
    for (name, index) in indexes {
        let at = |said: String| log.find(&said).unwrap_or_else(|| panic!("{said:?} is not in the log:\n{log}"));
        let (ports, program) = (
            at(format!("{name}: workers use its ports no more")),
            at(format!("the steering program is off device {index}\n")),
        );
        assert!(ports < program, "{name}:\n{log}");
    }
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
