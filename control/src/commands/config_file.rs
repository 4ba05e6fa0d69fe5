//! Which configuration file: the one that is named, else the one that every installation has in the same place.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{Config, DEFAULT_FILE, SourceKey};
use crate::outcome::Failure;

/// `--config`.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigFile {
    /// The configuration file [default: /etc/ringway/ringway.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The file.
    pub fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(DEFAULT_FILE.as_ref())
    }

    /// Reads it. It must be there.
    pub fn load(&self, source: SourceKey) -> Result<Config, Failure> {
        self.load_if_there(source)?.ok_or_else(|| {
            Failure::invalid(format!(
                "no --config, and no {DEFAULT_FILE}: write that file (the least it needs is nodeName and interfaces), or name \
                 another with --config FILE"
            ))
        })
    }

    /// Reads it; `None` when none is named and the default is not there.
    pub fn load_if_there(&self, source: SourceKey) -> Result<Option<Config>, Failure> {
        let is_missing = |path: &Path| path.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if self.config.is_none() && is_missing(self.path()) {
            return Ok(None);
        }
        Ok(Some(Config::load(self.path(), source)?))
    }

    /// Whether it was named.
    pub fn is_named(&self) -> bool {
        self.config.is_some()
    }
}
