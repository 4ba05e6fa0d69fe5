//! The addresses that the kernel of this machine has, on whatever interface.

use std::net::IpAddr;

use hashbrown::HashSet;
use ipnet::IpNet;

/// Single addresses, and whole networks that are local (127.0.0.0/8, AnyIP).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddresses {
    single: HashSet<IpAddr>,
    wide: Vec<IpNet>,
}

impl HostAddresses {
    /// Whether the kernel takes packets to `address` as its own.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.single.contains(&address) || self.is_in_network(address)
    }

    /// Whether `address` is in one of the networks that are local as a whole.
    #[inline]
    pub(super) fn is_in_network(&self, address: IpAddr) -> bool {
        self.wide.iter().any(|net| net.contains(&address))
    }

    /// The addresses that are local by themselves.
    pub(super) fn single(&self) -> impl Iterator<Item = IpAddr> {
        self.single.iter().copied()
    }
}

impl FromIterator<IpNet> for HostAddresses {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let mut host = HostAddresses::default();
        for net in nets {
            if net.prefix_len() == net.max_prefix_len() {
                host.single.insert(net.addr());
            } else {
                host.wide.push(net.trunc());
            }
        }
        host.wide.sort_unstable();
        host.wide.dedup();
        host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_addresses_and_networks_are_local_and_nothing_else() {
        let nets = ["10.0.0.1/32", "127.0.0.1/8", "fd00::1/128", "127.0.0.0/8"];
        let host: HostAddresses = nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect();
        for (address, local) in
            [("10.0.0.1", true), ("10.0.0.2", false), ("127.9.9.9", true), ("fd00::1", true), ("fd00::2", false)]
        {
            assert_eq!(host.contains(address.parse().unwrap()), local, "{address}");
        }
    }
}
