//! Control of Ringway: configuration, sources, compile, publish, and the commands.
#![forbid(unsafe_code)]

pub mod cli;
pub mod cluster;
pub mod commands;
pub mod compile;
pub mod config;
pub mod demo;
pub mod network;
pub mod parse;
pub mod problem;
pub mod source;
