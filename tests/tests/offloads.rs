//! Native and generic XDP with the kernel's default offloads: megabytes in both directions arrive as they were sent.

use ringway_tests::process::{ask, links, offloads_off, run};
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use serde_json::Value;
use std::net::UdpSocket;
use std::time::Duration;

const SIZE: usize = 3 << 20;
const SOON: Duration = Duration::from_secs(10);

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

/// Datagrams larger than a frame cannot be cut. That they are lost is counted where it is looked for, and stays counted
/// when their interface is gone.
#[test]
fn large_datagrams_in_generic_xdp_are_counted_as_lost() {
    if !can_run("large_datagrams_in_generic_xdp_are_counted_as_lost", &["ip", "nginx"]) {
        return;
    }
    let mut bed = Bed::start(Options { xdp: "generic", ..Options::default() });
    for (namespace, link) in [(&bed.client, "eth0"), (&bed.gateway, "front")] {
        namespace.ip(&["link", "set", link, "mtu", "9000"]).unwrap_or_else(|error| panic!("{error}"));
    }
    let frontend = at(CLUSTER_IPS[0], ECHO.port);
    let socket = bed.client.enter(|| UdpSocket::bind("0.0.0.0:0")).and_then(|socket| socket).expect("a socket");
    let lost = |bed: &mut Bed| {
        let status = bed.ringway().ask("/status");
        assert_eq!(status["ports"]["largeLost"], status["workers"][0]["counters"]["largeLost"]);
        status["ports"]["largeLost"].as_u64().unwrap_or_else(|| panic!("no largeLost: {status}"))
    };
    assert_eq!(lost(&mut bed), 0);
    eventually(SOON, "one is counted", || {
        socket.send_to(&[0; 7000], frontend).map_err(|error| error.to_string())?;
        if lost(&mut bed) > 0 { Ok(()) } else { Err("none".to_owned()) }
    });
    let before = lost(&mut bed);
    assert!(bed.ringway().ask("/drops")["ports"]["largeLost"].as_u64() >= Some(before));
    bed.gateway.ip(&["link", "delete", "front"]).unwrap_or_else(|error| panic!("{error}"));
    eventually(SOON, "its ports are closed", || match &bed.ringway().ask("/status")["interfaces"][0]["ports"] {
        Value::Array(ports) if ports.is_empty() => Ok(()),
        other => Err(other.to_string()),
    });
    assert!(lost(&mut bed) >= before, "it was {before}");
    bed.ledger().assert_closes();
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
