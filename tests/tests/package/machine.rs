//! A machine with systemd of its own: this one's files under an overlay, in namespaces, with a gateway's network.
//!
//! What is written there is in memory and gone with it. Its mounts are in a mount namespace of their own, so that nothing
//! is left behind however the test ends.

use ringway_control::demo::process::Process;
use ringway_tests::eventually;
use ringway_tests::netns::Namespace;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How long a boot may take.
const BOOT: Duration = Duration::from_secs(60);

/// Mounts the overlay, and boots. Nothing here may bring services along: the target is the least there is.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs -o size=1g none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" none "$1/root"
rm -f "$1/root/usr/sbin/policy-rc.d"
# /sys lists the interfaces of the namespace that mounted it: the gateway's, not ours.
mkdir "$1/cgroup"
mount --rbind /sys/fs/cgroup "$1/cgroup"
mount -t sysfs none /sys
mount --rbind "$1/cgroup" /sys/fs/cgroup
exec setpriv --pdeathsig KILL systemd-nspawn --quiet --directory "$1/root" --register=no --keep-unit --link-journal=no \
    --machine "$2" --network-namespace-path "/run/netns/$2" --console=pipe --system-call-filter=bpf \
    --capability=CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_PERFMON,CAP_IPC_LOCK \
    --boot systemd.unit=basic.target systemd.mask=dev-hugepages.mount
"#;

/// A booted machine; killed when dropped.
pub(crate) struct Machine {
    process: Process,
    _folder: tempfile::TempDir,
    /// Its first process, by our number.
    first: u32,
}

impl Machine {
    /// Boots one whose network is this namespace.
    pub(crate) fn boot(namespace: &Namespace) -> Machine {
        let folder = tempfile::Builder::new().prefix("ringway-test-").tempdir().expect("a temporary folder");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", namespace.name())).arg("unshare");
        command.args(["--mount", "--propagation", "slave", "bash", "-c", SCRIPT, "machine"]);
        command.arg(folder.path()).arg(namespace.name()).stdin(Stdio::null());
        let process = Process::start("the machine", command).unwrap_or_else(|error| panic!("{error}"));
        let first = eventually(BOOT, "the machine has a first process", || {
            let children = format!("/proc/{0}/task/{0}/children", process.id());
            let children =
                std::fs::read_to_string(children).map_err(|error| format!("{error}: {}", process.output()))?;
            let mut children = children.split_whitespace().filter_map(|child| child.parse().ok());
            // Before it there is another for a moment, which sets up what it lives in.
            children.find(|child| is_first(*child)).ok_or_else(|| process.output())
        });
        let machine = Machine { process, _folder: folder, first };
        eventually(BOOT, "the machine has booted", || {
            let said = machine.said("systemctl is-system-running");
            let is_up = said == "running" || said == "degraded";
            if is_up { Ok(()) } else { Err(format!("{said}; {}", machine.process.output())) }
        });
        // As udev does, which containers do without.
        machine.run("chmod 0666 /dev/net/tun");
        machine
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--all", "--", "env", "-i", "LC_ALL=C.UTF-8"]);
        command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", script]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a shell script there.
    pub(crate) fn output(&self, script: &str) -> Output {
        self.command(script).output().unwrap_or_else(|error| panic!("nsenter: {error}"))
    }

    /// What it prints, whatever the exit status.
    pub(crate) fn said(&self, script: &str) -> String {
        String::from_utf8_lossy(&self.output(script).stdout).trim_end().to_owned()
    }

    /// What it prints; it must succeed.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> String {
        let output = self.output(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (said, cried) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{script}: {}\n{said}\n{cried}\n{}", output.status, self.journal());
        said
    }

    /// The service's log.
    pub(crate) fn journal(&self) -> String {
        self.said("journalctl --no-pager --unit ringway --lines 60")
    }

    /// Writes a file there.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let mut command = self.command(&format!("mkdir -p '{}' && cat > '{path}'", parent(path)));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{path}: {error}"));
        let written = child.stdin.take().map(|mut stdin| stdin.write_all(content));
        assert!(matches!(written, Some(Ok(()))), "{path}: {written:?}");
        assert!(child.wait().is_ok_and(|status| status.success()), "{path}");
    }

    /// A property of the service.
    pub(crate) fn property(&self, name: &str) -> String {
        self.said(&format!("systemctl show ringway --value --property {name}"))
    }
}

/// Whether this process is the first one of a machine.
fn is_first(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = numbers.map(|numbers| numbers.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}

fn parent(path: &str) -> String {
    Path::new(path).parent().map_or_else(String::new, |parent| parent.display().to_string())
}
