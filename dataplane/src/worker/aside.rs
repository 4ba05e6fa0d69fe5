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

/// How often a busy queue is tried.
const BUSY_STEP: Duration = Duration::from_millis(20);

/// How long queues that are busy are waited for, all of them together. The kernel lets go of a socket a little after it was closed, and
/// until then says the same as of one that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Patience(Duration);

impl Patience {
    /// So long a queue may stay busy after its socket was closed, before we believe that somebody holds it.
    pub const FULL: Patience = Patience(Duration::from_secs(1));

    /// So much of it.
    pub const fn of(limit: Duration) -> Self {
        Patience(limit)
    }

    /// Waits with it while something is busy; whether it is not any more. `meanwhile` is called in between.
    pub fn wait(&mut self, mut is_busy: impl FnMut() -> bool, meanwhile: impl FnMut()) -> bool {
        patiently(self, (), |()| true, |()| if is_busy() { Err(((), ())) } else { Ok(()) }, meanwhile).is_ok()
    }

    /// How much of it there is.
    pub const fn limit(self) -> Duration {
        self.0
    }
}

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
    /// Opens a port on a queue, in a thread of its own, with `patience` while the queue is busy. On failure there is something
    /// for the worker to reclaim. `at_work` and `meanwhile`: as [`aside`] has them.
    pub fn open(
        self,
        options: &PortOptions<'_>,
        patience: &mut Patience,
        at_work: &[usize],
        meanwhile: impl FnMut(),
    ) -> Result<Port, (PortError, Box<Closed>)> {
        aside(self.cpu, at_work, move || self.open_here(options, patience, || ()), meanwhile)
    }

    /// The same in this thread, for a device that nobody has to wait for. `meanwhile` is called while the queue is busy.
    pub fn open_here(
        self,
        options: &PortOptions<'_>,
        patience: &mut Patience,
        meanwhile: impl FnMut(),
    ) -> Result<Port, (PortError, Box<Closed>)> {
        let Opening { loan, siblings, .. } = self;
        let open = |loan: Box<Loan>| loan.open(options, &siblings);
        let is_busy = |error: &PortError| matches!(error, PortError::Socket(SocketError::Busy { .. }));
        let opened = patiently(patience, Box::new(loan), is_busy, open, meanwhile);
        opened.map_err(|(error, loan)| (error, Box::new(loan.unused())))
    }
}

/// Opens with what is lent, again and again while that is busy. Of the patience is left what was not needed; all of it where a queue
/// came free, since whoever lets go of one may be about to let go of others.
fn patiently<L, T, E>(
    patience: &mut Patience,
    lent: L,
    is_busy: impl Fn(&E) -> bool,
    mut open: impl FnMut(L) -> Result<T, (E, L)>,
    mut meanwhile: impl FnMut(),
) -> Result<T, (E, L)> {
    let start = Instant::now();
    let (mut lent, mut waited) = (lent, false);
    loop {
        match open(lent) {
            Err((error, again)) if is_busy(&error) => {
                if start.elapsed() >= patience.0 {
                    patience.0 = Duration::ZERO;
                    return Err((error, again));
                }
                (lent, waited) = (again, true);
                meanwhile();
                std::thread::sleep(BUSY_STEP);
            }
            opened => {
                if waited {
                    *patience = Patience::FULL;
                }
                return opened;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_that_others_hold_are_waited_for_once_and_those_that_come_free_each() {
        let limit = Duration::from_millis(50);
        let mut patience = Patience::of(limit);
        let tries = |patience: &mut Patience, busy_for: u32| {
            let mut tried = 0;
            let is_busy = || {
                tried += 1;
                tried <= busy_for
            };
            (patience.wait(is_busy, || ()), tried)
        };
        assert_eq!(tries(&mut patience, 0), (true, 1));
        assert_eq!(patience, Patience::of(limit), "it was not needed");
        let (is_open, tried) = tries(&mut patience, u32::MAX);
        assert!(!is_open && tried > 1, "{tried}");
        assert_eq!((tries(&mut patience, u32::MAX), patience.limit()), ((false, 1), Duration::ZERO));
        let mut patience = Patience::of(limit);
        assert_eq!(tries(&mut patience, 1), (true, 2));
        assert_eq!(patience, Patience::FULL, "somebody lets go");
    }
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
