//! What the tests with real traffic are made of: namespaces, a gateway bed, the real `ringway` binary, its ledger, and
//! the programs that make traffic.
//!
//! Tests wait for conditions ([`eventually`]), never for a length of time. A test that cannot run here says so
//! ([`can_run`]), and fails where `CI=true`.
#![forbid(unsafe_code)]

pub mod container;
pub mod control_plane;
pub mod echo;
pub mod helm;
pub mod instance;
pub mod journey;
pub mod ledger;
pub mod netns;
pub mod objects;
pub mod overlay;
pub mod process;
pub mod topology;
pub mod world;

use std::time::{Duration, Instant};

/// Whether this machine and user can run a test with real traffic that uses these programs. If not, says which thing
/// is missing and answers false, or panics where `CI=true`.
#[must_use]
pub fn can_run(test: &str, programs: &[&str]) -> bool {
    let missing = if rustix::process::geteuid().is_root() {
        programs.iter().find(|program| !installed(program)).map(|program| format!("'{program}' is not installed"))
    } else {
        Some("network namespaces and AF_XDP sockets need root".to_owned())
    };
    missing.is_none_or(|missing| skip(test, &missing))
}

/// Says that a test cannot run and answers false, or panics where `CI=true`.
fn skip(test: &str, missing: &str) -> bool {
    let message = format!("{test} was SKIPPED: {missing}; `make test` sees to it");
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{message}");
    // Past the capture of the test harness, so that a green run does not hide it.
    let mut terminal = std::io::stderr().lock();
    let _ = std::io::Write::write_all(&mut terminal, format!("\n{message}\n").as_bytes());
    false
}

fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|folder| std::path::Path::new(folder).join(program).exists())
}

/// Tries until it succeeds, at most so long; then panics with what was waited for and the last failure.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(last) if Instant::now() >= deadline => panic!("{what}: not within {limit:?}; last: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
