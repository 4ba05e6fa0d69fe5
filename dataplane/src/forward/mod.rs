//! What is done to a packet once its fate is known: one rewrite a file.

pub mod nat;
pub mod reject;
