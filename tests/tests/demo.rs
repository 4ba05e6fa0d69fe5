//! `ringway demo` tells its story to the end, holds all it claims, and leaves nothing behind.

use ringway_control::demo::process::Process;
use ringway_tests::can_run;
use ringway_tests::instance::binary;
use rustix::process::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

/// Namespaces and folders of the demo with this process id.
fn left_by(pid: u32) -> Vec<String> {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let mut left = names("/run/netns");
    left.extend(names("/run"));
    let (namespace, folder) = (format!("rwdemo-{pid}-"), format!("ringway-demo-{pid}"));
    left.retain(|name| name.starts_with(&namespace) || *name == folder);
    left
}

fn demo() -> Process {
    let mut command = Command::new(binary());
    command.arg("demo");
    Process::start("ringway demo", command).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn it_holds_all_it_claims() {
    if !can_run("it_holds_all_it_claims", &["ip"]) {
        return;
    }
    let mut demo = demo();
    let status = demo.wait(Duration::from_secs(120)).unwrap_or_else(|error| panic!("{error}"));
    let output = demo.output();
    assert!(status.success(), "{status}:\n{output}");
    for claim in [
        "ClusterIP",
        "NodePort",
        "LoadBalancer IP",
        "trace chose",
        "its traffic moved",
        "takes its share",
        " received = ",
    ] {
        assert!(output.contains(claim), "nothing about '{claim}':\n{output}");
    }
    assert!(!output.contains('✗'), "{output}");
    assert_eq!(left_by(demo.id()), Vec::<String>::new());
}

#[test]
fn ctrl_c_ends_it_and_leaves_nothing() {
    if !can_run("ctrl_c_ends_it_and_leaves_nothing", &["ip"]) {
        return;
    }
    let mut demo = demo();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !demo.output().contains("Steady load") {
        assert!(Instant::now() < deadline, "{}", demo.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!left_by(demo.id()).is_empty(), "it has made its namespaces");
    demo.signal(Signal::INT).expect("it runs");
    let status = demo.wait(Duration::from_secs(15)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status.code(), Some(1), "{}", demo.output());
    assert_eq!(left_by(demo.id()), Vec::<String>::new());
}
