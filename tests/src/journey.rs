//! A long way: a gateway bed whose ends are behind routers of their own, with links that may be narrow.
//!
//! ```text
//! far ── middle ─narrow─ client ── [gateway] ── backend0 ─narrow─ inner ── pod
//! ```

use crate::echo::EchoServer;
use crate::netns::{self, End, Namespace};
use crate::objects::{self, Addresses, Port};
use crate::process::{iperf_server, nginx, run};
use crate::topology::{BULK_TCP, Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, Options};
use ringway_control::demo::process::Process;
use std::time::Duration;

/// The last part of addresses of links, from the client's side to the pod's: `192.168.N.0/24` and `fd00:N::/64`.
pub const FAR: u8 = 52;
/// The link between `middle` and the bed's client.
pub const NEAR: u8 = 51;
/// The link between the bed's backend and `inner`.
pub const INNER: u8 = 61;
/// The link between `inner` and the pod.
pub const POD: u8 = 62;

/// The ports that tracepath tries one after the other; nobody listens behind them.
pub const FIRST_PATH_PORT: u16 = 44_444;
/// How many of them.
pub const PATH_PORTS: u16 = 64;
/// A port of the Service that nobody listens behind.
pub const CLOSED: u16 = FIRST_PATH_PORT;

/// Bytes of the large file.
pub const LARGE: usize = 10_000_000;

/// A bed with a long way on both sides.
#[derive(Debug)]
pub struct Journey {
    /// The gateway, and the routers beside it as its client and its only backend.
    pub bed: Bed,
    /// Where clients are.
    pub far: Namespace,
    middle: Namespace,
    inner: Namespace,
    /// Where servers are: the only endpoint.
    pub pod: Namespace,
    _servers: [Process; 2],
    _echo: EchoServer,
}

/// Both families' address on a link.
pub fn addresses(link: u8, host: u8) -> [String; 2] {
    [format!("192.168.{link}.{host}"), format!("fd00:{link}::{host}")]
}

/// Links two namespaces; the first is host 1, the second host 2.
pub fn connect(a: (&Namespace, &str), b: (&Namespace, &str), link: u8, mtu: u32) {
    let end = |(namespace, link)| End { namespace, link, mac: None };
    netns::veth(end(a), end(b), 1).expect("a link");
    for ((namespace, name), host) in [(a, 1), (b, 2)] {
        namespace.ip(&["link", "set", name, "mtu", &mtu.to_string()]).expect("its MTU");
        for (address, length) in addresses(link, host).into_iter().zip([24, 64]) {
            namespace.address(name, &format!("{address}/{length}")).expect("an address");
        }
    }
}

/// Gives a namespace ways to a link.
pub fn route(namespace: &Namespace, link: u8, via: [String; 2]) {
    for (to, via) in [format!("192.168.{link}.0/24"), format!("fd00:{link}::/64")].iter().zip(via) {
        namespace.route(to, &via).expect("a route");
    }
}

impl Journey {
    /// The MTUs of the narrow links.
    pub fn start(outside: u32, inside: u32) -> Journey {
        let mut journey = Journey::prepare(outside, inside);
        journey.bed.start_ringway();
        journey
    }

    /// All but Ringway.
    pub fn prepare(outside: u32, inside: u32) -> Journey {
        let bed = Bed::prepare(Options { backends: 1, ..Options::default() });
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
        write_service(&bed, "web", CLUSTER_IPS, LOAD_BALANCER_IPS, &ports);
        std::fs::write(bed.folder().join("large"), large()).expect("a file");
        let servers = [nginx(&pod, "pod", HTTP.target, bed.folder()), iperf_server(&pod, BULK_TCP.target)];
        let echo = EchoServer::start(&pod, "pod", ECHO.target);
        Journey { bed, far, middle, inner, pod, _servers: servers, _echo: echo }
    }

    /// Routers tell nobody any more that a packet is too large for a link of theirs.
    pub fn silence_routers(&self) {
        let rules = "table inet silence {\n chain output {\n  type filter hook output priority 0;\n  \
                     icmp type destination-unreachable icmp code frag-needed drop\n  icmpv6 type packet-too-big drop\n }\n}\n";
        let file = self.bed.folder().join("silence.nft");
        std::fs::write(&file, rules).expect("the rules");
        for router in [&self.middle, &self.inner, &self.bed.client, &self.bed.backends[0]] {
            let arguments = ["-f", &file.display().to_string()];
            run(router, "nft", &arguments, Duration::from_secs(10)).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Gives the gateway's routes to a link an MTU.
    pub fn narrow_routes(&self, link: u8, mtu: u32) {
        let [near4, near6] = match link {
            FAR => ["192.168.0.1", "fd00:168::1"].map(str::to_owned),
            _ => [self.bed.backend_ip(0, false), self.bed.backend_ip(0, true)].map(|ip| ip.to_string()),
        };
        for (to, via) in [(format!("192.168.{link}.0/24"), near4), (format!("fd00:{link}::/64"), near6)] {
            let arguments = ["route", "replace", &to, "via", &via, "mtu", &mtu.to_string()];
            self.bed.gateway.ip(&arguments).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Writes a Service whose only endpoint is the pod.
    pub fn write_service(&self, name: &str, cluster: [&str; 2], load_balancer: [&str; 2], ports: &[Port]) {
        write_service(&self.bed, name, cluster, load_balancer, ports);
    }

    /// Runs a program at the far end; its output.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(&self.far, program, arguments, Duration::from_secs(90)).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn write_service(bed: &Bed, name: &str, cluster: [&str; 2], load_balancer: [&str; 2], ports: &[Port]) {
    let [cluster, load_balancer] = [cluster, load_balancer].map(|ips| ips.map(str::to_owned).to_vec());
    let service = Addresses { cluster, load_balancer, external: Vec::new() };
    bed.write_object(&format!("{name}-service.json"), &objects::service(name, &service, ports));
    for (family, address) in ["4", "6"].into_iter().zip(addresses(POD, 2)) {
        let slice = objects::slice(name, &format!("IPv{family}"), &[address], ports);
        bed.write_object(&format!("{name}-slice{family}.json"), &slice);
    }
}

/// What is in the large file, which the web server of the pod has as `/files/large`.
pub fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// The Service's addresses: the client's source is kept, and it is not.
pub fn vips() -> impl Iterator<Item = (usize, &'static str)> {
    CLUSTER_IPS.into_iter().enumerate().chain(LOAD_BALANCER_IPS.into_iter().enumerate())
}

/// What a namespace knows of the way to an address.
pub fn known_mtu(namespace: &Namespace, address: &str) -> String {
    let route = run(namespace, "ip", &["route", "get", address], Duration::from_secs(5));
    route.unwrap_or_else(|error| panic!("{error}"))
}
