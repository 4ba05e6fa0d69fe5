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
//! The memory is bounded and shared by all workers. A bucket is one cache line of eight entries. Who is forgotten may lose
//! its port to a later flow.
//!
//! **Who sends blindly is not remembered for long.** TCP lasts only when each side has acknowledged exactly what the other
//! sent last, and each by an interface that leads to it. Somebody who forges one of them never sees the numbers of the
//! other. Until then the connection is one of those that are forgotten first, and its client's packets are watched
//! (`watches`): they come up, too. One that lasts gives way to nobody; of the others the one goes that would be forgotten
//! first anyway.

pub(crate) mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringway_shared::FiveTuple;

use crate::af_xdp::claims::Claims;
use crate::clock::Time;
use crate::wire::tcp::{self, Flags};
use crate::wire::{Kind, Packet};

/// Entries of a bucket.
const WAYS: usize = 8;
/// Buckets: 65,536 connections in 1 MiB.
const BUCKETS: usize = 1 << 13;

/// How certain a connection is, and so for how many seconds it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    /// A TCP handshake, or something that came by an interface that does not lead to its source.
    Begun = 0,
    /// UDP, SCTP, and TCP after a FIN or RST: as long as the endpoint may remember it.
    Passing = 1,
    /// TCP that goes on, as far as one side's word tells.
    Going = 2,
    /// TCP that goes on, as both sides have shown: longer than its keepalives are apart.
    Lasting = 3,
}

const LIFETIMES: [u32; 4] = [60, 240, 240, 8_000];

/// Bits of an entry: the tag, the evidence, which sides have acknowledged what the other sent, and the second in which the
/// connection was last seen. 0 is no entry.
const TAG_SHIFT: u32 = 32;
const EVIDENCE_SHIFT: u32 = 30;
const HEARD_SHIFT: u32 = 28;
const SECOND: u64 = (1 << HEARD_SHIFT) - 1;
/// Both sides have.
const BOTH: u64 = 3;

#[derive(Default)]
#[repr(align(64))]
struct Bucket {
    entries: [AtomicU64; WAYS],
    // Where the last segments of both sides ended, of TCP that does not last yet; 0 where that is not known.
    ends: [AtomicU64; WAYS],
}

/// What all workers know of direct connections.
pub struct DirectConnections {
    buckets: Box<[Bucket]>,
    claims: Option<Arc<Claims>>,
}

/// A packet that passes, as far as it tells of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    kind: Kind,
    sequence_end: u32,
    acknowledgment: u32,
}

impl Passed {
    pub(crate) fn of(frame: &[u8], packet: &Packet) -> Self {
        let numbers = tcp::numbers(frame, packet);
        let (sequence_end, acknowledgment) =
            numbers.map_or((0, 0), |numbers| (numbers.sequence.wrapping_add(numbers.length), numbers.acknowledgment));
        Passed { kind: packet.kind, sequence_end, acknowledgment }
    }
}

/// What the caller has to do about a packet that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// Nothing.
    Known,
    /// The other side's packets are to be seen for a while.
    Unproven,
    /// They need not be seen any more.
    Proven,
}

#[inline]
fn evidence(entry: u64) -> u64 {
    entry >> EVIDENCE_SHIFT & 3
}

/// The end of an entry's life, in seconds of the clock.
fn end(entry: u64) -> u64 {
    let lifetime = LIFETIMES.get(evidence(entry) as usize).copied().unwrap_or_default();
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
        Arc::new(DirectConnections { buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(), claims })
    }

    /// A flow that keeps its source has this tuple towards its endpoint, or packets under it are watched.
    #[inline]
    pub(crate) fn claim(&self, tuple: &FiveTuple) {
        if let Some(claims) = &self.claims {
            claims.raise(tuple);
        }
    }

    /// That is over.
    #[inline]
    pub(crate) fn disclaim(&self, tuple: &FiveTuple) {
        if let Some(claims) = &self.claims {
            claims.lower(tuple);
        }
    }

    /// The bucket of a connection, by the hashes of its two directions in any order, and its tag.
    #[inline]
    fn place(&self, hashes: [u64; 2]) -> Option<(&Bucket, u64)> {
        let hash = hashes[0] ^ hashes[1];
        let bucket = self.buckets.get(hash as usize % BUCKETS)?;
        Some((bucket, hash >> 32))
    }

    /// Remembers the connection of a packet that passes. `hashes` are those of its tuple and of the reversed one;
    /// `by_own_way` says whether it came by an interface that leads to its source.
    pub(crate) fn note(
        &self,
        hashes: [u64; 2],
        packet: &Passed,
        now: Time,
        by_own_way: impl FnOnce() -> bool,
    ) -> Noted {
        let Some((bucket, tag)) = self.place(hashes) else { return Noted::Known };
        let second = second(now);
        let loaded =
            bucket.entries.iter().zip(&bucket.ends).map(|(entry, ends)| (entry, entry.load(Ordering::Relaxed), ends));
        let known = loaded.clone().find(|(_, value, _)| *value != 0 && value >> TAG_SHIFT == tag);
        let alive = known.map(|(_, value, _)| value).filter(|value| end(*value) >= second).unwrap_or(0);
        let is_tcp = matches!(packet.kind, Kind::Tcp { .. });
        let lasting = alive != 0 && evidence(alive) == Evidence::Lasting as u64;
        if (lasting || !is_tcp) && alive & SECOND == second && !packet.ends() {
            return Noted::Known;
        }
        let own_way = by_own_way();
        if !own_way && alive != 0 {
            return Noted::Known;
        }
        let found = known.or_else(|| {
            let victim = loaded.min_by_key(|(_, value, _)| (end(*value) >= second && is_lasting(*value), end(*value)));
            victim.filter(|(_, value, _)| end(*value) < second || !is_lasting(*value))
        });
        let Some((entry, value, ends)) = found else { return Noted::Known };
        let side = hashes[0] < hashes[1];
        let (evidence, heard) = match own_way {
            true => packet.tells(alive, if alive == 0 { 0 } else { ends.load(Ordering::Relaxed) }, side),
            false => (Evidence::Begun, 0),
        };
        let unproven = is_tcp && own_way && matches!(evidence, Evidence::Begun | Evidence::Going);
        if unproven {
            let others = if alive == 0 { 0 } else { ends.load(Ordering::Relaxed) & !half(u32::MAX, side) };
            ends.store(others | half(packet.sequence_end, side), Ordering::Relaxed);
        }
        let new = tag << TAG_SHIFT | (evidence as u64) << EVIDENCE_SHIFT | heard << HEARD_SHIFT | second;
        if value != new {
            // Of two workers that write here at once one wins, and the other's connection is noted by its next packet.
            let _ = entry.compare_exchange(value, new, Ordering::Relaxed, Ordering::Relaxed);
        }
        match evidence {
            Evidence::Lasting if !lasting => Noted::Proven,
            _ if unproven && (alive & SECOND != second || alive == 0) => Noted::Unproven,
            _ => Noted::Known,
        }
    }

    /// Whether a connection with these hashes is known to go past us.
    pub(crate) fn knows(&self, hashes: [u64; 2], now: Time) -> bool {
        let Some((bucket, tag)) = self.place(hashes) else { return false };
        let second = second(now);
        bucket
            .entries
            .iter()
            .map(|entry| entry.load(Ordering::Relaxed))
            .any(|value| value != 0 && value >> TAG_SHIFT == tag && end(value) >= second)
    }
}

#[inline]
fn is_lasting(entry: u64) -> bool {
    entry != 0 && evidence(entry) == Evidence::Lasting as u64
}

/// A number at the place of one of both sides.
#[inline]
fn half(number: u32, side: bool) -> u64 {
    u64::from(number) << if side { 32 } else { 0 }
}

impl Passed {
    /// Whether it ends its connection.
    fn ends(&self) -> bool {
        matches!(self.kind, Kind::Tcp { flags, .. } if flags.rst() || flags.fin())
    }

    /// What the connection is after this packet of `side`: its evidence, and who has acknowledged the other. `entry` is what it
    /// was, or 0, and `ends` has where the last segments of both ended.
    fn tells(&self, entry: u64, ends: u64, side: bool) -> (Evidence, u64) {
        let Kind::Tcp { flags, payload } = self.kind else { return (Evidence::Passing, 0) };
        let heard = entry >> HEARD_SHIFT & BOTH;
        if self.ends() {
            return (Evidence::Passing, 0);
        }
        if is_lasting(entry) {
            return (Evidence::Lasting, 0);
        }
        if flags.syn() && !flags.ack() {
            return (Evidence::Begun, 0);
        }
        // The acknowledgment of the last FIN does not bring it back to life; data does.
        if entry != 0 && evidence(entry) == Evidence::Passing as u64 && !payload {
            return (Evidence::Passing, 0);
        }
        let others = (ends >> if side { 0 } else { 32 }) as u32;
        let hears = flags.0 & Flags::ACK != 0 && others != 0 && others == self.acknowledgment;
        let heard = heard | if hears { 1 << u32::from(side) } else { 0 };
        match heard {
            BOTH if !flags.syn() => (Evidence::Lasting, 0),
            _ if flags.syn() => (Evidence::Begun, heard),
            _ => (Evidence::Going, heard),
        }
    }
}

#[cfg(test)]
mod tests;
