//! The steering program's maps as publishing sees them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use ringway_dataplane::af_xdp::program::{SteeringEntry, SteeringProgram};

use super::interfaces::lock;
use crate::publish::Steering;

/// The program, shared with whoever attaches it.
pub(super) struct SharedSteering(pub Arc<Mutex<SteeringProgram>>);

impl Steering for SharedSteering {
    fn add(&mut self, entries: &HashSet<SteeringEntry>) -> Result<(), String> {
        lock(&self.0).add_missing(entries).map_err(|error| error.to_string())
    }

    fn remove(&mut self, entries: &HashSet<SteeringEntry>) -> Result<(), String> {
        lock(&self.0).remove_present(entries).map_err(|error| error.to_string())
    }
}
