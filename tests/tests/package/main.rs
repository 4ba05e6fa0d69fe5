//! The Debian package on a machine with systemd: installed, configured, started, reloaded, hung, upgraded, removed, purged.

mod machine;

use machine::Machine;
use ringway_tests::instance::binary;
use ringway_tests::process::{links, try_ask};
use ringway_tests::topology::{Bed, ECHO, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, echo::EchoClient, eventually};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Restarts, with a start that waits for what is not there yet.
const SOON: Duration = Duration::from_secs(30);

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, cried) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{cried}", output.status);
    said
}

#[test]
fn the_unit_is_tight() {
    if !can_run("the_unit_is_tight", &["systemd-analyze"]) {
        return;
    }
    let mut command = Command::new("systemd-analyze");
    let unit = root().join("deploy/ringway.service");
    let said = succeed(command.args(["security", "--offline=true", "--no-pager"]).arg(unit));
    let told = said.split("Overall exposure level for ringway.service: ").nth(1).expect(&said);
    let exposure: f64 = told.split_whitespace().next().and_then(|number| number.parse().ok()).expect(told);
    assert!(exposure < 3.0, "{said}");
}

/// The package of the binary under test, and the same again as the next revision.
fn packages(folder: &Path) -> [PathBuf; 2] {
    let profile = if binary().components().any(|part| part.as_os_str() == "release") { "release" } else { "dev" };
    let mut build = Command::new(root().join("deploy/debian/build.sh"));
    let said = succeed(build.args(["--profile", profile, "--fast", "yes", "--output"]).arg(folder));
    let first = PathBuf::from(said.lines().last().expect("the package's path"));
    let (files, second) = (folder.join("files"), folder.join("second.deb"));
    succeed(Command::new("dpkg-deb").arg("--raw-extract").arg(&first).arg(&files));
    let control = files.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control).expect("the control file");
    std::fs::write(&control, text.replace("-1\n", "-2\n")).expect("the control file");
    succeed(Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "--build"]).arg(&files).arg(&second));
    [first, second]
}

/// What a package may leave behind: files, but for logs, caches and dpkg's own books, and users.
fn everything(machine: &Machine) -> BTreeSet<String> {
    let files = machine.run(
        "find /etc /usr /opt /srv /var -xdev -not -path '/var/log/*' -not -path '/var/cache/*' -not -path '/var/tmp/*' \
         -not -path '/var/lib/dpkg/*' -not -path '/etc/*-'; getent passwd; getent group",
    );
    files.lines().map(str::to_owned).collect()
}

#[track_caller]
fn serves(machine: &Machine, bed: &Bed) {
    for ip in LOAD_BALANCER_IPS {
        eventually(SOON, "the VIP answers", || {
            try_ask(&bed.client, at(ip, HTTP.port)).map_err(|error| format!("{error}\n{}", machine.journal()))
        });
        eventually(SOON, "UDP is answered", || {
            EchoClient::new(&bed.client, at(ip, ECHO.port)).ask(b"hello").map_err(|error| error.to_string())
        });
    }
}

/// The main process, once it is another than `before`.
fn started_anew(machine: &Machine, before: &str) -> String {
    eventually(SOON, "the service is started anew", || {
        let (pid, state) = (machine.property("MainPID"), machine.property("ActiveState"));
        if state == "active" && pid != before { Ok(pid) } else { Err(format!("{state}, {pid}\n{}", machine.journal())) }
    })
}

/// Writes the bed's configuration and objects where the package expects them.
fn configure(machine: &Machine, bed: &Bed) -> String {
    let folder = bed.folder().display().to_string();
    let config = std::fs::read_to_string(bed.config()).expect("the bed's configuration");
    let config = config.replace(&folder, "/etc/ringway");
    let config = config.replace("state: /etc/ringway/state\nadmin:\n  socket: /etc/ringway/admin.sock\n", "");
    assert!(!config.contains("admin"), "the state folder and the socket are where the unit has them: {config}");
    machine.write("/etc/ringway/ringway.yaml", config.as_bytes());
    for object in std::fs::read_dir(bed.objects()).expect("the bed's objects") {
        let object = object.expect("an object");
        let name = object.file_name().into_string().expect("a name");
        machine.write(&format!("/etc/ringway/objects/{name}"), &std::fs::read(object.path()).expect("an object"));
    }
    config
}

/// What the unit says is what the process has: another user, five capabilities, no more system calls than it needs.
fn is_confined(machine: &Machine) {
    let status = machine.run("cat /proc/$(systemctl show ringway --value --property MainPID)/status");
    let field = |name: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        line.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let user = machine.run("id -u ringway");
    assert_ne!(user, "0");
    assert_eq!(field("Uid:"), user);
    // NET_ADMIN, NET_RAW, IPC_LOCK, PERFMON, BPF.
    for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), format!("{:016x}", 1_u64 << 12 | 1 << 13 | 1 << 14 | 1 << 38 | 1 << 39), "{set}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".into(), "2".into()));
    // In its mount namespace nothing but its own folder and the network's settings can be written to.
    let enter = "nsenter --target $(systemctl show ringway --value --property MainPID) --mount sh -c";
    for (place, writable) in
        [("/proc/sys/kernel", false), ("/etc", false), ("/run/ringway", true), ("/proc/sys/net", true)]
    {
        let options = machine.run(&format!("{enter} 'findmnt --noheadings --output OPTIONS --target {place}'"));
        assert_eq!(options.starts_with("rw"), writable, "{place}: {options}");
    }
}

#[test]
fn the_package_is_installed_runs_is_upgraded_and_leaves_nothing() {
    let programs = ["ip", "nginx", "curl", "systemd-nspawn", "cargo-deb", "dpkg-shlibdeps", "nsenter", "setpriv"];
    if !can_run("the_package_is_installed_runs_is_upgraded_and_leaves_nothing", &programs) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [first, second] = packages(folder.path());
    let mut bed = Bed::prepare(Options { queues: 2, ..Options::default() });
    bed.serve();
    let before_links = links(&bed.gateway).len();
    let machine = Machine::boot(&bed.gateway);
    for (name, package) in [("first", first), ("second", second)] {
        machine.write(&format!("/root/{name}.deb"), &std::fs::read(package).expect("a package"));
    }
    let before = everything(&machine);

    machine.run("dpkg --install /root/first.deb");
    assert_eq!(machine.run("systemctl is-enabled ringway"), "enabled");
    assert_eq!(machine.property("ActiveState"), "inactive", "nothing is configured yet");
    assert_eq!(machine.property("ConditionResult"), "no");
    assert!(machine.run("ringway --version").starts_with("ringway "));
    machine.run(
        "ringway check --config /usr/share/doc/ringway/examples/gateway/ringway.yaml --objects \
                 /usr/share/doc/ringway/examples/gateway/objects",
    );
    assert!(machine.output("ringway check").status.code() == Some(2), "there is no configuration");

    let config = configure(&machine, &bed);
    machine.run("ringway check && systemctl start ringway");
    assert_eq!(machine.property("ActiveState"), "active");
    serves(&machine, &bed);
    is_confined(&machine);
    eventually(SOON, "the status line says that it is ready", || {
        let text = machine.property("StatusText");
        if text.starts_with("ready: ") { Ok(()) } else { Err(text) }
    });
    let status = machine.run("ringway status");
    assert!(!status.contains("TAP") && !status.contains("/dev/net/tun"), "{status}");
    assert_eq!(links(&bed.gateway).len(), before_links + 2, "a TAP device an interface");

    // Members of the group may ask, others may not.
    let ask = |group: &str| format!("setpriv --reuid nobody --regid {group} --clear-groups ringway services");
    assert!(machine.run(&ask("ringway")).contains("default/web"));
    let refused = machine.output(&ask("nogroup"));
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");

    // A reload puts in force what it can; what is wrong fails, and changes nothing.
    let pid = machine.property("MainPID");
    let more = format!("{config}  timeouts: {{udp: 77s}}\n");
    assert!(more.contains("flows:\n  perWorker: 16384\n  timeouts:"), "{more}");
    machine.write("/etc/ringway/ringway.yaml", more.as_bytes());
    machine.run("systemctl reload ringway");
    assert!(machine.journal().contains("flows.timeouts.udp: 120s -> 77s: in force"), "{}", machine.journal());
    machine.write("/etc/ringway/ringway.yaml", b"nodeName: [\n");
    assert!(!machine.output("systemctl reload ringway").status.success());
    machine.write("/etc/ringway/ringway.yaml", more.as_bytes());
    machine.run("systemctl reload ringway");
    assert_eq!(machine.property("MainPID"), pid);
    serves(&machine, &bed);

    // What hangs is started anew.
    machine.write("/etc/systemd/system/ringway.service.d/soon.conf", b"[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n");
    machine.run("systemctl daemon-reload && systemctl restart ringway");
    let pid = started_anew(&machine, &pid);
    serves(&machine, &bed);
    machine.run(&format!("kill -STOP {pid}; touch /run/ringway/kept"));
    let pid = started_anew(&machine, &pid);
    // What an instance leaves behind the next one finds.
    machine.run("rm /run/ringway/kept");
    assert!(machine.journal().contains("Watchdog timeout"), "{}", machine.journal());
    serves(&machine, &bed);
    machine.run("rm -r /etc/systemd/system/ringway.service.d && systemctl daemon-reload");

    machine.run("dpkg --install /root/second.deb");
    assert!(machine.run("dpkg-query --show ringway").ends_with("-2"));
    started_anew(&machine, &pid);
    serves(&machine, &bed);

    machine.run("dpkg --remove ringway");
    assert_eq!(machine.property("ActiveState"), "inactive");
    assert_eq!(links(&bed.gateway).len(), before_links, "TAP devices are left");
    assert!(
        machine.run("cat /etc/ringway/ringway.yaml").contains("nodeName: gw-1"),
        "a removal keeps the configuration"
    );
    // With its configuration in place, it serves as soon as it is there.
    machine.run("dpkg --install /root/second.deb");
    serves(&machine, &bed);
    machine.run("dpkg --purge ringway");
    let after = everything(&machine);
    let left: Vec<&String> = after.difference(&before).collect();
    let taken: Vec<&String> = before.difference(&after).collect();
    assert!(left.is_empty() && taken.is_empty(), "left behind: {left:#?}\ntaken away: {taken:#?}");
    assert!(!machine.output("test -e /run/ringway").status.success());
}
