//! Where objects come from.

pub mod files;
pub mod manifest;
pub mod watch;
