//! What the steering program sends up, entry by entry.

use std::collections::HashSet;
use std::net::IpAddr;

use aya::maps::MapError;
use ipnet::IpNet;
use ringway_shared::{Frontend, PortSet};

use super::super::program_keys::{address_key, cidr_key, socket_key};
use super::{SteeringError, SteeringProgram, map_error};

/// One thing that is ours on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SteeringEntry {
    /// Packets to an address, protocol and port.
    Frontend(Frontend),
    /// Every packet to an address.
    Vip(IpAddr),
    /// Every packet into a service CIDR.
    ServiceCidr(IpNet),
    /// Packets of endpoints to an address on the SNAT ports.
    Snat(IpAddr),
    /// Packets from an endpoint's address, protocol and port, whomever they are for.
    Endpoint(Frontend),
    /// Packets from an endpoint's address, protocol and port to a SNAT address and port.
    MasqueradedEndpoint(Frontend),
}

/// What `endpoints` says of an endpoint's packets: all are ours.
const ALL: u8 = 1;

/// Those to a SNAT address and port are.
const TO_SNAT: u8 = 2;

impl SteeringProgram {
    /// Says which ports flows get when their source is rewritten, on every SNAT address. None before the first call.
    pub fn set_snat_ports(&mut self, ports: &PortSet) -> Result<(), SteeringError> {
        let mut words = vec![0u64; usize::from(u16::MAX / 64) + 1];
        for port in ports.ranges().flatten() {
            if let Some(word) = words.get_mut(usize::from(port / 64)) {
                *word |= 1 << (port % 64);
            }
        }
        for (place, word) in words.iter().enumerate() {
            let failed =
                |error| map_error("snat_ports", format!("set the ports from {}", place * 64), 1024, 1024, error);
            self.snat_ports.set(place as u32, word, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Steers what `wanted` has and the program has not. Call it before a snapshot that needs it is published. What can
    /// be added is, whatever fails; the first failure is told.
    pub fn add_missing(&mut self, wanted: &HashSet<SteeringEntry>) -> Result<(), SteeringError> {
        let missing: Vec<SteeringEntry> = wanted.difference(&self.entries).cloned().collect();
        let mut result = Ok(());
        for entry in missing {
            match self.insert(&entry) {
                Ok(()) => {
                    self.entries.insert(entry);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Stops steering what `unwanted` and the program have. Call it when no worker uses an older snapshot any more. What
    /// can be removed is, whatever fails; the first failure is told.
    pub fn remove_present(&mut self, unwanted: &HashSet<SteeringEntry>) -> Result<(), SteeringError> {
        let mut result = Ok(());
        for entry in unwanted {
            if !self.entries.contains(entry) {
                continue;
            }
            match self.remove(entry) {
                Ok(()) => {
                    self.entries.remove(entry);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is steered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn insert(&mut self, entry: &SteeringEntry) -> Result<(), SteeringError> {
        self.portless.add(entry).map_err(|error| self.address_error("add", entry, error))?;
        let inserted = match entry {
            SteeringEntry::Frontend(frontend) => self.frontends.insert(socket_key(frontend), 1, 0),
            SteeringEntry::Vip(address) => self.vips.insert(address_key(*address), 1, 0),
            SteeringEntry::ServiceCidr(cidr) => self.cidrs.insert(&cidr_key(cidr), 1, 0),
            SteeringEntry::Snat(address) => self.snat.insert(address_key(*address), 1, 0),
            SteeringEntry::Endpoint(endpoint) => self.endpoints.insert(socket_key(endpoint), ALL, 0),
            // An entry of each kind share a key, and what takes more wins.
            SteeringEntry::MasqueradedEndpoint(endpoint)
                if self.entries.contains(&SteeringEntry::Endpoint(*endpoint)) =>
            {
                Ok(())
            }
            SteeringEntry::MasqueradedEndpoint(endpoint) => self.endpoints.insert(socket_key(endpoint), TO_SNAT, 0),
        };
        inserted.map_err(|error| {
            // What is not steered has no fragments either. That this fails, too, would be no news.
            let _ = self.portless.remove(entry);
            self.entry_error("add", entry, error)
        })
    }

    fn remove(&mut self, entry: &SteeringEntry) -> Result<(), SteeringError> {
        let removed = match entry {
            SteeringEntry::Frontend(frontend) => self.frontends.remove(&socket_key(frontend)),
            SteeringEntry::Vip(address) => self.vips.remove(&address_key(*address)),
            SteeringEntry::ServiceCidr(cidr) => self.cidrs.remove(&cidr_key(cidr)),
            SteeringEntry::Snat(address) => self.snat.remove(&address_key(*address)),
            SteeringEntry::Endpoint(endpoint)
                if self.entries.contains(&SteeringEntry::MasqueradedEndpoint(*endpoint)) =>
            {
                self.endpoints.insert(socket_key(endpoint), TO_SNAT, 0)
            }
            SteeringEntry::MasqueradedEndpoint(endpoint)
                if self.entries.contains(&SteeringEntry::Endpoint(*endpoint)) =>
            {
                Ok(())
            }
            SteeringEntry::Endpoint(endpoint) | SteeringEntry::MasqueradedEndpoint(endpoint) => {
                self.endpoints.remove(&socket_key(endpoint))
            }
        };
        removed.map_err(|error| self.entry_error("remove", entry, error))?;
        self.portless.remove(entry).map_err(|error| self.address_error("remove", entry, error))
    }

    fn address_error(&self, what: &str, entry: &SteeringEntry, error: MapError) -> SteeringError {
        let (used, room) = (self.portless.len(), self.capacities.portless);
        map_error("portless", format!("{what} the address of {}", entry.name()), used, room, error)
    }

    fn entry_error(&self, what: &str, entry: &SteeringEntry, error: MapError) -> SteeringError {
        let capacities = &self.capacities;
        let (map, room) = match entry {
            SteeringEntry::Frontend(_) => ("frontends", capacities.frontends),
            SteeringEntry::Vip(_) => ("vips", capacities.vips),
            SteeringEntry::ServiceCidr(_) => ("cidrs", capacities.service_cidrs),
            SteeringEntry::Snat(_) => ("snat", capacities.snat),
            SteeringEntry::Endpoint(_) | SteeringEntry::MasqueradedEndpoint(_) => ("endpoints", capacities.endpoints),
        };
        let same_map = |other: &&SteeringEntry| std::mem::discriminant(*other) == std::mem::discriminant(entry);
        let used = self.entries.iter().filter(same_map).count();
        map_error(map, format!("{what} {}", entry.name()), used, room, error)
    }
}

impl SteeringEntry {
    /// As a message says it.
    fn name(&self) -> String {
        match self {
            SteeringEntry::Vip(address) | SteeringEntry::Snat(address) => address.to_string(),
            SteeringEntry::ServiceCidr(cidr) => cidr.to_string(),
            SteeringEntry::Frontend(frontend)
            | SteeringEntry::Endpoint(frontend)
            | SteeringEntry::MasqueradedEndpoint(frontend) => frontend.to_string(),
        }
    }
}
