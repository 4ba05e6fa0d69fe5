//! What fragments from and to an address may be of: they come up by their addresses, since only the first has ports.

use std::collections::HashMap as StdHashMap;
use std::net::IpAddr;

use aya::maps::{HashMap, MapData, MapError};
use ringway_shared::Protocol;

use super::super::program_keys::{AddressKey, address_key};
use super::entries::SteeringEntry;

/// Bits that each protocol has, and how many protocols there are.
const BITS: usize = 3;
const PROTOCOLS: usize = 3;

/// The map, and how many entries there are behind each of its bits.
pub(super) struct Portless {
    map: HashMap<MapData, AddressKey, u16>,
    counts: StdHashMap<IpAddr, [u32; BITS * PROTOCOLS]>,
}

impl Portless {
    pub(super) fn new(map: HashMap<MapData, AddressKey, u16>) -> Self {
        Portless { map, counts: StdHashMap::new() }
    }

    /// How many addresses there are.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// An entry is to be added.
    pub(super) fn add(&mut self, entry: &SteeringEntry) -> Result<(), MapError> {
        let Some((address, bit)) = place(entry) else { return Ok(()) };
        let before = self.counts.get(&address).copied().unwrap_or_default();
        let mut after = before;
        if let Some(count) = after.get_mut(bit) {
            *count += 1;
        }
        if word(&before) != word(&after) {
            self.map.insert(address_key(address), word(&after), 0)?;
        }
        self.counts.insert(address, after);
        Ok(())
    }

    /// An entry was removed.
    pub(super) fn remove(&mut self, entry: &SteeringEntry) -> Result<(), MapError> {
        let Some((address, bit)) = place(entry) else { return Ok(()) };
        let Some(counts) = self.counts.get_mut(&address) else { return Ok(()) };
        let before = word(counts);
        if let Some(count) = counts.get_mut(bit) {
            *count = count.saturating_sub(1);
        }
        match word(counts) {
            0 => {
                self.counts.remove(&address);
                self.map.remove(&address_key(address))
            }
            after if after != before => self.map.insert(address_key(address), after, 0),
            _ => Ok(()),
        }
    }
}

/// The bits that some entry stands behind.
fn word(counts: &[u32; BITS * PROTOCOLS]) -> u16 {
    counts.iter().enumerate().filter(|(_, count)| **count > 0).fold(0, |word, (bit, _)| word | 1 << bit)
}

/// The address that an entry is about, and the bit that it stands behind, as the program has them.
fn place(entry: &SteeringEntry) -> Option<(IpAddr, usize)> {
    let (frontend, bit) = match entry {
        SteeringEntry::Endpoint(endpoint) => (endpoint, 0),
        SteeringEntry::MasqueradedEndpoint(endpoint) => (endpoint, 1),
        SteeringEntry::Frontend(frontend) => (frontend, 2),
        SteeringEntry::Vip(_) | SteeringEntry::ServiceCidr(_) | SteeringEntry::Snat(_) => return None,
    };
    let protocol = match frontend.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    };
    Some((frontend.address, protocol * BITS + bit))
}
