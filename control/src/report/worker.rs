//! What reports ask of a worker.

use std::sync::Arc;

use ringway_dataplane::query::Queries;
use ringway_shared::counters::WorkerCounters;

/// A worker as reports see it.
#[derive(Clone)]
pub struct WorkerView {
    /// Its number.
    pub id: u16,
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// How many frames its packet memory has, and of how many bytes.
    pub memory: (u32, u32),
    /// Its counts.
    pub counters: Arc<WorkerCounters>,
    /// Questions to it.
    pub queries: Arc<Queries>,
}
