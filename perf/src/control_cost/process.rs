//! What the kernel says about this process.

use std::fs;
use std::time::Duration;

/// The time on a CPU of all threads but the workers', which poll.
pub(super) fn control_cpu() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let own = times.split_whitespace().next()?.parse::<u64>().ok()?;
        (!name.starts_with("worker-")).then_some(own)
    });
    Duration::from_nanos(nanos.sum())
}

/// The memory that is really there, in bytes.
pub(super) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kibibytes.unwrap_or(0u64) * 1024
}
