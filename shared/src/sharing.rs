//! Collections that share what is equal between one version and the next: a copy costs some hundred pointers however much
//! it holds, and a change copies only the part that it touches. Two versions are compared part by part.

mod paged;
mod sharded;
mod sorted;

pub use paged::PagedVec;
pub use sharded::{Entry, ShardedMap};
pub use sorted::SortedMap;

/// What two versions of a collection have at one place; never neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<P, T> {
    /// The place.
    pub at: P,
    /// What the older version has there.
    pub old: Option<T>,
    /// What the newer version has there.
    pub new: Option<T>,
}
