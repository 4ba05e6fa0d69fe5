//! Which devices carry an interface, followed live. Bonds and VLAN devices take modules that not every kernel has: see the
//! scenarios `bond` and `vlan` of the virtual machines.

use ringway_shared::Network;
use ringway_shared::network::NoAdjacency;

use crate::bed::{Bed, ip, ip_in};

/// The names of the devices that carry the first interface and are in use.
fn carriers(network: &Network) -> Vec<&str> {
    let devices = network.interfaces().first().map(|interface| &interface.lowers.devices);
    let used = devices.into_iter().flat_map(|all| &**all).filter(|lower| lower.receives && lower.sends);
    used.map(|lower| &*lower.name).collect()
}

#[test]
fn a_bridge_is_carried_by_its_only_port_and_by_itself_while_it_has_more() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("link add br0 type bridge");
    bed.gateway("link set br0 up");
    bed.watch_pattern("br*", async |mut watch| {
        let network = watch.now();
        assert_eq!(carriers(&network), ["br0"]);
        assert!(network.interfaces()[0].lowers.notes[0].contains("without ports"));
        bed.gateway("link set eth0 master br0");
        watch.until("the only port", |network| carriers(network) == ["eth0"]).await;
        bed.gateway("link set eth1 master br0");
        let network = watch.until("two ports", |network| carriers(network) == ["br0"]).await;
        assert!(network.interfaces()[0].lowers.notes[0].contains("2 ports"));
        bed.gateway("link set eth0 nomaster");
        let network = watch.until("the other port", |network| carriers(network) == ["eth1"]).await;
        assert!(network.interfaces()[0].lowers.notes.is_empty());
    });
}

#[test]
fn a_glob_lets_go_of_what_becomes_a_port_and_a_name_says_why() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("link add br0 type bridge");
    bed.watch(async |mut watch| {
        bed.gateway("link set eth1 master br0");
        watch.until("eth1 is gone", |network| network.interfaces()[1].index == 0).await;
        bed.gateway("link set eth1 nomaster");
        watch.until("eth1 is back", |network| network.interfaces()[1].index != 0).await;
    });
    bed.watch_pattern("eth1", async |mut watch| {
        bed.gateway("link set eth1 master br0");
        let network = watch.until("nothing carries it", |network| carriers(network).is_empty()).await;
        let eth1 = &network.interfaces()[0];
        assert!(eth1.index != 0 && !eth1.up);
        assert!(eth1.lowers.notes[0].starts_with("is a port of the bridge br0"), "{:?}", eth1.lowers.notes);
    });
}

#[test]
fn what_changes_about_links_alone_does_not_wait_for_the_tables() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("route add 10.8.0.0/16 via 10.1.0.2");
    bed.watch(async |mut watch| {
        // The kernel takes the route away in the same moment, of which only a reading of the routes tells.
        bed.gateway("link set eth1 down");
        let down = watch.until("down", |network| !network.interfaces()[1].up).await;
        assert_eq!(down.resolve(ip("10.8.0.1")), Err(NoAdjacency::InterfaceDown(ringway_shared::InterfaceId(1))));
        watch.until("no route", |network| network.resolve(ip("10.8.0.1")) == Err(NoAdjacency::NoRoute)).await;
    });
}

#[test]
fn a_runtime_that_is_busy_keeps_nobody_from_hearing_of_a_link() {
    let Some(bed) = Bed::new() else { return };
    bed.watch(async |watch| {
        assert!(watch.now().interfaces()[0].up);
        ip_in(&bed.hosts[0], "link set uplink down");
        // Nothing is awaited here: the runtime has no turn.
        let start = std::time::Instant::now();
        while watch.now().interfaces()[0].up {
            assert!(start.elapsed().as_secs() < 10, "eth0 is down, and nobody looked");
            std::thread::yield_now();
        }
    });
}
