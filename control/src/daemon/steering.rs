//! The steering program's maps as publishing sees them.

use std::sync::{Arc, Mutex};

use ringway_dataplane::af_xdp::program::SteeringProgram;

use super::interfaces::lock;
use crate::publish::{Steering, SteeringSets};

/// The program, shared with whoever attaches it.
pub(super) struct SharedSteering(pub Arc<Mutex<SteeringProgram>>);

impl Steering for SharedSteering {
    fn add_missing(&mut self, sets: &SteeringSets) -> Result<(), String> {
        lock(&self.0).add_missing(&sets.entries()).map_err(|error| error.to_string())
    }

    fn remove_stale(&mut self, sets: &SteeringSets) -> Result<(), String> {
        lock(&self.0).remove_stale(&sets.entries()).map_err(|error| error.to_string())
    }
}
