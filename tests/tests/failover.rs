//! While devices are being opened, which takes long: what carries an interface is followed all the same, and a signal ends it.
//! A bridge's port that begins to listen stands for a bond's members: both are told in the same way, and nothing has to be
//! attached for either.

use ringway_control::demo::netns::{End, Namespace, veth};
use ringway_dataplane::af_xdp::{Device, RingSizes, SocketOptions, Umem, UmemLayout, ZeroCopy};
use ringway_dataplane::io::{Port, PortOptions};
use ringway_tests::instance::Instance;
use ringway_tests::topology::{Bed, Options};
use ringway_tests::{can_run, eventually};
use std::time::Duration;

/// However slow the machine is.
const SOON: Duration = Duration::from_secs(120);
const MOVED: &str = "br0 is carried by nothing";
const PROGRAMS: [&str; 3] = ["ip", "nginx", "curl"];

/// A gateway that does not run yet, with the bridge `br0`, carried by its only port `member`.
fn prepared() -> Bed {
    let bed = Bed::prepare(Options { xdp: "generic", ..Options::default() });
    pair(&bed.gateway, "member");
    for arguments in ["link add br0 type bridge", "link set member master br0", "link set br0 up"] {
        bed.gateway.ip(&arguments.split(' ').collect::<Vec<_>>()).expect(arguments);
    }
    add(&bed, "br0");
    bed
}

/// The same, running.
fn bed() -> Bed {
    let mut bed = prepared();
    bed.serve();
    bed.start_ringway();
    assert!(bed.ringway().output().contains("attached to br0 by member"), "{}", bed.ringway().output());
    bed
}

fn pair(namespace: &Namespace, link: &str) {
    let end = |link| End { namespace, link, mac: None };
    veth(end(link), end(&format!("end-{link}")), 1).expect("a veth");
}

/// One more interface in the configuration.
fn add(bed: &Bed, name: &str) {
    let config = std::fs::read_to_string(bed.config()).expect("the configuration");
    let config = config.replace("interfaces:\n", &format!("interfaces:\n  - {{name: \"{name}\", xdp: generic}}\n"));
    std::fs::write(bed.config(), config).expect("the configuration");
}

fn stop_forwarding(bed: &Bed) {
    bed.gateway.ip(&["link", "set", "member", "type", "bridge_slave", "state", "1"]).expect("a port that listens");
}

fn go_on_forwarding(bed: &Bed) {
    bed.gateway.ip(&["link", "set", "member", "type", "bridge_slave", "state", "3"]).expect("a port that forwards");
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

/// How often a start is tried that is over in a second, for what has to happen within it on a machine that is busy.
const STARTS: usize = 5;

/// So many interfaces more in the configuration, x0 and so on, whose queues others have: a start waits for the first of them for a second.
fn busy(bed: &Bed, count: u32) -> Vec<(Port, Umem)> {
    let names: Vec<String> = (0..count).map(|number| format!("x{number}")).collect();
    names.iter().for_each(|name| pair(&bed.gateway, name));
    add(bed, "x*");
    bed.gateway.enter(|| names.iter().map(|name| hold(name)).collect()).expect("the namespace")
}

fn cannot(name: &str) -> String {
    format!("cannot attach to {name}: queue 0 of {name} is held by ")
}

fn is_given_up(log: &str, name: &str) -> bool {
    log.contains(&cannot(name))
}

#[test]
fn what_carries_an_interface_is_followed_while_others_are_being_opened() {
    if !can_run("what_carries_an_interface_is_followed_while_others_are_being_opened", &PROGRAMS) {
        return;
    }
    let bed = prepared();
    let held = busy(&bed, 6);
    let start = || {
        let mut ringway = Instance::start(&bed.gateway, &bed.config(), &bed.socket());
        eventually(SOON, "it is attached to br0", || {
            let log = ringway.output();
            if log.contains("attached to br0 by member") { Ok(()) } else { Err(log) }
        });
        stop_forwarding(&bed);
        let log = eventually(SOON, "all are given up, and br0 followed", || {
            let log = ringway.output();
            if log.contains("starting without ") && log.contains(MOVED) { Ok(log) } else { Err(log) }
        });
        assert!(ringway.stop().success());
        go_on_forwarding(&bed);
        log
    };
    let followed = (0..STARTS).map(|_| start()).find(|log| log.find(MOVED) < log.find(&cannot("x0")));
    let log = followed.expect("a start that follows it before x0 is given up");
    assert!(log.contains("held by another AF_XDP socket"), "{log}");
    // This one.
    let holder = format!("(process {})", std::process::id());
    let told = log.lines().find(|line| line.contains(&cannot("x0"))).expect("it was told");
    assert!(told.contains("such sockets are open in ") && told.contains(&holder), "{told}");
    drop(held);
}

#[test]
fn what_carries_an_interface_is_followed_while_a_configuration_is_being_read() {
    if !can_run("what_carries_an_interface_is_followed_while_a_configuration_is_being_read", &PROGRAMS) {
        return;
    }
    let mut bed = bed();
    // A FIFO that nobody writes to.
    std::fs::remove_file(bed.config()).expect("a file");
    let made = std::process::Command::new("mkfifo").arg(bed.config()).status().expect("mkfifo");
    assert!(made.success());
    let reload = bed.ringway().id().to_string();
    std::process::Command::new("kill").args(["-HUP", &reload]).status().expect("kill");
    eventually(SOON, "it is being read", || {
        let log = bed.ringway().output();
        if log.contains("SIGHUP: reading") { Ok(()) } else { Err(log) }
    });
    stop_forwarding(&bed);
    let given_up = "cannot be read within 5 s";
    let log = eventually(SOON, "it is given up, and br0 followed", || {
        let log = bed.ringway().output();
        if log.contains(given_up) && log.contains(MOVED) { Ok(log) } else { Err(log) }
    });
    assert!(log.find(MOVED) < log.find(given_up), "{log}");
}

#[test]
fn a_signal_during_the_start_ends_it_before_more_devices_are_opened() {
    if !can_run("a_signal_during_the_start_ends_it_before_more_devices_are_opened", &["ip"]) {
        return;
    }
    let bed = Bed::prepare(Options { xdp: "generic", ..Options::default() });
    let held = busy(&bed, 24);
    let start = || {
        let mut ringway = Instance::start(&bed.gateway, &bed.config(), &bed.socket());
        eventually(SOON, "the others are attached", || {
            let log = ringway.output();
            if log.contains("attached to back") { Ok(()) } else { Err(log) }
        });
        let status = ringway.stop();
        let log = ringway.output();
        assert!(status.success() && log.contains("SIGTERM: ending"), "{status}: {log}");
        log
    };
    let given_up = |log: &str| (0..24).filter(|number| is_given_up(log, &format!("x{number}"))).count();
    assert!((0..STARTS).map(|_| start()).any(|log| given_up(&log) < 24), "a start that ends before all are given up");
    drop(held);
}
