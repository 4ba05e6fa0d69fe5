//! Work for which the kernel may wait for a driver, in a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::af_xdp::{Socket, SocketError};
use crate::io::port::{Closed, Loan, PortError};
use crate::io::{Port, PortOptions};

/// How often whoever waits is told that it goes on.
const STEP: Duration = Duration::from_millis(50);

/// How long a queue may stay busy after another socket left it, before we believe that somebody holds it.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);

/// How often a busy queue is tried.
const BUSY_STEP: Duration = Duration::from_millis(20);

/// Does this in a thread of its own, never on the CPUs `at_work`, which workers poll on: on others of the NUMA node of `cpu`, so
/// that what the kernel allocates for a worker is near to it; without `cpu` on any. Where none is left the kernel chooses.
/// `meanwhile` is called some 20 times a second.
pub fn aside<T: Send>(
    cpu: Option<usize>,
    at_work: &[usize],
    work: impl FnOnce() -> T + Send,
    mut meanwhile: impl FnMut(),
) -> T {
    let (mut work, mut done) = (Some(work), None);
    scope(|scope| {
        let (work, done) = (&mut work, &mut done);
        // Gone as soon as the work is done, or cannot begin.
        let (working, watching) = channel::<()>();
        let thread = Builder::new().name("ringway-aside".into()).spawn_scoped(scope, move || {
            // This thread may run where the one that waits may: where the operator says.
            let allowed = sched_getaffinity(None).ok();
            allowed.and_then(|allowed| apart(&allowed, cpu.map(node_of), at_work)).inspect(|cpus| {
                // Where that is not allowed the memory is only further away.
                let _ = sched_setaffinity(None, cpus);
            });
            *done = work.take().map(|work| work());
            drop(working);
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

/// Of the CPUs that are allowed those of a node, if one is given, where no worker is at work; `None` when there are none.
fn apart(allowed: &CpuSet, node: Option<Vec<usize>>, at_work: &[usize]) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu) && !at_work.contains(cpu))
        .filter(|cpu| node.as_ref().is_none_or(|node| node.contains(cpu)))
        .for_each(|cpu| cpus.set(cpu));
    (cpus.count() > 0).then_some(cpus)
}

/// The CPUs of the NUMA node that a CPU belongs to; none where the kernel does not tell.
fn node_of(cpu: usize) -> Vec<usize> {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let of_cpu = format!("/sys/devices/system/cpu/cpu{cpu}");
    let number = |name: &str, kind: &str| name.strip_prefix(kind)?.parse::<usize>().ok();
    let node = names(&of_cpu).into_iter().find(|name| number(name, "node").is_some());
    let cpus = node.map(|node| names(&format!("{of_cpu}/{node}"))).unwrap_or_default();
    cpus.iter().filter_map(|name| number(name, "cpu")).collect()
}

/// All that it takes to open a port for a worker.
#[derive(Debug)]
#[must_use = "what the worker lent is lost until it is opened or `unused`"]
pub struct Opening {
    /// The worker's.
    pub(super) cpu: Option<usize>,
    pub(super) loan: Loan,
    pub(super) siblings: Vec<Arc<Socket>>,
}

impl Opening {
    /// Opens a port on a queue, in a thread of its own; while the queue is busy for at most 1 s. On failure there is something
    /// for the worker to reclaim. `at_work` and `meanwhile`: as [`aside`] has them.
    pub fn open(
        self,
        options: &PortOptions<'_>,
        at_work: &[usize],
        meanwhile: impl FnMut(),
    ) -> Result<Port, (PortError, Box<Closed>)> {
        aside(self.cpu, at_work, move || self.open_here(options, || ()), meanwhile)
    }

    /// The same in this thread, for a device that nobody has to wait for. `meanwhile` is called while the queue is busy.
    pub fn open_here(
        self,
        options: &PortOptions<'_>,
        mut meanwhile: impl FnMut(),
    ) -> Result<Port, (PortError, Box<Closed>)> {
        let Opening { loan, siblings, .. } = self;
        let (start, mut loan) = (Instant::now(), Box::new(loan));
        loop {
            match loan.open(options, &siblings) {
                Ok(port) => return Ok(port),
                Err((PortError::Socket(SocketError::Busy { .. }), again)) if start.elapsed() < BUSY_PATIENCE => {
                    loan = again;
                    meanwhile();
                    std::thread::sleep(BUSY_STEP);
                }
                Err((error, loan)) => return Err((error, Box::new(loan.unused()))),
            }
        }
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
        let worker = aside(Some(0), &[], work, || called.store(true, Ordering::Relaxed));
        assert_ne!(worker, caller);
    }

    #[test]
    fn nobody_waits_for_work_that_is_done() {
        let mut steps = 0;
        (0..50).for_each(|_| aside(None, &[], || {}, || steps += 1));
        assert!(steps < 50, "each took a step of {STEP:?}");
    }

    #[test]
    fn no_worker_is_disturbed_and_no_bound_of_the_operator_is_left() {
        let set = |cpus: &[usize]| {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|cpu| set.set(*cpu));
            set
        };
        let allowed = set(&[0, 1, 2, 5, 6]);
        let node = || Some(vec![0, 1, 2, 3]);
        assert_eq!(apart(&allowed, node(), &[1]), Some(set(&[0, 2])));
        assert_eq!(apart(&allowed, None, &[1, 6]), Some(set(&[0, 2, 5])));
        assert_eq!(apart(&allowed, node(), &[0, 1, 2]), None);
        // Of what this machine tells nothing else is used.
        let here = sched_getaffinity(None).unwrap();
        let node = node_of(0);
        assert!(node.is_empty() || node.contains(&0));
        assert!(apart(&here, Some(node), &[0]).is_none_or(|cpus| !cpus.is_set(0)));
        assert!(node_of(1 << 20).is_empty());
    }
}
