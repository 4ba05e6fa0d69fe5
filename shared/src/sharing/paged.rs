//! A list in pages.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use super::Difference;

/// Items of a page.
const PAGE: usize = 128;

/// A list whose versions share the pages that are equal.
#[derive(Clone, Debug)]
pub struct PagedVec<T> {
    pages: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for PagedVec<T> {
    fn default() -> Self {
        PagedVec { pages: Vec::new(), len: 0 }
    }
}

impl<T> PagedVec<T> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item at `place`.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.pages.get(place / PAGE)?.get(place % PAGE)
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }

    /// The items of pages that this and a newer version do not share. Some of them are equal all the same.
    pub fn differences<'v>(&'v self, newer: &'v Self) -> impl Iterator<Item = Difference<usize, &'v T>> {
        let pages = 0..self.pages.len().max(newer.pages.len());
        pages.flat_map(move |number| {
            let [old, new] = [self, newer].map(|version| version.pages.get(number));
            let shared = matches!((old, new), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
            let [old, new] = [old, new].map(|page| page.map_or(&[][..], |page| page.as_slice()));
            let places = 0..if shared { 0 } else { old.len().max(new.len()) };
            places.map(move |place| Difference { at: number * PAGE + place, old: old.get(place), new: new.get(place) })
        })
    }
}

impl<T: Clone> PagedVec<T> {
    /// Makes it longer, by copies of `item`, or shorter.
    pub fn resize(&mut self, len: usize, item: T) {
        self.pages.truncate(len.div_ceil(PAGE));
        while self.pages.len() < len.div_ceil(PAGE) {
            self.pages.push(Arc::default());
        }
        // All but the last of before, which may have been short, and the last of now are as long as they should be.
        for (number, page) in self.pages.iter_mut().enumerate().skip((self.len / PAGE).min(len / PAGE)) {
            let wanted = (len - number * PAGE).min(PAGE);
            if page.len() != wanted {
                Arc::make_mut(page).resize(wanted, item.clone());
            }
        }
        self.len = len;
    }
}

impl<T: Clone> From<Vec<T>> for PagedVec<T> {
    fn from(items: Vec<T>) -> Self {
        PagedVec { pages: items.chunks(PAGE).map(|page| Arc::new(page.to_vec())).collect(), len: items.len() }
    }
}

impl<T> Index<usize> for PagedVec<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        &self.pages[place / PAGE][place % PAGE]
    }
}

impl<T: Clone> IndexMut<usize> for PagedVec<T> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut Arc::make_mut(&mut self.pages[place / PAGE])[place % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_does_what_a_vec_does(steps in prop::collection::vec((0..500usize, any::<u8>(), any::<bool>()), 1..40)) {
            let (mut paged, mut plain) = (PagedVec::default(), Vec::new());
            for (number, item, resize) in steps {
                let (older, before) = (paged.clone(), plain.clone());
                if resize {
                    paged.resize(number, item);
                    plain.resize(number, item);
                } else if !plain.is_empty() {
                    let place = number % plain.len();
                    paged[place] = item;
                    plain[place] = item;
                }
                prop_assert_eq!(paged.iter().copied().collect::<Vec<_>>(), plain.clone());
                prop_assert_eq!((paged.len(), paged.is_empty()), (plain.len(), plain.is_empty()));
                prop_assert_eq!(older.iter().copied().collect::<Vec<_>>(), before.clone(), "the older version changed");
                prop_assert!((0..600).all(|place| paged.get(place) == plain.get(place)));
                let mut patched = before;
                for Difference { at, old, new } in older.differences(&paged) {
                    prop_assert_eq!(patched.get(at).or(old), old);
                    match new {
                        Some(new) if at < patched.len() => patched[at] = *new,
                        Some(new) => patched.push(*new),
                        None => patched.truncate(at),
                    }
                }
                prop_assert_eq!(patched, plain.clone());
            }
            prop_assert_eq!(PagedVec::from(plain.clone()).iter().copied().collect::<Vec<_>>(), plain);
        }
    }

    #[test]
    fn a_change_touches_one_page() {
        let first = PagedVec::from(vec![0; 10 * PAGE]);
        let mut second = first.clone();
        second[3 * PAGE + 5] = 1;
        assert_eq!(first.differences(&second).count(), PAGE);
        assert_eq!(
            first.differences(&second).filter(|d| d.old != d.new).map(|d| d.at).collect::<Vec<_>>(),
            [3 * PAGE + 5]
        );
    }
}
