//! The `network` section: interfaces, routes and neighbours written down instead of read from the kernel.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ringway_shared::network::{Interface, Lowers, Route, RouteTarget};
use ringway_shared::{Family, InterfaceId, MacAddress, Network};

use super::field::{Field, Map};
use super::{InterfaceConfig, InterfacePattern, value};

/// The network as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Interfaces, whether Ringway attaches to them or not.
    pub interfaces: Vec<NetworkInterface>,
    /// Routes besides the connected ones, which the interfaces' addresses give.
    pub routes: Vec<NetworkRoute>,
    /// Neighbours. There is no way to a next hop that is not here.
    pub neighbors: Vec<NetworkNeighbor>,
}

/// One item of `network.interfaces`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// Its name.
    pub name: Arc<str>,
    /// Its MAC address.
    pub mac: MacAddress,
    /// The largest IP packet it carries, in bytes.
    pub mtu: u32,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Whether it is up; true unless written.
    pub up: bool,
}

/// One item of `network.routes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRoute {
    /// The destinations.
    pub to: IpNet,
    /// The gateway; `None` for on link.
    pub via: Option<IpAddr>,
    /// The interface.
    pub dev: Arc<str>,
    /// The source address that Linux would choose on this way.
    pub source: Option<IpAddr>,
    /// Preference among routes to the same prefix; lower wins.
    pub metric: u32,
    /// The largest packet that the way carries, in bytes, where it is not the interface's MTU alone that counts.
    pub mtu: Option<u32>,
}

/// One item of `network.neighbors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkNeighbor {
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: MacAddress,
    /// The interface it is behind.
    pub dev: Arc<str>,
}

impl NetworkConfig {
    /// The names of the interfaces that Ringway attaches to, in the order of the `interfaces` section; those that one
    /// glob names keep the order they have here. A name's place is its [`InterfaceId`].
    pub fn attached<'n>(&'n self, listed: &[InterfaceConfig]) -> Vec<&'n NetworkInterface> {
        let mut attached: Vec<&NetworkInterface> = Vec::new();
        for pattern in listed {
            for interface in self.interfaces.iter().filter(|interface| pattern.name.matches(&interface.name)) {
                if !attached.iter().any(|other| other.name == interface.name) {
                    attached.push(interface);
                }
            }
        }
        attached
    }

    /// The network that workers see when `listed` are attached.
    pub fn build(&self, generation: u32, listed: &[InterfaceConfig]) -> Network {
        let attached = self.attached(listed);
        let interfaces = (0..).zip(&attached).map(|(id, interface)| Interface {
            id: InterfaceId(id),
            name: interface.name.clone(),
            index: 0,
            mac: interface.mac,
            mtu: interface.mtu,
            addresses: interface.addresses.clone(),
            up: interface.up,
            lowers: Lowers::default(),
        });
        let id_of = |name: &str| {
            attached.iter().position(|interface| &*interface.name == name).map(|at| InterfaceId(at as u16))
        };
        let routes = self.routes.iter().map(|route| {
            let target = match id_of(&route.dev) {
                Some(interface) => RouteTarget::Out { interface, via: route.via },
                None => RouteTarget::Unlisted(route.dev.clone()),
            };
            Route { to: route.to, target, source: route.source, metric: route.metric, mtu: route.mtu }
        });
        // Interfaces that nobody attaches to have addresses, too, and connected routes that lead to `no_interface`.
        let unlisted = self.interfaces.iter().filter(|interface| id_of(&interface.name).is_none());
        let connected = unlisted.flat_map(|interface| {
            interface.addresses.iter().flat_map(|address| {
                let route = |to, target, source| Route { source, metric: u32::MAX, ..Route::new(to, target) };
                let unlisted = RouteTarget::Unlisted(interface.name.clone());
                let own = route(address.addr().into(), RouteTarget::Local, None);
                [route(address.trunc(), unlisted, Some(address.addr())), own]
            })
        });
        let neighbors =
            self.neighbors.iter().filter_map(|neighbor| Some((id_of(&neighbor.dev)?, neighbor.address, neighbor.mac)));
        Network::new(generation, interfaces.collect(), routes.chain(connected), neighbors)
    }

    /// The addresses on the interface that the default route leaves by: the node's own, when nothing else says them.
    pub fn default_route_addresses(&self) -> Vec<IpAddr> {
        let default = |family| {
            let routes = self
                .routes
                .iter()
                .filter(move |route| route.to.prefix_len() == 0 && Family::of(route.to.addr()) == family);
            let dev = routes.min_by_key(|route| route.metric).map(|route| route.dev.clone());
            let interfaces = self.interfaces.iter().filter(move |interface| Some(&interface.name) == dev.as_ref());
            interfaces.flat_map(|interface| &interface.addresses).map(IpNet::addr).filter(move |address| {
                Family::of(*address) == family && !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
            })
        };
        default(Family::V4).chain(default(Family::V6)).collect()
    }

    pub(super) fn read(map: Map<'_>) -> Self {
        let items = |key| map.get(key).and_then(|field| field.list()).unwrap_or_default();
        let network = NetworkConfig {
            interfaces: items("interfaces").iter().filter_map(interface).collect(),
            routes: items("routes").iter().filter_map(route).collect(),
            neighbors: items("neighbors").iter().filter_map(neighbor).collect(),
        };
        for (at, interface) in network.interfaces.iter().enumerate() {
            if network.interfaces[..at].iter().any(|other| other.name == interface.name) {
                map.problem(format!("interfaces names {} twice", interface.name));
            }
        }
        if network.interfaces.len() > usize::from(u16::MAX) {
            map.problem("interfaces has more than 65535 items");
        }
        map.finish();
        network
    }
}

fn interface(field: &Field<'_>) -> Option<NetworkInterface> {
    let map = field.map()?;
    let name = map.require("name", "write the interface's name").and_then(|field| field.parse(name));
    let mac = map.require("mac", "write its MAC address, as \"02:00:00:00:00:01\"");
    let mac = mac.and_then(|field| field.parse(value::mac));
    // Linux refuses less than 68 (RFC 791) and more than 65535 for Ethernet devices.
    let mtu = map.value("mtu", 1500, value::number(68..=65_535)) as u32;
    let addresses = map.get("addresses").map(|field| field.parse_list(value::address_in_network)).unwrap_or_default();
    let up = map.value("up", true, value::truth);
    map.finish();
    Some(NetworkInterface { name: name?, mac: mac?, mtu, addresses, up })
}

fn route(field: &Field<'_>) -> Option<NetworkRoute> {
    let map = field.map()?;
    let via = map.get("via").and_then(|field| field.parse(value::unicast));
    let to = map.require("to", "write a CIDR, or default").and_then(|field| field.parse(|text| destination(text, via)));
    let dev = map.require("dev", "write the interface's name").and_then(|field| field.parse(name));
    let source = map.get("source").and_then(|field| field.parse(value::unicast));
    let metric = map.value("metric", 0, value::number(0..=u64::from(u32::MAX))) as u32;
    let mtu = map.get("mtu").and_then(|field| field.parse(value::number(68..=65_535))).map(|mtu| mtu as u32);
    if let Some(to) = &to {
        for (key, address) in [("via", via), ("source", source)] {
            if let Some(address) = address.filter(|address| Family::of(*address) != Family::of(to.addr())) {
                map.problem(format!("{key} {address} and to {to} are of two address families"));
            }
        }
    }
    map.finish();
    Some(NetworkRoute { to: to?, via, dev: dev?, source, metric, mtu })
}

/// A route's destination, as `ip route` takes it: a network, one host, or `default`.
fn destination(text: &str, via: Option<IpAddr>) -> Result<IpNet, String> {
    match (text, via) {
        ("default", Some(IpAddr::V4(_))) => value::cidr("0.0.0.0/0"),
        ("default", Some(IpAddr::V6(_))) => value::cidr("::/0"),
        ("default", None) => Err("says no address family without via; write 0.0.0.0/0 or ::/0".into()),
        _ => text.parse::<IpAddr>().map(IpNet::from).or_else(|_| value::cidr(text)),
    }
}

fn neighbor(field: &Field<'_>) -> Option<NetworkNeighbor> {
    let map = field.map()?;
    let address = map.require("address", "write the neighbour's IP address");
    let address = address.and_then(|field| field.parse(value::unicast));
    let mac = map.require("mac", "write its MAC address, as \"02:00:00:00:00:03\"");
    let mac = mac.and_then(|field| field.parse(value::mac));
    let dev = map.require("dev", "write the interface's name").and_then(|field| field.parse(name));
    map.finish();
    Some(NetworkNeighbor { address: address?, mac: mac?, dev: dev? })
}

/// The name of one interface.
fn name(text: &str) -> Result<Arc<str>, String> {
    let pattern = InterfacePattern::parse(text)?;
    if pattern.is_glob() {
        return Err("is a glob, where the name of one interface is expected".into());
    }
    Ok(pattern.as_str().into())
}
