//! Which addresses are the machine's own, and which of them are the node's.

use std::net::IpAddr;
use std::time::Duration;

use crate::bed::{Bed, Watch, ip, ip_in, kernels_source};

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

/// What `ip` says about the gateway.
fn said(bed: &Bed, arguments: &str) -> String {
    let answer = bed.gateway.command("ip").args(arguments.split(' ')).output().unwrap();
    String::from_utf8(answer.stdout).unwrap()
}

/// Waits until `ip` says `word` about the gateway.
async fn until_said(bed: &Bed, arguments: &str, word: &str) {
    let wait = async {
        while !said(bed, arguments).contains(word) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| {
        panic!("not within 20 s: {word:?} of ip {arguments}: {}", said(bed, arguments));
    });
}

#[test]
fn an_address_that_may_be_somebody_elses_is_neither_primary_nor_a_source() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("-6 route add default via fd00:0::2");
    bed.gateway("address del fd00:0::1/64 dev eth0");
    bed.gateway("-6 route add fd00:0::/64 dev eth0");
    for name in ["all", "eth0"] {
        bed.gateway.sysctl(&format!("net/ipv6/conf/{name}/accept_dad"), "1").unwrap();
    }
    // The host has it already: the kernel finds that out, and the address stays tentative.
    ip_in(&bed.hosts[0], "address add fd00:0::55/64 dev uplink");
    bed.watch(async |mut watch| {
        bed.gateway("address add fd00:0::55/64 dev eth0");
        until_said(&bed, "-6 address show dev eth0", "dadfailed").await;
        // A change that comes after it: what is known then knows of it.
        bed.gateway("address add 203.0.113.1/32 dev lo");
        let network = watch.until("a later address", |network| network.is_local(ip("203.0.113.1"))).await;
        assert!(!network.is_local(ip("fd00:0::55")));
        assert_eq!(network.source_address(ip("fd00:0::2")), Some(kernels_source(&bed, "fd00:0::2")));
        assert_ne!(network.source_address(ip("fd00:0::2")), Some(ip("fd00:0::55")));
        primaries(&mut watch, Some("10.0.0.1"), None).await;
        // Nobody has this one: it is used once that is known, and not before.
        bed.gateway("address add fd00:0::56/64 dev eth0");
        primaries(&mut watch, Some("10.0.0.1"), Some("fd00:0::56")).await;
        assert!(!said(&bed, "-6 address show to fd00:0::56").contains("tentative"));
        watch.until("a source", |network| network.source_address(ip("fd00:0::2")) == Some(ip("fd00:0::56"))).await;
    });
}

#[test]
fn a_temporary_address_is_a_source_where_the_kernel_prefers_it_and_never_primary() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("-6 route add default via fd00:1::2 dev eth1");
    bed.gateway("address del fd00:1::1/64 dev eth1");
    bed.gateway("-6 route add fd00:1::/64 dev eth1");
    bed.gateway.sysctl("net/ipv6/conf/eth1/use_tempaddr", "2").unwrap();
    bed.gateway("address add 2001:db8:5::1/64 dev eth1 valid_lft 700000 preferred_lft 100000 mngtmpaddr");
    // Twice: as it is found at the start, and as it comes.
    for _ in 0..2 {
        bed.watch(async |mut watch| {
            until_said(&bed, "-6 address show dev eth1", "temporary").await;
            primaries(&mut watch, Some("10.1.0.1"), Some("2001:db8:5::1")).await;
            let source = kernels_source(&bed, "2001:db8:5::9");
            assert_ne!(source, ip("2001:db8:5::1"), "the kernel prefers the temporary one");
            for endpoint in ["2001:db8:5::9", "2001:db8:6::9"] {
                let expected = Some(kernels_source(&bed, endpoint));
                watch.until(endpoint, |network| network.source_address(ip(endpoint)) == expected).await;
            }
            primaries(&mut watch, Some("10.1.0.1"), Some("2001:db8:5::1")).await;
            bed.gateway("address del 2001:db8:5::1/64 dev eth1");
            primaries(&mut watch, Some("10.1.0.1"), None).await;
            bed.gateway("address add 2001:db8:5::1/64 dev eth1 valid_lft 700000 preferred_lft 100000 mngtmpaddr");
            until_said(&bed, "-6 address show dev eth1", "temporary").await;
            primaries(&mut watch, Some("10.1.0.1"), Some("2001:db8:5::1")).await;
        });
    }
}
