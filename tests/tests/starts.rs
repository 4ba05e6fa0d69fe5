//! Starts where others have a queue that Ringway wants: the other interfaces are served, and the queue is taken as soon as it can
//! be had. Without any other interface there is no start.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringway_control::demo::netns::{End, ip, veth};
use ringway_control::demo::process::Process;
use ringway_dataplane::af_xdp::{Device, RingSizes, SocketOptions, Umem, UmemLayout, ZeroCopy};
use ringway_dataplane::io::{Port, PortOptions};
use ringway_tests::instance::binary;
use ringway_tests::process::try_curl;
use ringway_tests::topology::{Bed, CLUSTER_IPS, Options};
use ringway_tests::{can_run, eventually};

/// The longest pause between attempts, and some more.
const SOON: Duration = Duration::from_secs(90);

/// A gateway that does not run yet, with more interfaces: `x0`, `x1` and so on, whose queues this process has.
fn bed(count: u32) -> (Bed, Vec<(Port, Umem)>) {
    let bed = Bed::prepare(Options { backends: 1, ..Options::default() });
    let names: Vec<String> = (0..count).map(|number| format!("x{number}")).collect();
    for name in &names {
        let end = |link| End { namespace: &bed.gateway, link, mac: None };
        veth(end(name), end(&format!("end-{name}")), 1).expect("a veth");
    }
    let held = bed.gateway.enter(|| names.iter().map(|name| hold(name)).collect()).expect("the namespace");
    (bed, held)
}

/// A socket at the only queue of a device, with the memory that it works on.
fn hold(name: &str) -> (Port, Umem) {
    let device = Device::by_name(name).expect("a device");
    let rings = RingSizes { fill: 8, completion: 8, receive: 8, transmit: 8, driver: 0 };
    let mut umem = Umem::new(UmemLayout::of_frames(64)).expect("packet memory");
    let socket = SocketOptions { rings, zero_copy: ZeroCopy::Off, generic: true, busy_poll: false, announces: None };
    let port = Port::open_patiently(&PortOptions { device: &device, queue: 0, socket }, &mut umem, &[]);
    (port.expect("a socket"), umem)
}

/// Writes these interfaces in the place of those of the configuration, or besides them.
fn list(bed: &Bed, names: &[&str], instead: bool) {
    let config = std::fs::read_to_string(bed.config()).expect("the configuration");
    let kept =
        config.lines().filter(|line| !instead || !line.starts_with("  - {name: ")).collect::<Vec<_>>().join("\n");
    let more: String = names.iter().map(|name| format!("  - {{name: \"{name}\"}}\n")).collect();
    let config = kept.replace("interfaces:\n", &format!("interfaces:\n{more}"));
    std::fs::write(bed.config(), config).expect("the configuration");
}

fn run(bed: &Bed, environment: &[(&str, &str)]) -> Process {
    let mut command = bed.gateway.command(binary());
    command.args(["run", "--config"]).arg(bed.config()).envs(environment.iter().copied());
    Process::start("ringway run", command).expect("it starts")
}

/// `x0`, as `status` shows it: whether it is attached, and why not.
fn x0(bed: &Bed) -> Result<(bool, String), String> {
    let status = bed.status()?;
    let x0 = status["interfaces"].as_array().into_iter().flatten().find(|one| one["name"] == "x0");
    let x0 = x0.ok_or_else(|| status["interfaces"].to_string())?;
    Ok((x0["mode"].is_string(), x0["problem"].as_str().unwrap_or_default().to_owned()))
}

fn curl(bed: &Bed) -> Result<String, String> {
    try_curl(&bed.client, &format!("http://{}/", CLUSTER_IPS[0]))
}

#[test]
fn what_a_stranger_has_at_the_start_is_taken_when_it_leaves_and_the_others_are_served_meanwhile() {
    let test = "what_a_stranger_has_at_the_start_is_taken_when_it_leaves_and_the_others_are_served_meanwhile";
    if !can_run(test, &["ip", "nginx", "curl"]) {
        return;
    }
    let (mut bed, held) = bed(1);
    list(&bed, &["x0"], false);
    bed.serve();
    bed.start_ringway();
    let holder = format!("(process {})", std::process::id());
    let (attached, why) = x0(&bed).expect("a status");
    assert!(
        !attached && why.contains("queue 0 of x0 is held by another AF_XDP socket") && why.contains(&holder),
        "{why}"
    );
    let log = bed.ringway().output();
    assert!(log.contains("cannot attach to x0: queue 0 of x0 is held") && log.contains("starting without x0"), "{log}");
    eventually(Duration::from_secs(20), "the others are served", || curl(&bed));
    drop(held);
    eventually(SOON, "it is attached", || match x0(&bed)? {
        (true, _) => Ok(()),
        (false, why) => Err(why),
    });
    curl(&bed).unwrap_or_else(|error| panic!("{error}"));
    assert!(bed.ringway().stop().success());
}

#[test]
fn a_start_without_any_interface_that_can_be_attached_ends_and_names_who_is_in_the_way() {
    let test = "a_start_without_any_interface_that_can_be_attached_ends_and_names_who_is_in_the_way";
    if !can_run(test, &["ip"]) {
        return;
    }
    let (bed, held) = bed(1);
    list(&bed, &["x0"], true);
    let mut process = run(&bed, &[]);
    let status = process.wait(Duration::from_secs(20)).unwrap_or_else(|error| panic!("{error}"));
    let log = process.output();
    let error = log.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{log}"));
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(error.starts_with("error: x0: queue 0 of x0 is held by another AF_XDP socket"), "{error}");
    assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    drop(held);
}

#[test]
fn a_reload_that_adds_a_glob_answers_when_all_that_it_means_were_tried() {
    let test = "a_reload_that_adds_a_glob_answers_when_all_that_it_means_were_tried";
    if !can_run(test, &["ip", "nginx", "curl"]) {
        return;
    }
    let (mut bed, held) = bed(2);
    let end = |link| End { namespace: &bed.gateway, link, mac: None };
    veth(end("x2"), end("end-x2"), 1).expect("a veth");
    bed.serve();
    bed.start_ringway();
    list(&bed, &["x*"], false);
    let output = bed.ringway().command(&["reload"]);
    let status = bed.status().expect("a status");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for name in ["x0", "x1"] {
        let refused =
            format!("not done: {name} is not attached, and is tried again: queue 0 of {name} is held by another");
        assert!(told.contains(&refused), "{told}");
    }
    let x2 = status["interfaces"].as_array().into_iter().flatten().find(|one| one["name"] == "x2");
    assert!(!told.contains("x2 is not attached") && x2.is_some_and(|x2| x2["mode"].is_string()), "{told}{status:#}");
    drop(held);
    assert!(bed.ringway().stop().success());
}

#[test]
fn a_supervisor_hears_that_a_long_start_goes_on() {
    if !can_run("a_supervisor_hears_that_a_long_start_goes_on", &["ip"]) {
        return;
    }
    // The first is waited for for a second, whoever has it.
    let (bed, held) = bed(3);
    list(&bed, &["x*"], false);
    let path = bed.folder().join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket");
    supervisor.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut process = run(&bed, &[("NOTIFY_SOCKET", path.to_str().expect("a path"))]);
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "READY=1") {
        let mut message = [0; 4096];
        let length =
            supervisor.recv(&mut message).unwrap_or_else(|error| panic!("{error}: {heard:?}\n{}", process.output()));
        heard.push(String::from_utf8_lossy(&message[..length]).into_owned());
    }
    let goes_on = |tried: usize| format!("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=attaching: {tried} of 5");
    let started = heard.iter().filter(|message| message.starts_with("EXTEND_TIMEOUT_USEC")).collect::<Vec<_>>();
    // Every second one, and there is one of these.
    assert!(started.len() >= 2 && *started[0] == goes_on(0), "{heard:?}");
    assert!([goes_on(2), goes_on(3), goes_on(4)].contains(started[started.len() - 1]), "{heard:?}");
    assert!(process.terminate(Duration::from_secs(5)).expect("it ends").success());
    drop(held);
}

#[test]
fn of_links_that_a_glob_meant_and_that_are_gone_the_last_few_are_told_of() {
    if !can_run("of_links_that_a_glob_meant_and_that_are_gone_the_last_few_are_told_of", &["ip"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { backends: 1, ..Options::default() });
    let end = |link| End { namespace: &bed.gateway, link, mac: None };
    veth(end("named"), end("end-named"), 1).expect("a veth");
    list(&bed, &["named", "x*"], false);
    bed.start_ringway();
    bed.gateway.ip(&["link", "delete", "named"]).expect("it goes");
    let listed = |bed: &Bed| {
        let status = bed.status()?;
        let names = status["interfaces"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
        Ok::<_, String>(
            names.filter(|name| name.starts_with('x') || *name == "named").map(str::to_owned).collect::<Vec<_>>(),
        )
    };
    // As pods come and go, each with a name of its own.
    for number in 0..20 {
        let name = format!("x{number}");
        let end = |link| End { namespace: &bed.gateway, link, mac: None };
        veth(end(&name), end(&format!("end-{number}")), 1).expect("a veth");
        eventually(SOON, "it is known", || match listed(&bed)? {
            names if names.contains(&name) => Ok(()),
            names => Err(format!("{names:?}")),
        });
        bed.gateway.ip(&["link", "delete", &name]).expect("it goes");
    }
    // One that is named is told of for as long as it is away.
    let mut last = vec!["named".to_owned()];
    last.extend((4..20).map(|number| format!("x{number}")));
    eventually(SOON, "the last sixteen are told of", || match listed(&bed)? {
        names if names == last => Ok(()),
        names => Err(format!("{names:?}")),
    });
    assert!(bed.ringway().stop().success());
}

/// Links of pods that come and go, each of its own accord, until this is dropped.
struct Pods {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Pods {
    /// `x0`, `x1` and so on.
    fn come_and_go(bed: &Bed, count: u32) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let come_and_go = |number: u32| {
            let (namespace, ends) = (bed.gateway.name().to_owned(), ends.clone());
            let (link, other) = (format!("x{number}"), format!("end-{number}"));
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let add =
                        ["-netns", &namespace, "link", "add", &link, "up", "type", "veth", "peer", "name", &other];
                    ip(&add).expect("a veth");
                    thread::sleep(Duration::from_millis(50));
                    ip(&["-netns", &namespace, "link", "delete", &link]).expect("it goes");
                }
            })
        };
        let threads = (0..count).map(come_and_go).collect();
        Pods { ends, threads }
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let failed = self.threads.drain(..).filter_map(|thread| thread.join().err()).count();
        assert!(failed == 0 || thread::panicking(), "{failed} links could not come and go");
    }
}

#[test]
fn links_that_come_and_go_while_it_starts_end_no_start() {
    if !can_run("links_that_come_and_go_while_it_starts_end_no_start", &["ip"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { backends: 1, ..Options::default() });
    list(&bed, &["x*"], false);
    let pods = Pods::come_and_go(&bed, 4);
    // Each start looks at the links once, so that one alone need not meet a link that has just gone.
    for _ in 0..8 {
        bed.start_ringway();
        assert!(bed.ringway().stop().success());
    }
    drop(pods);
}
