//! Watches: tuples towards endpoints under which a client's packets are seen for a moment, until it is certain that the
//! connection is no forger's. The steering program sends up what is claimed, so a watch is a claim that ends by itself.

use std::collections::VecDeque;
use std::sync::Arc;

use ringway_shared::FiveTuple;

use super::DirectConnections;
use crate::clock::Time;

/// Watches of a worker at once. The oldest gives way.
const MOST: usize = 1024;
/// How long one lasts, in nanoseconds. As long as the endpoint goes on, there is another after it.
const LASTS: u64 = 1_000_000_000;

/// One worker's watches, oldest first.
pub(crate) struct Watches {
    direct: Arc<DirectConnections>,
    // Its capacity is set aside at the start, and never exceeded.
    watched: VecDeque<(FiveTuple, Time)>,
}

impl Watches {
    pub(crate) fn new(direct: Arc<DirectConnections>) -> Self {
        Watches { direct, watched: VecDeque::with_capacity(MOST) }
    }

    /// Packets under this tuple are to be seen.
    pub(crate) fn begin(&mut self, tuple: FiveTuple, now: Time) {
        if self.watched.len() >= MOST {
            self.end_first();
        }
        self.direct.claim(&tuple);
        self.watched.push_back((tuple, now));
    }

    /// They need not be seen any more.
    pub(crate) fn end(&mut self, tuple: &FiveTuple) {
        let direct = &self.direct;
        self.watched.retain(|(watched, _)| {
            let stays = watched != tuple;
            if !stays {
                direct.disclaim(watched);
            }
            stays
        });
    }

    /// Ends those whose time is up. Called once a loop.
    #[inline]
    pub(crate) fn expire(&mut self, now: Time) {
        while self.watched.front().is_some_and(|(_, since)| now.0.saturating_sub(since.0) >= LASTS) {
            self.end_first();
        }
    }

    fn end_first(&mut self) {
        if let Some((tuple, _)) = self.watched.pop_front() {
            self.direct.disclaim(&tuple);
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        while !self.watched.is_empty() {
            self.end_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::af_xdp::claims::Claims;
    use ringway_shared::Protocol;

    fn tuple(port: u16) -> FiveTuple {
        let client = format!("10.0.1.9:{port}").parse().unwrap();
        FiveTuple::new(Protocol::Tcp, client, "10.0.1.3:80".parse().unwrap())
    }

    #[test]
    fn a_watch_ends_by_itself_when_it_is_not_needed_or_when_there_are_too_many() {
        let claims = Arc::new(Claims::unread().unwrap());
        let mut watches = Watches::new(DirectConnections::steered_by(claims.clone()));
        (0..3).for_each(|port| watches.begin(tuple(port), Time(0)));
        watches.begin(tuple(1), Time(LASTS / 2));
        watches.end(&tuple(0));
        watches.expire(Time(LASTS - 1));
        assert!(!claims.has(&tuple(0)) && claims.has(&tuple(1)) && claims.has(&tuple(2)));
        watches.expire(Time(LASTS));
        assert!(claims.has(&tuple(1)) && !claims.has(&tuple(2)));
        watches.end(&tuple(1));
        assert!(!claims.has(&tuple(1)));
        let capacity = watches.watched.capacity();
        (0..5 * MOST as u16).for_each(|port| watches.begin(tuple(port), Time(LASTS)));
        assert_eq!((watches.watched.len(), watches.watched.capacity()), (MOST, capacity));
        assert!(!claims.has(&tuple(0)) && claims.has(&tuple(5 * MOST as u16 - 1)));
        drop(watches);
        assert!((0..5 * MOST as u16).all(|port| !claims.has(&tuple(port))));
    }
}
