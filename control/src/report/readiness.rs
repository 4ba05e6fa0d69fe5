//! Why an instance is not ready, in words: what `/healthz` and the first line of `status` say.

use std::collections::BTreeSet;
use std::fmt::Write;

use ringway_shared::network::NoAdjacency;
use ringway_shared::snapshot::Snapshot;

use super::interfaces::{InterfaceReport, PortReport};
use crate::publish::Published;
use crate::watch::Silence;

/// Why it is not ready; nothing when it is.
pub(crate) fn reasons(
    published: &Published,
    interfaces: &[InterfaceReport],
    stuck: impl IntoIterator<Item = String>,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if !published.ready {
        reasons.push("the first full list is not in force yet".to_owned());
    }
    let no_way_out = no_way_out(interfaces);
    if no_way_out.is_none() {
        reasons.extend(no_endpoint(published, interfaces));
    }
    reasons.extend(no_way_out);
    reasons.extend(stalled(interfaces));
    reasons.extend(stuck);
    reasons
}

/// What makes no progress.
pub(crate) fn stuck(silent: &[Silence]) -> impl Iterator<Item = String> {
    silent.iter().map(|Silence { name, lasts }| format!("no progress for {} s: {name}", lasts.as_secs()))
}

/// Ports that do not send what they should. Several interfaces may share a device.
fn stalled(interfaces: &[InterfaceReport]) -> BTreeSet<String> {
    let stall = |port: &PortReport| Some(format!("{} queue {} is {}", port.device, port.queue, port.stall()?));
    interfaces.iter().flat_map(|interface| &interface.ports).filter_map(stall).collect()
}

/// No packet can leave when every interface is down or not attached.
fn no_way_out(interfaces: &[InterfaceReport]) -> Option<String> {
    if interfaces.iter().any(is_way) {
        return None;
    }
    let mut reason = "no packet can leave: every interface is down or not attached".to_owned();
    for (place, interface) in interfaces.iter().enumerate() {
        let why = state(interface);
        let before = if place == 0 { " (" } else { ", " };
        // It cannot fail: a String takes everything.
        let _ = write!(reason, "{before}{}: {why}", interface.name);
    }
    if !interfaces.is_empty() {
        reason.push(')');
    }
    Some(reason)
}

/// No endpoint of any Service can be sent to, and interfaces that are down or not attached are why: what comes would be dropped. Who
/// merely does not answer ARP is another matter, and one endpoint that can be sent to is enough.
fn no_endpoint(published: &Published, interfaces: &[InterfaceReport]) -> Option<String> {
    let lost: Vec<&InterfaceReport> = interfaces.iter().filter(|interface| !is_way(interface)).collect();
    if lost.is_empty() || !published.ready {
        return None;
    }
    let Snapshot { services, network, .. } = &published.snapshot;
    let ports = services.service_ports.iter().flatten();
    let mut endpoints =
        ports.flat_map(|port| port.endpoints.iter()).map(|endpoint| endpoint.backend.address).peekable();
    endpoints.peek()?;
    let is_lost = |address| {
        use NoAdjacency::{InterfaceDown, NoInterface, NoRoute};
        matches!(network.resolve_any(address), Err(InterfaceDown(_) | NoInterface | NoRoute))
    };
    endpoints.all(is_lost).then(|| {
        let lost: Vec<String> =
            lost.iter().map(|interface| format!("{}: {}", interface.name, state(interface))).collect();
        format!("no endpoint can be reached: {}", lost.join(", "))
    })
}

fn is_way(interface: &InterfaceReport) -> bool {
    interface.up && interface.mode.is_some()
}

fn state(interface: &InterfaceReport) -> &'static str {
    if interface.mode.is_none() { "not attached" } else { "down" }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn interface(name: &str, up: bool, attached: bool) -> InterfaceReport {
        let mode = attached.then(|| "native".to_owned());
        InterfaceReport { name: name.into(), up, mode, ..InterfaceReport::default() }
    }

    #[test]
    fn one_way_out_is_enough_and_none_is_told_with_each_interface() {
        let ready = Published { ready: true, ..Published::default() };
        let why = |interfaces: &[InterfaceReport]| reasons(&ready, interfaces, []);
        assert!(why(&[interface("eth0", false, true), interface("eth1", true, true)]).is_empty());
        assert_eq!(
            why(&[interface("eth0", false, true), interface("eth1", true, false)]),
            ["no packet can leave: every interface is down or not attached (eth0: down, eth1: not attached)"]
        );
        assert_eq!(why(&[]), ["no packet can leave: every interface is down or not attached"]);
    }

    #[test]
    fn a_stalled_port_is_named() {
        let ready = Published { ready: true, ..Published::default() };
        let mut eth0 = interface("eth0", true, true);
        eth0.ports = vec![PortReport { device: "eth0".into(), queue: 1, in_transmit: 5, ..PortReport::default() }];
        assert!(reasons(&ready, &[eth0.clone()], []).is_empty());
        eth0.ports[0].stalled_seconds = Some(3);
        let vlan = InterfaceReport { name: "eth0.100".into(), ..eth0.clone() };
        assert_eq!(
            reasons(&ready, &[eth0, vlan], []),
            ["eth0 queue 1 is stalled: 5 frames wait to be sent, and none was for 3 s"]
        );
    }

    #[test]
    fn what_makes_no_progress_is_named() {
        let silent = [Silence { name: "the files".into(), lasts: Duration::from_millis(9_250) }];
        let up = [interface("eth0", true, true)];
        assert_eq!(
            reasons(&Published::default(), &up, stuck(&silent)),
            ["the first full list is not in force yet", "no progress for 9 s: the files"]
        );
    }
}
