//! A node with pods, as a packet sees it: the bed on which kube-proxy and Ringway take the same place.
//!
//! ```text
//! client ── front [gateway] back ── bridge ── pod0, pod1, ...
//! 192.168.0.1   .2    │   10.180.0.1          10.180.0.11, ...
//! 198.18.0.1        rest ── [elsewhere]: no way on, and it says so
//! ```
//! IPv6 likewise. Each pod has a single address (/32, /128) and sends everything to the gateway, as pods of a real node
//! do. What the gateway's kernel gets and cannot deliver goes elsewhere, and the sender hears that it is unreachable:
//! so one can tell a packet that was let alone from one that was dropped.

pub mod probe;
pub mod ringway;
mod server;

use crate::netns::{self, End, Namespace};
use server::PodServer;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// How many pods.
pub const PODS: usize = 6;
/// Ports, TCP and UDP, on which each pod listens.
pub const PORTS: [u16; 2] = [8080, 8081];
/// The pod CIDRs of the gateway's node: of the first half of the pods.
pub const POD_CIDRS: [&str; 2] = ["10.180.0.0/25", "fd00:180::/121"];
/// The gateway's addresses, the primary ones first.
pub const NODE_ADDRESSES: [&str; 6] =
    ["192.168.0.2", "fd00:168::2", "10.180.0.1", "fd00:180::1", "192.0.2.2", "fd00:192::2"];
/// The gateway's addresses towards pods, which masquerade puts in the client's place.
pub const MASQUERADE: [&str; 2] = ["10.180.0.1", "fd00:180::1"];
/// The client's addresses.
pub const CLIENTS: [&str; 4] = ["192.168.0.1", "198.18.0.1", "fd00:168::1", "2001:db8:f::1"];

/// Where a connection is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The client.
    Client,
    /// The gateway itself.
    Node,
    /// A pod.
    Pod(usize),
}

/// A bed. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct World {
    servers: Vec<PodServer>,
    /// The client.
    pub client: Namespace,
    /// The node.
    pub gateway: Namespace,
    fabric: Namespace,
    elsewhere: Namespace,
    pods: Vec<Namespace>,
    source_ports: Mutex<HashMap<IpAddr, u16>>,
}

fn end<'a>(namespace: &'a Namespace, link: &'a str) -> End<'a> {
    End { namespace, link, mac: None }
}

/// The address of a pod.
pub fn pod_address(index: usize, v6: bool) -> IpAddr {
    // The second half is on other nodes, outside this node's pod CIDRs.
    let host = if index < PODS / 2 { 11 + index } else { 141 + index };
    let text = if v6 { format!("fd00:180::{host:x}") } else { format!("10.180.0.{host}") };
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl World {
    /// Makes namespaces, links and the pods' servers. Nothing balances yet.
    pub fn start() -> World {
        let number = netns::next_bed();
        let namespace = |role: &str| netns::namespace(number, role);
        let mut world = World {
            servers: Vec::new(),
            client: namespace("client"),
            gateway: namespace("gateway"),
            fabric: namespace("fabric"),
            elsewhere: namespace("elsewhere"),
            pods: (0..PODS).map(|index| namespace(&format!("pod{index}"))).collect(),
            source_ports: Mutex::default(),
        };
        world.wire().unwrap_or_else(|error| panic!("{error}"));
        for (index, pod) in world.pods.iter().enumerate() {
            world.servers.push(PodServer::start(pod, [pod_address(index, false), pod_address(index, true)], &PORTS));
        }
        world
    }

    fn wire(&self) -> std::io::Result<()> {
        let (client, gateway, elsewhere) = (&self.client, &self.gateway, &self.elsewhere);
        self.fabric.bridge("br0")?;
        netns::veth(end(gateway, "front"), end(client, "eth0"), 1)?;
        netns::veth(end(gateway, "back"), end(&self.fabric, "gw"), 1)?;
        netns::veth(end(gateway, "rest"), end(elsewhere, "eth0"), 1)?;
        self.fabric.join("gw", "br0")?;
        for (link, addresses) in [
            ("front", ["192.168.0.2/24", "fd00:168::2/64"]),
            ("back", ["10.180.0.1/24", "fd00:180::1/64"]),
            ("rest", ["192.0.2.2/24", "fd00:192::2/64"]),
        ] {
            addresses.into_iter().try_for_each(|address| gateway.address(link, address))?;
        }
        for address in ["192.168.0.1/24", "fd00:168::1/64", "198.18.0.1/32", "2001:db8:f::1/128"] {
            client.address("eth0", address)?;
        }
        elsewhere.address("eth0", "192.0.2.1/24")?;
        elsewhere.address("eth0", "fd00:192::1/64")?;
        for (from, to, via) in [
            (client, "default", "192.168.0.2"),
            (client, "default", "fd00:168::2"),
            (gateway, "198.18.0.0/24", "192.168.0.1"),
            (gateway, "2001:db8:f::/64", "fd00:168::1"),
            (gateway, "default", "192.0.2.1"),
            (gateway, "default", "fd00:192::1"),
            (elsewhere, "192.168.0.0/24", "192.0.2.2"),
            (elsewhere, "198.18.0.0/24", "192.0.2.2"),
            (elsewhere, "10.180.0.0/24", "192.0.2.2"),
            (elsewhere, "fd00:168::/64", "fd00:192::2"),
            (elsewhere, "2001:db8:f::/64", "fd00:192::2"),
            (elsewhere, "fd00:180::/64", "fd00:192::2"),
        ] {
            from.route(to, via)?;
        }
        for namespace in [gateway, elsewhere] {
            namespace.forward_packets()?;
            // Every packet gets its own answer, however many there are.
            namespace.sysctl("net/ipv4/icmp_ratelimit", "0")?;
            namespace.sysctl("net/ipv6/icmp/ratelimit", "0")?;
        }
        // The kernel's own errors for want of a route are few a second, whatever one sets.
        let reject = "add table inet elsewhere; \
            add chain inet elsewhere everything { type filter hook prerouting priority 0; }; \
            add rule inet elsewhere everything meta l4proto { tcp, udp } reject with icmpx type no-route";
        let output = elsewhere.command("nft").arg(reject).output()?;
        if !output.status.success() {
            return Err(std::io::Error::other(format!("nft: {}", String::from_utf8_lossy(&output.stderr))));
        }
        // From pod to pod through the node is what is wanted here.
        gateway.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        gateway.sysctl("net/ipv4/conf/back/send_redirects", "0")?;
        for (index, pod) in self.pods.iter().enumerate() {
            let port = format!("p{index}");
            netns::veth(end(pod, "eth0"), end(&self.fabric, &port), 1)?;
            self.fabric.join(&port, "br0")?;
            for (v6, bits, router) in [(false, 32, MASQUERADE[0]), (true, 128, MASQUERADE[1])] {
                pod.address("eth0", &format!("{}/{bits}", pod_address(index, v6)))?;
                pod.ip(&["route", "add", router, "dev", "eth0"])?;
                pod.route("default", router)?;
            }
        }
        Ok(())
    }

    /// The namespace of a place.
    pub fn namespace(&self, place: Place) -> &Namespace {
        match place {
            Place::Client => &self.client,
            Place::Node => &self.gateway,
            Place::Pod(index) => &self.pods[index],
        }
    }

    /// A port that this source has not used lately, so that the next connection is a new one for every balancer.
    pub fn source_port(&self, source: IpAddr) -> u16 {
        let mut ports = self.source_ports.lock().unwrap_or_else(PoisonError::into_inner);
        let port = ports.entry(source).or_insert(10_000);
        *port = if *port == 60_000 { 10_000 } else { *port + 1 };
        *port
    }

    /// An address and a port of that source that was not used lately.
    pub fn source(&self, source: IpAddr) -> SocketAddr {
        SocketAddr::new(source, self.source_port(source))
    }
}
