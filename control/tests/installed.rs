//! What an installed Ringway gives to the supervisor that runs it, to shells, and to `man`.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ringway_control::demo::netns::{End, Namespace, veth};
use rustix::process::{Pid, Signal, kill_process};

const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// Killed when dropped.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hear(listener: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = loop {
        match listener.recv(&mut message) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            heard => break heard.expect("a message within 20 s"),
        }
    };
    String::from_utf8(message[..length].to_vec()).unwrap()
}

/// What is heard up to a message with this word.
fn hear_until(listener: &UnixDatagram, word: &str) -> Vec<String> {
    let mut heard = vec![hear(listener)];
    while !heard.last().unwrap().contains(word) {
        heard.push(hear(listener));
    }
    heard
}

#[test]
fn the_supervisor_is_told_of_start_health_reload_and_end() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        eprintln!("SKIPPED: needs root to make network namespaces");
        return;
    }
    let (gateway, host) =
        (Namespace::create("notify", "gateway").unwrap(), Namespace::create("notify", "host").unwrap());
    let end = |namespace, mac| End { namespace, link: "eth0", mac: Some(mac) };
    veth(end(&gateway, "02:00:00:00:00:01"), end(&host, "02:00:00:00:00:02"), 1).unwrap();
    gateway.address("eth0", "10.0.0.1/24").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    // An API server that is not there keeps nobody from being started.
    let kubeconfig = "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], \
                      clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], users: [{name: u, user: {}}]}";
    std::fs::write(folder.path().join("kubeconfig"), kubeconfig).unwrap();
    let config = format!(
        "nodeName: gw-1\nnode: {{addresses: [10.0.0.1]}}\nflows: {{perWorker: 4096}}\nsource: {{kubernetes: {{kubeconfig: \
         {path}/kubeconfig}}}}\ninterfaces: [{{name: eth0}}]\nstate: {path}/state\nadmin: {{socket: {path}/admin.sock}}\n"
    );
    let file = folder.path().join("ringway.yaml");
    std::fs::write(&file, config).unwrap();
    // systemd's is one or the other.
    let name = format!("ringway-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let abstract_one = gateway.enter(|| UnixDatagram::bind_addr(&address).unwrap()).unwrap();
    let notify = folder.path().join("notify");
    let with_path = UnixDatagram::bind(&notify).unwrap();
    let names = [notify.to_str().unwrap().to_owned(), format!("@{name}")];
    for (listener, name) in [with_path, abstract_one].iter().zip(names) {
        listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut command = gateway.command(BINARY);
        command.args(["run", "--config"]).arg(&file).env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "1000000");
        let mut running = Running(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let heard = hear_until(listener, "READY=1");
        let status = "STATUS=not ready: the first full list is not in force yet";
        assert!(heard.iter().any(|message| message.starts_with(status)), "{heard:?}");
        hear_until(listener, "WATCHDOG=1");
        hear_until(listener, "WATCHDOG=1");
        for _ in 0..2 {
            running.signal(Signal::HUP);
            let heard = hear_until(listener, "RELOADING=1").pop().unwrap();
            let moment = heard.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(moment.parse::<u64>().unwrap() > 0);
            hear_until(listener, "READY=1");
        }
        running.signal(Signal::TERM);
        hear_until(listener, "STOPPING=1");
        assert_eq!(running.0.wait().unwrap().code(), Some(0));
    }
}

fn ringway(arguments: &[&str]) -> Output {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

/// Whether a program that judges texts is there; in CI it must be.
fn can_judge(program: &str) -> bool {
    let is_there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    assert!(
        is_there || std::env::var_os("CI").is_none(),
        "{program} is missing: run tests/scripts/prerequisites.sh test"
    );
    if !is_there {
        eprintln!("SKIPPED: {program} is missing, and cannot judge");
    }
    is_there
}

#[test]
fn shells_complete_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, judge) in [("bash", &["bash", "-n"][..]), ("zsh", &["zsh", "-n"]), ("fish", &["fish", "--no-execute"])]
    {
        let script = ringway(&["completion", shell]).stdout;
        let text = String::from_utf8(script.clone()).unwrap();
        for command in ["check", "run", "status", "completion"] {
            assert!(text.contains(command), "{shell} does not complete {command}");
        }
        assert!(!text.contains("ringway man"), "{shell} offers what is only for packagers");
        if can_judge(judge[0]) {
            let file = folder.path().join(shell);
            std::fs::write(&file, script).unwrap();
            let judged = Command::new(judge[0]).args(&judge[1..]).arg(&file).output().unwrap();
            assert!(judged.status.success() && judged.stderr.is_empty(), "{shell}: {judged:?}");
        }
    }
    // bash, asked as it asks when somebody presses the tab key.
    let ask = "source \"$1\"; COMP_WORDS=(ringway status --so); COMP_CWORD=2; _ringway ringway --so status; echo ${COMPREPLY[*]}";
    let file = folder.path().join("bash");
    let answer = Command::new("bash").args(["-c", ask, "bash"]).arg(file).output().unwrap();
    assert_eq!(String::from_utf8(answer.stdout).unwrap(), "--socket\n");
}

#[test]
fn every_command_has_a_manual_page_without_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    ringway(&["man", folder.path().to_str().unwrap()]);
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let commands = [
        "check",
        "completion",
        "demo",
        "drain",
        "drops",
        "flows",
        "nic",
        "reload",
        "replay",
        "run",
        "services",
        "status",
        "trace",
        "undrain",
    ];
    let mut wanted: Vec<String> = commands.iter().map(|command| format!("ringway-{command}.8")).collect();
    wanted.extend(["ringway.8".into(), "ringway.yaml.5".into()]);
    wanted.sort();
    assert_eq!(names, wanted);
    let run = page(&folder.path().join("ringway-run.8"));
    for word in
        ["ringway-run", "[--config]", "/etc/ringway/ringway.yaml", "ringway(8)", "SIGHUP", ringway_control::VERSION]
    {
        assert!(run.contains(word), "{word} is missing in:\n{run}");
    }
    assert!(page(&folder.path().join("ringway.8")).contains("ringway-status(8)"));
    let configuration = page(&folder.path().join("ringway.yaml.5"));
    for word in ["flows.timeouts.tcpHalfOpen", "default: 30s)", "WHERE OBJECTS COME FROM"] {
        assert!(configuration.contains(word), "{word} is missing in:\n{configuration}");
    }
    assert!(!configuration.contains(['`', '|']), "Markdown is left:\n{configuration}");
    if can_judge("mandoc") {
        for name in names {
            let mut judge = Command::new("mandoc");
            let judged = judge.args(["-T", "lint", "-W", "error"]).arg(folder.path().join(&name)).output().unwrap();
            let faults = String::from_utf8(judged.stdout).unwrap();
            assert!(judged.status.success(), "{name}: {faults}");
        }
    }
}

/// A page as a reader sees it.
fn page(file: &Path) -> String {
    if !can_judge("mandoc") {
        return std::fs::read_to_string(file).unwrap();
    }
    let output = Command::new("mandoc").args(["-T", "utf8", "-O", "width=500"]).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Bold is a letter struck twice.
    let mut shown = String::new();
    for letter in text.chars() {
        match letter {
            '\u{8}' => assert!(shown.pop().is_some()),
            _ => shown.push(letter),
        }
    }
    shown
}

/// What the build script makes of this checkout: the words of `--version`.
fn version(script: &Path, root: &Path, profile: &str, commit: &str) -> String {
    let mut command = Command::new(script);
    command.env("CARGO_MANIFEST_DIR", root.join("control")).env("CARGO_PKG_VERSION", "1.2.3").env("PROFILE", profile);
    let output = command.env("RINGWAY_COMMIT", commit).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    // cargo looks from the package's folder, and builds anew every time for what is not there.
    let watched: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("cargo:rerun-if-changed=")).collect();
    let absent: Vec<_> = watched.iter().filter(|path| !root.join("control").join(path).exists()).collect();
    assert!(absent.is_empty(), "{absent:?} of {watched:?}");
    let version = said.lines().find_map(|line| line.strip_prefix("cargo:rustc-env=RINGWAY_VERSION="));
    version.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_release_names_its_commit_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let (script, root) = (folder.path().join("script"), folder.path().join("checkout"));
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "-o"]).arg(&script).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs"));
    assert!(rustc.status().unwrap().success());
    std::fs::create_dir_all(root.join("control")).unwrap();
    std::fs::write(root.join("control/main.rs"), "one").unwrap();
    std::fs::write(root.join("control/build.rs"), "").unwrap();
    let release = |commit| version(&script, &root, "release", commit);
    assert_eq!(release(""), "1.2.3", "a tarball");
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"];
        let output = Command::new("git").arg("-C").arg(&root).args(who).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    let commit = git(&["rev-parse", "--short=10", "HEAD"]);
    assert_eq!(release(""), format!("1.2.3 ({commit})"));
    std::fs::write(root.join("notes"), "not built").unwrap();
    assert_eq!(release(""), format!("1.2.3 ({commit})"));
    std::fs::write(root.join("control/main.rs"), "two").unwrap();
    assert_eq!(release(""), format!("1.2.3 ({commit}-dirty)"));
    assert_eq!(release("abc"), "1.2.3 (abc)", "the packager knows better");
    assert_eq!(version(&script, &root, "debug", ""), "1.2.3 (debug build)");
    // A tarball that was unpacked inside somebody's repository.
    let inside = root.join("unpacked");
    std::fs::create_dir_all(inside.join("control")).unwrap();
    std::fs::write(inside.join("control/build.rs"), "").unwrap();
    assert_eq!(version(&script, &inside, "release", ""), "1.2.3");
}
