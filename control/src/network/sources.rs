//! Source addresses: the ones that the kernel chooses on each way.
//!
//! For IPv4 the choice depends on the link and the next hop alone, so one question for each pair is enough. For IPv6 it
//! depends on the destination as well (RFC 6724): on its scope and label, and on how many of its first bits each address of
//! the machine has. The prefixes at which that can change are known, so there, too, each piece between them is asked about
//! once. A piece gets a route of its own only where the answer differs from that of what is around it.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};
use ringway_shared::Family;
use ringway_shared::network::{Path, Route, RouteTarget};
use rtnetlink::packet_route::route::RouteAttribute;

use super::atoms::{Atom, cut};
use super::is_link_local;
use super::labels::Labels;
use super::links::{LinkAddress, Standing};
use super::questions::{Asker, Question};
use super::routes::{KernelRoute, Targets, ip};

/// Where scope changes, and what a fresh machine has labels for.
const CLASSES: [&str; 9] = [
    "::/96",
    "::ffff:0:0/96",
    "2001::/32",
    "2001:10::/28",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Prefixes of own addresses that are looked at. A few dozen for each address.
const MOST_PREFIXES: usize = 8192;

/// A link, and what else the choice depends on: the next hop, or the piece of the address space.
type Key = (u32, Option<IpAddr>, Option<IpNet>);

/// What was asked already.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    labels: &'a Labels,
    known: HashMap<Key, Option<IpAddr>>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(labels: &'a Labels) -> Self {
        Sources { labels, known: HashMap::new() }
    }

    /// The routes with their source addresses.
    pub(super) fn fill(
        &mut self,
        routes: &[KernelRoute],
        addresses: &[LinkAddress],
        family: Family,
        targets: &Targets<'_>,
        asker: &mut Asker,
    ) -> io::Result<Vec<Route>> {
        let entries: HashMap<IpNet, (&KernelRoute, RouteTarget)> =
            routes.iter().map(|route| (route.to, (route, targets.of(&route.kind)))).collect();
        let boundaries = match family {
            Family::V4 => Vec::new(),
            Family::V6 => boundaries(addresses, self.labels),
        };
        let atoms = cut(entries.keys().copied().chain(boundaries));
        // The route that counts in each atom.
        let mut counting: Vec<Option<&(&KernelRoute, RouteTarget)>> = Vec::with_capacity(atoms.len());
        for atom in &atoms {
            let around = atom.parent.and_then(|parent| counting.get(parent).copied().flatten());
            counting.push(entries.get(&atom.net).or(around));
        }
        self.ask(&atoms, &counting, family, targets, asker)?;
        let mut chosen: Vec<Vec<Option<IpAddr>>> = Vec::with_capacity(atoms.len());
        let mut filled = Vec::with_capacity(entries.len());
        for (atom, counting) in atoms.iter().zip(&counting) {
            let around = atom.parent.and_then(|parent| chosen.get(parent)).cloned().unwrap_or_default();
            let Some((route, target)) = counting else {
                chosen.push(Vec::new());
                continue;
            };
            let own = entries.contains_key(&atom.net);
            let sources: Vec<Option<IpAddr>> = match atom.example {
                None if !own => around.clone(),
                _ => {
                    let keys = keys(atom, target, family, targets);
                    keys.map(|key| route.source.or_else(|| self.known.get(&key).copied().flatten())).collect()
                }
            };
            if own || sources != around {
                filled.push(Route { mtu: route.mtu, ..with_sources(atom.net, target, route.source, &sources) });
            }
            chosen.push(sources);
        }
        Ok(filled)
    }

    fn ask(
        &mut self,
        atoms: &[Atom],
        counting: &[Option<&(&KernelRoute, RouteTarget)>],
        family: Family,
        targets: &Targets<'_>,
        asker: &mut Asker,
    ) -> io::Result<()> {
        let mut wanted: HashMap<Key, Question> = HashMap::new();
        for (atom, counting) in atoms.iter().zip(counting) {
            let (Some((route, target)), Some(example)) = (counting, atom.example) else { continue };
            if route.source.is_some() {
                continue;
            }
            for key in keys(atom, target, family, targets).filter(|key| !self.known.contains_key(key)) {
                let question = Question { output: Some(key.0), matching: false, ..Question::to(example) };
                wanted.entry(key).or_insert(question);
            }
        }
        let (keys, questions): (Vec<Key>, Vec<Question>) = wanted.into_iter().unzip();
        for (key, answer) in keys.into_iter().zip(asker.ask(&questions)?) {
            let source = answer.ok().and_then(|message| {
                message.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::PrefSource(address) => ip(address),
                    _ => None,
                })
            });
            // It reaches one link only, so it is no source for a forwarded packet.
            self.known.insert(key, source.filter(|source| !is_link_local(*source)));
        }
        Ok(())
    }
}

/// What the sources of a target's ways depend on, way by way.
fn keys<'k>(
    atom: &'k Atom,
    target: &'k RouteTarget,
    family: Family,
    targets: &'k Targets<'_>,
) -> impl Iterator<Item = Key> + 'k {
    let (single, several): (_, &[Path]) = match target {
        RouteTarget::Out { interface, via } => (Some((*interface, *via)), &[]),
        RouteTarget::Paths(paths) => (None, paths),
        _ => (None, &[]),
    };
    let ways = single.into_iter().chain(several.iter().map(|path| (path.interface, path.via)));
    ways.map(move |(interface, via)| match family {
        Family::V4 => (targets.link(interface), via, None),
        Family::V6 => (targets.link(interface), None, Some(atom.net)),
    })
}

fn with_sources(to: IpNet, target: &RouteTarget, preferred: Option<IpAddr>, sources: &[Option<IpAddr>]) -> Route {
    match target {
        RouteTarget::Paths(paths) => {
            let sources = sources.iter().copied().chain(std::iter::repeat(None));
            let paths: Arc<[Path]> =
                paths.iter().zip(sources).map(|(path, source)| Path { source, ..path.clone() }).collect();
            Route { source: preferred, ..Route::new(to, RouteTarget::Paths(paths)) }
        }
        other => {
            let source = preferred.or_else(|| sources.first().copied().flatten());
            Route { source, ..Route::new(to, other.clone()) }
        }
    }
}

/// The prefixes at which the choice of an IPv6 source can change.
fn boundaries(addresses: &[LinkAddress], labels: &Labels) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = CLASSES.iter().filter_map(|class| class.parse().ok()).collect();
    let usable = addresses.iter().filter(|address| address.standing != Standing::Tentative);
    let bits = usable.filter_map(|address| match address.address {
        IpNet::V6(v6) if !v6.addr().is_unicast_link_local() && !v6.addr().is_loopback() => Some(v6),
        _ => None,
    });
    let all = bits.flat_map(|v6| (1..=v6.prefix_len()).filter_map(move |length| Ipv6Net::new(v6.addr(), length).ok()));
    let mut own: Vec<IpNet> = all.map(|net| net.trunc()).chain(labels.0.iter().copied()).map(IpNet::V6).collect();
    own.sort_unstable();
    own.dedup();
    own.truncate(MOST_PREFIXES);
    nets.extend(own);
    nets
}
