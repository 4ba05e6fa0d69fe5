//! Links that go down and come up, and neighbours that are forgotten under load.

use ringway_tests::ledger::Ledger;
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
    eventually(SOON, "the log says so", || {
        let log = bed.ringway().output();
        let told = log.matches(&format!("WARN {link}: its link went down: it was taken down")).count();
        if told == 1 { Ok(()) } else { Err(log) }
    });
    bed.gateway.set_link(link, true).expect("ip link set up");
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        eventually(SOON, "traffic flows again", || try_ask(&bed.client, at(ip, HTTP.port)).map(|_| ()));
    }
    let ledger = bed.ledger().since(&down);
    assert!(ledger.forwarded >= 4 * 8, "{ledger:?}");
    eventually(SOON, "the log says that, too", || {
        let log = bed.ringway().output();
        let told = log.matches(&format!("INFO {link}: its link is up again after ")).count();
        if told == 1 { Ok(()) } else { Err(log) }
    });
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
    // A machine with something else to do for a second has a packet given up, but not each time.
    let good = (0..3).any(|_| {
        let ledger = requests_while_neighbors_are_flushed(&mut bed);
        println!("{ledger:?}");
        ledger.dropped() == 0
    });
    assert!(good, "packets waited for their neighbour in vain each time");
}

/// Sixty requests, each of which is answered, while the gateway's neighbours are flushed again and again; what became of their packets.
fn requests_while_neighbors_are_flushed(bed: &mut Bed) -> Ledger {
    let since = bed.ledger();
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
    bed.ledger().since(&since)
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

#[test]
fn more_queues_than_packet_memory_was_laid_out_for_are_all_served_with_smaller_rings() {
    if !can_run("more_queues_than_packet_memory_was_laid_out_for", &["ip", "nginx", "curl", "ethtool"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { queues: 8, xdp: "generic", ..Options::default() });
    let queues = |bed: &Bed, count: &str| {
        for name in ["front", "back"] {
            run(&bed.gateway, "ethtool", &["-L", name, "rx", count, "tx", count], SOON).expect("ethtool -L");
        }
    };
    queues(&bed, "1");
    bed.serve();
    bed.start_ringway();
    // What `status` says of each queue of an interface: how many packets its receive ring holds.
    let rings = |bed: &mut Bed| {
        let status = bed.ringway().ask("/status");
        let interfaces = status["interfaces"].as_array().expect("interfaces").clone();
        let ports = interfaces.iter().flat_map(|i| i["ports"].as_array().cloned().unwrap_or_default());
        (ports.map(|port| port["rings"]["receive"].as_u64().expect("rings")).collect::<Vec<_>>(), status)
    };
    let expect = |bed: &mut Bed, what: &str, is_so: &dyn Fn(&[u64]) -> bool| {
        eventually(SOON, what, || {
            let (rings, status) = rings(bed);
            if is_so(&rings) { Ok(()) } else { Err(format!("{rings:?} {}", status["interfaces"])) }
        });
        let since = bed.ledger();
        for number in 0..24 {
            ask(&bed.client, at(CLUSTER_IPS[number % 2], HTTP.port));
        }
        let ledger = bed.ledger().since(&since);
        assert_eq!((ledger.dropped(), ledger.passed), (0, 0), "{what}: {ledger:?}");
        assert!(ledger.forwarded >= 24 * 8, "{what}: {ledger:?}");
    };
    expect(&mut bed, "one queue each", &|rings| rings == [2048; 2]);
    queues(&bed, "8");
    expect(&mut bed, "all queues are polled", &|rings| rings.len() == 16 && rings.iter().all(|ring| *ring < 2048));
    let text = String::from_utf8_lossy(&bed.ringway().command(&["status"]).stdout).into_owned();
    let told = text.lines().filter(|line| line.contains("each of its 8 queues has rings of ")).count();
    assert_eq!(told, 2, "{text}");
}

#[test]
fn nobody_is_refused_while_somebody_adds_queues() {
    if !can_run("nobody_is_refused_while_somebody_adds_queues", &["ip", "nginx", "curl", "ethtool"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { queues: 8, xdp: "generic", ..Options::default() });
    let queues = |bed: &Bed, count: u32| {
        let count = count.to_string();
        run(&bed.gateway, "ethtool", &["-L", "front", "rx", &count, "tx", &count], SOON).expect("ethtool -L")
    };
    queues(&bed, 1);
    bed.serve();
    bed.start_ringway();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let errors: Vec<String> = std::thread::scope(|scope| {
        let client = &bed.client;
        // The node has this address: what comes to its kernel is refused.
        let asker = || {
            let mut errors = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let error = try_ask(client, at(NODE_IPS[0], HTTP.node_port)).err();
                // A packet that is dropped comes again after a second, after three, after seven: slow is not refused.
                errors.extend(error.filter(|error| !error.contains("curl: (28)")));
            }
            errors
        };
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(asker)).collect();
        for count in 2..=8 {
            queues(&bed, count);
            eventually(SOON, "all queues are polled", || {
                let status = bed.status()?;
                let ports = status["interfaces"][0]["ports"].as_array().map_or(0, Vec::len);
                if ports == count as usize { Ok(()) } else { Err(status["interfaces"].to_string()) }
            });
            eventually(SOON, "it serves", || try_ask(client, at(NODE_IPS[0], HTTP.node_port)).map(|_| ()));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        askers.into_iter().flat_map(|asker| asker.join().expect("an asker")).collect()
    });
    assert!(errors.is_empty(), "{}: {errors:#?}", errors.len());
}

#[test]
fn an_mtu_that_somebody_raises_beyond_what_frames_hold_is_told() {
    if !can_run("an_mtu_that_somebody_raises", &["ip", "nginx", "curl", "ping"]) {
        return;
    }
    let mut bed = Bed::start(Options { xdp: "generic", ..Options::default() });
    let text = |bed: &mut Bed| String::from_utf8_lossy(&bed.ringway().command(&["status"]).stdout).into_owned();
    let lost = |bed: &mut Bed| bed.ringway().ask("/status")["ports"]["largeLost"].as_u64().expect("a count");
    for (namespace, link) in [(&bed.gateway, "front"), (&bed.client, "eth0")] {
        namespace.ip(&["link", "set", link, "mtu", "9000"]).expect("a larger MTU");
    }
    let told = "its MTU is 9000 now, and frames hold 1774";
    eventually(SOON, "status says so", || {
        let text = text(&mut bed);
        if text.contains(&format!("front: {told}")) { Ok(()) } else { Err(text) }
    });
    assert_eq!(bed.ringway().output().matches(&format!("WARN front: {told}")).count(), 1);
    // Echo requests to a VIP come up, whatever becomes of them: one that a frame does not hold is counted.
    let before = lost(&mut bed);
    let _ = run(&bed.client, "ping", &["-c", "3", "-i", "0.2", "-W", "1", "-s", "8000", CLUSTER_IPS[0]], SOON);
    eventually(SOON, "they are counted", || {
        let now = lost(&mut bed);
        if now >= before + 3 { Ok(()) } else { Err(format!("{before}, now {now}")) }
    });
    ask(&bed.client, at(CLUSTER_IPS[0], HTTP.port));
    bed.gateway.ip(&["link", "set", "front", "mtu", "1500"]).expect("the MTU that was");
    eventually(SOON, "status says so no more", || {
        let text = text(&mut bed);
        if text.contains("its MTU is") { Err(text) } else { Ok(()) }
    });
}

#[test]
fn a_bridge_that_changes_its_address_as_ports_go_is_followed() {
    if !can_run("a_bridge_that_changes_its_address", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { xdp: "generic", ..Options::default() });
    let ip = |bed: &Bed, words: &str| {
        bed.gateway.ip(&words.split(' ').collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{error}"));
    };
    // It takes the lowest address of its ports'.
    ip(&bed, "link add br0 type bridge");
    for (port, address) in [("low", "02:00:00:00:00:01"), ("mid", "02:00:00:00:00:02")] {
        ip(&bed, &format!("link add {port} address {address} type veth peer name {port}-end"));
        ip(&bed, &format!("link set {port} master br0 up"));
        ip(&bed, &format!("link set {port}-end up"));
    }
    ip(&bed, "address flush dev front");
    ip(&bed, "link set front address 02:00:00:00:00:03");
    ip(&bed, "link set front master br0");
    ip(&bed, "link set br0 up");
    for (address, length) in NODE_IPS.into_iter().zip([24, 64]) {
        bed.gateway.address("br0", &format!("{address}/{length}")).expect("an address");
    }
    let config = std::fs::read_to_string(bed.config()).expect("the configuration");
    std::fs::write(bed.config(), config.replace("name: front", "name: br0")).expect("the configuration");
    bed.serve();
    bed.start_ringway();
    let address = |bed: &Bed| {
        let links = links(&bed.gateway);
        let bridge = links.iter().find(|link| link["ifname"] == "br0").expect("br0");
        bridge["address"].as_str().expect("an address").to_owned()
    };
    for (gone, has) in [("", "02:00:00:00:00:01"), ("low", "02:00:00:00:00:02"), ("mid", "02:00:00:00:00:03")] {
        if !gone.is_empty() {
            ip(&bed, &format!("link delete {gone}"));
        }
        assert_eq!(address(&bed), has);
        // Whoever asks anew learns the address by which Ringway takes frames by then.
        eventually(SOON, "it serves", || {
            let _ = bed.client.ip(&["neighbor", "flush", "dev", "eth0"]);
            let since = bed.ledger();
            for ip in CLUSTER_IPS {
                try_ask(&bed.client, at(ip, HTTP.port))?;
            }
            let ledger = bed.ledger().since(&since);
            if ledger.forwarded >= 16 { Ok(()) } else { Err(format!("{gone}: {ledger:?}")) }
        });
    }
}

#[test]
fn an_interface_that_is_renamed_is_let_go_of_with_the_reason() {
    if !can_run("an_interface_that_is_renamed", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    bed.gateway.ip(&["link", "set", "back", "down"]).expect("ip link set down");
    bed.gateway.ip(&["link", "set", "back", "name", "lan0"]).expect("another name");
    eventually(SOON, "the log says why", || {
        let log = bed.ringway().output();
        if log.contains("INFO let go of back: it was renamed to lan0") { Ok(()) } else { Err(log) }
    });
}
