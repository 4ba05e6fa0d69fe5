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

#[cfg(test)]
mod tests {
    use ringway_dataplane::af_xdp::program::Capacities;

    use super::*;

    /// Entries stay in the program that somebody removed here only in name, until its map takes no more.
    #[test]
    fn what_is_added_has_a_place_and_what_is_removed_leaves_it() {
        let program = SteeringProgram::load_with(Capacities { vips: 1, ..Capacities::default() }).unwrap();
        let mut steering = SharedSteering(Arc::new(Mutex::new(program)));
        let [one, other] = ["198.51.100.10", "198.51.100.11"]
            .map(|address| HashSet::from([SteeringEntry::Vip(address.parse().unwrap())]));
        steering.add(&one).unwrap();
        steering.add(&other).expect_err("there is one place");
        steering.remove(&one).unwrap();
        steering.add(&other).unwrap();
    }
}
