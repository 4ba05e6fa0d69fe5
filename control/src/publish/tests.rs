use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use ringway_shared::handoff::Reader;
use ringway_shared::policy::TrafficPolicy;
use ringway_shared::{Frontend, Protocol};

use super::*;
use crate::compile::{CompileOptions, tests};
use crate::config::{Config, SourceKey};
use crate::source::files;

mod former;

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
    cluster_of("Cluster", last, endpoints)
}

fn cluster_of(policy: &str, last: u8, endpoints: &[&str]) -> Arc<ClusterState> {
    let addresses: String = endpoints
        .iter()
        .map(|address| format!("- {{addresses: [{address}], conditions: {{ready: true}}}}\n"))
        .collect();
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\n\
         spec: {{clusterIP: 172.30.0.{last}, clusterIPs: [172.30.0.{last}], type: NodePort, externalTrafficPolicy: {policy}, \
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
type Log = Arc<Mutex<Vec<(&'static str, HashSet<SteeringEntry>, u64)>>>;

/// Notes after each call what is steered, and the generation that the worker used at that moment.
struct Recorder {
    log: Log,
    held: HashSet<SteeringEntry>,
    used: Arc<std::sync::atomic::AtomicU64>,
}

impl Steering for Recorder {
    fn add(&mut self, entries: &HashSet<SteeringEntry>) -> Result<(), String> {
        self.held.extend(entries.iter().cloned());
        self.log.lock().unwrap().push(("add", self.held.clone(), self.used.load(Ordering::SeqCst)));
        Ok(())
    }

    fn remove(&mut self, entries: &HashSet<SteeringEntry>) -> Result<(), String> {
        self.held.retain(|entry| !entries.contains(entry));
        self.log.lock().unwrap().push(("remove", self.held.clone(), self.used.load(Ordering::SeqCst)));
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
    end: oneshot::Receiver<Recorder>,
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
        Bed::with(first, |_| {})
    }

    fn with(first: Arc<ClusterState>, prepare: impl FnOnce(&mut Publication<Recorder>)) -> Bed {
        let config = Config::parse(CONFIG, "test.yaml".as_ref(), SourceKey::Read).unwrap();
        let network = config.network.as_ref().unwrap().build(1, &config.interfaces);
        let options = PublishOptions { compile: CompileOptions::from_config(&config), snat_addresses: Vec::new() };
        let (publisher, mut readers) = Publisher::new(Snapshot::default(), 1);
        let (log, used) = (Log::default(), Arc::default());
        let (paused, done): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let reader = readers.pop().unwrap();
        std::thread::spawn({
            let (used, paused, done) = (Arc::clone(&used), paused.clone(), done.clone());
            move || work(reader, &used, &paused, &done)
        });
        let (sender, cluster) = watch::channel(first);
        let (mut publication, published) = Publication::new(
            options,
            cluster,
            NetworkWatch::fixed(network),
            Recorder { log: log.clone(), held: HashSet::new(), used },
            publisher,
            vec![WorkerCounters::new(16)],
            Box::new(|| {}),
        );
        prepare(&mut publication);
        let (stop, stopped) = oneshot::channel();
        let end = publication.start(async {}, stopped).unwrap();
        Bed { cluster: sender, published, log, paused, done, stop: Some(stop), end }
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&Published) -> bool) -> Arc<Published> {
        let wait = self.published.wait_for(|published| condition(published));
        let found = tokio::time::timeout(Duration::from_secs(10), wait).await;
        found.unwrap_or_else(|_| panic!("not within 10 s: {what}")).unwrap().clone()
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.end.await.unwrap();
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
    let mut bed = Bed::with(cluster(1, &["10.0.0.1"]), |publication| publication.pending.linger = Duration::ZERO);
    let first = bed.until("the first list", |published| published.in_force).await;
    assert_eq!((first.snapshot.generation, first.acks.clone()), (Generation(1), vec![1]));
    bed.cluster.send_replace(cluster(2, &["10.0.0.1", "10.0.0.2"]));
    bed.until("the second", |p| p.in_force && p.snapshot.generation == Generation(2)).await;
    let log = bed.log.lock().unwrap().clone();
    let calls: Vec<_> = log.iter().map(|(call, _, used)| (*call, *used)).collect();
    assert_eq!(calls, [("add", 0), ("add", 1), ("remove", 2)]);
    let [old, cluster_ip, node_port] = ["172.30.0.1:80", "172.30.0.2:80", "192.168.0.1:30080"].map(frontend);
    let all: HashSet<SteeringEntry> = [
        SteeringEntry::Frontend(cluster_ip),
        SteeringEntry::Frontend(node_port),
        SteeringEntry::Vip(ip("172.30.0.2")),
        SteeringEntry::Snat(ip("192.168.0.1")),
        SteeringEntry::Endpoint(frontend("10.0.0.1:8080")),
        SteeringEntry::Endpoint(frontend("10.0.0.2:8080")),
    ]
    .into();
    let old = [SteeringEntry::Frontend(old), SteeringEntry::Vip(ip("172.30.0.1"))].into();
    assert_eq!(log[1].1, &all | &old);
    assert_eq!(log[2].1, all);
    let counts = SteeringCounts { frontends: 2, vips: 1, service_cidrs: 0, snat_addresses: 1, endpoints: 2 };
    assert_eq!(bed.published.borrow().steering, counts);
    bed.stop().await;
}

#[tokio::test]
async fn a_vip_that_is_nobodys_any_more_lingers_for_those_who_have_connections() {
    // An hour, until it is used again; then for a moment.
    for (linger, next) in [(3_600_000, 1), (300, 2)] {
        let mut bed = Bed::with(cluster(1, &["10.0.0.1"]), |publication| {
            publication.pending.linger = Duration::from_millis(linger);
        });
        bed.until("the first list", |published| published.in_force).await;
        bed.cluster.send_replace(cluster(2, &["10.0.0.1"]));
        let second = bed.until("the second", |p| p.in_force && p.snapshot.generation == Generation(2)).await;
        assert_eq!(*second.lingering, HashSet::from([ip("172.30.0.1")]));
        let held = |bed: &Bed| bed.log.lock().unwrap().last().unwrap().1.clone();
        let old = SteeringEntry::Vip(ip("172.30.0.1"));
        if next == 1 {
            assert!(
                held(&bed).contains(&old) && !held(&bed).contains(&SteeringEntry::Frontend(frontend("172.30.0.1:80")))
            );
            bed.cluster.send_replace(cluster(1, &["10.0.0.1"]));
            let third = bed.until("the third", |p| p.in_force && p.snapshot.generation == Generation(3)).await;
            assert_eq!(*third.lingering, HashSet::from([ip("172.30.0.2")]));
            assert!(held(&bed).contains(&old), "it is used again");
            assert!(held(&bed).contains(&SteeringEntry::Vip(ip("172.30.0.2"))), "the other lingers now");
        } else {
            bed.until("it goes without any other change", |published| published.lingering.is_empty()).await;
            assert!(!held(&bed).contains(&old));
            assert!(held(&bed).contains(&SteeringEntry::Vip(ip("172.30.0.2"))));
        }
        bed.stop().await;
    }
}

#[test]
fn what_lingers_is_bounded_and_what_is_used_again_stays() {
    let vip = |n: u32| SteeringEntry::Vip(IpAddr::V4((0x0a00_0000 + n).into()));
    let begin = Instant::now();
    let mut pending = Pending::default();
    let note = |pending: &mut Pending, added, abandoned| {
        pending.note(SteeringChanges { added, abandoned, ..SteeringChanges::default() }, begin);
    };
    note(&mut pending, vec![], (0..5_000).map(vip).collect());
    pending.end_lingering(begin);
    assert_eq!(pending.remove, (0..904).map(vip).collect());
    note(&mut pending, vec![vip(0), vip(4_000)], vec![]);
    assert!(!pending.remove.contains(&vip(0)));
    pending.end_lingering(begin + Duration::from_secs(299));
    assert_eq!(pending.remove.len(), 903);
    pending.end_lingering(begin + Duration::from_secs(300));
    assert_eq!((pending.remove.len(), pending.due()), (4_998, None));
    assert!(!pending.remove.contains(&vip(4_000)), "it is used again");
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
    assert_eq!(removed(&bed), 0);
    bed.paused.store(false, Ordering::SeqCst);
    bed.until("in force", |p| p.in_force && p.snapshot.generation == Generation(3)).await;
    assert_eq!(removed(&bed), 1);
    bed.stop().await;
}

/// Whatever made it panic took what the next compilation needs along.
#[tokio::test]
async fn a_failed_compilation_is_told_and_makes_nothing_ready() {
    let mut bed = Bed::with(cluster(1, &["10.0.0.1"]), |publication| publication.memory = None);
    let failed = bed.until("in force", |published| published.in_force).await;
    assert!(!failed.ready, "an empty world is not what was listed");
    assert!(!Arc::ptr_eq(&failed.cluster, &bed.cluster.borrow()), "what waits can be seen to wait");
    assert!(failed.compile_problem.as_deref().is_some_and(|problem| problem.contains("restart Ringway")));
    bed.stop().await;
}

#[tokio::test]
async fn other_settings_take_nothing_away_that_open_flows_need() {
    let (reset, resettings) = watch::channel(None);
    let mut bed = Bed::with(cluster(1, &["10.0.0.1"]), |publication| publication.orders.resettings = resettings);
    bed.until("the first list", |published| published.in_force).await;
    let held = |bed: &Bed| bed.log.lock().unwrap().last().unwrap().1.clone();
    let before = held(&bed);
    let config = Config::parse(CONFIG, "test.yaml".as_ref(), SourceKey::Read).unwrap();
    let compile = CompileOptions { masquerade_all: true, ..CompileOptions::from_config(&config) };
    let snat_addresses = vec![ip("192.168.0.9")];
    let options = PublishOptions { compile, snat_addresses };
    reset.send_replace(Some(Resetting { number: 1, options: options.clone() }));
    let published = bed.until("the settings", |p| p.in_force && p.settings == 1).await;
    assert!(published.snapshot.services.masquerade_all);
    let replies = SteeringEntry::MasqueradedEndpoint(frontend("10.0.0.1:8080"));
    let new = HashSet::from([SteeringEntry::Snat(ip("192.168.0.9")), replies]);
    assert_eq!(held(&bed), &before | &new, "kept sources and the former address");
    assert_eq!((published.steering.snat_addresses, published.steering.endpoints), (2, 2));
    // And back again.
    let compile = CompileOptions::from_config(&config);
    let options = PublishOptions { compile, snat_addresses: Vec::new() };
    reset.send_replace(Some(Resetting { number: 2, options }));
    let published = bed.until("the old settings", |p| p.in_force && p.settings == 2).await;
    assert!(!published.snapshot.services.masquerade_all);
    assert_eq!((published.steering.snat_addresses, published.steering.endpoints), (2, 1));
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

/// What a snapshot needs, as the rules say it.
fn needed(snapshot: &Snapshot, snat_addresses: &[IpAddr]) -> HashSet<SteeringEntry> {
    let services = &snapshot.services;
    let mut entries: HashSet<SteeringEntry> = services.frontends.keys().copied().map(SteeringEntry::Frontend).collect();
    let vips = services.vips.iter().filter(|(_, vip)| !vip.host_owned);
    entries.extend(vips.map(|(address, _)| SteeringEntry::Vip(*address)));
    entries.extend(services.service_cidrs.iter().copied().map(SteeringEntry::ServiceCidr));
    let mut sources = snat_addresses.to_vec();
    for port in services.service_ports.iter().flatten() {
        for endpoint in port.endpoints.iter() {
            let address = endpoint.backend.address;
            let frontend = Frontend { address, protocol: port.protocol, port: endpoint.backend.port };
            let keeps_source = !services.masquerade_all || port.external_policy == TrafficPolicy::Local;
            entries.insert(match keeps_source {
                true => SteeringEntry::Endpoint(frontend),
                false => SteeringEntry::MasqueradedEndpoint(frontend),
            });
            let linux_chooses = !snat_addresses.iter().any(|snat| snat.is_ipv4() == address.is_ipv4());
            sources.extend(snapshot.network.source_address(address).filter(|_| linux_chooses));
        }
    }
    entries.extend(sources.into_iter().map(SteeringEntry::Snat));
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn steering_step_by_step_is_the_same_as_at_once(
        steps in prop::collection::vec((tests::step(), any::<u8>()), 1..30),
        configured in 0..3_usize,
    ) {
        let configured = [&[][..], &["192.168.0.9"], &["fd00::9"]][configured].iter().copied().map(ip).collect::<Vec<_>>();
        let networks = ["192.168.0.1/24", "192.168.0.8/24"].map(|address| {
            // Some endpoints have no route.
            let config = CONFIG.replace("192.168.0.1/24", address).replace("10.0.0.0/8", "10.0.0.2/31");
            let config = Config::parse(&config, "test.yaml".as_ref(), SourceKey::Read).unwrap();
            Arc::new(config.network.as_ref().unwrap().build(1, &config.interfaces))
        });
        let (mut state, mut memory) = (ClusterState::default(), Memory::new());
        let mut sets = SteeringSets::new(&configured);
        let mut options = CompileOptions { node_name: "gw".into(), ..CompileOptions::default() };
        let (mut entries, mut addresses) = (HashSet::new(), ShardedMap::default());
        let (mut services, mut network) = (Arc::default(), networks[0].clone());
        for (step, other) in steps {
            tests::take(&mut state, step);
            match other % 16 {
                0 => options.masquerade_all = !options.masquerade_all,
                1 => network = networks[usize::from(other > 127)].clone(),
                2 => options.service_cidrs = vec![format!("172.30.{other}.0/24").parse().unwrap()],
                _ => {}
            }
            // At times the network alone changes.
            if other % 8 != 1 {
                services = Arc::new(compile(&state, &options, &mut memory).services);
            }
            let services = services.clone();
            let snapshot = Snapshot { generation: Generation(1), services, network: network.clone() };
            let SteeringChanges { added, removed, abandoned, addresses_changed } = sets.advance(&snapshot);
            for entry in added {
                prop_assert!(entries.insert(entry.clone()), "added twice: {:?}", entry);
            }
            for entry in removed.into_iter().chain(abandoned) {
                prop_assert!(entries.remove(&entry), "removed and not there: {:?}", entry);
            }
            let needed = needed(&snapshot, &configured);
            prop_assert!(entries.is_superset(&needed), "{:?} are missing", needed.difference(&entries));
            for former in entries.difference(&needed) {
                let has_flows = match former {
                    SteeringEntry::Snat(address) => snapshot.network.is_local(*address),
                    SteeringEntry::Endpoint(endpoint) => needed.contains(&SteeringEntry::MasqueradedEndpoint(*endpoint)),
                    _ => false,
                };
                prop_assert!(has_flows, "{:?}", former);
            }
            prop_assert_eq!(entries.len(), sets.counts().total());
            let ports = snapshot.services.service_ports.iter().flatten();
            let all: HashSet<IpAddr> = ports.flat_map(|port| port.endpoints.iter().map(|e| e.backend.address)).collect();
            prop_assert_eq!(sets.addresses().keys().copied().collect::<HashSet<_>>(), all);
            if !addresses_changed {
                prop_assert_eq!(sets.addresses().differences(&addresses).filter(|d| d.old.is_none() || d.new.is_none()).count(), 0);
            }
            addresses = sets.addresses().clone();
        }
    }
}
