//! Network namespaces for the demo and the tests: made with `ip`, gone when dropped.
//!
//! A namespace is called `rw<what>-<pid>-<role>`. The process id in the name says whose it is, so that what a crashed
//! run left is known as such and removed by the next one ([`remove_stale`]); names of living processes are never touched.
//! Nothing outside these namespaces is changed: links are created inside them, both ends.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Once;

/// Where `ip netns` keeps its namespaces.
const FOLDER: &str = "/run/netns";

/// Runs `ip` with these arguments; what it complains about is in the error.
pub fn ip<S: AsRef<OsStr>>(arguments: &[S]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output().map_err(|error| {
        io::Error::new(error.kind(), format!("ip (package iproute2) could not be started: {error}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", words.join(" "), complaint.trim())))
}

/// A network namespace of our own; dropping it ends what runs in it and removes it with all its links.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes `rw<what>-<our pid>-<role>` with loopback up and IPv6 ready at once (no duplicate address detection).
    ///
    /// `what` is lower-case letters only, `role` lower-case letters and digits.
    pub fn create(what: &str, role: &str) -> io::Result<Namespace> {
        static STALE: Once = Once::new();
        STALE.call_once(remove_stale);
        let name = format!("rw{what}-{}-{role}", std::process::id());
        if owner(&name).is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("'{name}' is no name for a namespace")));
        }
        ip(&["netns", "add", &name])?;
        let namespace = Namespace { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        // An address that is still being probed cannot be used, and there is nobody here to collide with.
        namespace.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/default/router_solicitations", "0")?;
        Ok(namespace)
    }

    /// The name that `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside.
    pub fn ip<S: AsRef<OsStr>>(&self, arguments: &[S]) -> io::Result<()> {
        let mut all: Vec<&OsStr> = vec![OsStr::new("-netns"), OsStr::new(&self.name)];
        all.extend(arguments.iter().map(AsRef::as_ref));
        ip(&all)
    }

    /// A command that runs `program` inside. The child's process id is the program's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a closure on a thread of its own that has moved inside, and waits for it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let handle = File::open(PathBuf::from(FOLDER).join(&self.name))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || -> io::Result<T> {
                move_into(&handle)?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread that has moved inside and lives on its own. Sockets it opens belong to this namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<std::thread::JoinHandle<io::Result<T>>> {
        let handle = File::open(PathBuf::from(FOLDER).join(&self.name))?;
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            move_into(&handle)?;
            Ok(work())
        })
    }

    /// Sets a sysctl, named by its path under /proc/sys.
    pub fn sysctl(&self, path: &str, value: &str) -> io::Result<()> {
        let file = PathBuf::from("/proc/sys").join(path);
        let written = self.enter(|| std::fs::write(&file, value))?;
        written.map_err(|error| io::Error::new(error.kind(), format!("{} = {value}: {error}", file.display())))
    }

    /// Adds an address with prefix length to a link.
    pub fn address(&self, link: &str, address: &str) -> io::Result<()> {
        self.ip(&["address", "add", address, "dev", link])
    }

    /// Adds a route; `to` may be `default`.
    pub fn route(&self, to: &str, via: &str) -> io::Result<()> {
        let family = if via.contains(':') { "-6" } else { "-4" };
        self.ip(&[family, "route", "add", to, "via", via])
    }

    /// Sets a link up or down.
    pub fn set_link(&self, link: &str, up: bool) -> io::Result<()> {
        self.ip(&["link", "set", link, if up { "up" } else { "down" }])
    }

    /// Lets this namespace route packets between its links, as a node or a gateway does.
    pub fn forward_packets(&self) -> io::Result<()> {
        self.sysctl("net/ipv4/ip_forward", "1")?;
        self.sysctl("net/ipv6/conf/all/forwarding", "1")
    }

    /// Makes a bridge and sets it up; links join it with [`Namespace::join`].
    pub fn bridge(&self, bridge: &str) -> io::Result<()> {
        self.ip(&["link", "add", bridge, "type", "bridge", "mcast_snooping", "0"])?;
        self.set_link(bridge, true)
    }

    /// Puts a link on a bridge.
    pub fn join(&self, link: &str, bridge: &str) -> io::Result<()> {
        self.ip(&["link", "set", link, "master", bridge])
    }

    /// Process ids of what runs inside, threads of ours excepted.
    pub fn processes(&self) -> Vec<i32> {
        processes(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The namespace it is in.
    pub namespace: &'a Namespace,
    /// Its name there.
    pub link: &'a str,
    /// Its MAC address; `None` lets the kernel make one up.
    pub mac: Option<&'a str>,
}

/// Makes a veth pair with `queues` receive and transmit queues on both ends, and sets both up. Offloads stay as the
/// kernel has them.
pub fn veth(a: End<'_>, b: End<'_>, queues: u32) -> io::Result<()> {
    let queues = queues.to_string();
    let mut words = vec!["link", "add", a.link, "netns", a.namespace.name()];
    words.extend(a.mac.iter().flat_map(|mac| ["address", mac]));
    words.extend(["numrxqueues", &queues, "numtxqueues", &queues, "type", "veth", "peer", "name", b.link]);
    words.extend(["netns", b.namespace.name()]);
    words.extend(b.mac.iter().flat_map(|mac| ["address", mac]));
    words.extend(["numrxqueues", &queues, "numtxqueues", &queues]);
    ip(&words)?;
    a.namespace.set_link(a.link, true)?;
    b.namespace.set_link(b.link, true)
}

/// Removes the namespaces of demo and test runs whose process is gone. What cannot be removed is left and logged.
pub fn remove_stale() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some(pid) = owner(name) else { continue };
        if !lives(pid) {
            tracing::info!("removing namespace {name}: process {pid}, which made it, is gone");
            remove(name);
        }
    }
}

/// Whether a process runs: one that has ended but is not waited for yet has no executable any more.
pub(super) fn lives(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// The process that made a namespace, read from its name; `None` when it is not one of ours.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix("rw")?.split('-');
    let (what, pid, role) = (parts.next()?, parts.next()?, parts.next()?);
    let letters = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let letters_or_digits =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let digits = pid.bytes().all(|byte| byte.is_ascii_digit());
    (parts.next().is_none() && letters(what) && digits && letters_or_digits(role)).then(|| pid.parse().ok())?
}

fn processes(name: &str) -> Vec<i32> {
    let output = Command::new("ip").args(["netns", "pids", name]).stdin(Stdio::null()).output();
    let Ok(output) = output else { return Vec::new() };
    let own = std::process::id().cast_signed();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter_map(|word| word.parse().ok()).filter(|pid| *pid != own).collect()
}

/// Ends what runs in a namespace (it would keep the links alive) and deletes it.
fn remove(name: &str) {
    for pid in processes(name) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            // It may have ended since it was listed.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    if let Err(error) = ip(&["netns", "delete", name]) {
        tracing::warn!("{error}");
    }
}

fn move_into(namespace: &File) -> io::Result<()> {
    let network = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(network))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_pattern_are_ours() {
        assert_eq!(owner("rwdemo-123-client"), Some(123));
        assert_eq!(owner("rwtest-7-2backend1"), Some(7));
        for name in
            ["rwdemo", "rwdemo-x-client", "rwdemo--client", "rw-1-client", "rwdemo-1-", "rwdemo-1-a-b", "cni-1-a"]
        {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
