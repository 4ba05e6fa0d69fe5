use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::config::{SourceKey, XdpMode};

fn parse(text: &str) -> Result<Config, String> {
    let text = format!("nodeName: a\n{text}");
    Config::parse(&text, Path::new("c.yaml"), SourceKey::Read).map_err(|error| error.to_string())
}

/// Every key that the parser allows, as it lists them to whoever writes a wrong one.
fn allowed() -> BTreeSet<String> {
    let sections = [
        "node",
        "services",
        "services.weights",
        "workers",
        "snat",
        "flows",
        "flows.timeouts",
        "admin",
        "metrics",
        "interfaces",
    ];
    let mut keys = BTreeSet::new();
    for section in std::iter::once("").chain(sections) {
        let wrong = match section {
            "" => "x0: 1".to_owned(),
            "flows.timeouts" => "flows: {timeouts: {x0: 1}}".to_owned(),
            "services.weights" => "services: {weights: {x0: 1}}".to_owned(),
            "interfaces" => "interfaces: [{name: eth0, x0: 1}]".to_owned(),
            section => format!("{section}: {{x0: 1}}"),
        };
        let told = parse(&wrong).unwrap_err();
        let line = told.lines().find(|line| line.contains("x0: unknown key")).expect(section);
        let (_, listed) = line.split_once("llowed here: ").expect(line);
        let dot = if section.is_empty() { "" } else { "." };
        keys.extend(listed.split(", ").map(|key| format!("{section}{dot}{key}")));
    }
    keys.retain(|key| !sections.contains(&&**key) || key == "interfaces");
    keys
}

#[test]
fn every_key_says_what_a_reload_does_with_it() {
    let mut classed: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    classed.extend(INTERFACE_KEYS.iter().map(|(key, _)| format!("interfaces.{key}")));
    classed.insert("interfaces.name".into());
    assert_eq!(classed, allowed());
}

/// Two configurations that differ in every key.
fn two() -> [Config; 2] {
    let one = "interfaces: [{name: eth0}, {name: eth1}]\nsource: {files: a}\n";
    let other = "\
source: {files: b}
node: {addresses: [10.0.0.1], podCIDRs: [10.1.0.0/16], labels: {zone: a}}
services: {nodePortAddresses: [10.0.0.0/8], serviceCIDRs: [172.30.0.0/16], masqueradeAll: true, weights: {zones: {a: 2}, nodes: {b: 0}}}
network: {interfaces: [{name: eth1, mac: \"02:00:00:00:00:01\"}]}
interfaces: [{name: eth1, xdp: generic, zeroCopy: \"off\"}, {name: eth2, xdp: native}]
workers: {cpus: [3], poll: busy}
snat: {addresses: [10.0.0.9], ports: 2000-3000}
forwarding: dsr-l2
flows: {perWorker: 7, synRescue: false, timeouts: {tcpEstablished: 1s, tcpHalfOpen: 2s, udp: 3500ms, udpUnreplied: 4s}}
state: /s
whenDown: pass
admin: {socket: /a, metrics: \"off\", healthz: 127.0.0.1:1}
metrics: {services: [shop/*]}
log: debug
";
    let mut wanted = parse(other).unwrap();
    wanted.node_name = "b".into();
    [parse(one).unwrap(), wanted]
}

#[test]
fn what_is_taken_is_in_force_and_the_rest_waits() {
    let [running, wanted] = two();
    let changes = running.changes(&wanted);
    let changed: BTreeSet<&str> = changes.iter().map(|change| &*change.key).collect();
    for key in KEYS {
        assert!(changed.contains(key.name), "{} is compared", key.name);
    }
    let told = |key: &str| changes.iter().find(|change| change.key == key).unwrap().to_string();
    assert_eq!(told("workers.cpus"), "workers.cpus: not given -> [3]: takes a restart");
    assert_eq!(told("interfaces"), "interfaces: [eth0, eth1] -> [eth1, eth2]: in force");
    assert_eq!(told("interfaces[eth1].xdp"), "interfaces[eth1].xdp: auto -> generic: takes a restart");
    assert_eq!(told("services.weights.zones"), "services.weights.zones: {} -> {a: 2}: in force");
    assert!(told("flows.timeouts.udp").ends_with(" -> 3500ms: in force"));
    // What was taken is the same from then on, and what waits goes on waiting.
    let now = running.with(&wanted);
    let waiting = now.changes(&wanted);
    let restarts: Vec<Change> = changes.iter().filter(|change| change.fate == Fate::Restart).cloned().collect();
    assert_eq!(waiting, restarts);
    assert_eq!(now.interfaces[1].xdp, XdpMode::Native, "a new one is attached as it says");
    assert_eq!(now.interfaces[0].xdp, XdpMode::Auto, "a kept one stays as it is");
    assert_eq!(running.changes(&running), []);
}

#[test]
fn a_configured_network_keeps_its_interfaces() {
    let [running, wanted] = two();
    let changes = wanted.changes(&Config { network: wanted.network.clone(), ..running });
    let interfaces = changes.iter().find(|change| change.key == "interfaces").unwrap();
    assert_eq!(interfaces.fate, Fate::Restart);
}

#[test]
fn the_page_says_of_every_key_what_a_reload_does() {
    let page = include_str!("../../../../docs/configuration.md");
    let (_, section) = page.split_once("## Changing a running instance\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("a section after it");
    let (taken, restart) = section.split_once("take a restart").expect("two lists");
    for key in KEYS {
        let text = format!("`{}`", key.name);
        let (right, wrong) = match key.fate() {
            Fate::InForce => (taken, restart),
            Fate::Restart => (restart, taken),
        };
        assert!(right.contains(&text) && !wrong.contains(&text), "{text} stands in the wrong list");
    }
}
