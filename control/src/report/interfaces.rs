//! Interfaces as `status` shows them.

use serde::{Deserialize, Serialize};

/// An interface that Ringway is attached to, or could not be attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// Its ifindex.
    pub index: u32,
    /// Whether it can carry packets.
    pub up: bool,
    /// `native` or `generic`; `null` when it is not attached.
    pub mode: Option<String>,
    /// Why not native.
    pub mode_reason: Option<String>,
    /// Its queues.
    pub ports: Vec<PortReport>,
    /// The TAP device that gives packets back to the kernel.
    pub tap: Option<String>,
    /// What the TAP device does not do as the interface itself.
    pub tap_notes: Vec<String>,
    /// Why there is no TAP device.
    pub tap_problem: Option<String>,
    /// How often that device was set up again, because somebody had changed it or taken it away.
    #[serde(default)]
    pub tap_mended: u64,
    /// What was wrong the last time.
    #[serde(default)]
    pub tap_last_mend: Option<String>,
    /// Why it is not attached.
    pub problem: Option<String>,
}

/// One queue of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortReport {
    /// The queue.
    pub queue: u32,
    /// The worker that polls it.
    pub worker: u16,
    /// `zero-copy` or `copy`.
    pub copy: String,
    /// Why not zero-copy.
    pub copy_reason: Option<String>,
}
