//! What a large cluster of a real API server costs `ringway run`: `ringway-cluster-cost [SERVICES [ENDPOINTS [CHANGES]]]`.
//! `perf/run.sh` calls it.
//!
//! etcd and kube-apiserver run here, without controllers. The Services and EndpointSlices are written into etcd before
//! kube-apiserver starts, which lists them then; changes are made through it. Times are the log's own: from the arrival of
//! the last list, or of an event, to the line that says that all workers use it. The result is one JSON object.

use ringway_perf::control_cost::process::{all_cpu, control_cpu, resident_bytes};
use ringway_tests::control_plane::{self, ControlPlane};
use ringway_tests::eventually;
use ringway_tests::instance::Instance;
use ringway_tests::netns::{End, Namespace, veth};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the first list of a large cluster may take.
const READY: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(10);
/// For how long the idle process is looked at.
const IDLE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let number = |place: usize, default: u32| {
        let argument = std::env::args().nth(place);
        argument.map_or(Ok(default), |text| text.parse().map_err(|error| format!("{text:?}: {error}")))
    };
    let numbers = [(1, 10_000), (2, 10), (3, 200)].map(|(place, default)| number(place, default));
    let [Ok(services), Ok(endpoints), Ok(changes)] = numbers else {
        eprintln!("usage: ringway-cluster-cost [SERVICES [ENDPOINTS [CHANGES]]]");
        return ExitCode::from(2);
    };
    if services > 60_000 || !control_plane::can_run("ringway-cluster-cost") {
        return ExitCode::from(3);
    }
    println!("{}", measure(services, endpoints, changes));
    ExitCode::SUCCESS
}

fn measure(services: u32, endpoints: u32, changes: u32) -> Value {
    let began = Instant::now();
    let plane =
        ControlPlane::start_with((0..services).flat_map(|number| [service(number), slice(number, endpoints, 0)]));
    let filled = began.elapsed();
    plane.apply(&[control_plane::node("gw-1", "a", &["10.0.0.0/24"], &["192.168.0.2"])]);
    eprintln!("{services} Services with {endpoints} endpoints each are in the API server after {filled:.1?}");

    let (gateway, client) = (namespace("gateway"), namespace("client"));
    wire(&gateway, &client).unwrap_or_else(|error| panic!("{error}"));
    plane.join(&gateway);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let config = json!({
        "nodeName": "gw-1",
        "source": {"kubernetes": {"kubeconfig": plane.kubeconfig("ringway", None)}},
        "interfaces": [{"name": "front", "xdp": "native"}],
        "flows": {"perWorker": 1024},
        "log": "info,ringway_control::source=debug,ringway_control::publish=debug",
        "state": path("state"),
        "admin": {"socket": path("admin.sock")},
    });
    std::fs::write(path("ringway.yaml"), config.to_string()).expect("the configuration");
    let mut ringway = Instance::start(&gateway, &path("ringway.yaml"), &path("admin.sock"));
    eventually(READY, "the first list is in force", || {
        let log = ringway.output();
        assert!(ringway.runs(), "it ended:\n{log}");
        if log.contains("ready: ") { Ok(()) } else { Err(log) }
    });
    let log = ringway.output();
    let at = |what: &str| log.lines().filter(|line| line.contains(what)).filter_map(time_of).reduce(f64::max);
    let started = log.lines().find_map(time_of);
    let (Some(started), Some(listed), Some(ready)) = (started, at("listed"), at("ready: ")) else {
        panic!("an odd log:\n{log}")
    };
    // The API server's own `kubernetes` is one more, without endpoints here.
    let fed = [services + 1, services * endpoints].map(|count| Some(u64::from(count)));
    let status = eventually(SOON, "all of it is in force", || {
        let status = ringway.ask("/status");
        let served = ["servicePorts", "endpoints"].map(|what| status["snapshot"][what].as_u64());
        if served == fed { Ok(status) } else { Err(format!("{served:?} service ports and endpoints, not {fed:?}")) }
    });
    let process = ringway.id().to_string();
    let first_resident = resident_bytes(&process);

    // Whatever the start left behind is done.
    std::thread::sleep(Duration::from_secs(2));
    let (cpu, looked) = (all_cpu(&process), Instant::now());
    std::thread::sleep(IDLE);
    let idle = (all_cpu(&process) - cpu).as_secs_f64() / looked.elapsed().as_secs_f64();

    let cpu = control_cpu(&process);
    let mut delays: Vec<f64> =
        (1..=changes).map(|number| change(&plane, &ringway, number, services, endpoints)).collect();
    let cpu = control_cpu(&process) - cpu;
    delays.sort_by(f64::total_cmp);
    let quantile = |part: f64| delays.get((part * delays.len() as f64) as usize).or(delays.last()).copied();
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let workers = status["workers"].as_array().map_or(0, Vec::len);
    let report = json!({
        "services": services,
        "endpoints": endpoints,
        "workers": workers,
        "fillSeconds": filled.as_secs_f64(),
        "startToListedMillis": (listed - started) * 1e3,
        "listedToInForceMillis": (ready - listed) * 1e3,
        "residentMiB": mebibytes(first_resident),
        "residentMiBAtTheEnd": mebibytes(resident_bytes(&process)),
        "idleCpuShare": idle,
        "changes": changes,
        "delayMillis": {"p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "max": delays.last()},
        "cpuMicrosEach": cpu.as_secs_f64() * 1e6 / f64::from(changes.max(1)),
    });
    ringway.stop();
    report
}

/// Changes one slice; the milliseconds from its event to the last worker.
fn change(plane: &ControlPlane, ringway: &Instance, number: u32, services: u32, endpoints: u32) -> f64 {
    let service = number.wrapping_mul(2_654_435_761) % services;
    let changed = slice(service, endpoints, number);
    let before = after(&ringway.output()).len();
    plane.patch("EndpointSlice", &name(service), json!({"endpoints": changed["endpoints"]}));
    eventually(SOON, "the change is in force", || {
        let log = ringway.output();
        after(&log).get(before..).and_then(|new| new.first().copied()).ok_or(log)
    })
}

/// For each event in the log, in milliseconds, how long it took until all workers used what came of it.
fn after(log: &str) -> Vec<f64> {
    let (mut found, mut event) = (Vec::new(), None);
    for line in log.lines() {
        if line.contains(" event kind=\"EndpointSlice\"") {
            event = event.or(time_of(line));
        } else if line.contains("in force on all workers")
            && !line.contains("ready: ")
            && let Some(began) = event.take()
        {
            found.extend(time_of(line).map(|end| (end - began) * 1e3));
        }
    }
    found
}

/// The time of day of a log line, in seconds.
fn time_of(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once('T')?;
    let (time, _) = rest.split_once('Z')?;
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
}

fn namespace(role: &str) -> Namespace {
    Namespace::create("cost", role).unwrap_or_else(|error| panic!("{error}"))
}

fn wire(gateway: &Namespace, client: &Namespace) -> std::io::Result<()> {
    let end = |namespace, link| End { namespace, link, mac: None };
    veth(end(gateway, "front"), end(client, "eth0"), 2)?;
    gateway.address("front", "192.168.0.2/24")?;
    client.address("eth0", "192.168.0.1/24")?;
    gateway.ip(&["route", "add", "10.0.0.0/8", "via", "192.168.0.1"])?;
    Ok(())
}

fn name(number: u32) -> String {
    format!("service-{number}")
}

/// The `n`th address after another.
fn address(first: [u8; 4], n: u32) -> String {
    std::net::Ipv4Addr::from(u32::from_be_bytes(first) + n).to_string()
}

/// As the API server keeps it after a creation.
fn service(number: u32) -> Value {
    let cluster_ip = address([172, 30, 1, 0], number);
    let fields = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}, "f:tier": {}}},
        "f:spec": {
            "f:clusterIP": {}, "f:clusterIPs": {}, "f:internalTrafficPolicy": {}, "f:sessionAffinity": {}, "f:type": {},
            "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {
                ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {},
            }},
        },
    });
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name(number), "namespace": "default", "labels": {"app": name(number), "tier": "web"},
            "managedFields": managed("v1", fields),
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            "sessionAffinity": "None", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    })
}

/// The slice of a Service. `round` above 0 gives it another endpoint in place of its first.
fn slice(number: u32, endpoints: u32, round: u32) -> Value {
    let endpoint = |place: u32| {
        let pod = if place == 0 && round > 0 { 9_000_000 + round } else { number * endpoints + place };
        json!({
            "addresses": [address([10, 0, 1, 0], pod)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", pod % 100), "zone": format!("zone-{}", pod % 3),
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("service-{number}-7c5ddbdf54-{pod}")},
        })
    };
    let fields = json!({
        "f:addressType": {}, "f:endpoints": {}, "f:ports": {},
        "f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/service-name": {}}},
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": name(number), "namespace": "default", "generation": 1,
            "labels": {"kubernetes.io/service-name": name(number)},
            "managedFields": managed("discovery.k8s.io/v1", fields),
        },
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
    })
}

/// Who wrote which fields: a good part of what the API server sends.
fn managed(version: &str, fields: Value) -> Value {
    json!([{
        "manager": "ringway-cluster-cost", "operation": "Update", "apiVersion": version, "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    }])
}
