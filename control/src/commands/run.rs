//! `ringway run`: the load balancer.

use clap::Args;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::config_file::ConfigFile;
use crate::config::SourceKey;
use crate::daemon::{self, RunError};
use crate::outcome::Failure;
use crate::plain;

/// What `ringway run` is told.
#[derive(Debug, Args)]
#[command(
    after_help = "It ends on SIGTERM or SIGINT within 5 s, or when the drivers of its NICs have let go of them; SIGHUP reads the \
                        configuration anew. It needs root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, \
                        CAP_PERFMON and CAP_IPC_LOCK."
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// End when this process, which started us, ends
    #[arg(long, value_name = "PID", hide = true)]
    end_with: Option<i32>,
}

/// Balances until a signal.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(parent) = arguments.end_with {
        let tied = set_parent_process_death_signal(Some(Signal::TERM));
        tied.map_err(|error| Failure::failed(format!("--end-with: {error}")))?;
        // It may have ended before that.
        if getppid().map(|found| found.as_raw_nonzero().get()) != Some(parent) {
            return Err(Failure::failed(format!("--end-with: process {parent}, which started this one, has ended")));
        }
    }
    daemon::take_privileges();
    let config = arguments.config.load(SourceKey::Read)?;
    daemon::run(config, arguments.config.path()).map_err(Failure::from)
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let text = match &error {
            // A kubeconfig is made by many hands.
            RunError::Source(error) => plain::line(&error.to_string()).into_owned(),
            error => error.to_string(),
        };
        if error.is_configuration() { Failure::invalid(text) } else { Failure::failed(text) }
    }
}
