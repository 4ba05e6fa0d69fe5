//! The configuration anew while traffic flows: SIGHUP, `ringway reload`, files with mistakes, and signals that mean nothing.

use ringway_tests::echo::EchoClient;
use ringway_tests::process::{ask, try_ask};
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, Options, at};
use ringway_tests::{can_run, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const PROGRAMS: [&str; 3] = ["ip", "nginx", "curl"];

/// A TCP connection that stays open.
struct Connection(TcpStream);

impl Connection {
    fn open(bed: &Bed) -> Connection {
        let stream = bed.client.enter(|| TcpStream::connect(at(CLUSTER_IPS[0], HTTP.port))).expect("a namespace");
        let stream = stream.expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Connection(stream)
    }

    /// One request and its answer.
    #[track_caller]
    fn ask(&mut self) {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").expect("it can be written to");
        let mut answer = [0; 4096];
        let length = self.0.read(&mut answer).expect("an answer");
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
    }
}

/// What is answered there, from its head on.
fn http(bed: &Bed, address: std::net::SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = bed.gateway.enter(|| TcpStream::connect(address)).expect("a namespace")?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn signal(bed: &mut Bed, signal: Signal) {
    let pid = Pid::from_raw(bed.ringway().id().cast_signed()).expect("a process");
    kill_process(pid, signal).expect("it runs");
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Waits until `status` has counted so many reloads.
#[track_caller]
fn reloaded(bed: &mut Bed, count: u64) -> Value {
    eventually(SOON, "the configuration is reloaded", || {
        let status = bed.ringway().get("/status")?;
        if status["configuration"]["reloads"] == count { Ok(status) } else { Err(status["configuration"].to_string()) }
    })
}

#[test]
fn a_reload_takes_what_it_can_and_cuts_no_flow() {
    if !can_run("a_reload_takes_what_it_can_and_cuts_no_flow", &PROGRAMS) {
        return;
    }
    let mut bed = Bed::start(Options { queues: 2, ..Options::default() });
    bed.gateway.address("back", "10.180.0.77/32").expect("an address");
    let mut connection = Connection::open(&bed);
    let echo = EchoClient::new(&bed.client, at(CLUSTER_IPS[0], ECHO.port));
    connection.ask();
    let first = echo.ask(b"one").expect("an answer");
    assert_eq!(first.client, "192.168.0.1", "its source is kept");

    // Nothing changed, whoever asks beside whom.
    let ringway = &*bed.ringway();
    std::thread::scope(|scope| {
        let reloads: Vec<_> = (0..3).map(|_| scope.spawn(|| said(&ringway.command(&["reload"])))).collect();
        for reload in reloads {
            let (status, out, told) = reload.join().expect("a reload");
            assert!(status == Some(0) && out.ends_with(": nothing changed\n"), "{out}{told}");
        }
    });
    // What is taken, by SIGHUP.
    let config = std::fs::read_to_string(bed.config()).expect("the configuration");
    let masqueraded = config.replace("masqueradeAll: false", "masqueradeAll: true");
    std::fs::write(bed.config(), format!("{masqueraded}log: debug\nsnat: {{addresses: [10.180.0.77, 10.180.0.77]}}\n"))
        .expect("a file");
    signal(&mut bed, Signal::HUP);
    reloaded(&mut bed, 4);
    let log = bed.ringway().output();
    assert!(log.contains("services.masqueradeAll: false -> true: in force"), "{log}");
    assert!(log.contains("log: info -> debug: in force") && log.contains("DEBUG"), "{log}");
    connection.ask();
    assert_eq!(
        echo.ask(b"two").expect("an answer"),
        ringway_tests::echo::Answer { payload: "two".into(), ..first.clone() }
    );
    let other = EchoClient::new(&bed.client, at(CLUSTER_IPS[0], ECHO.port));
    assert_eq!(other.ask(b"x").expect("an answer").client, "10.180.0.77", "new flows have the new address");
    ask(&bed.client, at(CLUSTER_IPS[0], HTTP.port));
    eventually(SOON, "the address is known to be the node's", || {
        let notes = bed.ringway().get("/status")?["snat"]["notes"].clone();
        let all: Vec<&str> = notes.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let twice = "snat.addresses: 10.180.0.77 is listed twice";
        if matches!(all[..], [note] if note.starts_with(twice)) { Ok(()) } else { Err(notes.to_string()) }
    });

    // Timeouts hold for the flows there are, and what takes a restart is named.
    let text = config.replace("perWorker: 16384", "perWorker: 32768\n  timeouts: {udp: 1s}");
    std::fs::write(bed.config(), text).expect("a file");
    let (status, out, _) = said(&bed.ringway().command(&["reload"]));
    assert_eq!(status, Some(3), "{out}");
    assert!(out.contains("flows.perWorker: 16384 -> 32768: takes a restart\n"), "{out}");
    assert!(out.contains("snat.addresses: [10.180.0.77, 10.180.0.77] -> []: in force\n"), "{out}");
    let line = out.lines().find(|line| line.starts_with("flows.timeouts.udp: ")).expect("a line about it");
    assert!(line.ends_with("s -> 1s: in force"), "{line}");
    eventually(SOON, "silent UDP flows end after a second", || {
        let flows = bed.ringway().get("/flows?protocol=udp")?;
        if flows["flows"] == Value::Array(Vec::new()) { Ok(()) } else { Err(flows.to_string()) }
    });
    connection.ask();
    let status = reloaded(&mut bed, 5);
    assert_eq!(status["configuration"]["waiting"][0]["key"], "flows.perWorker");
    assert_eq!(status["flows"]["capacity"], 2 * 16384, "the old value stays");
    let (_, text, _) = said(&bed.ringway().command(&["status"]));
    assert!(text.contains("flows.perWorker: 16384 -> 32768: takes a restart"), "{text}");
    connection.ask();
}

#[test]
fn a_wrong_file_changes_nothing() {
    if !can_run("a_wrong_file_changes_nothing", &PROGRAMS) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let mut connection = Connection::open(&bed);
    connection.ask();
    let config = std::fs::read_to_string(bed.config()).expect("the configuration");
    std::fs::write(bed.config(), format!("{config}log: debug\nwhenDwon: hold\n")).expect("a file");
    let checked = said(&bed.ringway().command(&["check"])).2;
    let message = checked.strip_prefix("error: ").expect(&checked).trim_end();
    assert!(message.contains("whenDwon: unknown key; did you mean whenDown?"), "{message}");
    signal(&mut bed, Signal::HUP);
    let failure = eventually(SOON, "status tells of it", || {
        let failure = bed.ringway().get("/status")?["configuration"]["failure"].clone();
        if failure.is_null() { Err("nothing".to_owned()) } else { Ok(failure) }
    });
    assert_eq!(failure["text"], message);
    // A thread of its own writes the log.
    let log = eventually(SOON, "the log tells of it", || {
        let log = bed.ringway().output();
        if log.contains(message) { Ok(log) } else { Err(log) }
    });
    assert!(!log.contains("DEBUG"), "{log}");
    let socket = bed.socket().display().to_string();
    let output = std::process::Command::new(ringway_tests::instance::binary())
        .args(["reload", "--socket", &socket])
        .output()
        .expect("ringway reload");
    assert_eq!(said(&output), (Some(2), String::new(), format!("error: {message}\nnothing was changed\n")));
    // An interface that does not exist, and an address that another program has, are as wrong.
    let taken = bed.gateway.enter(|| std::net::TcpListener::bind("127.0.0.1:7777")).expect("in").expect("a listener");
    for (wrong, why) in [
        (
            config.replace("interfaces:\n", "interfaces:\n  - name: eth7\n"),
            "interfaces[0].name: there is no interface eth7",
        ),
        (
            config.replace("interfaces:\n", "interfaces:\n  - name: lo\n"),
            "interfaces[0].name: lo is not an Ethernet interface",
        ),
        (format!("{config}  healthz: 127.0.0.1:7777\nlog: debug\n"), "admin.healthz: cannot listen on 127.0.0.1:7777"),
        (
            format!("{config}  metrics: 127.0.0.1:10256\nlog: debug\n"),
            "admin.metrics: cannot listen on 127.0.0.1:10256: this process has 0.0.0.0:10256 as admin.healthz",
        ),
    ] {
        std::fs::write(bed.config(), wrong).expect("a file");
        let (status, _, told) = said(&bed.ringway().command(&["reload"]));
        assert!(told.starts_with(&format!("error: {why}")) && status != Some(0), "{status:?} {told}");
        assert!(told.ends_with("\nnothing was changed\n"), "{told}");
        assert!(!bed.ringway().output().contains("DEBUG"), "nothing of it is in force");
    }
    drop(taken);
    connection.ask();
    // What never ends is read once: a FIFO that nobody writes to.
    std::fs::remove_file(bed.config()).expect("a file");
    let made = std::process::Command::new("mkfifo").arg(bed.config()).status().expect("mkfifo");
    assert!(made.success());
    let socket = bed.socket();
    for why in ["cannot be read within 5 s; is it a file?", "is still being read for an earlier reload; is it a file?"]
    {
        let (status, _, told) = said(&bed.ringway().command(&["reload", "--socket", &socket.display().to_string()]));
        assert!(status == Some(1) && told.contains(why), "{told}");
    }
    connection.ask();
    // And right again, once that has ended.
    std::fs::write(bed.config(), &config).expect("what is read at the other end");
    std::fs::remove_file(bed.config()).expect("a FIFO");
    std::fs::write(bed.config(), config).expect("a file");
    eventually(SOON, "the reader has ended", || {
        let (status, _, told) = said(&bed.ringway().command(&["reload"]));
        if status == Some(0) { Ok(()) } else { Err(told) }
    });
    assert_eq!(said(&bed.ringway().command(&["reload"])).0, Some(0));
    assert!(bed.ringway().ask("/status")["configuration"]["failure"].is_null());
}

#[test]
fn interfaces_and_listeners_come_and_go() {
    if !can_run("interfaces_and_listeners_come_and_go", &PROGRAMS) {
        return;
    }
    let mut bed = Bed::prepare(Options::default());
    bed.serve();
    let whole = std::fs::read_to_string(bed.config()).expect("the configuration");
    let front = whole.replace("  - {name: back, xdp: native}\n", "");
    std::fs::write(bed.config(), &front).expect("a file");
    bed.start_ringway();
    let vip = at(CLUSTER_IPS[0], HTTP.port);
    try_ask(&bed.client, vip).expect_err("the way to the endpoints is not listed");
    std::fs::write(bed.config(), &whole).expect("a file");
    let (status, out, told) = said(&bed.ringway().command(&["reload"]));
    assert_eq!((status, &*out), (Some(0), "interfaces: [front] -> [front, back]: in force\n"), "{told}");
    ask(&bed.client, vip);
    let mut connection = Connection::open(&bed);
    connection.ask();

    // Another place for everything, the same port among them.
    let socket = bed.folder().join("moved.sock");
    let moved = whole.replace("admin.sock", "moved.sock");
    std::fs::write(bed.config(), format!("{moved}  healthz: 127.0.0.1:10256\n  metrics: 127.0.0.1:9099\n"))
        .expect("a file");
    let old = bed.socket().display().to_string();
    let output = bed.ringway().command(&["reload", "--socket", &old]);
    assert_eq!(said(&output).0, Some(0), "{output:?}");
    assert!(!bed.socket().exists() && socket.exists());
    let answers = |bed: &Bed, address: &str| {
        let address: std::net::SocketAddr = address.parse().expect("an address");
        bed.gateway.enter(|| TcpStream::connect(address).is_ok()).expect("a namespace")
    };
    for address in ["127.0.0.1:10256", "127.0.0.1:9099"] {
        assert!(answers(&bed, address), "{address}");
    }
    for address in ["192.168.0.2:10256", "127.0.0.1:9098"] {
        eventually(SOON, "the former place is left", || {
            if answers(&bed, address) { Err(address.to_owned()) } else { Ok(()) }
        });
    }
    connection.ask();

    // Both change places, and whoever is asked there answers what is asked for there.
    std::fs::write(bed.config(), format!("{moved}  healthz: 127.0.0.1:9099\n  metrics: 127.0.0.1:10256\n"))
        .expect("a file");
    let (status, out, told) = said(&bed.ringway().command(&["reload", "--socket", &socket.display().to_string()]));
    assert_eq!(status, Some(0), "{out}{told}");
    for (address, path) in [("127.0.0.1:9099", "/livez"), ("127.0.0.1:10256", "/metrics")] {
        let address = address.parse().expect("an address");
        let answer = http(&bed, address, path).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{address}{path}: {answer}");
    }
    // Where one of them cannot go where it should, both stay.
    let taken = bed.gateway.enter(|| std::net::TcpListener::bind("127.0.0.2:9099")).expect("in").expect("a listener");
    std::fs::write(bed.config(), format!("{moved}  healthz: 127.0.0.1:10256\n  metrics: 127.0.0.2:9099\n"))
        .expect("a file");
    let (status, out, told) = said(&bed.ringway().command(&["reload", "--socket", &socket.display().to_string()]));
    assert_eq!(status, Some(1), "{out}{told}");
    assert!(out.contains("not done: admin.metrics: cannot listen on 127.0.0.2:9099"), "{out}");
    assert!(out.contains("not done: admin.healthz: it stays where it was"), "{out}");
    for (address, path) in [("127.0.0.1:9099", "/livez"), ("127.0.0.1:10256", "/metrics")] {
        let address = address.parse().expect("an address");
        let answer = http(&bed, address, path).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{address}{path}: {answer}");
    }
    drop(taken);
    connection.ask();

    // And back is let go of again.
    std::fs::write(bed.config(), moved.replace("  - {name: back, xdp: native}\n", "")).expect("a file");
    let (status, out, told) = said(&bed.ringway().command(&["reload"]));
    assert_eq!(status, Some(0), "{out}{told}");
    assert!(out.contains("interfaces: [front, back] -> [front]: in force\n"), "{out}");
    let links = ringway_tests::process::links(&bed.gateway);
    let attached: Vec<&Value> =
        links.iter().filter(|link| link.get("xdp").is_some()).map(|link| &link["ifname"]).collect();
    assert_eq!(attached, ["front"]);
    let status: Value =
        serde_json::from_slice(&bed.ringway().command(&["status", "--output", "json"]).stdout).expect("JSON");
    assert_eq!(status["interfaces"].as_array().expect("interfaces").len(), 1, "{status:#}");
}

#[test]
fn signals_that_mean_nothing_end_nothing() {
    if !can_run("signals_that_mean_nothing_end_nothing", &["ip"]) {
        return;
    }
    let mut bed = Bed::prepare(Options::default());
    bed.start_ringway();
    for (sent, name) in
        [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2"), (Signal::ALARM, "SIGALRM"), (Signal::XCPU, "SIGXCPU")]
    {
        signal(&mut bed, sent);
        eventually(SOON, "the log says that it does nothing", || {
            let log = bed.ringway().output();
            if log.contains(&format!("{name} does nothing here")) { Ok(()) } else { Err(log) }
        });
    }
    signal(&mut bed, Signal::XFSZ);
    // The next one is answered after it.
    signal(&mut bed, Signal::IO);
    eventually(SOON, "the log says that SIGIO does nothing", || {
        let log = bed.ringway().output();
        if log.contains("SIGIO does nothing here") { Ok(()) } else { Err(log) }
    });
    assert!(bed.ringway().runs());
    assert_eq!(bed.ringway().stop().code(), Some(0));
}
