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

use rustix::process::Signal;
use screen::Screen;
use std::io::Write;
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
        eprintln!(
            "error: ringway demo makes network namespaces and AF_XDP sockets: run it as root (sudo ringway demo)"
        );
        return ExitCode::FAILURE;
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    if let Err(error) = watch_signals(Arc::clone(&interrupted)) {
        eprintln!("error: ringway demo: signals cannot be watched: {error}");
        return ExitCode::FAILURE;
    }
    // The terminal may be gone by then, and there is nobody to tell.
    let (out, err) = (&mut std::io::stdout(), &mut std::io::stderr());
    let (code, told) = match tell(options, &interrupted) {
        Ok(0) => (ExitCode::SUCCESS, writeln!(out, "\nAll of it held.")),
        Ok(failures) => {
            let told = writeln!(out, "\n{failures} of the checks did NOT hold (marked ✗ above).");
            (ExitCode::FAILURE, told)
        }
        Err(Stopped::Interrupted) => {
            let told = writeln!(err, "\nringway demo: interrupted before its end; all is cleaned up");
            (ExitCode::FAILURE, told)
        }
        Err(Stopped::Failed(why)) => (ExitCode::FAILURE, writeln!(err, "\nerror: ringway demo: {why}")),
    };
    drop(told);
    code
}

fn tell(options: Options, interrupted: &Arc<AtomicBool>) -> Result<usize, Stopped> {
    let mut story = Story::begin(Screen::new(Arc::clone(interrupted)), interrupted)?;
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

/// Notes Ctrl-C, a terminal that is closed, and other signals that end programs; the story looks at the note wherever it
/// waits. Under nohup a hangup means nothing.
fn watch_signals(interrupted: Arc<AtomicBool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    use tokio::signal::unix::SignalKind;
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit()];
    if !ignores_hangup() {
        kinds.push(SignalKind::hangup());
    }
    let signals: Vec<_> = {
        let _inside = runtime.enter();
        kinds.into_iter().map(tokio::signal::unix::signal).collect::<std::io::Result<_>>()?
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(futures::future::join_all(signals.into_iter().map(|mut signal| {
            let interrupted = Arc::clone(&interrupted);
            async move {
                while signal.recv().await.is_some() {
                    interrupted.store(true, Ordering::Relaxed);
                }
            }
        })));
    })?;
    Ok(())
}

/// Whether whoever started us wants us to outlive the terminal.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored & 1 << (Signal::HUP.as_raw() - 1) != 0
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
        // Whatever links a new namespace has here, nothing is left behind yet; a link that comes later is.
        assert_eq!(bed.leftovers().expect("links"), "");
        bed.gateway.bridge("stray").expect("a bridge");
        assert_eq!(bed.leftovers().expect("links"), ", but stray is still there");
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
        // What the demo advises to try: the link comes back with all that it had.
        for up in [false, true] {
            bed.gateway.set_link("back", up).expect("a link");
        }
        for ip in backend_ips(0) {
            let server = SocketAddr::new(ip.parse().expect("an address"), 8080);
            let began = std::time::Instant::now();
            while ask_http(&bed.client, server, 0).is_err() {
                assert!(began.elapsed() < Duration::from_secs(20), "{server} is lost for good");
            }
        }
        assert!(BACKENDS.iter().all(|name| counts.of(name) > 0), "{counts:?}");
        drop(servers);
        assert!(ask_http(&bed.client, SocketAddr::from(([10, 180, 0, 11], 8080)), 0).is_err(), "a dead backend");
    }
}
