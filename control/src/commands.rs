//! The commands, one file each.

pub mod check;
mod objects;
pub mod table;
pub mod trace;
