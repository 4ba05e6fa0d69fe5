//! What the command says of an instance that is not ready, or whose API server floods it. Needs root, for a namespace.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ringway_control::demo::instance::Instance;
use ringway_control::demo::netns::{End, Namespace, veth};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// A gateway that follows an API server at 127.0.0.1:6443 of its namespace.
struct Bed {
    gateway: Namespace,
    _host: Namespace,
    folder: tempfile::TempDir,
}

impl Bed {
    /// `None`, and a word about it, where namespaces cannot be made; a failure in CI.
    fn new(number: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "these tests need root");
            eprintln!("SKIPPED: needs root to make network namespaces");
            return None;
        }
        let namespace = |role| Namespace::create("answers", &format!("{role}{number}")).unwrap();
        let (gateway, host) = (namespace("gateway"), namespace("host"));
        let end = |namespace, mac| End { namespace, link: "eth0", mac: Some(mac) };
        veth(end(&gateway, "02:00:00:00:00:01"), end(&host, "02:00:00:00:00:02"), 1).unwrap();
        gateway.address("eth0", "10.0.0.1/24").unwrap();
        let up = Command::new("ip").args(["-netns", gateway.name(), "link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let config = format!(
            "nodeName: gw-1\nnode: {{addresses: [10.0.0.1]}}\nflows: {{perWorker: 4096}}\ninterfaces: [{{name: eth0}}]\n\
             source: {{kubernetes: {{kubeconfig: {at}/kubeconfig}}}}\nstate: {at}/state\nadmin: {{socket: {at}/admin.sock}}\n"
        );
        std::fs::write(folder.path().join("ringway.yaml"), config).unwrap();
        let kubeconfig = "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n\
                          clusters: [{name: c, cluster: {server: \"http://127.0.0.1:6443\"}}]\nusers: [{name: u, user: {token: t}}]\n";
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig).unwrap();
        Some(Bed { gateway, _host: host, folder })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn start(&self) -> Instance {
        let config = self.folder.path().join("ringway.yaml");
        Instance::start(&self.gateway, BINARY.as_ref(), &config, &self.socket()).unwrap()
    }

    /// Exit status, standard output and standard error of a question.
    fn ask(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(BINARY);
        let Output { status, stdout, stderr } =
            command.args(words).arg("--socket").arg(self.socket()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn wait_for_status(&self, status: i32) -> (String, String) {
        let began = Instant::now();
        loop {
            match self.ask(&["status", "--output", "json"]) {
                (Some(found), out, err) if found == status => return (out, err),
                other => assert!(began.elapsed() < Duration::from_secs(30), "{other:?}"),
            }
        }
    }
}

#[test]
fn before_the_first_list_nobody_says_that_nothing_is_served() {
    let Some(bed) = Bed::new(0) else { return };
    let (status, _, said) = bed.ask(&["status"]);
    assert!(status == Some(1) && said.contains("no instance is running here"), "{said}");
    let mut instance = bed.start();
    let (out, said) = bed.wait_for_status(3);
    assert!(said.starts_with("error: not ready: "), "{said}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["ready"], false);
    for words in [
        &["services"][..],
        &["services", "shop/web"],
        &["trace", "tcp:10.0.0.2->172.30.0.41:80"],
        &["flows", "--service", "shop/web"],
    ] {
        let (status, out, said) = bed.ask(words);
        assert_eq!((status, &*out), (Some(1), ""), "{words:?}");
        assert!(said.contains("not ready: the first full list of objects is not in force yet"), "{words:?}: {said}");
    }
    let began = Instant::now();
    assert_eq!(bed.ask(&["status", "--wait=1"]).0, Some(3));
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(instance.stop().unwrap().success());
    assert_eq!(bed.ask(&["status", "--wait=0"]).0, Some(1));
}

#[test]
fn status_is_waited_for() {
    let Some(bed) = Bed::new(1) else { return };
    std::fs::create_dir(bed.folder.path().join("objects")).unwrap();
    let config = bed.folder.path().join("ringway.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let source = format!("{{kubernetes: {{kubeconfig: {}/kubeconfig}}}}", bed.folder.path().display());
    std::fs::write(&config, text.replace(&source, &format!("{{files: {}/objects}}", bed.folder.path().display())))
        .unwrap();
    std::thread::scope(|scope| {
        // Asked before it is there.
        let waiting = scope.spawn(|| bed.ask(&["status", "--wait"]));
        let mut instance = bed.start();
        let (status, out, said) = waiting.join().unwrap();
        assert_eq!(status, Some(0), "{out}{said}");
        assert!(out.contains(": ready, up "), "{out}");
        assert_eq!(bed.ask(&["services"]).0, Some(0));
        assert!(instance.stop().unwrap().success());
    });
}

#[test]
fn an_api_server_that_floods_harms_neither_status_nor_memory_nor_the_end() {
    let Some(bed) = Bed::new(2) else { return };
    let listener = bed.gateway.enter(|| TcpListener::bind("127.0.0.1:6443")).unwrap().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[{}");
                let items = br#",{"metadata":{"name":""},"spec":{"ports":[{"port":1}]}}"#.repeat(1_000);
                while stream.write_all(&items).is_ok() {}
            });
        }
    });
    let mut instance = bed.start();
    let mut pid = None;
    for _ in 0..20 {
        let began = Instant::now();
        let (out, _) = bed.wait_for_status(3);
        let status: Value = serde_json::from_str(&out).unwrap();
        pid = status["pid"].as_u64();
        // Once the flood is on, an answer must come while it is.
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.unwrap())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = most.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(most < 1 << 20, "{most} KiB");
    assert!(instance.stop().unwrap().success(), "SIGTERM ends it within 5 s");
}
