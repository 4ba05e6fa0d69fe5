//! `ringway run`: the load balancer.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Failure;
use crate::config::{Config, SourceKey};
use crate::daemon::{self, RunError};

/// What `ringway run` is told.
#[derive(Debug, Args)]
#[command(
    after_help = "It ends on SIGTERM or SIGINT within 5 s. It needs root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, \
                        CAP_PERFMON and CAP_IPC_LOCK."
)]
pub struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Balances until a signal.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config, SourceKey::Read)?;
    daemon::run(config).map_err(Failure::from)
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        if error.is_configuration() { Failure::invalid(error.to_string()) } else { Failure::failed(error.to_string()) }
    }
}
