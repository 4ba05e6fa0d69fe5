//! Links that Ringway cannot be attached to, why that is, and what to do instead.
//!
//! An AF_XDP socket sends whole Ethernet frames, and the kernel knows of them nothing but their bytes. A tunnel without
//! Ethernet headers (ipip, sit, gre, wireguard) takes only packets whose protocol the kernel has noted, and drops the rest;
//! a tunnel in external mode takes only those to which a route or a BPF program has added where they go. Of devices that stand
//! on others some choose the way of each frame by rules of their own; what a link's own message does not show, says
//! [`super::lowers`].

use rtnetlink::packet_route::link::{
    BondMode, InfoBond, InfoData, InfoGeneve, InfoIpVlan, InfoKind, InfoVlan, InfoVxlan, IpVlanMode, LinkAttribute,
    LinkFlags, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol,
};

/// What to do about tunnels of pod networks.
const REMEDY: &str = "have the pod network route without a tunnel, or by VXLAN, and list that device (Calico: ipipMode Never \
                      and vxlanMode Always in the IPPool, then vxlan.calico)";

const SERVICE_TAG: &str = "is a VLAN device with service tags (802.1ad)";
const ONE_TAG: &str = "Ringway takes one tag, of 802.1Q; let a switch or another namespace take this one";
const L3: &str = "is an ipvlan device that routes by itself (mode l3 or l3s) and has no neighbours; make it one of mode l2, or list \
                  the device below it";

/// Why Ringway cannot be attached to the link that a message describes: how its name goes on, and what to do.
pub(super) fn why(message: &LinkMessage) -> Option<String> {
    let header = &message.header;
    if header.flags.contains(LinkFlags::Loopback) {
        return Some("is not an Ethernet interface, so Ringway cannot be attached to it; name another one".to_owned());
    }
    let info = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => Some(info),
        _ => None,
    });
    let (mut kind, mut external, mut own_rules) = (None, false, None);
    for info in info.flatten() {
        match info {
            LinkInfo::Kind(name) => {
                own_rules = by_kind(name);
                kind = Some(name.to_string());
            }
            LinkInfo::Data(InfoData::Bond(all)) => own_rules = all.iter().find_map(by_mode),
            LinkInfo::Data(InfoData::Vlan(all)) if all.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)) => {
                own_rules = Some(format!("{SERVICE_TAG}; {ONE_TAG}"));
            }
            LinkInfo::Data(InfoData::IpVlan(all)) if !all.contains(&InfoIpVlan::Mode(IpVlanMode::L2)) => {
                own_rules = Some(L3.to_owned());
            }
            LinkInfo::Data(InfoData::Vxlan(all)) => external |= all.contains(&InfoVxlan::CollectMetadata(true)),
            LinkInfo::Data(InfoData::Geneve(all)) => external |= all.contains(&InfoGeneve::CollectMetadata),
            _ => {}
        }
    }
    let kind = kind.map_or_else(String::new, |kind| format!(" of kind {kind}"));
    if header.link_layer_type != LinkLayerType::Ether {
        return Some(format!(
            "is not an Ethernet interface but one{kind}, and the kernel sends no frame of an AF_XDP socket by it; {REMEDY}"
        ));
    }
    if external {
        return Some(format!(
            "is a tunnel{kind} in external mode: where a packet goes is said by BPF programs or routes, which frames of an \
             AF_XDP socket do not pass; have the pod network route without a tunnel (Cilium: routingMode native)"
        ));
    }
    own_rules
}

/// Why no device of this kind is fit.
fn by_kind(kind: &InfoKind) -> Option<String> {
    match kind {
        InfoKind::Team => Some(
            "is a team device, whose members its own daemon chooses; make a bond of them (type bond, mode 802.3ad or \
             active-backup) and list that"
                .to_owned(),
        ),
        InfoKind::Other(name) if name == "openvswitch" => Some(
            "is a device of Open vSwitch, whose flows and bonds choose the way of each frame; give Ringway a NIC, a bond or a \
             Linux bridge that is not in Open vSwitch, with the addresses on it, and list that"
                .to_owned(),
        ),
        InfoKind::Hsr => {
            Some("is an HSR or PRP device, which sends each frame twice; list an interface without redundancy".to_owned())
        }
        _ => None,
    }
}

/// Why no bond of this mode is fit.
fn by_mode(info: &InfoBond) -> Option<String> {
    let InfoBond::Mode(mode) = info else { return None };
    let what = match mode {
        BondMode::Broadcast => "sends each frame by every member",
        BondMode::BalanceTlb => "sends each connection from the address of another member, as their load goes",
        BondMode::BalanceAlb => "tells each neighbour the address of another member",
        BondMode::Other(_) => "is of a mode that Ringway does not know",
        _ => return None,
    };
    Some(format!(
        "is a bond in mode {mode}, which {what}; Ringway takes active-backup, 802.3ad, balance-xor and balance-rr: make it one of \
         those (with a switch that knows nothing of it: active-backup)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(layer: LinkLayerType, kind: InfoKind, data: Option<InfoData>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.link_layer_type = layer;
        let info = [LinkInfo::Kind(kind)].into_iter().chain(data.map(LinkInfo::Data)).collect();
        message.attributes = vec![LinkAttribute::LinkInfo(info)];
        message
    }

    #[test]
    fn tunnels_that_take_no_frames_are_told_by_their_kind() {
        let ether = LinkLayerType::Ether;
        let flannel = InfoData::Vxlan(vec![InfoVxlan::Id(1), InfoVxlan::CollectMetadata(false)]);
        assert_eq!(why(&link(ether, InfoKind::Vxlan, Some(flannel))), None);
        assert_eq!(why(&link(ether, InfoKind::Veth, None)), None);
        let cilium = InfoData::Vxlan(vec![InfoVxlan::Id(0), InfoVxlan::CollectMetadata(true)]);
        let told = why(&link(ether, InfoKind::Vxlan, Some(cilium))).unwrap();
        assert!(told.starts_with("is a tunnel of kind vxlan in external mode") && told.contains("Cilium"), "{told}");
        let told = why(&link(LinkLayerType::Tunnel, InfoKind::IpIp, None)).unwrap();
        assert!(told.starts_with("is not an Ethernet interface but one of kind ipip,"), "{told}");
        assert!(told.ends_with("then vxlan.calico)"), "{told}");
        assert!(why(&link(LinkLayerType::None, InfoKind::Wireguard, None)).is_some());
    }

    #[test]
    fn devices_that_choose_ways_by_rules_of_their_own_are_told_by_name() {
        let ether = LinkLayerType::Ether;
        let bond = |mode| why(&link(ether, InfoKind::Bond, Some(InfoData::Bond(vec![InfoBond::Mode(mode)]))));
        for mode in [BondMode::ActiveBackup, BondMode::Ieee8023Ad, BondMode::BalanceXor, BondMode::BalanceRr] {
            assert_eq!(bond(mode), None, "{mode}");
        }
        for mode in [BondMode::Broadcast, BondMode::BalanceTlb, BondMode::BalanceAlb] {
            let told = bond(mode).unwrap();
            assert!(told.starts_with(&format!("is a bond in mode {mode}, which ")), "{told}");
            assert!(told.contains("active-backup, 802.3ad, balance-xor and balance-rr"), "{told}");
        }
        let vlan = |protocol| vec![InfoVlan::Protocol(protocol), InfoVlan::Id(7)];
        let vlan = |protocol| why(&link(ether, InfoKind::Vlan, Some(InfoData::Vlan(vlan(protocol)))));
        assert_eq!(vlan(VlanProtocol::Ieee8021Q), None);
        assert!(vlan(VlanProtocol::Ieee8021Ad).unwrap().contains("802.1ad"));
        assert!(why(&link(ether, InfoKind::Team, None)).unwrap().contains("make a bond"));
        let told = why(&link(ether, InfoKind::Other("openvswitch".to_owned()), None)).unwrap();
        assert!(told.contains("Open vSwitch") && told.contains("Linux bridge"), "{told}");
        let ipvlan = |mode| InfoData::IpVlan(vec![InfoIpVlan::Mode(mode)]);
        assert_eq!(why(&link(ether, InfoKind::IpVlan, Some(ipvlan(IpVlanMode::L2)))), None);
        assert!(why(&link(ether, InfoKind::IpVlan, Some(ipvlan(IpVlanMode::L3)))).unwrap().contains("mode l2"));
    }
}
