//! Devices that stand on others, as the kernel's messages about links tell of them: VLAN devices, bonds, bridges, members.

use rtnetlink::packet_route::link::{
    BondAdInfo, BondAllPortActive, BondMode, BondPortState, BridgePortState, InfoBond, InfoBondPort, InfoBridge,
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVlan, LacpState, LinkAttribute, LinkInfo,
    LinkMessage, MiiStatus,
};

/// What a device is made of, as far as it matters for who carries its frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    pub(super) kind: Kind,
    /// One end of a pair: VLAN devices at the other end leave their tags beside the frame, where XDP does not see them.
    pub(super) is_veth: bool,
    /// The ifindex of the device below a VLAN device; `None` where that is in another network namespace.
    pub(super) below: Option<u32>,
    /// The ifindex of the bond, bridge, … that has this device as a member, and what it is there.
    pub(super) member: Option<(u32, Member)>,
}

/// How a device gets its frames from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not at all.
    #[default]
    Plain,
    /// From the device below, by their tag.
    Vlan { id: u16, sets_priorities: bool },
    /// From its members.
    Bond(Bond),
    /// From its ports.
    Bridge { filters_vlans: bool },
}

/// What decides which members of a bond are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bond {
    pub(super) mode: BondMode,
    /// Of active-backup: the ifindex of the member in use.
    pub(super) active: Option<u32>,
    /// What arrives by the members that are not in use counts as well (`all_slaves_active`).
    pub(super) takes_all: bool,
    /// Of 802.3ad: the aggregator in use.
    pub(super) aggregator: Option<u16>,
}

/// What a device is among the members of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// Of a bond.
    Bond(BondMember),
    /// A bridge's port, and whether it forwards.
    Bridge { forwards: bool },
    /// Of a device of another kind, which takes its frames away.
    Other(String),
}

/// What a bond thinks of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BondMember {
    /// It is in use, and no backup.
    pub(super) active: bool,
    /// The bond's own monitor finds its link up.
    pub(super) link_up: bool,
    /// Of 802.3ad: its aggregator, and whether it has agreed with the other end to take frames.
    pub(super) aggregator: Option<u16>,
    pub(super) collects: bool,
}

impl Layer {
    /// What a message says.
    pub(super) fn of(message: &LinkMessage) -> Self {
        let (mut below, mut elsewhere, mut upper, mut is_veth) = (None, false, None, false);
        let (mut kind, mut port_kind, mut port) = (Kind::Plain, None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Link(index) => below = Some(*index),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::Controller(index) => upper = Some(*index).filter(|index| *index != 0),
                LinkAttribute::LinkInfo(all) => {
                    for info in all {
                        match info {
                            LinkInfo::Kind(InfoKind::Veth) => is_veth = true,
                            LinkInfo::Data(data) => kind = Kind::of(data),
                            LinkInfo::PortKind(name) => port_kind = Some(name),
                            LinkInfo::PortData(data) => port = Some(data),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let is_vlan = matches!(kind, Kind::Vlan { .. });
        Layer {
            kind,
            is_veth,
            below: below.filter(|index| is_vlan && !elsewhere && *index != 0),
            // A VRF leaves a device its frames, and its addresses.
            member: upper.and_then(|upper| Some((upper, Member::of(port_kind?, port)?))),
        }
    }
}

impl Kind {
    fn of(data: &InfoData) -> Self {
        match data {
            InfoData::Vlan(all) => {
                let (mut id, mut sets_priorities) = (0, false);
                for one in all {
                    match one {
                        InfoVlan::Id(number) => id = *number,
                        InfoVlan::EgressQos(map) => sets_priorities = !map.is_empty(),
                        _ => {}
                    }
                }
                Kind::Vlan { id, sets_priorities }
            }
            InfoData::Bond(all) => Kind::Bond(Bond::of(all)),
            InfoData::Bridge(all) => Kind::Bridge { filters_vlans: all.contains(&InfoBridge::VlanFiltering(true)) },
            _ => Kind::Plain,
        }
    }
}

impl Bond {
    fn of(all: &[InfoBond]) -> Self {
        let mut bond = Bond::default();
        for one in all {
            match one {
                InfoBond::Mode(mode) => bond.mode = *mode,
                InfoBond::ActivePort(index) => bond.active = Some(*index).filter(|index| *index != 0),
                InfoBond::AllPortsActive(all) => bond.takes_all = *all == BondAllPortActive::Delivered,
                InfoBond::AdInfo(all) => {
                    bond.aggregator = all.iter().find_map(|one| match one {
                        BondAdInfo::Aggregator(number) => Some(*number),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        bond
    }
}

impl Member {
    fn of(kind: &InfoPortKind, data: Option<&InfoPortData>) -> Option<Self> {
        match (kind, data) {
            (InfoPortKind::Vrf, _) => None,
            (InfoPortKind::Bond, Some(InfoPortData::BondPort(all))) => Some(Member::Bond(BondMember::of(all))),
            (InfoPortKind::Bond, _) => Some(Member::Bond(BondMember::default())),
            (InfoPortKind::Bridge, data) => {
                let forwards = matches!(data, Some(InfoPortData::BridgePort(all))
                    if all.contains(&InfoBridgePort::State(BridgePortState::Forwarding)));
                Some(Member::Bridge { forwards })
            }
            (kind, _) => Some(Member::Other(kind.to_string())),
        }
    }
}

impl BondMember {
    fn of(all: &[InfoBondPort]) -> Self {
        let mut member = BondMember::default();
        for one in all {
            match one {
                InfoBondPort::BondPortState(state) => member.active = *state == BondPortState::Active,
                InfoBondPort::MiiStatus(status) => member.link_up = *status == MiiStatus::Up,
                InfoBondPort::AdAggregatorId(number) => member.aggregator = Some(*number),
                InfoBondPort::AdActorOperPortState(state) => member.collects = state.contains(LacpState::COLLECTING),
                _ => {}
            }
        }
        member
    }
}
