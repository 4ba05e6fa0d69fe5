//! One memory mapping, unmapped when nobody has it any more. UMEM regions and rings stand on it.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// A readable and writable mapping that starts on a page boundary. It hands out raw pointers only: who may read or write
/// which part, and when, is the invariant of its user. A clone is the same memory.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
    _pages: Arc<Pages>,
}

/// Unmaps its pages on drop.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: unmapping is all that it does, once, and any thread may do that.
unsafe impl Send for Pages {}
// SAFETY: as for `Send`; it has no method.
unsafe impl Sync for Pages {}

// SAFETY: the mapping is plain memory that belongs to no thread, and `Mapping` itself never reads or writes it.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; the methods that take `&self` only compute pointers.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed memory that nobody else sees, its pages present.
    pub(crate) fn anonymous(length: usize) -> Result<Self, Errno> {
        Self::private(length, MapFlags::POPULATE)
    }

    /// Zeroed memory that nobody else sees, whose pages come when they are touched.
    pub(crate) fn untouched(length: usize) -> Result<Self, Errno> {
        Self::private(length, MapFlags::empty())
    }

    fn private(length: usize, flags: MapFlags) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a null hint lets the kernel choose a free range, so no live memory is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), length, protection, MapFlags::PRIVATE | flags) }?;
        Self::of(start, length)
    }

    /// `length` bytes of what `fd` offers at `offset`, shared with the kernel.
    pub(crate) fn shared(fd: impl AsFd, offset: u64, length: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a null hint lets the kernel choose a free range, so no live memory is replaced.
        let start =
            unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED | MapFlags::POPULATE, fd, offset) }?;
        Self::of(start, length)
    }

    fn of(start: *mut c_void, length: usize) -> Result<Self, Errno> {
        // The kernel never maps page 0 for a null hint.
        let start = NonNull::new(start.cast::<u8>()).ok_or(Errno::NOMEM)?;
        Ok(Mapping { start, length, _pages: Arc::new(Pages { start, length }) })
    }

    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// A pointer to `count` values of `T` at `offset`; `None` unless they lie inside, aligned.
    pub(crate) fn at<T>(&self, offset: u64, count: usize) -> Option<NonNull<T>> {
        let offset = usize::try_from(offset).ok()?;
        let end = size_of::<T>().checked_mul(count)?.checked_add(offset)?;
        if end > self.length {
            return None;
        }
        // SAFETY: `offset <= end <= length`, so the result stays inside the one mapping.
        let pointer = unsafe { self.start.byte_add(offset) }.cast::<T>();
        pointer.is_aligned().then_some(pointer)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what mmap gave, and whoever holds pointers into it holds a clone of the mapping too.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

/// What a huge page has on the machines that this is for. Where it is another size, the advice below is only less exact.
const HUGE_PAGE: usize = 1 << 21;

/// `count` copies of `value` in memory that the kernel is asked to back with huge pages: a table with random access across
/// hundreds of MiB misses the TLB at every step on pages of 4 KiB. All of it is touched.
pub(crate) fn spread<T: Clone>(count: usize, value: T) -> Box<[T]> {
    let mut memory = Vec::with_capacity(count);
    prefer_huge_pages(memory.spare_capacity_mut());
    memory.resize(count, value);
    memory.into_boxed_slice()
}

fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    let start = memory.as_mut_ptr().cast::<u8>();
    let skip = start.align_offset(HUGE_PAGE);
    let Some(length) = size_of_val(memory).checked_sub(skip).map(|rest| rest & !(HUGE_PAGE - 1)) else { return };
    if length > 0 {
        let start = start.wrapping_add(skip).cast();
        // SAFETY: the range lies inside `memory`, and this advice changes neither contents nor protection.
        let advised = unsafe { madvise(start, length, Advice::LinuxHugepage) };
        // A kernel without huge pages says no; small pages work as well.
        let _ = advised;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_memory_holds_its_values_whatever_its_size() {
        for count in [0, 1, 1000, 3 * HUGE_PAGE / 8] {
            let memory = spread(count, 7_u64);
            assert!(memory.len() == count && memory.iter().all(|value| *value == 7));
        }
    }

    #[test]
    fn pointers_stay_inside_and_aligned() {
        let mapping = Mapping::anonymous(4096).unwrap();
        assert!(mapping.at::<u64>(4088, 1).is_some());
        assert!(mapping.at::<u64>(4088, 2).is_none());
        assert!(mapping.at::<u64>(4, 1).is_none());
        assert!(mapping.at::<u8>(u64::MAX, 1).is_none());
        assert!(mapping.at::<u64>(0, usize::MAX).is_none());
        assert!(mapping.at::<u8>(4096, 0).is_some());
    }
}
