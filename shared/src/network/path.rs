//! A packet as routing sees it, and the several paths that a route may have for it.

use std::net::IpAddr;

use super::{InterfaceId, Network};

/// What the way of a packet depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading {
    /// Where it goes.
    pub destination: IpAddr,
    /// Whom it comes from, for policy rules: the client's own address towards an endpoint, the VIP towards a client.
    pub source: Option<IpAddr>,
    /// The interface that it arrived by.
    pub arrived: Option<InterfaceId>,
    /// The flow's hash: which of several paths it takes.
    pub hash: u64,
}

impl Heading {
    /// A packet of which nothing but the destination is known.
    pub fn to(destination: IpAddr) -> Self {
        Heading { destination, source: None, arrived: None, hash: 0 }
    }
}

/// One of several paths of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The interface.
    pub interface: InterfaceId,
    /// The gateway; `None` when the destination is on link.
    pub via: Option<IpAddr>,
    /// The source address that Linux would choose on this way.
    pub source: Option<IpAddr>,
    /// How much of the traffic it takes, compared with the others.
    pub weight: u16,
}

impl Network {
    /// Whether any route has several paths, so that the hash of a [`Heading`] makes a difference.
    #[inline]
    pub fn has_several_paths(&self) -> bool {
        self.v4.has_paths() || self.v6.has_paths()
    }
}

/// The way of this hash: each gets its share of all hashes.
pub(super) fn pick(paths: &[Path], hash: u64) -> Option<&Path> {
    pick_of(paths.iter(), hash)
}

/// The same of some of them.
pub(super) fn pick_of<'p>(mut paths: impl Iterator<Item = &'p Path> + Clone, hash: u64) -> Option<&'p Path> {
    // The low bits have chosen the endpoint already.
    let spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let total: u64 = paths.clone().map(|path| u64::from(path.weight)).sum();
    let mut place = (spread * total) >> 32;
    paths.find(|path| {
        let weight = u64::from(path.weight);
        let found = place < weight;
        place = place.saturating_sub(weight);
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_gets_its_share_and_a_hash_its_way() {
        let path = |weight, last: u8| Path {
            interface: InterfaceId(0),
            via: Some(IpAddr::from([10, 0, 0, last])),
            source: None,
            weight,
        };
        let paths = [path(1, 1), path(3, 2), path(0, 3)];
        let mut counts = [0; 3];
        for n in 0..40_000u64 {
            // Hashes of flows to one endpoint have something in common.
            let hash = (n * 65_537 + 7) ^ (n << 40);
            let chosen = pick(&paths, hash).unwrap();
            assert_eq!(pick(&paths, hash), Some(chosen));
            counts[paths.iter().position(|path| path == chosen).unwrap()] += 1;
        }
        assert!((9_000..11_000).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
        assert_eq!(pick(&[], 7), None);
    }
}
