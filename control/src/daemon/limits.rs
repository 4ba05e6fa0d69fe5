//! The limits of this process, looked at before what they bound is taken: an allocation that fails ends a process without
//! advice, and a descriptor that is missing is missed by whoever comes last.

use ringway_dataplane::handover;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// A limit that is too low to run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {what} is {limit}, and this takes {needed}: {remedy}")]
pub struct LimitTooLow {
    what: &'static str,
    limit: String,
    needed: String,
    remedy: &'static str,
}

/// What a run takes beyond what depends on the configuration and on the machine: threads, counters, tables, objects.
const MEMORY: u64 = 320 << 20;

/// A flow in its table, with what finds it.
const BYTES_A_FLOW: u64 = 192;
/// What workers share to find each other's flows.
const BYTES_A_SHARED_FLOW: u64 = 16;
/// Counters of a worker.
const BYTES_A_WORKER: u64 = 64 << 20;

/// Descriptors that a run takes beyond its ports, with some room for connections.
const DESCRIPTORS: u64 = 128;
/// Descriptors of a port: its socket and its share of what an interface has.
const DESCRIPTORS_A_PORT: u64 = 4;

/// What the main thread's stack must be able to grow to.
const STACK: u64 = 1 << 20;
/// What it is usually.
const USUAL_STACK: u64 = 8 << 20;

/// Raises the limit of the main thread's stack where it is too low, if that may be. Before anything that takes stack: one that
/// runs out of it ends without a word of use.
pub(crate) fn raise_stack() -> Result<(), LimitTooLow> {
    let found = getrlimit(Resource::Stack);
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= STACK);
    if is_enough(found.current) {
        return Ok(());
    }
    // The kernel looks at it whenever the stack grows.
    let raised = [found.maximum, Some(USUAL_STACK)].into_iter().filter(|most| is_enough(*most)).any(|maximum| {
        let current = Some(maximum.map_or(USUAL_STACK, |most| most.min(USUAL_STACK)));
        setrlimit(Resource::Stack, Rlimit { current, maximum }).is_ok()
    });
    if raised {
        return Ok(());
    }
    Err(LimitTooLow {
        what: "the stack (RLIMIT_STACK)",
        limit: found.current.map_or_else(String::new, |limit| format!("{} KiB", limit >> 10)),
        needed: format!("{} KiB", STACK >> 10),
        remedy: "raise it (ulimit -Ss 8192, LimitSTACK=8M)",
    })
}

/// What the machine makes of the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) workers: u64,
    /// Packet memory of all of them, in bytes.
    pub(super) packets: u64,
    /// Ports of all of them.
    pub(super) ports: u64,
}

/// Before anything is known of the machine.
pub(super) fn check_first(config: &Config) -> Result<(), LimitTooLow> {
    let workers = config.workers.cpus.as_ref().map_or(1, Vec::len) as u64;
    check(config, Size { workers, ..Size::default() })
}

/// Before the workers take their memory.
pub(super) fn check(config: &Config, size: Size) -> Result<(), LimitTooLow> {
    // Without /proc nothing is known of what is taken; the first allocation that fails will tell.
    if let Some(taken) = address_space() {
        let limit = getrlimit(Resource::As).current;
        fits_memory(limit, taken, u64::from(config.flows.per_worker), size)?;
    }
    fits_descriptors(getrlimit(Resource::Nofile).maximum, size)
}

/// What this process has of it.
fn address_space() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').next()?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn fits_memory(limit: Option<u64>, taken: u64, flows: u64, size: Size) -> Result<(), LimitTooLow> {
    let Size { workers, packets, .. } = size;
    let (shared, handover) = if workers > 1 { (BYTES_A_SHARED_FLOW, handover::BYTES_A_WORKER as u64) } else { (0, 0) };
    let of_workers = workers * (flows * (BYTES_A_FLOW + shared) + BYTES_A_WORKER + handover);
    let needed = taken + MEMORY + packets + of_workers;
    match limit {
        Some(limit) if limit < needed => Err(LimitTooLow {
            what: "address space (RLIMIT_AS)",
            limit: format!("{} KiB", limit >> 10),
            needed: format!("{} KiB with {flows} flows for each of {workers} workers", needed.div_ceil(1024)),
            remedy: "raise or remove it (ulimit -v unlimited, LimitAS=infinity), or lower flows.perWorker",
        }),
        _ => Ok(()),
    }
}

fn fits_descriptors(limit: Option<u64>, size: Size) -> Result<(), LimitTooLow> {
    let needed = DESCRIPTORS + size.ports * DESCRIPTORS_A_PORT;
    match limit {
        Some(limit) if limit < needed => Err(LimitTooLow {
            what: "open files (RLIMIT_NOFILE)",
            limit: limit.to_string(),
            needed: format!("{needed} at least, better 1024"),
            remedy: "raise it (ulimit -Hn, LimitNOFILE=)",
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ringway_dataplane::flow::{FlowConfig, FlowTable};
    use ringway_shared::PortSet;

    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_told_with_what_is_needed() {
        let size = Size { workers: 2, packets: 64 << 20, ports: 8 };
        assert_eq!(fits_memory(None, 0, 1 << 20, size), Ok(()));
        let told = fits_memory(Some(100 << 20), 100 << 20, 1 << 20, size).unwrap_err().to_string();
        assert_eq!(
            told,
            "the limit of address space (RLIMIT_AS) is 102400 KiB, and this takes 1086656 KiB with 1048576 flows for each of 2 \
             workers: raise or remove it (ulimit -v unlimited, LimitAS=infinity), or lower flows.perWorker"
        );
        assert_eq!(fits_memory(Some(1086656 << 10), 100 << 20, 1 << 20, size), Ok(()));
        // One worker has nobody to share flows with, or to hand packets to.
        let alone = Size { workers: 1, ..size };
        let needed = (100 << 20) + MEMORY + alone.packets + (1 << 20) * BYTES_A_FLOW + BYTES_A_WORKER;
        assert_eq!(fits_memory(Some(needed), 100 << 20, 1 << 20, alone), Ok(()));
        assert_eq!(fits_descriptors(None, size), Ok(()));
        assert_eq!(fits_descriptors(Some(160), size), Ok(()));
        let told = fits_descriptors(Some(159), size).unwrap_err().to_string();
        assert_eq!(
            told,
            "the limit of open files (RLIMIT_NOFILE) is 159, and this takes 160 at least, better 1024: raise it (ulimit -Hn, \
             LimitNOFILE=)"
        );
    }

    #[test]
    fn a_flow_takes_no_more_than_is_reckoned_with() {
        let timeouts = Config::default().flows.timeouts;
        let table = FlowTable::new(&FlowConfig {
            capacity: 100_000,
            seed: 1,
            timeouts,
            snat_ports: PortSet::from(1024..=65_535),
        });
        assert!(table.memory_bytes() as u64 <= 100_000 * BYTES_A_FLOW + (4 << 20), "{}", table.memory_bytes());
    }
}
