//! Links with 1, 2 and 4 queues: one worker a queue, each with a ledger of its own that closes, and flows that work
//! whichever queue their packets come on.

use std::time::Duration;

use ringway_tests::echo::EchoClient;
use ringway_tests::process::ask;
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use serde_json::Value;

fn serves_with(queues: u32) {
    if !can_run("several queues", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options { queues, ..Options::default() });
    let before = bed.ledger();
    for number in 0..40_usize {
        let family = number % 2;
        // Source-kept and masqueraded: the reply of the latter names the worker by its SNAT port.
        ask(&bed.client, at(CLUSTER_IPS[family], HTTP.port));
        ask(&bed.client, at(LOAD_BALANCER_IPS[family], HTTP.port));
        for ip in [CLUSTER_IPS[family], LOAD_BALANCER_IPS[family]] {
            let client = EchoClient::new(&bed.client, at(ip, ECHO.port));
            for _ in 0..3 {
                client.ask(b"queue").unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
    let ledger = bed.ledger().since(&before);
    assert!(ledger.forwarded >= 40 * (2 * 8 + 2 * 6), "{ledger:?}");
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
    let workers = bed.ringway().worker_ledgers();
    assert_eq!(workers.len(), queues as usize, "one worker a queue");
    for (index, worker) in workers.iter().enumerate() {
        assert!(worker.rx > 0, "worker {index} of {queues} received nothing: {workers:?}");
    }
    // A veth device has no RSS that could be computed.
    let rss = eventually(Duration::from_secs(10), "its queues are asked for", || {
        let status = bed.ringway().ask("/status");
        let interfaces = status["interfaces"].as_array().cloned().unwrap_or_default();
        let rss: Vec<Value> = interfaces.iter().filter_map(|interface| interface["rss"].get(0).cloned()).collect();
        if rss.len() == interfaces.len() && !rss.is_empty() { Ok(rss) } else { Err(status.to_string()) }
    });
    for rss in rss {
        assert_eq!(rss["computed"], false);
        assert!(rss["problem"].as_str().is_some_and(|why| why.contains("RSS")), "{rss}");
    }
    let text = String::from_utf8(bed.ringway().command(&["status"]).stdout).unwrap();
    let told = text.contains("replies that come to another worker's queue are handed over: ");
    assert_eq!(told, queues > 1, "{text}");
}

#[test]
fn one_queue() {
    serves_with(1);
}

#[test]
fn two_queues() {
    serves_with(2);
}

#[test]
fn four_queues() {
    serves_with(4);
}
