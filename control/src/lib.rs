//! Control of Ringway: configuration, sources, compile, publish, and the commands.
#![forbid(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod compile;
pub mod config;
pub mod daemon;
pub mod demo;
mod door;
pub mod drain;
pub mod network;
pub mod outcome;
mod pace;
pub mod parse;
mod plain;
pub mod problem;
pub mod publish;
pub mod report;
pub mod source;
mod watch;

/// Which Ringway this is: its version, and of a release the commit, as `0.1.0 (3061490f07)`.
pub const VERSION: &str = env!("RINGWAY_VERSION");
