//! Routes by prefix, and which of several tables counts for a packet.
//!
//! A policy rule can make the way depend on where a packet comes from and on the interface that it arrived by. Whoever asked
//! the kernel says so by a [`Perspective`]: what such packets see. All others see the first table.

use std::cmp::Reverse;
use std::net::IpAddr;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use ipnet::IpNet;

use super::{Heading, InterfaceId, Route, RouteTarget};
use crate::address::Family;

/// What packets see that arrived by one interface, or came from one network.
#[derive(Clone, Debug, PartialEq)]
pub struct Perspective {
    /// The family that this is about.
    pub family: Family,
    /// The interface that they arrived by; `None` where that makes no difference.
    pub arrived: Option<InterfaceId>,
    /// Where they come from; `None` for all that come from none of the other perspectives' networks.
    pub from: Option<IpNet>,
    /// Their routes.
    pub routes: Vec<Route>,
}

/// Routes of one prefix length, by network address.
#[derive(Clone, Debug, Default, PartialEq)]
struct Level {
    length: u8,
    routes: HashMap<IpAddr, Route>,
}

/// Longest prefix first; few lengths are in use on any node, so a lookup is a few hash probes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table(Vec<Level>);

impl Table {
    /// Of several routes to one prefix the one with the lowest metric counts; the first among equals.
    fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut levels: HashMap<u8, HashMap<IpAddr, Route>> = HashMap::new();
        for route in routes {
            let route = Route { to: route.to.trunc(), ..route };
            match levels.entry(route.to.prefix_len()).or_default().entry(route.to.network()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(route);
                }
                Entry::Occupied(mut other) if route.metric < other.get().metric => {
                    other.insert(route);
                }
                Entry::Occupied(_) => {}
            }
        }
        let mut levels: Vec<_> = levels.into_iter().map(|(length, routes)| Level { length, routes }).collect();
        levels.sort_by_key(|level| Reverse(level.length));
        Table(levels)
    }

    fn find(&self, destination: IpAddr) -> Option<&Route> {
        self.0.iter().find_map(|level| level.routes.get(&masked(destination, level.length)))
    }
}

/// All tables of one family. The first always exists.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tables {
    tables: Vec<Table>,
    // Networks that packets may come from, the longest prefix first. Few: each stands in a policy rule.
    from: Vec<IpNet>,
    // Whether a route of any table has several paths.
    paths: bool,
    // By the interface, and the place in `from`; one past the last for all others.
    seen: HashMap<(Option<InterfaceId>, usize), u16>,
}

impl Default for Tables {
    fn default() -> Self {
        Tables { tables: vec![Table::default()], from: Vec::new(), paths: false, seen: HashMap::new() }
    }
}

impl Tables {
    pub(super) fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut tables = Tables { tables: vec![Table::new(routes)], ..Tables::default() };
        tables.look_for_paths();
        tables
    }

    /// Whether the hash makes a difference anywhere.
    #[inline]
    pub(super) fn has_paths(&self) -> bool {
        self.paths
    }

    fn look_for_paths(&mut self) {
        let found = self.routes().any(|route| matches!(route.target, RouteTarget::Paths(_)));
        self.paths = found;
    }

    /// Adds what some packets see; equal tables are kept once.
    pub(super) fn add(&mut self, perspectives: Vec<Perspective>) {
        self.from = perspectives.iter().filter_map(|perspective| perspective.from).collect();
        self.from.sort_unstable_by_key(|net| (Reverse(net.prefix_len()), *net));
        self.from.dedup();
        for perspective in perspectives {
            let others = self.from.len();
            let from = perspective.from.and_then(|net| self.from.iter().position(|other| *other == net));
            let table = Table::new(perspective.routes);
            let number = self.tables.iter().position(|other| *other == table).unwrap_or_else(|| {
                self.tables.push(table);
                self.tables.len() - 1
            });
            let number = u16::try_from(number).unwrap_or_default();
            self.seen.insert((perspective.arrived, from.unwrap_or(others)), number);
        }
        self.look_for_paths();
        if self.seen.values().all(|number| *number == 0) {
            // The rules are there, and make no difference.
            self.seen.clear();
            self.from.clear();
        }
    }

    /// Whether it is the same for every packet.
    #[inline]
    pub(super) fn is_one(&self) -> bool {
        self.seen.is_empty()
    }

    /// The number of the table that counts.
    #[inline]
    pub(super) fn number(&self, heading: &Heading) -> u16 {
        if self.is_one() { 0 } else { self.look_up(heading) }
    }

    fn look_up(&self, heading: &Heading) -> u16 {
        let is_from = |source: IpAddr| self.from.iter().position(|net| net.contains(&source));
        let from = heading.source.and_then(is_from).unwrap_or(self.from.len());
        let by_interface = heading.arrived.and_then(|arrived| self.seen.get(&(Some(arrived), from)));
        by_interface.or_else(|| self.seen.get(&(None, from))).copied().unwrap_or_default()
    }

    /// The longest matching route of the table that counts.
    pub(super) fn find(&self, heading: &Heading) -> Option<&Route> {
        self.tables.get(usize::from(self.number(heading)))?.find(heading.destination)
    }

    /// The longest matching route of every table.
    pub(super) fn find_all(&self, destination: IpAddr) -> impl Iterator<Item = &Route> {
        self.tables.iter().filter_map(move |table| table.find(destination))
    }

    /// Every route of every table, longest prefix first in each.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.tables.iter().flat_map(|table| &table.0).flat_map(|level| level.routes.values())
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)).into()),
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)).into())
        }
    }
}
