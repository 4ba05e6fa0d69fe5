//! Which of the kernel's tables must be read again: changes of them were missed, or say too little by themselves.

use std::ops::BitOrAssign;

/// Tables that must be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) links: bool,
    pub(super) addresses: bool,
    pub(super) routes: bool,
    pub(super) neighbors: bool,
    pub(super) settings: bool,
}

impl Stale {
    pub(super) const ALL: Stale = Stale { links: true, addresses: true, routes: true, neighbors: true, settings: true };

    pub(super) fn any(self) -> bool {
        self != Stale::default()
    }
}

impl BitOrAssign for Stale {
    fn bitor_assign(&mut self, other: Stale) {
        self.links |= other.links;
        self.addresses |= other.addresses;
        self.routes |= other.routes;
        self.neighbors |= other.neighbors;
        self.settings |= other.settings;
    }
}
