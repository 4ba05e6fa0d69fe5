//! The neighbours in numbers, for reports.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Key, Neighbors};
use crate::report::neighbors::{NeighborReport, SilentReport};

/// Why a next hop is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Endpoints are behind it, or it is one.
    Endpoints,
    /// A route leads by it.
    Router,
    /// A client that packets went to lately.
    Client,
}

impl Role {
    /// As reports name it.
    pub fn label(self) -> &'static str {
        match self {
            Role::Endpoints => "endpoints",
            Role::Router => "router",
            Role::Client => "client",
        }
    }
}

/// The neighbours in numbers, and those that are wanted and do not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// With a MAC address.
    pub known: usize,
    /// How many of these gave way because there were too many.
    pub known_gave_way: u64,
    /// Questions of workers that wait to be asked.
    pub waiting: usize,
    /// Those that the kernel is asking.
    pub asked: usize,
    /// Questions of workers that were not asked, because there were too many.
    pub questions_gave_way: u64,
    /// Questions of workers that nobody answered.
    pub unanswered: u64,
    /// The last of these.
    pub last_unanswered: Option<Key>,
    /// Wanted ones that do not answer: since when.
    pub silent: Vec<(Key, Role, Instant)>,
    /// How many these are, listed or not.
    pub silent_count: usize,
}

/// How many silent next hops an [`Overview`] lists.
const LISTED: usize = 100;
/// One that was merely flushed answers within this time.
const FLUSHED: Duration = Duration::from_secs(2);

impl Overview {
    /// As `status` shows it; `name` names the links.
    pub fn report<'n>(&self, name: impl Fn(u32) -> &'n str, now: Instant) -> NeighborReport {
        let silent = |((link, address), role, since): &(Key, Role, Instant)| SilentReport {
            next_hop: address.to_string(),
            interface: name(*link).to_owned(),
            role: role.label().to_owned(),
            seconds: now.saturating_duration_since(*since).as_secs(),
        };
        NeighborReport {
            known: self.known,
            known_gave_way: self.known_gave_way,
            waiting: self.waiting,
            asked: self.asked,
            questions_gave_way: self.questions_gave_way,
            unanswered: self.unanswered,
            last_unanswered: self.last_unanswered.map(|(link, address)| format!("{address} on {}", name(link))),
            silent: self.silent.iter().map(silent).collect(),
            silent_count: self.silent_count,
        }
    }
}

impl Neighbors {
    /// These links are gone: nobody waits for who was looked for there, and nobody is to be told of.
    pub fn leave(&mut self, gone: &[u32]) {
        let there = self.in_use.iter().map(|(_, key)| key).chain(self.silent.keys());
        let lost: BTreeSet<Key> = there.filter(|(link, _)| gone.contains(link)).copied().collect();
        lost.iter().for_each(|key| self.stop_wanting(key));
        for questions in self.clients.each() {
            questions.last_silent = questions.last_silent.filter(|(_, (link, _))| !gone.contains(link));
        }
    }

    /// Numbers and the silent, for a report.
    pub fn overview(&self, now: Instant) -> Overview {
        let role = |key: &Key| match self.wanted.get(key) {
            Some(wanted) if wanted.endpoint => Role::Endpoints,
            _ if self.routers.contains(key) => Role::Router,
            _ => Role::Client,
        };
        let silent = || self.silent.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= FLUSHED);
        let questions = self.clients.both();
        Overview {
            known: self.known.len(),
            known_gave_way: self.known.gave_way,
            waiting: questions.iter().map(|of| of.waiting()).sum(),
            asked: questions.iter().map(|of| of.asked()).sum(),
            questions_gave_way: questions.iter().map(|of| of.gave_way).sum(),
            unanswered: questions.iter().map(|of| of.silent).sum(),
            last_unanswered: questions.iter().filter_map(|of| of.last_silent).max().map(|(_, key)| key),
            silent: silent().take(LISTED).map(|(key, since)| (*key, role(key), *since)).collect(),
            silent_count: silent().count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::neighbors::Errand;

    #[test]
    fn who_was_looked_for_on_a_link_that_is_gone_is_not_told_of() {
        let (mut neighbors, start) = (Neighbors::default(), Instant::now());
        let of = |link| [(link, "192.0.2.1".parse().unwrap()), (link, "192.0.2.2".parse().unwrap())];
        // One that packets left by, and one that a worker asks for.
        for [used, asked] in [of(7), of(8)] {
            neighbors.note_use(used, start);
            neighbors.request(asked, start);
        }
        let seconds = |seconds| start + Duration::from_secs(seconds);
        for second in 0..30 {
            neighbors.errands(seconds(second));
            // It is used still.
            of(7).into_iter().chain(of(8)).step_by(2).for_each(|used| neighbors.note_use(used, seconds(second)));
        }
        let told = |neighbors: &Neighbors| {
            let report =
                neighbors.overview(seconds(30)).report(|link| if link == 8 { "eth0" } else { "?" }, seconds(30));
            let silent = report.silent.iter().map(|one| one.interface.clone()).collect::<Vec<_>>();
            (silent, report.last_unanswered)
        };
        assert_eq!(told(&neighbors).0, ["?", "eth0"]);
        neighbors.leave(&[7]);
        let (silent, last) = told(&neighbors);
        assert_eq!(silent, ["eth0"]);
        assert!(last.is_none_or(|last| last.ends_with(" on eth0")));
        neighbors.leave(&[8]);
        assert_eq!(told(&neighbors), (Vec::new(), None));
        assert!(!neighbors.errands(seconds(60)).iter().any(|errand| matches!(errand, Errand::Ask(_))));
    }
}
