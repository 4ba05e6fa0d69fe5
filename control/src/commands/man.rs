//! `ringway man`, for packagers: the manual pages, from what `--help` says.

mod markdown;

use std::io;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::config::{DEFAULT_ADMIN_SOCKET, DEFAULT_FILE};
use crate::outcome::Failure;

/// The section of commands for administrators.
const SECTION: &str = "8";

/// The documentation of the configuration file.
const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");

/// What `ringway man` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder that the pages are written to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes a page for `command`, and one for each of its commands.
pub fn run(arguments: &Arguments, mut command: Command) -> Result<(), Failure> {
    command.build();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let pages: Vec<Command> = commands.cloned().collect();
    let names: Vec<String> = pages.iter().map(name).collect();
    std::fs::create_dir_all(&arguments.folder).map_err(|error| failed(&arguments.folder, &error))?;
    write(arguments, command, &names)?;
    let page =
        head("ringway.yaml", "5", "configuration of the load balancer ringway") + &markdown::to_roff(CONFIGURATION);
    let path = arguments.folder.join("ringway.yaml.5");
    std::fs::write(&path, page).map_err(|error| failed(&path, &error))?;
    pages.into_iter().try_for_each(|page| write(arguments, page, &["ringway".to_owned()]))
}

/// `ringway-run` for `ringway run`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn failed(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}; name a folder that can be written to", crate::plain::path(path)))
}

fn write(arguments: &Arguments, command: Command, others: &[String]) -> Result<(), Failure> {
    let path = arguments.folder.join(format!("{}.{SECTION}", name(&command)));
    let page = page(command, others).map_err(|error| failed(&path, &error))?;
    std::fs::write(&path, page).map_err(|error| failed(&path, &error))
}

/// Without a date, so that the same source makes the same page.
fn title(name: &str, section: &str) -> String {
    format!(".TH {name} {section} \"\" \"Ringway {}\" \"Ringway\"\n", crate::VERSION)
}

fn head(name: &str, section: &str, what: &str) -> String {
    format!("{}.SH NAME\n{name} \\- {what}\n.SH DESCRIPTION\n", title(name, section))
}

fn page(command: Command, others: &[String]) -> io::Result<Vec<u8>> {
    let more = command.get_after_help().map(|help| help.to_string().replace('\n', " "));
    let has_commands = command.has_subcommands();
    let name = name(&command);
    let man = Man::new(command.after_help("")).section(SECTION);
    let mut page = title(&name, SECTION).into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_commands {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    if let Some(more) = more {
        rest.control("SH", ["NOTES"]).text([roman(more)]);
    }
    rest.control("SH", ["FILES"]);
    for (file, what) in
        [(DEFAULT_FILE, "the configuration"), (DEFAULT_ADMIN_SOCKET, "where the running instance is asked")]
    {
        rest.control("TP", []).text([bold(file)]).text([roman(what)]);
    }
    rest.control("SH", ["SEE ALSO"]);
    let mut also = Vec::new();
    for (place, other) in others.iter().enumerate() {
        also.extend([roman(if place == 0 { "" } else { ", " }), bold(other), roman(format!("({SECTION})"))]);
    }
    also.extend([roman(", "), bold("ringway.yaml"), roman("(5)")]);
    rest.text(also);
    rest.to_writer(&mut page)?;
    Ok(page)
}
