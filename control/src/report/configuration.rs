//! The configuration of the running instance: which one, and what became of the last reload.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::keys::{Change, Fate};
use crate::plain;

/// The part `configuration` of `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationReport {
    /// The file that `run` was started with.
    pub file: String,
    /// Seconds since it was read last and found right.
    pub age_seconds: u64,
    /// How often it was taken anew since the start.
    pub reloads: u64,
    /// Keys whose value in the file takes a restart.
    pub waiting: Vec<Change>,
    /// The last reload, when it failed or did not do all of it.
    pub failure: Option<ReloadFailure>,
}

/// A reload that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadFailure {
    /// How long ago.
    pub age_seconds: u64,
    /// Why, one line a problem. What was put right since then is left out.
    pub text: String,
    /// Whether the reload changed nothing at all, so that what was in force before is so still.
    #[serde(default)]
    pub nothing_changed: bool,
    /// Whether the file is another one since then.
    #[serde(default)]
    pub file_changed: bool,
}

/// What a reload did: the answer to `POST /reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadReport {
    /// The file.
    pub file: String,
    /// Every key whose value in the file differs from the one that was in force before.
    pub changes: Vec<Change>,
    /// What should be in force and is not, with the reason.
    pub problems: Vec<String>,
    /// When each of these is over by itself.
    #[serde(skip)]
    pub over: Vec<Over>,
}

/// When something that a reload did not do is done all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// With another reload.
    #[default]
    Reloaded,
    /// Once this interface is attached, or not listed any more.
    Attached(String),
    /// Once these settings are in force.
    InForce(u64),
}

impl ReloadReport {
    /// Keys that take a restart.
    pub fn waiting(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.fate == Fate::Restart)
    }
}

/// For a person: one line a key.
impl fmt::Display for ReloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            writeln!(f, "{}: nothing changed", plain::line(&self.file))?;
        }
        self.changes.iter().try_for_each(|change| writeln!(f, "{change}"))?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "not done: {}", plain::line(problem)))
    }
}
