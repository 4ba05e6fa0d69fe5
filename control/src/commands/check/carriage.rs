//! What `check` says of interfaces whose frames other devices carry: VLAN devices, bonds, bridges.

use ringway_shared::network::Lowers;
use serde::Serialize;

use crate::network::listing::Listing;

/// Which devices carry an interface's frames.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Carriage {
    /// The interface.
    name: String,
    /// The devices below it.
    lowers: Vec<String>,
    /// The tag that its frames have there.
    vlan: Option<u16>,
}

impl Carriage {
    /// That of an interface which others carry; `None` for one that carries its frames itself, or that nothing can carry now.
    fn of(name: &str, lowers: &Lowers) -> Option<Self> {
        let devices = || lowers.devices.iter().map(|device| &*device.name);
        devices().any(|device| device != name).then(|| Carriage {
            name: name.to_owned(),
            lowers: devices().map(str::to_owned).collect(),
            vlan: lowers.vlan,
        })
    }

    /// As a part of a line.
    pub(super) fn text(&self, whole: &str) -> String {
        let name = if self.name == whole { String::new() } else { format!("{} ", self.name) };
        let tag = self.vlan.map_or_else(String::new, |vlan| format!(" under VLAN {vlan}"));
        format!("; {name}carried by {}{tag}", self.lowers.join(", "))
    }
}

/// What carries these interfaces, as far as others do, and what is to be known about that.
pub(super) fn of(names: &[String], listing: &Listing) -> (Vec<Carriage>, Vec<String>) {
    let lowers = || names.iter().filter_map(|name| Some((name, listing.lowers(name)?)));
    let carried = lowers().filter_map(|(name, lowers)| Carriage::of(name, &lowers)).collect();
    let notes = lowers().flat_map(|(name, lowers)| {
        let notes: Vec<String> = lowers.notes.iter().map(|note| format!("{name} {note}")).collect();
        notes
    });
    (carried, notes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_shared::network::Lower;

    fn lowers(names: &[&str], vlan: Option<u16>) -> Lowers {
        let lower = |(index, name): (u32, &&str)| Lower { index, name: (*name).into(), receives: true, sends: true };
        Lowers { devices: (1..).zip(names).map(lower).collect(), vlan, ..Lowers::default() }
    }

    #[test]
    fn only_what_others_carry_is_told() {
        let told = |name, names: &[&str], vlan| Carriage::of(name, &lowers(names, vlan)).map(|one| one.text("bond0.7"));
        assert_eq!(told("eth0", &["eth0"], None), None);
        assert_eq!(told("bond0", &[], None), None);
        assert_eq!(told("bond0", &["eth0", "eth1"], None).unwrap(), "; bond0 carried by eth0, eth1");
        assert_eq!(told("bond0.7", &["eth0"], Some(7)).unwrap(), "; carried by eth0 under VLAN 7");
    }
}
