//! Who wants what: of an address, a NodePort or a health check's port, the Services that claim it, by name.
//!
//! Very many Services may want the same, and one Service very many things: to enter, strike and find a claim costs the
//! logarithm of them at most.

use std::collections::BTreeSet;
use std::hash::Hash;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use ringway_shared::service::ServiceName;

/// That a Service wants something, once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) service: ServiceName,
    /// In which of its lists it says so, and the place there.
    pub(super) kind: usize,
    pub(super) place: usize,
}

/// All claims to one thing; mostly there is only one.
#[derive(Debug)]
pub(super) struct Claimants {
    one: Claim,
    others: BTreeSet<Claim>,
}

impl Claimants {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Claim> {
        std::iter::once(&self.one).chain(&self.others)
    }

    /// Whether this Service says so in its list of this kind.
    pub(super) fn has(&self, service: &ServiceName, kind: usize) -> bool {
        let is_meant = |claim: &Claim| claim.service == *service && claim.kind == kind;
        let first = Claim { service: service.clone(), kind, place: 0 };
        is_meant(&self.one) || self.others.range(first..).next().is_some_and(is_meant)
    }
}

/// Enters a claim, once, or strikes it.
pub(super) fn note<K: Eq + Hash>(all: &mut HashMap<K, Claimants>, key: K, claim: Claim, enter: bool) {
    match (all.entry(key), enter) {
        (Entry::Vacant(_), false) => {}
        (Entry::Vacant(vacant), true) => {
            vacant.insert(Claimants { one: claim, others: BTreeSet::new() });
        }
        (Entry::Occupied(mut occupied), true) => {
            if occupied.get().one != claim {
                occupied.get_mut().others.insert(claim);
            }
        }
        (Entry::Occupied(mut occupied), false) => {
            let claimants = occupied.get_mut();
            if claimants.one != claim {
                claimants.others.remove(&claim);
            } else if let Some(next) = claimants.others.pop_first() {
                claimants.one = next;
            } else {
                occupied.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_entered_once_and_struck_one_by_one() {
        let claim = |name: &str, kind, place| Claim {
            service: ServiceName { namespace: "n".into(), name: name.into() },
            kind,
            place,
        };
        let mut all = HashMap::new();
        for (name, kind) in [("b", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 2)] {
            note(&mut all, 80, claim(name, kind, 3), true);
        }
        let there = |all: &HashMap<i32, Claimants>| {
            let mut there: Vec<Claim> = all.get(&80).into_iter().flat_map(Claimants::iter).cloned().collect();
            there.sort();
            there
        };
        assert_eq!(there(&all), [claim("a", 2, 3), claim("b", 1, 3), claim("b", 2, 3)]);
        let has = |name: &str, kind| all[&80].has(&claim(name, 0, 0).service, kind);
        assert_eq!([has("a", 1), has("a", 2), has("b", 1), has("b", 2), has("c", 1)], [false, true, true, true, false]);
        note(&mut all, 80, claim("b", 1, 3), false);
        note(&mut all, 80, claim("c", 1, 3), false);
        assert_eq!(there(&all), [claim("a", 2, 3), claim("b", 2, 3)]);
        note(&mut all, 80, claim("b", 2, 3), false);
        note(&mut all, 80, claim("a", 2, 3), false);
        assert!(all.is_empty(), "{all:?}");
    }
}
