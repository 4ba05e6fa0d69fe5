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
//! silent for longest, but none for one of whom less is known ([`Rank`]); of equals those first that are of the newcomer's own
//! network, so that whoever has an IPv6 network to himself, and proves each of its addresses, pushes out his own. Who is
//! forgotten goes back to its Maglev slot. Two clients of a bucket with the same tag (32 bits, under a secret)
//! would share an endpoint that both may have. An endpoint is known by its address, since it keeps the client on every
//! port: IPv4 as it is, IPv6 by 32 bits of a hash.

use std::cmp::Reverse;
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
/// Nothing is kept of a nanosecond below this power of two: 134 ms. What is left of 30 bits lasts four years.
const UNIT_BITS: u32 = 27;
/// Above the time stands the rank.
const RANK_BIT: u32 = 30;
const UNITS: u32 = u32::MAX >> (u32::BITS - RANK_BIT);
/// No Service remembers a client for longer (86,400 s), in seconds.
const LONGEST: u64 = 86_400;

/// What is known of a client. None is forgotten for one of a lower rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It opened a connection, as somebody says who may have made it up.
    Named = 0,
    /// It went on with one as if it had heard its endpoint, whose answers nobody sees here (direct server return). Whoever makes it up
    /// has to send several packets for that, and pushes out no more than such clients.
    WentOn = 1,
    /// It has heard its endpoint: who makes clients up never gets that far.
    Heard = 2,
}

/// A client and its endpoint. Word one: tag, [`Rank`] and time of the last new connection; word two: the tag's upper 24 bits, the
/// client's network and the endpoint.
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

/// The network that a second word has.
fn network_of(word: u64) -> u8 {
    (word >> 32) as u8
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

    fn client(&self, affinity: &Affinity, client: IpAddr) -> Option<Client<'_>> {
        let source = address_words(client);
        let key = FiveTuple { source, destination: [affinity.service, 0], ports: 0 };
        let hash = self.hasher.hash(&key);
        let bucket = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        let network = match client {
            IpAddr::V4(_) => 0,
            IpAddr::V6(_) => {
                let [high, _] = source;
                let key = FiveTuple { source: [high, 0], destination: [0; 2], ports: 0 };
                // None has 0, which stands for no network.
                (self.hasher.hash(&key) % 255) as u8 + 1
            }
        };
        Some(Client { bucket: self.buckets.get(bucket as usize)?, tag: hash as u32 | 1, network })
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
        let Client { bucket, tag, network } = self.client(affinity, client)?;
        let endpoint = bucket.iter().find_map(|Entry([seen, endpoint])| {
            let seen = value_of(seen.load(Ordering::Acquire), tag)?;
            let idle = u128::from(age(units(now), seen & UNITS)) << UNIT_BITS;
            let endpoint = value_of(endpoint.load(Ordering::Acquire), second_tag(tag, network))?;
            (idle < affinity.timeout.as_nanos()).then_some(endpoint)
        })?;
        pick(on(set.backends(), client, endpoint, &self.hasher), choice)
    }

    /// Notes that the client opened a connection to this endpoint, as somebody says who may have made the client up.
    pub fn note(&self, affinity: &Affinity, client: IpAddr, endpoint: IpAddr, now: Time) {
        let Some(client) = self.client(affinity, client) else { return };
        let (now, endpoint) = (units(now), client.second_word(short(endpoint, &self.hasher)));
        if let Some((Entry([seen, place]), word)) = client.known() {
            let same = place.load(Ordering::Relaxed) == endpoint;
            place.store(endpoint, Ordering::Release);
            seen.store(tagged(client.tag, now | if same { word as u32 & !UNITS } else { 0 }), Ordering::Release);
            return;
        }
        client.take_place(Rank::Named, now, endpoint);
    }

    /// Notes that so much is known of the client, which has opened a connection to this endpoint.
    pub fn raise(&self, affinity: &Affinity, client: IpAddr, endpoint: IpAddr, rank: Rank, now: Time) {
        let Some(client) = self.client(affinity, client) else { return };
        let (now, endpoint) = (units(now), client.second_word(short(endpoint, &self.hasher)));
        match client.known() {
            Some((Entry([seen, place]), word)) => {
                // Else it went to another one meanwhile.
                if place.load(Ordering::Relaxed) == endpoint && (word as u32) >> RANK_BIT < rank as u32 {
                    // It is the connection that counts, not what follows.
                    let then = word as u32 & UNITS;
                    seen.store(tagged(client.tag, then | (rank as u32) << RANK_BIT), Ordering::Release);
                }
            }
            None => client.take_place(rank, now, endpoint),
        }
    }
}

/// A client, and where it is remembered.
struct Client<'b> {
    bucket: &'b [Entry; WAYS],
    tag: u32,
    /// Of IPv6: a number that its /64 has, and one in 255 others. Of IPv4, where nobody has many addresses, 0.
    network: u8,
}

/// What stands above the endpoint in the second word.
fn second_tag(tag: u32, network: u8) -> u32 {
    tag & !u32::from(u8::MAX) | u32::from(network)
}

impl Client<'_> {
    fn second_word(&self, endpoint: u32) -> u64 {
        tagged(second_tag(self.tag, self.network), endpoint)
    }

    /// Its entry, and the first word of that.
    fn known(&self) -> Option<(&Entry, u64)> {
        let mut words = self.bucket.iter().map(|entry| (entry, entry.0[0].load(Ordering::Relaxed)));
        words.find(|(_, word)| value_of(*word, self.tag).is_some())
    }

    /// Writes it into a blank entry, or over the one that is of least use, unless more is known of all others.
    fn take_place(&self, rank: Rank, now: u32, endpoint: u64) {
        if let Some(Entry([seen, place])) = self.least(rank, now) {
            place.store(endpoint, Ordering::Release);
            seen.store(tagged(self.tag, now | (rank as u32) << RANK_BIT), Ordering::Release);
        }
    }

    /// The entry that is of least use, and none of a higher rank: a blank one, else one of the lowest rank, of its own network, the
    /// oldest. How many another network has is no matter: whoever has many networks would push out those who share one.
    fn least(&self, rank: Rank, now: u32) -> Option<&Entry> {
        let words =
            self.bucket.each_ref().map(|Entry(words)| words.each_ref().map(|word| word.load(Ordering::Relaxed)));
        let is_own = |place: u64| self.network != 0 && network_of(place) == self.network;
        let longest = units(Time(LONGEST * 1_000_000_000));
        let useless = |[seen, place]: [u64; 2]| match (seen, age(now, seen as u32 & UNITS)) {
            (0, _) => (Reverse(0), true, u32::MAX),
            (_, age) if age > longest => (Reverse(0), true, age),
            (seen, age) => (Reverse(seen as u32 >> RANK_BIT), is_own(place), age),
        };
        let entries = self.bucket.iter().zip(words).map(|(entry, words)| (entry, useless(words)));
        let (entry, (Reverse(least), ..)) = entries.max_by_key(|(_, useless)| *useless)?;
        (least <= rank as u32).then_some(entry)
    }
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
