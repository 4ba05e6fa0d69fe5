//! Direct connections: those that clients have straight to an endpoint, past every Service.
//!
//! At the endpoint such a connection has the tuple that a flow whose source is kept would have, if the client used the same
//! port for both; the endpoint can serve only one of them under it. Whoever comes later gets another port there:
//!
//! - What is seen of direct connections, the endpoint's packets above all, is remembered here, so that a flow which opens
//!   later takes another port.
//! - A flow's tuple is claimed, so that a direct connection which begins later is seen; then it gets a flow of its own, whose
//!   frontend is the endpoint itself and whose port towards the endpoint is another one.
//!
//! The memory is bounded and shared by all workers. A bucket is one cache line of eight entries; what is written is what a
//! packet changes, at most once a second. In a full bucket the connection goes that would be forgotten first anyway: one
//! that only began goes before one that both sides know. Who is forgotten may lose its port to a later flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use ringway_shared::FiveTuple;

use crate::af_xdp::claims::Claims;
use crate::clock::Time;
use crate::wire::Kind;
use crate::wire::tcp::Flags;

/// Entries of a bucket.
const WAYS: usize = 8;
/// Buckets: 65,536 connections in 512 KiB.
const BUCKETS: usize = 1 << 13;

/// How certain a connection is, and so for how many seconds it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    /// A TCP handshake.
    Begun = 0,
    /// UDP, SCTP, and TCP after a FIN or RST: as long as the endpoint may remember it.
    Passing = 1,
    /// TCP that goes on: longer than its keepalives are apart.
    Lasting = 2,
}

const LIFETIMES: [u32; 4] = [60, 240, 8_000, 0];

/// Bits of an entry: the tag, the evidence, and the second in which the connection was last seen. 0 is no entry.
const TAG_SHIFT: u32 = 32;
const EVIDENCE_SHIFT: u32 = 30;
const SECOND: u64 = (1 << EVIDENCE_SHIFT) - 1;

/// What all workers know of direct connections.
pub struct DirectConnections {
    buckets: Box<[CachePadded<[AtomicU64; WAYS]>]>,
    claims: Option<Arc<Claims>>,
}

/// The end of an entry's life, in seconds of the clock.
fn end(entry: u64) -> u64 {
    let lifetime = LIFETIMES.get((entry >> EVIDENCE_SHIFT & 3) as usize).copied().unwrap_or_default();
    if entry == 0 { 0 } else { (entry & SECOND) + u64::from(lifetime) }
}

/// Seconds, from 1 on, so that no entry is 0.
fn second(now: Time) -> u64 {
    (now.0 / 1_000_000_000 + 1) & SECOND
}

impl DirectConnections {
    /// Nothing is known, and nobody is told what flows claim: everything comes up.
    pub fn new() -> Arc<Self> {
        Self::with(None)
    }

    /// Nothing is known; flows claim their tuples here.
    pub fn steered_by(claims: Arc<Claims>) -> Arc<Self> {
        Self::with(Some(claims))
    }

    fn with(claims: Option<Arc<Claims>>) -> Arc<Self> {
        let bucket = || CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Arc::new(DirectConnections { buckets: (0..BUCKETS).map(|_| bucket()).collect(), claims })
    }

    /// A flow that keeps its source has this tuple towards its endpoint.
    #[inline]
    pub(crate) fn claim(&self, tuple: &FiveTuple) {
        if let Some(claims) = &self.claims {
            claims.raise(tuple);
        }
    }

    /// It ended.
    #[inline]
    pub(crate) fn disclaim(&self, tuple: &FiveTuple) {
        if let Some(claims) = &self.claims {
            claims.lower(tuple);
        }
    }

    /// The bucket of a connection, by the hashes of its two directions in any order, and its tag.
    #[inline]
    fn place(&self, hashes: [u64; 2]) -> Option<(&[AtomicU64; WAYS], u64)> {
        let hash = hashes[0] ^ hashes[1];
        let bucket = self.buckets.get(hash as usize % BUCKETS)?;
        Some((bucket, hash >> 32))
    }

    /// Remembers the connection of a packet that passes.
    pub(crate) fn note(&self, hashes: [u64; 2], kind: Kind, now: Time) {
        let Some((bucket, tag)) = self.place(hashes) else { return };
        let second = second(now);
        let loaded = bucket.iter().map(|entry| (entry, entry.load(Ordering::Relaxed)));
        let known = loaded.clone().find(|(_, value)| *value != 0 && value >> TAG_SHIFT == tag);
        let alive = known.is_some_and(|(_, value)| end(value) >= second);
        let was_passing =
            alive && known.is_some_and(|(_, value)| value >> EVIDENCE_SHIFT & 3 == Evidence::Passing as u64);
        let evidence = match kind {
            Kind::Tcp { flags, .. } if flags.rst() || flags.fin() => Evidence::Passing,
            Kind::Tcp { flags, .. } if flags.0 & Flags::SYN != 0 => Evidence::Begun,
            // The acknowledgment of the last FIN does not bring it back to life.
            Kind::Tcp { .. } if !was_passing => Evidence::Lasting,
            _ => Evidence::Passing,
        };
        let new = tag << TAG_SHIFT | (evidence as u64) << EVIDENCE_SHIFT | second;
        let place = known.or_else(|| {
            loaded.min_by_key(|(_, value)| end(*value)).filter(|(_, value)| {
                // Who is more certain stays.
                let first = end(*value);
                first < second || first <= end(new)
            })
        });
        if let Some((entry, value)) = place
            && value != new
        {
            // Of two workers that write here at once one wins, and the other's connection is noted by its next packet.
            let _ = entry.compare_exchange(value, new, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether a connection with these hashes is known to go past us.
    pub(crate) fn knows(&self, hashes: [u64; 2], now: Time) -> bool {
        let Some((bucket, tag)) = self.place(hashes) else { return false };
        let second = second(now);
        bucket
            .iter()
            .map(|entry| entry.load(Ordering::Relaxed))
            .any(|value| value != 0 && value >> TAG_SHIFT == tag && end(value) >= second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn hashes(number: u64) -> [u64; 2] {
        let hash = |word: u64| {
            let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        };
        [hash(2 * number + 1), hash(2 * number + 2)]
    }

    fn tcp(flags: u8) -> Kind {
        Kind::Tcp { flags: Flags(flags), payload: false }
    }

    #[test]
    fn both_directions_are_one_connection_that_lasts_as_long_as_its_evidence() {
        let direct = DirectConnections::new();
        for (number, kind, seconds) in [
            (1, tcp(Flags::SYN | Flags::ACK), 60),
            (2, Kind::Udp, 240),
            (3, Kind::Sctp, 240),
            (4, tcp(Flags::RST), 240),
            (5, tcp(Flags::ACK), 8_000),
        ] {
            let [one, other] = hashes(number);
            direct.note([one, other], kind, Time(0));
            assert!(direct.knows([other, one], Time(seconds * SECOND_NS)), "{kind:?}");
            assert!(!direct.knows([other, one], Time((seconds + 1) * SECOND_NS)), "{kind:?}");
            direct.note([other, one], kind, Time(seconds * SECOND_NS));
            assert!(direct.knows([one, other], Time((seconds + 1) * SECOND_NS)), "{kind:?} goes on");
        }
        assert!(!direct.knows(hashes(6), Time(0)));
    }

    #[test]
    fn a_flood_of_handshakes_pushes_out_no_connection_that_lasts() {
        let direct = DirectConnections::new();
        (0..1_000).for_each(|number| direct.note(hashes(number), tcp(Flags::ACK), Time(0)));
        let known = |direct: &DirectConnections, now| (0..1_000).filter(|n| direct.knows(hashes(*n), now)).count();
        let before = known(&direct, Time(0));
        assert!(before > 990, "{before}");
        (1_000..500_000).for_each(|number| direct.note(hashes(number), tcp(Flags::SYN), Time(SECOND_NS)));
        assert_eq!(known(&direct, Time(SECOND_NS)), before);
        // What lasts gives way to what lasts longer.
        (1_000..500_000).for_each(|number| direct.note(hashes(number), tcp(Flags::ACK), Time(2 * SECOND_NS)));
        assert!(known(&direct, Time(2 * SECOND_NS)) < 100);
    }
}
