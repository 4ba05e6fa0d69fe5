//! Native and generic XDP with the kernel's default offloads: megabytes in both directions arrive as they were sent.

use ringway_tests::can_run;
use ringway_tests::process::{ask, links, offloads_off, run};
use ringway_tests::topology::{Bed, CLUSTER_IPS, HTTP, LOAD_BALANCER_IPS, Options, at};
use std::time::Duration;

const SIZE: usize = 3 << 20;

/// Downloads a file through each VIP and compares it byte for byte. Checksums are TCP's own: a segment with a wrong one
/// is never delivered, so the transfer would hang.
fn transfers(bed: &mut Bed) {
    let content: Vec<u8> =
        (0..SIZE as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(SIZE).collect();
    std::fs::write(bed.folder().join("content"), &content).expect("the file to serve");
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        let server = at(ip, HTTP.port);
        let target = bed.folder().join("received");
        let url = format!("http://{server}/files/content");
        let arguments = ["-gsS", "--fail", "--max-time", "20", "-o", target.to_str().expect("a path"), &url];
        run(&bed.client, "curl", &arguments, Duration::from_secs(25)).unwrap_or_else(|error| panic!("{error}"));
        assert!(std::fs::read(&target).expect("what curl wrote") == content, "{server}: other bytes than were sent");
        ask(&bed.client, server);
    }
    let ledger = bed.ledger();
    assert!(ledger.forwarded as usize > 4 * SIZE / 1500, "{ledger:?}");
}

/// How `ip` shows the attached program's mode.
fn attached(bed: &Bed, link: &str) -> Option<u64> {
    let links = links(&bed.gateway);
    let link = links.iter().find(|value| value["ifname"] == link)?;
    link["xdp"]["mode"].as_u64()
}

#[test]
fn native_xdp_with_default_offloads() {
    if !can_run("native_xdp_with_default_offloads", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    // 1: in the driver; 2: generic.
    assert_eq!((attached(&bed, "front"), attached(&bed, "back")), (Some(1), Some(1)));
    transfers(&mut bed);
}

#[test]
fn generic_xdp_with_default_offloads_serves_small_answers() {
    if !can_run("generic_xdp_with_default_offloads_serves_small_answers", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options { xdp: "generic", ..Options::default() });
    assert_eq!((attached(&bed, "front"), attached(&bed, "back")), (Some(2), Some(2)));
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        for _ in 0..5 {
            ask(&bed.client, at(ip, HTTP.port));
        }
    }
    assert_eq!(bed.ledger().dropped(), 0);
}

/// Generic XDP on a veth gets segments larger than a frame from a local sender, which the kernel drops. Senders that
/// leave the host do not make such; here their segmentation offload is turned off.
#[test]
fn generic_xdp_transfers_segments_of_an_mtu() {
    if !can_run("generic_xdp_transfers_segments_of_an_mtu", &["ip", "nginx", "curl", "ethtool"]) {
        return;
    }
    let mut bed = Bed::start(Options { xdp: "generic", ..Options::default() });
    offloads_off(&bed.client, "eth0");
    bed.backends.iter().for_each(|backend| offloads_off(backend, "eth0"));
    transfers(&mut bed);
}
