//! The bed: client, gateway and backend in namespaces, joined by veth pairs, and two forwarders measured in one run.
//!
//! ```text
//! client eth0 ── front [gateway] back ── eth0 backend
//! ```
//! The bare forwarder and `ringway run` take turns, so that whatever else the machine does disturbs both alike. The
//! client sends to a NodePort: Ringway looks up, masquerades and rewrites; the bare forwarder changes MAC addresses only.
//! For throughput the backend's XDP program counts and drops, since a receiver would compete for a CPU; for latency, at a
//! low rate, a recorder takes every frame.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringway_control::demo::instance::Instance;
use ringway_control::demo::netns::{End, Namespace, veth};
use ringway_dataplane::af_xdp::Device;
use ringway_dataplane::af_xdp::program::{SteeringEntry, SteeringProgram, XdpMode};
use ringway_shared::MacAddress;
use serde_json::{Value, json};

use crate::failure::{Failure, failed};
use crate::forwarder::{Way, forward};
use crate::generator::{By, Load, Offered, send};
use crate::recorder::{record, tap};
use crate::traffic::{Kind, Mix, SizeList};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);
const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 180, 0, 11);
const NODE_PORT: u16 = 30_053;
const CLIENT_MAC: &str = "02:00:00:00:01:01";
const FRONT_MAC: &str = "02:00:00:00:01:02";
const BACK_MAC: &str = "02:00:00:00:02:01";
const BACKEND_MAC: &str = "02:00:00:00:02:02";
/// How long `ringway run` may take until it serves.
const READY: Duration = Duration::from_secs(20);
/// How long frames under way may take after the load has ended.
const SETTLE: Duration = Duration::from_millis(300);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `ringway` binary.
    pub binary: PathBuf,
    /// Flows in the mix.
    pub flows: u32,
    /// Frame lengths, without check sequence: 60 is what Ethernet calls a 64-byte frame.
    pub sizes: SizeList,
    /// The generator for throughput. Latency is measured by the same.
    pub by: By,
    /// How long each system is loaded in each round.
    pub duration: Duration,
    /// How often the systems take turns.
    pub rounds: u32,
    /// Frames a second for throughput; 0 for as many as the generator can.
    pub rate: u64,
    /// Frames a second for latency.
    pub latency_rate: u64,
    /// The CPUs of the generator and of the forwarder; `None` leaves them to the scheduler.
    pub cpus: Option<[usize; 2]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Bare,
    Ringway,
}

struct Bed {
    // Ends first.
    instance: Option<Instance>,
    client: Namespace,
    gateway: Namespace,
    backend: Namespace,
    folder: tempfile::TempDir,
    options: Options,
}

/// What one system did.
#[derive(Default)]
struct Runs {
    offered: Vec<f64>,
    arrived: Vec<f64>,
    loss: Vec<f64>,
    /// Which generator it was, and why.
    by: Option<(By, Option<String>)>,
    latency: Option<Histogram<u64>>,
    latency_lost: u64,
}

/// Measures both systems; the report is one JSON object.
pub fn run(options: Options) -> Result<Value, Failure> {
    let mut bed = Bed::new(options)?;
    let (mut bare, mut ringway) = (Runs::default(), Runs::default());
    for _ in 0..bed.options.rounds.max(1) {
        for (system, runs) in [(System::Bare, &mut bare), (System::Ringway, &mut ringway)] {
            bed.with(system, |bed| bed.throughput(runs))?;
        }
    }
    for (system, runs) in [(System::Bare, &mut bare), (System::Ringway, &mut ringway)] {
        bed.with(system, |bed| bed.latency(runs))?;
    }
    let ratios = ringway.arrived.iter().zip(&bare.arrived).map(|(ours, theirs)| ours / theirs.max(1.0));
    let ratio = median(&ratios.collect::<Vec<_>>());
    Ok(json!({
        "flows": bed.options.flows,
        "frameBytes": bed.options.sizes.to_string(),
        "seconds": bed.options.duration.as_secs_f64(),
        "bare": bare.report(),
        "ringway": ringway.report(),
        "ratio": ratio,
    }))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

impl Runs {
    fn report(&self) -> Value {
        let micros = |quantile: f64| {
            self.latency.as_ref().map_or(0.0, |latency| latency.value_at_quantile(quantile) as f64 / 1000.0)
        };
        let (by, because) = self.by.clone().unzip();
        json!({
            "by": by.map(By::label),
            "because": because.flatten(),
            "offeredPerSecond": self.offered,
            "arrivedPerSecond": self.arrived,
            "arrivedMedian": median(&self.arrived),
            "lossPercent": self.loss,
            "latencyMicros": {"p50": micros(0.5), "p90": micros(0.9), "p99": micros(0.99), "p999": micros(0.999)},
            "latencyLost": self.latency_lost,
            "latencyPackets": self.latency.as_ref().map_or(0, Histogram::len),
        })
    }
}

impl Bed {
    fn new(options: Options) -> Result<Self, Failure> {
        let cannot = || failed::<std::io::Error>("cannot make the bed (root is needed)");
        let namespace = |role| Namespace::create("perf", role).map_err(cannot());
        let (client, gateway, backend) = (namespace("client")?, namespace("gateway")?, namespace("backend")?);
        let folder = tempfile::Builder::new().prefix("ringway-perf-").tempdir().map_err(cannot())?;
        let bed = Bed { instance: None, client, gateway, backend, folder, options };
        bed.wire().map_err(cannot())?;
        bed.write().map_err(cannot())?;
        Ok(bed)
    }

    fn wire(&self) -> std::io::Result<()> {
        fn end<'a>(namespace: &'a Namespace, link: &'a str, mac: &'a str) -> End<'a> {
            End { namespace, link, mac: Some(mac) }
        }
        veth(end(&self.gateway, "front", FRONT_MAC), end(&self.client, "eth0", CLIENT_MAC), 1)?;
        veth(end(&self.gateway, "back", BACK_MAC), end(&self.backend, "eth0", BACKEND_MAC), 1)?;
        self.client.address("eth0", "192.168.0.1/24")?;
        self.gateway.address("front", "192.168.0.2/24")?;
        self.gateway.address("back", "10.180.0.1/24")?;
        self.backend.address("eth0", "10.180.0.11/24")?;
        self.gateway.forward_packets()?;
        // Neighbours are given: the backend's XDP program takes what would answer.
        for (address, mac, link) in [("10.180.0.11", BACKEND_MAC, "back"), ("192.168.0.1", CLIENT_MAC, "front")] {
            self.gateway.ip(&["neigh", "replace", address, "lladdr", mac, "dev", link, "nud", "permanent"])?;
        }
        Ok(())
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("ringway.yaml")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn write(&self) -> std::io::Result<()> {
        let folder = self.folder.path().display();
        let workers = self.options.cpus.map_or(String::new(), |[_, cpu]| format!("workers: {{cpus: [{cpu}]}}\n"));
        let config = format!(
            "nodeName: gw-1\nsource:\n  files: {folder}/objects\nnode:\n  addresses: [{NODE}]\ninterfaces:\n  \
             - {{name: front, xdp: native}}\n  - {{name: back, xdp: native}}\n{workers}flows:\n  perWorker: {}\nstate: \
             {folder}/state\nadmin:\n  socket: {folder}/admin.sock\n",
            self.options.flows.next_power_of_two().max(16_384),
        );
        std::fs::write(self.config(), config)?;
        std::fs::create_dir(self.folder.path().join("objects"))?;
        let port = json!({"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353, "nodePort": NODE_PORT});
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns", "namespace": "perf"},
            "spec": {"type": "NodePort", "clusterIP": "172.30.0.10", "clusterIPs": ["172.30.0.10"],
                     "ipFamilies": ["IPv4"], "selector": {"app": "dns"}, "ports": [port]},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "dns-1", "namespace": "perf", "labels": {"kubernetes.io/service-name": "dns"}},
            "endpoints": [{"addresses": [BACKEND],
                           "conditions": {"ready": true, "serving": true, "terminating": false}}],
            "ports": [{"name": "dns", "protocol": "UDP", "port": 5353}],
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [service, slice]});
        std::fs::write(self.folder.path().join("objects/dns.json"), list.to_string())
    }

    /// Runs `work` while one of the systems forwards.
    fn with(&mut self, system: System, work: impl FnOnce(&mut Bed) -> Result<(), Failure>) -> Result<(), Failure> {
        match system {
            System::Ringway => {
                self.start_ringway()?;
                let done = work(self);
                if let Some(mut instance) = self.instance.take() {
                    instance.stop().map_err(failed("ringway run"))?;
                }
                done
            }
            System::Bare => {
                let stop = std::sync::Arc::new(AtomicBool::new(false));
                let next_hop = BACKEND_MAC.parse::<MacAddress>().map_err(|_| Failure(BACKEND_MAC.into()))?;
                let way = Way { from: "front".into(), to: "back".into(), addresses: vec![IpAddr::V4(NODE)], next_hop };
                let (ready, is_ready) = mpsc::channel();
                let (flag, cpu) = (stop.clone(), self.options.cpus.map(|[_, cpu]| cpu));
                let thread = self
                    .gateway
                    .spawn("forwarder", move || {
                        pin(cpu);
                        let told = ready.clone();
                        let done =
                            forward(&way, move || drop(told.send(Ok(()))), || flag.load(Ordering::Relaxed)).map(|_| ());
                        if let Err(failure) = done {
                            drop(ready.send(Err(failure)));
                        }
                    })
                    .map_err(failed("the bare forwarder"))?;
                let started = is_ready.recv().map_err(failed("the bare forwarder")).flatten();
                let done = started.and_then(|()| work(self));
                stop.store(true, Ordering::Relaxed);
                // A panic there was printed there.
                let _ = thread.join();
                done
            }
        }
    }

    fn start_ringway(&mut self) -> Result<(), Failure> {
        let (config, socket) = (self.config(), self.socket());
        let mut instance = Instance::start(&self.gateway, &self.options.binary, &config, &socket)
            .map_err(failed(self.options.binary.display()))?;
        let start = Instant::now();
        loop {
            match instance.healthy(&self.gateway) {
                Ok(()) => break,
                Err(why) if why.ended || start.elapsed() > READY => return Err(Failure(why.text)),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        self.instance = Some(instance);
        Ok(())
    }

    /// A load from the client.
    fn offer(&self, rate: u64, duration: Duration) -> Result<Offered, Failure> {
        let mac = |text: &str| text.parse::<MacAddress>().map_err(|_| Failure(text.to_owned()));
        let mix = Mix {
            kind: Kind::Udp4,
            flows: self.options.flows,
            sizes: self.options.sizes.of(Kind::Udp4),
            destination_mac: mac(FRONT_MAC)?,
            source_mac: mac(CLIENT_MAC)?,
            first_client: CLIENT.into(),
            destination: (NODE, NODE_PORT).into(),
        };
        let by = self.options.by;
        let (load, cpu) = (Load { mix, rate, duration, by }, self.options.cpus.map(|[cpu, _]| cpu));
        self.client
            .enter(|| {
                pin(cpu);
                send("eth0", &load)
            })
            .map_err(failed("the client's namespace"))?
    }

    fn throughput(&mut self, runs: &mut Runs) -> Result<(), Failure> {
        // Loaded and attached while it lives: all that arrives is dropped by it.
        let sink = self.backend.enter(sink).map_err(failed("the backend's namespace"))??;
        self.offer(self.options.rate, Duration::from_millis(300))?;
        std::thread::sleep(SETTLE);
        let before = self.arrived()?;
        let offered = self.offer(self.options.rate, self.options.duration)?;
        std::thread::sleep(SETTLE);
        let arrived = self.arrived()? - before;
        drop(sink);
        runs.offered.push(offered.rate());
        runs.by = Some((offered.by, offered.because));
        runs.arrived.push(arrived as f64 / offered.elapsed.as_secs_f64());
        runs.loss.push(100.0 * (offered.packets as f64 - arrived as f64) / offered.packets.max(1) as f64);
        Ok(())
    }

    /// Frames that the backend's interface has received.
    fn arrived(&self) -> Result<u64, Failure> {
        let mut command = self.backend.command("ip");
        let output = command.args(["-json", "-stats", "link", "show", "eth0"]).output().map_err(failed("ip link"))?;
        let links: Value = serde_json::from_slice(&output.stdout).map_err(failed("ip link"))?;
        links
            .pointer("/0/stats64/rx/packets")
            .and_then(Value::as_u64)
            .ok_or_else(|| Failure(format!("ip link: {links}")))
    }

    fn latency(&mut self, runs: &mut Runs) -> Result<(), Failure> {
        let stop = AtomicBool::new(false);
        let (ready, is_ready) = mpsc::channel();
        let recording = std::thread::scope(|scope| {
            let recorder = scope.spawn(|| {
                self.backend.enter(|| -> Result<_, Failure> {
                    let taps = tap("eth0", &[IpAddr::V4(NODE), IpAddr::V4(BACKEND)], XdpMode::Native, 0);
                    // Nobody waits when the other side has failed.
                    let _ = ready.send(());
                    Ok(record(&mut taps?, |_| stop.load(Ordering::Relaxed)))
                })
            });
            let _ = is_ready.recv();
            let offered = self.offer(self.options.latency_rate, self.options.duration);
            std::thread::sleep(SETTLE);
            stop.store(true, Ordering::Relaxed);
            let recording = recorder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            recording
                .map_err(failed("the backend's namespace"))
                .flatten()
                .and_then(|recording| Ok((recording, offered?)))
        });
        let (recording, offered) = recording?;
        runs.latency_lost = offered.stamped.saturating_sub(recording.packets);
        runs.latency = Some(recording.latency);
        Ok(())
    }
}

/// A program on the backend's interface that drops what either system sends.
fn sink() -> Result<SteeringProgram, Failure> {
    let fail = failed::<String>("the sink");
    let attach = || -> Result<SteeringProgram, Box<dyn std::error::Error>> {
        let device = Device::by_name("eth0")?;
        let mut program = SteeringProgram::load()?;
        program.drop_without_socket(true)?;
        let addresses = [NODE, BACKEND].map(|address| SteeringEntry::Vip(IpAddr::V4(address)));
        program.add_missing(&addresses.into_iter().collect())?;
        program.set_link(device.index, None, device.mac()?)?;
        program.attach("eth0", device.index, XdpMode::Native)?;
        Ok(program)
    };
    attach().map_err(|error| fail(error.to_string()))
}

/// Pins the calling thread. Where that is not allowed it runs wherever it may.
fn pin(cpu: Option<usize>) {
    if let Some(id) = cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}

/// The `ringway` binary beside this one.
pub fn sibling() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    this.parent().unwrap_or(Path::new(".")).join("ringway")
}
