//! What the steering program must send up to the workers, derived from a snapshot: change by change, so that a small change
//! of a large cluster is a small one here, too.

mod pending;
mod snat;

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use ringway_dataplane::af_xdp::program::SteeringEntry;
use ringway_shared::policy::TrafficPolicy;
use ringway_shared::sharing::{PagedVec, ShardedMap};
use ringway_shared::snapshot::Services;
use ringway_shared::{Endpoint, Frontend, Network, ServicePort, Snapshot};

pub(super) use pending::Pending;

/// Everything that is ours on the wire: what one snapshot needs.
///
/// - every (address, protocol, port) that is balanced, NodePorts included;
/// - VIPs that no host owns: every packet to them;
/// - service CIDRs: every packet into them;
/// - addresses that masqueraded flows come from: the endpoints' replies to them, on the SNAT ports;
/// - endpoints of flows whose source is kept: their replies go to the client's own address;
/// - endpoints all of whose flows are masqueraded.
#[derive(Debug)]
pub struct SteeringSets {
    services: Arc<Services>,
    network: Arc<Network>,
    // Those of the configuration. For a family without any, those that Linux would choose towards the endpoints.
    configured: Vec<IpAddr>,
    // How many service ports have this endpoint, by whether they keep sources.
    endpoints: HashMap<SteeringEntry, u32>,
    // How many endpoints of service ports have this address.
    addresses: ShardedMap<IpAddr, u32>,
    // How many of these addresses, of families without a configured one, Linux would send to from this one.
    sources: HashMap<IpAddr, u32>,
    // Addresses of former settings: flows may have them still, so replies to them are ours until the process ends.
    former: BTreeSet<IpAddr>,
    // Former ones of `sources` that the node has still: it could go on to send from them, and so do flows.
    former_sources: BTreeSet<IpAddr>,
    // Those of `endpoints` all of whose flows are masqueraded and were not before: older ones may keep their source.
    former_endpoints: HashSet<Frontend>,
    vips: usize,
    started: bool,
}

/// What a newer snapshot needs that the older one did not, and the other way round.
#[derive(Debug, Default)]
pub struct SteeringChanges {
    /// To be sent up before the newer snapshot is used.
    pub added: Vec<SteeringEntry>,
    /// Not to be sent up any more when the older one is not used any more.
    pub removed: Vec<SteeringEntry>,
    /// VIPs, endpoints and SNAT addresses that are nobody's any more: not to be sent up some time after that, so that clients with connections
    /// hear it, and replies find back until they do.
    pub abandoned: Vec<SteeringEntry>,
    /// Whether the addresses of the endpoints changed.
    pub addresses_changed: bool,
}

/// How many entries of each kind the steering program holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteeringCounts {
    /// (address, protocol, port).
    pub frontends: usize,
    /// VIPs.
    pub vips: usize,
    /// Service CIDRs.
    pub service_cidrs: usize,
    /// SNAT addresses.
    pub snat_addresses: usize,
    /// Endpoints.
    pub endpoints: usize,
}

impl SteeringCounts {
    /// All of them.
    pub fn total(&self) -> usize {
        self.frontends + self.vips + self.service_cidrs + self.snat_addresses + self.endpoints
    }
}

impl SteeringSets {
    /// Nothing is ours. `snat_addresses`: those of the configuration; for a family without any, the addresses that Linux
    /// would choose towards the endpoints.
    pub fn new(snat_addresses: &[IpAddr]) -> Self {
        let configured: BTreeSet<IpAddr> = snat_addresses.iter().copied().collect();
        SteeringSets {
            services: Arc::default(),
            network: Arc::default(),
            configured: configured.into_iter().collect(),
            endpoints: HashMap::new(),
            addresses: ShardedMap::default(),
            sources: HashMap::new(),
            former: BTreeSet::new(),
            former_sources: BTreeSet::new(),
            former_endpoints: HashSet::new(),
            vips: 0,
            started: false,
        }
    }

    /// Goes on to a newer snapshot.
    pub fn advance(&mut self, snapshot: &Snapshot) -> SteeringChanges {
        let mut changes = SteeringChanges::default();
        let old = std::mem::replace(&mut self.services, snapshot.services.clone());
        let network = std::mem::replace(&mut self.network, snapshot.network.clone());
        let starting = !std::mem::replace(&mut self.started, true);
        if starting {
            changes.added.extend(self.configured.iter().copied().map(SteeringEntry::Snat));
        }
        let other_ways =
            starting || !Arc::ptr_eq(&network, &snapshot.network) && !network.has_same_routes(&snapshot.network);
        let mut moved = (Vec::new(), Vec::new());
        if !Arc::ptr_eq(&old, &snapshot.services) {
            self.advance_frontends(&old, &snapshot.services, &mut changes);
            self.advance_endpoints(&old, &snapshot.services, &mut changes, &mut moved);
        }
        changes.addresses_changed = !(moved.0.is_empty() && moved.1.is_empty());
        self.advance_sources(&network, moved, other_ways, &mut changes);
        self.keep_former(&mut changes);
        changes
    }

    fn advance_frontends(&mut self, old: &Services, new: &Services, changes: &mut SteeringChanges) {
        for difference in old.frontends.differences(&new.frontends) {
            let entry = || SteeringEntry::Frontend(*difference.at);
            changes.note(difference.old.is_some(), difference.new.is_some(), entry);
        }
        for difference in old.vips.differences(&new.vips) {
            let [was, is] = [difference.old, difference.new].map(|vip| vip.is_some_and(|vip| !vip.host_owned));
            self.vips = self.vips + usize::from(is) - usize::from(was);
            if was && difference.new.is_none() {
                changes.abandoned.push(SteeringEntry::Vip(*difference.at));
            } else {
                changes.note(was, is, || SteeringEntry::Vip(*difference.at));
            }
        }
        for cidr in old.service_cidrs.iter().chain(&new.service_cidrs) {
            let [was, is] = [old, new].map(|services| services.service_cidrs.contains(cidr));
            changes.note(was, is, || SteeringEntry::ServiceCidr(*cidr));
        }
    }

    /// `moved` gets the addresses that are new, and those that are gone.
    fn advance_endpoints(
        &mut self,
        old: &Services,
        new: &Services,
        changes: &mut SteeringChanges,
        moved: &mut (Vec<IpAddr>, Vec<IpAddr>),
    ) {
        let mut ports: Vec<[Option<&ServicePort>; 2]> = Vec::new();
        let none = PagedVec::default();
        let steps = match old.masquerade_all == new.masquerade_all {
            true => [(&old.service_ports, &new.service_ports), (&none, &none)],
            // Then the same service port may mean something else.
            false => [(&old.service_ports, &none), (&none, &new.service_ports)],
        };
        for (older, newer) in steps {
            for difference in older.differences(newer) {
                let [old, new] = [difference.old, difference.new].map(|port| port.and_then(Option::as_ref));
                if old.map(Arc::as_ptr) != new.map(Arc::as_ptr) {
                    ports.push([old, new].map(|port| port.map(|port| &**port)));
                }
            }
        }
        // What is new is counted first, so that nothing is gone only in between.
        for [before, now] in &ports {
            for (port, endpoint) in not_in(*now, *before, new.masquerade_all) {
                let entry = steered(port, endpoint, new.masquerade_all);
                if add(&mut self.endpoints, entry.clone()) {
                    changes.added.push(entry);
                }
                let uses = self.addresses.entry(endpoint.backend.address).or_default();
                *uses += 1;
                if *uses == 1 {
                    moved.0.push(endpoint.backend.address);
                }
            }
        }
        for [before, now] in &ports {
            for (port, endpoint) in not_in(*before, *now, old.masquerade_all) {
                let entry = steered(port, endpoint, old.masquerade_all);
                if subtract(&mut self.endpoints, entry.clone()) {
                    let still = |entry: &SteeringEntry| self.endpoints.contains_key(entry);
                    match other_kind(&entry).as_ref().is_some_and(still) {
                        true => changes.removed.push(entry),
                        false => changes.abandoned.push(entry),
                    }
                }
                let address = endpoint.backend.address;
                let uses = self.addresses.entry(address).or_default();
                *uses = uses.saturating_sub(1);
                if *uses == 0 {
                    self.addresses.remove(&address);
                    moved.1.push(address);
                }
            }
        }
    }

    /// Without a configured SNAT address of an endpoint's family, flows to it get the address that Linux would choose.
    fn advance_sources(
        &mut self,
        old: &Network,
        (new, gone): (Vec<IpAddr>, Vec<IpAddr>),
        other_ways: bool,
        changes: &mut SteeringChanges,
    ) {
        let network = &self.network;
        let configured = [false, true].map(|v4| self.configured.iter().any(|address| address.is_ipv4() == v4));
        let left_to_linux = |address: &IpAddr| !configured[usize::from(address.is_ipv4())];
        if other_ways {
            let before = std::mem::take(&mut self.sources);
            let addresses = self.addresses.keys().filter(|address| left_to_linux(address));
            addresses.flat_map(|address| network.source_addresses(*address)).for_each(|source| {
                add(&mut self.sources, source);
            });
            let only_in = |one: &HashMap<IpAddr, u32>, other: &HashMap<IpAddr, u32>| -> Vec<SteeringEntry> {
                one.keys().filter(|source| !other.contains_key(*source)).copied().map(SteeringEntry::Snat).collect()
            };
            changes.added.extend(only_in(&self.sources, &before));
            changes.abandoned.extend(only_in(&before, &self.sources));
            return;
        }
        for source in new.into_iter().filter(left_to_linux).flat_map(|address| network.source_addresses(address)) {
            if add(&mut self.sources, source) {
                changes.added.push(SteeringEntry::Snat(source));
            }
        }
        // The same ways give the same source as when it was counted.
        for source in gone.into_iter().filter(left_to_linux).flat_map(|address| old.source_addresses(address)) {
            if subtract(&mut self.sources, source) {
                changes.abandoned.push(SteeringEntry::Snat(source));
            }
        }
    }

    /// The addresses of all endpoints.
    pub fn addresses(&self) -> &ShardedMap<IpAddr, u32> {
        &self.addresses
    }

    /// How many entries the steering program needs.
    pub fn counts(&self) -> SteeringCounts {
        SteeringCounts {
            frontends: self.services.frontends.len(),
            vips: self.vips,
            service_cidrs: self.services.service_cidrs.len(),
            snat_addresses: self.snat_addresses(),
            endpoints: self.endpoints.len() + self.former_endpoints.len(),
        }
    }
}

impl SteeringChanges {
    fn note(&mut self, was: bool, is: bool, entry: impl FnOnce() -> SteeringEntry) {
        match (was, is) {
            (false, true) => self.added.push(entry()),
            (true, false) => self.removed.push(entry()),
            (true, true) | (false, false) => {}
        }
    }
}

/// Rules 14 to 16: whether a source can be kept at all.
fn keeps_source(port: &ServicePort, masquerade_all: bool) -> bool {
    !masquerade_all || port.external_policy == TrafficPolicy::Local
}

fn steered(port: &ServicePort, endpoint: &Endpoint, masquerade_all: bool) -> SteeringEntry {
    let backend = &endpoint.backend;
    let frontend = Frontend { address: backend.address, protocol: port.protocol, port: backend.port };
    match keeps_source(port, masquerade_all) {
        true => SteeringEntry::Endpoint(frontend),
        false => SteeringEntry::MasqueradedEndpoint(frontend),
    }
}

/// The same endpoint, the other way.
fn other_kind(entry: &SteeringEntry) -> Option<SteeringEntry> {
    match entry {
        SteeringEntry::Endpoint(endpoint) => Some(SteeringEntry::MasqueradedEndpoint(*endpoint)),
        SteeringEntry::MasqueradedEndpoint(endpoint) => Some(SteeringEntry::Endpoint(*endpoint)),
        _ => None,
    }
}

/// The endpoints of `port` that `other`, the same service port at another time, has not.
fn not_in<'p>(
    port: Option<&'p ServicePort>,
    other: Option<&ServicePort>,
    masquerade_all: bool,
) -> Vec<(&'p ServicePort, &'p Endpoint)> {
    let Some(port) = port else { return Vec::new() };
    let comparable = |other: &&ServicePort| {
        other.protocol == port.protocol && keeps_source(other, masquerade_all) == keeps_source(port, masquerade_all)
    };
    // Both are sorted by address and port.
    let mut others = other.filter(comparable).map_or(&[][..], |other| &other.endpoints);
    let place = |endpoint: &Endpoint| (endpoint.backend.address, endpoint.backend.port);
    let mut is_new = |endpoint: &Endpoint| {
        while let [first, rest @ ..] = others {
            match place(first).cmp(&place(endpoint)) {
                Ordering::Less => others = rest,
                Ordering::Equal => return false,
                Ordering::Greater => return true,
            }
        }
        true
    };
    port.endpoints.iter().filter(|endpoint| is_new(endpoint)).map(|endpoint| (port, endpoint)).collect()
}

/// Counts one more; whether it is the first.
fn add<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) -> bool {
    let count = counts.entry(key).or_insert(0);
    *count += 1;
    *count == 1
}

/// Counts one less; whether it was the last.
fn subtract<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) -> bool {
    let hashbrown::hash_map::Entry::Occupied(mut count) = counts.entry(key) else { return false };
    *count.get_mut() -= 1;
    let last = *count.get() == 0;
    if last {
        count.remove();
    }
    last
}
