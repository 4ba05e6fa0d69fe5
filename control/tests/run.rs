//! `ringway run` as a process: what it refuses, how it lives, how it ends. Needs root, for namespaces of its own.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ringway_control::demo::instance::Instance;
use ringway_control::demo::netns::{End, Namespace, veth};
use rustix::process::Signal;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 31999
  clusterIP: 172.30.0.41
  clusterIPs: [172.30.0.41]
  ports: [{name: http, port: 80, protocol: TCP, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.0.0.2], conditions: {ready: true}, nodeName: gw-1}
- {addresses: [10.99.0.1], conditions: {ready: false}}
"#;

/// A gateway with one interface, eth0, and a host behind it.
struct Bed {
    gateway: Namespace,
    host: Namespace,
    folder: tempfile::TempDir,
}

impl Bed {
    /// `None`, and a word about it, where namespaces cannot be made; a failure in CI.
    fn new(queues: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "these tests need root");
            eprintln!("SKIPPED: needs root to make network namespaces");
            return None;
        }
        static BEDS: AtomicU32 = AtomicU32::new(0);
        let number = BEDS.fetch_add(1, Ordering::Relaxed);
        let namespace = |role| Namespace::create("run", &format!("{role}{number}")).unwrap();
        let (gateway, host) = (namespace("gateway"), namespace("host"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("objects")).unwrap();
        let bed = Bed { gateway, host, folder };
        bed.link(queues);
        bed.write_objects(SERVICE);
        bed.write_config("");
        Some(bed)
    }

    fn link(&self, queues: u32) {
        let end = |namespace, link, mac| End { namespace, link, mac: Some(mac) };
        let (here, there) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
        veth(end(&self.gateway, "eth0", here), end(&self.host, "eth0", there), queues).unwrap();
        self.gateway.address("eth0", "10.0.0.1/24").unwrap();
        self.host.address("eth0", "10.0.0.2/24").unwrap();
    }

    fn write_objects(&self, text: &str) {
        let objects = self.folder.path().join("objects");
        std::fs::write(objects.join(".new"), text).unwrap();
        std::fs::rename(objects.join(".new"), objects.join("web.yaml")).unwrap();
    }

    /// `more` replaces the `interfaces` line when it has one.
    fn write_config(&self, more: &str) {
        let folder = self.folder.path().display();
        let interfaces = if more.contains("interfaces:") { "" } else { "interfaces: [{name: eth0}]\n" };
        let source =
            if more.contains("source:") { String::new() } else { format!("source: {{files: {folder}/objects}}\n") };
        let text = format!(
            "nodeName: gw-1\nnode: {{addresses: [10.0.0.1]}}\nflows: {{perWorker: 4096}}\n{source}{interfaces}\
             state: {folder}/state\nadmin: {{socket: {folder}/admin.sock}}\n{more}\n"
        );
        std::fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("ringway.yaml")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Starts it and waits until it is ready.
    fn start(&self) -> Instance {
        let mut instance = Instance::start(&self.gateway, BINARY.as_ref(), &self.config(), &self.socket()).unwrap();
        eventually("/healthz answers 200", || match instance.healthy(&self.gateway) {
            Err(why) if why.ended => panic!("{}", why.text),
            other => other.is_ok(),
        });
        instance
    }

    /// Runs it where it is expected to end at once.
    fn refuse(&self) -> (Option<i32>, String) {
        let mut command = self.gateway.command(BINARY);
        command.args(["run", "--config"]).arg(self.config()).env_remove("KUBERNETES_SERVICE_HOST");
        let output = command.output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(!log.contains(" INFO attached to "), "what is refused touches nothing: {log}");
        said(&output)
    }

    /// XDP programs and TAP devices in the gateway.
    fn traces(&self) -> Vec<String> {
        let output = Command::new("ip").args(["-netns", self.gateway.name(), "-o", "link", "show"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains("xdp") || line.contains(": rw")).map(str::to_owned).collect()
    }
}

/// Exit status, and the first line on stderr that is no log.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.starts_with("error:")).unwrap_or(&text).to_owned();
    (output.status.code(), line)
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An HTTP request on the admin socket: status and body.
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

#[test]
fn what_cannot_work_is_refused_with_its_reason_and_leaves_nothing() {
    let Some(bed) = Bed::new(2) else { return };
    let config = bed.config().display().to_string();
    let cases = [
        (
            "interfaces: [{name: eth7}]",
            2,
            "error: interfaces[0].name: there is no interface eth7; `ip link` lists those there are (eth0)",
        ),
        (
            "interfaces: [{name: eth0}, {name: lo}]",
            2,
            "error: interfaces[1].name: lo is not an Ethernet interface, so Ringway cannot be attached to it",
        ),
        (
            "interfaces: [{name: \"wan*\"}]",
            2,
            "error: no interface matches interfaces; write the name of an interface that exists (ip link)",
        ),
        ("workers: {cpus: [4095]}", 2, "error: workers.cpus: this process cannot run on CPU 4095; allowed are "),
        ("interfaces: [{name: eth0, zeroCopy: \"on\"}]", 1, "error: eth0: "),
        (
            "source: {kubernetes: {}}",
            2,
            "error: source.kubernetes: this is no pod of a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not \
             set); name a kubeconfig: source: {kubernetes: {kubeconfig: PATH}}",
        ),
        (
            "source: {kubernetes: {kubeconfig: /nowhere/kubeconfig}}",
            2,
            "error: source.kubernetes.kubeconfig: cannot read /nowhere/kubeconfig: No such file or directory (os error 2); \
             name a file that this user can read",
        ),
        (
            "source: {kubernetes: {context: prod}}",
            2,
            "error: CONFIG:7:22: source.kubernetes: has a context but no kubeconfig that it could stand in",
        ),
        ("log: loud", 2, "error: CONFIG:8:6: log: \"loud\" is not a log level"),
        (
            "snat: {ports: 61000-61000}",
            2,
            "error: snat.ports: 2 workers need at least one port each, and 61000 are too few; add some",
        ),
    ];
    for (more, status, message) in cases {
        bed.write_config(more);
        let (code, line) = bed.refuse();
        assert!(line.starts_with(&message.replace("CONFIG", &config)), "{more}: {line}");
        assert_eq!(code, Some(status), "{more}: {line}");
        assert_eq!(bed.traces(), Vec::<String>::new(), "{more}");
    }
}

#[test]
fn more_workers_than_queues_are_refused() {
    let Some(bed) = Bed::new(1) else { return };
    let allowed = ringway_control::daemon::allowed_cpus();
    let [first, second, ..] = allowed[..] else {
        eprintln!("SKIPPED: needs two CPUs");
        return;
    };
    bed.write_config(&format!("workers: {{cpus: [{first}, {second}]}}"));
    let message = "error: eth0 has 1 queue, 2 workers asked: name at most 1 in workers.cpus, or run ethtool -L eth0 \
                   combined 2 (veth: rx 2 tx 2); a bridge, and a tunnel's device unless it was made with more, has one queue \
                   for good";
    assert_eq!(bed.refuse(), (Some(2), message.to_owned()));
}

#[test]
fn missing_privileges_are_named() {
    let Some(bed) = Bed::new(1) else { return };
    std::fs::set_permissions(bed.folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    // Where everybody may execute it.
    let copy = bed.folder.path().join("ringway");
    std::fs::copy(BINARY, &copy).unwrap();
    let mut command = bed.gateway.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy);
    command.args(["run", "--config"]).arg(bed.config());
    let (code, line) = said(&command.output().unwrap());
    assert_eq!(code, Some(1), "{line}");
    assert!(
        line.starts_with("error: missing CAP_NET_ADMIN (to attach the steering program) and CAP_NET_RAW"),
        "{line}"
    );
    assert!(line.contains("run as root, or give the binary what it needs: setcap cap_net_admin,"), "{line}");
}

#[test]
fn it_answers_and_ends_without_a_trace() {
    let Some(bed) = Bed::new(2) else { return };
    // Packets do not wait for metrics.
    let taken = bed.gateway.enter(|| std::net::TcpListener::bind("127.0.0.1:9098").unwrap()).unwrap();
    let mut instance = bed.start();
    assert!(instance.process.output().contains("no metrics, until this works: admin.metrics"));
    drop(taken);
    assert_eq!(std::fs::metadata(bed.socket()).unwrap().mode() & 0o777, 0o600);

    let status = instance.get("/status").unwrap();
    assert_eq!((&status["ready"], &status["node"]), (&Value::Bool(true), &Value::from("gw-1")));
    assert_eq!(status["snapshot"]["frontends"], 2);
    assert_eq!(status["ledger"]["closes"], true);
    assert_eq!(status["interfaces"][0]["mode"], "native");
    assert_eq!(status["interfaces"][0]["ports"][0]["copy"], "copy");
    let workers = status["workers"].as_array().unwrap();
    let queues: Vec<_> = workers.iter().map(|worker| worker["queues"][0].as_str().unwrap()).collect();
    assert_eq!(queues, ["eth0/0", "eth0/1"]);
    assert_eq!(instance.get("/v1/status").unwrap()["pid"], status["pid"]);
    let unreachable = &status["unreachable"][0];
    assert_eq!((&unreachable["endpoint"], &unreachable["reason"]), (&"10.99.0.1".into(), &"no_route".into()));

    let services = instance.get("/services").unwrap();
    let port = &services["services"][0]["ports"][0];
    assert_eq!(port["addresses"][0]["address"], "172.30.0.41:80");
    let endpoints = port["endpoints"].as_array().unwrap();
    assert_eq!((&endpoints[0]["eligible"], &endpoints[0]["eligibleLocal"]), (&true.into(), &true.into()));
    assert_eq!((&endpoints[1]["eligible"], &endpoints[1]["excluded"]), (&false.into(), &"not ready".into()));

    assert_eq!(instance.get("/drops").unwrap()["dropped"], 0);
    assert_eq!(instance.get("/flows?protocol=tcp&limit=5").unwrap()["flows"].as_array().unwrap().len(), 0);
    let (code, answer) = ask(&bed.socket(), "GET", "/flows?color=red", "");
    assert_eq!(code, 400);
    assert!(answer["error"].as_str().unwrap().contains("color"), "{answer}");
    let (code, answer) = ask(&bed.socket(), "GET", "/flows?state=bogus", "");
    assert_eq!(code, 400);
    assert!(
        answer["error"].as_str().unwrap().starts_with("state: \"bogus\" is no state of a flow; allowed"),
        "{answer}"
    );
    let (code, answer) = ask(&bed.socket(), "GET", "/flows?service=default/wbe", "");
    assert_eq!(code, 400);
    assert!(answer["error"].as_str().unwrap().contains("knows no Service default/wbe"), "{answer}");
    assert_eq!(ask(&bed.socket(), "GET", "/flows?service=default/web", "").0, 200);
    let (code, answer) = ask(&bed.socket(), "GET", "/nothing", "");
    assert!(code == 404 && answer["error"].as_str().unwrap().contains("/metrics"), "{answer}");

    let mut scrape = bed.gateway.command("curl");
    scrape.args(["-s", "-D", "-", "http://127.0.0.1:9098/metrics"]);
    let mut scraped = String::new();
    eventually("metrics are served once the port is free", || {
        scraped = String::from_utf8(scrape.output().unwrap().stdout).unwrap();
        !scraped.is_empty()
    });
    assert!(scraped.contains("content-type: application/openmetrics-text"), "{scraped}");
    for line in ["ringway_ready 1.0", "ringway_interface_up{interface=\"eth0\"} 1.0", "ringway_frontends 2.0", "# EOF"]
    {
        assert!(scraped.lines().any(|told| told == line), "{line} is missing:\n{scraped}");
    }

    // Right after the start the neighbour may not have answered yet.
    eventually("10.0.0.2 is resolved", || {
        let endpoint = &instance.get("/services").unwrap()["services"][0]["ports"][0]["endpoints"][0];
        endpoint["unreachable"] == Value::Null
    });
    let packets = r#"{"packets":["tcp:10.0.0.2->172.30.0.41:80","tcp:10.0.0.2->172.30.0.41:81"]}"#;
    let (code, traces) = ask(&bed.socket(), "POST", "/v1/trace", packets);
    assert_eq!(code, 200, "{traces}");
    assert_eq!((&traces[0]["verdict"], &traces[0]["chosen"]), (&"forward".into(), &"10.0.0.2:8080".into()), "{traces}");
    assert_eq!((&traces[0]["flow"], &traces[1]["reason"]), (&Value::Null, &"no_service_port".into()));
    let (code, answer) = ask(&bed.socket(), "POST", "/trace", r#"{"packets":["tcp:1"]}"#);
    assert_eq!(code, 400);
    assert!(answer["error"].as_str().unwrap().starts_with("PACKET \"tcp:1\": "), "{answer}");

    // The healthCheckNodePort, as kube-proxy answers.
    let check = "curl -s -w %{http_code} http://10.0.0.1:31999/";
    let curl = |line: &str| {
        let mut words = line.split(' ');
        let output = bed.host.command(words.next().unwrap()).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let expected =
        r#"{"localEndpoints":1,"service":{"name":"web","namespace":"default"},"serviceProxyHealthy":true}200"#;
    eventually("the healthCheckNodePort answers", || curl(check) == expected);
    bed.write_objects(&SERVICE.replace("nodeName: gw-1", "nodeName: gw-2"));
    eventually("no local endpoint is left", || curl(check).ends_with("503"));

    let (code, line) = bed.refuse();
    assert_eq!(code, Some(1));
    assert!(line.contains(&format!("in use by another ringway (process {})", instance.process.id())), "{line}");

    assert!(instance.stop().unwrap().success());
    assert_eq!(bed.traces(), Vec::<String>::new());
    assert!(!bed.socket().exists() && !bed.folder.path().join("state/lock").exists());
}

#[test]
fn after_a_kill_nothing_is_attached_and_the_next_start_works() {
    let Some(bed) = Bed::new(1) else { return };
    for _ in 0..2 {
        let mut instance = bed.start();
        assert_eq!(bed.traces().len(), 2, "a program and a TAP device");
        instance.process.signal(Signal::KILL).unwrap();
        instance.process.wait(Duration::from_secs(5)).unwrap();
        eventually("the kernel has taken everything back", || bed.traces().is_empty());
        assert!(bed.socket().exists(), "its socket is left, and in nobody's way");
    }
    assert!(bed.start().stop().unwrap().success());
}

#[test]
fn an_interface_is_followed_through_its_life() {
    let Some(bed) = Bed::new(1) else { return };
    bed.write_config("interfaces: [{name: \"eth*\"}]");
    let mut instance = bed.start();
    let interface = |instance: &Instance, name: &str| {
        let status = instance.get("/status").unwrap();
        let all = status["interfaces"].as_array().unwrap().clone();
        all.into_iter().find(|interface| interface["name"] == name).unwrap_or(Value::Null)
    };
    bed.gateway.ip(&["link", "delete", "eth0"]).unwrap();
    eventually("eth0 is gone", || interface(&instance, "eth0")["problem"].as_str().is_some_and(|p| p.contains("gone")));
    bed.link(1);
    eventually("eth0 is attached again", || interface(&instance, "eth0")["mode"] == "native");
    let end = |namespace, link| End { namespace, link, mac: None };
    veth(end(&bed.gateway, "eth9"), end(&bed.host, "eth9"), 1).unwrap();
    eventually("a new one is attached", || interface(&instance, "eth9")["mode"] == "native");
    assert!(instance.stop().unwrap().success());
    assert_eq!(bed.traces(), Vec::<String>::new());
}

#[test]
fn the_admin_socket_takes_nobodys_place() {
    let Some(bed) = Bed::new(1) else { return };
    let message = |what: &str| format!("error: admin.socket: cannot make {}: {what}", bed.socket().display());
    let other = UnixListener::bind(bed.socket()).unwrap();
    assert_eq!(bed.refuse().1, message("another process answers on it; stop that one, or set another path"));
    drop(other);
    std::fs::remove_file(bed.socket()).unwrap();
    std::fs::write(bed.socket(), "precious").unwrap();
    assert_eq!(bed.refuse().1, message("it exists and is no socket; set another path"));
    assert_eq!(std::fs::read_to_string(bed.socket()).unwrap(), "precious", "not even on the way out");
    std::fs::remove_file(bed.socket()).unwrap();
    let taken = bed.gateway.enter(|| std::net::TcpListener::bind("0.0.0.0:10256").unwrap()).unwrap();
    let expected = "error: admin.healthz: cannot listen on 0.0.0.0:10256: Address already in use (os error 98); another \
                    process has it (ss -ltnp): stop that one, or set another address, or off";
    assert_eq!(bed.refuse(), (Some(1), expected.to_owned()));
    drop(taken);
}
