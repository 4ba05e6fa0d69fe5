//! What `check` says of a start here is what `run` does: what the one refuses the other refuses, in the same words.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ringway_control::demo::instance::Instance;
use ringway_control::demo::netns::{End, Namespace, veth};

const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// A namespace with one0 (1 queue), two0 (2 queues) and jumbo0, and a folder for files.
struct Bed {
    gateway: Namespace,
    folder: tempfile::TempDir,
}

impl Bed {
    fn new(role: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "these tests need root");
            eprintln!("SKIPPED: needs root to make network namespaces");
            return None;
        }
        let gateway = Namespace::create("start", role).unwrap();
        for (link, queues) in [("one", 1), ("two", 2), ("jumbo", 1)] {
            let (here, there) = (format!("{link}0"), format!("{link}9"));
            let end = |link| End { namespace: &gateway, link, mac: None };
            veth(end(&here), end(&there), queues).unwrap();
        }
        gateway.ip(&["link", "set", "jumbo0", "mtu", "9000"]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("objects")).unwrap();
        Some(Bed { gateway, folder })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes a configuration whose files are named after it.
    fn configure(&self, name: &str, more: &str) -> String {
        let file = self.path(&format!("{name}.yaml"));
        let objects = self.path("objects");
        let [state, socket] = ["state", "sock"].map(|kind| self.path(&format!("{name}.{kind}")));
        let admin = if more.contains("healthz") { "" } else { ", healthz: off" };
        let text = format!(
            "nodeName: gw-1\nsource: {{files: {objects}}}\nnode: {{addresses: [192.0.2.1]}}\nstate: {state}\nadmin: {{socket: \
             {socket}, metrics: off{admin}{}",
            more.trim_start_matches("healthz")
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    fn ringway(&self, command: &str, file: &str) -> Output {
        let mut ringway = self.gateway.command(BINARY);
        ringway.args([command, "--config", file]).stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(ringway.spawn().unwrap())
    }
}

/// What a process says that ends by itself.
fn ended(mut child: std::process::Child) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The line that tells why, without what `run` logged before.
fn why(output: &Output) -> String {
    let said = text(&output.stderr);
    let line = said.lines().find_map(|line| line.strip_prefix("error: "));
    line.unwrap_or_else(|| panic!("no error: {said}")).to_owned()
}

#[test]
fn check_refuses_what_run_refuses_in_its_words() {
    let Some(bed) = Bed::new("refused") else { return };
    let tun = bed.gateway.ip(&["tuntap", "add", "dev", "tun0", "mode", "tun"]);
    tun.unwrap();
    bed.gateway.bridge("br0").unwrap();
    bed.gateway.join("two0", "br0").unwrap();
    for (name, more, said) in [
        ("cpu", "}\ninterfaces: [{name: one0}]\nworkers: {cpus: [4095]}\n", "cannot run on CPU 4095"),
        ("queues", "}\ninterfaces: [{name: one0}]\nworkers: {cpus: [0, 1]}\n", "1 queue, 2 workers asked"),
        ("copy", "}\ninterfaces: [{name: one0, zeroCopy: \"on\"}]\n", "zero-copy"),
        ("generic", "}\ninterfaces: [{name: one0, zeroCopy: \"on\", xdp: generic}]\n", "generic"),
        ("mtu", "}\ninterfaces: [{name: jumbo0}]\n", "9000"),
        ("member", "}\ninterfaces: [{name: two0}]\n", "list br0 in its place"),
        ("tunnel", "}\ninterfaces: [{name: tun0}]\n", "is not an Ethernet interface"),
        ("memory", "}\ninterfaces: [{name: one0}]\nflows: {perWorker: 134217728}\n", "RLIMIT_AS"),
        ("filter", "}\ninterfaces: [{name: one0}]\nlog: \"[\"\n", "log: "),
    ] {
        let file = bed.configure(name, more);
        let limited = |command: &str| {
            if name != "memory" {
                return bed.ringway(command, &file);
            }
            let mut shell = bed.gateway.command("sh");
            shell.args(["-c", "ulimit -v 8000000; exec \"$@\"", "sh", BINARY, command, "--config", &file]);
            ended(shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        };
        let (run, check) = (limited("run"), limited("check"));
        let told = why(&run);
        assert!(told.contains(said), "{name}: {told}");
        assert_eq!(check.status.code(), Some(2), "{name}: {}{}", text(&check.stdout), text(&check.stderr));
        // What two processes have of memory differs.
        let told = if name == "memory" { "address space (RLIMIT_AS) is 8000000 KiB" } else { &told };
        assert!(text(&check.stderr).contains(told), "{name}: run: {told}\ncheck: {}", text(&check.stderr));
    }
}

#[test]
fn an_interface_that_is_not_here_leaves_the_machine_untested() {
    let Some(bed) = Bed::new("elsewhere") else { return };
    let file = bed.configure(
        "missing",
        "}\ninterfaces: [{name: one0}, {name: nosuch0}, {name: nosuch1}]\nworkers: {cpus: [4095]}\n",
    );
    let check = bed.ringway("check", &file);
    let (out, notes) = (text(&check.stdout), text(&check.stderr));
    assert!(check.status.success(), "{out}{notes}");
    let said = "not tested   anything of this machine: nosuch0, nosuch1 do not exist here; ringway run needs them";
    assert!(out.contains(said), "{out}");
    for name in ["nosuch0", "nosuch1"] {
        assert!(notes.contains(&format!("note: {name} does not exist here; ringway run needs it")), "{notes}");
    }
}

#[test]
fn snat_addresses_are_compared_with_those_of_this_machine_where_it_is_looked_at() {
    let Some(bed) = Bed::new("snat") else { return };
    bed.gateway.ip(&["address", "add", "192.0.2.1/24", "dev", "one0"]).unwrap();
    // Who fails over to another node's address sets this: then a socket can be bound to any.
    let mut shell = bed.gateway.command("sh");
    assert!(shell.args(["-c", "echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind"]).status().unwrap().success());
    let snat = "snat: {addresses: [192.0.2.1, 203.0.113.77]}\n";
    let notes = |name: &str, interface: &str| {
        let file = bed.configure(name, &format!("}}\ninterfaces: [{{name: {interface}}}]\n{snat}"));
        let check = bed.ringway("check", &file);
        assert!(check.status.success(), "{}{}", text(&check.stdout), text(&check.stderr));
        let notes = text(&check.stderr);
        notes.lines().filter(|line| line.contains("no address of this node")).map(str::to_owned).collect::<Vec<_>>()
    };
    let [told] = &notes("here", "one0")[..] else { panic!("one note expected") };
    assert!(told.contains("snat.addresses: 203.0.113.77 is no address of this node"), "{told}");
    assert_eq!(notes("elsewhere", "nosuch0"), [""; 0]);
}

#[test]
fn what_another_instance_has_is_in_the_way_and_what_the_own_one_has_is_not() {
    let Some(bed) = Bed::new("taken") else { return };
    let own = bed.configure("own", "healthz, healthz: \"127.0.0.1:10256\"}\ninterfaces: [{name: one0}]\n");
    let before = bed.ringway("check", &own);
    assert!(before.status.success(), "{}", text(&before.stderr));
    assert!(text(&before.stdout).contains("start        nothing that was tested here is in its way"));
    let socket = bed.path("own.sock");
    let mut instance = Instance::start(&bed.gateway, Path::new(BINARY), Path::new(&own), Path::new(&socket)).unwrap();
    let began = Instant::now();
    while let Err(error) = instance.healthy(&bed.gateway) {
        assert!(!error.ended && began.elapsed() < Duration::from_secs(20), "{}", error.text);
        std::thread::sleep(Duration::from_millis(50));
    }
    let check = bed.ringway("check", &own);
    let said = text(&check.stderr);
    assert!(check.status.success() && said.contains("note: an instance runs already (process "), "{said}");
    for (name, more, says) in [
        ("program", "}\ninterfaces: [{name: one0}]\n", "another XDP program is attached to one0"),
        (
            "door",
            "healthz, healthz: \"127.0.0.1:10256\"}\ninterfaces: [{name: two0}]\n",
            "admin.healthz: cannot listen on",
        ),
    ] {
        let file = bed.configure(name, more);
        let (run, check) = (bed.ringway("run", &file), bed.ringway("check", &file));
        let told = why(&run);
        assert!(told.contains(says), "{name}: {told}");
        let said = text(&check.stderr);
        assert!(check.status.code() == Some(2) && said.contains(&told), "{name}: {said}\nrun: {told}");
    }
    // What somebody may take away is no reason to leave the others alone.
    let file = bed.configure("both", "}\ninterfaces: [{name: one0}, {name: two0}]\nworkers: {cpus: [0]}\n");
    let check = bed.ringway("check", &file);
    let (said, out) = (text(&check.stderr), text(&check.stdout));
    assert!(check.status.success() && out.contains("nothing that was tested here is in its way"), "{out}{said}");
    let note = said.lines().find(|line| line.starts_with("note: one0: another XDP program is attached to one0"));
    assert!(note.is_some_and(|note| note.ends_with("; ringway run goes on without it, and tries again")), "{said}");
    let socket = bed.path("both.sock");
    let mut both = Instance::start(&bed.gateway, Path::new(BINARY), Path::new(&file), Path::new(&socket)).unwrap();
    let began = Instant::now();
    while !both.process.output().contains("starting without one0: tried again after 1 s") {
        let ended = both.process.ended().unwrap();
        assert!(ended.is_none() && began.elapsed() < Duration::from_secs(20), "{}", both.process.output());
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = both.process.output();
    assert!(log.contains("attached to two0") && !log.contains("attached to one0: "), "{log}");
    both.stop().unwrap();
    instance.stop().unwrap();
}

#[test]
fn a_start_that_ends_for_one_interface_has_touched_no_other() {
    let Some(bed) = Bed::new("untouched") else { return };
    let file = bed.configure("mixed", "}\ninterfaces: [{name: one0}, {name: jumbo0}]\n");
    let (run, check) = (bed.ringway("run", &file), bed.ringway("check", &file));
    let (told, log) = (why(&run), text(&run.stderr));
    assert!(told.starts_with("jumbo0: jumbo0 has MTU 9000"), "{told}");
    assert!(!log.contains("attached to"), "{log}");
    assert!(check.status.code() == Some(2) && text(&check.stderr).contains(&told), "{}", text(&check.stderr));
}

/// Who checks need not be who runs it.
#[test]
fn whoever_may_not_run_it_is_told_what_was_not_tested() {
    let Some(bed) = Bed::new("nobody") else { return };
    let file = bed.configure("user", "}\ninterfaces: [{name: one0}]\n");
    let readable = Command::new("chmod").args(["-R", "a+rX", &bed.path("")]).status().unwrap();
    assert!(readable.success());
    let mut check = bed.gateway.command("setpriv");
    check.args(["--reuid=65534", "--regid=65534", "--clear-groups", BINARY, "check", "--config", &file]);
    let check = ended(check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let said = text(&check.stdout);
    assert!(check.status.success(), "{said}{}", text(&check.stderr));
    assert!(said.contains("whether it may: as this user it would be missing CAP_NET_ADMIN"), "{said}");
}

/// What run ends with first of all, whatever else is in its way.
#[test]
fn privileges_are_looked_at_also_where_an_interface_is_not_fit() {
    let Some(bed) = Bed::new("bare") else { return };
    bed.gateway.ip(&["tuntap", "add", "dev", "tun0", "mode", "tun"]).unwrap();
    let file = bed.configure("bare", "}\ninterfaces: [{name: tun0}]\n");
    let without = |command: &str| {
        let mut ringway = bed.gateway.command("setpriv");
        ringway.args(["--bounding-set=-net_admin,-bpf", BINARY, command, "--config", &file]);
        ended(ringway.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let (run, check) = (without("run"), without("check"));
    let told = why(&run);
    assert!(told.starts_with("missing CAP_NET_ADMIN"), "{told}");
    let said = text(&check.stderr);
    assert!(said.contains(&told) && said.contains("tun0 is not an Ethernet interface"), "{told}\n{said}");
    // Nothing is said of its queues: it can carry no frame.
    assert!(!said.contains("queues"), "{said}");
}

/// The state folder and the admin socket's, each mounted or made so that something is in the way of a file in it.
#[test]
fn folders_that_take_no_file_are_told_by_check_in_the_words_of_run_and_left_as_they_are() {
    let Some(bed) = Bed::new("files") else { return };
    let full = "mount -t tmpfs -o size=4k tmpfs $at && head -c 4096 /dev/zero >$at/fill";
    for (name, prepare, said) in [
        ("read-only", "mkdir $at && mount -t tmpfs -o ro tmpfs $at", "/lock: Read-only file system"),
        ("full", &format!("mkdir $at && {full}"), "cannot write to "),
        ("inodes", "mkdir $at && mount -t tmpfs -o nr_inodes=1 tmpfs $at", "/lock: No space left on device"),
        ("file", ": >$at", "state: cannot make the folder "),
        ("below-file", "state=$at/state; : >$at", "/state: Not a directory"),
        ("below-full", &format!("state=$at/state; mkdir $at && {full}"), "/state/lock: No space left on device"),
        (
            "below-read-only",
            "state=$at/deep/state; mkdir $at && mount -t tmpfs -o ro tmpfs $at",
            "/deep/state: Read-only",
        ),
        ("folder", "mkdir -p $at/lock", "/lock is a folder, and Ringway's lock has its place; remove it"),
        ("pipe", "mkdir $at && mkfifo $at/lock", "/lock is no file, and Ringway's lock has its place; remove it"),
        ("link", "mkdir $at && ln -s nowhere $at/lock", "/lock is a link that leads nowhere, and"),
        (
            "left",
            "mkdir $at && mount -t tmpfs -o size=8k tmpfs $at && echo 4194304 >$at/lock && head -c 4096 /dev/zero >$at/fill",
            "",
        ),
        (
            "socket",
            "socket=$at/s state=$1/other; mkdir $at && mount -t tmpfs -o ro tmpfs $at",
            "admin.socket: cannot make ",
        ),
        (
            "socket-below",
            "socket=$at/deep/s state=$1/other; : >$at",
            "/deep/s: Not a directory (os error 20); set a path",
        ),
    ] {
        let folder = bed.path(name);
        let script = "at=$1; mkdir $at && cd $at && at=$at/x state=$at/state socket=$at/sock
            state=$1/x; eval \"$2\" || exit 99
            echo \"nodeName: gw-1\nsource: {files: $3}\nnode: {addresses: [192.0.2.1]}
            state: $state\nadmin: {socket: $socket, metrics: off, healthz: off}\ninterfaces: [{name: one0}]\" |
                sed 's/^ *//' >$1/c.yaml
            find $1 >/dev/shm/$$.before; $4 check --config $1/c.yaml; code=$?
            find $1 | cmp - /dev/shm/$$.before || code=98
            rm /dev/shm/$$.before; [ -z \"$5\" ] && exit $code
            $4 run --config $1/c.yaml; echo \"run: $?\"; exit $code";
        let mut shell = bed.gateway.command("unshare");
        shell.args(["-m", "sh", "-c", script, "sh", &folder, prepare, &bed.path("objects"), BINARY, said]);
        let output = ended(shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let (out, told) = (text(&output.stdout), text(&output.stderr));
        if said.is_empty() {
            assert_eq!(output.status.code(), Some(0), "{name}: {out}{told}");
            continue;
        }
        assert_eq!(output.status.code(), Some(2), "{name}: {out}{told}");
        assert!(out.contains("run: 1"), "{name}: {out}{told}");
        // It comes last.
        let run = told.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or_default();
        assert!(run.contains(said), "{name}: {told}");
        let by_check = told.lines().filter(|line| line.contains(run)).count();
        assert_eq!(by_check, 2, "{name}: once by each\n{told}");
    }
}

#[test]
fn a_small_stack_is_raised_or_told() {
    let Some(bed) = Bed::new("stack") else { return };
    let file = bed.configure("stack", "}\ninterfaces: [{name: one0}]\n");
    let checked = |limit: &str| {
        let mut check = bed.gateway.command("prlimit");
        check.args([limit, "setpriv", "--bounding-set=-sys_resource", BINARY, "check", "--config", &file]);
        ended(check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    // As far as it may be raised, which it may not where the hard limit is as low.
    let (raised, told) = (checked("--stack=65536:"), checked("--stack=65536:65536"));
    assert!(raised.status.success(), "{}", text(&raised.stderr));
    assert_eq!(
        (told.status.code(), &*text(&told.stderr)),
        (
            Some(1),
            "error: the limit of the stack (RLIMIT_STACK) is 64 KiB, and this takes 1024 KiB: raise it (ulimit -Ss 8192, \
             LimitSTACK=8M)\n"
        )
    );
}
