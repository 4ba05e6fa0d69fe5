//! Namespaces for tests: those of the demo, under names of their own.

pub use ringway_control::demo::netns::{End, Namespace, ip, veth};

use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers the beds of one test process, so that tests may run side by side.
pub fn next_bed() -> u32 {
    static BEDS: AtomicU32 = AtomicU32::new(0);
    BEDS.fetch_add(1, Ordering::Relaxed)
}

/// A namespace of bed number `bed`.
pub fn namespace(bed: u32, role: &str) -> Namespace {
    Namespace::create("test", &format!("{bed}{role}")).unwrap_or_else(|error| panic!("{error}"))
}
