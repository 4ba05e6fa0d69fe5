//! NICs for a person, at eighty columns.

use crate::commands::table::{Table, wrap};
use crate::report::nic::{ChangedSetting, NicReport, Severity};

/// Columns of all that is not a table.
const COLUMNS: usize = 80;
/// Where values begin.
const INDENT: usize = 12;
/// Where the text of a finding begins.
const FINDING: usize = 7;
/// Interrupts that are listed one by one.
const FEW: usize = 8;

/// One whole, or an overview of several.
pub(super) fn of(nics: &[NicReport]) -> String {
    match nics {
        [only] => whole(only),
        all => overview(all),
    }
}

fn overview(nics: &[NicReport]) -> String {
    let mut table = Table::new(["NAME", "DRIVER", "MBIT/S", "QUEUES", "RINGS", "XDP", "ZERO-COPY", "TO CHANGE"])
        .dispensable(&["RINGS", "MBIT/S"]);
    for nic in nics {
        let wrong = nic.findings.iter().filter(|finding| finding.severity != Severity::Note).count();
        table.row([
            nic.name.clone(),
            nic.driver.clone().or_else(|| nic.kind.clone()).unwrap_or_else(|| "-".into()),
            nic.speed_mbit.map_or_else(|| "-".into(), |speed| speed.to_string()),
            nic.queues.map_or_else(|| "-".into(), |queues| format!("{}/{}", queues.receive, queues.receive_max)),
            nic.rings.map_or_else(|| "-".into(), |rings| format!("{}/{}", rings.receive, rings.transmit)),
            native(nic).to_owned(),
            zero_copy(nic).to_owned(),
            if wrong == 0 { "-".into() } else { wrong.to_string() },
        ]);
    }
    let mut text = table.to_string();
    for nic in nics.iter().filter(|nic| !nic.findings.is_empty()) {
        text.push_str(&format!("\n{}\n", nic.name));
        text.push_str(&findings(nic));
    }
    text.push_str("\nringway nic NAME tells all of one.\n");
    text
}

fn native(nic: &NicReport) -> &'static str {
    match &nic.xdp_features {
        _ if !nic.lowers.is_empty() => "below",
        Some(words) if words.iter().any(|word| word == "redirect") => "native",
        Some(_) => "generic",
        None => "-",
    }
}

fn zero_copy(nic: &NicReport) -> &'static str {
    match nic.zero_copy.possible {
        Some(true) => "yes",
        Some(false) => "no",
        None if !nic.lowers.is_empty() => "below",
        None => "-",
    }
}

fn whole(nic: &NicReport) -> String {
    let mut text = String::new();
    let mut line = |heading: &str, value: String| {
        for (at, part) in wrap(&value, COLUMNS - INDENT).iter().enumerate() {
            let heading = if at == 0 { heading } else { "" };
            text.push_str(&format!("{heading:<INDENT$}{part}\n"));
        }
    };
    line(&nic.name, head(nic));
    if !nic.lowers.is_empty() {
        line("below", nic.lowers.join(", "));
    }
    if !nic.vlans.is_empty() {
        line("above", format!("VLAN {}", nic.vlans.join(", ")));
    }
    if let Some(queues) = nic.queues {
        let kind = if queues.combined { "combined" } else { "receive" };
        let send = match queues.combined {
            true => String::new(),
            false => format!(", {} of {} send", queues.transmit, queues.transmit_max),
        };
        line("queues", format!("{} of {} {kind}{send}", queues.receive, queues.receive_max));
    }
    if let Some(rings) = nic.rings {
        let (receive, send) = ((rings.receive, rings.receive_max), (rings.transmit, rings.transmit_max));
        line("rings", format!("{} of {} receive, {} of {} send", receive.0, receive.1, send.0, send.1));
    }
    let attached = nic.xdp_attached.as_ref().map_or("no program attached".into(), |mode| format!("attached {mode}"));
    let features = match nic.xdp_features.as_deref() {
        None => "features not told".to_owned(),
        Some([]) => "generic only".to_owned(),
        Some(words) => words.join(" "),
    };
    line("XDP", format!("{features}; {attached}"));
    let zero_copy = match nic.zero_copy.possible {
        Some(true) => "yes: ",
        Some(false) => "no: ",
        None => "",
    };
    line("zero-copy", format!("{zero_copy}{}", nic.zero_copy.reason));
    if !nic.offloads.is_empty() {
        let told = nic.offloads.iter().map(|offload| {
            let fixed = if offload.fixed { " (fixed)" } else { "" };
            format!("{} {}{fixed}", offload.name, if offload.on { "on" } else { "off" })
        });
        line("offloads", told.collect::<Vec<_>>().join(", "));
    }
    if let Some(rss) = &nic.rss {
        let key = match rss.key_bytes {
            0 => "key not told".to_owned(),
            bytes => format!("key of {bytes} bytes"),
        };
        let symmetric = if rss.symmetric { ", symmetric" } else { "" };
        let table = match &rss.entries[..] {
            [] => "no table".to_owned(),
            entries => {
                let all: usize = entries.iter().sum();
                let each: Vec<String> = entries.iter().map(usize::to_string).collect();
                format!("table of {all}: {} by queue", each.join(" "))
            }
        };
        line("RSS", format!("{}{symmetric}, {key}, {table}", rss.function));
    }
    if !nic.hashes.is_empty() {
        let told: Vec<String> = nic.hashes.iter().map(|hash| format!("{} {}", hash.packets, hash.fields)).collect();
        line("hashed", told.join("; "));
    }
    if let Some(interrupts) = interrupts(nic) {
        line("interrupts", interrupts);
    }
    if nic.lowers.is_empty() && !nic.cpus.is_empty() {
        let cpus: Vec<String> = nic.cpus.iter().map(u32::to_string).collect();
        let node = nic.numa_node.map_or(String::new(), |node| format!(", near it on NUMA node {node}"));
        line("CPUs", format!("workers.cpus: [{}]{node}", cpus.join(", ")));
    }
    for (at, one) in nic.changed.iter().enumerate() {
        let ChangedSetting { setting, was, set_to, is_so } = one;
        let now = match is_so {
            Some(true) => "and is so now",
            Some(false) => "but somebody has changed it back since",
            None => "and what it is now could not be read",
        };
        line(if at == 0 { "by Ringway" } else { "" }, format!("{setting} was {was}, was set to {set_to}, {now}"));
    }
    for (at, unread) in nic.unread.iter().enumerate() {
        line(if at == 0 { "not read" } else { "" }, unread.clone());
    }
    text.push('\n');
    match nic.findings.is_empty() {
        true => text.push_str("Nothing is to be changed.\n"),
        false => text.push_str(&findings(nic)),
    }
    text
}

/// Driver, place and speed in a line.
fn head(nic: &NicReport) -> String {
    let kind = || nic.kind.as_ref().map(|kind| format!("a {kind}"));
    let driver = nic.driver.as_ref().map(|driver| match &nic.driver_version {
        Some(version) => format!("{driver} {version}"),
        None => driver.clone(),
    });
    let mut parts: Vec<String> = driver.or_else(kind).into_iter().collect();
    parts.extend(nic.firmware.as_ref().map(|firmware| format!("firmware {firmware}")));
    parts.extend(nic.bus.clone());
    parts.extend(nic.numa_node.map(|node| format!("NUMA node {node}")));
    parts.extend(nic.speed_mbit.map(|speed| format!("{speed} Mbit/s")));
    parts.push(format!("MTU {}", nic.mtu));
    parts.extend((!nic.up).then(|| "down".to_owned()));
    parts.join(", ")
}

/// Those of queues one by one when they are few.
fn interrupts(nic: &NicReport) -> Option<String> {
    let queues: Vec<_> = nic.interrupts.iter().filter(|interrupt| interrupt.queue).collect();
    let list = |cpus: &[u32]| cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    match queues.len() {
        0 => None,
        few if few <= FEW => {
            let each = queues.iter().map(|one| format!("{} {} on CPU {}", one.number, one.name, list(&one.cpus)));
            Some(each.collect::<Vec<_>>().join(", "))
        }
        many => {
            let mut cpus: Vec<u32> = queues.iter().flat_map(|one| one.cpus.iter().copied()).collect();
            cpus.sort_unstable();
            cpus.dedup();
            let (first, last) = (queues.first()?.number, queues.last()?.number);
            Some(format!("{many} of queues, {first} to {last}, on CPUs {}", list(&cpus)))
        }
    }
}

/// What is to be changed, each with its command below.
fn findings(nic: &NicReport) -> String {
    let mut text = String::new();
    for finding in &nic.findings {
        for (at, part) in wrap(&finding.text, COLUMNS - FINDING).iter().enumerate() {
            let label = if at == 0 { finding.severity.label() } else { "" };
            text.push_str(&format!("{label:<FINDING$}{part}\n"));
        }
        if let Some(command) = &finding.command {
            text.push_str(&format!("{:FINDING$}{command}\n", ""));
        }
    }
    text
}
