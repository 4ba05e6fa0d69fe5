//! ICMP errors about connections through Ringway, made by real routers and hosts, and what real programs make of them: both ends
//! are behind routers of their own.
//!
//! ```text
//! far ── middle ─narrow─ client ── [gateway] ── backend0 ─narrow─ inner ── pod
//! ```

mod forged;
mod kube_proxy;

use ringway_tests::can_run;
use ringway_tests::journey::{CLOSED, FAR, FIRST_PATH_PORT, Journey, NEAR, POD, addresses, known_mtu, large, vips};
use ringway_tests::netns::Namespace;
use ringway_tests::process::run;
use ringway_tests::topology::{BULK_TCP, CLUSTER_IPS, ECHO, HTTP, NODE_IPS, at};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// The addresses that traceroute shows on the way to a VIP.
fn way(journey: &Journey, vip: &str, method: &[&str]) -> Vec<String> {
    let arguments = [&["-n", "-q", "1", "-N", "1", "-w", "3", "-m", "9"], method, &[vip]].concat();
    let hop = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    journey.run("traceroute", &arguments).lines().skip(1).map(hop).collect()
}

/// The same by TCP and by UDP, to ports of a Service.
fn hops(journey: &Journey, ip: &str, [tcp, udp]: [u16; 2]) -> [Vec<String>; 2] {
    [("-T", tcp), ("-U", udp)].map(|(method, port)| way(journey, ip, &[method, "-p", &port.to_string()]))
}

/// VIPs and node addresses, with the Service's ports on them for TCP and UDP.
fn frontends() -> impl Iterator<Item = (usize, &'static str, [u16; 2])> {
    let nodes = NODE_IPS.into_iter().enumerate().map(|(family, ip)| (family, ip, [HTTP.node_port, ECHO.node_port]));
    vips().map(|(family, ip)| (family, ip, [HTTP.port, ECHO.port])).chain(nodes)
}

/// The same Service by the kernel's NAT, which kube-proxy uses.
fn nat() -> String {
    let mut rules = String::from("table inet nat {\n chain prerouting { type nat hook prerouting priority dstnat;\n");
    let mut masquerade = String::new();
    for (family, address, ports) in frontends() {
        let ip = ["ip", "ip6"][family];
        let pod = &addresses(POD, 2)[family];
        for (port, number) in [HTTP, ECHO].iter().zip(ports) {
            let (protocol, to) = (port.protocol.to_lowercase(), at(pod, port.target));
            rules += &format!("  {ip} daddr {address} {protocol} dport {number} dnat {ip} to {to}\n");
        }
        if !CLUSTER_IPS.contains(&address) {
            masquerade += &format!("  ct original {ip} daddr {address} masquerade\n");
        }
    }
    rules + " }\n chain postrouting { type nat hook postrouting priority srcnat;\n" + &masquerade + " }\n}\n"
}

#[test]
fn tracepath_and_traceroute_reach_the_pod_and_show_the_way() {
    let programs = ["ip", "nginx", "iperf3", "tracepath", "traceroute"];
    if !can_run("tracepath_and_traceroute_reach_the_pod_and_show_the_way", &programs) {
        return;
    }
    let journey = Journey::start(1400, 1300);
    for (family, vip) in vips() {
        let port = FIRST_PATH_PORT.to_string();
        let path = journey.run("tracepath", &["-n", "-m", "12", "-p", &port, vip]);
        assert!(path.contains("pmtu 1400"), "the link on the client's side:\n{path}");
        assert!(path.contains("pmtu 1300"), "the link on the pod's side:\n{path}");
        assert!(path.contains("Resume: pmtu 1300 hops 6 back 6"), "{path}");
        let reached = path.lines().find(|line| line.contains("reached")).unwrap_or_else(|| panic!("{path}"));
        assert!(reached.contains(vip), "the pod itself says that nobody listens, in the name of the VIP:\n{path}");
        let expected = [&addresses(FAR, 1)[family], &addresses(NEAR, 1)[family], NODE_IPS[family], vip, vip, vip];
        assert_eq!(hops(&journey, vip, [HTTP.port, ECHO.port]), [expected; 2]);
        // A ping ends at the gateway, which answers it.
        assert_eq!(way(&journey, vip, &["-I"]), [&addresses(FAR, 1)[family], &addresses(NEAR, 1)[family], vip]);
    }
}

#[test]
fn the_way_is_the_one_that_the_kernels_nat_shows() {
    let programs = ["ip", "nginx", "iperf3", "traceroute", "nft"];
    if !can_run("the_way_is_the_one_that_the_kernels_nat_shows", &programs) {
        return;
    }
    let mut journey = Journey::prepare(1500, 1500);
    let file = journey.bed.folder().join("nat.nft");
    std::fs::write(&file, nat()).expect("the rules");
    let nft = |arguments: &[&str]| {
        run(&journey.bed.gateway, "nft", arguments, Duration::from_secs(10)).unwrap_or_else(|error| panic!("{error}"));
    };
    nft(&["-f", &file.display().to_string()]);
    // The gateway shows itself as the hop that it is; the kernel has the VIP say that, too, since it translates first.
    let ways = |journey: &Journey, shows_itself: bool| -> Vec<_> {
        let way = |(family, ip, ports): (usize, &'static str, [u16; 2])| {
            hops(journey, ip, ports).map(|mut hops| {
                let own = hops.remove(2);
                assert_eq!(own, if shows_itself { NODE_IPS[family] } else { ip });
                hops
            })
        };
        frontends().map(way).collect()
    };
    let kernel = ways(&journey, false);
    nft(&["flush", "ruleset"]);
    journey.bed.start_ringway();
    assert_eq!(ways(&journey, true), kernel, "{:?}", frontends().collect::<Vec<_>>());
}

/// Fetches the large file; what arrived.
fn download(journey: &Journey, vip: &str) -> Vec<u8> {
    let file = journey.bed.folder().join("fetched");
    let url = format!("http://{}/files/large", at(vip, HTTP.port));
    journey.run("curl", &["-gsS", "--fail", "--max-time", "60", "-o", &file.display().to_string(), &url]);
    std::fs::read(file).expect("what was fetched")
}

#[test]
fn large_transfers_complete_over_a_narrow_link_on_the_clients_side() {
    let programs = ["ip", "nginx", "iperf3", "curl"];
    if !can_run("large_transfers_complete_over_a_narrow_link_on_the_clients_side", &programs) {
        return;
    }
    let journey = Journey::start(1280, 1500);
    for (family, vip) in vips() {
        assert!(download(&journey, vip) == large(), "{vip}: something else arrived");
        // The sender was told: where the source is kept about the client, else about the gateway.
        let kept = CLUSTER_IPS.contains(&vip);
        let peer = if kept { &addresses(FAR, 2)[family] } else { ["10.180.0.1", "fd00:180::1"][family] };
        let route = known_mtu(&journey.pod, peer);
        assert!(route.contains("mtu 1280"), "{vip}: {route}");
    }
}

#[test]
fn large_transfers_complete_over_a_narrow_link_on_the_endpoints_side() {
    let programs = ["ip", "nginx", "iperf3", "curl"];
    if !can_run("large_transfers_complete_over_a_narrow_link_on_the_endpoints_side", &programs) {
        return;
    }
    let journey = Journey::start(1500, 1280);
    for (_, vip) in vips() {
        let port = BULK_TCP.port.to_string();
        journey.run("iperf3", &["--client", vip, "--port", &port, "--bytes", "10M", "--connect-timeout", "5000"]);
        let route = known_mtu(&journey.far, vip);
        assert!(route.contains("mtu 1280"), "{vip}: {route}");
        assert!(download(&journey, vip) == large(), "{vip}: something else arrived");
    }
}

/// Nobody tells of the narrow links, whose routers keep silent: the gateway's routes alone say what they carry.
#[test]
fn large_transfers_complete_where_only_a_route_knows_that_a_link_is_narrow() {
    let programs = ["ip", "nginx", "iperf3", "curl", "tracepath", "nft"];
    if !can_run("large_transfers_complete_where_only_a_route_knows_that_a_link_is_narrow", &programs) {
        return;
    }
    for (outside, inside) in [(1280, 1500), (1500, 1280)] {
        let mut journey = Journey::prepare(outside, inside);
        journey.silence_routers();
        let narrow = if outside == 1280 { FAR } else { POD };
        // Before Ringway reads its routes, so that no segment comes between.
        journey.narrow_routes(narrow, 1280);
        journey.bed.start_ringway();
        for (_, vip) in vips() {
            let before = journey.bed.ledger();
            let port = BULK_TCP.port.to_string();
            journey.run("iperf3", &["--client", vip, "--port", &port, "--bytes", "3M", "--connect-timeout", "5000"]);
            assert!(download(&journey, vip) == large(), "{vip}: something else arrived");
            let ledger = journey.bed.ledger().since(&before);
            assert_eq!(ledger.replied, 0, "{vip}: a segment was too large: {ledger:?}");
            if inside == 1280 {
                // What is larger is answered by the gateway.
                let port = FIRST_PATH_PORT.to_string();
                let path = journey.run("tracepath", &["-n", "-m", "12", "-p", &port, vip]);
                assert!(path.contains("Resume: pmtu 1280"), "{vip}: {path}");
            }
        }
    }
}

/// What a datagram to a port that nobody listens at comes to.
fn refusal(namespace: &Namespace, server: SocketAddr) -> ErrorKind {
    let ask = || {
        let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send(b"anybody?")?;
        socket.recv(&mut [0; 64]).map(|length| panic!("{server} sent {length} bytes"))
    };
    namespace.enter(ask).expect("the namespace").expect_err("an error").kind()
}

#[test]
fn a_closed_port_is_told_and_the_gateways_own_errors_stay_its_own() {
    let programs = ["ip", "nginx", "iperf3", "tracepath"];
    if !can_run("a_closed_port_is_told_and_the_gateways_own_errors_stay_its_own", &programs) {
        return;
    }
    let mut journey = Journey::start(1500, 1280);
    for (_, vip) in vips() {
        assert_eq!(refusal(&journey.far, at(vip, CLOSED)), ErrorKind::ConnectionRefused, "{vip}");
    }
    let before = journey.bed.ledger();
    for pod in addresses(POD, 2) {
        assert_eq!(refusal(&journey.bed.gateway, at(&pod, 20_000)), ErrorKind::ConnectionRefused, "{pod}");
        let path =
            run(&journey.bed.gateway, "tracepath", &["-n", "-m", "9", "-p", "30000", &pod], Duration::from_secs(60));
        let path = path.unwrap_or_else(|error| panic!("{error}"));
        assert!(path.contains("pmtu 1280") && path.contains("reached"), "{path}");
    }
    let since = journey.bed.ledger().since(&before);
    assert_eq!((since.rx, since.dropped()), (0, 0), "not even looked at: {since:?}");
}
