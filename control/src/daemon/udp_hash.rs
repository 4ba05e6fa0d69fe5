//! UDP spread by ports: NICs that hash addresses alone bring all replies of an endpoint to one queue.
//!
//! With several workers, a NIC below an interface with `rss: auto` is told to hash the ports of UDP as well, where its driver
//! lets it be told. That is said in the log, and undone when Ringway lets go of the interface or ends. What a driver refuses
//! stays as it is, and `status` says what that means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ringway_shared::Network;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::interfaces::lock;
use super::reload::Loaded;
use crate::config::{InterfaceConfig, RssMode};
use crate::network::nic::{HashFields, Hashed, flow_hash, set_flow_hash};
use crate::watch::heart;

const UDP: [(Hashed, &str); 2] = [(Hashed::Udp4, "udp4"), (Hashed::Udp6, "udp6")];

/// What NICs were told, and are to be told again at the end.
#[derive(Clone, Default)]
pub(super) struct UdpHash(Arc<Mutex<Told>>);

/// A device's name, and what was changed of it.
type Changed = (Arc<str>, Vec<(Hashed, &'static str)>);

#[derive(Default)]
struct Told {
    /// By the device's ifindex: its name, and what it was told.
    devices: BTreeMap<u32, Changed>,
    over: bool,
}

impl UdpHash {
    /// Tells NICs from now on, as interfaces and configuration change.
    pub(super) async fn follow(
        self,
        mut network: watch::Receiver<Arc<Network>>,
        mut loaded: watch::Receiver<Arc<Loaded>>,
    ) {
        let heart = heart("UDP hash of NICs");
        loop {
            heart.beat();
            let wanted = wanted(&network.borrow_and_update(), &loaded.borrow_and_update().config.interfaces);
            let told = self.clone();
            // A driver may reset its NIC first.
            if heart.waiting(spawn_blocking(move || lock(&told.0).tell(&wanted))).await.is_err() {
                return;
            }
            tokio::select! {
                changed = network.changed() => if changed.is_err() { return },
                changed = loaded.changed() => if changed.is_err() { return },
                () = heart.rest() => {}
            }
        }
    }

    /// Undoes it all, for good.
    pub(super) fn end(&self) {
        let mut told = lock(&self.0);
        told.tell(&BTreeMap::new());
        told.over = true;
    }
}

/// The devices that are to spread UDP by ports.
fn wanted(network: &Network, listed: &[InterfaceConfig]) -> BTreeMap<u32, Arc<str>> {
    let of = |name: &str| listed.iter().find(|listed| listed.name.matches(name)).map(|listed| listed.rss);
    let interfaces = network.interfaces().iter().filter(|interface| of(&interface.name) == Some(RssMode::Auto));
    let lowers = interfaces.flat_map(|interface| interface.lowers.devices.iter());
    lowers.map(|lower| (lower.index, lower.name.clone())).collect()
}

impl Told {
    fn tell(&mut self, wanted: &BTreeMap<u32, Arc<str>>) {
        if self.over {
            return;
        }
        let (kept, left) =
            std::mem::take(&mut self.devices).into_iter().partition(|(index, _)| wanted.contains_key(index));
        self.devices = kept;
        let left: BTreeMap<_, (Arc<str>, Vec<_>)> = left;
        for (name, kinds) in left.into_values() {
            for (kind, word) in kinds {
                // Somebody may have changed it meanwhile, and the device may be gone.
                if flow_hash(&name, kind).is_ok_and(|fields| fields == HashFields::ADDRESSES_AND_PORTS) {
                    match set_flow_hash(&name, kind, HashFields::ADDRESSES) {
                        Ok(()) => tracing::info!("{name} spreads {word} by addresses again"),
                        Err(error) => tracing::warn!("{name} still spreads {word} by ports: {error}"),
                    }
                }
            }
        }
        for (index, name) in wanted {
            if self.devices.contains_key(index) {
                continue;
            }
            let by_addresses = UDP
                .into_iter()
                .filter(|(kind, _)| flow_hash(name, *kind).is_ok_and(|fields| fields == HashFields::ADDRESSES));
            let told =
                by_addresses.filter(|(kind, word)| match set_flow_hash(name, *kind, HashFields::ADDRESSES_AND_PORTS) {
                    Ok(()) => {
                        tracing::info!(
                            "{name} spreads {word} by ports from now on (interfaces[].rss: leave keeps it as it is)"
                        );
                        true
                    }
                    Err(error) => {
                        tracing::info!("{name} spreads {word} by addresses only: {error}");
                        false
                    }
                });
            let told = told.collect();
            self.devices.insert(*index, (name.clone(), told));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InterfacePattern;
    use ringway_shared::InterfaceId;
    use ringway_shared::network::{Interface, Lowers};

    #[test]
    fn nics_below_an_interface_are_told_unless_it_is_to_be_left() {
        let interface = |number: u16, name: &str| Interface {
            id: InterfaceId(number),
            name: name.into(),
            index: u32::from(number) + 1,
            mac: Default::default(),
            mtu: 1500,
            addresses: Vec::new(),
            up: true,
            lowers: Lowers::itself(u32::from(number) + 10, format!("{name}-lower").into()),
        };
        let network = Network::new(1, vec![interface(0, "eth0"), interface(1, "eth1"), interface(2, "eth2")], [], []);
        let listed = |name: &str, rss| InterfaceConfig {
            name: InterfacePattern::parse(name).unwrap(),
            xdp: Default::default(),
            zero_copy: Default::default(),
            rss,
        };
        let listed = [listed("eth1", RssMode::Leave), listed("eth[01]", RssMode::Auto)];
        assert_eq!(wanted(&network, &listed), BTreeMap::from([(10, "eth0-lower".into())]));
    }

    #[test]
    fn nothing_is_told_after_the_end() {
        let udp = UdpHash::default();
        // Loopback hashes nothing, and refuses nothing either.
        let lo = BTreeMap::from([(1, "lo".into())]);
        lock(&udp.0).tell(&lo);
        assert_eq!(lock(&udp.0).devices.len(), 1);
        udp.end();
        lock(&udp.0).tell(&lo);
        assert!(lock(&udp.0).devices.is_empty());
    }
}
