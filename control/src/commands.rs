//! The commands, one file each.

pub mod ask;
pub mod check;
pub mod completion;
pub mod config_file;
pub mod drain;
pub mod drops;
pub mod flows;
mod idle;
pub mod man;
pub mod nic;
mod objects;
pub mod reload;
pub mod replay;
pub mod run;
pub mod services;
pub mod status;
pub mod table;
pub mod trace;
