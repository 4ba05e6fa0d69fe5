//! `ringway drain` and `ringway undrain`: no new connections to an endpoint, and back.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::ask::{self, Instance};
use super::status::duration;
use super::table::Table;
use crate::drain::Target;
use crate::outcome::{Failure, ReportOutput, note};
use crate::report::drained::{DrainReport, DrainedReport};

/// What `ringway drain` is asked.
#[derive(Debug, Args)]
#[command(
    after_help = "What is open goes on; ringway flows --endpoint ADDRESS shows it. A drained endpoint is treated as one that is \
                  terminating and still serves: it gets new connections only where no other is ready, and the command says so."
)]
pub struct Arguments {
    /// Endpoints: ADDRESS:PORT, or ADDRESS for all its ports; IPv6 as fd00::1 or [fd00::1]:80
    #[arg(value_name = "ADDRESS[:PORT]", required_unless_present = "list")]
    endpoints: Vec<String>,
    /// Also after a restart: written to the state folder
    #[arg(long, conflicts_with = "list")]
    keep: bool,
    /// Only say what is drained
    #[arg(long, conflicts_with = "endpoints")]
    list: bool,
    #[command(flatten)]
    instance: Instance,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportOutput,
}

/// What `ringway undrain` is asked.
#[derive(Debug, Args)]
pub struct UndrainArguments {
    /// Endpoints, as with drain; an ADDRESS takes back all that is drained of it
    #[arg(value_name = "ADDRESS[:PORT]", required_unless_present = "all")]
    endpoints: Vec<String>,
    /// All that are drained
    #[arg(long, conflicts_with = "endpoints")]
    all: bool,
    #[command(flatten)]
    instance: Instance,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportOutput,
}

/// Drains, or lists what is drained.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let Arguments { endpoints, keep, list, instance, output } = arguments;
    if *list {
        let answer = instance.get("/drained")?;
        return ask::print::<DrainReport, _>(&answer, *output, out, |report| listed(&report.drained));
    }
    let named = named(endpoints)?;
    let answer = instance.post("/drain", &json!({"endpoints": named, "keep": keep}))?;
    let report: DrainReport = ask::read(&answer)?;
    ask::print::<DrainReport, _>(&answer, *output, out, |report| done(&report.drained, &named))?;
    out.flush()?;
    let warned = report.drained.iter().filter(|one| named.contains(&one.endpoint) && !one.last.is_empty());
    warned.for_each(|one| note(format!("{} {}", one.endpoint, one.note())));
    in_force(&report)
}

/// Takes back.
pub fn undrain(arguments: &UndrainArguments, out: &mut impl Write) -> Result<(), Failure> {
    let UndrainArguments { endpoints, all, instance, output } = arguments;
    let answer = instance.post("/undrain", &json!({"endpoints": named(endpoints)?, "all": all}))?;
    ask::print::<DrainReport, _>(&answer, *output, out, |report| match report.drained.is_empty() {
        true => "nothing is drained any more\n".to_owned(),
        false => format!("drained still:\n{}", listed(&report.drained)),
    })?;
    out.flush()?;
    in_force(&ask::read(&answer)?)
}

/// The endpoints as the instance names them.
fn named(endpoints: &[String]) -> Result<Vec<String>, Failure> {
    let read = |text: &String| text.parse::<Target>().map(|target| target.to_string());
    endpoints.iter().map(read).collect::<Result<_, _>>().map_err(|error| Failure::invalid(error.to_string()))
}

fn in_force(report: &DrainReport) -> Result<(), Failure> {
    match report.in_force {
        true => Ok(()),
        false => Err(Failure::failed("not all workers know yet; ringway status says when the snapshot is in force")),
    }
}

/// One line for each that was asked for.
fn done(drained: &[DrainedReport], named: &[String]) -> String {
    let meant = drained.iter().filter(|one| named.contains(&one.endpoint));
    let line = |one: &DrainedReport| {
        let until = if one.kept { "until ringway undrain" } else { "until ringway undrain or a restart" };
        format!("{} ({}): no new connections {until}\n", one.endpoint, one.services.join(", "))
    };
    meant.map(line).collect()
}

fn listed(drained: &[DrainedReport]) -> String {
    let mut table = Table::new(["ENDPOINT", "SINCE", "KEPT", "SERVICES", "NOTE"]).prose();
    for one in drained {
        let kept = if one.kept { "yes" } else { "no" };
        let services = if one.services.is_empty() { "-".to_owned() } else { one.services.join(",") };
        table.row([one.endpoint.clone(), duration(one.seconds), kept.to_owned(), services, one.note()]);
    }
    if table.is_empty() { "nothing is drained\n".into() } else { table.to_string() }
}
