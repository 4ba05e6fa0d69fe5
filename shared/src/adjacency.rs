//! How to reach a next hop: the interface a frame leaves by and the link-layer addresses it carries.

use crate::address::MacAddress;

/// The number of an attached interface: an index into [`crate::Network::interfaces`], stable while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u16);

/// An index into [`crate::Network::adjacencies`], valid for one network generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdjacencyId(pub u32);

/// Where a frame leaves and with which outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjacency {
    /// The interface it leaves by.
    pub out: InterfaceId,
    /// That interface's own MAC address.
    pub source_mac: MacAddress,
    /// The next hop's MAC address.
    pub destination_mac: MacAddress,
    /// The largest IP packet the way carries, in bytes.
    pub mtu: u32,
}
