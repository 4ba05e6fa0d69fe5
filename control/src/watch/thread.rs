//! The thread that watches: it looks at all hearts, ends the process when its end takes too long, and answers for the
//! process' health. Nothing else runs there, so that it answers when everything else hangs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Hearts, TICK, last};

/// The end of a run must not take longer, whatever hangs.
const END: Duration = Duration::from_millis(4_500);
/// How much longer it may for each NIC that a driver has to let go of: some reset it for that, and are at it for 3 s. The kernel has
/// them do so one after the other, whoever asks and however many at once, since each holds its lock of all devices meanwhile;
/// and the process would not be gone earlier if it left that to the kernel.
const NIC: Duration = Duration::from_secs(5);
/// And for each of their queues.
const QUEUE: Duration = Duration::from_millis(500);
/// And for each queue of a device without hardware, of which there may be hundreds.
const BARE_QUEUE: Duration = Duration::from_millis(100);
/// And in all. A supervisor has to wait for longer than that.
const DRIVERS: Duration = Duration::from_secs(60);
/// The status when it did.
const TOO_LONG: i32 = 1;

/// The thread that watches.
pub(crate) struct Watch {
    /// Where to run what answers for the process.
    pub(crate) tasks: Handle,
    ending: mpsc::UnboundedSender<()>,
    /// What drivers are given.
    pub(crate) drivers: Arc<Drivers>,
}

/// The time that drivers are given at the end to let go of NICs.
#[derive(Debug, Default)]
pub(crate) struct Drivers {
    milliseconds: AtomicU64,
    end: AtomicBool,
}

impl Drivers {
    /// They have so many to let go of.
    pub(crate) fn have(&self, devices: Devices) {
        self.milliseconds.store(for_drivers(devices).as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether the end has begun: they are to get no more.
    pub(crate) fn is_end(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// How much time is left of an end that has lasted for so long.
    fn rest(&self, lasted: Duration) -> Duration {
        (END + Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))).saturating_sub(lasted)
    }
}

/// How many devices there are to let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    /// NICs.
    pub(crate) nics: u32,
    /// Queues of theirs.
    pub(crate) queues: u32,
    /// Queues of devices without hardware.
    pub(crate) bare_queues: u32,
}

/// What the drivers of so many are given.
fn for_drivers(Devices { nics, queues, bare_queues }: Devices) -> Duration {
    (NIC * nics + QUEUE * queues + BARE_QUEUE * bare_queues).min(DRIVERS)
}

impl Watch {
    /// Starts it. From SIGTERM or SIGINT on, or [`Watch::end`], the process has 4.5 s, and what [`Drivers::have`] adds.
    pub(crate) fn start(hearts: Hearts) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = runtime.handle().clone();
        let (mut terminate, mut interrupt) = {
            let _context = tasks.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let (ending, mut ends) = mpsc::unbounded_channel();
        let drivers = Arc::new(Drivers::default());
        let given = drivers.clone();
        let end = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                // `None`: whoever started this is at its end.
                _ = ends.recv() => {}
            }
            given.end.store(true, Ordering::Relaxed);
            let began = Instant::now();
            let rest = || given.rest(began.elapsed());
            // There may be more by then.
            while !rest().is_zero() {
                sleep(rest()).await;
            }
            last::leave(TOO_LONG, "error: the end took too long; leaving the rest to the kernel");
        };
        let look = async move {
            let mut ticks = interval(TICK);
            // After a standstill nobody has beaten: one turn, not as many as it lasted.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                hearts.turn();
            }
        };
        thread::Builder::new().name("ringway-watch".into()).spawn(move || {
            let context = runtime.enter();
            tokio::spawn(end);
            drop(context);
            runtime.block_on(look)
        })?;
        Ok(Watch { tasks, ending, drivers })
    }

    /// The end has begun.
    pub(crate) fn end(&self) {
        // It cannot fail: the thread ends with the process.
        let _ = self.ending.send(());
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::daemon::logging;

    /// What the next test starts in a process of its own: its end takes longer than 4.5 s, and for ever where no driver is given
    /// time.
    #[test]
    fn another_process() {
        let Some(nics) = std::env::var_os("RINGWAY_TEST_END") else { return };
        let nics = nics.to_str().unwrap().parse().unwrap();
        logging::start("info").unwrap();
        let watch = Watch::start(Hearts::default()).unwrap();
        assert!(!watch.drivers.is_end());
        watch.end();
        watch.drivers.have(Devices { nics, ..Devices::default() });
        let began = Instant::now();
        while nics == 0 || began.elapsed() < END + Duration::from_millis(500) {
            thread::sleep(TICK);
        }
        assert!(watch.drivers.is_end());
        std::process::exit(0);
    }

    #[test]
    fn an_end_that_waits_for_drivers_is_in_order_and_any_other_is_cut_off() {
        let end = |nics: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "watch::thread::tests::another_process", "--nocapture"]);
            command.env("RINGWAY_TEST_END", nics).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        for (ending, status) in [(end("0"), TOO_LONG), (end("2"), 0)] {
            let output = ending.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(status), "{said}");
            assert_eq!(said.contains("the end took too long"), status == TOO_LONG, "{said}");
        }
    }

    #[test]
    fn what_is_still_being_attached_while_the_end_has_begun_is_waited_for() {
        let drivers = Drivers::default();
        assert_eq!(drivers.rest(END), Duration::ZERO);
        drivers.have(Devices { nics: 2, queues: 4, bare_queues: 10 });
        assert_eq!(drivers.rest(END), Duration::from_secs(13));
        assert_eq!(drivers.rest(END + Duration::from_secs(13)), Duration::ZERO);
    }

    #[test]
    fn who_supervises_waits_for_longer_and_keeps_the_list_of_settings() {
        assert_eq!(for_drivers(Devices { nics: 2, queues: 4, bare_queues: 0 }), Duration::from_secs(12));
        assert_eq!(for_drivers(Devices { nics: 8, queues: 512, bare_queues: 0 }), DRIVERS);
        assert_eq!(for_drivers(Devices { bare_queues: 100, ..Devices::default() }), Duration::from_secs(10));
        let unit = include_str!("../../../deploy/ringway.service");
        let pod = include_str!("../../../deploy/chart/templates/daemonset.yaml");
        let seconds = |text: &str, key: &str| -> u64 {
            text.lines().find_map(|line| line.trim().strip_prefix(key)?.trim().parse().ok()).expect(key)
        };
        for given in [seconds(unit, "TimeoutStopSec="), seconds(pod, "terminationGracePeriodSeconds:")] {
            assert!(Duration::from_secs(given) > END + DRIVERS, "{given}");
        }
        // Else it would be gone after a kill that was part of a stop.
        assert!(unit.lines().any(|line| line == "RuntimeDirectoryPreserve=yes"));
    }
}
