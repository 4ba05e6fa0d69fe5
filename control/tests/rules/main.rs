//! The Service rules of docs/service-rules.md, one table a rule: manifests in, decisions out.

mod change;
mod dsr;
mod explain;
mod matching;
mod memory;
mod oracle;
mod policy;
mod sets;
mod shares;
mod support;
mod which;
