//! Control of Ringway: configuration, sources, compile, publish, and the commands.
#![forbid(unsafe_code)]

pub mod config;
pub mod demo;
pub mod network;
