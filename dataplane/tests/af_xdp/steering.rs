//! Steering: what is ours comes to the socket, all else to the kernel untouched.

use std::collections::HashSet;
use std::net::UdpSocket;
use std::time::Duration;

use ringway_dataplane::af_xdp::program::{AttachedMode, SteeringEntry, SteeringProgram, XdpMode};
use ringway_dataplane::af_xdp::{Device, Umem};
use ringway_dataplane::io::Port;
use ringway_shared::{FiveTuple, Frontend, Protocol};

use crate::packets::{echo, insert, syn, udp, with};
use crate::veth::{Bed, OTHER_MAC, Worker, open_port, options, umem, until};

pub(crate) fn frontend(protocol: Protocol, address: &str, port: u16) -> Frontend {
    Frontend { address: address.parse().unwrap(), protocol, port }
}

/// A VIP of each family, a NodePort, SNAT ports, an endpoint of each family, and a service CIDR of each family.
pub(crate) fn entries() -> Vec<SteeringEntry> {
    vec![
        SteeringEntry::Vip("10.99.0.1".parse().unwrap()),
        SteeringEntry::Vip("fd99::1".parse().unwrap()),
        SteeringEntry::Frontend(frontend(Protocol::Tcp, "10.77.0.1", 30080)),
        SteeringEntry::Frontend(frontend(Protocol::Udp, "fd77:0::1", 30053)),
        SteeringEntry::Snat("10.77.0.1".parse().unwrap()),
        SteeringEntry::Endpoint(frontend(Protocol::Udp, "10.77.0.2", 53)),
        SteeringEntry::MasqueradedEndpoint(frontend(Protocol::Udp, "10.77.0.2", 7)),
        SteeringEntry::MasqueradedEndpoint(frontend(Protocol::Tcp, "10.77.0.2", 7)),
        SteeringEntry::Endpoint(frontend(Protocol::Tcp, "fd77:0::2", 80)),
        SteeringEntry::ServiceCidr("172.30.0.0/16".parse().unwrap()),
        SteeringEntry::ServiceCidr("fd30::/112".parse().unwrap()),
    ]
}

/// An IPv6 packet with extension headers between the IPv6 header and the rest.
pub(crate) fn extended(packet: &[u8], first: u8, headers: &[u8]) -> Vec<u8> {
    let mut packet = insert(packet, 54, headers);
    packet[20] = first;
    let length = (packet.len() - 54) as u16;
    with(&packet, 18, &length.to_be_bytes())
}

/// Name, packet, whether it comes up.
fn rows() -> Vec<(&'static str, Vec<u8>, bool)> {
    let to = |destination: &str| udp("10.77.0.2:1000", destination, b"x");
    let to6 = |destination: &str| udp("[fd77:0::2]:1000", destination, b"x");
    let reply = |destination: &str| udp("10.77.0.2:7", destination, b"x");
    let vip = to("10.99.0.1:80");
    let node = syn("10.77.0.2:1000", "10.77.0.1:30080");
    let vip6 = to6("[fd99::1]:80");
    let node6 = to6("[fd77:0::1]:30053");
    let icmp6 = |icmp_type: u8| with(&echo("fd77:0::2", "fd99::1"), 54, &[icmp_type]);
    // Eight empty destination options headers, the last of them followed by UDP.
    let eight = |next: u8| [[60, 0, 1, 4, 0, 0, 0, 0]; 7].concat().into_iter().chain([next, 0, 1, 4, 0, 0, 0, 0]);
    let fragment = |offset: u16, next: u8| [&[next, 0][..], &offset.to_be_bytes(), &[0, 0, 0, 9]].concat();
    let twice = |offset: u16| [fragment(0, 44), fragment(offset, 17)].concat();
    vec![
        ("a VIP, any port", vip.clone(), true),
        ("a VIP, TCP", syn("10.77.0.2:1", "10.99.0.1:443"), true),
        ("a VIP, echo request", echo("10.77.0.2", "10.99.0.1"), true),
        ("a VIP, SCTP", with(&vip, 23, &[132]), true),
        ("a VIP, some other protocol", with(&vip, 23, &[47]), true),
        ("a VIP, first fragment", with(&vip, 20, &[0x20, 0]), true),
        ("a VIP, later fragment", with(&vip, 20, &[0, 10]), true),
        ("a VIP, wrong header length", with(&vip, 14, &[0x41]), true),
        ("a VIP's neighbour address", to("10.99.0.2:80"), false),
        ("a VIP, for another MAC", with(&vip, 0, &[2, 0, 0, 0, 0, 9]), false),
        ("a VIP, broadcast MAC", with(&vip, 0, &[0xff; 6]), false),
        ("a VIP, VLAN tag", insert(&vip, 12, &[0x81, 0, 0, 5]), false),
        ("a VIP, a priority tag", in_vlan(&vip, 0), true),
        ("an IPv6 VIP, a priority tag", in_vlan(&vip6, 0), true),
        ("a VIP, a priority tag, another MAC", with(&in_vlan(&vip, 0), 0, &OTHER_MAC), false),
        ("a VIP, two priority tags", in_vlan(&in_vlan(&vip, 0), 0), false),
        ("a VIP, a priority tag around a listed VLAN", in_vlan(&in_vlan(&vip, 100), 0), false),
        ("a VIP, a priority tag, too short for IPv4", in_vlan(&vip, 0)[..37].to_vec(), false),
        ("an IPv6 VIP, a priority tag, neighbour solicitation", in_vlan(&icmp6(135), 0), false),
        ("a VIP, a listed VLAN", in_vlan(&vip, 100), true),
        ("a VIP, a listed VLAN with priority", insert(&vip, 12, &[0x81, 0, 0xf0, 100]), true),
        ("a VIP, a listed VLAN, another MAC", with(&in_vlan(&vip, 100), 0, &OTHER_MAC), false),
        ("a VIP, a listed VLAN, its own MAC", with(&in_vlan(&vip, 200), 0, &OTHER_MAC), true),
        ("a VIP, a listed VLAN, the device's MAC", in_vlan(&vip, 200), false),
        ("a VIP, a VLAN's MAC, untagged", with(&vip, 0, &OTHER_MAC), false),
        ("a VIP, a listed VLAN twice", in_vlan(&in_vlan(&vip, 100), 100), false),
        ("a VIP, a listed VLAN as a provider's", insert(&vip, 12, &[0x88, 0xa8, 0, 100]), false),
        ("a VIP, cut in the tag", in_vlan(&vip, 100)[..17].to_vec(), false),
        ("a VIP, a listed VLAN, too short for IPv4", in_vlan(&vip, 100)[..37].to_vec(), false),
        ("a NodePort, a listed VLAN", in_vlan(&node, 100), true),
        ("a NodePort, a listed VLAN, other port", in_vlan(&syn("10.77.0.2:1000", "10.77.0.1:30081"), 100), false),
        ("an IPv6 NodePort, a listed VLAN", in_vlan(&node6, 100), true),
        ("an IPv6 VIP, a listed VLAN, neighbour solicitation", in_vlan(&icmp6(135), 100), false),
        ("a VIP, QinQ", insert(&vip, 12, &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 5]), false),
        ("a VIP, too short for IPv4", vip[..33].to_vec(), false),
        ("a VIP, LLDP's EtherType", with(&vip, 12, &[0x88, 0xcc]), false),
        ("a NodePort", node.clone(), true),
        ("a NodePort with IPv4 options", options_in(&node), true),
        ("a NodePort, other protocol", to("10.77.0.1:30080"), false),
        ("a NodePort, other port", syn("10.77.0.2:1000", "10.77.0.1:30081"), false),
        ("a NodePort, first fragment", with(&node, 20, &[0x20, 0]), true),
        ("a NodePort, later fragment", with(&node, 20, &[0, 10]), true),
        (
            "a NodePort's address, fragment of another port",
            with(&syn("10.77.0.3:1", "10.77.0.1:9"), 20, &[0x20, 0]),
            true,
        ),
        ("a NodePort's address, fragment of UDP", with(&udp("10.77.0.3:1", "10.77.0.1:9", b"x"), 20, &[0, 10]), false),
        ("a NodePort's address, fragment of ICMP", with(&echo("10.77.0.2", "10.77.0.1"), 20, &[0x20, 0]), false),
        ("no frontend's address, fragment", with(&syn("10.77.0.3:1", "10.77.0.9:30080"), 20, &[0, 10]), false),
        ("an endpoint's fragment to a SNAT address", with(&syn("10.77.0.2:9", "10.77.0.1:9"), 20, &[0, 10]), true),
        (
            "an endpoint's fragment to another address",
            with(&syn("10.77.0.2:7", "10.77.0.9:61000"), 20, &[0, 10]),
            false,
        ),
        ("an endpoint's fragment, sources are kept", with(&to("10.1.2.3:4000"), 20, &[0, 10]), true),
        ("somebody's fragment to a client", with(&udp("10.77.0.3:53", "10.1.2.3:4000", b"x"), 20, &[0, 10]), false),
        ("a NodePort, cut before the ports", node[..36].to_vec(), false),
        ("a SNAT port, first", reply("10.77.0.1:61000"), true),
        ("a SNAT port, last", syn("10.77.0.2:7", "10.77.0.1:62000"), true),
        ("a SNAT port of the lower range, first", reply("10.77.0.1:2000"), true),
        ("a SNAT port of the lower range, last", reply("10.77.0.1:2063"), true),
        ("below the lower SNAT ports", reply("10.77.0.1:1999"), false),
        ("above the lower SNAT ports", reply("10.77.0.1:2064"), false),
        ("below the SNAT ports", reply("10.77.0.1:60999"), false),
        ("above the SNAT ports", reply("10.77.0.1:62001"), false),
        ("a SNAT port, on another address", reply("10.77.0.9:61000"), false),
        ("a SNAT port, from somebody else", to("10.77.0.1:61000"), false),
        ("a SNAT port, from an endpoint's other port", syn("10.77.0.2:9", "10.77.0.1:62000"), false),
        ("a SNAT port, from another address", udp("10.77.0.3:7", "10.77.0.1:61000", b"x"), false),
        ("a SNAT port, from an endpoint that sources are kept for", udp("10.77.0.2:53", "10.77.0.1:61000", b"x"), true),
        ("the node, echo request", echo("10.77.0.2", "10.77.0.1"), false),
        ("from an endpoint", udp("10.77.0.2:53", "10.1.2.3:4000", b"x"), true),
        ("from an endpoint, other port", udp("10.77.0.2:54", "10.1.2.3:4000", b"x"), false),
        ("from an endpoint, other protocol", syn("10.77.0.2:53", "10.1.2.3:4000"), false),
        ("a service CIDR", to("172.30.255.9:1"), true),
        ("beside the service CIDR", to("172.31.0.1:1"), false),
        ("an IPv6 VIP", vip6.clone(), true),
        ("an IPv6 VIP, echo request", echo("fd77:0::2", "fd99::1"), true),
        ("an IPv6 VIP, before neighbour discovery", icmp6(132), true),
        ("an IPv6 VIP, router solicitation", icmp6(133), false),
        ("an IPv6 VIP, neighbour solicitation", icmp6(135), false),
        ("an IPv6 VIP, redirect", icmp6(137), false),
        ("an IPv6 VIP, behind neighbour discovery", icmp6(138), true),
        (
            "an IPv6 VIP, neighbour solicitation behind a header",
            extended(&icmp6(135), 60, &[58, 0, 1, 4, 0, 0, 0, 0]),
            false,
        ),
        ("an IPv6 VIP, a port like neighbour discovery", with(&vip6, 54, &[135]), true),
        ("an IPv6 VIP, cut before the type", icmp6(135)[..54].to_vec(), true),
        ("an IPv6 VIP's neighbour address", to6("[fd99::2]:80"), false),
        ("an IPv6 VIP, cut in the header", vip6[..50].to_vec(), false),
        (
            "an IPv6 VIP, nine extensions",
            extended(&vip6, 60, &eight(60).chain(fragment(0, 17)).collect::<Vec<_>>()),
            true,
        ),
        ("an IPv6 NodePort", node6.clone(), true),
        ("an IPv6 NodePort, other port", to6("[fd77:0::1]:30054"), false),
        ("an IPv6 NodePort, hop-by-hop", extended(&node6, 0, &[17, 0, 1, 4, 0, 0, 0, 0]), true),
        (
            "an IPv6 NodePort, 16 bytes of routing header",
            extended(&node6, 43, &[[17, 1], [0; 2], [0; 2], [0; 2], [0; 2], [0; 2], [0; 2], [0; 2]].concat()),
            true,
        ),
        ("an IPv6 NodePort, eight extensions", extended(&node6, 60, &eight(17).collect::<Vec<_>>()), true),
        (
            "an IPv6 NodePort, nine extensions",
            extended(&node6, 60, &eight(60).chain([17, 0, 1, 4, 0, 0, 0, 0]).collect::<Vec<_>>()),
            false,
        ),
        ("an IPv6 NodePort, atomic fragment", extended(&node6, 44, &fragment(0, 17)), true),
        ("an IPv6 NodePort, two fragment headers of a whole packet", extended(&node6, 44, &twice(0)), false),
        ("an IPv6 NodePort, a fragment behind a fragment header", extended(&node6, 44, &twice(1)), false),
        ("an IPv6 VIP, two fragment headers", extended(&vip6, 44, &twice(0)), true),
        ("an IPv6 NodePort, first fragment", extended(&node6, 44, &fragment(1, 17)), true),
        ("an IPv6 NodePort, later fragment", extended(&node6, 44, &fragment(8, 17)), true),
        ("an IPv6 NodePort's address, fragment of ICMP", extended(&node6, 44, &fragment(8, 58)), false),
        ("an IPv6 NodePort's address, fragment whose headers go on", extended(&node6, 44, &fragment(8, 60)), false),
        ("an IPv6 endpoint's fragment", extended(&syn("[fd77:0::2]:9", "[fd01::5]:4000"), 44, &fragment(8, 6)), true),
        ("an IPv6 endpoint's fragment of UDP", extended(&to6("[fd01::5]:4000"), 44, &fragment(8, 17)), false),
        ("an IPv6 NodePort, extension past the end", extended(&node6, 60, &[17, 200, 1, 4, 0, 0, 0, 0]), false),
        ("from an IPv6 endpoint", syn("[fd77:0::2]:80", "[fd01::5]:4000"), true),
        ("an IPv6 service CIDR", to6("[fd30::ffff]:1"), true),
        ("beside the IPv6 service CIDR", to6("[fd30::1:0]:1"), false),
        ("IPv6 to an IPv4-mapped VIP", to6("[::ffff:10.99.0.1]:80"), false),
        ("IPv6 from an IPv4-mapped endpoint", udp("[::ffff:10.77.0.2]:53", "[fd01::5]:4000", b"x"), false),
    ]
}

/// The packet under a tag; under one without a VLAN it has the highest priority.
fn in_vlan(packet: &[u8], vlan: u8) -> Vec<u8> {
    let priority = if vlan == 0 { 0xe0 } else { 0 };
    insert(packet, 12, &[0x81, 0, priority, vlan])
}

/// As it comes up: a tag without a VLAN has come off.
fn without_priority(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[12..16] == [0x81, 0, 0xe0, 0] {
        packet.drain(12..16);
    }
    packet
}

/// The IPv4 packet with four bytes of options.
pub(crate) fn options_in(packet: &[u8]) -> Vec<u8> {
    let packet = insert(&with(packet, 14, &[0x46]), 34, &[1, 1, 1, 0]);
    let length = (packet.len() - 14) as u16;
    with(&packet, 16, &length.to_be_bytes())
}

#[test]
fn each_packet_goes_where_it_belongs_in_both_modes() {
    for how in [XdpMode::Native, XdpMode::Generic] {
        let Some(bed) = Bed::new(1, 1) else { return };
        let mut worker = Worker::start(&bed, "l0", how, &entries());
        assert_eq!(worker.mode == AttachedMode::Native, how == XdpMode::Native);
        let mut umem = umem(1);
        let mut sender = bed.peer(|| open_port("c0", 0, options(true), &mut umem, &[]).unwrap());
        let marker = udp("10.77.0.2:1", "10.99.0.1:1", b"marker");
        for (name, packet, comes_up) in rows() {
            let mut came = coming_up(&mut worker, (&mut sender, &mut umem), &[&packet, &marker]);
            came.pop();
            // The peer's own neighbour discovery and the like never come up, so nothing else may be here.
            let expected = if comes_up { vec![without_priority(packet)] } else { Vec::new() };
            assert_eq!(came, expected, "{name} ({how:?})");
        }
    }
}

/// Sends these packets from the peer; what comes up. The last one always does: frames on a link stay in order, so once it is
/// there, so is what came before.
pub(crate) fn coming_up(
    worker: &mut Worker,
    (sender, umem): (&mut Port, &mut Umem),
    packets: &[&[u8]],
) -> Vec<Vec<u8>> {
    for bytes in packets {
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, bytes));
        sender.send(umem, frame).unwrap();
    }
    let mut came = Vec::new();
    until("the last packet", || {
        sender.flush(umem);
        came.extend(worker.poll().into_iter().map(|(_, packet)| packet));
        came.last().map(Vec::as_slice) == packets.last().copied()
    });
    came
}

/// Both sides compute the place of a claim: they have to agree.
#[test]
fn what_goes_straight_to_an_endpoint_comes_up_under_a_claimed_tuple_only() {
    let Some(bed) = Bed::new(1, 1) else { return };
    let mut worker = Worker::start(&bed, "l0", XdpMode::Native, &entries());
    let mut umem = umem(1);
    let mut sender = bed.peer(|| open_port("c0", 0, options(true), &mut umem, &[]).unwrap());
    let marker = udp("10.77.0.2:1", "10.99.0.1:1", b"marker");
    let mut comes_up =
        |worker: &mut Worker, packet: &[u8]| coming_up(worker, (&mut sender, &mut umem), &[packet, &marker]).len() == 2;
    let claims = worker.program.claims();
    for (protocol, endpoint, client, other) in [
        (Protocol::Udp, "10.77.0.2:53", "10.1.2.3:4000", "10.1.2.3:4001"),
        (Protocol::Tcp, "[fd77:0::2]:80", "[fd01::5]:4000", "[fd01::6]:4000"),
    ] {
        let packet = |client: &str| match protocol {
            Protocol::Udp => udp(client, endpoint, b"x"),
            _ => syn(client, endpoint),
        };
        let tuple = FiveTuple::new(protocol, client.parse().unwrap(), endpoint.parse().unwrap());
        assert!(!comes_up(&mut worker, &packet(client)), "{client}: nobody claims it");
        claims.raise(&tuple);
        assert!(comes_up(&mut worker, &packet(client)), "{client} is claimed");
        assert!(!comes_up(&mut worker, &packet(other)), "{other} is not");
        claims.lower(&tuple);
        assert!(!comes_up(&mut worker, &packet(client)), "{client} is claimed no more");
    }
    // A claim alone is not enough: something else is there.
    let elsewhere = FiveTuple::new(Protocol::Udp, "10.1.2.3:4000".parse().unwrap(), "10.77.0.9:53".parse().unwrap());
    claims.raise(&elsewhere);
    assert!(!comes_up(&mut worker, &udp("10.1.2.3:4000", "10.77.0.9:53", b"x")));
}

#[test]
fn the_nodes_own_traffic_passes() {
    for how in [XdpMode::Native, XdpMode::Generic] {
        let Some(bed) = Bed::new(1, 2) else { return };
        // Nothing of UDP: fragments of what could be ours come up, and go back only through a whole worker.
        let is_udp = |entry: &SteeringEntry| matches!(entry, SteeringEntry::Endpoint(of) | SteeringEntry::MasqueradedEndpoint(of) if of.protocol == Protocol::Udp);
        let entries: Vec<_> = entries().into_iter().filter(|entry| !is_udp(entry)).collect();
        let _worker = Worker::start(&bed, "l0", how, &entries);
        // ARP and neighbour discovery have to work for these.
        bed.peer_ip("neigh flush dev c0 nud permanent");
        bed.gateway_ip("neigh flush dev l0 nud permanent");
        until("ping over IPv4", || bed.peer_pings("10.77.0.1"));
        until("ping over IPv6", || bed.peer_pings("fd77:0::1"));
        let server = bed.gateway(|| UdpSocket::bind("10.77.0.1:22").unwrap());
        let client = bed.peer(|| UdpSocket::bind("10.77.0.2:0").unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        // Larger than the MTU: its fragments pass, all of them.
        client.send_to(&[7; 4000], "10.77.0.1:22").unwrap();
        let mut bytes = [0; 5000];
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        assert_eq!((length, from), (4000, client.local_addr().unwrap()));
        server.send_to(b"fine", from).unwrap();
        assert_eq!(client.recv(&mut bytes).unwrap(), 4);
    }
}

#[test]
fn entries_come_and_go_in_two_phases() {
    let Some(bed) = Bed::new(1, 1) else { return };
    let vip = |number: u8| SteeringEntry::Vip([10, 99, 0, number].into());
    let mut worker = Worker::start(&bed, "l0", XdpMode::Native, &[vip(1), vip(2)]);
    let mut umem = umem(1);
    let mut sender = bed.peer(|| open_port("c0", 0, options(true), &mut umem, &[]).unwrap());
    let wanted: HashSet<_> = [vip(2), vip(3)].into();
    let mut steered = |worker: &mut Worker| {
        // The marker is to VIP 2, which stays throughout.
        for number in [1, 3, 2] {
            let mut frame = umem.allocate().unwrap();
            assert!(umem.fill(&mut frame, &udp("10.77.0.2:9", &format!("10.99.0.{number}:80"), b"x")));
            sender.send(&mut umem, frame).unwrap();
        }
        let mut came = Vec::new();
        until("the packet to VIP 2", || {
            sender.flush(&mut umem);
            came.extend(worker.poll().into_iter().map(|(_, packet)| packet[33]));
            came.contains(&2)
        });
        came.sort_unstable();
        came
    };
    assert_eq!(steered(&mut worker), [1, 2]);
    worker.program.add_missing(&wanted).unwrap();
    assert_eq!(worker.program.len(), 3);
    assert_eq!(steered(&mut worker), [1, 2, 3]);
    worker.program.remove_present(&[vip(1), vip(9)].into()).unwrap();
    assert_eq!(worker.program.len(), 2);
    assert_eq!(steered(&mut worker), [2, 3]);
}

/// Flows of an endpoint may be of both kinds, and one kind may go first.
#[test]
fn an_endpoint_is_steered_by_what_takes_more_of_its_packets() {
    let Some(bed) = Bed::new(1, 1) else { return };
    let mut worker = Worker::start(&bed, "l0", XdpMode::Native, &entries());
    let mut umem = umem(1);
    let mut sender = bed.peer(|| open_port("c0", 0, options(true), &mut umem, &[]).unwrap());
    let endpoint = frontend(Protocol::Udp, "10.77.0.2", 99);
    let [all, replies] = [SteeringEntry::Endpoint(endpoint), SteeringEntry::MasqueradedEndpoint(endpoint)];
    // To a client, to a SNAT port, and the marker.
    let packets = ["10.1.2.3:4000", "10.77.0.1:2000", "10.99.0.1:1"].map(|to| udp("10.77.0.2:99", to, b"x"));
    let packets = packets.each_ref().map(Vec::as_slice);
    let mut came = |worker: &mut Worker| coming_up(worker, (&mut sender, &mut umem), &packets).len() - 1;
    for (entry, comes, count) in [
        (None, true, 0),
        (Some(&replies), true, 1),
        (Some(&all), true, 2),
        (Some(&replies), false, 2),
        (Some(&replies), true, 2),
        (Some(&all), false, 1),
        (Some(&replies), false, 0),
    ] {
        let entry: HashSet<_> = entry.cloned().into_iter().collect();
        match comes {
            true => worker.program.add_missing(&entry).unwrap(),
            false => worker.program.remove_present(&entry).unwrap(),
        }
        assert_eq!(came(&mut worker), count, "{entry:?} {comes}");
    }
}

#[test]
fn a_driver_that_refuses_native_mode_gets_the_generic_one_with_the_reason() {
    let Some(bed) = Bed::new(1, 1) else { return };
    bed.gateway_ip("link set l0 mtu 4000");
    bed.peer_ip("link set c0 mtu 4000");
    bed.gateway(|| {
        let device = Device::by_name("l0").unwrap();
        let mut program = SteeringProgram::load().unwrap();
        let mode = program.attach("l0", device.index, XdpMode::Auto).unwrap();
        let because = "the MTU (of a veth: its other end's) is larger than native XDP takes in one buffer: ip link set l0 \
                       mtu 3498 (of a veth: its other end)";
        assert_eq!(mode, AttachedMode::Generic { because: because.to_owned() });
        program.detach(device.index);
        let error = program.attach("l0", device.index, XdpMode::Native).unwrap_err().to_string();
        assert!(error.starts_with("cannot attach the steering program to l0 in native mode: "), "{error}");
        let error = program.attach("gone", 99_999, XdpMode::Auto).unwrap_err().to_string();
        assert!(error.contains("gone"), "{error}");
    });
}
