//! What the supervisor hears while the devices of a start are attached: some drivers take seconds for each.

use std::time::{Duration, Instant};

use super::Interfaces;
use crate::daemon::supervisor::Supervisor;

/// How often it hears of that.
const OFTEN: Duration = Duration::from_secs(1);

/// How far a start is.
pub(super) struct Starting {
    supervisor: Supervisor,
    /// So many devices were tried, of so many.
    tried: (usize, usize),
    told: Option<Instant>,
}

impl Starting {
    fn tell(&mut self) {
        if self.told.is_some_and(|told| told.elapsed() < OFTEN) {
            return;
        }
        self.told = Some(Instant::now());
        let (tried, all) = self.tried;
        self.supervisor.starting(&format!("attaching: {tried} of {all}"));
    }
}

impl Interfaces {
    /// Attaches for the first time, from now on: the supervisor is told how far that is.
    pub(in crate::daemon) fn begin(&mut self, supervisor: Supervisor) {
        self.starting = Some(Starting { supervisor, tried: (0, 0), told: None });
    }

    /// What is attached from now on is no part of the start.
    pub(in crate::daemon) fn have_begun(&mut self) {
        self.starting = None;
        self.patience.end_of_start();
    }

    /// So many devices were tried, of so many.
    pub(super) fn tell_start(&mut self, tried: usize, all: usize) {
        if let Some(starting) = &mut self.starting {
            starting.tried = (tried, all);
            starting.tell();
        }
    }

    /// The start goes on, as long as it may take.
    pub(super) fn tell_of_start(&mut self) {
        self.starting.iter_mut().for_each(Starting::tell);
    }
}
