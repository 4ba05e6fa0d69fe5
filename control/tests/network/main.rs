//! The network as the kernel has it, followed live, in network namespaces of the test's own. Needs root.

mod addresses;
mod bed;
mod lowers;
mod neighbors;
mod nic;
mod reverse_path;
mod routes;

use std::time::{Duration, Instant};

use ringway_shared::network::{NoAdjacency, RouteTarget};
use ringway_shared::{InterfaceId, MacAddress, Network};

use bed::{Bed, host, ip, ip_in, mac, out, target};

#[test]
fn interfaces_addresses_and_routes_are_there_from_the_start() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("route add 10.8.0.0/16 via 10.0.0.2 src 10.0.0.1");
    bed.gateway("route add 10.9.0.0/16 via inet6 fd00:1::2 dev eth1");
    bed.gateway("route add blackhole 10.7.0.0/16");
    bed.gateway("-6 route add 2001:db8::/32 nexthop via fd00:0::2 nexthop via fd00:1::2");
    bed.watch(async |watch| {
        let network = watch.now();
        let names: Vec<_> = network.interfaces().iter().map(|i| (&*i.name, i.up, i.mtu, i.mac.to_string())).collect();
        assert_eq!(
            names,
            [("eth0", true, 1500, "02:00:00:00:00:01".into()), ("eth1", true, 1500, "02:00:00:00:01:01".into())]
        );
        assert!(network.is_local(ip("10.1.0.1")) && network.is_broadcast(ip("10.1.0.255")));
        assert_eq!(target(&network, "10.0.0.9"), Some(out(0, None)));
        assert_eq!(target(&network, "fd00:1::9"), Some(out(1, None)));
        assert_eq!(target(&network, "10.8.0.1"), Some(out(0, Some("10.0.0.2"))));
        assert_eq!(network.source_address(ip("10.8.0.1")), Some(ip("10.0.0.1")));
        assert_eq!(target(&network, "10.9.0.1"), Some(out(1, Some("fd00:1::2"))));
        assert_eq!(target(&network, "10.7.0.1"), Some(RouteTarget::Nowhere));
        assert!(matches!(target(&network, "2001:db8::1"), Some(RouteTarget::Paths(_))));
        assert_eq!(target(&network, "127.0.0.1"), Some(RouteTarget::Local));
        assert_eq!(target(&network, "192.0.2.1"), None);
    });
}

#[test]
fn routes_are_followed_and_nothing_is_published_without_a_change() {
    let Some(bed) = Bed::new() else { return };
    bed.watch(async |mut watch| {
        bed.gateway("route add 10.8.0.0/16 via 10.0.0.2");
        let to = |network: &Network| target(network, "10.8.0.1");
        watch.until("the route", |network| to(network) == Some(out(0, Some("10.0.0.2")))).await;
        bed.gateway("route replace 10.8.0.0/16 via 10.1.0.2");
        let network = watch.until("the other way", |network| to(network) == Some(out(1, Some("10.1.0.2")))).await;
        // Something that concerns nobody: an address that has no part in the picture changes nothing.
        let generation = network.generation;
        bed.gateway("link set lo down");
        bed.gateway("link set lo up");
        bed.gateway("route del 10.8.0.0/16");
        watch.until("no route", |network| to(network).is_none()).await;
        bed.gateway("route add 10.8.0.0/16 dev eth0");
        let network = watch.until("on link", |network| to(network) == Some(out(0, None))).await;
        assert!(network.generation > generation);
        // Once everything is quiet nothing is published any more.
        let mut seen = watch.watch.latest.clone();
        while tokio::time::timeout(Duration::from_millis(500), seen.changed()).await.is_ok() {}
        bed.gateway("link set eth0 alias nothing");
        assert!(tokio::time::timeout(Duration::from_millis(300), seen.changed()).await.is_err());
    });
}

#[test]
fn an_interface_goes_down_and_up_and_is_made_again_under_the_same_number() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("route add 10.8.0.0/16 via 10.1.0.2");
    bed.watch(async |mut watch| {
        watch.keep(&["10.8.0.1", "fd00:1::2"]);
        watch.until("the neighbours", |n| mac(n, "10.8.0.1") == host(1) && mac(n, "fd00:1::2") == host(1)).await;
        bed.gateway("link set eth1 down");
        let down = watch.until("down", |network| !network.interfaces()[1].up).await;
        assert_eq!(down.resolve(ip("10.1.0.2")), Err(NoAdjacency::InterfaceDown(InterfaceId(1))));
        // IPv4 routes go with their link, and the kernel says nothing about it.
        watch.until("no route", |network| target(network, "10.8.0.1").is_none()).await;
        bed.gateway("link set eth1 up");
        bed.gateway("route add 10.8.0.0/16 via 10.1.0.2");
        watch.until("up again", |network| mac(network, "10.8.0.1") == host(1)).await;

        let index = watch.now().interfaces()[1].index;
        bed.gateway("link delete eth1");
        let gone = watch.until("gone", |network| network.interfaces()[1].index == 0).await;
        assert_eq!((gone.interfaces().len(), gone.interfaces()[1].up), (2, false));
        bed.add_link(1);
        let network = watch.until("made again", |network| mac(network, "fd00:1::2") == host(1)).await;
        let again = &network.interfaces()[1];
        assert_eq!((&*again.name, again.id, again.up), ("eth1", InterfaceId(1), true));
        assert_ne!(again.index, index);
    });
}

#[test]
fn interfaces_that_are_not_listed_carry_nothing_and_new_ones_are_attached() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("link set eth1 down");
    bed.gateway("link set eth1 name lan1");
    bed.gateway("link set lan1 up");
    bed.watch(async |mut watch| {
        let network = watch.until("lan1", |network| target(network, "10.1.0.2").is_some()).await;
        assert_eq!(network.interfaces().len(), 1);
        assert_eq!(network.resolve(ip("10.1.0.2")), Err(NoAdjacency::NoInterface));
        assert_eq!(network.unlisted(ip("10.1.0.2")), Some("lan1"));
        assert_eq!(network.resolve(ip("10.1.0.1")), Err(NoAdjacency::Local));
        bed.gateway("link set lan1 down");
        bed.gateway("link set lan1 name eth7");
        bed.gateway("link set eth7 up");
        watch.keep(&["10.1.0.2"]);
        let network = watch.until("eth7", |network| mac(network, "10.1.0.2") == host(1)).await;
        assert_eq!(&*network.interfaces()[1].name, "eth7");
    });
}

#[test]
fn neighbours_are_resolved_ahead_of_traffic_and_after_a_flush() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("route add 10.8.0.0/16 via 10.0.0.2");
    bed.watch(async |mut watch| {
        let hosts = ["10.8.0.1", "10.8.0.2", "10.1.0.2", "fd00:0::2"];
        assert!(hosts.iter().all(|host| mac(&watch.now(), host).is_none()));
        watch.keep(&hosts);
        let all = |network: &Network| {
            [("10.8.0.2", 0), ("10.1.0.2", 1), ("fd00:0::2", 0)]
                .iter()
                .all(|(at, link)| mac(network, at) == host(*link))
        };
        watch.until("all resolved", all).await;
        for _ in 0..3 {
            // Flushed while in use: from one moment to the next all of them are usable again, or still.
            let began = Instant::now();
            bed.gateway("neighbour flush all");
            tokio::time::sleep(Duration::from_millis(150)).await;
            watch.until("resolved again", all).await;
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        }
        // Another host takes over the address.
        ip_in(&bed.hosts[1], "link set uplink address 02:00:00:00:01:77");
        bed.gateway("neighbour flush dev eth1");
        let new = Some(MacAddress([2, 0, 0, 0, 1, 0x77]));
        watch.until("the new MAC address", |network| mac(network, "10.1.0.2") == new).await;
    });
}

#[test]
fn a_neighbour_that_does_not_answer_is_removed_and_comes_back() {
    let Some(bed) = Bed::new() else { return };
    for family in ["4", "6"] {
        // Faster than in life: confirmed every second, given up after three questions a tenth of a second apart.
        let set = |key: &str, value: u32| {
            bed.gateway.sysctl(&format!("net/ipv{family}/neigh/eth1/{key}"), &value.to_string()).unwrap();
        };
        set("base_reachable_time_ms", 500);
        set("delay_first_probe_time", 1);
        set("retrans_time_ms", 100);
    }
    bed.watch(async |mut watch| {
        watch.keep(&["10.1.0.2"]);
        watch.until("resolved", |network| mac(network, "10.1.0.2") == host(1)).await;
        // Silent: the link stays up, the address is gone.
        ip_in(&bed.hosts[1], "address del 10.1.0.2/24 dev uplink");
        let network = watch.until("removed", |network| mac(network, "10.1.0.2").is_none()).await;
        let next_hop = ip("10.1.0.2");
        let unresolved = NoAdjacency::Unresolved { interface: InterfaceId(1), next_hop, mtu: 1500 };
        assert_eq!(network.resolve(next_hop), Err(unresolved));
        ip_in(&bed.hosts[1], "address add 10.1.0.2/24 dev uplink");
        watch.until("back", |network| mac(network, "10.1.0.2") == host(1)).await;
    });
}

#[test]
fn workers_can_ask_for_a_neighbour() {
    let Some(bed) = Bed::new() else { return };
    bed.watch(async |mut watch| {
        watch.requests.ask(InterfaceId(1), ip("10.1.0.2"));
        watch.requests.ask(InterfaceId(0), ip("fd00:0::2"));
        // Nobody is there, and no such interface is: neither hurts.
        watch.requests.ask(InterfaceId(0), ip("10.0.0.99"));
        watch.requests.ask(InterfaceId(9), ip("10.0.0.99"));
        watch.until("resolved", |n| mac(n, "10.1.0.2") == host(1) && mac(n, "fd00:0::2") == host(0)).await;
        assert_eq!(watch.requests.next_question(), None);
    });
}

#[test]
fn a_storm_of_changes_ends_in_the_right_picture() {
    let Some(bed) = Bed::new() else { return };
    bed.watch(async |mut watch| {
        let batch = |word: &str, gateway: &str| {
            let lines: String = (0..4000)
                .map(|n| format!("route {word} 10.{}.{}.0/24 via {gateway}\n", 16 + n / 256, n % 256))
                .collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), lines).unwrap();
            bed.gateway(&format!("-batch {}", file.path().display()));
        };
        batch("add", "10.0.0.2");
        batch("replace", "10.1.0.2");
        let last = out(1, Some("10.1.0.2"));
        let network = watch
            .until("all routes", |network| {
                (0..4000).all(|n| target(network, &format!("10.{}.{}.1", 16 + n / 256, n % 256)) == Some(last.clone()))
            })
            .await;
        assert!(network.generation < 2000, "coalesced: {}", network.generation);
    });
}
