//! The log of `run`, on stderr. Lines may be lost, and nothing else: whoever logs never waits for stderr, and never learns
//! that it cannot be written.

mod queue;
mod writer;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;

use queue::Queue;

/// Logs an error of its own for each attempt that fails. What fails is told by who attempts it, once and with a remedy.
const NOISY: &str = "kube_client";

/// How long the end of the process waits for the last lines to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The lines on their way to stderr, once there is a log.
static LINES: OnceLock<Arc<Queue>> = OnceLock::new();

/// Puts another filter in force, once there is a log.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Starts logging as the configuration's `log` says. Once a process; later calls change nothing.
pub(crate) fn start(filter: &str) -> Result<(), ParseError> {
    let parsed = parse(filter)?;
    let lines = Queue::new();
    // Without its thread, lines wait until there are too many and are lost.
    let _ = writer::start(lines.clone(), io::stderr());
    if LINES.set(lines.clone()).is_err() {
        return Ok(());
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(Lines(lines))
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // It would print them with a macro that panics.
        .log_internal_errors(false)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    if builder.try_init().is_ok() {
        let set: SetFilter = Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
        let _ = SET_FILTER.set(set);
    }
    Ok(())
}

/// Reads a filter.
pub(super) fn parse(filter: &str) -> Result<EnvFilter, ParseError> {
    let parsed = EnvFilter::builder().parse(filter)?;
    if filter.contains(NOISY) {
        return Ok(parsed);
    }
    Ok(parsed.add_directive(format!("{NOISY}=off").parse()?))
}

/// Logs by another filter from now on.
pub(super) fn set(filter: EnvFilter) -> Result<(), String> {
    SET_FILTER.get().map_or(Ok(()), |set| set(filter))
}

/// Says a line as it is, by the log where there is one: for those who are about to end the process, in whatever state it is.
pub(crate) fn say(line: &str) {
    let mut text = line.to_owned();
    text.push('\n');
    match LINES.get() {
        Some(lines) => lines.push(text.into_bytes()),
        // If stderr is closed, there is nobody to tell.
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Waits until what was said is written, but not for long.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.wait_until_written(LAST_WORDS);
    }
}

/// Where `tracing` writes.
struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// One call is one event.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
