//! What the kernel says about a process: its number, or `self`.

use std::fs;
use std::time::Duration;

/// The time on a CPU of all threads but the workers', which poll.
pub fn control_cpu(process: &str) -> Duration {
    cpu(process, |thread| !thread.starts_with("worker-"))
}

/// The time on a CPU of all threads.
pub fn all_cpu(process: &str) -> Duration {
    cpu(process, |_| true)
}

fn cpu(process: &str, counts: impl Fn(&str) -> bool) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let own = times.split_whitespace().next()?.parse::<u64>().ok()?;
        counts(&name).then_some(own)
    });
    Duration::from_nanos(nanos.sum())
}

/// The memory that is really there, in bytes.
pub fn resident_bytes(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kibibytes.unwrap_or(0u64) * 1024
}
