//! `services.weights`: what share of new flows endpoints get, by where they are.

use std::collections::BTreeMap;
use std::fmt;

use super::field::{Field, Map};
use super::{read, value};

/// The largest weight.
const MOST: u64 = 256;

/// The weight of endpoints that nothing is said of.
const USUAL: u16 = 1;

/// `services.weights`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// By zone.
    pub zones: BTreeMap<String, u16>,
    /// By node. The node's weight wins over its zone's.
    pub nodes: BTreeMap<String, u16>,
}

/// Which key gave a weight, as a person finds it in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'w> {
    /// `services.weights.nodes` of this node.
    Node(&'w str),
    /// `services.weights.zones` of this zone.
    Zone(&'w str),
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Node(node) => write!(f, "services.weights.nodes.{node}"),
            By::Zone(zone) => write!(f, "services.weights.zones.{zone}"),
        }
    }
}

impl Weights {
    /// The weight of an endpoint on this node and in this zone.
    pub fn of(&self, node: Option<&str>, zone: Option<&str>) -> u16 {
        let by_node = node.and_then(|node| self.nodes.get(node));
        by_node.or_else(|| zone.and_then(|zone| self.zones.get(zone))).copied().unwrap_or(USUAL)
    }

    /// All that is said.
    pub fn iter(&self) -> impl Iterator<Item = By<'_>> {
        let nodes = self.nodes.keys().map(|node| By::Node(node));
        self.zones.keys().map(|zone| By::Zone(zone)).chain(nodes)
    }

    pub(super) fn read(map: Map<'_>) -> Self {
        let zones = map.map("zones").map(|map| weights(&map, zone)).unwrap_or_default();
        let nodes = map.map("nodes").map(|map| weights(&map, |name| read::node_name(name).map(drop)));
        map.finish();
        Weights { zones, nodes: nodes.unwrap_or_default() }
    }
}

fn weights(map: &Map<'_>, check: impl Fn(&str) -> Result<(), String>) -> BTreeMap<String, u16> {
    let weight = |(name, field): (&str, Field<'_>)| {
        if let Err(why) = check(name) {
            field.problem(format!("{name:?} {why}"));
            return None;
        }
        let weight = field.parse(value::number(0..=MOST))?;
        Some((name.to_owned(), weight as u16))
    };
    map.free().filter_map(weight).collect()
}

/// A zone is the value of a label.
fn zone(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if text.is_empty() || text.len() > 63 || !text.bytes().all(allowed) {
        return Err("is no zone; write at most 63 letters, digits, -, . and _".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, SourceKey};

    fn parse(weights: &str) -> Result<Weights, String> {
        let text = format!("nodeName: a\ninterfaces: [{{name: eth0}}]\nservices:\n  weights: {weights}\n");
        let config = Config::parse(&text, Path::new("c.yaml"), SourceKey::Replaced);
        config.map(|config| (*config.services.weights).clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_node_wins_over_its_zone_and_what_is_not_named_has_one() {
        let weights = parse("{zones: {a: 2, b: 0}, nodes: {worker-1: 3, worker-2: 0}}").unwrap();
        let of = |node, zone| weights.of(node, zone);
        assert_eq!((of(None, None), of(Some("worker-9"), Some("c"))), (1, 1));
        assert_eq!((of(None, Some("a")), of(Some("worker-9"), Some("b"))), (2, 0));
        assert_eq!((of(Some("worker-1"), Some("b")), of(Some("worker-2"), Some("a"))), (3, 0));
        assert_eq!(parse("{}"), Ok(Weights::default()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (text, told) in [
            (
                "{zones: {a: 257}}",
                "c.yaml:4:24: services.weights.zones.a: \"257\" is not allowed; write a whole number from 0 to 256",
            ),
            (
                "{zones: {a: heavy}}",
                "c.yaml:4:24: services.weights.zones.a: \"heavy\" is not allowed; write a whole number from 0 to 256",
            ),
            (
                "{nodes: {a: -1}}",
                "c.yaml:4:24: services.weights.nodes.a: \"-1\" is not allowed; write a whole number from 0 to 256",
            ),
            (
                "{nodes: {A: 1}}",
                "c.yaml:4:24: services.weights.nodes.A: \"A\" is no node name; write lower-case letters, digits, - and . only",
            ),
            (
                "{zones: {\"a b\": 1}}",
                "c.yaml:4:28: services.weights.zones.a b: \"a b\" is no zone; write at most 63 letters, digits, -, . and _",
            ),
            (
                "{zone: {a: 1}}",
                "c.yaml:4:13: services.weights.zone: unknown key; did you mean zones? Allowed here: zones, nodes",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), told);
        }
    }
}
