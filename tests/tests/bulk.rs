//! iperf3 through a ClusterIP: TCP and UDP, both ways, IPv4 and IPv6, one-arm and two-arm, default offloads.

use ringway_tests::can_run;
use ringway_tests::process::iperf;
use ringway_tests::topology::{BULK_IPS, BULK_TCP, Bed, Options, at};
use serde_json::Value;
use std::net::SocketAddr;

fn tcp(bed: &mut Bed, server: SocketAddr, more: &[&str]) {
    let before = bed.ledger();
    let report = iperf(&bed.client, server, 1, more);
    let received = report["end"]["sum_received"]["bytes"].as_u64().unwrap_or(0);
    assert!(received > 2_000_000, "TCP to {server} {more:?} carried only {received} bytes: {}", report["end"]);
    let ledger = bed.ledger().since(&before);
    // Segments of at most an MTU, so at least so many packets.
    assert!(ledger.forwarded > received / 1500, "{ledger:?} for {received} bytes");
}

fn udp(bed: &mut Bed, server: SocketAddr, more: &[&str]) {
    let before = bed.ledger();
    let mut arguments = vec!["--udp", "--bitrate", "20M"];
    arguments.extend(more);
    let report = iperf(&bed.client, server, 1, &arguments);
    let number =
        |key: &str| report["end"]["sum"][key].as_f64().unwrap_or_else(|| panic!("no {key}: {}", report["end"]));
    assert!(number("packets") > 500.0, "UDP to {server} {more:?}: {}", report["end"]);
    assert!(number("lost_percent") < 2.0, "UDP to {server} {more:?}: {}", report["end"]);
    let ledger = bed.ledger().since(&before);
    assert!(ledger.forwarded as f64 > number("packets") - number("lost_packets"), "{ledger:?}: {}", report["end"]);
    assert_eq!(report.get("error"), None::<&Value>);
}

fn both_ways(options: Options) {
    if !can_run("iperf3 both ways", &["ip", "iperf3", "nginx"]) {
        return;
    }
    let mut bed = Bed::prepare(options);
    bed.serve_bulk(0);
    bed.start_ringway();
    for ip in BULK_IPS {
        let server = at(ip, BULK_TCP.port);
        tcp(&mut bed, server, &[]);
        tcp(&mut bed, server, &["--reverse"]);
        udp(&mut bed, server, &[]);
        udp(&mut bed, server, &["--reverse"]);
    }
}

#[test]
fn two_arm_source_kept() {
    both_ways(Options { backends: 1, ..Options::default() });
}

#[test]
fn two_arm_masqueraded() {
    both_ways(Options { backends: 1, masquerade: true, ..Options::default() });
}

#[test]
fn one_arm_masqueraded() {
    both_ways(Options { backends: 1, one_arm: true, masquerade: true, ..Options::default() });
}
