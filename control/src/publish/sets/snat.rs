//! SNAT addresses and endpoints that flows need still although new ones would be told otherwise.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringway_dataplane::af_xdp::program::SteeringEntry;

use super::{SteeringChanges, SteeringSets, other_kind};

/// The most former sources that are kept for as long as the node has them. Others go some time after Linux stopped choosing
/// them.
const MOST_FORMER_SOURCES: usize = 256;

impl SteeringSets {
    /// Goes on with these configured SNAT addresses, from the next snapshot on. Replies to the former ones stay ours.
    pub fn reset(&mut self, addresses: &[IpAddr]) {
        let configured: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        if configured.iter().eq(&self.configured) {
            return;
        }
        self.former.extend(self.configured.drain(..));
        self.former.extend(self.sources.drain().map(|(source, _)| source));
        self.configured = configured.into_iter().collect();
        self.started = false;
    }

    /// Takes nothing away that older flows need.
    pub(super) fn keep_former(&mut self, changes: &mut SteeringChanges) {
        self.keep_former_endpoints(changes);
        self.keep_former_sources(changes);
        changes.abandoned.retain(|entry| match entry {
            SteeringEntry::Snat(address) => !self.former.contains(address),
            _ => true,
        });
    }

    /// An endpoint all of whose flows are masqueraded from now on keeps the entry of before, until it is gone.
    fn keep_former_endpoints(&mut self, changes: &mut SteeringChanges) {
        let (endpoints, former) = (&self.endpoints, &mut self.former_endpoints);
        // What is counted again is there still.
        changes.added.retain(|entry| !matches!(entry, SteeringEntry::Endpoint(endpoint) if former.remove(endpoint)));
        changes.removed.retain(|entry| {
            let SteeringEntry::Endpoint(endpoint) = entry else { return true };
            let stays = other_kind(entry).is_some_and(|other| endpoints.contains_key(&other));
            !(stays && former.insert(*endpoint))
        });
        let gone = changes.abandoned.iter().filter_map(|entry| match entry {
            SteeringEntry::MasqueradedEndpoint(endpoint) if former.remove(endpoint) => Some(*endpoint),
            _ => None,
        });
        let gone: Vec<SteeringEntry> = gone.map(SteeringEntry::Endpoint).collect();
        changes.abandoned.extend(gone);
    }

    /// Linux may choose another address while the node keeps this one.
    fn keep_former_sources(&mut self, changes: &mut SteeringChanges) {
        let (network, former) = (&self.network, &mut self.former_sources);
        changes.added.retain(|entry| !matches!(entry, SteeringEntry::Snat(address) if former.remove(address)));
        let mut gone = Vec::new();
        former.retain(|address| {
            let stays = network.is_local(*address);
            if !stays {
                gone.push(SteeringEntry::Snat(*address));
            }
            stays
        });
        changes.abandoned.retain(|entry| {
            let SteeringEntry::Snat(address) = entry else { return true };
            let stays = network.is_local(*address) && former.len() < MOST_FORMER_SOURCES;
            !(stays && former.insert(*address))
        });
        changes.abandoned.extend(gone);
    }

    /// How many there are, former ones included.
    pub(super) fn snat_addresses(&self) -> usize {
        let now = self.configured.iter().chain(self.sources.keys());
        now.chain(&self.former).chain(&self.former_sources).collect::<BTreeSet<_>>().len()
    }
}
