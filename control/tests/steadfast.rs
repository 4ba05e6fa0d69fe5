//! `ringway run` when what is around it fails: a log that nobody reads, a panic, clients that stand still. Needs root, for
//! namespaces of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ringway_control::demo::netns::{End, Namespace, veth};
use rustix::process::{Pid, Signal, kill_process};

const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// SIGTERM ends it within this, whatever hangs.
const END: Duration = Duration::from_secs(5);

/// An answer is there within this.
const SOON: Duration = Duration::from_secs(5);

/// A Service with its VIP and its one endpoint.
fn service(vip: &str, endpoint: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\nspec:\n  type: LoadBalancer\n  \
         externalTrafficPolicy: Local\n  healthCheckNodePort: 31999\n  clusterIP: {vip}\n  clusterIPs: [{vip}]\n  ports: [{{name: http, port: 80, protocol: TCP}}]\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-4, namespace: default, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\n\
         ports: [{{name: http, port: 8080, protocol: TCP}}]\nendpoints: [{{addresses: [{endpoint}], nodeName: gw-1}}]\n"
    )
}

/// Objects of which each is a line in the log.
fn broken(from: usize) -> String {
    let one = |number| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: x{number}, namespace: default}}\nspec: {{type: Nope}}\n---\n"
        )
    };
    (from..from + 500).map(one).collect()
}

/// A gateway with one interface, and a `ringway run` there.
struct Bed {
    gateway: Namespace,
    host: Namespace,
    folder: tempfile::TempDir,
}

impl Bed {
    /// `None`, and a word about it, where namespaces cannot be made; a failure in CI.
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "these tests need root");
            eprintln!("SKIPPED: needs root to make network namespaces");
            return None;
        }
        let namespace = |role| Namespace::create(name, role).unwrap();
        let (gateway, host) = (namespace("gateway"), namespace("host"));
        let end = |namespace, mac| End { namespace, link: "eth0", mac: Some(mac) };
        veth(end(&gateway, "02:00:00:00:00:01"), end(&host, "02:00:00:00:00:02"), 1).unwrap();
        gateway.address("eth0", "10.0.0.1/24").unwrap();
        host.address("eth0", "10.0.0.2/24").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("objects")).unwrap();
        let path = folder.path().display();
        let config = format!(
            "nodeName: gw-1\nnode: {{addresses: [10.0.0.1]}}\nflows: {{perWorker: 4096}}\nsource: {{files: {path}/objects}}\n\
             interfaces: [{{name: eth0}}]\nstate: {path}/state\nadmin: {{socket: {path}/admin.sock}}\n"
        );
        std::fs::write(folder.path().join("ringway.yaml"), config).unwrap();
        let bed = Bed { gateway, host, folder };
        bed.write("web", &service("172.30.0.41", "10.0.0.2"));
        Some(bed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let objects = self.path("objects");
        std::fs::write(objects.join(".new"), text).unwrap();
        std::fs::rename(objects.join(".new"), objects.join(format!("{name}.yaml"))).unwrap();
    }

    fn start(&self, stderr: impl Into<Stdio>) -> Running {
        let mut command = self.gateway.command(BINARY);
        command.args(["run", "--config"]).arg(self.path("ringway.yaml"));
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap())
    }

    /// What `ringway services` says, or nothing.
    fn services(&self) -> String {
        let mut command = self.gateway.command(BINARY);
        let output =
            command.args(["services", "--output", "json", "--socket"]).arg(self.path("admin.sock")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn await_services(&self, running: &mut Running, word: &str) {
        eventually(&format!("{word} is served"), || {
            assert_eq!(running.0.try_wait().unwrap(), None, "it has ended");
            self.services().contains(word)
        });
    }
}

/// Killed when dropped.
struct Running(Child);

impl Running {
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }

    fn stop(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < END, "SIGTERM does not end it");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether changes of the objects come into force and SIGTERM ends it in order, with many lines to log.
fn works_on(bed: &Bed, mut running: Running) {
    bed.await_services(&mut running, "10.0.0.2:8080");
    for round in 0..3 {
        bed.write("broken", &broken(round * 500));
        let host = format!("10.0.0.{}", 10 + round);
        bed.write("web", &service("172.30.0.41", &host));
        bed.await_services(&mut running, &format!("{host}:8080"));
    }
    assert_eq!(running.stop().code(), Some(0));
}

#[test]
fn a_log_whose_reader_is_gone_changes_nothing() {
    let Some(bed) = Bed::new("gone") else { return };
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    works_on(&bed, bed.start(writer));
}

#[test]
fn a_log_whose_reader_stands_still_changes_nothing() {
    let Some(bed) = Bed::new("still") else { return };
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    works_on(&bed, bed.start(writer));
    let read = File::from(reader).read(&mut [0; 4096]).unwrap();
    assert!(read > 3000, "the pipe was full, but for less than a line: {read}");
}

#[test]
fn a_log_on_a_full_disk_changes_nothing() {
    let Some(bed) = Bed::new("full") else { return };
    works_on(&bed, bed.start(File::options().write(true).open("/dev/full").unwrap()));
}

#[test]
fn a_failure_that_nobody_can_read_still_has_its_status() {
    let Some(bed) = Bed::new("unread") else { return };
    bed.gateway.ip(&["link", "delete", "eth0"]).unwrap();
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    fill(&writer);
    let mut running = bed.start(writer);
    eventually("it ends", || running.0.try_wait().unwrap().is_some());
    assert_eq!(running.0.wait().unwrap().code(), Some(2));
}

/// An answer to a request, if it comes soon: its first line.
fn ask(namespace: &Namespace, address: &str, path: &str) -> String {
    ask_whole(namespace, address, path).lines().next().unwrap_or_default().to_owned()
}

fn ask_whole(namespace: &Namespace, address: &str, path: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    namespace.enter(ask).unwrap().unwrap_or_else(|error| error.to_string())
}

#[test]
fn every_loop_is_watched() {
    let Some(bed) = Bed::new("hearts") else { return };
    let mut running = bed.start(Stdio::null());
    bed.await_services(&mut running, "10.0.0.2:8080");
    let loops = [
        "health",
        "health checks",
        "healthCheckNodePorts",
        "interfaces",
        "metrics",
        "neighbours",
        "the admin socket",
        "the control thread",
        "the files",
        "the network",
        "the publisher",
        "worker 0",
        "workers' questions",
    ];
    let is_watched = |answer: &str, name: &str| answer.contains(&format!("\"{name}\""));
    eventually("all loops are named", || {
        let answer = ask_whole(&bed.gateway, "127.0.0.1:10256", "/livez");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        loops.iter().all(|name| is_watched(&answer, name))
    });
    assert_eq!(running.stop().code(), Some(0));
}

#[test]
fn thousands_of_silent_slow_and_wrong_clients_stop_nothing() {
    let Some(bed) = Bed::new("crowd") else { return };
    // With the limit that many systems have.
    let mut command = bed.gateway.command("prlimit");
    command.args(["--nofile=1024:1024", BINARY, "run", "--config"]).arg(bed.path("ringway.yaml"));
    let mut running = Running(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    bed.await_services(&mut running, "10.0.0.2:8080");
    let doors = ["10.0.0.1:10256", "10.0.0.1:31999"];
    let metrics = "127.0.0.1:9098";
    for door in doors {
        eventually(door, || ask(&bed.host, door, "/healthz") == "HTTP/1.1 200 OK");
    }
    eventually(metrics, || ask(&bed.gateway, metrics, "/metrics") == "HTTP/1.1 200 OK");
    let mut crowd = Vec::new();
    for number in 0..3_000 {
        let (namespace, door) = match number % 3 {
            2 => (&bed.gateway, metrics),
            other => (&bed.host, doors[other]),
        };
        let text: &[u8] = [b"".as_slice(), b"GET /metrics HTTP/1.1\r\nHos", b"\0\x01\x02\xff", b"\r\n"][number / 3 % 4];
        let client = namespace.enter(|| TcpStream::connect_timeout(&door.parse().unwrap(), SOON)).unwrap();
        let mut client = client.unwrap_or_else(|error| panic!("{number}: {error}"));
        // It may have had to leave already.
        let _ = client.write_all(text);
        crowd.push(client);
        if number % 300 == 299 {
            // Also who comes from where the crowd comes from.
            for door in doors {
                assert_eq!(ask(&bed.host, door, "/healthz"), "HTTP/1.1 200 OK", "{number}");
                assert_eq!(ask(&bed.gateway, door, "/livez"), "HTTP/1.1 200 OK", "{number}");
            }
            assert_eq!(ask(&bed.gateway, metrics, "/metrics"), "HTTP/1.1 200 OK", "{number}");
            let endpoint = format!("10.0.0.{}", 10 + number / 300);
            bed.write("web", &service("172.30.0.41", &endpoint));
            bed.await_services(&mut running, &format!("{endpoint}:8080"));
        }
    }
    let open = running.descriptors();
    assert!(open < 512, "{open} descriptors are open");
    assert_eq!(running.stop().code(), Some(0));
}

#[test]
fn an_admin_client_that_stands_still_holds_up_nobody() {
    let Some(bed) = Bed::new("pager") else { return };
    // An answer that no socket's buffer holds.
    let many: String = (1..200)
        .map(|number| {
            service(&format!("172.30.1.{number}"), "10.0.0.2")
                .replace("name: web", &format!("name: w{number}"))
                .replace("web-4", &format!("w{number}-4"))
                .replace("service-name: web", &format!("service-name: w{number}"))
                + "---\n"
        })
        .collect();
    bed.write("many", &many);
    let mut running = bed.start(Stdio::null());
    bed.await_services(&mut running, "w199");
    let still: Vec<UnixStream> = (0..200)
        .map(|_| {
            let mut stream = UnixStream::connect(bed.path("admin.sock")).unwrap();
            stream.write_all(b"GET /services HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    bed.await_services(&mut running, "w199");
    bed.write("web", &service("172.30.0.41", "10.0.0.77"));
    bed.await_services(&mut running, "10.0.0.77:8080");
    let open = running.descriptors();
    assert!(open < 150, "{open} descriptors are open");
    drop(still);
    assert_eq!(running.stop().code(), Some(0));
}

/// Writes until nothing more fits.
fn fill(writer: &OwnedFd) {
    rustix::io::ioctl_fionbio(writer, true).unwrap();
    let mut file = File::from(writer.try_clone().unwrap());
    while file.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(writer, false).unwrap();
}

#[test]
fn limits_that_are_too_low_are_told_with_what_is_needed_and_that_is_enough() {
    let Some(bed) = Bed::new("limits") else { return };
    let start = |limit: &str, stderr: Stdio| {
        let mut command = bed.gateway.command("sh");
        command.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh", BINARY, "run", "--config"]);
        command.arg(bed.path("ringway.yaml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Running(command.spawn().unwrap())
    };
    let refused = |limit: &str| {
        let mut running = start(limit, Stdio::piped());
        eventually("it is refused", || running.0.try_wait().unwrap().is_some());
        let mut said = String::new();
        running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(running.0.wait().unwrap().code(), Some(1), "{said}");
        said.lines().find_map(|line| line.strip_prefix("error: ")).expect(&said).to_owned()
    };
    let told = refused("-n 100");
    assert!(told.starts_with("the limit of open files (RLIMIT_NOFILE) is 100, and this takes "), "{told}");
    // More is known of the machine later, and allocators differ a little from run to run.
    let mut limit = 300_000;
    let mut ran = false;
    for _ in 0..10 {
        let log = File::create(bed.path("log")).unwrap();
        let mut running = start(&format!("-v {limit}"), log.into());
        eventually("it serves or has ended", || {
            ran = bed.services().contains("172.30.0.41");
            ran || running.0.try_wait().unwrap().is_some()
        });
        if ran {
            break;
        }
        let log = std::fs::read_to_string(bed.path("log")).unwrap();
        let told = log.lines().find_map(|line| line.strip_prefix("error: ")).expect(&log);
        let begin = format!("the limit of address space (RLIMIT_AS) is {limit} KiB, and this takes ");
        let needed = told.strip_prefix(&begin).expect(told).split(' ').next().unwrap();
        assert!(told.ends_with("or lower flows.perWorker"), "{told}");
        limit = needed.parse().unwrap();
    }
    assert!(ran, "{}", std::fs::read_to_string(bed.path("log")).unwrap());
}
