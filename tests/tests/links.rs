//! Links that go down and come up, and neighbours that are forgotten under load.

use ringway_tests::process::{ask, links, run, try_ask};
use ringway_tests::topology::{Bed, CLUSTER_IPS, HTTP, LOAD_BALANCER_IPS, NODE_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use std::net::SocketAddr;
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

#[test]
fn a_tap_that_somebody_takes_away_is_set_up_again_and_status_tells() {
    if !can_run("a_tap_that_somebody_takes_away", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let back = |bed: &mut Bed| {
        let status = bed.ringway().ask("/status");
        status["interfaces"].as_array().expect("interfaces").iter().find(|i| i["name"] == "back").expect("back").clone()
    };
    let tap = back(&mut bed)["tap"].as_str().expect("a TAP device").to_owned();
    let index = |bed: &Bed| {
        let links = links(&bed.gateway);
        links.iter().find(|link| link["ifname"] == *tap).and_then(|link| link["ifindex"].as_u64())
    };
    let first = index(&bed).expect("it is there");
    for (times, arguments, said) in
        [(1, "down", "it was down"), (2, "name other0", "it was renamed to other0"), (3, "delete", "it was deleted")]
    {
        let words: Vec<&str> = match arguments {
            "delete" => vec!["link", "delete", &tap],
            _ => ["link", "set", &tap].into_iter().chain(arguments.split(' ')).collect(),
        };
        bed.gateway.ip(&words).expect("ip link");
        let report = eventually(SOON, "it is set up again", || {
            let report = back(&mut bed);
            if report["tapMended"] == times { Ok(report) } else { Err(report.to_string()) }
        });
        assert_eq!(report["tapLastMend"], said);
        assert_eq!((&report["tap"], &report["tapProblem"]), (&tap.clone().into(), &serde_json::Value::Null));
        assert!(index(&bed).is_some());
    }
    assert_ne!(index(&bed), Some(first), "another device in its place");
    assert!(!links(&bed.gateway).iter().any(|link| link["ifname"] == "other0"), "the old one is gone");
    // What an endpoint answers to somebody who asked it past the VIP goes back by the new device.
    let before = bed.ledger();
    let text = bed.ringway().command(&["status"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let told = format!("back: its TAP device {tap} was set up again 3 times; the last time it was deleted");
    assert!(text.contains(&told), "{text}");
    for v6 in [false, true] {
        ask(&bed.client, SocketAddr::new(bed.backend_ip(0, v6), HTTP.target));
    }
    let ledger = bed.ledger().since(&before);
    assert!(ledger.passed > 0, "{ledger:?}");
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
}

#[test]
fn what_an_interface_lost_by_its_own_count_is_told() {
    if !can_run("what_an_interface_lost_by_its_own_count_is_told", &["ip", "nginx", "curl", "ping"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let lost = |bed: &mut Bed, key: &str| {
        let drops = bed.ringway().ask("/drops");
        let front = drops["interfaces"].as_array().and_then(|all| all.iter().find(|i| i["name"] == "front").cloned());
        front.and_then(|front| front["counters"][key].as_u64())
    };
    let before = eventually(SOON, "counters are read", || lost(&mut bed, "rxDropped").ok_or("none".into()));
    // Larger than the veth takes: dropped between the wire and the worker, who never sees them.
    bed.gateway.ip(&["link", "set", "front", "mtu", "1300"]).expect("a smaller MTU");
    let arguments = ["-c", "5", "-i", "0.2", "-W", "1", "-s", "1400", NODE_IPS[0]];
    run(&bed.client, "ping", &arguments, SOON).expect_err("nothing comes back");
    let after = eventually(SOON, "the count has grown", || {
        let now = lost(&mut bed, "rxDropped").unwrap_or_default();
        if now >= before + 5 { Ok(now) } else { Err(format!("{before}, now {now}")) }
    });
    for (command, start) in [("status", "interfaces lost packets: "), ("drops", "The interfaces lost packets: ")] {
        let text = bed.ringway().command(&[command]).stdout;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(&format!("front rx_dropped {after}")), "{line}");
    }
}

#[test]
fn queues_that_somebody_adds_are_polled_and_the_other_interface_goes_on() {
    if !can_run("queues_that_somebody_adds", &["ip", "nginx", "curl", "ethtool"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { queues: 2, xdp: "generic", ..Options::default() });
    let queues = |bed: &Bed, count: &str| {
        run(&bed.gateway, "ethtool", &["-L", "front", "rx", count, "tx", count], SOON).expect("ethtool -L")
    };
    queues(&bed, "1");
    bed.serve();
    bed.start_ringway();
    let ports = |bed: &mut Bed, name: &str| {
        let status = bed.ringway().ask("/status");
        let interfaces = status["interfaces"].as_array().expect("interfaces").clone();
        let ports = interfaces.iter().find(|i| i["name"] == name).and_then(|i| i["ports"].as_array().cloned());
        ports.unwrap_or_default()
    };
    assert_eq!(ports(&mut bed, "front").len(), 1);
    let before = ports(&mut bed, "back");
    assert_eq!(before[0]["rings"]["fill"], 2048);
    queues(&bed, "2");
    eventually(SOON, "both queues are polled", || {
        let front = ports(&mut bed, "front");
        if front.len() == 2 { Ok(()) } else { Err(format!("{front:?}")) }
    });
    assert_eq!(ports(&mut bed, "back").len(), before.len(), "the other one was left alone");
    let since = bed.ledger();
    // Connections of as many ports come on both queues.
    for number in 0..24 {
        ask(&bed.client, at(CLUSTER_IPS[number % 2], HTTP.port));
    }
    let ledger = bed.ledger().since(&since);
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
    let status = bed.ringway().ask("/status");
    assert_eq!(status["ready"], true, "{status}");
    let frames = &status["workers"][0]["frames"];
    let (free, total) = (frames["free"].as_u64().expect("free"), frames["total"].as_u64().expect("total"));
    assert!(0 < free && free < total, "{frames}");
}
