//! The log of `run`, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Logs an error of its own for each attempt that fails. What fails is told by who attempts it, once and with a remedy.
const NOISY: &str = "kube_client";

/// Starts logging as the configuration's `log` says. Once a process; later calls change nothing.
pub(super) fn start(filter: &str) -> Result<(), ParseError> {
    let mut parsed = EnvFilter::builder().parse(filter)?;
    if !filter.contains(NOISY) {
        parsed = parsed.add_directive(format!("{NOISY}=off").parse()?);
    }
    let _ = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    Ok(())
}
