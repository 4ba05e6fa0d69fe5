//! ICMP errors about connections through Ringway, made by real routers and hosts, and what real programs make of them: both ends
//! are behind routers of their own.
//!
//! ```text
//! far ── middle ─narrow─ client ── [gateway] ── backend0 ─narrow─ inner ── pod
//! ```

use ringway_control::demo::process::Process;
use ringway_tests::can_run;
use ringway_tests::echo::EchoServer;
use ringway_tests::netns::{self, End, Namespace};
use ringway_tests::objects::{self, Addresses, Port};
use ringway_tests::process::{iperf_server, nginx, run};
use ringway_tests::topology::{BULK_TCP, Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, NODE_IPS, Options, at};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// The last part of addresses of links, from the client's side to the pod's: `192.168.N.0/24` and `fd00:N::/64`.
const FAR: u8 = 52;
const NEAR: u8 = 51;
const INNER: u8 = 61;
const POD: u8 = 62;

/// The ports that tracepath tries one after the other; nobody listens behind them.
const FIRST_PATH_PORT: u16 = 44_444;
const PATH_PORTS: u16 = 64;
/// A port of the Service that nobody listens behind.
const CLOSED: u16 = FIRST_PATH_PORT;

const LARGE: usize = 10_000_000;

/// A bed with a long way on both sides.
struct Journey {
    bed: Bed,
    far: Namespace,
    _middle: Namespace,
    _inner: Namespace,
    pod: Namespace,
    _servers: [Process; 2],
    _echo: EchoServer,
}

/// Both families' address on a link.
fn addresses(link: u8, host: u8) -> [String; 2] {
    [format!("192.168.{link}.{host}"), format!("fd00:{link}::{host}")]
}

/// Links two namespaces; the first is host 1, the second host 2.
fn connect(a: (&Namespace, &str), b: (&Namespace, &str), link: u8, mtu: u32) {
    let end = |(namespace, link)| End { namespace, link, mac: None };
    netns::veth(end(a), end(b), 1).expect("a link");
    for ((namespace, name), host) in [(a, 1), (b, 2)] {
        namespace.ip(&["link", "set", name, "mtu", &mtu.to_string()]).expect("its MTU");
        for (address, length) in addresses(link, host).into_iter().zip([24, 64]) {
            namespace.address(name, &format!("{address}/{length}")).expect("an address");
        }
    }
}

fn route(namespace: &Namespace, link: u8, via: [String; 2]) {
    for (to, via) in [format!("192.168.{link}.0/24"), format!("fd00:{link}::/64")].iter().zip(via) {
        namespace.route(to, &via).expect("a route");
    }
}

impl Journey {
    /// The MTUs of the narrow links.
    fn start(outside: u32, inside: u32) -> Journey {
        let mut bed = Bed::prepare(Options { backends: 1, ..Options::default() });
        let number = netns::next_bed();
        let [far, middle, inner, pod] = ["far", "middle", "inner", "pod"].map(|role| netns::namespace(number, role));
        let router = &bed.backends[0];
        connect((&middle, "far"), (&far, "eth0"), FAR, 1500);
        connect((&bed.client, "near"), (&middle, "near"), NEAR, outside);
        connect((router, "inner"), (&inner, "out"), INNER, inside);
        connect((&inner, "pod"), (&pod, "eth0"), POD, 1500);
        for router in [&middle, &inner, &bed.client, router] {
            router.forward_packets().expect("a router");
            // Every error is to be seen.
            router.sysctl("net/ipv4/icmp_ratelimit", "0").expect("no limit");
            router.sysctl("net/ipv6/icmp/ratelimit", "0").expect("no limit");
        }
        pod.sysctl("net/ipv4/icmp_ratelimit", "0").expect("no limit");
        pod.sysctl("net/ipv6/icmp/ratelimit", "0").expect("no limit");
        for (namespace, link, host) in [(&far, FAR, 1), (&middle, NEAR, 1), (&inner, INNER, 1), (&pod, POD, 1)] {
            addresses(link, host).iter().for_each(|via| namespace.route("default", via).expect("a route"));
        }
        route(&bed.client, FAR, addresses(NEAR, 2));
        route(router, POD, addresses(INNER, 2));
        let backend = [bed.backend_ip(0, false), bed.backend_ip(0, true)].map(|ip| ip.to_string());
        for link in [INNER, POD] {
            route(&bed.gateway, link, backend.clone());
        }
        for link in [NEAR, FAR] {
            route(&bed.gateway, link, ["192.168.0.1".into(), "fd00:168::1".into()]);
        }
        let path = (0..PATH_PORTS).map(|index| Port {
            name: Box::leak(format!("p{index}").into_boxed_str()),
            protocol: "UDP",
            port: FIRST_PATH_PORT + index,
            target: 20_000 + index,
            node_port: 0,
        });
        let ports: Vec<Port> = [HTTP, ECHO, BULK_TCP].into_iter().chain(path).collect();
        let strings = |ips: [&str; 2]| ips.map(str::to_owned).to_vec();
        let [cluster, load_balancer] = [CLUSTER_IPS, LOAD_BALANCER_IPS].map(strings);
        let service = Addresses { cluster, load_balancer, external: Vec::new() };
        bed.write_object("web-service.json", &objects::service("web", &service, &ports));
        let [pod4, pod6] = addresses(POD, 2);
        bed.write_object("web-slice4.json", &objects::slice("web", "IPv4", &[pod4], &ports));
        bed.write_object("web-slice6.json", &objects::slice("web", "IPv6", &[pod6], &ports));
        std::fs::write(bed.folder().join("large"), large()).expect("a file");
        let servers = [nginx(&pod, "pod", HTTP.target, bed.folder()), iperf_server(&pod, BULK_TCP.target)];
        let echo = EchoServer::start(&pod, "pod", ECHO.target);
        bed.start_ringway();
        Journey { bed, far, _middle: middle, _inner: inner, pod, _servers: servers, _echo: echo }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(&self.far, program, arguments, Duration::from_secs(90)).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// The Service's addresses: the client's source is kept, and it is not.
fn vips() -> impl Iterator<Item = (usize, &'static str)> {
    CLUSTER_IPS.into_iter().enumerate().chain(LOAD_BALANCER_IPS.into_iter().enumerate())
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
        for (method, port) in [("-T", HTTP.port), ("-U", ECHO.port)] {
            let port = port.to_string();
            let arguments = ["-n", "-q", "1", "-N", "1", "-w", "3", "-m", "9", method, "-p", &port, vip];
            let way = journey.run("traceroute", &arguments);
            let hops: Vec<&str> =
                way.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap_or_default()).collect();
            assert_eq!(hops, expected, "{method}:\n{way}");
        }
    }
}

/// Fetches the large file; what arrived.
fn download(journey: &Journey, vip: &str) -> Vec<u8> {
    let file = journey.bed.folder().join("fetched");
    let url = format!("http://{}/files/large", at(vip, HTTP.port));
    journey.run("curl", &["-gsS", "--fail", "--max-time", "60", "-o", &file.display().to_string(), &url]);
    std::fs::read(file).expect("what was fetched")
}

/// What a namespace knows of the way to an address.
fn known_mtu(namespace: &Namespace, address: &str) -> String {
    let route = run(namespace, "ip", &["route", "get", address], Duration::from_secs(5));
    route.unwrap_or_else(|error| panic!("{error}"))
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
