//! What `status` says of interfaces and of the devices that carry them.

use super::{counted, duration};
use crate::commands::table::Table;
use crate::plain;
use crate::report::drops::InterfaceLosses;
use crate::report::interfaces::{InterfaceReport, PortReport};

/// Those that Ringway is attached to in a table, and a line for each that it is not.
pub(super) fn table(interfaces: &[InterfaceReport]) -> String {
    let mut table = Table::new(["INTERFACE", "STATE", "XDP", "QUEUES", "FRAMES"]).dispensable(&["QUEUES"]);
    let (attached, others): (Vec<_>, Vec<_>) = interfaces.iter().partition(|interface| interface.mode.is_some());
    for interface in &attached {
        let state = if interface.up { "up" } else { "down" };
        let mode = interface.mode.as_deref().unwrap_or_default();
        let mut copies: Vec<&str> = interface.ports.iter().map(|port| &*port.copy).collect();
        copies.dedup();
        let copies = if copies.is_empty() { "-".to_owned() } else { copies.join(", ") };
        table.row([interface.name.clone(), state.into(), mode.into(), interface.ports.len().to_string(), copies]);
    }
    let mut text = if attached.is_empty() { String::new() } else { table.to_string() };
    others.iter().for_each(|interface| text.push_str(&unattached(interface)));
    text
}

/// Why Ringway is not attached to an interface, and when it tries again.
fn unattached(interface: &InterfaceReport) -> String {
    let why = interface.problem.as_deref().map_or_else(String::new, |why| format!(": {}", plain::line(why)));
    let next = match interface.next_try_seconds {
        Some(0) => "; the next try is due".to_owned(),
        Some(seconds) => format!("; the next try in {}", duration(seconds)),
        None => String::new(),
    };
    format!("{} is not attached{why}{next}\n", interface.name)
}

/// What is not as it should be, and is to be known. Of those that are not attached the table has said it.
pub(super) fn wrong(interfaces: &[InterfaceReport], workers: usize) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    for interface in interfaces.iter().filter(|interface| interface.mode.is_some()) {
        let InterfaceReport { name, problem, tap_problem, notes, tap_notes, .. } = interface;
        wrong.extend(tap_mended(interface));
        let said = problem.iter().chain(tap_problem).chain(notes).chain(tap_notes);
        wrong.extend(said.map(|problem| format!("{name}: {problem}")));
        let losses = interface.counters.iter().flat_map(|counters| counters.meanings());
        wrong.extend(losses.map(|meaning| format!("{name}: {meaning}")));
        for told in carriers(interface) {
            // Several interfaces may share a device.
            if !wrong.contains(&told) {
                wrong.push(told);
            }
        }
        let rss = interface.rss.iter().filter(|_| workers > 1).flat_map(|rss| rss.notes());
        wrong.extend(rss.map(|note| format!("{name}: {note}")));
    }
    wrong
}

/// What is to be known of the devices that carry an interface.
fn carriers(interface: &InterfaceReport) -> Vec<String> {
    let mut told = Vec::new();
    if interface.lowers.is_empty() {
        told.extend(interface.mode_reason.iter().map(|reason| format!("{}: {reason}", interface.name)));
    }
    for lower in &interface.lowers {
        if lower.name != interface.name {
            let losses = lower.counters.iter().flat_map(|counters| counters.meanings());
            told.extend(losses.map(|meaning| format!("{}: {meaning}", lower.name)));
        }
        let said = lower.problem.iter().chain(&lower.mode_reason);
        told.extend(said.map(|problem| format!("{}: {problem}", lower.name)));
    }
    let of_port = |port: &PortReport| Some(format!("{}/{}: {}", port.device, port.queue, port.copy_reason.as_ref()?));
    told.extend(interface.ports.iter().filter_map(of_port));
    told
}

/// That somebody interferes with the TAP device.
fn tap_mended(interface: &InterfaceReport) -> Option<String> {
    let last = interface.tap_last_mend.as_ref()?;
    let times = counted(interface.tap_mended, "time", "times");
    let tap = interface.tap.as_deref().unwrap_or("rw…");
    Some(format!("{}: its TAP device {tap} was set up again {times}; the last time {last}", interface.name))
}

/// What the interfaces lost by their own counters, of what is Ringway's and what is not.
pub(in crate::commands) fn interface_losses(interfaces: &[InterfaceLosses]) -> String {
    if interfaces.is_empty() {
        return "have not been asked yet".into();
    }
    let told = |interface: &InterfaceLosses| {
        let lost = interface.counters.losses().into_iter().filter(|(_, count)| *count > 0);
        let lost: Vec<String> = lost.map(|(what, count)| format!("{what} {count}")).collect();
        (!lost.is_empty()).then(|| format!("{} {}", interface.name, lost.join(" ")))
    };
    let lost: Vec<String> = interfaces.iter().filter_map(told).collect();
    match lost.len() {
        0 => "lost nothing".into(),
        many if many > FEW_INTERFACES => {
            format!("lost packets: {}, and {} more", lost[..FEW_INTERFACES].join("; "), many - FEW_INTERFACES)
        }
        _ => format!("lost packets: {}", lost.join("; ")),
    }
}

/// How many interfaces are told of one by one.
const FEW_INTERFACES: usize = 10;
