//! Session affinity (rule 19 of the Service semantics): which endpoint a client had last, for all workers and all ports of
//! a Service.
//!
//! The client's address alone picks the Maglev slot for such a Service, so as long as the set does not change all its
//! connections meet at one endpoint without any memory. What is remembered here keeps the client there when the set
//! changes under it. It is read and written when a flow opens, and written when both sides have shown that they hear each other;
//! never for other packets.
//!
//! A bucket is one pair of cache lines with eight entries of two words, each word with the client's tag, so that an entry
//! that another worker is writing is seen as whole or as none: nobody locks. A full bucket forgets the client that was
//! silent for longest, but none whose handshake was ever completed (of UDP: who held a conversation) for one that
//! somebody may have made up; who is forgotten goes back to its Maglev slot. Two clients of a bucket with the same tag (32 bits, under a secret)
//! would share an endpoint that both may have. An endpoint is known by its address, since it keeps the client on every
//! port: IPv4 as it is, IPv6 by 32 bits of a hash.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use ringway_shared::address::address_words;
use ringway_shared::service::Affinity;
use ringway_shared::{Backend, EndpointSet, FiveTuple};

use crate::clock::Time;
use crate::flow::Hasher;

/// Entries of a bucket.
const WAYS: usize = 8;
/// Nothing is kept of a nanosecond below this power of two: 134 ms. What is left of 31 bits lasts nine years.
const UNIT_BITS: u32 = 27;
const UNITS: u32 = u32::MAX >> 1;
/// The bit above the time: the client has heard its endpoint.
const PROVEN: u32 = 1 << 31;
/// No Service remembers a client for longer (86,400 s), in seconds.
const LONGEST: u64 = 86_400;

/// A client and its endpoint. Word one: tag, [`PROVEN`] and time of the last new connection; word two: tag and endpoint.
#[derive(Default)]
struct Entry([AtomicU64; 2]);

/// The clients of all Services with session affinity.
pub struct Affinities {
    buckets: Box<[CachePadded<[Entry; WAYS]>]>,
    hasher: Hasher,
}

/// An entry's tag is never zero, and so no entry that was written is blank.
fn tagged(tag: u32, value: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(value)
}

fn value_of(word: u64, tag: u32) -> Option<u32> {
    ((word >> 32) as u32 == tag).then_some(word as u32)
}

fn units(now: Time) -> u32 {
    (now.0 >> UNIT_BITS) as u32 & UNITS
}

/// How long ago `then` was; no time when it lies ahead, as with a worker whose batch began later.
fn age(now: u32, then: u32) -> u32 {
    let age = now.wrapping_sub(then) & UNITS;
    if age > UNITS / 2 { 0 } else { age }
}

impl Affinities {
    /// Clients that fit with an even spread, by default: 4 MiB.
    pub const CLIENTS: usize = 1 << 18;

    /// Room for `clients`. Workers that share it need no common seed elsewhere.
    pub fn new(clients: usize, seed: u64) -> Arc<Self> {
        let buckets = clients.div_ceil(WAYS).max(1);
        let bucket = || CachePadded::new(std::array::from_fn(|_| Entry::default()));
        Arc::new(Affinities { buckets: (0..buckets).map(|_| bucket()).collect(), hasher: Hasher::new(seed) })
    }

    fn place(&self, affinity: &Affinity, client: IpAddr) -> Option<(&[Entry; WAYS], u32)> {
        let key = FiveTuple { source: address_words(client), destination: [affinity.service, 0], ports: 0 };
        let hash = self.hasher.hash(&key);
        let bucket = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        Some((self.buckets.get(bucket as usize)?, hash as u32 | 1))
    }

    /// The backend of `set` that the client had last, if that is not too long ago and it still may have it. `choice` picks
    /// one of several on the same address.
    pub fn find<'s>(
        &self,
        affinity: &Affinity,
        client: IpAddr,
        set: &'s EndpointSet,
        choice: u64,
        now: Time,
    ) -> Option<&'s Backend> {
        let (bucket, tag) = self.place(affinity, client)?;
        let endpoint = bucket.iter().find_map(|Entry([seen, endpoint])| {
            let seen = value_of(seen.load(Ordering::Acquire), tag)?;
            let idle = u128::from(age(units(now), seen & UNITS)) << UNIT_BITS;
            let endpoint = value_of(endpoint.load(Ordering::Acquire), tag)?;
            (idle < affinity.timeout.as_nanos()).then_some(endpoint)
        })?;
        pick(on(set.backends(), client, endpoint, &self.hasher), choice)
    }

    /// Notes that the client opened a connection to this endpoint, as somebody says who may have made the client up: of those who
    /// have heard their endpoints none is forgotten for it.
    pub fn note(&self, affinity: &Affinity, client: IpAddr, endpoint: IpAddr, now: Time) {
        let Some((bucket, tag)) = self.place(affinity, client) else { return };
        let (now, endpoint) = (units(now), tagged(tag, short(endpoint, &self.hasher)));
        if let Some((Entry([seen, place]), word)) = known(bucket, tag) {
            let same = place.load(Ordering::Relaxed) == endpoint;
            place.store(endpoint, Ordering::Release);
            seen.store(tagged(tag, now | if same { word as u32 & PROVEN } else { 0 }), Ordering::Release);
            return;
        }
        if let Some((Entry([seen, place]), word)) = least(bucket, now)
            && (word as u32 & PROVEN == 0 || age(now, word as u32) > units(Time(LONGEST * 1_000_000_000)))
        {
            place.store(endpoint, Ordering::Release);
            seen.store(tagged(tag, now), Ordering::Release);
        }
    }

    /// Notes that the client has heard the endpoint that it opened a connection to.
    pub fn prove(&self, affinity: &Affinity, client: IpAddr, endpoint: IpAddr, now: Time) {
        let Some((bucket, tag)) = self.place(affinity, client) else { return };
        let (now, endpoint) = (units(now), tagged(tag, short(endpoint, &self.hasher)));
        let (entry, then) = match known(bucket, tag) {
            // It went to another one meanwhile.
            Some((Entry([_, place]), _)) if place.load(Ordering::Relaxed) != endpoint => return,
            // It is the connection that counts, not what follows.
            Some((entry, word)) => (Some(entry), word as u32 & UNITS),
            None => (least(bucket, now).map(|(entry, _)| entry), now),
        };
        if let Some(Entry([seen, place])) = entry {
            place.store(endpoint, Ordering::Release);
            seen.store(tagged(tag, then | PROVEN), Ordering::Release);
        }
    }
}

/// The entry of the client with this tag, and its first word.
fn known(bucket: &[Entry; WAYS], tag: u32) -> Option<(&Entry, u64)> {
    let mut words = bucket.iter().map(|entry| (entry, entry.0[0].load(Ordering::Relaxed)));
    words.find(|(_, word)| value_of(*word, tag).is_some())
}

/// The entry that is of least use, and its first word: a blank one, else one of somebody who may be made up, else the oldest.
fn least(bucket: &[Entry; WAYS], now: u32) -> Option<(&Entry, u64)> {
    let words = bucket.iter().map(|entry| (entry, entry.0[0].load(Ordering::Relaxed)));
    words.max_by_key(|(_, word)| match *word {
        0 => (true, u32::MAX),
        word => (word as u32 & PROVEN == 0, age(now, word as u32)),
    })
}

/// An endpoint's address in 32 bits.
fn short(endpoint: IpAddr, hasher: &Hasher) -> u32 {
    match endpoint {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(_) => {
            hasher.hash(&FiveTuple { source: address_words(endpoint), destination: [0; 2], ports: 0 }) as u32
        }
    }
}

/// The backend of a client that is not known yet: Maglev names the address, and of several on it the one is taken that
/// [`Affinities::find`] will name, so that the first connection goes where all later ones do.
pub fn first(set: &EndpointSet, choice: u64) -> Option<&Backend> {
    let same = at(set.backends(), set.select(choice)?.address);
    pick(same, choice)
}

fn pick(same: &[Backend], choice: u64) -> Option<&Backend> {
    same.get((choice % same.len().max(1) as u64) as usize)
}

/// The backends that an endpoint in 32 bits may mean.
fn on<'s>(backends: &'s [Backend], client: IpAddr, endpoint: u32, hasher: &Hasher) -> &'s [Backend] {
    let address = if client.is_ipv4() {
        Some(IpAddr::V4(endpoint.into()))
    } else {
        let mut addresses = backends.iter().map(|backend| backend.address);
        addresses.find(|address| short(*address, hasher) == endpoint)
    };
    address.map_or(&[], |address| at(backends, address))
}

/// The backends on that address; they are sorted by it.
fn at(backends: &[Backend], address: IpAddr) -> &[Backend] {
    let from = backends.partition_point(|backend| backend.address < address);
    let rest = backends.get(from..).unwrap_or_default();
    let count = rest.partition_point(|backend| backend.address == address);
    rest.get(..count).unwrap_or_default()
}

#[cfg(test)]
mod tests;
