//! Routes with several ways, and routes that depend on where a packet comes from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ringway_dataplane::io::memory::MemoryWorker;
use ringway_shared::network::{Path, Perspective, Route, RouteTarget};
use ringway_shared::{Family, InterfaceId, MacAddress, Network, Snapshot};

use crate::bed::text::frame;
use crate::bed::{INSIDE, Neighbors, OUTSIDE, ms, neighbor_mac, network, worker};
use crate::town::town;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The town's network, but pods and clients are behind routers: pods behind 10.0.9.N for each N of `hops`.
fn routed(generation: u32, hops: &[u8], older: Option<&Network>) -> Network {
    let plain = network(generation, Neighbors::None);
    let path = |last: &u8| Path {
        interface: INSIDE,
        via: Some(IpAddr::from([10, 0, 9, *last])),
        source: Some(ip("10.0.255.254")),
        weight: 1,
    };
    let paths: Vec<Path> = hops.iter().map(path).collect();
    let pods = Route::new("10.0.1.0/24".parse().unwrap(), RouteTarget::Paths(paths.into()));
    let known = (1..=9u8).map(|last| (INSIDE, IpAddr::from([10, 0, 9, last])));
    let routers = ["192.168.0.254", "192.168.0.77"].map(|router| (OUTSIDE, ip(router)));
    let known = known.chain(routers).map(|(out, address)| (out, address, neighbor_mac(out, address)));
    let routes = plain.routes().cloned().chain([pods]);
    let mut network = Network::new(generation, plain.interfaces().to_vec(), routes, known);
    if let Some(older) = older {
        network.keep_numbers(older);
    }
    network
}

/// Where a packet leaves to.
fn leaves(worker: &mut MemoryWorker, arrives: InterfaceId, text: &str, snapshot: &Snapshot) -> MacAddress {
    let tag = worker.collector.fates.len() as u64;
    assert!(worker.run(&frame(arrives, text), arrives, tag, snapshot, ms(1)));
    let sent = worker.collector.sent.iter().find(|sent| sent.tag == tag).expect("it left");
    MacAddress(sent.bytes[..6].try_into().unwrap())
}

#[test]
fn flows_use_all_ways_and_each_keeps_its_own_while_it_is_there() {
    let bed = town();
    let mut worker = worker(&bed.settings);
    let with = |network: &Network| Snapshot { network: Arc::new(network.clone()), ..bed.snapshot("start").clone() };
    let three = routed(11, &[1, 2, 3], None);
    // One goes and another comes, in another order.
    let other = routed(12, &[4, 3, 2], Some(&three));
    let back = routed(13, &[1, 2, 3, 4], Some(&other));
    let [three, other, back] = [&three, &other, &back].map(with);
    let mut ways: BTreeMap<u16, u8> = BTreeMap::new();
    let packet = |port: u16, flags: &str| format!("tcp {flags} 203.0.113.9:{port} > 172.30.0.41:80");
    for port in 40_000..40_060 {
        let first = leaves(&mut worker, OUTSIDE, &packet(port, "S"), &three);
        assert_eq!(leaves(&mut worker, OUTSIDE, &packet(port, "S"), &three), first);
        ways.insert(port, first.0[5]);
    }
    let count = |ways: &BTreeMap<u16, u8>, last| ways.values().filter(|way| **way == last).count();
    assert!([1, 2, 3].iter().all(|last| count(&ways, *last) >= 8), "{ways:?}");
    for (port, way) in &mut ways {
        let now = leaves(&mut worker, OUTSIDE, &packet(*port, "S"), &other).0[5];
        assert!(if *way == 1 { [2, 3, 4].contains(&now) } else { now == *way }, "{port}: {way}, then {now}");
        *way = now;
    }
    assert!(count(&ways, 4) > 0, "{ways:?}");
    for (port, way) in &ways {
        assert_eq!(leaves(&mut worker, OUTSIDE, &packet(*port, "S"), &back).0[5], *way, "{port}");
    }
}

#[test]
fn answers_go_by_the_table_of_the_interface_that_they_came_by_and_of_the_vip() {
    let bed = town();
    let clients = |via: &str| {
        let target = RouteTarget::Out { interface: OUTSIDE, via: Some(ip(via)) };
        Route::new("203.0.113.0/24".parse().unwrap(), target)
    };
    for (arrived, from, via) in [
        (Some(INSIDE), None, "192.168.0.77"),
        (None, Some("172.30.0.0/24"), "192.168.0.77"),
        (Some(INSIDE), Some("172.30.0.0/24"), "192.168.0.77"),
        (Some(OUTSIDE), None, "192.168.0.254"),
        (None, Some("203.0.113.0/24"), "192.168.0.254"),
    ] {
        let mut worker = worker(&bed.settings);
        let from = from.map(|net: &str| net.parse().unwrap());
        let perspective =
            Perspective { family: Family::V4, arrived, from, routes: vec![clients("192.168.0.77"), pods()] };
        let network = routed(11, &[1], None).with_answers(vec![perspective], Arc::from([]));
        let snapshot = Snapshot { network: Arc::new(network), ..bed.snapshot("start").clone() };
        leaves(&mut worker, OUTSIDE, "tcp S 203.0.113.9:40000 > 172.30.0.41:80", &snapshot);
        let opened = &worker.collector.sent.last().unwrap().bytes;
        // Ethernet and IPv4 without options come before the ports.
        let port = u16::from_be_bytes(opened[34..36].try_into().unwrap());
        let endpoint = format!("{}.{}.{}.{}:8080", opened[30], opened[31], opened[32], opened[33]);
        let answer = format!("tcp SA {endpoint} > 10.0.255.254:{port} ack=1001");
        let left = leaves(&mut worker, INSIDE, &answer, &snapshot);
        assert_eq!(left, router(via), "{arrived:?} {from:?}");
    }
}

fn pods() -> Route {
    let path = Path { interface: INSIDE, via: Some(ip("10.0.9.1")), source: Some(ip("10.0.255.254")), weight: 1 };
    Route::new("10.0.1.0/24".parse().unwrap(), RouteTarget::Paths([path].into()))
}

fn router(address: &str) -> MacAddress {
    neighbor_mac(OUTSIDE, ip(address))
}
