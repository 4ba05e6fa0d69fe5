//! A one-arm gateway: client and backends on one link, packets leave by the interface they came on.

use ringway_tests::can_run;
use ringway_tests::echo::EchoClient;
use ringway_tests::process::ask;
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, NODE_IPS, Options, at};
use std::collections::BTreeSet;

#[test]
fn every_backend_serves_through_one_link() {
    if !can_run("every_backend_serves_through_one_link", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options { one_arm: true, masquerade: true, ..Options::default() });
    let mut seen = BTreeSet::new();
    for family in 0..2 {
        let vips = [
            (CLUSTER_IPS[family], HTTP.port, ECHO.port),
            (LOAD_BALANCER_IPS[family], HTTP.port, ECHO.port),
            (NODE_IPS[family], HTTP.node_port, ECHO.node_port),
        ];
        for (ip, http, echo) in vips {
            for _ in 0..10 {
                let answer = ask(&bed.client, at(ip, http));
                assert_eq!(answer.client, NODE_IPS[family], "masqueraded, so that the answer comes back here");
                seen.insert(answer.backend);
                let client = EchoClient::new(&bed.client, at(ip, echo));
                let answer = client.ask(b"one arm").unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(answer.client, NODE_IPS[family]);
            }
        }
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    let ledger = bed.ledger();
    assert!(ledger.forwarded >= 60 * 10, "{ledger:?}");
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
}
