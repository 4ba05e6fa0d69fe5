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

#[cfg(test)]
mod tests {
    use super::bed::{BACKENDS, Bed, backend_ips};
    use super::client::{Load, Target, ask_http, ask_udp};
    use super::server::Server;
    use super::tally::Tally;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    /// Without Ringway the gateway's kernel routes: client, servers and network of the demo are right by themselves.
    #[test]
    fn the_bed_carries_requests_to_every_backend() {
        if !rustix::process::geteuid().is_root() {
            let message = "the_bed_carries_requests_to_every_backend was SKIPPED: namespaces need root";
            assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{message}");
            eprintln!("{message}");
            return;
        }
        let bed = Bed::create().expect("a bed");
        let start = |(namespace, name)| Server::start(namespace, name).expect("a server");
        let servers: Vec<Server> = bed.backends.iter().zip(BACKENDS).map(start).collect();
        let mut targets = Vec::new();
        for (index, name) in BACKENDS.into_iter().enumerate() {
            for ip in backend_ips(index) {
                let at = |port| SocketAddr::new(ip.parse().expect("an address"), port);
                assert_eq!(ask_http(&bed.client, at(8080), 0).as_deref(), Ok(name));
                assert_eq!(ask_udp(&bed.client, at(5353)).as_deref(), Ok(name));
                targets.push(Target { what: "backend", http: at(8080), udp: at(5353) });
            }
        }
        let tally = Arc::new(Tally::default());
        let load = Load::start(&bed.client, targets, Arc::clone(&tally)).expect("load");
        while tally.read().long_lived < 3 {
            std::thread::sleep(Duration::from_millis(10));
        }
        load.stop();
        let counts = tally.read();
        assert_eq!(counts.failed(), 0, "{counts:?}");
        assert!(BACKENDS.iter().all(|name| counts.of(name) > 0), "{counts:?}");
        drop(servers);
        assert!(ask_http(&bed.client, SocketAddr::from(([10, 180, 0, 11], 8080)), 0).is_err(), "a dead backend");
    }
}
