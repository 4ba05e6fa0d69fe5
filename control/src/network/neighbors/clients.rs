//! Next hops that workers ask for and that nobody vouches for: sources of packets, forged ones among them.
//!
//! Each is a question to the kernel, asked once; a packet that comes again asks again. So many wait, so many are under way,
//! and one that fails leaves nothing behind, here or in the kernel's own table, which is small and shared by everybody.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::Key;
use super::lane::Rate;

/// How many wait to be asked for; the oldest gives way.
pub(super) const WAITING: usize = 1024;
/// How many the kernel is asking for at once: an eighth of what its table holds by default (gc_thresh3).
pub(super) const ASKED: usize = 128;
/// Questions a second, answered ones included.
const A_SECOND: u32 = 1000;
/// How long one waits: packets wait no longer.
const WAIT: Duration = Duration::from_secs(1);
/// The kernel gives up after 3 s; when it says nothing, the question ends here.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Clients {
    waiting: VecDeque<(Instant, Key)>,
    queued: HashSet<Key>,
    asked: HashMap<Key, Instant>,
    order: VecDeque<(Instant, Key)>,
    over: Vec<Key>,
    rate: Rate,
    /// Questions that gave way.
    pub(super) gave_way: u64,
    /// Next hops that did not answer.
    pub(super) silent: u64,
    /// The last one of these.
    pub(super) last_silent: Option<Key>,
}

impl Clients {
    pub(super) fn new() -> Self {
        Clients {
            waiting: VecDeque::new(),
            queued: HashSet::new(),
            asked: HashMap::new(),
            order: VecDeque::new(),
            over: Vec::new(),
            rate: Rate::a_second(A_SECOND),
            gave_way: 0,
            silent: 0,
            last_silent: None,
        }
    }

    pub(super) fn request(&mut self, key: Key, now: Instant) {
        if self.asked.contains_key(&key) || !self.queued.insert(key) {
            return;
        }
        if self.waiting.len() >= WAITING
            && let Some((_, oldest)) = self.waiting.pop_front()
        {
            self.queued.remove(&oldest);
            self.gave_way += 1;
        }
        self.waiting.push_back((now, key));
    }

    /// The kernel knows it.
    pub(super) fn answered(&mut self, key: &Key) {
        self.asked.remove(key);
    }

    /// The kernel gave up.
    pub(super) fn failed(&mut self, key: &Key) {
        if self.asked.remove(key).is_some() {
            self.end(*key);
        }
    }

    fn end(&mut self, key: Key) {
        self.silent += 1;
        self.last_silent = Some(key);
        self.over.push(key);
    }

    /// What the kernel need not remember any more: it answered nothing.
    pub(super) fn over(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.over)
    }

    /// Ends what takes too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((asked, key)) = self.order.front().copied() {
            let current = self.asked.get(&key) == Some(&asked);
            if current && now.saturating_duration_since(asked) < PATIENCE {
                break;
            }
            self.order.pop_front();
            if current {
                self.asked.remove(&key);
                self.end(key);
            }
        }
        while let Some((since, key)) = self.waiting.front().copied()
            && now.saturating_duration_since(since) >= WAIT
        {
            self.waiting.pop_front();
            self.queued.remove(&key);
            self.gave_way += 1;
        }
    }

    /// The next one to ask for now; `known` ones are none any more.
    pub(super) fn pop(&mut self, now: Instant, known: impl Fn(&Key) -> bool) -> Option<Key> {
        loop {
            let (_, key) = *self.waiting.front().filter(|_| self.asked.len() < ASKED)?;
            let known = known(&key);
            if !known && !self.rate.admit(now) {
                return None;
            }
            self.waiting.pop_front();
            self.queued.remove(&key);
            if !known {
                self.asked.insert(key, now);
                self.order.push_back((now, key));
                return Some(key);
            }
        }
    }

    /// When there is something to do next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let first = self.order.front().map(|(asked, _)| *asked + PATIENCE);
        let waiting = self.waiting.front().map(|(since, _)| match self.asked.len() < ASKED {
            true => self.rate.free_at().map_or(*since, |free| free.max(*since)),
            false => *since + WAIT,
        });
        first.into_iter().chain(waiting).min()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }
}
