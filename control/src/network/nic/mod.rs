//! What the kernel and its drivers say of a NIC: driver, queues, rings, features, XDP, RSS, interrupts.
//!
//! Asked over generic netlink (families `ethtool` and `netdev`), by ioctl where that has no words, and from /sys and /proc.
//! All of it blocks, for microseconds mostly; a driver that is told something may reset its NIC first, which takes seconds.
//! Nothing is guessed: what a kernel or a driver does not say is a [`NicError`] that tells whether asking again is of use.

mod answers;
mod attributes;
mod changes;
mod cpus;
mod error;
mod facts;
mod findings;
mod generic;
mod interrupts;
mod kernel;
mod links;
mod rss;
mod telling;
mod zero_copy;

pub use answers::{Channels, Driver, Feature, Features, Rings, XdpFeatures};
pub use changes::Changes;
pub use error::NicError;
pub use facts::Surveyor;
pub use findings::{Running, Wish, judge, together};
pub use interrupts::{Interrupt, interrupts};
pub use kernel::Nic;
pub use ringway_dataplane::af_xdp::{HashFields, Hashed};
pub use rss::{HashFunction, Rss};
pub use telling::{driver, flow_hash, numa_node, set_flow_hash};
