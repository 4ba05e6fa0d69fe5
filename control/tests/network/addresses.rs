//! Which addresses are the machine's own, and which of them are the node's.

use std::net::IpAddr;
use std::time::Duration;

use crate::bed::{Bed, Watch, ip};

#[test]
fn an_address_on_any_interface_is_the_machines_own_while_it_is_there() {
    let Some(bed) = Bed::new() else { return };
    bed.watch_pattern("eth0", async |mut watch| {
        for (address, link) in [
            ("203.0.113.9/32", "lo"),
            ("203.0.113.10/32", "eth1"),
            ("203.0.113.11/32", "eth0"),
            ("2001:db8:9::1/128", "lo"),
            ("2001:db8:9::2/128", "eth1"),
        ] {
            let bare = ip(address.split('/').next().unwrap());
            assert!(!watch.now().is_local(bare));
            bed.gateway(&format!("address add {address} dev {link} nodad"));
            watch.until(address, |network| network.is_local(bare)).await;
            bed.gateway(&format!("address del {address} dev {link}"));
            watch.until(address, |network| !network.is_local(bare)).await;
        }
        // A whole network that is local.
        bed.gateway("route add local 198.51.100.0/24 dev lo");
        watch.until("AnyIP", |network| network.is_local(ip("198.51.100.77"))).await;
        assert!(!watch.now().is_local(ip("198.51.101.77")));
    });
}

/// Waits until the first addresses of both families are these.
async fn primaries(watch: &mut Watch, v4: Option<&str>, v6: Option<&str>) {
    let expected = [v4, v6].map(|address| address.map(ip));
    let first = |addresses: &[IpAddr]| {
        [true, false].map(|v4| addresses.iter().copied().find(|address| address.is_ipv4() == v4))
    };
    let wait = watch.watch.node_addresses.wait_for(|addresses| first(addresses) == expected);
    let found = tokio::time::timeout(Duration::from_secs(10), wait).await.map(|found| found.unwrap().to_vec());
    assert!(found.is_ok(), "not {expected:?} within 10 s: {:?}", watch.watch.node_addresses.borrow());
}

#[test]
fn the_primary_address_is_none_that_came_later_or_is_not_for_new_connections() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("route add default via 10.0.0.2");
    bed.gateway("-6 route add default via fd00:0::2");
    bed.gateway("address add fd00:0::99/128 dev eth0 nodad preferred_lft 0");
    bed.gateway("address add 10.0.0.50/24 dev eth0");
    bed.watch(async |mut watch| {
        primaries(&mut watch, Some("10.0.0.1"), Some("fd00:0::1")).await;
        // VIPs that somebody adds: seen, and not taken.
        bed.gateway("address add fd00:0::77/64 dev eth0 nodad");
        bed.gateway("address add 203.0.113.77/32 dev eth0");
        let all = ["10.0.0.50", "203.0.113.77", "fd00:0::77", "fd00:0::99"].map(ip);
        let seen = watch.watch.node_addresses.wait_for(|known| all.iter().all(|address| known.contains(address)));
        tokio::time::timeout(Duration::from_secs(10), seen).await.expect("within 10 s").unwrap();
        primaries(&mut watch, Some("10.0.0.1"), Some("fd00:0::1")).await;
        // It is not for new connections any more, and then it is again: the newer one stays.
        bed.gateway("address change fd00:0::1/64 dev eth0 preferred_lft 0");
        primaries(&mut watch, Some("10.0.0.1"), Some("fd00:0::77")).await;
        bed.gateway("address change fd00:0::1/64 dev eth0 preferred_lft forever");
        bed.gateway("address add fd00:0::78/64 dev eth0 nodad");
        let seen = watch.watch.node_addresses.wait_for(|known| known.contains(&ip("fd00:0::78")));
        tokio::time::timeout(Duration::from_secs(10), seen).await.expect("within 10 s").unwrap();
        primaries(&mut watch, Some("10.0.0.1"), Some("fd00:0::77")).await;
        bed.gateway("address del fd00:0::77/64 dev eth0");
        primaries(&mut watch, Some("10.0.0.1"), Some("fd00:0::1")).await;
    });
}
