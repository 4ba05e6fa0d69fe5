//! Which devices carry the frames of a link ([`Lowers`]), and why none can.
//!
//! | a link | is carried by |
//! |---|---|
//! | a VLAN device | what carries the device below it, under its tag; above a veth, itself |
//! | a bond | its members: which of them receive and send now is the bond's own choice |
//! | a bridge with one port | what carries that port |
//! | any other bridge | itself: where a frame goes only the bridge knows |
//! | a member of a bond or bridge | nothing; the bond or bridge is meant |
//! | all else | itself |
//!
//! One tag is all there is room for: a VLAN device on one that has a tag already is refused.

use std::sync::Arc;

use ringway_shared::network::{Lower, Lowers};
use rtnetlink::packet_route::link::BondMode;

use super::layers::{Bond, BondMember, Kind, Member};
use super::links::Link;

/// How deep devices may stand on each other. The kernel allows 8.
const DEEPEST: usize = 8;

/// What carries `link`; an error says why nothing can, in words that go on after its name. `all`: every link there is.
pub(super) fn of(link: &Link, all: &[Link]) -> Result<Lowers, String> {
    if let Some(why) = link.unfit.as_ref() {
        return Err(why.to_string());
    }
    if let Some(why) = as_member(link, all) {
        return Err(why);
    }
    let Carriage { lowers, by_itself, hints } = carriage(link, all, DEEPEST)?;
    let notes: Vec<String> = by_itself.into_iter().chain(hints).collect();
    Ok(Lowers { notes: notes.into(), ..lowers })
}

/// Whether a glob means this link. It leaves out members of bonds and bridges, what nothing can carry, and VLAN devices whose
/// lower device it means as well: `eth*` is no word about eth0.100.
pub(super) fn is_meant(link: &Link, all: &[Link], matches: impl Fn(&str) -> bool) -> bool {
    let by_accident = matches!(link.layer.kind, Kind::Vlan { .. })
        && link.layer.below.and_then(|index| find(all, index)).is_some_and(|below| matches(&below.name));
    !by_accident && !link.is_own_tap() && of(link, all).is_ok()
}

/// Why a link that is a member of another cannot be an interface.
fn as_member(link: &Link, all: &[Link]) -> Option<String> {
    let (upper, member) = link.layer.member.as_ref()?;
    let upper = find(all, *upper).map_or("another device", |upper| &upper.name);
    Some(match member {
        Member::Bond(_) => {
            format!("is a member of the bond {upper}, whose frames it carries; list {upper} in its place")
        }
        Member::Bridge { .. } => {
            format!("is a port of the bridge {upper}, whose frames it carries; list {upper} in its place")
        }
        Member::Other(kind) => format!(
            "is a member of {upper} (kind {kind}), which takes its frames; take it out of there (ip link set {} nomaster), or \
             list another interface",
            link.name
        ),
    })
}

/// Lowers, and what is to be said of them.
struct Carriage {
    lowers: Lowers,
    /// Why it is carried by itself, and no faster.
    by_itself: Option<String>,
    hints: Vec<String>,
}

impl Carriage {
    fn itself(link: &Link, why: Option<String>) -> Self {
        let lowers = Lowers::itself(link.index, link.name.clone());
        Carriage { lowers, by_itself: why, hints: Vec::new() }
    }
}

fn carriage(link: &Link, all: &[Link], deepest: usize) -> Result<Carriage, String> {
    let Some(deepest) = deepest.checked_sub(1) else { return Err("stands on too many other devices".to_owned()) };
    match &link.layer.kind {
        Kind::Plain => Ok(Carriage::itself(link, None)),
        Kind::Vlan { id, sets_priorities } => {
            let mut carriage = vlan(link, *id, all, deepest)?;
            if *sets_priorities {
                let hint = "has an egress-qos-map, which is not followed: Ringway's frames have priority 0";
                carriage.hints.push(hint.to_owned());
            }
            Ok(carriage)
        }
        Kind::Bond(bond) => members(link, bond, all),
        Kind::Bridge { filters_vlans } => Ok(bridge(link, *filters_vlans, all, deepest)),
    }
}

/// A VLAN device: what carries the device below, under its tag.
fn vlan(link: &Link, id: u16, all: &[Link], deepest: usize) -> Result<Carriage, String> {
    let name = &link.name;
    if id == 0 {
        return Err(
            "is a VLAN device of number 0, which is no VLAN: such a tag has a priority only, and counts as none; list the \
             device below it"
                .to_owned(),
        );
    }
    let Some(below) = link.layer.below.and_then(|index| find(all, index)) else {
        let why = format!(
            "is a VLAN device whose lower device is not in this network namespace, so Ringway is attached to {name} itself, where \
             frames are copied; for the speed of the NIC run Ringway where the NIC is"
        );
        return Ok(Carriage::itself(link, Some(why)));
    };
    let twice = |under: &str| {
        format!(
            "is a VLAN device under {under}, so its frames have two tags (QinQ), and Ringway takes one; let a switch or another \
             namespace take the outer one"
        )
    };
    if matches!(below.layer.kind, Kind::Vlan { .. }) {
        return Err(twice(&format!("the VLAN device {}", below.name)));
    }
    if let Some(why) = &below.unfit {
        return Err(format!("stands on {}, which {why}", below.name));
    }
    if let Some((upper, Member::Bond(_))) = &below.layer.member {
        let upper = find(all, *upper).map_or("the bond", |upper| &upper.name);
        return Err(format!(
            "is a VLAN device above {}, a member of {upper}; make one above {upper} (ip link add link {upper} name {upper}.{id} \
             type vlan id {id}) and list it",
            below.name
        ));
    }
    let carriage = carriage(below, all, deepest).map_err(|why| format!("stands on {}, which {why}", below.name))?;
    if let Some(why) = &carriage.by_itself {
        let why = format!("stands on {}, which {why}; so does {name}", below.name);
        return Ok(Carriage::itself(link, Some(why)));
    }
    if carriage.lowers.vlan.is_some() {
        return Err(twice(&format!("{}, whose frames have one already", below.name)));
    }
    let is_veth = |lower: &&Lower| find(all, lower.index).is_some_and(|link| link.layer.is_veth);
    if let Some(veth) = carriage.lowers.devices.iter().find(is_veth) {
        let why = format!(
            "is a VLAN device above the veth {}, which does not show XDP the tags, so Ringway is attached to {name} itself, where \
             frames are copied",
            veth.name
        );
        return Ok(Carriage::itself(link, Some(why)));
    }
    Ok(Carriage { lowers: Lowers { vlan: Some(id), ..carriage.lowers }, ..carriage })
}

/// A bond: its members, as it uses them now.
fn members(link: &Link, bond: &Bond, all: &[Link]) -> Result<Carriage, String> {
    let name = &link.name;
    let mut devices = Vec::new();
    for member in all {
        let Some((upper, Member::Bond(state))) = &member.layer.member else { continue };
        if *upper != link.index {
            continue;
        }
        if member.layer.kind != Kind::Plain {
            return Err(format!(
                "is a bond whose member {} is itself made of other devices; make a bond of NICs, and VLAN devices above the bond",
                member.name
            ));
        }
        let (receives, sends) = uses(bond, member, state);
        devices.push(Lower { index: member.index, name: member.name.clone(), receives, sends });
    }
    if devices.is_empty() {
        return Err(format!("is a bond without members; add one (ip link set DEVICE down master {name})"));
    }
    devices.sort_unstable_by_key(|lower| lower.index);
    let hint =
        "is a bond in mode balance-rr: Ringway keeps each connection on one member, so that its packets stay in order";
    let hints = if bond.mode == BondMode::BalanceRr { vec![hint.to_owned()] } else { Vec::new() };
    Ok(Carriage { lowers: Lowers { devices: devices.into(), ..Lowers::default() }, by_itself: None, hints })
}

/// Whether a bond receives and sends by a member now.
fn uses(bond: &Bond, member: &Link, state: &BondMember) -> (bool, bool) {
    match bond.mode {
        BondMode::ActiveBackup => {
            // Right after a change the two may disagree for a moment; the bond's word is newer than the member's.
            let active = bond.active.map_or(state.active, |active| active == member.index);
            (active || bond.takes_all, active)
        }
        BondMode::Ieee8023Ad => {
            let ours = state.aggregator.is_some() && state.aggregator == bond.aggregator;
            let receives = ours && (state.active || state.collects);
            (receives || bond.takes_all, ours && state.active && state.link_up && member.up)
        }
        // A member that lost its link is out at once, before the bond's monitor looks.
        _ => (state.link_up || bond.takes_all, state.active && state.link_up && member.up),
    }
}

/// A bridge: its only port, or itself.
fn bridge(link: &Link, filters_vlans: bool, all: &[Link], deepest: usize) -> Carriage {
    let name = &link.name;
    let itself = |what: String| {
        let why = format!("{what}, so Ringway is attached to {name} itself, where frames are copied");
        Carriage::itself(link, Some(why))
    };
    let mut ports = all.iter().filter_map(|port| match &port.layer.member {
        Some((upper, Member::Bridge { forwards })) if *upper == link.index && !port.is_own_tap() => {
            Some((port, *forwards))
        }
        _ => None,
    });
    let (port, forwards) = match (ports.next(), ports.count()) {
        (None, _) => return itself("is a bridge without ports".to_owned()),
        (Some(only), 0) => only,
        (Some(_), more) => {
            return itself(format!("is a bridge of {} ports, and it alone knows where a frame goes", more + 1));
        }
    };
    if filters_vlans {
        return itself("is a bridge that filters VLANs (vlan_filtering 1)".to_owned());
    }
    if let Some(why) = &port.unfit {
        return itself(format!("is a bridge with the port {}, which {why}", port.name));
    }
    let lower = match carriage(port, all, deepest) {
        Ok(lower) => lower,
        Err(why) => return itself(format!("is a bridge with the port {}, which {why}", port.name)),
    };
    let used = |device: &Lower| Lower {
        receives: device.receives && forwards,
        sends: device.sends && forwards,
        ..device.clone()
    };
    let devices: Arc<[Lower]> = lower.lowers.devices.iter().map(used).collect();
    let by_itself = lower.by_itself.map(|why| format!("stands on {}, which {why}", port.name));
    Carriage { lowers: Lowers { devices, ..lower.lowers }, by_itself, hints: lower.hints }
}

fn find(all: &[Link], index: u32) -> Option<&Link> {
    all.iter().find(|link| link.index == index)
}

#[cfg(test)]
mod tests;
