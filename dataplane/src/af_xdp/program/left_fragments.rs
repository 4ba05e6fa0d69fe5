//! How many fragments to the node's own addresses go up, and how many were left to the kernel.

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};

/// How many go up on one CPU in 17 ms: 122,000 a second. Each that a worker passes on costs a system call.
pub(super) const MOST: u64 = 2048;

/// What the program keeps of a CPU: the moment, how many went up in it, how many were left, and how many may go up; then its secret
/// and the shares of sources, which are its own.
type Budget = [u64; 21];
const LEFT: usize = 2;
const MOST_PLACE: usize = 3;

/// The counts of all CPUs.
pub struct LeftFragments(PerCpuArray<MapData, Budget>);

impl LeftFragments {
    pub(super) fn new(budgets: PerCpuArray<MapData, Budget>) -> Self {
        LeftFragments(budgets)
    }

    /// Says how many may go up on a CPU in a moment.
    pub(super) fn allow(&mut self, most: u64) -> Result<(), MapError> {
        let mut budgets: Vec<Budget> = self.0.get(&0, 0)?.to_vec();
        budgets.iter_mut().for_each(|budget| budget[MOST_PLACE] = most);
        self.0.set(0, PerCpuValues::try_from(budgets).map_err(MapError::IoError)?, 0)
    }

    /// How many were left to the kernel since the start.
    pub fn count(&self) -> u64 {
        self.0.get(&0, 0).map_or(0, |budgets| budgets.iter().map(|budget| budget[LEFT]).sum())
    }
}
