//! Ways are what the kernel answers: policy rules, several tables, next hop objects, several next hops, source addresses.

use std::collections::HashSet;
use std::net::IpAddr;

use ringway_shared::network::{Heading, RouteTarget};
use ringway_shared::{InterfaceId, Network};

use crate::bed::{Bed, Watch, ip, kernels_source, out, target};

/// Where a packet goes that came from `source` by an interface.
fn seen(network: &Network, destination: &str, source: Option<&str>, arrived: Option<u16>) -> Option<RouteTarget> {
    let arrived = arrived.map(InterfaceId);
    let heading = Heading { source: source.map(ip), arrived, ..Heading::to(ip(destination)) };
    network.route_of(&heading).map(|route| route.target.clone())
}

/// The next hops of a route, each once for as many times as it weighs.
fn hops(network: &Network, destination: &str) -> Vec<IpAddr> {
    match network.route(ip(destination)).map(|route| &route.target) {
        Some(RouteTarget::Paths(paths)) => {
            let mut hops: Vec<IpAddr> =
                paths.iter().flat_map(|path| vec![path.via.unwrap(); usize::from(path.weight)]).collect();
            hops.sort_unstable();
            hops
        }
        Some(RouteTarget::Out { via, .. }) => via.iter().copied().collect(),
        _ => Vec::new(),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

fn forward(bed: &Bed) {
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        bed.gateway.sysctl(&format!("net/{key}"), "1").unwrap();
    }
    for name in ["all", "eth0", "eth1"] {
        bed.gateway.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0").unwrap();
    }
}

#[test]
fn a_rule_for_all_puts_another_table_before_main() {
    let Some(bed) = Bed::new() else { return };
    bed.watch(async |mut watch| {
        assert_eq!(target(&watch.now(), "192.0.2.1"), None);
        for (ip6, to, via) in [("", "192.0.2.1", "10.1.0.2"), ("-6 ", "2001:db8::1", "fd00:1::2")] {
            bed.gateway(&format!("{ip6}route add default via {via} table 100"));
            bed.gateway(&format!("{ip6}rule add pref 1000 lookup 100"));
            watch.until("the table", |network| target(network, to) == Some(out(1, Some(via)))).await;
            // What the kernel does with its own networks then, so do we.
            bed.gateway(&format!("{ip6}rule del pref 1000"));
            bed.gateway(&format!("{ip6}rule add pref 40000 lookup 100"));
            let near = if ip6.is_empty() { "10.0.0.9" } else { "fd00:0::9" };
            watch
                .until("after main", |network| {
                    target(network, to) == Some(out(1, Some(via))) && target(network, near) == Some(out(0, None))
                })
                .await;
            bed.gateway(&format!("{ip6}rule del pref 40000"));
            watch.until("none", |network| target(network, to).is_none_or(|to| to == RouteTarget::Nowhere)).await;
        }
    });
}

#[test]
fn rules_by_source_and_by_interface_are_followed() {
    let Some(bed) = Bed::new() else { return };
    forward(&bed);
    bed.watch(async |mut watch| {
        for (ip6, to, via, vips, vip, other) in [
            ("", "192.0.2.1", "10.1.0.2", "198.51.100.0/24", "198.51.100.7", "203.0.113.9"),
            ("-6 ", "2001:db8::1", "fd00:1::2", "2001:db8:7::/48", "2001:db8:7::7", "2001:db8:9::9"),
        ] {
            bed.gateway(&format!("{ip6}route add default via {via} table 100"));
            bed.gateway(&format!("{ip6}rule add pref 1000 from {vips} lookup 100"));
            let by_table = Some(out(1, Some(via)));
            watch.until("from the VIP", |network| seen(network, to, Some(vip), Some(0)) == by_table).await;
            let network = watch.now();
            let none = |found: Option<RouteTarget>| found.is_none_or(|target| target == RouteTarget::Nowhere);
            assert!(none(seen(&network, to, Some(other), Some(0))) && none(seen(&network, to, None, None)));
            assert_eq!(network.overlooked().len(), 0, "{:?}", network.overlooked());
            bed.gateway(&format!("{ip6}rule del pref 1000"));
            bed.gateway(&format!("{ip6}rule add pref 1000 iif eth0 lookup 100"));
            watch
                .until("by the interface", |network| {
                    seen(network, to, Some(other), Some(0)) == by_table && none(seen(network, to, Some(other), Some(1)))
                })
                .await;
            bed.gateway(&format!("{ip6}rule del pref 1000"));
            watch.until("none", |network| none(seen(network, to, Some(other), Some(0)))).await;
        }
    });
}

#[test]
fn rules_that_cannot_be_followed_are_told() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("rule add pref 1000 fwmark 7 lookup 100");
    bed.gateway("-6 rule add pref 1001 ipproto tcp dport 80 lookup 100");
    bed.watch(async |mut watch| {
        let told = |network: &Network| network.overlooked().join("\n");
        let said = told(&watch.now());
        assert!(
            said.contains(
                "IPv4 policy rule \"1000: from all fwmark 0x7 lookup 100\" is not followed: it asks for a mark"
            )
        );
        assert!(
            said.contains("IPv6 policy rule \"1001: ") && said.contains("its destination port and its protocol"),
            "{said}"
        );
        bed.gateway("rule del pref 1000");
        bed.gateway("-6 rule del pref 1001");
        watch.until("nothing to tell", |network| network.overlooked().is_empty()).await;
        // The kernel answers about packets of others only where it would forward them.
        for name in ["all", "eth0", "eth1"] {
            bed.gateway.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "1").unwrap();
        }
        bed.gateway("route add default via 10.1.0.2 table 100");
        bed.gateway("rule add pref 1000 from 198.51.100.0/24 lookup 100");
        watch.until("a word", |network| told(network).contains("for packets from 198.51.100.0/24")).await;
        assert_eq!(seen(&watch.now(), "10.1.0.9", Some("198.51.100.7"), Some(0)), Some(out(1, None)), "as for others");
    });
}

#[test]
fn next_hop_objects_are_followed_whatever_the_kernel_tells_of_them() {
    let Some(bed) = Bed::new() else { return };
    for compatible in ["1", "0"] {
        bed.gateway.sysctl("net/ipv4/nexthop_compat_mode", compatible).unwrap();
        bed.watch(async |mut watch| {
            bed.gateway("nexthop add id 1 via 10.0.0.2 dev eth0");
            bed.gateway("nexthop add id 2 via 10.1.0.2 dev eth1");
            bed.gateway("nexthop add id 10 group 1/2,2");
            bed.gateway("route add 192.0.2.0/24 nhid 1");
            bed.gateway("route add 198.51.100.0/24 nhid 10");
            bed.gateway("nexthop add id 3 via fd00:1::2 dev eth1");
            bed.gateway("-6 route add 2001:db8::/32 nhid 3");
            let to = |network: &Network, address: &str| target(network, address);
            watch.until("one", |network| to(network, "192.0.2.1") == Some(out(0, Some("10.0.0.2")))).await;
            watch.until("IPv6", |network| to(network, "2001:db8::1") == Some(out(1, Some("fd00:1::2")))).await;
            let group = ips(&["10.0.0.2", "10.1.0.2", "10.1.0.2"]);
            watch.until("a group", |network| hops(network, "198.51.100.1") == group).await;
            // The routes stay as they are, and lead elsewhere.
            bed.gateway("nexthop replace id 1 via 10.0.0.3 dev eth0");
            watch.until("replaced", |network| to(network, "192.0.2.1") == Some(out(0, Some("10.0.0.3")))).await;
            bed.gateway("nexthop replace id 10 group 2");
            watch.until("a smaller group", |network| hops(network, "198.51.100.1") == ips(&["10.1.0.2"])).await;
            for id in [10, 1, 2, 3] {
                bed.gateway(&format!("nexthop del id {id}"));
            }
            watch.until("gone", |network| to(network, "192.0.2.1").is_none()).await;
        });
    }
}

#[test]
fn all_ways_of_a_route_are_used_and_resolved() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("route add 192.0.2.0/24 nexthop via 10.0.0.2 weight 2 nexthop via 10.1.0.2");
    bed.gateway("-6 route add 2001:db8::/32 nexthop via fd00:0::2 nexthop via fd00:1::2");
    bed.watch(async |mut watch| {
        assert_eq!(hops(&watch.now(), "192.0.2.9"), ips(&["10.0.0.2", "10.0.0.2", "10.1.0.2"]));
        watch.keep(&["192.0.2.9", "2001:db8::9"]);
        for (to, sources) in [("192.0.2.9", ["10.0.0.1", "10.1.0.1"]), ("2001:db8::9", ["fd00:0::1", "fd00:1::1"])] {
            let all = |network: &Network| {
                let headings = (0..64u64).map(|n| Heading { hash: n.wrapping_mul(0x9e37_79b9), ..Heading::to(ip(to)) });
                let found: HashSet<_> = headings.map(|heading| network.resolve_for(&heading).ok()).collect();
                found.len() == 2 && !found.contains(&None)
            };
            let network = watch.until("both neighbours", all).await;
            assert_eq!(network.source_addresses(ip(to)), ips(&sources), "each way has its own");
        }
        // A way that went is not used; numbers of the other stay.
        let before = watch.now();
        bed.gateway("link set eth1 down");
        let one = |network: &Network| hops(network, "192.0.2.9") == ips(&["10.0.0.2"]);
        let after = watch.until("one way", one).await;
        assert_eq!(after.resolve(ip("10.0.0.2")), before.resolve(ip("10.0.0.2")));
    });
}

#[test]
fn a_route_that_carries_less_says_so_whatever_its_ways() {
    let Some(bed) = Bed::new() else { return };
    forward(&bed);
    for (number, via) in [(7, "10.0.0.2"), (8, "10.1.0.2")] {
        bed.gateway(&format!("nexthop add id {number} via {via} dev eth{}", number - 7));
    }
    bed.gateway("nexthop add id 9 group 7/8");
    bed.watch(async |mut watch| {
        watch.keep(&["10.0.0.2", "10.1.0.2", "fd00:0::2", "fd00:1::2"]);
        let carries = |network: &Network, to: &str, hash: u64| {
            let id = network.resolve_for(&Heading { hash, ..Heading::to(ip(to)) }).ok()?;
            Some(network.adjacency(id)?.mtu)
        };
        for (command, to, mtu) in [
            ("route add 192.0.2.0/24 via 10.1.0.2 mtu 1280", "192.0.2.1", 1280),
            ("route change 192.0.2.0/24 via 10.1.0.2 mtu lock 1300", "192.0.2.1", 1300),
            ("route change 192.0.2.0/24 via 10.1.0.2", "192.0.2.1", 1500),
            ("route replace 192.0.2.0/24 nhid 9 mtu 1310", "192.0.2.1", 1310),
            ("route replace 192.0.2.0/24 mtu 1320 nexthop via 10.0.0.2 nexthop via 10.1.0.2", "192.0.2.1", 1320),
            ("route change 10.1.0.0/24 dev eth1 proto kernel scope link src 10.1.0.1 mtu 1330", "10.1.0.2", 1330),
            ("-6 route add 2001:db8::/32 via fd00:1::2 mtu 1280", "2001:db8::1", 1280),
            (
                "-6 route replace 2001:db8::/32 mtu lock 1340 nexthop via fd00:0::2 nexthop via fd00:1::2",
                "2001:db8::1",
                1340,
            ),
            ("-6 route add default via fd00:1::2 mtu 1350 table 100", "2001:db8::1", 1340),
            ("-6 rule add pref 1000 lookup 100", "2001:db8::1", 1350),
            ("link set eth1 mtu 1290", "10.1.0.2", 1290),
        ] {
            bed.gateway(command);
            watch.until(command, |network| (0..32).all(|hash| carries(network, to, hash) == Some(mtu))).await;
        }
    });
}

/// Waits until the source towards `endpoint` is what `ip route get` says it is.
async fn source(watch: &mut Watch, endpoint: &str, expected: &str) {
    let what = format!("{expected} towards {endpoint}");
    watch.until(&what, |network| network.source_address(ip(endpoint)) == Some(ip(expected))).await;
}

#[test]
fn sources_are_those_that_the_kernel_chooses() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("route add 192.0.2.0/24 via 10.1.0.2");
    bed.gateway("-6 route add 2001:db8::/32 via fd00:1::2");
    bed.watch(async |mut watch| {
        source(&mut watch, "192.0.2.1", "10.1.0.1").await;
        source(&mut watch, "2001:db8::1", "fd00:1::1").await;
        source(&mut watch, "fd00:1::2", "fd00:1::1").await;
        // More bits in common, and not for new connections: another one first, whatever its place.
        bed.gateway("address add fd00:1::3/128 dev eth1 nodad preferred_lft 0");
        bed.gateway("address add 2001:db8:1::1/64 dev eth1 nodad");
        source(&mut watch, "2001:db8::1", "2001:db8:1::1").await;
        source(&mut watch, "fd00:1::2", "fd00:1::1").await;
        bed.gateway("address change fd00:1::3/128 dev eth1 preferred_lft forever");
        source(&mut watch, "fd00:1::2", "fd00:1::3").await;
        source(&mut watch, "fd00:1::9", "fd00:1::3").await;
        // Of one prefix, by what each destination has in common with whom.
        bed.gateway("address add 2001:db8:8000::1/64 dev eth1 nodad");
        source(&mut watch, "2001:db8:8000::7", "2001:db8:8000::1").await;
        source(&mut watch, "2001:db8:9000::7", "2001:db8:8000::1").await;
        source(&mut watch, "2001:db8:1::7", "2001:db8:1::1").await;
        source(&mut watch, "2001:db8:7000::7", "2001:db8:1::1").await;
        // The link has only deprecated ones, another interface has a good one.
        for address in ["fd00:1::3/128", "2001:db8:1::1/64", "2001:db8:8000::1/64", "fd00:1::1/64"] {
            bed.gateway(&format!("address change {address} dev eth1 preferred_lft 0"));
        }
        source(&mut watch, "fd00:1::2", "fd00:0::1").await;
        // A preferred source of the route comes before all that.
        bed.gateway("-6 route replace 2001:db8::/32 via fd00:1::2 src fd00:1::1");
        source(&mut watch, "2001:db8::1", "fd00:1::1").await;
    });
}

#[test]
fn labels_of_prefixes_decide_as_in_the_kernel() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("-6 route add 2000::/3 via fd00:1::2");
    for address in ["2001:db8:1::1/64", "2001:db8:8::1/64"] {
        bed.gateway(&format!("address add {address} dev eth1 nodad"));
    }
    let endpoints = ["2001:db8:1::7", "2001:db8:9::7", "2a00:1:1::7", "2a00:1:2::7", "2a00:2::7"];
    bed.watch(async |mut watch| {
        let mut answers = HashSet::new();
        // With a label that one address has, too, others give way, whatever the bits in common; then it is taken back.
        for command in [
            "",
            "addrlabel add prefix 2001:db8:1::/48 label 77",
            "addrlabel add prefix 2a00:1:2::/48 label 77",
            "addrlabel add prefix 2001:db8:9::/48 label 77",
            "addrlabel del prefix 2001:db8:1::/48 label 77",
        ] {
            if !command.is_empty() {
                bed.gateway(&format!("-6 {command}"));
            }
            let expected = endpoints.map(|endpoint| Some(kernels_source(&bed, endpoint)));
            let ours = |network: &Network| endpoints.map(|endpoint| network.source_address(ip(endpoint))) == expected;
            watch.until(&format!("{expected:?} after {command:?}"), ours).await;
            answers.insert(expected);
        }
        assert!(answers.len() > 2, "labels make a difference: {answers:?}");
    });
}

#[test]
fn ten_thousand_endpoints_behind_five_hundred_next_hops_are_known() {
    let Some(bed) = Bed::new() else { return };
    let lines: String = (0..500)
        .map(|n| format!("route add 10.{}.{}.0/24 via 10.0.{}.{}\n", 16 + n / 256, n % 256, n / 250, 3 + n % 250))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    bed.gateway("address add 10.0.0.1/16 dev eth0");
    bed.gateway(&format!("-batch {}", file.path().display()));
    bed.watch(async |watch| {
        let network = watch.now();
        let endpoints: Vec<IpAddr> = (0..10_000u32)
            .map(|n| ip(&format!("10.{}.{}.{}", 16 + n % 500 / 256, n % 500 % 256, 1 + n / 500)))
            .collect();
        let hops: HashSet<_> = endpoints.iter().flat_map(|endpoint| network.next_hops(*endpoint)).collect();
        assert_eq!(hops.len(), 500);
        assert!(endpoints.iter().all(|endpoint| network.source_address(*endpoint) == Some(ip("10.0.0.1"))));
    });
}
