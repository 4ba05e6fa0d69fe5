//! Sources that the kernel would refuse: addresses of its own, broadcast addresses, and what reverse-path filtering does
//! not let in (RFC 3704, `net.ipv4.conf.*.rp_filter`).

use std::net::IpAddr;

use hashbrown::HashSet;

use super::{Network, RouteTarget};
use crate::adjacency::InterfaceId;
use crate::drop_reason::DropReason;

/// What an interface asks of the source of an IPv4 packet. IPv6 has no such setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReversePath {
    /// Nothing.
    #[default]
    Off,
    /// That the answer would leave by this interface.
    Strict,
    /// That there is a route for the answer.
    Loose,
}

impl ReversePath {
    /// What a value of the setting means: the larger one of `all` and the interface's own.
    pub fn of_setting(value: u32) -> Self {
        match value {
            0 => ReversePath::Off,
            1 => ReversePath::Strict,
            _ => ReversePath::Loose,
        }
    }

    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            ReversePath::Off => "off",
            ReversePath::Strict => "strict",
            ReversePath::Loose => "loose",
        }
    }
}

/// A few addresses, asked about for every new flow: nearly all questions are answered by one bit.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    all: HashSet<IpAddr>,
    // Bit n: there is an address whose last byte is n.
    last_bytes: [u64; 4],
}

/// The word and the bit of an address's last byte.
#[inline]
fn place(address: IpAddr) -> (usize, u64) {
    let last = match address {
        IpAddr::V4(v4) => v4.to_bits() as u8,
        IpAddr::V6(v6) => v6.to_bits() as u8,
    };
    (usize::from(last >> 6), 1 << (last & 63))
}

impl Sources {
    #[inline]
    fn contains(&self, address: IpAddr) -> bool {
        let (word, bit) = place(address);
        self.last_bytes.get(word).is_some_and(|bits| bits & bit != 0) && self.all.contains(&address)
    }
}

impl FromIterator<IpAddr> for Sources {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut sources = Sources::default();
        for address in addresses {
            let (word, bit) = place(address);
            sources.last_bytes.get_mut(word).into_iter().for_each(|bits| *bits |= bit);
            sources.all.insert(address);
        }
        sources
    }
}

impl Network {
    /// Adds what the interfaces ask of sources, by their numbers. Without, they ask nothing.
    pub fn with_reverse_paths(mut self, reverse_paths: Vec<ReversePath>) -> Self {
        self.reverse_paths = reverse_paths;
        self
    }

    /// What an interface asks of sources.
    #[inline]
    pub fn reverse_path(&self, interface: InterfaceId) -> ReversePath {
        self.reverse_paths.get(usize::from(interface.0)).copied().unwrap_or_default()
    }

    /// Whether `address` is the directed broadcast address of an attached interface's network.
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        self.broadcast.contains(&address)
    }

    /// Why a packet from `source` that arrived by this interface cannot be what it says, as far as addresses and routes
    /// tell.
    #[inline(always)]
    pub fn objection_to(&self, source: IpAddr, arrived: InterfaceId) -> Option<DropReason> {
        if self.impossible_sources.contains(source) || self.host.is_in_network(source) {
            return Some(DropReason::ImpossibleSource);
        }
        match self.reverse_path(arrived) {
            ReversePath::Off => None,
            asked => self.is_refused(source, arrived, asked).then_some(DropReason::ReversePath),
        }
    }

    #[cold]
    fn is_refused(&self, source: IpAddr, arrived: InterfaceId, asked: ReversePath) -> bool {
        if !source.is_ipv4() {
            return false;
        }
        // One of several paths will do, and whatever table it stands in: policy rules can make answers see another one.
        if self.next_hops(source).any(|(out, _)| out == arrived || asked == ReversePath::Loose) {
            return false;
        }
        match self.route(source).map(|route| &route.target) {
            Some(RouteTarget::Out { interface, .. }) => asked == ReversePath::Strict && *interface != arrived,
            Some(RouteTarget::Paths(_) | RouteTarget::Unlisted(_)) => asked == ReversePath::Strict,
            Some(RouteTarget::Local | RouteTarget::Nowhere) | None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::MacAddress;
    use crate::network::{Interface, Lowers, Route};

    fn network(asked: [ReversePath; 2]) -> Network {
        let interface = |id: u16| Interface {
            id: InterfaceId(id),
            name: format!("eth{id}").as_str().into(),
            index: u32::from(id) + 1,
            mac: MacAddress([2; 6]),
            mtu: 1500,
            addresses: vec![format!("10.{id}.0.1/24").parse().unwrap(), format!("fd00:{id}::1/64").parse().unwrap()],
            up: true,
            lowers: Lowers::default(),
        };
        let route = |to: &str, target| Route::new(to.parse().unwrap(), target);
        let routes = [
            route(
                "10.8.0.0/16",
                RouteTarget::Out { interface: InterfaceId(1), via: Some("10.1.0.2".parse().unwrap()) },
            ),
            route("10.9.0.0/16", RouteTarget::Unlisted("wg0".into())),
            route("10.7.0.0/16", RouteTarget::Nowhere),
            route("203.0.113.7/32", RouteTarget::Local),
        ];
        Network::new(1, vec![interface(0), interface(1)], routes, []).with_reverse_paths(asked.to_vec())
    }

    #[test]
    fn the_interface_says_what_it_takes() {
        use DropReason::{ImpossibleSource, ReversePath as Refused};
        use ReversePath::{Loose, Off, Strict};
        // By eth0, where that asks for nothing, strictly, loosely.
        let rows = [
            ("10.0.0.9", [None, None, None]),
            ("10.1.0.9", [None, Some(Refused), None]),
            ("10.8.1.2", [None, Some(Refused), None]),
            ("10.9.1.2", [None, Some(Refused), None]),
            ("10.7.1.2", [None, Some(Refused), Some(Refused)]),
            ("192.0.2.1", [None, Some(Refused), Some(Refused)]),
            ("2001:db8::9", [None, None, None]),
            ("fd00:1::9", [None, None, None]),
            ("10.1.0.1", [Some(ImpossibleSource); 3]),
            ("fd00:1::1", [Some(ImpossibleSource); 3]),
            ("203.0.113.7", [Some(ImpossibleSource); 3]),
            ("10.0.0.255", [Some(ImpossibleSource); 3]),
        ];
        for (source, expected) in rows {
            let source: IpAddr = source.parse().unwrap();
            let objections =
                [Off, Strict, Loose].map(|asked| network([asked, Off]).objection_to(source, InterfaceId(0)));
            assert_eq!(objections, expected, "{source}");
            // The other interface's setting is the other's.
            let other = network([Off, Strict]).objection_to(source, InterfaceId(0));
            assert_eq!(other, expected[0], "{source}");
        }
        let strict = network([Strict; 2]);
        assert_eq!(strict.objection_to("10.8.1.2".parse().unwrap(), InterfaceId(1)), None);
    }

    #[test]
    fn every_value_of_the_setting_means_something() {
        let of = ReversePath::of_setting;
        assert_eq!([of(0), of(1), of(2), of(7)].map(ReversePath::label), ["off", "strict", "loose", "loose"]);
    }
}
