//! Claims: the tuples at endpoints that are taken by flows whose source is kept.
//!
//! A client that goes straight to an endpoint is none of our business, unless that endpoint would take its packets for
//! those of a flow. The steering program therefore sends up what goes to an endpoint under a claimed tuple, and nothing else
//! that goes to endpoints. It cannot look into the workers' tables, so both sides share an array of counters: a flow raises
//! the counter of its tuple when it opens and lowers it when it ends. Two tuples may share a counter; then packets come up
//! that the worker passes on, which costs them a detour and no more.
#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use ringway_shared::FiveTuple;
use rustix::io::Errno;

use super::mapping::Mapping;

/// Counters, as the steering program has them.
const COUNTERS: usize = 1 << 20;

/// The counters, shared with the steering program and between workers.
#[derive(Debug)]
pub struct Claims(Mapping);

impl Claims {
    /// The counters of the steering program's map.
    pub(super) fn of_map(map: impl AsFd) -> Result<Self, Errno> {
        Mapping::shared(map, 0, COUNTERS * size_of::<AtomicU32>()).map(Claims)
    }

    /// Counters that no program reads.
    pub fn unread() -> Result<Self, Errno> {
        Mapping::anonymous(COUNTERS * size_of::<AtomicU32>()).map(Claims)
    }

    /// The place of a tuple: `claim_of` of the steering program.
    #[inline]
    fn place(tuple: &FiveTuple) -> u64 {
        let [source, destination] = [tuple.source, tuple.destination];
        let ports = u64::from(tuple.destination_port().to_be()) << 16 | u64::from(tuple.source_port().to_be());
        let last = (tuple.ports & 0xff) << 32 | ports;
        let words = [source[0].to_be(), source[1].to_be(), destination[0].to_be(), destination[1].to_be(), last];
        let hash = words.into_iter().fold(0u64, |hash, word| {
            let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            product ^ (product >> 32)
        });
        hash >> 44
    }

    #[inline]
    fn counter(&self, tuple: &FiveTuple) -> Option<&AtomicU32> {
        let counter = self.0.at::<AtomicU32>(Self::place(tuple) * size_of::<AtomicU32>() as u64, 1)?;
        // SAFETY: `at` proved that the counter lies inside the mapping, aligned; the mapping lives as long as `self`, is
        // zeroed at first, and everybody who writes there does so by atomic operations.
        Some(unsafe { counter.as_ref() })
    }

    /// One more flow has `tuple` towards its endpoint.
    #[inline]
    pub fn raise(&self, tuple: &FiveTuple) {
        if let Some(counter) = self.counter(tuple) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One flow less has it.
    #[inline]
    pub fn lower(&self, tuple: &FiveTuple) {
        if let Some(counter) = self.counter(tuple) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether packets under this tuple come up.
    pub fn has(&self, tuple: &FiveTuple) -> bool {
        self.counter(tuple).is_some_and(|counter| counter.load(Ordering::Relaxed) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_shared::Protocol;

    #[test]
    fn a_claim_stays_until_the_last_flow_with_it_ends() {
        let claims = Claims::unread().unwrap();
        let tuple = |port: u16| {
            FiveTuple::new(Protocol::Udp, format!("10.0.1.9:{port}").parse().unwrap(), "10.0.1.3:53".parse().unwrap())
        };
        assert!(!claims.has(&tuple(7)));
        claims.raise(&tuple(7));
        claims.raise(&tuple(7));
        claims.lower(&tuple(7));
        assert!(claims.has(&tuple(7)) && !claims.has(&tuple(8)) && !claims.has(&tuple(7).reversed()));
        claims.lower(&tuple(7));
        assert!(!claims.has(&tuple(7)));
    }

    #[test]
    fn tuples_that_count_up_spread_evenly() {
        let places: std::collections::HashSet<u64> = (0..32_768u16)
            .map(|port| {
                let client = format!("10.0.1.9:{}", 1024 + port).parse().unwrap();
                Claims::place(&FiveTuple::new(Protocol::Tcp, client, "10.0.1.3:80".parse().unwrap()))
            })
            .collect();
        // By chance alone 505 of them share a place.
        assert!(places.len() > 32_000, "{}", places.len());
    }
}
