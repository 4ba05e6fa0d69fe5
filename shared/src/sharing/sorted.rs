//! A sorted map in pages.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::Difference;

/// The most entries of a page. A change copies one page, a copy all pointers to them.
const PAGE: usize = 64;

/// A sorted map whose versions share the pages that are equal.
#[derive(Clone, Debug)]
pub struct SortedMap<K, V> {
    // None of them is empty.
    pages: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap { pages: Vec::new(), len: 0 }
    }
}

impl<K, V> SortedMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pages.iter().flat_map(|page| page.iter()).map(|(key, value)| (key, value))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values by key.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// The page that `key` belongs to, and its place there or the one it would get.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let after = self.pages.partition_point(|page| page.first().is_some_and(|(first, _)| first.borrow() <= key));
        let page = after.saturating_sub(1);
        let place =
            self.pages.get(page).map_or(Err(0), |page| page.binary_search_by(|(other, _)| other.borrow().cmp(key)));
        (page, place)
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (page, place) = self.find(key);
        self.pages.get(page)?.get(place.ok()?).map(|(_, value)| value)
    }

    /// Whether `key` has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The entries of pages that this and a newer version do not share, by key. Some of them are equal all the same.
    pub fn differences<'v>(&'v self, newer: &'v Self) -> Vec<Difference<&'v K, &'v V>> {
        let mut differences = Vec::new();
        let [mut old, mut new] = [self, newer].map(|version| Cursor { pages: &version.pages, place: 0 });
        loop {
            // Where both are at the start of a page that is the same, there is nothing to be seen.
            while let (0, 0, [page, older @ ..], [other, newer @ ..]) = (old.place, new.place, old.pages, new.pages)
                && Arc::ptr_eq(page, other)
            {
                (old.pages, new.pages) = (older, newer);
            }
            let order = match (old.entry(), new.entry()) {
                (None, None) => return differences,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let old = if order == Ordering::Greater { None } else { old.take() };
            let new = if order == Ordering::Less { None } else { new.take() };
            let at = old.or(new).map(|(key, _)| key);
            let [old, new] = [old, new].map(|entry| entry.map(|(_, value)| value));
            differences.extend(at.map(|at| Difference { at, old, new }));
        }
    }
}

impl<K: Clone + Ord, V: Clone> SortedMap<K, V> {
    /// Sets the value of `key`; returns the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (number, place) = self.find(&key);
        let place = match place {
            Ok(place) => {
                let page = Arc::make_mut(self.pages.get_mut(number)?);
                return page.get_mut(place).map(|(_, old)| std::mem::replace(old, value));
            }
            Err(place) => place,
        };
        self.len += 1;
        let is_last = number + 1 >= self.pages.len();
        match self.pages.get_mut(number) {
            Some(page) if page.len() < PAGE => Arc::make_mut(page).insert(place, (key, value)),
            // What comes in order leaves full pages behind.
            Some(page) if !(is_last && place == page.len()) => {
                let page = Arc::make_mut(page);
                let mut upper = page.split_off(PAGE / 2);
                match place.checked_sub(page.len()) {
                    Some(place) => upper.insert(place, (key, value)),
                    None => page.insert(place, (key, value)),
                }
                self.pages.insert(number + 1, Arc::new(upper));
            }
            Some(_) | None => self.pages.push(Arc::new(vec![(key, value)])),
        }
        None
    }

    /// Removes `key`; returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (number, place) = self.find(key);
        let place = place.ok()?;
        let page = Arc::make_mut(self.pages.get_mut(number)?);
        let (_, value) = page.remove(place);
        let left = page.len();
        self.len -= 1;
        if left == 0 {
            self.pages.remove(number);
        } else if self.pages.get(number + 1).is_some_and(|next| left + next.len() <= PAGE / 2) {
            let next = self.pages.remove(number + 1);
            if let Some(page) = self.pages.get_mut(number) {
                Arc::make_mut(page).extend(next.iter().cloned());
            }
        }
        Some(value)
    }
}

/// A place in a map that is walked through.
struct Cursor<'v, K, V> {
    pages: &'v [Arc<Vec<(K, V)>>],
    place: usize,
}

impl<'v, K, V> Cursor<'v, K, V> {
    fn entry(&self) -> Option<&'v (K, V)> {
        self.pages.first()?.get(self.place)
    }

    /// The entry; the cursor goes on to the next.
    fn take(&mut self) -> Option<&'v (K, V)> {
        let entry = self.entry();
        self.place += 1;
        if let [page, rest @ ..] = self.pages
            && self.place >= page.len()
        {
            (self.pages, self.place) = (rest, 0);
        }
        entry
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences(other).iter().all(|difference| difference.old == difference.new)
    }
}

impl<K: Clone + Ord, V: Clone> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        entries.into_iter().for_each(|(key, value)| {
            map.insert(key, value);
        });
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_does_what_a_b_tree_does(
            first in 0..600u32,
            steps in prop::collection::vec((0..600u32, any::<u8>(), any::<bool>()), 1..200),
        ) {
            let mut sorted: SortedMap<u32, u8> = (0..first).map(|key| (key, 0)).collect();
            let mut plain: BTreeMap<u32, u8> = (0..first).map(|key| (key, 0)).collect();
            for (key, value, insert) in steps {
                let (older, before) = (sorted.clone(), plain.clone());
                if insert {
                    prop_assert_eq!(sorted.insert(key, value), plain.insert(key, value));
                } else {
                    for key in key..(key + 5) {
                        prop_assert_eq!(sorted.remove(&key), plain.remove(&key));
                    }
                }
                prop_assert!(sorted.iter().eq(plain.iter()));
                prop_assert!(older.iter().eq(before.iter()), "the older version changed");
                prop_assert_eq!((sorted.len(), sorted.is_empty()), (plain.len(), plain.is_empty()));
                prop_assert!((0..600).all(|key| sorted.get(&key) == plain.get(&key)));
                prop_assert!(sorted.pages.iter().all(|page| (1..=PAGE).contains(&page.len())));
                prop_assert_eq!(older == sorted, before == plain);
                let differences = older.differences(&sorted);
                prop_assert!(differences.is_sorted_by_key(|difference| *difference.at));
                prop_assert!(differences.len() <= 6 * PAGE, "{}", differences.len());
                let mut patched = before;
                for Difference { at, old, new } in differences {
                    prop_assert_eq!(patched.get(at), old);
                    match new {
                        Some(new) => patched.insert(*at, *new),
                        None => patched.remove(at),
                    };
                }
                prop_assert_eq!(&patched, &plain);
            }
        }
    }

    #[test]
    fn pages_are_full_when_entries_come_in_order() {
        let map: SortedMap<u32, ()> = (0..10 * PAGE as u32).map(|key| (key, ())).collect();
        assert_eq!(map.pages.len(), 10);
    }
}
