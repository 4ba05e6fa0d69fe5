//! `ringway nic`: what a performance engineer asks of an interface. Nothing is changed, and no instance need run.

mod text;

use std::io::Write;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::ask;
use super::check::start::predecessor;
use super::config_file::ConfigFile;
use crate::config::{Config, SourceKey};
use crate::daemon::{allowed_cpus, changed_settings};
use crate::network::nic::{NicError, Running, Surveyor, Wish, together};
use crate::outcome::{Failure, ReportOutput, note};
use crate::report::nic::NicReport;

/// What `ringway nic` is asked.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is changed. Without a name: the interfaces of the configuration, or without one all Ethernet devices."
)]
pub struct Arguments {
    /// The interface; of several, or without one, an overview and what is to be changed
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    config: ConfigFile,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportOutput,
}

/// What is answered.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    nics: Vec<NicReport>,
}

/// Asks the kernel, and prints.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let config = match arguments.config.load_if_there(SourceKey::Replaced) {
        // Nobody named it: interfaces can be told of all the same.
        Err(failure) if !arguments.config.is_named() => {
            note(format!("{failure}\nnote: so what the configuration asks for is left aside"));
            None
        }
        config => config?,
    };
    let failed = |error: NicError| Failure::failed(error.to_string());
    let mut surveyor = Surveyor::open(cpus()).map_err(failed)?;
    let names = match &arguments.names[..] {
        [] => meant(&surveyor.names(), config.as_ref())?,
        names => names.to_vec(),
    };
    let mut nics = Vec::new();
    let state = config.as_ref().map_or_else(|| Config::default().state, |config| config.state.clone());
    let changed = changed_settings(&state);
    let running = running(config.as_ref());
    for name in &names {
        let wish = Wish { running: running.clone(), ..wish(name, config.as_ref()) };
        let mut nic = surveyor.report(name, &wish).map_err(failed)?;
        let index = nic.index;
        for one in changed.iter().filter(|one| one.index == index) {
            nic.note_changed(one.setting, one.was);
        }
        nics.push(nic);
    }
    if config.is_some() {
        together(&mut nics);
    }
    let answer = serde_json::to_vec(&Report { nics });
    let answer = answer.map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
    ask::print::<Report, _>(&answer, arguments.output, out, |report| text::of(&report.nics))
}

/// The CPUs that this process may use.
pub(super) fn cpus() -> Vec<u32> {
    allowed_cpus().into_iter().filter_map(|cpu| u32::try_from(cpu).ok()).collect()
}

/// What the configuration asks of an interface; the defaults where it does not list it.
pub(super) fn wish(name: &str, config: Option<&Config>) -> Wish {
    let listed = config.and_then(|config| config.interfaces.iter().find(|listed| listed.name.matches(name)));
    let workers = config.and_then(|config| config.workers.cpus.as_ref()).map(Vec::len);
    match listed {
        Some(listed) => {
            Wish { xdp: listed.xdp, zero_copy: listed.zero_copy, rss: listed.rss, workers, ..Wish::default() }
        }
        None => Wish::default(),
    }
}

/// What the instance that runs with this configuration has.
fn running(config: Option<&Config>) -> Running {
    let answer = match config {
        Some(config) => predecessor(config),
        None => predecessor(&Config::default()),
    };
    match answer.map(|instance| instance.devices) {
        None => Running::Nobody,
        Some(Some(devices)) => Running::Attached(devices),
        Some(None) => Running::Denied,
    }
}

/// The interfaces to be told of when none is named.
fn meant(there: &[String], config: Option<&Config>) -> Result<Vec<String>, Failure> {
    let listed =
        |name: &&String| config.is_none_or(|config| config.interfaces.iter().any(|listed| listed.name.matches(name)));
    let names: Vec<String> = there.iter().filter(listed).cloned().collect();
    if !names.is_empty() {
        return Ok(names);
    }
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Err(Failure::failed(match config {
        Some(_) => format!("no Ethernet device here is among interfaces of the configuration; there are: {there}"),
        None => "there is no Ethernet device in this network namespace; `ip link` lists what there is".to_owned(),
    }))
}

#[cfg(test)]
mod tests;
