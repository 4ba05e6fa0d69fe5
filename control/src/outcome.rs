//! How a command ends, and in which form it answers.

use std::fmt;
use std::io::{self, Write};

use clap::ValueEnum;

use crate::config::ConfigError;
use crate::plain;

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// How a running instance's answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportOutput {
    /// For people.
    #[default]
    Text,
    /// As the admin socket says it.
    Json,
    /// The same in YAML.
    Yaml,
}

/// What a shell says of a process that SIGPIPE ended.
const READER_LEFT: u8 = 128 + 13;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    /// Empty when there is nobody to tell.
    message: String,
}

impl Failure {
    /// The operation failed: exit status 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Failure { status: 1, message: message.into() }
    }

    /// Wrong usage or invalid configuration: exit status 2.
    pub fn invalid(message: impl Into<String>) -> Self {
        Failure { status: 2, message: message.into() }
    }

    /// Nothing failed that is not said already, and yet scripts want to know.
    pub fn quiet(status: u8) -> Self {
        Failure { status, message: String::new() }
    }

    /// The instance is there, and not ready: exit status 3.
    pub fn not_ready(message: impl Into<String>) -> Self {
        Failure { status: 3, message: message.into() }
    }

    /// Whether there is nobody to tell, or all is said.
    pub(crate) fn is_told(&self) -> bool {
        self.message.is_empty()
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        self.status
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::invalid(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Who closed the pipe has seen enough.
            io::ErrorKind::BrokenPipe => Failure::quiet(READER_LEFT),
            _ => Failure::failed(format!("cannot write the output: {error}")),
        }
    }
}

/// Says something on stderr that is no failure.
pub fn note(text: impl fmt::Display) {
    // If stderr is closed, there is nobody to tell.
    let _ = writeln!(io::stderr(), "note: {}", plain::line(&text.to_string()));
}
