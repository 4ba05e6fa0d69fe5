use super::*;
use crate::adjacency::AdjacencyId;

fn bed() -> Network {
    let interface = |id, name: &str, address: &str, up| Interface {
        id: InterfaceId(id),
        name: name.into(),
        index: u32::from(id) + 1,
        mac: MacAddress([2, 0, 0, 0, 0, id as u8]),
        mtu: 1500,
        addresses: vec![address.parse().unwrap(), "fe80::1/64".parse().unwrap()],
        up,
        lowers: Lowers::default(),
    };
    let route = |to: &str, target, metric| Route { metric, ..Route::new(to.parse().unwrap(), target) };
    let out = |id, via: Option<&str>| RouteTarget::Out {
        interface: InterfaceId(id),
        via: via.map(|via| via.parse().unwrap()),
    };
    let routes = vec![
        route("0.0.0.0/0", out(0, Some("192.168.0.254")), 0),
        route("10.0.0.0/8", RouteTarget::Unlisted("wg0".into()), 0),
        route("10.1.0.0/16", out(1, Some("192.168.1.9")), 100),
        route("10.1.0.0/16", out(0, None), 200),
        route("10.1.2.0/24", RouteTarget::Nowhere, 0),
        route("10.9.0.0/16", out(2, None), 0),
    ];
    let interfaces = vec![
        interface(0, "a", "192.168.0.1/24", true),
        interface(1, "b", "192.168.1.1/24", true),
        interface(2, "c", "192.168.2.1/24", false),
    ];
    let neighbors = vec![
        (InterfaceId(1), "192.168.1.9".parse().unwrap(), MacAddress([6; 6])),
        (InterfaceId(9), "192.168.1.9".parse().unwrap(), MacAddress([7; 6])),
    ];
    Network::new(1, interfaces, routes, neighbors)
}

#[test]
fn the_longest_prefix_and_then_the_lowest_metric_wins() {
    let network = bed();
    let resolve = |address: &str| network.resolve(address.parse().unwrap());
    let adjacency = network.adjacency(resolve("10.1.1.1").unwrap()).unwrap();
    assert_eq!((adjacency.out, adjacency.destination_mac), (InterfaceId(1), MacAddress([6; 6])));
    assert_eq!(resolve("10.1.2.1"), Err(NoAdjacency::NoRoute));
    assert_eq!(resolve("10.2.0.1"), Err(NoAdjacency::NoInterface));
    let unlisted = |address: &str| network.unlisted(address.parse().unwrap());
    assert_eq!((unlisted("10.2.0.1"), unlisted("10.1.1.1"), unlisted("8.8.8.8")), (Some("wg0"), None, None));
    assert_eq!(resolve("10.9.0.1"), Err(NoAdjacency::InterfaceDown(InterfaceId(2))));
    assert_eq!(resolve("192.168.0.1"), Err(NoAdjacency::Local));
    let next_hop = "192.168.0.254".parse().unwrap();
    assert_eq!(resolve("8.8.8.8"), Err(NoAdjacency::Unresolved { interface: InterfaceId(0), next_hop, mtu: 1500 }));
    assert_eq!(resolve("2001:db8::1"), Err(NoAdjacency::NoRoute));
}

#[test]
fn nothing_leaves_by_an_interface_that_is_not_attached_though_it_is_up() {
    let endpoint: IpAddr = "10.1.1.1".parse().unwrap();
    let path = |interface, via: &str| {
        let via = Some(via.parse().unwrap());
        Path { interface: InterfaceId(interface), via, source: None, weight: 1 }
    };
    assert!(bed().resolve(endpoint).is_ok());
    let network = bed().with_unattached([InterfaceId(1)]);
    let down = Err(NoAdjacency::InterfaceDown(InterfaceId(1)));
    assert_eq!((network.resolve(endpoint), network.resolve_any(endpoint)), (down, down));
    assert_eq!(network.why_no_way(InterfaceId(1)), "to which Ringway is not attached");
    assert_eq!(network.why_no_way(InterfaceId(2)), "which is down");
    assert_eq!(network.next_hops(endpoint).count(), 1, "it is asked for all the same");
    // Of several paths the other is taken.
    let paths = RouteTarget::Paths(vec![path(0, "192.168.0.9"), path(1, "192.168.1.9")].into());
    let neighbors = [(0, "192.168.0.9"), (1, "192.168.1.9")];
    let neighbors = neighbors.map(|(id, hop)| (InterfaceId(id), hop.parse().unwrap(), MacAddress([id as u8 + 4; 6])));
    let several = Network::new(1, bed().interfaces, [Route::new("10.7.0.0/16".parse().unwrap(), paths)], neighbors);
    let several = several.with_unattached([InterfaceId(1)]);
    let endpoint: IpAddr = "10.7.0.1".parse().unwrap();
    let found = several.resolve_beside(&Heading::to(endpoint)).and_then(|id| several.adjacency(id)).unwrap();
    assert_eq!(found.out, InterfaceId(0));
    let any = several.resolve_any(endpoint).unwrap();
    assert_eq!(several.adjacency(any).unwrap().out, InterfaceId(0));
}

#[test]
fn the_source_is_in_the_next_hops_network_and_never_link_local() {
    let network = bed();
    assert_eq!(network.source_address("10.1.1.1".parse().unwrap()), Some("192.168.1.1".parse().unwrap()));
    assert_eq!(network.source_address("192.168.0.7".parse().unwrap()), Some("192.168.0.1".parse().unwrap()));
    assert_eq!(network.source_address("10.2.0.1".parse().unwrap()), None);
    assert!(network.is_broadcast("192.168.0.255".parse().unwrap()));
}

#[test]
fn the_source_is_the_one_that_linux_would_choose() {
    let interface = |id, index, addresses: &[&str]| Interface {
        id: InterfaceId(id),
        name: format!("eth{id}").into(),
        index,
        mac: MacAddress([2; 6]),
        mtu: 1500,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        up: true,
        lowers: Lowers::default(),
    };
    let interfaces = vec![
        interface(0, 9, &["198.51.100.1/24", "2001:db8::1/64"]),
        interface(1, 2, &["192.0.2.1/24", "192.0.2.2/24", "192.0.2.129/25", "2001:db8:1::1/64", "fd00:1::1/64"]),
        interface(2, 7, &["fe80::1/64"]),
    ];
    let route = |to: &str, id, via: Option<&str>| {
        let via = via.map(|via| via.parse().unwrap());
        Route::new(to.parse().unwrap(), RouteTarget::Out { interface: InterfaceId(id), via })
    };
    let routes = [
        route("10.1.0.0/16", 1, Some("192.0.2.9")),
        route("10.2.0.0/16", 1, Some("192.0.2.200")),
        route("10.3.0.0/16", 1, None),
        route("fd00:3::/32", 1, Some("fe80::9")),
        route("2001:db8:3::/48", 1, Some("fe80::9")),
        route("10.4.0.0/16", 2, None),
        route("fd00:4::/32", 2, None),
        route("2001:db8:4::/48", 2, None),
    ];
    let network = Network::new(1, interfaces, routes, []);
    let rows = [
        // Of several in the next hop's network the first.
        ("10.1.0.1", "192.0.2.1"),
        ("10.2.0.1", "192.0.2.1"),
        ("10.3.0.1", "192.0.2.1"),
        // Unique local addresses for unique local ones, whatever the order.
        ("fd00:3::1", "fd00:1::1"),
        ("2001:db8:3::1", "2001:db8:1::1"),
        // An interface without any: that of the lowest number in the kernel; over IPv6 the best.
        ("10.4.0.1", "192.0.2.1"),
        ("fd00:4::1", "fd00:1::1"),
        ("2001:db8:4::1", "2001:db8:1::1"),
    ];
    for (destination, source) in rows {
        let found = network.source_address(destination.parse().unwrap());
        assert_eq!(found, Some(source.parse().unwrap()), "{destination}");
    }
}

#[test]
fn next_hops_that_packets_left_by_are_told_once() {
    let network = bed();
    let id = network.resolve("10.1.1.1".parse().unwrap()).unwrap();
    assert!(network.adjacency(id).is_some());
    assert_eq!(network.take_used().count(), 0, "looked at only");
    assert_eq!(network.leave_by(id), network.adjacency(id));
    network.leave_by(id);
    let used: Vec<_> = network.take_used().collect();
    assert_eq!(used, [(InterfaceId(1), "192.168.1.9".parse().unwrap())]);
    assert_eq!(network.take_used().count(), 0);
    assert_eq!(network.leave_by(AdjacencyId(99)), None);
}

#[test]
fn next_hops_keep_their_numbers_and_free_ones_are_used_again() {
    let key = |last: u8| (InterfaceId(0), IpAddr::from([192, 168, 0, 10 + last]));
    let network = |known: &[u8], older: Option<&Network>| {
        let interfaces = bed().interfaces().to_vec();
        let neighbors = known.iter().map(|last| (InterfaceId(0), key(*last).1, MacAddress([*last; 6])));
        let mut network = Network::new(1, interfaces, [], neighbors);
        older.into_iter().for_each(|older| network.keep_numbers(older));
        network
    };
    let number = |network: &Network, last: u8| network.resolve(key(last).1).unwrap();
    let mut network_now = network(&[7, 8, 9], None);
    for known in [&[9u8, 8][..], &[5, 8, 9, 6], &[6], &[1, 2, 3, 6], &[3, 2, 1, 6, 7, 8, 9]] {
        let next = network(known, Some(&network_now));
        let mut numbers: Vec<u32> = known.iter().map(|last| number(&next, *last).0).collect();
        for last in known {
            let adjacency = next.adjacency(number(&next, *last)).unwrap();
            assert_eq!(adjacency.destination_mac, MacAddress([*last; 6]));
            if network_now.resolve(key(*last).1).is_ok() {
                assert_eq!(number(&next, *last), number(&network_now, *last), "{last}");
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), known.len());
        assert_eq!(next.adjacencies(), known.len());
        network_now = next;
    }
    assert!(network_now.hops.places() <= 7, "{}", network_now.hops.places());
}

#[test]
fn queues_of_an_interface_are_known_when_all_that_receive_for_it_agree() {
    use rss::{FieldsByPacket, HashedFields, RssSettings};
    let rss = |table: &[u32]| {
        let fields = FieldsByPacket::all(HashedFields::Addresses);
        let settings = RssSettings { key: vec![1; 40], table: table.to_vec(), fields };
        QueueChoice::Computed(Arc::new(Rss::new(settings).unwrap()))
    };
    let unknown = QueueChoice::Unknown("why".into());
    let choices = [(1, rss(&[0, 1])), (2, rss(&[0, 1])), (3, rss(&[1, 0])), (4, unknown)];
    let network = |devices: &[(u32, bool)]| {
        let lower = |&(index, receives): &(u32, bool)| Lower { index, name: "x".into(), receives, sends: true };
        let lowers = Lowers { devices: devices.iter().map(lower).collect(), vlan: None, ..Lowers::default() };
        let interface = Interface { lowers, ..bed().interfaces[0].clone() };
        Network::new(1, vec![interface], [], []).with_queue_choices(choices.to_vec())
    };
    let table = |devices: &[(u32, bool)]| network(devices).rss(InterfaceId(0)).map(|rss| rss.settings().table.clone());
    assert_eq!(table(&[(1, true)]), Some(vec![0, 1]));
    assert_eq!(table(&[(1, true), (2, true)]), Some(vec![0, 1]), "alike");
    assert_eq!(table(&[(1, true), (3, true)]), None);
    assert_eq!(table(&[(1, false), (3, true)]), Some(vec![1, 0]), "a backup member receives nothing");
    assert_eq!(table(&[(1, true), (4, true)]), None);
    assert_eq!(table(&[(1, true), (9, true)]), None);
    assert_eq!(table(&[(1, false)]), None);
    assert_eq!(table(&[]), None);
    assert_eq!(network(&[]).queue_choice(4), Some(&choices[3].1));
}
