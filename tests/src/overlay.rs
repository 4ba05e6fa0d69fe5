//! A gateway in front of a cluster whose pods are in an overlay, as flannel and Calico make it of VXLAN devices.
//!
//! ```text
//! client ── front [gateway] under ── bridge ── under [node0] ── pod0
//! 192.168.0.1  .2           172.16.0.2         172.16.0.11      10.244.1.11
//!                  flannel.1 ═════ VXLAN ═════ flannel.1        MTU 1450
//!                  10.244.0.0                  10.244.1.0
//! ```
//! IPv6 likewise, in fd00:168::/64, fd00:16::/64 and fd00:244:N::/64, by a device of its own. Nobody learns and nobody asks:
//! neighbours and forwarding entries of the devices are permanent, and the routes are `onlink`, all written by the agent on
//! each node. Here [`Overlay`] writes them.

use crate::echo::EchoServer;
use crate::instance::Instance;
use crate::ledger::Ledger;
use crate::netns::{self, End, Namespace};
use crate::objects::{self, Addresses};
use crate::process::{self, run};
use crate::topology::{CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS};
use ringway_control::demo::process::Process;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The gateway's own number among the nodes.
const GATEWAY: usize = 0;

/// Whose devices they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// `flannel.1` and `flannel-v6.1`, VNI 1, port 8472; a node's address in the overlay ends with `.0`.
    Flannel,
    /// `vxlan.calico` and `vxlan-v6.calico`, VNI 4096, port 4789; a node's address is one of its pods' block.
    Calico,
}

impl Agent {
    /// The devices, one a family.
    pub fn devices(self) -> [&'static str; 2] {
        match self {
            Agent::Flannel => ["flannel.1", "flannel-v6.1"],
            Agent::Calico => ["vxlan.calico", "vxlan-v6.calico"],
        }
    }

    fn vni_and_port(self) -> [&'static str; 2] {
        match self {
            Agent::Flannel => ["1", "8472"],
            Agent::Calico => ["4096", "4789"],
        }
    }

    /// The node's address in the overlay, which its device has.
    pub fn tunnel_address(self, node: usize, v6: bool) -> String {
        match (self, v6) {
            (Agent::Flannel, false) => format!("10.244.{node}.0"),
            (Agent::Flannel, true) => format!("fd00:244:{node}::"),
            (Agent::Calico, false) => format!("10.244.{node}.1"),
            (Agent::Calico, true) => format!("fd00:244:{node}::1"),
        }
    }
}

/// The largest packet of the overlay: what VXLAN leaves of 1500 bytes, by the family of its outer header.
pub fn mtu(v6: bool) -> u32 {
    if v6 { 1430 } else { 1450 }
}

/// A node's address below the overlay.
pub fn node_address(node: usize, v6: bool) -> String {
    let host = if node == GATEWAY { 2 } else { 10 + node };
    if v6 { format!("fd00:16::{host}") } else { format!("172.16.0.{host}") }
}

/// The address of a node's pod.
pub fn pod_address(node: usize, v6: bool) -> IpAddr {
    let text = if v6 { format!("fd00:244:{node}::11") } else { format!("10.244.{node}.11") };
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The MAC address of a node's device; `take` tells one device of a node from the one that replaces it.
fn tunnel_mac(node: usize, v6: bool, take: u8) -> String {
    format!("0a:{:02x}:00:{take:02x}:00:{node:02x}", u8::from(v6))
}

/// How many queues links have.
#[derive(Clone, Copy, Debug)]
pub struct Queues {
    /// The NICs.
    pub nic: u32,
    /// The VXLAN devices: one, unless somebody asks for more.
    pub device: u32,
}

impl Default for Queues {
    fn default() -> Self {
        Queues { nic: 1, device: 1 }
    }
}

/// The bed. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct Overlay {
    agent: Agent,
    queues: Queues,
    ringway: Option<Instance>,
    servers: Vec<Process>,
    echoes: Vec<EchoServer>,
    /// Where clients are.
    pub client: Namespace,
    /// Where Ringway runs: node 0 of the overlay.
    pub gateway: Namespace,
    /// The other nodes, from 1 on.
    pub nodes: Vec<Namespace>,
    /// The pod of each of them.
    pub pods: Vec<Namespace>,
    fabric: Namespace,
    folder: tempfile::TempDir,
}

impl Overlay {
    /// Makes everything but Ringway, with so many nodes besides the gateway.
    pub fn prepare(agent: Agent, nodes: usize, queues: Queues) -> Overlay {
        let number = netns::next_bed();
        let namespace = |role: String| netns::namespace(number, &role);
        let mut bed = Overlay {
            agent,
            queues,
            ringway: None,
            servers: Vec::new(),
            echoes: Vec::new(),
            client: namespace("client".into()),
            gateway: namespace("gateway".into()),
            nodes: (1..=nodes).map(|node| namespace(format!("node{node}"))).collect(),
            pods: (1..=nodes).map(|node| namespace(format!("pod{node}"))).collect(),
            fabric: namespace("fabric".into()),
            folder: tempfile::Builder::new().prefix("ringway-test-").tempdir().expect("a temporary folder"),
        };
        bed.wire().unwrap_or_else(|error| panic!("{error}"));
        bed.serve();
        std::fs::create_dir(bed.objects()).expect("the folder for objects");
        bed.write_objects();
        let listed: Vec<&str> = ["front", "under"].into_iter().chain(agent.devices()).collect();
        bed.write_config(&listed);
        bed
    }

    /// Makes everything and starts Ringway.
    pub fn start(agent: Agent, nodes: usize) -> Overlay {
        let mut bed = Overlay::prepare(agent, nodes, Queues::default());
        bed.start_ringway();
        bed
    }

    fn wire(&self) -> std::io::Result<()> {
        let queues = self.queues.nic;
        self.fabric.bridge("br0")?;
        netns::veth(end(&self.gateway, "front"), end(&self.client, "eth0"), queues)?;
        for (gateway, client) in [("192.168.0.2", "192.168.0.1"), ("fd00:168::2", "fd00:168::1")] {
            let bits = if client.contains(':') { 64 } else { 24 };
            self.gateway.address("front", &format!("{gateway}/{bits}"))?;
            self.client.address("eth0", &format!("{client}/{bits}"))?;
            self.client.route("default", gateway)?;
        }
        for (node, namespace) in self.all_nodes() {
            let port = format!("n{node}");
            netns::veth(end(namespace, "under"), end(&self.fabric, &port), queues)?;
            self.fabric.join(&port, "br0")?;
            namespace.address("under", &format!("{}/24", node_address(node, false)))?;
            namespace.address("under", &format!("{}/64", node_address(node, true)))?;
            namespace.forward_packets()?;
        }
        for (node, namespace) in self.all_nodes() {
            self.make_devices(node, namespace, 0)?;
        }
        for (node, namespace) in self.all_nodes() {
            for (other, _) in self.all_nodes().filter(|(other, _)| *other != node) {
                self.introduce(namespace, other, 0)?;
            }
        }
        for (node, pod) in (1..).zip(&self.pods) {
            let namespace = &self.nodes[node - 1];
            netns::veth(end(pod, "eth0"), end(namespace, "pod"), 1)?;
            for v6 in [false, true] {
                // A pod knows the MTU of its overlay, the smaller one of both families here.
                pod.ip(&["link", "set", "eth0", "mtu", &mtu(true).to_string()])?;
                let (bits, router) =
                    if v6 { (64, format!("fd00:244:{node}::fe")) } else { (24, format!("10.244.{node}.254")) };
                namespace.address("pod", &format!("{router}/{bits}"))?;
                pod.address("eth0", &format!("{}/{bits}", pod_address(node, v6)))?;
                pod.route("default", &router)?;
                // Clients are behind the gateway, which is in the overlay.
                self.route_back(node, v6, true)?;
            }
        }
        Ok(())
    }

    fn all_nodes(&self) -> impl Iterator<Item = (usize, &Namespace)> {
        std::iter::once(&self.gateway).chain(&self.nodes).enumerate()
    }

    /// Makes a node's devices as the agent does.
    fn make_devices(&self, node: usize, namespace: &Namespace, take: u8) -> std::io::Result<()> {
        let [vni, port] = self.agent.vni_and_port();
        let queues = self.queues.device.to_string();
        for (v6, device) in [false, true].into_iter().zip(self.agent.devices()) {
            let (local, mac) = (node_address(node, v6), tunnel_mac(node, v6, take));
            let (mtu, address) = (mtu(v6).to_string(), self.agent.tunnel_address(node, v6));
            namespace.ip(&[
                "link",
                "add",
                device,
                "address",
                &mac,
                "mtu",
                &mtu,
                "numrxqueues",
                &queues,
                "numtxqueues",
                &queues,
                "type",
                "vxlan",
                "id",
                vni,
                "local",
                &local,
                "dev",
                "under",
                "dstport",
                port,
                "nolearning",
            ])?;
            namespace.address(device, &format!("{address}/{}", if v6 { 128 } else { 32 }))?;
            namespace.set_link(device, true)?;
        }
        Ok(())
    }

    /// Tells a node of another one: who has its address in the overlay, where that is, and which pods are there.
    fn introduce(&self, namespace: &Namespace, other: usize, take: u8) -> std::io::Result<()> {
        for (v6, device) in [false, true].into_iter().zip(self.agent.devices()) {
            let (mac, address) = (tunnel_mac(other, v6, take), self.agent.tunnel_address(other, v6));
            let pods = if v6 { format!("fd00:244:{other}::/64") } else { format!("10.244.{other}.0/24") };
            namespace.ip(&["neighbor", "replace", &address, "lladdr", &mac, "dev", device, "nud", "permanent"])?;
            bridge(namespace, &["fdb", "replace", &mac, "dev", device, "dst", &node_address(other, v6)]);
            namespace.ip(&["route", "replace", &pods, "via", &address, "dev", device, "onlink"])?;
        }
        Ok(())
    }

    /// Deletes the gateway's devices and makes them anew with other MAC addresses, as an agent does that was updated.
    pub fn remake_gateway_devices(&self, take: u8) {
        for device in self.agent.devices() {
            self.gateway.ip(&["link", "delete", device]).unwrap_or_else(|error| panic!("{error}"));
        }
        self.make_devices(GATEWAY, &self.gateway, take).unwrap_or_else(|error| panic!("{error}"));
        for node in 1..=self.nodes.len() {
            self.introduce(&self.gateway, node, 0).unwrap_or_else(|error| panic!("{error}"));
        }
        for (node, namespace) in self.all_nodes().skip(1) {
            self.introduce(namespace, GATEWAY, take).unwrap_or_else(|error| panic!("node {node}: {error}"));
        }
    }

    /// Makes a node's devices anew, and tells the gateway; `gateway` is the take of the gateway's own.
    pub fn remake_node_devices(&self, node: usize, take: u8, gateway: u8) {
        let namespace = &self.nodes[node - 1];
        for device in self.agent.devices() {
            namespace.ip(&["link", "delete", device]).unwrap_or_else(|error| panic!("{error}"));
        }
        let made = self.make_devices(node, namespace, take);
        let told = made.and_then(|()| self.introduce(namespace, GATEWAY, gateway));
        told.and_then(|()| self.introduce(&self.gateway, node, take)).unwrap_or_else(|error| panic!("{error}"));
        for v6 in [false, true] {
            self.route_back(node, v6, true).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Routes a node's answers to clients back by the overlay, or below it.
    pub fn route_back(&self, node: usize, v6: bool, by_overlay: bool) -> std::io::Result<()> {
        let clients = if v6 { "fd00:168::/64" } else { "192.168.0.0/24" };
        let tunnel = self.agent.tunnel_address(GATEWAY, v6);
        let below = node_address(GATEWAY, v6);
        let device = self.agent.devices()[usize::from(v6)];
        let way: Vec<&str> =
            if by_overlay { vec!["via", &tunnel, "dev", device, "onlink"] } else { vec!["via", &below] };
        let words: Vec<&str> = ["route", "replace", clients].into_iter().chain(way).collect();
        self.nodes[node - 1].ip(&words)
    }

    fn serve(&mut self) {
        for (index, pod) in self.pods.iter().enumerate() {
            let name = format!("pod{}", index + 1);
            self.servers.push(process::nginx(pod, &name, HTTP.target, self.folder.path()));
            self.echoes.push(EchoServer::start(pod, &name, ECHO.target));
        }
    }

    fn write_objects(&self) {
        let strings = |ips: [&str; 2]| ips.map(str::to_owned).to_vec();
        let addresses = Addresses {
            cluster: strings(CLUSTER_IPS),
            load_balancer: strings(LOAD_BALANCER_IPS),
            ..Addresses::default()
        };
        let ports = [HTTP, ECHO];
        let slice = |family, v6| {
            let pods: Vec<String> = (1..=self.nodes.len()).map(|node| pod_address(node, v6).to_string()).collect();
            objects::slice("web", family, &pods, &ports)
        };
        let all = [objects::service("web", &addresses, &ports), slice("IPv4", false), slice("IPv6", true)];
        std::fs::write(self.objects().join("web.json"), objects::list(&all).to_string()).expect("objects");
    }

    /// Writes the configuration with these interfaces.
    pub fn write_config(&self, interfaces: &[&str]) {
        let folder = self.folder.path().display();
        let interfaces: String = interfaces.iter().map(|name| format!("  - {{name: {name}}}\n")).collect();
        let text = format!(
            "nodeName: gw-1
source:
  files: {folder}/objects
node:
  addresses: [192.168.0.2, \"fd00:168::2\"]
interfaces:
{interfaces}flows:
  perWorker: 16384
state: {folder}/state
admin:
  socket: {folder}/admin.sock
"
        );
        std::fs::write(self.config(), text).expect("the configuration");
    }

    /// Starts Ringway on the gateway and waits until it is ready.
    pub fn start_ringway(&mut self) {
        let mut instance = Instance::start(&self.gateway, &self.config(), &self.folder.path().join("admin.sock"));
        instance.await_ready(&self.gateway);
        self.ringway = Some(instance);
    }

    /// A folder for files of the test; nginx serves it under /files/.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn objects(&self) -> PathBuf {
        self.folder.path().join("objects")
    }

    /// Path of the configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("ringway.yaml")
    }

    /// The running load balancer.
    #[track_caller]
    pub fn ringway(&mut self) -> &mut Instance {
        self.ringway.as_mut().expect("Ringway was started")
    }

    /// Its ledger, proven to close.
    #[track_caller]
    pub fn ledger(&mut self) -> Ledger {
        self.ringway().ledger()
    }
}

/// Runs `bridge`, which knows the forwarding entries of VXLAN devices.
pub fn bridge(namespace: &Namespace, arguments: &[&str]) {
    run(namespace, "bridge", arguments, Duration::from_secs(10)).unwrap_or_else(|error| panic!("{error}"));
}

fn end<'a>(namespace: &'a Namespace, link: &'a str) -> End<'a> {
    End { namespace, link, mac: None }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(ringway) = &self.ringway
        {
            println!("--- ringway's log\n{}", ringway.output());
            println!("--- its status\n{}", ringway.get("/status").map_or_else(|error| error, |v| format!("{v:#}")));
        }
    }
}
