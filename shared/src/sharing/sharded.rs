//! A hash map in shards.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Difference;

/// How many shards there are. A change copies one of them, a copy all pointers to them: at tens of thousands of entries
/// both are a few hundred.
const SHARDS: usize = 256;

type Shard<K, V> = Arc<HashTable<(K, V)>>;

/// A hash map whose versions share the shards that are equal. Reading costs one pointer more than from a plain one.
#[derive(Clone, Debug)]
pub struct ShardedMap<K, V> {
    hasher: DefaultHashBuilder,
    // None as long as nothing was put in, else `SHARDS`.
    shards: Box<[Shard<K, V>]>,
    len: usize,
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        ShardedMap { hasher: DefaultHashBuilder::default(), shards: Box::default(), len: 0 }
    }
}

/// The shard of a hash: by bits that place nothing within the shard.
#[inline]
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl<K, V> ShardedMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|(key, value)| (key, value))
    }

    /// The keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Eq + Hash, V> ShardedMap<K, V> {
    /// The value of `key`.
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        self.shards.get(shard_of(hash))?.find(hash, |(other, _)| other == key).map(|(_, value)| value)
    }

    /// Whether `key` has a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// The entries of shards that this and a newer version do not share. Some of them are equal all the same.
    pub fn differences<'v>(&'v self, newer: &'v Self) -> impl Iterator<Item = Difference<&'v K, &'v V>> {
        let shards = (0..SHARDS).filter_map(move |number| {
            let [old, new] = [self, newer].map(|version| version.shards.get(number));
            let shared = matches!((old, new), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
            (!shared).then_some((old, new))
        });
        // Versions that have nothing to do with each other may hash differently, so keys are looked for everywhere.
        shards.flat_map(move |(old, new)| {
            let kept = old.into_iter().flat_map(|shard| shard.iter());
            let kept = kept.map(|(at, old)| Difference { at, old: Some(old), new: newer.get(at) });
            let added = new.into_iter().flat_map(|shard| shard.iter()).filter(|(at, _)| !self.contains_key(at));
            kept.chain(added.map(|(at, new)| Difference { at, old: None, new: Some(new) }))
        })
    }
}

impl<K: Clone + Eq + Hash, V: Clone> ShardedMap<K, V> {
    /// The shard that `key` belongs into, for writing, with the hash and what it takes to hash.
    fn shard(&mut self, key: &K) -> (&mut HashTable<(K, V)>, u64, &DefaultHashBuilder) {
        if self.shards.is_empty() {
            let empty = Arc::new(HashTable::new());
            self.shards = (0..SHARDS).map(|_| empty.clone()).collect();
        }
        let hash = self.hasher.hash_one(key);
        (Arc::make_mut(&mut self.shards[shard_of(hash)]), hash, &self.hasher)
    }

    /// Sets the value of `key`; returns the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (shard, hash, hasher) = self.shard(&key);
        if let Some((_, old)) = shard.find_mut(hash, |(other, _)| *other == key) {
            return Some(std::mem::replace(old, value));
        }
        shard.insert_unique(hash, (key, value), |(key, _)| hasher.hash_one(key));
        self.len += 1;
        None
    }

    /// Removes `key`; returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        // What is not there is no reason to copy anything.
        if !self.contains_key(key) {
            return None;
        }
        let (shard, hash, _) = self.shard(key);
        let found = shard.find_entry(hash, |(other, _)| other == key).ok()?;
        let ((_, value), _) = found.remove();
        self.len -= 1;
        Some(value)
    }

    /// The place of `key`, taken or not.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        Entry { map: self, key }
    }
}

/// The place of a key in a map.
pub struct Entry<'m, K, V> {
    map: &'m mut ShardedMap<K, V>,
    key: K,
}

impl<'m, K: Clone + Eq + Hash, V: Clone> Entry<'m, K, V> {
    /// The value; `value` when there is none.
    pub fn or_insert(self, value: V) -> &'m mut V {
        self.or_insert_with(|| value)
    }

    /// The value; the default one when there is none.
    pub fn or_default(self) -> &'m mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// The value; the one that `make` makes when there is none.
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> &'m mut V {
        let Entry { map, key } = self;
        if !map.contains_key(&key) {
            map.len += 1;
        }
        let (shard, hash, hasher) = map.shard(&key);
        let place = shard.entry(hash, |(other, _)| *other == key, |(key, _)| hasher.hash_one(key));
        &mut place.or_insert_with(|| (key, make())).into_mut().1
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Extend<(K, V)> for ShardedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(key, value)| {
            self.insert(key, value);
        });
    }
}

impl<K: Clone + Eq + Hash, V: Clone> FromIterator<(K, V)> for ShardedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        map.extend(entries);
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::HashMap;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_does_what_a_hash_map_does(steps in prop::collection::vec((0..300u32, any::<u8>(), 0..3), 1..200)) {
            let (mut sharded, mut plain) = (ShardedMap::default(), HashMap::<u32, u8>::new());
            for (key, value, what) in steps {
                let (older, before) = (sharded.clone(), plain.clone());
                match what {
                    0 => prop_assert_eq!(sharded.insert(key, value), plain.insert(key, value)),
                    1 => prop_assert_eq!(sharded.remove(&key), plain.remove(&key)),
                    _ => prop_assert_eq!(sharded.entry(key).or_insert(value), plain.entry(key).or_insert(value)),
                }
                prop_assert_eq!(sharded.iter().map(|(k, v)| (*k, *v)).collect::<HashMap<_, _>>(), plain.clone());
                prop_assert_eq!((sharded.len(), sharded.is_empty()), (plain.len(), plain.is_empty()));
                prop_assert!((0..300).all(|key| sharded.get(&key) == plain.get(&key)));
                prop_assert_eq!(older.iter().map(|(k, v)| (*k, *v)).collect::<HashMap<_, _>>(), before.clone());
                let unrelated: ShardedMap<_, _> = plain.iter().map(|(key, value)| (*key, *value)).collect();
                for newer in [&sharded, &unrelated] {
                    let mut patched = before.clone();
                    for Difference { at, old, new } in older.differences(newer) {
                        prop_assert_eq!(before.get(at), old);
                        match new {
                            Some(new) => patched.insert(*at, *new),
                            None => patched.remove(at),
                        };
                    }
                    prop_assert_eq!(&patched, &plain);
                }
            }
        }
    }

    #[test]
    fn a_change_touches_one_shard() {
        let first: ShardedMap<u32, u32> = (0..25_600).map(|key| (key, key)).collect();
        let mut second = first.clone();
        second.insert(7, 0);
        second.remove(&1_000_000);
        let touched = first.differences(&second).count();
        assert!((10..1_000).contains(&touched), "{touched} of 25,600 entries in 256 shards");
        assert_eq!(first.differences(&second).filter(|d| d.old != d.new).map(|d| *d.at).collect::<Vec<_>>(), [7]);
        assert_eq!(second.differences(&second.clone()).count(), 0);
    }
}
