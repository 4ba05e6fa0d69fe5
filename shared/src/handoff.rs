//! The handoff of snapshots from the control thread to the workers: publish, current, ack.
//!
//! Each worker has a mailbox that holds the newest value it has not taken yet, and a number that tells it whether to look.
//! The publisher keeps every value until all workers have acknowledged a newer one, so that the last reference, and with
//! it the cost of freeing, is always the publisher's. Workers neither wait nor free.
//!
//! Order that loom checks: the mailbox is filled before its number is raised (Release), the worker reads the number
//! (Acquire) before it takes from the mailbox, and raises its ack (Release) after it let go of the old value; the
//! publisher reads the ack (Acquire) before it frees.

use std::collections::VecDeque;

#[cfg(not(loom))]
mod sync {
    pub(super) use crossbeam::utils::CachePadded;
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};

    /// A one-value mailbox. `AtomicCell` of a pointer-sized value is lock-free: one atomic exchange.
    pub(super) struct Mailbox<T>(crossbeam::atomic::AtomicCell<Option<Arc<T>>>);

    impl<T> Mailbox<T> {
        pub(super) const LOCK_FREE: bool = crossbeam::atomic::AtomicCell::<Option<Arc<T>>>::is_lock_free();

        pub(super) fn new(value: Option<Arc<T>>) -> Self {
            Mailbox(crossbeam::atomic::AtomicCell::new(value))
        }

        pub(super) fn exchange(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
            self.0.swap(value)
        }
    }
}

#[cfg(loom)]
mod sync {
    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    pub(super) struct CachePadded<T>(T);

    impl<T> CachePadded<T> {
        pub(super) fn new(value: T) -> Self {
            CachePadded(value)
        }
    }

    impl<T> std::ops::Deref for CachePadded<T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    /// Under loom the exchange is a critical section: linearizable as the hardware's exchange is.
    pub(super) struct Mailbox<T>(loom::sync::Mutex<Option<Arc<T>>>);

    impl<T> Mailbox<T> {
        pub(super) const LOCK_FREE: bool = true;

        pub(super) fn new(value: Option<Arc<T>>) -> Self {
            Mailbox(loom::sync::Mutex::new(value))
        }

        pub(super) fn exchange(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
            std::mem::replace(&mut *self.0.lock().unwrap(), value)
        }
    }
}

use sync::{Arc, AtomicU64, CachePadded, Mailbox, Ordering};

/// What publisher and one reader share.
struct Channel<T> {
    mailbox: Mailbox<T>,
    published: CachePadded<AtomicU64>,
    acked: CachePadded<AtomicU64>,
}

/// The control side of the handoff.
pub struct Publisher<T> {
    channels: Vec<Arc<Channel<T>>>,
    // Oldest first; the last is the current one.
    alive: VecDeque<(u64, Arc<T>)>,
}

/// A worker's side of the handoff.
pub struct Reader<T> {
    channel: Arc<Channel<T>>,
    current: Arc<T>,
    number: u64,
}

impl<T> Publisher<T> {
    /// A publisher with `readers` readers that all start with `first`, publication number 0.
    pub fn new(first: T, readers: usize) -> (Self, Vec<Reader<T>>) {
        const { assert!(Mailbox::<T>::LOCK_FREE, "the mailbox exchange must be lock-free on this machine") };
        let first = Arc::new(first);
        let channels: Vec<_> = (0..readers)
            .map(|_| {
                Arc::new(Channel {
                    mailbox: Mailbox::new(None),
                    published: CachePadded::new(AtomicU64::new(0)),
                    acked: CachePadded::new(AtomicU64::new(0)),
                })
            })
            .collect();
        let readers = channels
            .iter()
            .map(|channel| Reader { channel: channel.clone(), current: first.clone(), number: 0 })
            .collect();
        (Publisher { channels, alive: VecDeque::from([(0, first)]) }, readers)
    }

    /// Publishes `value` to all readers and returns its number.
    pub fn publish(&mut self, value: T) -> u64 {
        let number = self.alive.back().map_or(0, |(number, _)| number + 1);
        let value = Arc::new(value);
        for channel in &self.channels {
            // What comes back was never taken; `alive` still holds it, so nothing is freed here.
            let _untaken = channel.mailbox.exchange(Some(value.clone()));
            channel.published.store(number, Ordering::Release);
        }
        self.alive.push_back((number, value));
        number
    }

    /// The newest value.
    pub fn current(&self) -> Option<&T> {
        self.alive.back().map(|(_, value)| &**value)
    }

    /// The number that every reader has acknowledged: no reader uses anything older.
    pub fn acked(&self) -> u64 {
        let newest = self.alive.back().map_or(0, |(number, _)| *number);
        self.channels.iter().map(|channel| channel.acked.load(Ordering::Acquire)).min().unwrap_or(newest)
    }

    /// The numbers that the readers have acknowledged, in their order.
    pub fn acks(&self) -> impl Iterator<Item = u64> {
        self.channels.iter().map(|channel| channel.acked.load(Ordering::Acquire))
    }

    /// Frees the values that no reader can use any more; returns how many are left.
    pub fn retire(&mut self) -> usize {
        let acked = self.acked();
        while self.alive.len() > 1 && self.alive.front().is_some_and(|(number, _)| *number < acked) {
            self.alive.pop_front();
        }
        self.alive.len()
    }
}

impl<T> Reader<T> {
    /// The newest value: one atomic load when nothing changed. Call it once a batch.
    #[inline]
    pub fn current(&mut self) -> &T {
        let published = self.channel.published.load(Ordering::Acquire);
        if published != self.number {
            self.take(published);
        }
        &self.current
    }

    /// The value of the last [`Reader::current`], without looking for a newer one.
    #[inline]
    pub fn held(&self) -> &T {
        &self.current
    }

    /// Whether a newer value waits to be taken.
    pub fn is_stale(&self) -> bool {
        self.channel.published.load(Ordering::Acquire) != self.number
    }

    #[cold]
    fn take(&mut self, published: u64) {
        // The mailbox may already hold a newer value than `published` says; then the next call finds it empty and only
        // learns the number.
        if let Some(newer) = self.channel.mailbox.exchange(None) {
            self.current = newer;
        }
        self.number = published;
    }

    /// Tells the publisher that this reader uses nothing older than the value it last took. Call it when nothing borrowed
    /// from an older value is left, at the end of a batch.
    #[inline]
    pub fn ack(&self) {
        // Relaxed: only this reader writes it. The store is skipped when there is nothing to say, so that the line stays
        // shared.
        if self.channel.acked.load(Ordering::Relaxed) != self.number {
            self.channel.acked.store(self.number, Ordering::Release);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    /// Notes on which thread a value was freed.
    struct Value(u64, Arc<AtomicU64>);

    impl Drop for Value {
        fn drop(&mut self) {
            // Bit n says that value n was freed.
            self.1.fetch_add(1 << (self.0 * 8), Ordering::SeqCst);
        }
    }

    #[test]
    fn readers_never_go_back_and_only_the_publisher_frees() {
        loom::model(|| {
            let freed = Arc::new(AtomicU64::new(0));
            let (mut publisher, mut readers) = Publisher::new(Value(0, freed.clone()), 1);
            let mut reader = readers.pop().unwrap();
            let freed_by_reader = freed.clone();
            let thread = loom::thread::spawn(move || {
                let mut last = 0;
                for _ in 0..2 {
                    let seen = reader.current().0;
                    assert!(seen >= last, "a reader went back from {last} to {seen}");
                    last = seen;
                    // The value in use has not been freed.
                    assert_eq!((freed_by_reader.load(Ordering::SeqCst) >> (seen * 8)) & 0xff, 0);
                    reader.ack();
                }
                reader
            });
            for number in 1..=2 {
                publisher.publish(Value(number, freed.clone()));
                // Whatever retire leaves, dropping a reader's Arc must never free: the publisher holds what is not acked.
                publisher.retire();
            }
            let reader = thread.join().unwrap();
            let held = reader.held().0;
            publisher.retire();
            assert_eq!((freed.load(Ordering::SeqCst) >> (held * 8)) & 0xff, 0);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn values_are_freed_after_the_last_ack_and_not_before() {
        let (mut publisher, mut readers) = Publisher::new(0, 2);
        assert_eq!(publisher.publish(1), 1);
        assert_eq!(publisher.publish(2), 2);
        assert_eq!(*readers[0].current(), 2);
        readers[0].ack();
        assert_eq!(publisher.acked(), 0);
        assert_eq!(publisher.retire(), 3);
        assert_eq!(*readers[1].current(), 2);
        assert_eq!(publisher.acked(), 0, "not acked yet");
        readers[1].ack();
        assert_eq!(publisher.acked(), 2);
        assert_eq!(publisher.retire(), 1);
        assert_eq!(publisher.acks().collect::<Vec<_>>(), [2, 2]);
    }
}
