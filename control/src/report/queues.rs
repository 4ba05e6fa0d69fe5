//! How NICs choose the queue of a packet, as `status` shows it.

use std::collections::BTreeMap;

use ringway_shared::network::rss::HashedFields;
use ringway_shared::network::{Interface, QueueChoice};
use ringway_shared::{Family, Network, Protocol};
use serde::{Deserialize, Serialize};

/// A device that receives for an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RssReport {
    /// Its name.
    pub device: String,
    /// Whether the queue of a packet can be computed, so that replies are brought to the worker of their flow.
    pub computed: bool,
    /// Why not.
    pub problem: Option<String>,
    /// What it hashes: `addresses`, `addresses and ports`, or `null` where that is not known or something else.
    pub hashed: BTreeMap<String, Option<String>>,
}

/// The kinds of packets, as `hashed` names them.
const KINDS: [(&str, Family, Protocol); 6] = [
    ("tcp4", Family::V4, Protocol::Tcp),
    ("tcp6", Family::V6, Protocol::Tcp),
    ("udp4", Family::V4, Protocol::Udp),
    ("udp6", Family::V6, Protocol::Udp),
    ("sctp4", Family::V4, Protocol::Sctp),
    ("sctp6", Family::V6, Protocol::Sctp),
];

/// What is known of the devices that receive for an interface.
pub(super) fn rss(network: &Network, interface: &Interface) -> Vec<RssReport> {
    let receivers = interface.lowers.devices.iter().filter(|lower| lower.receives);
    let known = receivers.filter_map(|lower| Some((lower, network.queue_choice(lower.index)?)));
    known.map(|(lower, choice)| report(&lower.name, choice)).collect()
}

fn report(device: &str, choice: &QueueChoice) -> RssReport {
    let device = device.to_owned();
    match choice {
        QueueChoice::Unknown(why) => RssReport { device, problem: Some(why.to_string()), ..RssReport::default() },
        QueueChoice::Computed(rss) => {
            let fields = rss.settings().fields;
            let word = |fields| match fields {
                HashedFields::Addresses => "addresses".to_owned(),
                HashedFields::AddressesAndPorts => "addresses and ports".to_owned(),
            };
            let hashed =
                KINDS.map(|(name, family, protocol)| (name.to_owned(), fields.get(family, protocol).map(word)));
            RssReport { device, computed: true, problem: None, hashed: hashed.into() }
        }
    }
}

impl RssReport {
    /// What is to be known where several workers are.
    pub fn notes(&self) -> Vec<String> {
        let device = &self.device;
        if let Some(problem) = &self.problem {
            return vec![format!("replies that come to another worker's queue are handed over: {problem}")];
        }
        let by_addresses = ["udp4", "udp6"]
            .into_iter()
            .filter(|kind| self.hashed.get(*kind).is_some_and(|hashed| hashed.as_deref() == Some("addresses")));
        let note = |kind: &str| {
            format!(
                "replies over {kind} of one endpoint to one SNAT address all come to one queue, and are handed over from there: \
                 {device} hashes addresses only; try ethtool -N {device} rx-flow-hash {kind} sdfn, or list several snat.addresses"
            )
        };
        by_addresses.map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_shared::network::rss::{FieldsByPacket, Rss, RssSettings};
    use std::sync::Arc;

    #[test]
    fn what_is_hashed_is_told_and_what_that_means() {
        let mut fields = FieldsByPacket::all(HashedFields::AddressesAndPorts);
        fields.set(Family::V4, Protocol::Udp, Some(HashedFields::Addresses));
        fields.set(Family::V6, Protocol::Sctp, None);
        let rss = Rss::new(RssSettings { key: vec![1; 40], table: vec![0], fields }).unwrap();
        let told = report("eth0", &QueueChoice::Computed(Arc::new(rss)));
        assert!(told.computed);
        assert_eq!(told.hashed["tcp6"].as_deref(), Some("addresses and ports"));
        assert_eq!(told.hashed["sctp6"], None);
        let notes = told.notes();
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("ethtool -N eth0 rx-flow-hash udp4 sdfn"), "{notes:?}");
        let told = report("eth0", &QueueChoice::Unknown("its driver keeps it".into()));
        assert_eq!(told.notes(), ["replies that come to another worker's queue are handed over: its driver keeps it"]);
    }
}
