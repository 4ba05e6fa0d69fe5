//! The demo's network: a client, a gateway running Ringway, and backends behind a bridge, each in a namespace.
//!
//! ```text
//! client ── front [gateway] back ── bridge ── backend-a, backend-b, backend-c (and later backend-d)
//! ```

use super::client::Target;
use super::netns::{End, Namespace, lives, veth};
use serde_json::Value;
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

/// Backends by name; the last one joins late.
pub(super) const BACKENDS: [&str; 4] = ["backend-a", "backend-b", "backend-c", "backend-d"];
/// The client's IPv4 address.
pub(super) const CLIENT: &str = "192.168.0.1";
/// The Service's ClusterIPs.
pub(super) const CLUSTER_IPS: [&str; 2] = ["172.30.0.10", "fd00:30::10"];
const LOAD_BALANCER_IPS: [&str; 2] = ["198.51.100.10", "2001:db8:1::10"];
const NODE_IPS: [&str; 2] = ["192.168.0.2", "fd00:168::2"];
const NODE_PORTS: [u16; 2] = [30_080, 30_053];
const PORTS: [u16; 2] = [80, 53];

fn name(link: &Value) -> &str {
    link["ifname"].as_str().unwrap_or("?")
}

/// The namespaces, their links, and the files of the gateway. Dropping it removes all.
#[derive(Debug)]
pub(super) struct Bed {
    /// Where the client is.
    pub(super) client: Namespace,
    /// Where Ringway runs.
    pub(super) gateway: Namespace,
    /// Where the backends are, in the order of [`BACKENDS`].
    pub(super) backends: Vec<Namespace>,
    fabric: Namespace,
    folder: PathBuf,
    /// The gateway's links before Ringway runs. Modules for tunnels give every namespace a `tunl0`, `sit0` or `gre0`.
    links: Vec<String>,
}

impl Bed {
    /// Makes it all, objects and configuration included.
    pub(super) fn create() -> io::Result<Bed> {
        let folder = PathBuf::from(format!("/run/ringway-demo-{}", std::process::id()));
        remove_stale_folders();
        std::fs::create_dir_all(folder.join("objects"))?;
        let make = |role: &str| Namespace::create("demo", role);
        let mut bed = Bed {
            client: make("client")?,
            gateway: make("gateway")?,
            backends: BACKENDS.iter().map(|name| make(&name.replace('-', ""))).collect::<io::Result<_>>()?,
            fabric: make("fabric")?,
            folder,
            links: Vec::new(),
        };
        bed.wire()?;
        bed.links = bed.gateways_links()?.iter().map(|link| name(link).to_owned()).collect();
        bed.write_config()?;
        bed.write("service.yaml", &service())?;
        Ok(bed)
    }

    fn wire(&self) -> io::Result<()> {
        let fabric = &self.fabric;
        fabric.bridge("br0")?;
        veth(end(&self.gateway, "front"), end(&self.client, "eth0"), 1)?;
        veth(end(&self.gateway, "back"), end(fabric, "gateway"), 1)?;
        fabric.join("gateway", "br0")?;
        self.gateway.forward_packets()?;
        // A link that somebody takes down to see what happens shall have its IPv6 addresses when it comes up.
        self.gateway.sysctl("net/ipv6/conf/all/keep_addr_on_down", "1")?;
        for (link, address) in [("front", NODE_IPS), ("back", ["10.180.0.1", "fd00:180::1"])] {
            self.gateway.address(link, &format!("{}/24", address[0]))?;
            self.gateway.address(link, &format!("{}/64", address[1]))?;
        }
        self.client.address("eth0", &format!("{CLIENT}/24"))?;
        self.client.address("eth0", "fd00:168::1/64")?;
        NODE_IPS.iter().try_for_each(|gateway| self.client.route("default", gateway))?;
        for (index, (backend, name)) in self.backends.iter().zip(BACKENDS).enumerate() {
            veth(end(backend, "eth0"), end(fabric, name), 1)?;
            fabric.join(name, "br0")?;
            let [v4, v6] = backend_ips(index);
            backend.address("eth0", &format!("{v4}/24"))?;
            backend.address("eth0", &format!("{v6}/64"))?;
            backend.route("default", "10.180.0.1")?;
            backend.route("default", "fd00:180::1")?;
        }
        Ok(())
    }

    /// Path of the configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("ringway.yaml")
    }

    /// Path of the admin socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }

    /// Folder of the Kubernetes objects.
    pub(super) fn objects(&self) -> PathBuf {
        self.folder.join("objects")
    }

    /// Every VIP with IPv4 and IPv6; the first is the IPv4 ClusterIP.
    pub(super) fn targets(&self) -> Vec<Target> {
        let kinds = [
            ("ClusterIP", CLUSTER_IPS, PORTS),
            ("NodePort", NODE_IPS, NODE_PORTS),
            ("LoadBalancer IP", LOAD_BALANCER_IPS, PORTS),
        ];
        let target = |what, ip: &str, [http, udp]: [u16; 2]| {
            let ip: IpAddr = ip.parse().ok()?;
            Some(Target { what, http: SocketAddr::new(ip, http), udp: SocketAddr::new(ip, udp) })
        };
        let each = |(what, ips, ports): (&'static str, [&'static str; 2], [u16; 2])| {
            ips.into_iter().filter_map(move |ip| target(what, ip, ports))
        };
        kinds.into_iter().flat_map(each).collect()
    }

    /// Makes these backends, by index, the Service's ready endpoints, as the EndpointSlice controller would.
    pub(super) fn set_endpoints(&self, backends: &[usize]) -> io::Result<()> {
        self.write("slices.yaml", &slices(backends))
    }

    /// What Ringway left in the gateway, as words; empty for nothing.
    pub(super) fn leftovers(&self) -> io::Result<String> {
        let mut words = String::new();
        for link in &self.gateways_links()? {
            let name = name(link);
            if link.get("xdp").is_some() {
                words.push_str(&format!(", but {name} still has a program"));
            }
            if !self.links.iter().any(|known| known == name) {
                words.push_str(&format!(", but {name} is still there"));
            }
        }
        Ok(words)
    }

    fn gateways_links(&self) -> io::Result<Vec<Value>> {
        let output = Command::new("ip").args(["-netns", self.gateway.name(), "-json", "link", "show"]).output()?;
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    }

    fn write_config(&self) -> io::Result<()> {
        let folder = self.folder.display();
        let text = format!(
            "# A gateway between clients (front) and backends (back).
nodeName: demo-gateway
source:
  files: {folder}/objects
node:
  addresses: [{}, \"{}\"]
interfaces:
  - name: front
  - name: back
flows:
  perWorker: 65536
state: {folder}/state
admin:
  socket: {folder}/admin.sock
",
            NODE_IPS[0], NODE_IPS[1]
        );
        std::fs::write(self.config(), text)
    }

    /// Writes a manifest in one step: a watched file must never be seen half written.
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let temporary = self.objects().join(format!(".{file}"));
        std::fs::write(&temporary, text)?;
        std::fs::rename(temporary, self.objects().join(file))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // What is left in /run is removed by the next demo.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn end<'a>(namespace: &'a Namespace, link: &'a str) -> End<'a> {
    End { namespace, link, mac: None }
}

/// A backend's addresses, IPv4 and IPv6.
pub(super) fn backend_ips(index: usize) -> [String; 2] {
    [format!("10.180.0.{}", 11 + index), format!("fd00:180::{}", 11 + index)]
}

/// Removes the folders of demos whose process is gone.
fn remove_stale_folders() {
    for entry in std::fs::read_dir("/run").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix("ringway-demo-")).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !lives(pid)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn service() -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web, namespace: demo}}
spec:
  type: LoadBalancer
  clusterIP: {}
  clusterIPs: [{}, \"{}\"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports:
    - {{name: http, protocol: TCP, port: {}, targetPort: 8080, nodePort: {}}}
    - {{name: echo, protocol: UDP, port: {}, targetPort: 5353, nodePort: {}}}
status:
  loadBalancer:
    ingress: [{{ip: {}}}, {{ip: \"{}\"}}]
",
        CLUSTER_IPS[0],
        CLUSTER_IPS[0],
        CLUSTER_IPS[1],
        PORTS[0],
        NODE_PORTS[0],
        PORTS[1],
        NODE_PORTS[1],
        LOAD_BALANCER_IPS[0],
        LOAD_BALANCER_IPS[1]
    )
}

fn slices(backends: &[usize]) -> String {
    let mut text = String::new();
    for (family, kind) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let _ = write!(
            text,
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-{}
  namespace: demo
  labels: {{kubernetes.io/service-name: web}}
addressType: {kind}
ports:
  - {{name: http, protocol: TCP, port: 8080}}
  - {{name: echo, protocol: UDP, port: 5353}}
endpoints:
",
            kind.to_lowercase()
        );
        for index in backends {
            let ip = &backend_ips(*index)[family];
            let _ = writeln!(text, "  - addresses: [\"{ip}\"]\n    conditions: {{ready: true}}");
        }
        if backends.is_empty() {
            text.truncate(text.trim_end().len());
            text.push_str(" []\n");
        }
    }
    text
}
