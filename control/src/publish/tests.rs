use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ringway_shared::handoff::Reader;
use ringway_shared::{Frontend, Protocol};

use super::*;
use crate::config::{Config, SourceKey};
use crate::source::files;

const CONFIG: &str = r#"
nodeName: gw
node: {addresses: [192.168.0.1], podCIDRs: [10.0.0.0/16]}
network:
  interfaces: [{name: eth0, mac: "02:00:00:00:00:01", addresses: [192.168.0.1/24]}]
  routes: [{to: 10.0.0.0/8, via: 192.168.0.3, dev: eth0}]
interfaces: [{name: eth0}]
source: {files: /none}
"#;

/// A Service on 172.30.0.`last` with its endpoints.
fn cluster(last: u8, endpoints: &[&str]) -> Arc<ClusterState> {
    let addresses: String = endpoints
        .iter()
        .map(|address| format!("- {{addresses: [{address}], conditions: {{ready: true}}}}\n"))
        .collect();
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\n\
         spec: {{clusterIP: 172.30.0.{last}, clusterIPs: [172.30.0.{last}], type: NodePort, \
         ports: [{{port: 80, nodePort: 30080, protocol: TCP}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: web-1, namespace: default, labels: {{kubernetes.io/service-name: web}}}}\n\
         ports: [{{port: 8080, protocol: TCP}}]\nendpoints:\n{addresses}"
    );
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let cluster = files::load(&[file.path().to_owned()]).into_cluster();
    assert_eq!(cluster.problems().collect::<Vec<_>>(), Vec::<&Problem>::new());
    Arc::new(cluster)
}

/// What happened, in order.
type Log = Arc<Mutex<Vec<(&'static str, SteeringSets, u64)>>>;

/// Notes each call with the generation that the worker used at that moment.
struct Recorder {
    log: Log,
    used: Arc<std::sync::atomic::AtomicU64>,
}

impl Steering for Recorder {
    fn add_missing(&mut self, sets: &SteeringSets) -> Result<(), String> {
        self.log.lock().unwrap().push(("add", sets.clone(), self.used.load(Ordering::SeqCst)));
        Ok(())
    }

    fn remove_stale(&mut self, sets: &SteeringSets) -> Result<(), String> {
        self.log.lock().unwrap().push(("remove", sets.clone(), self.used.load(Ordering::SeqCst)));
        Ok(())
    }
}

struct Bed {
    cluster: watch::Sender<Arc<ClusterState>>,
    published: watch::Receiver<Arc<Published>>,
    log: Log,
    paused: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Recorder>,
}

/// A worker without packets.
fn work(mut reader: Reader<Snapshot>, used: &std::sync::atomic::AtomicU64, paused: &AtomicBool, done: &AtomicBool) {
    while !done.load(Ordering::SeqCst) {
        if !paused.load(Ordering::SeqCst) {
            used.store(reader.current().generation.0, Ordering::SeqCst);
            reader.ack();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Bed {
    fn start(first: Arc<ClusterState>) -> Bed {
        let config = Config::parse(CONFIG, "test.yaml".as_ref(), SourceKey::Read).unwrap();
        let network = config.network.as_ref().unwrap().build(1, &config.interfaces);
        let options = PublishOptions {
            compile: CompileOptions::from_config(&config),
            snat_addresses: Vec::new(),
            snat_ports: config.snat.ports.clone(),
        };
        let (publisher, mut readers) = Publisher::new(Snapshot::default(), 1);
        let (log, used) = (Log::default(), Arc::default());
        let (paused, done): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let reader = readers.pop().unwrap();
        std::thread::spawn({
            let (used, paused, done) = (Arc::clone(&used), paused.clone(), done.clone());
            move || work(reader, &used, &paused, &done)
        });
        let (sender, cluster) = watch::channel(first);
        let (publication, published) = Publication::new(
            options,
            cluster,
            NetworkWatch::fixed(network),
            Recorder { log: log.clone(), used },
            publisher,
            vec![WorkerCounters::new(16)],
            Box::new(|| {}),
        );
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(publication.run(stopped));
        Bed { cluster: sender, published, log, paused, done, stop: Some(stop), task }
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&Published) -> bool) -> Arc<Published> {
        let wait = self.published.wait_for(|published| condition(published));
        let found = tokio::time::timeout(Duration::from_secs(10), wait).await;
        found.unwrap_or_else(|_| panic!("not within 10 s: {what}")).unwrap().clone()
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap();
        self.done.store(true, Ordering::SeqCst);
    }
}

fn frontend(text: &str) -> Frontend {
    let socket: std::net::SocketAddr = text.parse().unwrap();
    Frontend { address: socket.ip(), protocol: Protocol::Tcp, port: socket.port() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn steering_knows_a_vip_before_the_workers_and_forgets_it_after_them() {
    let mut bed = Bed::start(cluster(1, &["10.0.0.1"]));
    let first = bed.until("the first list", |published| published.in_force).await;
    assert_eq!((first.snapshot.generation, first.acks.clone()), (Generation(1), vec![1]));
    bed.cluster.send_replace(cluster(2, &["10.0.0.1", "10.0.0.2"]));
    bed.until("the second", |p| p.in_force && p.snapshot.generation == Generation(2)).await;
    let log = bed.log.lock().unwrap().clone();
    let calls: Vec<_> = log.iter().map(|(call, _, used)| (*call, *used)).collect();
    assert_eq!(calls, [("add", 0), ("remove", 1), ("add", 1), ("remove", 2)]);
    let sets = &log[2].1;
    let [cluster_ip, node_port] = ["172.30.0.2:80", "192.168.0.1:30080"].map(frontend);
    assert_eq!(sets.frontends, [cluster_ip, node_port].into());
    assert_eq!(sets.vips, [ip("172.30.0.2")].into());
    assert_eq!(sets.snat_addresses, [ip("192.168.0.1")].into());
    assert_eq!(sets.endpoints, ["10.0.0.1:8080", "10.0.0.2:8080"].map(frontend).into());
    bed.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_late_delays_only_what_must_wait_for_it() {
    let mut bed = Bed::start(cluster(1, &["10.0.0.1"]));
    bed.until("the first list", |published| published.in_force).await;
    bed.paused.store(true, Ordering::SeqCst);
    bed.cluster.send_replace(cluster(2, &["10.0.0.1"]));
    let late = bed.until("published, not in force", |p| p.snapshot.generation == Generation(2)).await;
    assert!(!late.in_force);
    // A change on top of it goes out all the same.
    bed.cluster.send_replace(cluster(3, &["10.0.0.1"]));
    bed.until("the third", |p| p.snapshot.generation == Generation(3)).await;
    let removed = |bed: &Bed| bed.log.lock().unwrap().iter().filter(|(call, ..)| *call == "remove").count();
    assert_eq!(removed(&bed), 1);
    bed.paused.store(false, Ordering::SeqCst);
    bed.until("in force", |p| p.in_force && p.snapshot.generation == Generation(3)).await;
    assert_eq!(removed(&bed), 2);
    bed.stop().await;
}

#[tokio::test]
async fn a_storm_is_taken_together() {
    let mut bed = Bed::start(cluster(1, &["10.0.0.1"]));
    bed.until("the first list", |published| published.in_force).await;
    let states = [cluster(2, &["10.0.0.1"]), cluster(3, &["10.0.0.2"])];
    for round in 0..2_000 {
        bed.cluster.send_replace(states[round % 2].clone());
        tokio::task::yield_now().await;
    }
    let last = ip("172.30.0.3");
    let published = bed.until("the last state", |p| p.in_force && p.snapshot.services.vips.contains_key(&last)).await;
    assert!(published.snapshot.generation.0 < 1_000, "{:?}", published.snapshot.generation);
    bed.stop().await;
}

#[test]
fn replies_of_kept_sources_need_no_steering_when_every_source_is_rewritten() {
    let config = Config::parse(CONFIG, "test.yaml".as_ref(), SourceKey::Read).unwrap();
    let network = Arc::new(config.network.as_ref().unwrap().build(1, &config.interfaces));
    let mut options = CompileOptions::from_config(&config);
    options.masquerade_all = true;
    let compiled = compile(&cluster(1, &["10.0.0.1"]), &options, &mut Ids::new());
    let snapshot = Snapshot { generation: Generation(1), services: Arc::new(compiled.services), network };
    let sets = SteeringSets::of(&snapshot, &[ip("192.168.0.9")], 61_000..=65_535);
    assert!(sets.endpoints.is_empty());
    assert_eq!(sets.snat_addresses, [ip("192.168.0.9")].into());
}
