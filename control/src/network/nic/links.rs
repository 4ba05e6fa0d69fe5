//! The links of this network namespace, and which stand on which: asked once, for a report.

use std::io;

use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};

use crate::network::links::is_tap_name;
use crate::network::listing;

/// A link as the kernel tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NicLink {
    /// Its ifindex.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// `vlan`, `bond`, `veth`, …; `None` for a NIC.
    pub(super) kind: Option<String>,
    /// It carries Ethernet frames.
    pub(super) ethernet: bool,
    /// Administratively up, with a carrier.
    pub(super) up: bool,
    /// Administratively up.
    pub(super) enabled: bool,
    /// The largest IP packet.
    pub(super) mtu: u32,
    /// The bond, bridge or team that it is a part of, by ifindex.
    pub(super) controller: Option<u32>,
    /// The link that it stands on, by ifindex; of a VLAN device the one that carries it.
    pub(super) below: Option<u32>,
    /// `native` or `generic`, where an XDP program is attached.
    pub(super) xdp: Option<&'static str>,
}

impl NicLink {
    fn of(message: &LinkMessage) -> Option<Self> {
        let header = &message.header;
        let mut link = NicLink {
            index: header.index,
            ethernet: header.link_layer_type == LinkLayerType::Ether && !header.flags.contains(LinkFlags::Loopback),
            up: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            enabled: header.flags.contains(LinkFlags::Up),
            ..NicLink::default()
        };
        let mut elsewhere = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::Link(index) => link.below = Some(*index).filter(|index| *index != 0),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::LinkInfo(info) => {
                    let kind = info.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                    link.kind = kind;
                }
                LinkAttribute::Xdp(all) => {
                    link.xdp = all.iter().find_map(|xdp| match xdp {
                        LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware | XdpAttached::Multiple) => {
                            Some("native")
                        }
                        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some("generic"),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        if elsewhere {
            link.below = None;
        }
        (!link.name.is_empty()).then_some(link)
    }

    /// The links that carry its frames; none where it does so itself.
    pub(super) fn lowers<'l>(&self, all: &'l [NicLink]) -> Vec<&'l NicLink> {
        let carries = |link: &&NicLink| match self.kind.as_deref() {
            Some("bond" | "bridge" | "team") => link.controller == Some(self.index),
            Some("vlan" | "macvlan" | "ipvlan" | "macvtap") => Some(link.index) == self.below,
            _ => false,
        };
        all.iter().filter(carries).collect()
    }

    /// The VLAN devices on top of it, also on top of a bond or bridge that it is in.
    pub(super) fn vlans<'l>(&self, all: &'l [NicLink]) -> Vec<&'l NicLink> {
        let is_vlan = |link: &&NicLink| {
            link.kind.as_deref() == Some("vlan")
                && link.below.is_some_and(|below| below == self.index || Some(below) == self.controller)
        };
        all.iter().filter(is_vlan).collect()
    }

    /// Whether it is one of the TAP devices through which Ringway gives packets to the kernel.
    pub(super) fn is_own_tap(&self) -> bool {
        self.kind.as_deref() == Some("tun") && is_tap_name(&self.name)
    }
}

/// Every link of the calling thread's network namespace.
pub(super) fn links() -> io::Result<Vec<NicLink>> {
    Ok(listing::messages()?.iter().filter_map(NicLink::of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_of_this_namespace_are_told() {
        let links = links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((loopback.index, loopback.ethernet, loopback.lowers(&links).len()), (1, false, 0));
    }

    #[test]
    fn links_stand_on_links() {
        let link = |index, name: &str, kind: Option<&str>, controller, below| NicLink {
            index,
            name: name.into(),
            kind: kind.map(str::to_owned),
            controller,
            below,
            ..NicLink::default()
        };
        let all = [
            link(2, "eth0", None, Some(4), None),
            link(3, "eth1", None, Some(4), None),
            link(4, "bond0", Some("bond"), None, None),
            link(5, "bond0.100", Some("vlan"), None, Some(4)),
            link(6, "veth0", Some("veth"), None, Some(2)),
            link(7, "rw2", Some("tun"), None, None),
        ];
        let names = |links: Vec<&NicLink>| links.iter().map(|link| link.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(all[2].lowers(&all)), ["eth0", "eth1"]);
        assert_eq!(names(all[3].lowers(&all)), ["bond0"]);
        assert!(all[0].lowers(&all).is_empty() && all[4].lowers(&all).is_empty());
        assert_eq!(names(all[0].vlans(&all)), ["bond0.100"]);
        assert_eq!(names(all[2].vlans(&all)), ["bond0.100"]);
        assert!(all[5].is_own_tap() && !all[4].is_own_tap());
    }
}
