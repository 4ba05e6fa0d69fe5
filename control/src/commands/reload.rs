//! `ringway reload`: the running instance reads its configuration anew.

use std::io::Write;

use clap::Args;

use super::ask::{self, Instance};
use super::status::{counted, duration};
use crate::outcome::{Failure, ReportOutput};
use crate::plain;
use crate::report::configuration::{ConfigurationReport, ReloadFailure, ReloadReport};

/// Exit status when all that could be done is done, and some keys take a restart.
const RESTART: u8 = 3;

/// What `ringway reload` is asked.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 the file is in force, 3 some keys take a restart, 2 the file is wrong and nothing changed, \
                  1 nobody was there or not all could be done."
)]
pub struct Arguments {
    #[command(flatten)]
    instance: Instance,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportOutput,
}

/// Asks, and prints what changed.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let answer = arguments.instance.post("/reload", &serde_json::json!({}))?;
    ask::print::<ReloadReport, _>(&answer, arguments.output, out, ToString::to_string)?;
    out.flush()?;
    let report: ReloadReport = ask::read(&answer)?;
    match (report.problems.len(), report.waiting().count()) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::quiet(RESTART)),
        (_, _) => Err(Failure::failed("not all of it could be done; the log and ringway status say more")),
    }
}

/// Which file, and how old what is in force is.
pub(super) fn configuration(report: &ConfigurationReport) -> String {
    let age = duration(report.age_seconds);
    match report.reloads {
        0 => format!("{}, read {age} ago at the start", plain::line(&report.file)),
        count => format!(
            "{}, read {age} ago; {} since the start",
            plain::line(&report.file),
            counted(count, "reload", "reloads")
        ),
    }
}

/// What the last reload did not do. `report`: of what is in force in its place.
pub(super) fn failure(failure: &ReloadFailure, report: &ConfigurationReport) -> String {
    let ReloadFailure { age_seconds, text, nothing_changed, file_changed } = failure;
    let text = text.replace('\n', "\n    ");
    let (age, read) = (duration(*age_seconds), duration(report.age_seconds));
    let what = match nothing_changed {
        true => format!("changed nothing, so what was read {read} ago is in force"),
        false => "did not do all that the file says".to_owned(),
    };
    let since = if *file_changed { " (the file has changed since; ringway reload takes it)" } else { "" };
    format!("configuration: the reload of {age} ago {what}{since}: {text}")
}
