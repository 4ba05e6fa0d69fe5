//! What the kernel must allow before anything is tried, so that a refusal names its remedy.

use std::path::Path;

use rustix::thread::{capabilities, set_capabilities};

use super::pod;

/// Capabilities that are missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("missing {}: {remedy}", missing.join(" and "))]
pub struct MissingPrivileges {
    missing: Vec<&'static str>,
    remedy: String,
}

const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const IPC_LOCK: u32 = 14;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;
const NEEDED: u64 = 1 << NET_ADMIN | 1 << NET_RAW | 1 << IPC_LOCK | 1 << PERFMON | 1 << BPF;

/// Puts all that this process may have in force. A binary whose file capabilities are permitted only (`+p`) can be executed
/// also where some of them are not to be had, and says which are missing; with `+ep` the kernel would refuse without a word.
/// Before any other thread: each has its own, and those to come inherit.
pub fn take() {
    // What this does not get, `check` tells.
    if let Ok(mut sets) = capabilities(None) {
        sets.effective = sets.permitted;
        let _ = set_capabilities(None, sets);
    }
}

/// Checks the capabilities of this process. `locked`: bytes of memory that the kernel must be allowed to pin.
pub fn check(locked: u64) -> Result<(), MissingPrivileges> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Without /proc nothing is known; the first system call that fails will tell.
    let Some(effective) = mask(&status, "CapEff:") else { return Ok(()) };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current.unwrap_or(u64::MAX);
    let missing = missing(effective, limit, locked);
    if missing.is_empty() {
        return Ok(());
    }
    let binary = std::env::current_exe().unwrap_or_else(|_| Path::new("ringway").into());
    let granted = mask(&status, "CapBnd:").unwrap_or_default();
    let remedy = if !pod::is_pod() {
        remedy_on_host(&binary)
    } else if granted & NEEDED == NEEDED {
        remedy_for_user(rustix::process::geteuid().as_raw())
    } else {
        remedy_in_pod()
    };
    Err(MissingPrivileges { missing, remedy })
}

fn mask(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn remedy_on_host(binary: &Path) -> String {
    let capabilities = "cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock";
    format!("run as root, or give the binary what it needs: setcap {capabilities}+ep {}", crate::plain::path(binary))
}

fn remedy_in_pod() -> String {
    "list NET_ADMIN, NET_RAW, BPF, PERFMON and IPC_LOCK under securityContext.capabilities.add of the container".into()
}

/// Where the container was granted all, but its user gets nothing of it.
fn remedy_for_user(user: u32) -> String {
    format!(
        "the container is granted all, but user {user} gets them by file capabilities only, which the binary has lost (a \
         registry or a copy may lose them): take the image as `make image` makes it, or set runAsUser: 0"
    )
}

fn missing(effective: u64, memlock: u64, locked: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    let mut missing = Vec::new();
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN (to attach the steering program)");
    }
    if !has(NET_RAW) {
        missing.push("CAP_NET_RAW (to open AF_XDP sockets)");
    }
    if !has(BPF) && !has(SYS_ADMIN) {
        missing.push("CAP_BPF (to load the steering program)");
    }
    // Without it the verifier refuses to let a program compute an address in a packet.
    if !has(PERFMON) && !has(SYS_ADMIN) {
        missing.push("CAP_PERFMON (the steering program reads packets at computed places)");
    }
    if !has(IPC_LOCK) && memlock < locked {
        missing.push("CAP_IPC_LOCK or a higher RLIMIT_MEMLOCK (to pin packet memory)");
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named() {
        let all = NEEDED;
        assert!(missing(all, 0, 1 << 30).is_empty());
        assert!(missing(all & !(1 << BPF | 1 << PERFMON) | 1 << SYS_ADMIN, 0, 1).is_empty());
        assert!(missing(all & !(1 << IPC_LOCK), 1 << 30, 1 << 30).is_empty());
        assert_eq!(missing(0, 0, 1).len(), 5);
        assert!(missing(all & !(1 << NET_RAW), 0, 1)[0].starts_with("CAP_NET_RAW"));
        assert!(missing(all & !(1 << PERFMON), 0, 1)[0].starts_with("CAP_PERFMON"));
        assert_eq!(mask("Name:\tx\nCapEff:\t000001ffffffffff\n", "CapEff:"), Some(0x1ff_ffff_ffff));
        let remedy = remedy_on_host("/usr/bin/ringway".as_ref());
        let error = MissingPrivileges { missing: missing(0, 9, 1), remedy }.to_string();
        assert!(error.starts_with("missing CAP_NET_ADMIN (to attach the steering program) and CAP_NET_RAW"), "{error}");
        assert!(error.ends_with("+ep /usr/bin/ringway"), "{error}");
    }
}
