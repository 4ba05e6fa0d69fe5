//! Traffic that goes on while something else happens, and must not notice.

use crate::shop::probe;
use ringway_shared::Protocol;
use ringway_tests::world::World;
use ringway_tests::world::probe::{Held, Outcome};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What to look at while traffic runs.
pub(crate) struct Traffic {
    stop: AtomicBool,
    rounds: AtomicU64,
}

impl Traffic {
    /// How often every connection has been asked.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }
}

/// Runs `work` while held connections of every sort are asked all the time and new ones are opened; panics when any of
/// them was not answered, or by another endpoint than before.
#[track_caller]
pub(crate) fn during(world: &World, work: impl FnOnce(&Traffic)) {
    let held: Vec<Held> =
        [(Protocol::Tcp, false), (Protocol::Tcp, true), (Protocol::Udp, false), (Protocol::Udp, true)]
            .into_iter()
            .flat_map(|(protocol, v6)| [probe(protocol, v6); 3])
            .map(|probe| world.hold(probe).unwrap_or_else(|outcome| panic!("{probe:?}: {outcome:?}")))
            .collect();
    let traffic = Traffic { stop: AtomicBool::new(false), rounds: AtomicU64::new(0) };
    let failures = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(world, &held, &traffic));
        // Also when the work panics, the thread must end.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&traffic)));
        traffic.stop.store(true, Ordering::Relaxed);
        let failures = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        failures
    });
    assert!(failures.is_empty(), "{} failures in {} rounds: {failures:#?}", failures.len(), traffic.rounds());
}

fn ask(world: &World, held: &[Held], traffic: &Traffic) -> Vec<String> {
    let mut failures = Vec::new();
    while !traffic.stop.load(Ordering::Relaxed) && failures.len() < 10 {
        failures.extend(held.iter().filter_map(|held| held.ask().err()));
        let new = [probe(Protocol::Tcp, false), probe(Protocol::Udp, true)];
        for (probe, outcome) in new.iter().zip(world.probe(&new, Duration::from_secs(5))) {
            if !matches!(outcome, Outcome::Answered { .. }) {
                failures.push(format!("a new connection, {probe:?}: {outcome:?}"));
            }
        }
        traffic.rounds.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
    }
    failures
}
