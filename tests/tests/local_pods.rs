//! A gateway that is a worker node as well: endpoints are pods on the gateway itself, behind the devices that flannel's
//! bridge plugin and Calico make for them.
//!
//! ```text
//! client ── front [gateway] cni0 ── bridge ports ── pods          flannel: the bridge is listed
//! client ── front [gateway] cali1, cali2, ...  ── pods           Calico: the pods' own links are listed, by a glob
//! ```

use ringway_control::demo::process::Process;
use ringway_tests::echo::{EchoClient, EchoServer};
use ringway_tests::instance::Instance;
use ringway_tests::netns::{self, End, Namespace};
use ringway_tests::objects::{self, Addresses};
use ringway_tests::process::{ask, nginx, ping, run};
use ringway_tests::topology::{CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, at};
use ringway_tests::{can_run, eventually};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The gateway's addresses towards its pods, which flannel's bridge has.
const BRIDGE: [&str; 2] = ["10.244.0.1", "fd00:244::1"];
/// Those towards the client.
const FRONT: [&str; 2] = ["192.168.0.2", "fd00:168::2"];
const CLIENT: [&str; 2] = ["192.168.0.1", "fd00:168::1"];
/// What Calico gives the node's end of every pod's link.
const CALICO_MAC: &str = "ee:ee:ee:ee:ee:ee";
const CALICO_ROUTERS: [&str; 2] = ["169.254.1.1", "fe80::ecee:eeff:feee:eeee"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plugin {
    Bridge,
    Calico,
}

struct Bed {
    plugin: Plugin,
    ringway: Instance,
    _servers: Vec<Process>,
    _echoes: Vec<EchoServer>,
    client: Namespace,
    pods: Vec<Namespace>,
    gateway: Namespace,
    folder: tempfile::TempDir,
}

fn pod_ip(pod: usize, v6: bool) -> IpAddr {
    let text = if v6 { format!("fd00:244::{}", 11 + pod) } else { format!("10.244.0.{}", 11 + pod) };
    text.parse().expect("an address")
}

fn wire(plugin: Plugin, client: &Namespace, gateway: &Namespace, pods: &[Namespace]) -> std::io::Result<()> {
    let end = |namespace, link| End { namespace, link, mac: None };
    gateway.forward_packets()?;
    netns::veth(end(gateway, "front"), end(client, "eth0"), 1)?;
    for (v6, bits) in [(false, 24), (true, 64)] {
        gateway.address("front", &format!("{}/{bits}", FRONT[usize::from(v6)]))?;
        client.address("eth0", &format!("{}/{bits}", CLIENT[usize::from(v6)]))?;
        client.route("default", FRONT[usize::from(v6)])?;
        // Without a default route the kernel answers for no router in its own place.
        gateway.route("default", CLIENT[usize::from(v6)])?;
    }
    if plugin == Plugin::Bridge {
        gateway.bridge("cni0")?;
        gateway.address("cni0", &format!("{}/24", BRIDGE[0]))?;
        gateway.address("cni0", &format!("{}/64", BRIDGE[1]))?;
    }
    pods.iter().enumerate().try_for_each(|(number, pod)| wire_pod(plugin, gateway, number, pod))
}

/// A pod's link, as its plugin makes it.
fn wire_pod(plugin: Plugin, gateway: &Namespace, number: usize, pod: &Namespace) -> std::io::Result<()> {
    let link = format!("{}{number}", if plugin == Plugin::Bridge { "veth" } else { "cali" });
    let mac = (plugin == Plugin::Calico).then_some(CALICO_MAC);
    let eth0 = End { namespace: pod, link: "eth0", mac: None };
    netns::veth(End { namespace: gateway, link: &link, mac }, eth0, 1)?;
    for (v6, router) in [false, true].into_iter().zip(CALICO_ROUTERS) {
        let (family, own) = (if v6 { "-6" } else { "-4" }, pod_ip(number, v6));
        if plugin == Plugin::Bridge {
            pod.address("eth0", &format!("{own}/{}", if v6 { 64 } else { 24 }))?;
            pod.route("default", BRIDGE[usize::from(v6)])?;
            continue;
        }
        let host = format!("{own}/{}", if v6 { 128 } else { 32 });
        pod.address("eth0", &host)?;
        pod.ip(&[family, "route", "add", router, "dev", "eth0", "scope", "link"])?;
        pod.ip(&[family, "route", "add", "default", "via", router, "dev", "eth0"])?;
        gateway.ip(&[family, "route", "add", &host, "dev", &link, "scope", "link"])?;
    }
    match plugin {
        Plugin::Bridge => gateway.join(&link, "cni0")?,
        // As Calico's agent sets them.
        Plugin::Calico => {
            gateway.sysctl(&format!("net/ipv4/conf/{link}/proxy_arp"), "1")?;
            gateway.sysctl(&format!("net/ipv4/neigh/{link}/proxy_delay"), "0")?;
            gateway.sysctl(&format!("net/ipv4/conf/{link}/rp_filter"), "1")?;
        }
    }
    Ok(())
}

impl Bed {
    fn start(plugin: Plugin) -> Bed {
        let number = netns::next_bed();
        let namespace = |role: &str| netns::namespace(number, role);
        let (client, gateway) = (namespace("client"), namespace("gateway"));
        let pods: Vec<Namespace> = (0..3).map(|pod| namespace(&format!("pod{pod}"))).collect();
        wire(plugin, &client, &gateway, &pods).unwrap_or_else(|error| panic!("{error}"));
        let folder = tempfile::Builder::new().prefix("ringway-test-").tempdir().expect("a temporary folder");
        let (mut servers, mut echoes) = (Vec::new(), Vec::new());
        for (index, pod) in pods.iter().enumerate() {
            let name = format!("pod{index}");
            servers.push(nginx(pod, &name, HTTP.target, folder.path()));
            echoes.push(EchoServer::start(pod, &name, ECHO.target));
        }
        let strings = |ips: [&str; 2]| ips.map(str::to_owned).to_vec();
        let addresses = Addresses {
            cluster: strings(CLUSTER_IPS),
            load_balancer: strings(LOAD_BALANCER_IPS),
            ..Addresses::default()
        };
        let slice = |family, v6| {
            let ips: Vec<String> = (0..pods.len()).map(|pod| pod_ip(pod, v6).to_string()).collect();
            objects::slice("web", family, &ips, &[HTTP, ECHO])
        };
        let all = [objects::service("web", &addresses, &[HTTP, ECHO]), slice("IPv4", false), slice("IPv6", true)];
        let path = folder.path().display();
        std::fs::create_dir(folder.path().join("objects")).expect("a folder");
        std::fs::write(folder.path().join("objects/web.json"), objects::list(&all).to_string()).expect("objects");
        let listed = if plugin == Plugin::Bridge { "cni0" } else { "\"cali*\"" };
        let text = format!(
            "nodeName: gw-1
source:
  files: {path}/objects
node:
  addresses: [{}, \"{}\"]
interfaces:
  - name: front
  - name: {listed}
flows:
  perWorker: 16384
state: {path}/state
admin:
  socket: {path}/admin.sock
",
            FRONT[0], FRONT[1]
        );
        let config = folder.path().join("ringway.yaml");
        std::fs::write(&config, text).expect("the configuration");
        let mut ringway = Instance::start(&gateway, &config, &folder.path().join("admin.sock"));
        ringway.await_ready(&gateway);
        Bed { plugin, ringway, _servers: servers, _echoes: echoes, client, pods, gateway, folder }
    }

    /// What clients, pods and the node itself get.
    fn serves(&self, masqueraded_as: [&str; 2]) {
        let before = self.ringway.ledger();
        for family in [0, 1] {
            for (ip, seen) in
                [(CLUSTER_IPS[family], CLIENT[family]), (LOAD_BALANCER_IPS[family], masqueraded_as[family])]
            {
                let mut pods = BTreeSet::new();
                for _ in 0..20 {
                    let answer = ask(&self.client, at(ip, HTTP.port));
                    assert_eq!(answer.client, seen, "whom the pod saw through {ip}");
                    pods.insert(answer.backend);
                    let echo = EchoClient::new(&self.client, at(ip, ECHO.port));
                    let answer = echo.ask(b"local").unwrap_or_else(|error| panic!("{ip}: {error}"));
                    assert_eq!(answer.client, seen, "whom the pod saw through {ip}");
                }
                assert_eq!(pods.len(), self.pods.len(), "{ip}: {pods:?}");
                // A pod is a client as well. On the bridge the others answer it themselves, so its address must not be kept.
                if self.plugin == Plugin::Calico || seen != CLIENT[family] {
                    (0..10).for_each(|_| drop(ask(&self.pods[0], at(ip, HTTP.port))));
                }
            }
        }
        let ledger = self.ringway.ledger().since(&before);
        assert_eq!(ledger.dropped(), 0, "{ledger:?}");
        for v6 in [false, true] {
            // What has nothing to do with a Service goes on by the kernel.
            let other = pod_ip(1, v6);
            ping(&self.pods[0], other, 2).unwrap_or_else(|error| panic!("{error}"));
            ask(&self.gateway, SocketAddr::new(other, HTTP.target));
            ask(&self.pods[0], SocketAddr::new(other, HTTP.target));
        }
    }

    fn transfers(&self) {
        let content: Vec<u8> =
            (0..10_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(10 << 20).collect();
        std::fs::write(self.folder.path().join("content"), &content).expect("the file to serve");
        for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
            let (target, url) =
                (self.folder.path().join("received"), format!("http://{}/files/content", at(ip, HTTP.port)));
            let arguments = ["-gsS", "--fail", "--max-time", "30", "-o", target.to_str().expect("a path"), &url];
            run(&self.client, "curl", &arguments, Duration::from_secs(35)).unwrap_or_else(|error| panic!("{error}"));
            assert!(std::fs::read(&target).expect("what curl wrote") == content, "{ip}: other bytes than were sent");
        }
        self.ringway.ledger().assert_closes();
    }
}

#[test]
fn pods_on_the_gateway_behind_flannels_bridge() {
    if !can_run("pods_on_the_gateway_behind_flannels_bridge", &["ip", "nginx", "curl", "ping"]) {
        return;
    }
    let bed = Bed::start(Plugin::Bridge);
    bed.serves(BRIDGE);
    bed.transfers();
}

#[test]
fn pods_on_the_gateway_behind_calicos_links() {
    if !can_run("pods_on_the_gateway_behind_calicos_links", &["ip", "nginx", "curl", "ping"]) {
        return;
    }
    let bed = Bed::start(Plugin::Calico);
    // Their links have no address of the node's: Linux takes the first that it has elsewhere.
    bed.serves(FRONT);
    bed.transfers();
}

/// Packet memory is set aside at the start, with room for two links more: the third stays unattached, and that is told.
#[test]
fn links_of_later_pods_are_attached_as_far_as_memory_goes() {
    if !can_run("links_of_later_pods_are_attached_as_far_as_memory_goes", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Plugin::Calico);
    let number = netns::next_bed();
    for later in [3, 4, 5] {
        let pod = netns::namespace(number, &format!("pod{later}"));
        wire_pod(Plugin::Calico, &bed.gateway, later, &pod).unwrap_or_else(|error| panic!("{error}"));
        bed.pods.push(pod);
        let name = format!("cali{later}");
        let told = eventually(Duration::from_secs(10), "the link is noticed", || {
            let status = bed.ringway.ask("/status");
            let interfaces = status["interfaces"].as_array().cloned().unwrap_or_default();
            let found = interfaces.into_iter().find(|interface| interface["name"] == *name);
            let known = |found: &serde_json::Value| found["mode"].is_string() || found["problem"].is_string();
            found.filter(known).ok_or_else(|| status["interfaces"].to_string())
        });
        match later {
            3 | 4 => assert_eq!(told["mode"], "native", "{told}"),
            _ => assert!(told["problem"].as_str().is_some_and(|text| text.contains("restart Ringway")), "{told}"),
        }
    }
    // One that goes makes room.
    bed.gateway.ip(&["link", "delete", "cali3"]).unwrap_or_else(|error| panic!("{error}"));
    eventually(Duration::from_secs(10), "the last link is attached", || {
        let status = bed.ringway.ask("/status");
        let attached = |interface: &serde_json::Value| interface["name"] == "cali5" && interface["mode"].is_string();
        let is = status["interfaces"].as_array().is_some_and(|all| all.iter().any(attached));
        if is { Ok(()) } else { Err(status["interfaces"].to_string()) }
    });
}
