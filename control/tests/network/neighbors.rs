//! Next hops that are in use, and questions about those that are not there.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_shared::{InterfaceId, Network};

use crate::bed::{Bed, host, ip, mac};

#[test]
fn a_next_hop_that_packets_leave_by_is_confirmed_whoever_it_is() {
    let Some(bed) = Bed::new() else { return };
    let hosts = ["10.1.0.2", "fd00:1::2"];
    let wrong = "02:00:00:00:00:99";
    for family in ["4", "6"] {
        for (key, value) in [("delay_first_probe_time", "1"), ("retrans_time_ms", "100")] {
            bed.gateway.sysctl(&format!("net/ipv{family}/neigh/eth1/{key}"), value).unwrap();
        }
    }
    // Known before anybody asked for them, and not what they were.
    hosts.iter().for_each(|at| bed.gateway(&format!("neigh replace {at} lladdr {wrong} dev eth1 nud stale")));
    bed.watch(async |mut watch| {
        let first = watch.until("known", |n| hosts.iter().all(|at| mac(n, at).is_some())).await;
        // Nothing leaves by them: nobody asks.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(hosts.iter().all(|at| mac(&watch.now(), at) == mac(&first, at)));
        let leave = |network: &Network| {
            for at in hosts {
                network.resolve(ip(at)).into_iter().for_each(|id| assert!(network.leave_by(id).is_some()));
            }
        };
        let mut seen = watch.watch.latest.clone();
        let began = Instant::now();
        while !hosts.iter().all(|at| mac(&watch.now(), at) == host(1)) {
            assert!(began.elapsed() < Duration::from_secs(20), "they stay what they were");
            leave(&watch.now());
            let _ = tokio::time::timeout(Duration::from_millis(100), seen.changed()).await;
        }
    });
}

/// 30,000 questions a second about hosts that are not there, as workers ask them for answers to forged sources.
#[test]
fn a_flood_of_questions_leaves_the_kernel_and_everything_else_their_room() {
    let Some(bed) = Bed::new() else { return };
    bed.watch(async |mut watch| {
        let requests = watch.requests.clone();
        let flood = std::thread::spawn(move || {
            let began = Instant::now();
            let mut number = 0_u128;
            while began.elapsed() < Duration::from_secs(6) {
                for _ in 0..150 {
                    number += 1;
                    requests.ask(InterfaceId(0), IpAddr::V6((0xfd00_u128 << 112 | 0xbad << 32 | number).into()));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let entries = || {
            let arguments = ["-6", "neigh", "show", "nud", "all", "dev", "eth0"];
            let said = bed.gateway.command("ip").args(arguments).output().unwrap();
            String::from_utf8_lossy(&said.stdout)
                .lines()
                .filter(|line| line.contains("bad:") || line.starts_with("ff02::1:ff"))
                .count()
        };
        let (mut most, mut rounds) = (0, 0);
        while !flood.is_finished() {
            most = most.max(entries());
            // An endpoint and a router are known at once, as without a flood.
            rounds += 1;
            watch.keep(&[["10.1.0.2", "fd00:1::2"][rounds % 2]]);
            flush(&bed);
            let asked = Instant::now();
            watch.until("an endpoint", |n| mac(n, ["10.1.0.2", "fd00:1::2"][rounds % 2]) == host(1)).await;
            assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        flood.join().unwrap();
        assert!((1..=300).contains(&most), "{most} entries in the kernel's table");
        // What is over is over: at most a moment later nothing is asked any more, and nothing is left in the kernel.
        let mut notes = watch.watch.neighbors.clone();
        let quiet = notes.wait_for(|notes| notes.waiting == 0 && notes.asked == 0);
        let notes = tokio::time::timeout(Duration::from_secs(10), quiet).await.expect("quiet").unwrap().clone();
        assert!(notes.unanswered > 0 && notes.questions_gave_way > 1000, "{notes:?}");
        let began = Instant::now();
        // A few are of those who are there.
        while entries() > 8 {
            assert!(began.elapsed() < Duration::from_secs(10), "{} entries are left", entries());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

/// Has the kernel forget the neighbours behind eth1. `ip` gives up after ten rounds while others are asked for all the time.
fn flush(bed: &Bed) {
    let flushes =
        || bed.gateway.command("ip").args(["neigh", "flush", "dev", "eth1"]).output().unwrap().status.success();
    assert!((0..100).any(|_| flushes()), "neighbours that cannot be flushed");
}
