//! `ringway demo`: a client, a gateway and backends in network namespaces, real HTTP and UDP through VIPs, and a story
//! that checks itself.

mod bed;
mod client;
pub mod instance;
pub mod netns;
pub mod process;
mod reading;
mod screen;
mod server;
mod story;
mod tally;

use screen::Screen;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use story::{Stopped, Story};

/// How the demo is asked to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Stay until Ctrl-C when the story is told, and print what to try.
    pub keep: bool,
}

/// Tells the story. The exit status is 0 only if every check held. Everything is cleaned up, after Ctrl-C too.
pub fn run(options: Options) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        eprintln!("ringway demo makes network namespaces and AF_XDP sockets: run it as root (sudo ringway demo)");
        return ExitCode::FAILURE;
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    if let Err(error) = watch_signals(Arc::clone(&interrupted)) {
        eprintln!("ringway demo: signals cannot be watched: {error}");
        return ExitCode::FAILURE;
    }
    match tell(options, &interrupted) {
        Ok(0) => {
            println!("\nAll of it held.");
            ExitCode::SUCCESS
        }
        Ok(failures) => {
            println!("\n{failures} of the checks did NOT hold (marked ✗ above).");
            ExitCode::FAILURE
        }
        Err(Stopped::Interrupted) => {
            eprintln!("\nringway demo: interrupted before its end; all is cleaned up");
            ExitCode::FAILURE
        }
        Err(Stopped::Failed(why)) => {
            eprintln!("\nringway demo: {why}");
            ExitCode::FAILURE
        }
    }
}

fn tell(options: Options, interrupted: &AtomicBool) -> Result<usize, Stopped> {
    let mut story = Story::begin(Screen::new(), interrupted)?;
    let told = story.tell();
    if let Err(Stopped::Failed(_)) = &told {
        story.show_log();
    }
    let failures = told?;
    if options.keep {
        story.stay()?;
    }
    let in_all = story.end()?;
    Ok(failures.max(in_all))
}

/// Notes Ctrl-C and SIGTERM; the story looks at the note wherever it waits.
fn watch_signals(interrupted: Arc<AtomicBool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                interrupted.store(true, Ordering::Relaxed);
            }
        });
    })?;
    Ok(())
}
