//! Other SNAT addresses and masquerading while the process runs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringway_dataplane::af_xdp::program::SteeringEntry;

use super::{SteeringChanges, SteeringSets};

impl SteeringSets {
    /// Goes on with these configured SNAT addresses, from the next snapshot on. Replies to the former ones stay ours, and when
    /// `masqueradeAll` comes (`masqueraded`), those of flows whose source was kept, too.
    pub fn reset(&mut self, addresses: &[IpAddr], masqueraded: bool) {
        self.masqueraded = masqueraded;
        let configured: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        if configured.iter().eq(&self.configured) {
            return;
        }
        self.former.extend(self.configured.drain(..));
        self.former.extend(self.sources.drain().map(|(source, _)| source));
        self.configured = configured.into_iter().collect();
        self.started = false;
    }

    /// Takes nothing away that flows of former settings need.
    pub(super) fn keep_former(&mut self, changes: &mut SteeringChanges) {
        if std::mem::take(&mut self.masqueraded) {
            let endpoints = changes.removed.iter().chain(&changes.abandoned).filter_map(|entry| match entry {
                SteeringEntry::Endpoint(endpoint) => Some(*endpoint),
                _ => None,
            });
            self.former_endpoints.extend(endpoints);
        }
        for entry in &changes.added {
            // It is counted again, and goes when its service ports do.
            if let SteeringEntry::Endpoint(endpoint) = entry {
                self.former_endpoints.remove(endpoint);
            }
        }
        let goes = |entry: &SteeringEntry| match entry {
            SteeringEntry::Snat(address) => !self.former.contains(address),
            SteeringEntry::Endpoint(endpoint) => !self.former_endpoints.contains(endpoint),
            _ => true,
        };
        changes.removed.retain(goes);
        changes.abandoned.retain(goes);
    }

    /// How many there are, former ones included.
    pub(super) fn snat_addresses(&self) -> usize {
        let now: BTreeSet<&IpAddr> = match self.configured.is_empty() {
            true => self.sources.keys().collect(),
            false => self.configured.iter().collect(),
        };
        now.len() + self.former.iter().filter(|address| !now.contains(address)).count()
    }
}
