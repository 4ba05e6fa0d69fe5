//! `ringway completion`: what a shell needs to complete `ringway` lines.

use std::io::Write;

use clap::{Args, Command, ValueEnum};

use crate::outcome::Failure;

/// What `ringway completion` is asked.
#[derive(Debug, Args)]
#[command(
    after_help = "bash: source <(ringway completion bash). zsh: source <(ringway completion zsh), after compinit. \
                        fish: ringway completion fish | source."
)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

/// The shells.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script for `command`.
pub fn run(arguments: &Arguments, command: Command, out: &mut impl Write) -> Result<(), Failure> {
    let shell = match arguments.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // What is hidden from people is not offered either.
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect::<Vec<_>>();
    let mut command = Command::new("ringway").version(crate::VERSION).propagate_version(true).subcommands(shown);
    // Whoever closes the pipe has seen enough, and is no reason to panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "ringway", &mut script);
    Ok(out.write_all(&script)?)
}
