//! Signals that mean nothing to `run`, and must not end it.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use tokio::task::JoinSet;

/// What else a careless operator, a script or a limit (`ulimit -t`) may send. SIGQUIT and SIGABRT end the process with a core,
/// as those who send them want; what tells of a defect (SIGSEGV and the like) is the kernel's.
const OTHERS: [(&str, Signal); 9] = [
    ("SIGUSR1", Signal::USR1),
    ("SIGUSR2", Signal::USR2),
    ("SIGALRM", Signal::ALARM),
    ("SIGVTALRM", Signal::VTALARM),
    ("SIGPROF", Signal::PROF),
    ("SIGIO", Signal::IO),
    ("SIGPWR", Signal::POWER),
    ("SIGSTKFLT", Signal::STKFLT),
    ("SIGXCPU", Signal::XCPU),
];

/// The first and the last realtime signal that the C library leaves to programs.
const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Survives them from now on, with a line in the log for each.
pub(super) fn survive_others() -> std::io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let named = OTHERS.map(|(name, signal)| (name.to_owned(), signal.as_raw()));
    let realtime = REALTIME.map(|number| (format!("signal {number}"), number));
    for (name, number) in named.into_iter().chain(realtime) {
        let mut signals = signal(SignalKind::from_raw(number))?;
        tasks.spawn(async move {
            while signals.recv().await.is_some() {
                tracing::warn!("{name} does nothing here: SIGHUP reads the configuration anew, SIGTERM ends");
            }
        });
    }
    // A log that has outgrown `ulimit -f` causes it with every line: another line about it would be the next cause.
    let mut outgrown = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
    tasks.spawn(async move { while outgrown.recv().await.is_some() {} });
    Ok(tasks)
}
