//! Next hops that workers ask for and that nobody vouches for: sources of packets, forged ones among them.
//!
//! Each is a question to the kernel, asked once; a packet that comes again asks again. So many wait, so many are under way,
//! and one that fails leaves nothing behind, here or in the kernel's own tables, which are small and shared by everybody.
//!
//! In a flood of forged sources a client is told by what it does: it answers at once, so nobody who does not is waited for
//! while others wait, and it sends again, so who asked before comes first. IPv4 and IPv6 have a table each in the kernel,
//! and their questions do not meet here either.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Key;
use super::earlier::Earlier;
use super::lane::Rate;

/// How many wait to be asked for; the oldest gives way. As many again wait that asked before.
pub(super) const WAITING: usize = 512;
/// How many the kernel is asking for at once: an eighth of what its table holds by default (gc_thresh3).
pub(super) const ASKED: usize = 128;
/// Questions a second, answered ones included.
const A_SECOND: u32 = 1000;
/// How long one waits: packets wait no longer.
const WAIT: Duration = Duration::from_secs(1);
/// The kernel gives up after 3 s; when it says nothing, the question ends here.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same while others wait to be asked for.
const PRESSED: Duration = Duration::from_millis(250);
/// Of so many questions one is of somebody who did not ask before, if there are both.
const NEW_EVERY: u32 = 4;

/// The questions of both families.
#[derive(Debug)]
pub(super) struct Clients {
    v4: Questions,
    v6: Questions,
}

impl Clients {
    pub(super) fn new() -> Self {
        Clients { v4: Questions::new(), v6: Questions::new() }
    }

    pub(super) fn of(&mut self, key: &Key) -> &mut Questions {
        match key.1 {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        }
    }

    pub(super) fn both(&self) -> [&Questions; 2] {
        [&self.v4, &self.v6]
    }

    pub(super) fn each(&mut self) -> [&mut Questions; 2] {
        [&mut self.v4, &mut self.v6]
    }

    /// When there is something to do next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.both().into_iter().filter_map(Questions::next_due).min()
    }
}

/// The questions of one family.
#[derive(Debug)]
pub(super) struct Questions {
    waiting: VecDeque<(Instant, Key)>,
    /// Those that wait and asked before.
    again: VecDeque<(Instant, Key)>,
    earlier: Earlier,
    turn: u32,
    queued: HashSet<Key>,
    asked: HashMap<Key, Instant>,
    order: VecDeque<(Instant, Key)>,
    over: Vec<Key>,
    rate: Rate,
    /// Questions that gave way.
    pub(super) gave_way: u64,
    /// Next hops that did not answer.
    pub(super) silent: u64,
    /// The last one of these, and when its question ended.
    pub(super) last_silent: Option<(Instant, Key)>,
}

impl Questions {
    fn new() -> Self {
        Questions {
            waiting: VecDeque::new(),
            again: VecDeque::new(),
            earlier: Earlier::new(),
            turn: 0,
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
        let queue = match self.earlier.asked_before(&key, now) {
            true => &mut self.again,
            false => &mut self.waiting,
        };
        if queue.len() >= WAITING
            && let Some((_, oldest)) = queue.pop_front()
        {
            self.queued.remove(&oldest);
            self.gave_way += 1;
        }
        queue.push_back((now, key));
    }

    /// The kernel knows it.
    pub(super) fn answered(&mut self, key: &Key) {
        self.asked.remove(key);
    }

    /// The kernel gave up.
    pub(super) fn failed(&mut self, key: &Key, now: Instant) {
        if self.asked.remove(key).is_some() {
            self.end(*key, now);
        }
    }

    fn end(&mut self, key: Key, now: Instant) {
        self.silent += 1;
        self.last_silent = Some((now, key));
        self.over.push(key);
    }

    /// What the kernel need not remember any more: it answered nothing.
    pub(super) fn over(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.over)
    }

    /// Ends what takes too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.end_oldest(PATIENCE, now) {}
        for queue in [&mut self.waiting, &mut self.again] {
            while let Some((since, key)) = queue.front().copied()
                && now.saturating_duration_since(since) >= WAIT
            {
                queue.pop_front();
                self.queued.remove(&key);
                self.gave_way += 1;
            }
        }
    }

    /// Ends the question that has been under way for longest, if that is so long; whether it was.
    fn end_oldest(&mut self, patience: Duration, now: Instant) -> bool {
        while let Some((asked, key)) = self.order.front().copied() {
            let current = self.asked.get(&key) == Some(&asked);
            if current && now.saturating_duration_since(asked) < patience {
                return false;
            }
            self.order.pop_front();
            if current {
                self.asked.remove(&key);
                self.end(key, now);
                return true;
            }
        }
        false
    }

    /// The next one to ask for now; `known` ones are none any more.
    pub(super) fn pop(&mut self, now: Instant, known: impl Fn(&Key) -> bool) -> Option<Key> {
        loop {
            let first = match (self.waiting.front(), self.again.front()) {
                (Some(new), Some(again)) => {
                    if self.turn.is_multiple_of(NEW_EVERY) {
                        new
                    } else {
                        again
                    }
                }
                (new, again) => new.or(again)?,
            };
            let (_, key) = *first;
            let known = known(&key);
            let room = known || self.asked.len() < ASKED || self.end_oldest(PRESSED, now);
            if !room || (!known && !self.rate.admit(now)) {
                return None;
            }
            for queue in [&mut self.waiting, &mut self.again] {
                if queue.front().is_some_and(|(_, front)| *front == key) {
                    queue.pop_front();
                }
            }
            self.queued.remove(&key);
            if !known {
                self.turn = self.turn.wrapping_add(1);
                self.asked.insert(key, now);
                self.order.push_back((now, key));
                return Some(key);
            }
        }
    }

    /// When there is something to do next.
    fn next_due(&self) -> Option<Instant> {
        let oldest = self.order.front().map(|(asked, _)| *asked);
        let since = [self.waiting.front(), self.again.front()].into_iter().flatten().map(|(since, _)| *since).min();
        let waiting = since.map(|since| {
            let free = self.rate.free_at().map_or(since, |free| free.max(since));
            match oldest.filter(|_| self.asked.len() >= ASKED) {
                None => free,
                Some(oldest) => (oldest + PRESSED).max(free).min(since + WAIT),
            }
        });
        oldest.map(|oldest| oldest + PATIENCE).into_iter().chain(waiting).min()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() + self.again.len()
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn forged(number: u128) -> Key {
        (2, Ipv6Addr::from_bits((0xfd77 << 112) | number).into())
    }

    #[test]
    fn a_client_is_asked_for_in_a_flood_when_it_sends_its_syn_again() {
        let (mut clients, start) = (Clients::new(), Instant::now());
        let (client, other) = (forged(u128::from(u64::MAX)), (2, Ipv4Addr::new(10, 77, 0, 12).into()));
        let mut asked = Vec::new();
        // 30,000 a second, as workers bring them; the client begins at 10 s and sends again after 1 s and 3 s.
        for milli in 0..14_000_u32 {
            let now = start + Duration::from_millis(1) * milli;
            (0..15).for_each(|part| clients.v6.request(forged(u128::from(milli * 30 + part)), now));
            if [10_000, 11_000, 13_000].contains(&milli) {
                clients.of(&client).request(client, now);
                clients.of(&other).request(other, now);
            }
            (15..30).for_each(|part| clients.v6.request(forged(u128::from(milli * 30 + part)), now));
            for questions in clients.each() {
                questions.expire(now);
                asked.extend(std::iter::from_fn(|| questions.pop(now, |_| false)).map(|key| (milli, key)));
                assert!(questions.asked() <= ASKED && questions.waiting() <= 2 * WAITING);
                questions.over();
            }
        }
        let first = |key| asked.iter().find(|(_, asked)| *asked == key).map(|(milli, _)| *milli);
        assert_eq!(first(other), Some(10_000), "the other family's table is another");
        assert!(first(client).is_some_and(|milli| milli <= 11_250), "{:?}", first(client));
        assert!(asked.len() > 14 * 400, "strangers who do not answer are not waited for: {}", asked.len());
        assert!(asked.len() <= 14 * 1000, "{}", asked.len());
    }

    #[test]
    fn who_is_slow_has_time_when_nobody_else_waits() {
        let (mut clients, start) = (Clients::new(), Instant::now());
        let ask = |questions: &mut Questions, now| std::iter::from_fn(|| questions.pop(now, |_| false)).count();
        (0..ASKED as u128).for_each(|number| clients.v6.request(forged(number), start));
        assert_eq!(ask(&mut clients.v6, start), ASKED);
        let later = start + PATIENCE - PRESSED;
        clients.v6.expire(later);
        assert_eq!((clients.v6.asked(), clients.v6.over()), (ASKED, Vec::new()));
        // One more, and the oldest gives way.
        clients.v6.request(forged(1000), later);
        assert_eq!(ask(&mut clients.v6, later), 1);
        assert_eq!((clients.v6.asked(), clients.v6.over()), (ASKED, vec![forged(0)]));
    }

    #[test]
    fn memories_end() {
        let (mut earlier, start) = (Earlier::new(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!earlier.asked_before(&forged(1), at(0)));
        assert!(!earlier.asked_before(&forged(1), at(900)), "the same generation");
        // A SYN comes again after 1 s and 3 s.
        assert!(earlier.asked_before(&forged(1), at(1000)));
        assert!(!earlier.asked_before(&forged(2), at(2500)));
        assert!(earlier.asked_before(&forged(1), at(3000)));
        assert!(!earlier.asked_before(&forged(1), at(9000)));
    }
}
