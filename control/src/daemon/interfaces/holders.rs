//! Who may have a queue that is taken: the processes with AF_XDP sockets.
//!
//! Few kernels say which socket has which queue (`ss --xdp`). Every kernel says what a process's sockets are, to those who may
//! look into it.

use std::fs;
use std::path::Path;

use rustix::fs::getxattr;

/// Processes that are named.
const FEW: usize = 5;
/// Files that are looked at: a moment's work.
const MOST: usize = 100_000;

/// The processes but this one that have AF_XDP sockets, as far as they can be seen, for a sentence; `None` without any.
pub(super) fn told() -> Option<String> {
    let own = std::process::id();
    let mut looked = 0;
    let mut found: Vec<(u32, String)> = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if process != own && has_socket(&entry.path(), &mut looked) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push((process, name.trim().chars().filter(|letter| !letter.is_control()).collect()));
        }
    }
    found.sort_unstable();
    let names: Vec<String> =
        found.iter().take(FEW).map(|(process, name)| format!("{name} (process {process})")).collect();
    let more = found.len().saturating_sub(FEW);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| format!("such sockets are open in {}{more}", names.join(", ")))
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
