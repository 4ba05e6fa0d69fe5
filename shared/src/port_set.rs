//! A set of ports as a few ranges, for source ports after masquerade.
//!
//! Ranges are sorted, disjoint and never adjacent, so that a set has one form. There are at most [`PortSet::MOST_RANGES`]
//! of them: workers go through them for packets of other workers' flows.

use std::fmt::{Display, Formatter};
use std::ops::{Range, RangeInclusive};

/// Ports, port 0 never among them. Port number `rank` of the set is the one that so many smaller ones are before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PortSet {
    ranges: Box<[Ports]>,
    len: u32,
}

/// One range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ports {
    first: u16,
    last: u16,
    // How many ports of the set come before it.
    before: u32,
}

impl PortSet {
    /// The most ranges that a set has.
    pub const MOST_RANGES: usize = 16;

    /// The ports of all these ranges; `None` when that takes more than [`Self::MOST_RANGES`].
    pub fn of(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Option<Self> {
        let set = Self::whole(ranges);
        (set.ranges.len() <= Self::MOST_RANGES).then_some(set)
    }

    /// As [`Self::of`]; where that takes more ranges than a set has, the widest ones.
    pub fn widest_of(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        let mut ranges: Vec<_> = Self::whole(ranges).ranges().collect();
        // A stable sort: of equals the first ones.
        ranges.sort_by_key(|range| std::cmp::Reverse(range.len()));
        ranges.truncate(Self::MOST_RANGES);
        Self::whole(ranges)
    }

    fn whole(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        let mut sorted: Vec<(u16, u16)> = ranges
            .into_iter()
            .map(|range| (*range.start().max(&1), *range.end()))
            .filter(|(first, last)| first <= last)
            .collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::new();
        for (first, last) in sorted {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        let mut len = 0;
        let ranges = joined.into_iter().map(|(first, last)| {
            let before = len;
            len += u32::from(last - first) + 1;
            Ports { first, last, before }
        });
        PortSet { ranges: ranges.collect(), len }
    }

    /// How many ports there are.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges, the lowest first.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = RangeInclusive<u16>> {
        self.ranges.iter().map(|range| range.first..=range.last)
    }

    /// The port that `rank` smaller ones are before; 0 when there are not so many.
    #[inline]
    pub fn nth(&self, rank: u32) -> u16 {
        for range in &*self.ranges {
            let place = rank - range.before;
            if place <= u32::from(range.last - range.first) {
                return range.first + place as u16;
            }
        }
        0
    }

    /// How many smaller ports there are than this one, when it is one of the set.
    #[inline]
    pub fn rank(&self, port: u16) -> Option<u32> {
        // The first range that does not end before the port.
        let range = self.ranges.iter().find(|range| port <= range.last)?;
        Some(range.before + u32::from(port.checked_sub(range.first)?))
    }

    /// Whether a port is one of the set.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        self.rank(port).is_some()
    }

    /// The ports with these ranks.
    #[must_use]
    pub fn part(&self, ranks: Range<u32>) -> Self {
        Self::whole(self.ranges.iter().filter_map(|range| {
            let end = range.before + u32::from(range.last - range.first) + 1;
            let (from, to) = (ranks.start.max(range.before), ranks.end.min(end));
            let port = |rank: u32| range.first + (rank - range.before) as u16;
            (from < to).then(|| port(from)..=port(to - 1))
        }))
    }
}

impl From<RangeInclusive<u16>> for PortSet {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self::whole([range])
    }
}

/// As the configuration has it: `1024-29999,61000-65535`.
impl Display for PortSet {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (number, Ports { first, last, .. }) in self.ranges.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_port_0_is_none() {
        let set = PortSet::of([61_000..=65_535, 0..=9, 20..=29, 10..=19, 5..=12]).unwrap();
        assert_eq!(set.to_string(), "1-29,61000-65535");
        assert_eq!(set.len(), 29 + 4536);
        assert_eq!(PortSet::from(7..=7).to_string(), "7");
        assert_eq!(PortSet::from(1..=u16::MAX).len(), 65_535);
        #[allow(clippy::reversed_empty_ranges, reason = "what is refused")]
        let empty = PortSet::from(9..=8);
        assert!(empty.is_empty());
        assert_eq!((empty.nth(0), empty.rank(9)), (0, None));
    }

    #[test]
    fn of_too_many_ranges_the_widest_stay() {
        let ranges = || (1..=17u16).map(|number| number * 100..=number * 100 + 20 - number);
        assert_eq!(PortSet::of(ranges()), None);
        assert_eq!(PortSet::of(ranges().take(16)).map(|set| set.ranges().len()), Some(16));
        let set = PortSet::widest_of(ranges());
        assert_eq!(set, PortSet::of(ranges().take(16)).unwrap());
    }

    proptest! {
        #[test]
        fn a_set_is_what_its_ports_are(
            ranges in prop::collection::vec((any::<u16>(), 0..300u16), 0..12),
            ports in prop::collection::vec(any::<u16>(), 20),
            cuts in prop::array::uniform2(0.0..1.1f64),
        ) {
            let ranges: Vec<_> = ranges.iter().map(|(first, more)| *first..=first.saturating_add(*more)).collect();
            let oracle: Vec<u16> =
                ranges.iter().cloned().flatten().filter(|port| *port != 0).collect::<BTreeSet<_>>().into_iter().collect();
            let set = PortSet::of(ranges).unwrap();
            prop_assert_eq!(set.len() as usize, oracle.len());
            prop_assert_eq!(&set.ranges().flatten().collect::<Vec<_>>(), &oracle);
            for (rank, port) in oracle.iter().enumerate() {
                prop_assert_eq!(set.nth(rank as u32), *port);
                prop_assert_eq!(set.rank(*port), Some(rank as u32));
            }
            prop_assert_eq!(set.nth(oracle.len() as u32), 0);
            for port in ports {
                prop_assert_eq!(set.contains(port), oracle.contains(&port));
            }
            let [from, to] = cuts.map(|cut| (cut * oracle.len() as f64) as usize);
            let part: Vec<u16> = oracle.get(from..to.min(oracle.len())).unwrap_or_default().to_vec();
            prop_assert_eq!(set.part(from as u32..to as u32).ranges().flatten().collect::<Vec<_>>(), part);
        }
    }
}
