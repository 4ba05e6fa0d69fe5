//! Who may have a queue that is taken: the processes with AF_XDP sockets.
//!
//! Few kernels say which socket has which queue (`ss --xdp`). Every kernel says what a process's sockets are, to those who may
//! look into it.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::getxattr;

use super::lock;

/// Processes that are named.
const FEW: usize = 5;
/// Files that are looked at: a moment's work.
const MOST: usize = 100_000;

/// How long what was seen is told: devices that are refused are refused together, and to look into all processes for each takes long
/// where there are many.
const FRESH: Duration = Duration::from_millis(300);

/// What was told last.
static LAST: Mutex<Option<(Instant, Option<String>)>> = Mutex::new(None);

/// Who may have a queue, seen now or a moment ago.
pub(super) fn told() -> Option<String> {
    let mut last = lock(&LAST);
    match &*last {
        Some((at, told)) if at.elapsed() < FRESH => told.clone(),
        _ => {
            let told = seen();
            *last = Some((Instant::now(), told.clone()));
            told
        }
    }
}

/// The processes but this one that have AF_XDP sockets, as far as they can be seen, for a sentence; `None` without any. Those of
/// other network namespaces only where there are none in this one: one may have opened its socket here before it went there.
fn seen() -> Option<String> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let (own, here) = (std::process::id(), namespace("/proc/self".as_ref()));
    let mut looked = 0;
    let mut found: Vec<(bool, u32, String)> = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if process != own && has_socket(&entry.path(), &mut looked) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let name = name.trim().chars().filter(|letter| !letter.is_control()).collect();
            found.push((namespace(&entry.path()) == here, process, name));
        }
    }
    sentence(found)
}

/// `found`: whether each is in this network namespace, its number and its name.
fn sentence(mut found: Vec<(bool, u32, String)>) -> Option<String> {
    let is_here = found.iter().any(|(here, ..)| *here);
    found.retain(|(here, ..)| *here == is_here);
    found.sort_unstable();
    let names: Vec<String> =
        found.iter().take(FEW).map(|(_, process, name)| format!("{name} (process {process})")).collect();
    let more = found.len().saturating_sub(FEW);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let whose = if is_here { "" } else { ", of other network namespaces" };
    (!names.is_empty()).then(|| format!("such sockets are open in {}{more}{whose}", names.join(", ")))
}

/// Whether a process, by its folder, has an AF_XDP socket.
fn has_socket(process: &Path, looked: &mut usize) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| {
        *looked += 1;
        let path = file.path();
        *looked <= MOST && fs::read_link(&path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:")) && {
            let mut name = [0u8; 16];
            getxattr(&path, "system.sockprotoname", &mut name).is_ok_and(|_| name.starts_with(b"XDP\0"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_this_network_namespace_are_named_and_others_only_without_any() {
        let found =
            |all: &[(bool, u32)]| sentence(all.iter().map(|(here, id)| (*here, *id, "app".to_owned())).collect());
        assert_eq!(found(&[]), None);
        let told = found(&[(false, 3), (true, 9), (true, 7)]).unwrap();
        assert_eq!(told, "such sockets are open in app (process 7), app (process 9)");
        let told = found(&[(false, 3)]).unwrap();
        assert_eq!(told, "such sockets are open in app (process 3), of other network namespaces");
    }
}
