//! The end of the process when something in it is broken: a message, a status for the supervisor, and never a wait.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::process::exit;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::daemon::logging;

/// The status after a panic, as Rust programs have it.
const PANICKED: i32 = 101;
/// How long an orderly `exit` may take.
const PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    /// Whether a panic of this thread is caught by [`caught`].
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// From here on a panic anywhere ends the process, except within [`caught`].
pub(crate) fn panics_end_the_process() {
    // The one that std brings prints to stderr, and waits for who reads it.
    drop(take_hook());
    set_hook(Box::new(|info| {
        let thread = thread::current();
        let thread = thread.name().unwrap_or("without a name").to_owned();
        let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
        let what = told(info.payload());
        if CAUGHT.get() {
            logging::say(&format!("error: the thread {thread} panicked{place}: {what}"));
            return;
        }
        leave(
            PANICKED,
            &format!(
                "error: the thread {thread} panicked{place}: {what}; ringway ends. This is a defect: report this line"
            ),
        );
    }));
}

fn told(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}

/// Catches a panic of something that leaves nothing half changed behind.
pub(crate) fn caught<T>(something: impl FnOnce() -> T) -> Option<T> {
    let before = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(something));
    CAUGHT.set(before);
    result.ok()
}

/// Ends the process with this message and this status, whatever hangs.
pub(crate) fn leave(status: i32, message: &str) -> ! {
    logging::say(message);
    let _ = thread::Builder::new().name("ringway-leave".into()).spawn(|| {
        thread::sleep(PATIENCE);
        let _ = kill_process(getpid(), Signal::KILL);
    });
    logging::flush();
    exit(status);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};
    use std::os::fd::OwnedFd;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// What the other tests start in a process of its own: it panics where they say.
    #[test]
    fn another_process() {
        let Some(place) = std::env::var_os("RINGWAY_TEST_PANIC") else { return };
        logging::start("info").unwrap();
        panics_end_the_process();
        assert_eq!(caught(|| panic!("caught")), None::<()>);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        match place.to_str().unwrap() {
            "thread" => drop(thread::Builder::new().name("worker-0".into()).spawn(|| panic!("out of {}", "bounds"))),
            "task" => drop(runtime.spawn(async { panic!("out of bounds") })),
            "blocking" => drop(runtime.spawn_blocking(|| panic!("out of bounds"))),
            other => panic!("{other}"),
        }
        thread::sleep(Duration::from_secs(3600));
    }

    fn start(place: &str, stderr: impl Into<Stdio>) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "watch::last::tests::another_process", "--nocapture"]);
        command.env("RINGWAY_TEST_PANIC", place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        command.spawn().unwrap()
    }

    #[test]
    fn a_panic_anywhere_ends_the_process_with_a_message() {
        for place in ["thread", "task", "blocking"] {
            let mut child = start(place, Stdio::piped());
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(PANICKED), "{place}: {said}");
            assert!(said.contains(": out of bounds; ringway ends. This is a defect: report this line"), "{said}");
            assert!(said.contains("panicked at control/src/watch/last.rs:"), "{said}");
            assert!(said.contains(": caught\n"), "what is caught is told and ends nothing: {said}");
            assert_eq!(said.contains("error: the thread worker-0 panicked"), place == "thread", "{said}");
        }
    }

    #[test]
    fn a_panic_that_nobody_reads_of_ends_the_process_as_well() {
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        fill(&writer);
        assert_eq!(start("thread", writer).wait().unwrap().code(), Some(PANICKED));
    }

    /// Writes until nothing more fits.
    fn fill(writer: &OwnedFd) {
        rustix::io::ioctl_fionbio(writer, true).unwrap();
        let mut file = File::from(writer.try_clone().unwrap());
        let error = loop {
            if let Err(error) = file.write(&[b'x'; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        rustix::io::ioctl_fionbio(writer, false).unwrap();
    }
}
