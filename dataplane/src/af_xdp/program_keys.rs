//! Keys and values of the steering program's maps, byte for byte as the program reads them.

use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use ringway_shared::Frontend;
use ringway_shared::address::address_words;

pub(super) type AddressKey = [u8; 16];
pub(super) type SocketKey = [u8; 20];
/// A device and a VLAN.
pub(super) type LinkKey = [u8; 8];

pub(super) fn address_key(address: IpAddr) -> AddressKey {
    let [high, low] = address_words(address);
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

pub(super) fn socket_key(frontend: &Frontend) -> SocketKey {
    let mut key = [0; 20];
    let (address, rest) = key.split_at_mut(16);
    address.copy_from_slice(&address_key(frontend.address));
    let [high, low] = frontend.port.to_be_bytes();
    rest.copy_from_slice(&[high, low, frontend.protocol.number(), 0]);
    key
}

pub(super) fn cidr_key(cidr: &IpNet) -> Key<AddressKey> {
    let mapped = if cidr.addr().is_ipv4() { 96 } else { 0 };
    Key::new(u32::from(cidr.prefix_len()) + mapped, address_key(cidr.network()))
}

pub(super) fn link_key(index: u32, vlan: Option<u16>) -> LinkKey {
    let ([a, b, c, d], [e, f]) = (index.to_ne_bytes(), vlan.unwrap_or(0).to_ne_bytes());
    [a, b, c, d, e, f, 0, 0]
}

pub(super) fn queue_key(index: u32, queue: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (index.to_ne_bytes(), queue.to_ne_bytes());
    [a, b, c, d, e, f, g, h]
}
