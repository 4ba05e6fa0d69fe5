//! What `check` says of the NICs that it finds here: in short what `ringway nic` says.

use crate::commands::nic::{cpus, wish};
use crate::config::Config;
use crate::network::listing::Listing;
use crate::network::nic::Surveyor;
use crate::report::nic::{Finding, Severity};

/// What is to be changed at these interfaces, and at the devices that carry them, a sentence each. Of what Ringway cannot be attached
/// to that is said, and nothing else.
pub(super) fn notes(names: &[String], listing: &Listing, config: &Config) -> Vec<String> {
    let names: Vec<&String> = names.iter().filter(|name| listing.why_not(name).is_none()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let mut surveyor = match Surveyor::open(cpus()) {
        Ok(surveyor) => surveyor,
        Err(error) => return vec![format!("nothing can be said of NICs: {error}")],
    };
    let mut notes = Vec::new();
    for name in names {
        let lowers = listing.lowers(name).unwrap_or_default();
        let below = lowers.devices.iter().map(|lower| &*lower.name).filter(|lower| *lower != *name);
        // A device that is down has those above it down, too, and none of these can be set up before it.
        for device in below.chain([name.as_str()]) {
            // One that went away just now is told of elsewhere.
            let Ok(report) = surveyor.report(device, &wish(name, Some(config))) else { continue };
            let worth = report.findings.iter().filter(|one| one.severity != Severity::Note);
            notes.extend(worth.map(|one| line(device, one)));
        }
    }
    notes
}

fn line(name: &str, finding: &Finding) -> String {
    let command = finding.command.as_ref().map_or_else(String::new, |command| format!("; {command}"));
    format!("{name}: {}{command}", finding.text)
}
