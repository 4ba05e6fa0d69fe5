//! The thread that watches: it looks at all hearts, ends the process when its end takes too long, and answers for the
//! process' health. Nothing else runs there, so that it answers when everything else hangs.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Hearts, TICK, last};

/// The end of a run must not take longer, whatever hangs.
const END: Duration = Duration::from_millis(4_500);
/// The status when it did.
const TOO_LONG: i32 = 1;

/// The thread that watches.
pub(crate) struct Watch {
    /// Where to run what answers for the process.
    pub(crate) tasks: Handle,
    ending: mpsc::UnboundedSender<()>,
}

impl Watch {
    /// Starts it. From SIGTERM or SIGINT on, or [`Watch::end`], the process has 4.5 s.
    pub(crate) fn start(hearts: Hearts) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = runtime.handle().clone();
        let (mut terminate, mut interrupt) = {
            let _context = tasks.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let (ending, mut ends) = mpsc::unbounded_channel();
        let end = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                // `None`: whoever started this is at its end.
                _ = ends.recv() => {}
            }
            sleep(END).await;
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
        Ok(Watch { tasks, ending })
    }

    /// The end has begun.
    pub(crate) fn end(&self) {
        // It cannot fail: the thread ends with the process.
        let _ = self.ending.send(());
    }
}
