//! Links of different MTUs: TCP through them goes on at once, and UDP whose senders allow it is fragmented.

use ringway_tests::can_run;
use ringway_tests::process::{iperf, run};
use ringway_tests::topology::{BULK_IPS, BULK_TCP, Bed, CLUSTER_IPS, HTTP, Options, at};
use std::time::Duration;

const SMALL: &str = "1280";

/// A bed whose client or whose backends are behind a link with a smaller MTU, at the gateway's end. The other end knows nothing
/// of it, and what is too large is lost there without a word: nobody can learn by ICMP errors.
fn bed(link: &str, masquerade: bool) -> Bed {
    let mut bed = Bed::prepare(Options { backends: 1, masquerade, ..Options::default() });
    bed.gateway.ip(&["link", "set", link, "mtu", SMALL]).expect("a smaller MTU");
    // UDP without DF.
    for namespace in [&bed.client, &bed.backends[0]] {
        namespace.sysctl("net/ipv4/ip_no_pmtu_disc", "1").expect("no path MTU discovery");
    }
    bed.serve();
    bed.serve_bulk(0);
    bed.start_ringway();
    bed
}

/// Five megabytes each way arrive as they were sent. Segments of 1,460 bytes would never arrive.
fn transfers(bed: &mut Bed) {
    let content: Vec<u8> = (0..5_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(bed.folder().join("content"), &content).expect("the file to serve");
    let before = bed.ledger();
    for ip in CLUSTER_IPS {
        let target = bed.folder().join("received");
        let url = format!("http://{}/files/content", at(ip, HTTP.port));
        let arguments = ["-gsS", "--fail", "--max-time", "30", "-o", target.to_str().expect("a path"), &url];
        run(&bed.client, "curl", &arguments, Duration::from_secs(35)).unwrap_or_else(|error| panic!("{error}"));
        assert!(std::fs::read(&target).expect("what curl wrote") == content, "{ip}: other bytes than were sent");
    }
    for ip in BULK_IPS {
        let report = iperf(&bed.client, at(ip, BULK_TCP.port), 1, &[]);
        let received = report["end"]["sum_received"]["bytes"].as_u64().unwrap_or(0);
        assert!(received > 2_000_000, "{ip}: {received} bytes: {}", report["end"]);
    }
    let ledger = bed.ledger().since(&before);
    assert_eq!(ledger.drops("too_big"), 0, "{ledger:?}");
    assert_eq!(ledger.replied, 0, "nobody had to be told: {ledger:?}");
}

/// Datagrams of 1,400 bytes arrive, each in two fragments and counted once.
fn datagrams(bed: &mut Bed, more: &[&str]) {
    let before = bed.ledger();
    let mut arguments = vec!["--udp", "--bitrate", "4M", "--length", "1400"];
    arguments.extend(more);
    let report = iperf(&bed.client, at(BULK_IPS[0], BULK_TCP.port), 1, &arguments);
    let number =
        |key: &str| report["end"]["sum"][key].as_f64().unwrap_or_else(|| panic!("no {key}: {}", report["end"]));
    // On a busy machine the receiver may lose some; none would arrive whole.
    assert!(number("packets") > 100.0 && number("lost_percent") < 50.0, "{}", report["end"]);
    let ledger = bed.ledger().since(&before);
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
    let forwarded = ledger.forwarded as f64;
    let arrived = number("packets") - number("lost_packets");
    assert!(arrived < forwarded && forwarded < 1.5 * arrived, "{ledger:?}: {}", report["end"]);
}

#[test]
fn backends_behind_a_smaller_mtu() {
    if !can_run("backends_behind_a_smaller_mtu", &["ip", "nginx", "curl", "iperf3"]) {
        return;
    }
    for masquerade in [false, true] {
        let mut bed = bed("back", masquerade);
        transfers(&mut bed);
        datagrams(&mut bed, &[]);
    }
}

#[test]
fn clients_behind_a_smaller_mtu() {
    if !can_run("clients_behind_a_smaller_mtu", &["ip", "nginx", "curl", "iperf3"]) {
        return;
    }
    for masquerade in [false, true] {
        let mut bed = bed("front", masquerade);
        transfers(&mut bed);
        datagrams(&mut bed, &["--reverse"]);
    }
}
