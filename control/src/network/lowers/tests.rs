use super::*;
use crate::network::layers::Layer;
use ringway_shared::MacAddress;

fn plain(index: u32, name: &str) -> Link {
    let mac = Some(MacAddress([2, 0, 0, 0, 0, index as u8]));
    Link { index, name: name.into(), mac, mtu: 1500, up: true, ..Link::default() }
}

fn of_kind(index: u32, name: &str, kind: Kind) -> Link {
    Link { layer: Layer { kind, ..Layer::default() }, ..plain(index, name) }
}

fn vlan(index: u32, name: &str, below: u32, id: u16) -> Link {
    let layer = Layer { kind: Kind::Vlan { id, sets_priorities: false }, below: Some(below), ..Layer::default() };
    Link { layer, ..plain(index, name) }
}

fn bond(index: u32, mode: BondMode, active: Option<u32>) -> Link {
    of_kind(index, "bond0", Kind::Bond(Bond { mode, active, aggregator: Some(1), ..Bond::default() }))
}

fn bridge(index: u32) -> Link {
    of_kind(index, "br0", Kind::Bridge { filters_vlans: false })
}

fn member(mut link: Link, upper: u32, member: Member) -> Link {
    link.layer.member = Some((upper, member));
    link
}

const USED: BondMember = BondMember { active: true, link_up: true, aggregator: Some(1), collects: true };
const BACKUP: BondMember = BondMember { active: false, ..USED };

fn slave(index: u32, name: &str, upper: u32, state: BondMember) -> Link {
    member(plain(index, name), upper, Member::Bond(state))
}

fn port(link: Link, upper: u32) -> Link {
    member(link, upper, Member::Bridge { forwards: true })
}

/// What carries the first of these links: `eth0 rs` receives and sends, `@100` is the tag, `:` begins a note; or why nothing.
fn told(links: &[Link]) -> String {
    match of(&links[0], links) {
        Err(why) => format!("no: {why}"),
        Ok(Lowers { devices, vlan, notes }) => {
            let device = |lower: &Lower| {
                let (receives, sends) = (if lower.receives { "r" } else { "-" }, if lower.sends { "s" } else { "-" });
                assert_eq!(links.iter().find(|link| link.index == lower.index).unwrap().name, lower.name);
                format!("{} {receives}{sends}", lower.name)
            };
            let devices: Vec<String> = devices.iter().map(device).collect();
            let tag = vlan.map_or_else(String::new, |id| format!("@{id}"));
            let notes = notes.iter().map(|note| format!(": {note}")).collect::<String>();
            format!("{}{tag}{notes}", devices.join(", "))
        }
    }
}

#[test]
fn a_vlan_device_is_carried_by_the_nic_below_under_its_tag() {
    assert_eq!(told(&[plain(2, "eth0")]), "eth0 rs");
    assert_eq!(told(&[vlan(3, "eth0.100", 2, 100), plain(2, "eth0")]), "eth0 rs@100");
    let mut with_priorities = vlan(3, "eth0.100", 2, 100);
    with_priorities.layer.kind = Kind::Vlan { id: 100, sets_priorities: true };
    assert!(told(&[with_priorities, plain(2, "eth0")]).starts_with("eth0 rs@100: has an egress-qos-map"));
}

#[test]
fn a_vlan_device_of_a_priority_alone_is_refused() {
    let links = [vlan(3, "eth0.0", 2, 0), plain(2, "eth0")];
    assert!(told(&links).starts_with("no: is a VLAN device of number 0"), "{}", told(&links));
    assert!(!is_meant(&links[0], &links, |name| name == "eth0.0"));
    assert_eq!(told(&[vlan(3, "eth0.4094", 2, 4094), plain(2, "eth0")]), "eth0 rs@4094");
}

#[test]
fn a_vlan_device_whose_nic_is_elsewhere_is_carried_by_itself() {
    let mut moved = vlan(3, "eth0.100", 2, 100);
    moved.layer.below = None;
    let said = told(&[moved, plain(2, "eth0")]);
    assert!(said.starts_with("eth0.100 rs: is a VLAN device whose lower device is not in this"), "{said}");
}

#[test]
fn a_vlan_device_above_a_veth_is_carried_by_itself() {
    let mut veth = plain(2, "eth0");
    veth.layer.is_veth = true;
    assert_eq!(told(std::slice::from_ref(&veth)), "eth0 rs");
    let said = told(&[vlan(3, "eth0.100", 2, 100), veth.clone()]);
    assert!(said.starts_with("eth0.100 rs: is a VLAN device above the veth eth0, which does not show XDP"), "{said}");
    let said = told(&[vlan(9, "br0.7", 4, 7), bridge(4), port(veth, 4)]);
    assert!(said.starts_with("br0.7 rs: is a VLAN device above the veth eth0"), "{said}");
}

#[test]
fn two_tags_are_refused() {
    let said = told(&[vlan(4, "eth0.100.7", 3, 7), vlan(3, "eth0.100", 2, 100), plain(2, "eth0")]);
    assert!(said.starts_with("no: is a VLAN device under the VLAN device eth0.100") && said.contains("QinQ"), "{said}");
    let above = vlan(5, "br0.7", 4, 7);
    let said = told(&[above, bridge(4), port(vlan(3, "eth0.100", 2, 100), 4), plain(2, "eth0")]);
    assert!(said.starts_with("no: is a VLAN device under br0, whose frames have one already"), "{said}");
}

#[test]
fn active_backup_uses_the_active_member() {
    let links = |active| {
        [
            bond(4, BondMode::ActiveBackup, active),
            slave(3, "eth1", 4, BACKUP),
            slave(2, "eth0", 4, USED),
            plain(9, "eth9"),
        ]
    };
    assert_eq!(told(&links(Some(2))), "eth0 rs, eth1 --");
    assert_eq!(told(&links(Some(3))), "eth0 --, eth1 rs", "the bond's word counts");
    assert_eq!(told(&links(None)), "eth0 rs, eth1 --");
    let mut all = links(Some(2));
    let takes_all = Bond { mode: BondMode::ActiveBackup, active: Some(2), takes_all: true, aggregator: None };
    all[0].layer.kind = Kind::Bond(takes_all);
    assert_eq!(told(&all), "eth0 rs, eth1 r-");
}

#[test]
fn lacp_uses_the_members_of_the_active_aggregator() {
    let of =
        |state| told(&[bond(4, BondMode::Ieee8023Ad, None), slave(2, "eth0", 4, USED), slave(3, "eth1", 4, state)]);
    assert_eq!(of(USED), "eth0 rs, eth1 rs");
    assert_eq!(of(BondMember { aggregator: Some(2), ..USED }), "eth0 rs, eth1 --", "another aggregator");
    assert_eq!(of(BondMember { active: false, ..USED }), "eth0 rs, eth1 r-", "it only takes frames so far");
    assert_eq!(of(BondMember { active: false, collects: false, ..USED }), "eth0 rs, eth1 --");
    // Without an answer of the other end the kernel uses one member all the same.
    assert_eq!(of(BondMember { collects: false, ..USED }), "eth0 rs, eth1 rs");
    assert_eq!(of(BondMember { link_up: false, ..USED }), "eth0 rs, eth1 r-");
    let mut down = slave(3, "eth1", 4, USED);
    down.up = false;
    assert_eq!(
        told(&[bond(4, BondMode::Ieee8023Ad, None), down]),
        "eth1 r-",
        "its carrier is gone, the bond looks later"
    );
}

#[test]
fn xor_and_round_robin_use_all_that_are_up() {
    let of = |mode, state| told(&[bond(4, mode, None), slave(2, "eth0", 4, USED), slave(3, "eth1", 4, state)]);
    assert_eq!(of(BondMode::BalanceXor, USED), "eth0 rs, eth1 rs");
    assert_eq!(of(BondMode::BalanceXor, BondMember { link_up: false, ..USED }), "eth0 rs, eth1 --");
    let said = of(BondMode::BalanceRr, USED);
    assert!(said.starts_with("eth0 rs, eth1 rs: is a bond in mode balance-rr: Ringway keeps each"), "{said}");
}

#[test]
fn a_bond_needs_members_that_are_nics() {
    let empty = bond(4, BondMode::ActiveBackup, None);
    let said = told(std::slice::from_ref(&empty));
    assert_eq!(said, "no: is a bond without members; add one (ip link set DEVICE down master bond0)");
    let inner = member(of_kind(5, "bond1", Kind::Bond(Bond::default())), 4, Member::Bond(USED));
    let said = told(&[empty.clone(), inner]);
    assert!(said.starts_with("no: is a bond whose member bond1 is itself made of other devices"), "{said}");
    let said = told(&[vlan(9, "bond0.7", 4, 7), empty]);
    assert!(said.starts_with("no: stands on bond0, which is a bond without members"), "{said}");
}

#[test]
fn a_vlan_device_above_a_bond_is_carried_by_the_members() {
    let below = [bond(4, BondMode::ActiveBackup, Some(2)), slave(2, "eth0", 4, USED), slave(3, "eth1", 4, BACKUP)];
    let [bond0, eth0, eth1] = below;
    assert_eq!(told(&[vlan(9, "bond0.7", 4, 7), bond0.clone(), eth0.clone(), eth1.clone()]), "eth0 rs, eth1 --@7");
    let said = told(&[vlan(9, "eth0.7", 2, 7), bond0, eth0, eth1]);
    assert!(
        said.contains("above eth0, a member of bond0; make one above bond0 (ip link add link bond0 name"),
        "{said}"
    );
}

#[test]
fn a_member_is_refused_for_its_upper_device() {
    let bonded = slave(2, "eth0", 4, USED);
    let said = told(&[bonded, bond(4, BondMode::ActiveBackup, Some(2))]);
    assert_eq!(said, "no: is a member of the bond bond0, whose frames it carries; list bond0 in its place");
    let said = told(&[port(plain(2, "eth0"), 4), bridge(4)]);
    assert_eq!(said, "no: is a port of the bridge br0, whose frames it carries; list br0 in its place");
    let said = told(&[member(plain(2, "eth0"), 4, Member::Other("team".to_owned())), plain(4, "team0")]);
    assert!(said.starts_with("no: is a member of team0 (kind team)") && said.contains("eth0 nomaster"), "{said}");
}

#[test]
fn a_bridge_is_carried_by_its_only_port_or_by_itself() {
    assert_eq!(told(&[bridge(4), port(plain(2, "eth0"), 4), port(plain(8, "rw4"), 4)]), "eth0 rs");
    let blocked = member(plain(2, "eth0"), 4, Member::Bridge { forwards: false });
    assert_eq!(told(&[bridge(4), blocked]), "eth0 --");
    assert!(told(&[bridge(4)]).starts_with("br0 rs: is a bridge without ports"));
    let said = told(&[bridge(4), port(plain(2, "eth0"), 4), port(plain(3, "eth1"), 4)]);
    assert!(said.starts_with("br0 rs: is a bridge of 2 ports") && said.contains("attached to br0 itself"), "{said}");
    let filters = of_kind(4, "br0", Kind::Bridge { filters_vlans: true });
    let said = told(&[filters.clone(), port(plain(2, "eth0"), 4)]);
    assert!(said.starts_with("br0 rs: is a bridge that filters VLANs"), "{said}");
    // What stands on a bridge that is carried by itself, does so as well.
    let said = told(&[vlan(9, "br0.7", 4, 7), filters, port(plain(2, "eth0"), 4)]);
    assert!(said.starts_with("br0.7 rs: stands on br0, which is a bridge that filters VLANs"), "{said}");
    let unfit = Link { unfit: Some("is odd".into()), ..plain(2, "odd0") };
    assert!(told(&[bridge(4), port(unfit, 4)]).starts_with("br0 rs: is a bridge with the port odd0, which is odd, so"));
}

#[test]
fn a_bridge_above_a_bond_or_a_vlan_device_is_carried_by_what_is_below() {
    let bonded = port(bond(4, BondMode::ActiveBackup, Some(2)), 5);
    let said = told(&[bridge(5), bonded, slave(2, "eth0", 4, USED), slave(3, "eth1", 4, BACKUP)]);
    assert_eq!(said, "eth0 rs, eth1 --");
    assert_eq!(told(&[bridge(5), port(vlan(3, "eth0.7", 2, 7), 5), plain(2, "eth0")]), "eth0 rs@7");
    assert_eq!(told(&[vlan(9, "br0.7", 5, 7), bridge(5), port(plain(2, "eth0"), 5)]), "eth0 rs@7");
}

#[test]
fn devices_that_stand_on_each_other_without_end_are_refused() {
    let said = told(&[bridge(4), port(bridge(4), 4)]);
    assert!(said.contains("stands on too many other devices"), "{said}");
}

#[test]
fn a_glob_leaves_out_members_and_vlan_devices_of_what_it_means() {
    let links = [
        plain(2, "eth0"),
        vlan(3, "eth0.100", 2, 100),
        slave(4, "eth1", 7, USED),
        port(plain(5, "eth2"), 8),
        plain(6, "rw2"),
        bond(7, BondMode::ActiveBackup, Some(4)),
        bridge(8),
        Link { unfit: Some("is odd".into()), ..plain(9, "eth9") },
    ];
    let meant = |matches: fn(&str) -> bool| {
        let names = links.iter().filter(|link| matches(&link.name) && is_meant(link, &links, matches));
        names.map(|link| &*link.name).collect::<Vec<_>>()
    };
    assert_eq!(meant(|_| true), ["eth0", "bond0", "br0"]);
    assert_eq!(meant(|name| name.starts_with("eth0.")), ["eth0.100"]);
}
