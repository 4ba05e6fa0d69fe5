//! Work for which the kernel may wait for a driver, in a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::af_xdp::{Socket, SocketError};
use crate::io::port::{Closed, Loan, PortError};
use crate::io::{Port, PortOptions};

/// How often whoever waits is told that it goes on.
const STEP: Duration = Duration::from_millis(200);

/// How long a queue may stay busy after another socket left it, before we believe that somebody holds it.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);

/// How often a busy queue is tried.
const BUSY_STEP: Duration = Duration::from_millis(20);

/// Does this in a thread of its own, on the CPUs of the NUMA node of `cpu`, so that what the kernel allocates for a worker is
/// near to it, and not on `cpu` itself, where the worker is at work. `meanwhile` is called a few times a second.
pub fn aside<T: Send>(cpu: Option<usize>, work: impl FnOnce() -> T + Send, mut meanwhile: impl FnMut()) -> T {
    let (mut work, mut done) = (Some(work), None);
    scope(|scope| {
        let (work, done) = (&mut work, &mut done);
        // Gone as soon as the work is done, or cannot begin.
        let (at_work, watching) = channel::<()>();
        let thread = Builder::new().name("ringway-aside".into()).spawn_scoped(scope, move || {
            cpu.and_then(neighbors).inspect(|cpus| {
                // Where that is not allowed the memory is only further away.
                let _ = sched_setaffinity(None, cpus);
            });
            *done = work.take().map(|work| work());
            drop(at_work);
        });
        while thread.is_ok() && watching.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
            meanwhile();
        }
    });
    match (done, work) {
        (Some(done), _) => done,
        // There can be no more threads.
        (None, Some(work)) => work(),
        (None, None) => unreachable!("the scope hands on a panic of its thread"),
    }
}

/// The other CPUs of the NUMA node that a CPU belongs to; `None` where the kernel does not tell, and when there are none.
fn neighbors(cpu: usize) -> Option<CpuSet> {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let of_cpu = format!("/sys/devices/system/cpu/cpu{cpu}");
    let is_node = |name: &String| name.strip_prefix("node").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let node = names(&of_cpu).into_iter().find(is_node)?;
    let mut cpus = CpuSet::new();
    let number = |name: String| name.strip_prefix("cpu")?.parse::<usize>().ok();
    let others = names(&format!("{of_cpu}/{node}")).into_iter().filter_map(number);
    others.filter(|other| *other != cpu && *other < CpuSet::MAX_CPU).for_each(|other| cpus.set(other));
    (cpus.count() > 0).then_some(cpus)
}

/// All that it takes to open a port for a worker.
#[derive(Debug)]
#[must_use = "what the worker lent is lost until it is opened or `unused`"]
pub struct Opening {
    pub(super) cpu: Option<usize>,
    pub(super) loan: Loan,
    pub(super) siblings: Vec<Arc<Socket>>,
}

impl Opening {
    /// Opens a port on a queue, in a thread of its own; while the queue is busy for at most 1 s. On failure there is something
    /// for the worker to reclaim.
    pub fn open(self, options: &PortOptions<'_>, meanwhile: impl FnMut()) -> Result<Port, (PortError, Closed)> {
        let Opening { cpu, loan, siblings } = self;
        let open = move || {
            let (start, mut loan) = (Instant::now(), Box::new(loan));
            loop {
                match loan.open(options, &siblings) {
                    Ok(port) => return Ok(port),
                    Err((PortError::Socket(SocketError::Busy { .. }), again)) if start.elapsed() < BUSY_PATIENCE => {
                        loan = again;
                        std::thread::sleep(BUSY_STEP);
                    }
                    Err((error, loan)) => return Err((error, loan.unused())),
                }
            }
        };
        aside(cpu, open, meanwhile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn whoever_waits_is_told_that_it_goes_on_until_the_work_is_done() {
        let (called, caller) = (AtomicBool::new(false), std::thread::current().id());
        let work = || {
            while !called.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            std::thread::current().id()
        };
        let worker = aside(Some(0), work, || called.store(true, Ordering::Relaxed));
        assert_ne!(worker, caller);
    }

    #[test]
    fn nobody_waits_for_work_that_is_done() {
        let mut steps = 0;
        (0..50).for_each(|_| aside(None, || {}, || steps += 1));
        assert!(steps < 50, "each took a step of {STEP:?}");
    }

    #[test]
    fn the_cpu_itself_is_none_of_its_neighbors() {
        for cpu in 0..4 {
            assert!(neighbors(cpu).is_none_or(|cpus| !cpus.is_set(cpu)));
        }
        assert!(neighbors(1 << 20).is_none());
    }
}
