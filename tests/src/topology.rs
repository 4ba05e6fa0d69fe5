//! Gateway beds: a client, a gateway running Ringway, and backends, each in a namespace.
//!
//! ```text
//! two arms:  client ── front [gateway] back ── bridge ── backend0, backend1, ...
//!            192.168.0.1   .2          10.180.0.1         10.180.0.11, .12, ...
//! one arm:   client ── bridge ── eth0 [gateway]
//!            192.168.0.1         .2     └ backend0 (192.168.0.11), backend1, ...
//! ```
//! IPv6 likewise, in fd00:168::/64 and fd00:180::/64. Client and backends have the gateway as their default route, so
//! that source-kept replies come back through it. Offloads are left as the kernel sets them.

use crate::echo::EchoServer;
use crate::instance::Instance;
use crate::ledger::Ledger;
use crate::netns::{self, End, Namespace};
use crate::objects::{self, Addresses, Port};
use crate::process;
use ringway_control::demo::process::Process;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// HTTP of the Service `web`.
pub const HTTP: Port = Port { name: "http", protocol: "TCP", port: 80, target: 8080, node_port: 30_080 };
/// UDP of the Service `web`.
pub const ECHO: Port = Port { name: "echo", protocol: "UDP", port: 53, target: 5353, node_port: 30_053 };
/// iperf3's TCP, in the Service `bulk`.
pub const BULK_TCP: Port = Port { name: "tcp", protocol: "TCP", port: 5201, target: 5201, node_port: 0 };
/// iperf3's UDP, in the Service `bulk`.
pub const BULK_UDP: Port = Port { name: "udp", protocol: "UDP", port: 5201, target: 5201, node_port: 0 };

/// ClusterIPs of `web`.
pub const CLUSTER_IPS: [&str; 2] = ["172.30.0.10", "fd00:30::10"];
/// External IPs of `web`.
pub const EXTERNAL_IPS: [&str; 2] = ["203.0.113.10", "2001:db8:e::10"];
/// LoadBalancer IPs of `web`.
pub const LOAD_BALANCER_IPS: [&str; 2] = ["198.51.100.10", "2001:db8:1::10"];
/// The gateway's own addresses towards the client, where NodePorts are.
pub const NODE_IPS: [&str; 2] = ["192.168.0.2", "fd00:168::2"];
/// ClusterIPs of `bulk`.
pub const BULK_IPS: [&str; 2] = ["172.30.0.20", "fd00:30::20"];

/// An address written here and a port.
pub fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap_or_else(|error| panic!("{ip}: {error}")), port)
}

/// What a bed is like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Client and backends on one link of the gateway, instead of one each.
    pub one_arm: bool,
    /// Queues of the gateway's links.
    pub queues: u32,
    /// `interfaces[].xdp`.
    pub xdp: &'static str,
    /// How many backends.
    pub backends: usize,
    /// `services.masqueradeAll`.
    pub masquerade: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { one_arm: false, queues: 1, xdp: "native", backends: 3, masquerade: false }
    }
}

/// A bed. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct Bed {
    options: Options,
    /// The running load balancer. First, so that it ends while its links are still there.
    ringway: Option<Instance>,
    servers: Vec<Process>,
    echoes: Vec<EchoServer>,
    /// Where clients are.
    pub client: Namespace,
    /// Where Ringway runs.
    pub gateway: Namespace,
    /// The switch that backends hang on.
    pub fabric: Namespace,
    /// The backends.
    pub backends: Vec<Namespace>,
    folder: tempfile::TempDir,
}

impl Bed {
    /// Makes links and servers, writes the objects (`web`, over all backends) and starts Ringway.
    pub fn start(options: Options) -> Bed {
        let mut bed = Bed::prepare(options);
        bed.serve();
        bed.start_ringway();
        bed
    }

    /// Makes namespaces and links only, and writes objects and configuration.
    pub fn prepare(options: Options) -> Bed {
        let number = netns::next_bed();
        let fabric = netns::namespace(number, "fabric");
        let client = netns::namespace(number, "client");
        let gateway = netns::namespace(number, "gateway");
        let backends =
            (0..options.backends).map(|index| netns::namespace(number, &format!("backend{index}"))).collect();
        let folder = tempfile::Builder::new().prefix("ringway-test-").tempdir().expect("a temporary folder");
        let bed = Bed {
            options,
            ringway: None,
            servers: Vec::new(),
            echoes: Vec::new(),
            client,
            gateway,
            fabric,
            backends,
            folder,
        };
        bed.wire().unwrap_or_else(|error| panic!("{error}"));
        std::fs::create_dir(bed.objects()).expect("the folder for objects");
        bed.write_web(&(0..bed.backends.len()).collect::<Vec<_>>());
        bed.write_config("");
        bed
    }

    fn wire(&self) -> std::io::Result<()> {
        let Options { one_arm, queues, .. } = self.options;
        self.fabric.bridge("br0")?;
        self.gateway.forward_packets()?;
        if one_arm {
            netns::veth(end(&self.gateway, "eth0"), end(&self.fabric, "gw"), queues)?;
            netns::veth(end(&self.client, "eth0"), end(&self.fabric, "client"), queues)?;
            self.fabric.join("gw", "br0")?;
            self.fabric.join("client", "br0")?;
            self.gateway.address("eth0", "192.168.0.2/24")?;
            self.gateway.address("eth0", "fd00:168::2/64")?;
        } else {
            netns::veth(end(&self.gateway, "front"), end(&self.client, "eth0"), queues)?;
            netns::veth(end(&self.gateway, "back"), end(&self.fabric, "gw"), queues)?;
            self.fabric.join("gw", "br0")?;
            self.gateway.address("front", "192.168.0.2/24")?;
            self.gateway.address("front", "fd00:168::2/64")?;
            self.gateway.address("back", "10.180.0.1/24")?;
            self.gateway.address("back", "fd00:180::1/64")?;
        }
        self.client.address("eth0", "192.168.0.1/24")?;
        self.client.address("eth0", "fd00:168::1/64")?;
        self.client.route("default", NODE_IPS[0])?;
        self.client.route("default", NODE_IPS[1])?;
        for (index, backend) in self.backends.iter().enumerate() {
            let port = format!("b{index}");
            netns::veth(end(backend, "eth0"), end(&self.fabric, &port), queues)?;
            self.fabric.join(&port, "br0")?;
            backend.address("eth0", &format!("{}/24", self.backend_ip(index, false)))?;
            backend.address("eth0", &format!("{}/64", self.backend_ip(index, true)))?;
            backend.route("default", if one_arm { NODE_IPS[0] } else { "10.180.0.1" })?;
            backend.route("default", if one_arm { NODE_IPS[1] } else { "fd00:180::1" })?;
        }
        Ok(())
    }

    /// Address of a backend.
    pub fn backend_ip(&self, index: usize, v6: bool) -> IpAddr {
        let host = 11 + index;
        let text = match (self.options.one_arm, v6) {
            (false, false) => format!("10.180.0.{host}"),
            (false, true) => format!("fd00:180::{host}"),
            (true, false) => format!("192.168.0.{host}"),
            (true, true) => format!("fd00:168::{host}"),
        };
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The links that Ringway attaches to.
    pub fn links(&self) -> &'static [&'static str] {
        if self.options.one_arm { &["eth0"] } else { &["front", "back"] }
    }

    /// Starts a web server and a UDP echo on each backend.
    pub fn serve(&mut self) {
        for (index, backend) in self.backends.iter().enumerate() {
            let name = format!("backend{index}");
            self.servers.push(process::nginx(backend, &name, HTTP.target, self.folder.path()));
            self.echoes.push(EchoServer::start(backend, &name, ECHO.target));
        }
    }

    /// Starts an iperf3 server on a backend and the Service `bulk` that has it as its only endpoint: iperf3's control
    /// and data connections must meet at one server.
    pub fn serve_bulk(&mut self, backend: usize) {
        self.servers.push(process::iperf_server(&self.backends[backend], BULK_TCP.target));
        let addresses = Addresses { cluster: BULK_IPS.map(str::to_owned).to_vec(), ..Addresses::default() };
        let ports = [BULK_TCP, BULK_UDP];
        let endpoint = |v6| [self.backend_ip(backend, v6).to_string()];
        self.write_object(
            "bulk.json",
            &objects::list(&[
                objects::service("bulk", &addresses, &ports),
                objects::slice("bulk", "IPv4", &endpoint(false), &ports),
                objects::slice("bulk", "IPv6", &endpoint(true), &ports),
            ]),
        );
    }

    /// Takes a backend's servers away as a crash would: its addresses stay, its ports answer with RST.
    pub fn kill_servers(&mut self, backend: usize) {
        // Dropping a process kills it; the order is that of `serve`.
        drop(self.servers.remove(backend));
        drop(self.echoes.remove(backend));
    }

    /// A folder for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that `source.files` names.
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join("objects")
    }

    /// Path of the configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("ringway.yaml")
    }

    /// Path of the admin socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Writes the Service `web` with all its addresses and these backends as endpoints.
    pub fn write_web(&self, backends: &[usize]) {
        let strings = |ips: [&str; 2]| ips.map(str::to_owned).to_vec();
        let addresses = Addresses {
            cluster: strings(CLUSTER_IPS),
            external: strings(EXTERNAL_IPS),
            load_balancer: strings(LOAD_BALANCER_IPS),
        };
        self.write_object("web-service.json", &objects::service("web", &addresses, &[HTTP, ECHO]));
        self.write_web_slices(backends);
    }

    /// Writes only the slices of `web`.
    pub fn write_web_slices(&self, backends: &[usize]) {
        let ips = |v6| backends.iter().map(|index| self.backend_ip(*index, v6).to_string()).collect::<Vec<_>>();
        self.write_object("web-slice4.json", &objects::slice("web", "IPv4", &ips(false), &[HTTP, ECHO]));
        self.write_object("web-slice6.json", &objects::slice("web", "IPv6", &ips(true), &[HTTP, ECHO]));
    }

    /// Writes a manifest into the watched folder, in one step.
    pub fn write_object(&self, file: &str, object: &Value) {
        self.write_manifest(file, &object.to_string());
    }

    /// Writes any text into the watched folder, in one step.
    pub fn write_manifest(&self, file: &str, text: &str) {
        let path = self.objects().join(file);
        // A dotfile is not read.
        let temporary = self.objects().join(format!(".{file}"));
        std::fs::write(&temporary, text).unwrap_or_else(|error| panic!("{}: {error}", temporary.display()));
        std::fs::rename(&temporary, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Removes a manifest.
    pub fn remove_object(&self, file: &str) {
        let path = self.objects().join(file);
        std::fs::remove_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Writes the configuration; `more` is appended as it is.
    pub fn write_config(&self, more: &str) {
        let folder = self.folder.path().display();
        let interfaces: String = self
            .links()
            .iter()
            .map(|link| format!("  - {{name: {link}, xdp: {xdp}}}\n", xdp = self.options.xdp))
            .collect();
        let text = format!(
            "nodeName: gw-1
source:
  files: {folder}/objects
node:
  addresses: [{v4}, \"{v6}\"]
services:
  masqueradeAll: {masquerade}
interfaces:
{interfaces}flows:
  perWorker: 16384
state: {folder}/state
admin:
  socket: {folder}/admin.sock
{more}",
            v4 = NODE_IPS[0],
            v6 = NODE_IPS[1],
            masquerade = self.options.masquerade,
        );
        std::fs::write(self.config(), text).expect("the configuration");
    }

    /// Starts Ringway in the gateway and waits until it is ready.
    pub fn start_ringway(&mut self) {
        let mut instance = Instance::start(&self.gateway, &self.config(), &self.socket());
        instance.await_ready(&self.gateway);
        self.ringway = Some(instance);
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

    /// What `status` says, for who shares the bed with others.
    pub fn status(&self) -> Result<Value, String> {
        self.ringway.as_ref().ok_or("Ringway was not started")?.get("/status")
    }
}

fn end<'a>(namespace: &'a Namespace, link: &'a str) -> End<'a> {
    End { namespace, link, mac: None }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The harness shows this with the failed test.
            if let Some(ringway) = &self.ringway {
                println!("--- ringway's log\n{}", ringway.output());
                println!("--- its status\n{}", ringway.get("/status").map_or_else(|error| error, |v| format!("{v:#}")));
            }
        }
    }
}
