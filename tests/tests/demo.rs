//! `ringway demo` tells its story to the end, holds all it claims, and leaves nothing behind.

use ringway_control::demo::process::Process;
use ringway_tests::can_run;
use ringway_tests::instance::binary;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
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
    // Who runs the tests under nohup has SIGHUP ignored, and the demo would inherit that.
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(binary()).arg("demo");
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
        "were moved to other endpoints",
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

/// A demo on a terminal of 80 columns and 24 lines, its controlling one.
struct OnTerminal {
    demo: Child,
    terminal: Option<OwnedFd>,
    seen: Vec<u8>,
}

impl OnTerminal {
    fn start(variables: &[(&str, &str)]) -> OnTerminal {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        unlockpt(&terminal).expect("a terminal");
        let name = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("a plain name");
        let side = std::fs::File::options().read(true).write(true).open(name).expect("its other side");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&side, size).expect("a size");
        // It has no other file of the terminal than this one: closing ours ends it.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(binary()).arg("demo").env("TERM", "xterm").envs(variables.iter().copied());
        let clone = || side.try_clone().expect("a file");
        let demo = command.stdin(clone()).stdout(clone()).stderr(side).spawn().expect("setsid (package util-linux)");
        OnTerminal { demo, terminal: Some(terminal), seen: Vec::new() }
    }

    /// Reads on until the condition holds for what was seen.
    #[track_caller]
    fn until(&mut self, what: &str, condition: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let terminal = self.terminal.as_ref().expect("a terminal");
        while !condition(&String::from_utf8_lossy(&self.seen)) {
            assert!(Instant::now() < deadline, "{what}: {}", String::from_utf8_lossy(&self.seen));
            let mut buffer = [0; 4096];
            let length = rustix::io::read(terminal, &mut buffer).expect("it writes");
            self.seen.extend_from_slice(&buffer[..length]);
        }
    }

    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(status) = self.demo.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it has not ended within 15 s");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.demo.kill();
        let _ = self.demo.wait();
    }
}

/// Processes in the gateway of the demo with this process id.
fn in_gateway(pid: u32) -> Vec<String> {
    let output = Command::new("ip").args(["netns", "pids", &format!("rwdemo-{pid}-gateway")]).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

fn lives(pid: &String) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

#[test]
fn its_table_stands_once_and_a_closed_terminal_ends_it() {
    if !can_run("its_table_stands_once_and_a_closed_terminal_ends_it", &["ip", "setsid"]) {
        return;
    }
    let mut demo = OnTerminal::start(&[]);
    let pid = demo.demo.id();
    demo.until("the table is drawn again and again", |seen| seen.matches(" endpoint ").count() >= 12);
    // Three screens high: what has scrolled away is there as well.
    let mut terminal = vt100::Parser::new(24, 80, 1000);
    terminal.process(&demo.seen);
    terminal.screen_mut().set_scrollback(usize::MAX);
    let mut all: Vec<String> = Vec::new();
    let scrolled = terminal.screen().scrollback();
    for above in (1..=scrolled).rev() {
        terminal.screen_mut().set_scrollback(above);
        all.extend(terminal.screen().rows(0, 80).next());
    }
    terminal.screen_mut().set_scrollback(0);
    all.extend(terminal.screen().rows(0, 80));
    let headings = all.iter().filter(|line| line.starts_with(" endpoint ")).count();
    // It may have been read between taking the table away and drawing it.
    assert!(headings <= 1, "{headings} tables stand:\n{}", all.join("\n"));
    assert!(all.iter().any(|line| line.contains("Steady load")), "{}", all.join("\n"));
    let running = in_gateway(pid);
    assert_eq!(running.len(), 1, "ringway run");
    demo.terminal = None;
    assert_eq!(demo.wait(), Some(1));
    assert_eq!(left_by(pid), Vec::<String>::new());
    assert!(!running.iter().any(lives), "ringway run is gone");
}

#[test]
fn it_is_without_colours_where_none_are_wanted() {
    if !can_run("it_is_without_colours_where_none_are_wanted", &["ip", "setsid"]) {
        return;
    }
    for (variable, coloured) in [(("NO_COLOR", "1"), false), (("TERM", "dumb"), false), (("NO_COLOR", ""), true)] {
        let mut demo = OnTerminal::start(&[variable]);
        demo.until("the first check", |seen| seen.contains("Ringway runs over AF_XDP"));
        let seen = String::from_utf8_lossy(&demo.seen).into_owned();
        assert_eq!(seen.contains('\x1b'), coloured, "{variable:?}: {seen:?}");
        demo.terminal = None;
        demo.wait();
    }
}

#[test]
fn a_hangup_ends_it_and_leaves_nothing() {
    if !can_run("a_hangup_ends_it_and_leaves_nothing", &["ip"]) {
        return;
    }
    let mut demo = demo();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !demo.output().contains("Ringway runs over AF_XDP") {
        assert!(Instant::now() < deadline, "{}", demo.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    demo.signal(Signal::HUP).expect("it runs");
    let status = demo.wait(Duration::from_secs(15)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status.code(), Some(1), "{}", demo.output());
    assert_eq!(left_by(demo.id()), Vec::<String>::new());
}

#[test]
fn ringway_run_ends_with_it_whatever_the_way() {
    if !can_run("ringway_run_ends_with_it_whatever_the_way", &["ip"]) {
        return;
    }
    let mut demo = demo();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !demo.output().contains("Ringway runs over AF_XDP") {
        assert!(Instant::now() < deadline, "{}", demo.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    let running = in_gateway(demo.id());
    assert_eq!(running.len(), 1, "ringway run");
    demo.signal(Signal::KILL).expect("it runs");
    demo.wait(Duration::from_secs(5)).unwrap_or_else(|error| panic!("{error}"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while running.iter().any(lives) {
        assert!(Instant::now() < deadline, "{running:?} live on");
        std::thread::sleep(Duration::from_millis(20));
    }
    // What is left is removed by the next one.
    ringway_control::demo::netns::remove_stale();
    std::fs::remove_dir_all(format!("/run/ringway-demo-{}", demo.id())).expect("its folder");
    assert_eq!(left_by(demo.id()), Vec::<String>::new());
}
