//! The commands, one file each.

pub mod check;
mod objects;
pub mod replay;
pub mod run;
pub mod table;
pub mod trace;
