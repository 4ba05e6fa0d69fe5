//! The command line: what can be asked, and how it ends.
//!
//! Exit status: 0 done, 1 the operation failed, 2 wrong usage or invalid configuration. Errors go to stderr; their first
//! line says what is wrong, with the value, and what to do. Who reads the output of a command and leaves ends it without a
//! word, as SIGPIPE ends ip and kubectl: a shell sees the same exit status, 141.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use crate::commands::table::fit_to_terminal;
use crate::commands::{check, completion, drain, drops, flows, man, nic, reload, replay, run, services, status, trace};
use crate::daemon::{limits, logging};
use crate::demo;
use crate::outcome::Failure;
use crate::plain;

/// A kernel-bypass load balancer for Kubernetes Services.
#[derive(Debug, Parser)]
#[command(name = "ringway", version = crate::VERSION, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 done, 1 the operation failed, 2 wrong usage or invalid configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate a configuration and its objects with no NIC, and say what would be done
    Check(check::Arguments),
    /// Print what a shell needs to complete ringway's lines
    Completion(completion::Arguments),
    /// Run a client, a gateway and backends in network namespaces of their own, and tell what happens
    ///
    /// Real HTTP and UDP through VIPs, a live table, a backend that dies and one that is added. It takes about 40 s,
    /// checks itself, cleans up, and exits 0 only if all of it held. It needs root.
    Demo(Demo),
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man(man::Arguments),
    /// Say what a performance engineer asks of an interface: its hardware, how it is set, and what to change
    Nic(nic::Arguments),
    /// Let the running instance read its configuration anew, and say what changed and what takes a restart
    Reload(reload::Arguments),
    /// Run a capture through the real packet path, offline and deterministic
    Replay(replay::Arguments),
    /// Balance: the load balancer itself, until a signal
    Run(run::Arguments),
    /// Ask the running instance whether it is well
    Status(status::Arguments),
    /// Ask the running instance for Services, their endpoints, and what they get
    Services(services::Arguments),
    /// Ask the running instance for the connections that it tracks
    Flows(flows::Arguments),
    /// Let an endpoint get no new connections from the running instance, while what is open goes on
    Drain(drain::Arguments),
    /// Let drained endpoints get new connections again
    Undrain(drain::UndrainArguments),
    /// Ask the running instance why packets were dropped or answered
    Drops(drops::Arguments),
    /// Say which endpoint a packet would get, and why
    Trace(trace::Arguments),
}

#[derive(Debug, clap::Args)]
struct Demo {
    /// Stay until Ctrl-C when the story is told, and print what to try
    #[arg(long)]
    keep: bool,
}

/// All that can be asked.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    match limits::raise_stack() {
        Ok(()) => obey(),
        Err(error) => finish(Err(Failure::failed(error.to_string()))),
    }
}

// Its own stack is there only from here on.
#[inline(never)]
fn obey() -> ExitCode {
    let out = &mut io::stdout();
    fit_to_terminal();
    let cli = Cli::try_parse().unwrap_or_else(|error| with_tip(error).exit());
    let result = match cli.command {
        Command::Demo(Demo { keep }) => return demo::run(demo::Options { keep }),
        Command::Check(arguments) => check::run(&arguments, out),
        Command::Completion(arguments) => completion::run(&arguments, command(), out),
        Command::Man(arguments) => man::run(&arguments, command()),
        Command::Nic(arguments) => nic::run(&arguments, out),
        Command::Reload(arguments) => reload::run(&arguments, out),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Status(arguments) => status::run(&arguments, out),
        Command::Services(arguments) => services::run(&arguments, out),
        Command::Flows(arguments) => flows::run(&arguments, out),
        Command::Drain(arguments) => drain::run(&arguments, out),
        Command::Undrain(arguments) => drain::undrain(&arguments, out),
        Command::Drops(arguments) => drops::run(&arguments, out),
        Command::Trace(arguments) => trace::run(&arguments, out),
    };
    finish(result.and_then(|()| Ok(out.flush()?)))
}

/// Who names a configuration without `--config` is told how.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument => word.clone(),
        _ => return error,
    };
    let is_file = !unknown.starts_with('-') && (unknown.ends_with(".yaml") || unknown.ends_with(".yml"));
    let asked = std::env::args_os().nth(1).unwrap_or_default();
    let takes_one = |command: &clap::Command| command.get_arguments().any(|argument| argument.get_id() == "config");
    if is_file && command().find_subcommand(asked).is_some_and(takes_one) {
        error
            .insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![format!("write --config {unknown}").into()]));
    }
    error
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    let status = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_told() {
                logging::say(&plain::lines(&format!("error: {failure}")));
            }
            ExitCode::from(failure.status())
        }
    };
    logging::flush();
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
