//! Namespaces with a gateway and two hosts, and a watch of the gateway's network.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ringway_control::config::InterfacePattern;
use ringway_control::demo::netns::{End, Namespace, veth};
use ringway_control::network::NetworkWatch;
use ringway_dataplane::resolver::Resolver;
use ringway_shared::network::RouteTarget;
use ringway_shared::{InterfaceId, MacAddress, Network};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A gateway with eth0 and eth1 and a host behind each, in three namespaces that vanish with this.
pub(crate) struct Bed {
    pub(crate) gateway: Namespace,
    pub(crate) hosts: [Namespace; 2],
}

static BEDS: AtomicU32 = AtomicU32::new(0);

impl Bed {
    /// `None`, and a word about it, where namespaces cannot be made; a failure in CI.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "these tests need root");
            eprintln!("SKIPPED: needs root to make network namespaces");
            return None;
        }
        let number = BEDS.fetch_add(1, Ordering::Relaxed);
        let namespace = |role: &str| Namespace::create("net", &format!("{number}{role}")).unwrap();
        let bed = Bed { gateway: namespace("gateway"), hosts: [namespace("host0"), namespace("host1")] };
        bed.add_link(0);
        bed.add_link(1);
        Some(bed)
    }

    /// ethN of the gateway, whose peer is `uplink` of host N: 10.N.0.1 and fd00:N::1 here, .2 and ::2 there.
    pub(crate) fn add_link(&self, number: usize) {
        let (link, host) = (format!("eth{number}"), &self.hosts[number]);
        let [here, there] = [1, 2].map(|end| format!("02:00:00:00:0{number}:0{end}"));
        let near = End { namespace: &self.gateway, link: &link, mac: Some(&here) };
        veth(near, End { namespace: host, link: "uplink", mac: Some(&there) }, 1).unwrap();
        self.gateway.address(&link, &format!("10.{number}.0.1/24")).unwrap();
        self.gateway.address(&link, &format!("fd00:{number}::1/64")).unwrap();
        host.address("uplink", &format!("10.{number}.0.2/24")).unwrap();
        host.address("uplink", &format!("fd00:{number}::2/64")).unwrap();
    }

    /// `ip` in the gateway.
    pub(crate) fn gateway(&self, arguments: &str) {
        ip_in(&self.gateway, arguments);
    }

    /// Runs `body` in the gateway with a watch of interfaces `eth*`.
    pub(crate) fn watch<F: Future>(&self, body: impl FnOnce(Watch) -> F) {
        self.watch_pattern("eth*", body);
    }

    pub(crate) fn watch_pattern<F: Future>(&self, pattern: &str, body: impl FnOnce(Watch) -> F) {
        let namespace = File::open(format!("/run/netns/{}", self.gateway.name())).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let requests = Resolver::new().unwrap();
            let pattern = InterfacePattern::parse(pattern).unwrap();
            let watch = NetworkWatch::start(vec![pattern], requests.clone()).await.unwrap();
            body(Watch { watch, requests }).await;
        });
    }
}

pub(crate) fn ip_in(namespace: &Namespace, arguments: &str) {
    namespace.ip(&arguments.split_whitespace().collect::<Vec<_>>()).unwrap();
}

pub(crate) struct Watch {
    pub(crate) watch: NetworkWatch,
    pub(crate) requests: Arc<Resolver>,
}

impl Watch {
    pub(crate) fn now(&self) -> Arc<Network> {
        self.watch.latest.borrow().clone()
    }

    /// Waits until `condition` holds.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Network) -> bool) -> Arc<Network> {
        let wait = self.watch.latest.wait_for(|network| condition(network));
        let found = tokio::time::timeout(Duration::from_secs(10), wait).await;
        found.unwrap_or_else(|_| panic!("not within 10 s: {what}")).unwrap().clone()
    }

    pub(crate) fn keep(&self, endpoints: &[&str]) {
        self.watch.endpoints.send_replace(endpoints.iter().map(|text| (ip(text), 1)).collect());
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn mac(network: &Network, destination: &str) -> Option<MacAddress> {
    let adjacency = network.resolve(ip(destination)).ok()?;
    network.adjacency(adjacency).map(|adjacency| adjacency.destination_mac)
}

pub(crate) fn host(link: u8) -> Option<MacAddress> {
    Some(MacAddress([2, 0, 0, 0, link, 2]))
}

pub(crate) fn out(interface: u16, via: Option<&str>) -> RouteTarget {
    RouteTarget::Out { interface: InterfaceId(interface), via: via.map(ip) }
}

pub(crate) fn target(network: &Network, destination: &str) -> Option<RouteTarget> {
    network.route(ip(destination)).map(|route| route.target.clone())
}

/// The source that `ip route get` prints for a packet to `destination`.
pub(crate) fn kernels_source(bed: &Bed, destination: &str) -> IpAddr {
    let answer = bed.gateway.command("ip").args(["-6", "route", "get", destination]).output().unwrap();
    let text = String::from_utf8(answer.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "src");
    ip(words.nth(1).unwrap_or_else(|| panic!("no source towards {destination}: {text}")))
}
