//! Attaching to the devices that interfaces need and that are not attached yet.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::Device as KernelDevice;
use ringway_shared::Network;

use super::Interfaces;
use super::carriers::Kept;
use super::fit;
use super::refused::Signs;
use crate::network::listing::Listing;

/// How long a program stays where no port can be opened; a driver may take 3 s to let go of frames.
const KEEP: Duration = Duration::from_secs(10);
/// After so long devices that a glob means wait for what has changed meanwhile.
const ROUND: Duration = Duration::from_millis(500);
/// How many devices of one refusal are named.
const NAMED: usize = 3;

/// What is to be told of refusals.
#[derive(Default)]
pub(super) struct Telling {
    /// Refusals that were not told of yet: the ifindex, the name, and why.
    untold: Vec<(u32, String, String)>,
    /// Reasons that were told of the first device that was refused for them: the others come in one line.
    said: BTreeSet<String>,
    /// That something is about to be let go of, which may be what is in the way: it is tried again right after.
    waits: bool,
}

impl Interfaces {
    /// Attaches to every device that an interface needs, unless it was refused a short while ago. Why one could not be
    /// attached is noted; the others go on.
    pub(super) fn attach_missing(&mut self, network: &Network) {
        let all = fit::wanted(&self.listed, network);
        self.refused.retain(|index| all.contains_key(index));
        self.unfinished = false;
        self.telling.waits = self.carriers.keys().any(|index| !all.contains_key(index));
        let listing = OnceCell::new();
        let has_program = |index| listing.get_or_init(|| Listing::read().unwrap_or_default()).has_program(index);
        let began = Instant::now();
        let mut ordered: Vec<_> = all.iter().collect();
        ordered.sort_by_key(|(_, wanted)| !wanted.named);
        for (place, (&index, wanted)) in ordered.into_iter().enumerate() {
            self.heart.beat();
            self.tell_start(place, all.len());
            if self.carriers.contains_key(&index) {
                continue;
            }
            let signs = Signs::of(index, wanted);
            if self.refused.is_waiting(index, &signs, Instant::now()) {
                continue;
            }
            if !wanted.named
                && let Some(problem) = self.room.is_out(signs.queues()).cloned()
            {
                self.refuse(index, &wanted.name, problem, signs);
                continue;
            }
            // A start has nothing else to do, and is over only when all were tried.
            let may_wait = !wanted.named && self.starting.is_none();
            self.unfinished = may_wait && began.elapsed() > ROUND && self.is_outdated(network)
                || self.until.is_some_and(|until| Instant::now() >= until);
            if self.unfinished || self.drivers.is_end() {
                break;
            }
            // Its driver may have to let go of it before it is counted among them.
            let mut devices = self.devices();
            match (KernelDevice { name: wanted.name.clone(), index }).may_zero_copy() {
                true => (devices.nics, devices.queues) = (devices.nics + 1, devices.queues + signs.queues()),
                false => devices.bare_queues += signs.queues(),
            }
            self.drivers.have(devices);
            match self.attach_device(index, wanted, has_program) {
                Ok(carrier) => {
                    let again = self.refused.remove(index) && self.carries(index);
                    if self.kept.remove(&index).is_some() || again {
                        tracing::info!("{}: attached anew, with {} queues", wanted.name, carrier.watched.ports.len());
                    }
                    self.carriers.insert(index, carrier);
                    self.steer();
                    self.settle_those_on(index, network);
                }
                Err(problem) => {
                    self.refuse(index, &wanted.name, problem, signs);
                    self.settle_those_on(index, network);
                    // What was done so far is undone.
                    self.close_ports(index, &wanted.name);
                    if !self.kept.contains_key(&index) {
                        self.forget(index);
                    }
                }
            }
        }
        let is_over = |index: &u32, kept: &Kept| !all.contains_key(index) || kept.since.elapsed() > KEEP;
        let over = self.kept.iter().filter(|(index, kept)| is_over(index, kept)).map(|(index, _)| *index);
        over.collect::<Vec<_>>().into_iter().for_each(|index| self.forget(index));
        if !self.drivers.is_end() {
            self.drivers.have(self.devices());
        }
        self.drop_meanwhile();
    }

    /// Follows the network, and has devices wait for the next turn that are not being attached at this moment.
    pub(in crate::daemon) fn follow_until(&mut self, network: &Network, moment: Instant) {
        self.until = Some(moment);
        self.follow(network);
        self.until = None;
    }

    /// Whether devices wait for the next turn.
    pub(in crate::daemon) fn has_untried(&self) -> bool {
        self.unfinished
    }

    /// Whether there is a newer network than this one.
    fn is_outdated(&self, network: &Network) -> bool {
        self.newest().is_some_and(|newest| newest.generation != network.generation)
    }

    /// Whether a device is to carry an interface that was attached.
    fn carries(&self, index: u32) -> bool {
        self.attached.values().any(|attached| attached.lowers.devices.iter().any(|lower| lower.index == index))
    }

    /// Attaches the interfaces that a device carries as soon as each of their devices was tried: they wait for no others.
    fn settle_those_on(&mut self, index: u32, network: &Network) {
        for interface in network.interfaces() {
            let mut devices = interface.lowers.devices.iter();
            let is_tried = |index: &u32| self.carriers.contains_key(index) || self.refused.problem(*index).is_some();
            if devices.clone().any(|lower| lower.index == index) && devices.all(|lower| is_tried(&lower.index)) {
                self.settle(interface);
            }
        }
    }

    /// Notes why a device could not be attached. The first for a reason is told of at once.
    fn refuse(&mut self, index: u32, name: &str, problem: String, signs: Signs) {
        if !self.refused.note(index, problem.clone(), signs, Instant::now()) {
            return;
        }
        if !self.telling.waits && self.telling.said.insert(problem.clone()) {
            tracing::warn!("{}", line(&problem, &[name.to_owned()]));
        } else {
            self.telling.untold.push((index, name.to_owned(), problem));
        }
    }

    /// Says which devices could not be attached, unless they are by now: those with the same reason in one line.
    pub(super) fn tell_refusals(&mut self) {
        let Telling { untold, .. } = std::mem::take(&mut self.telling);
        let still = untold.into_iter().filter(|(index, ..)| self.refused.problem(*index).is_some());
        lines(still).iter().for_each(|line| tracing::warn!("{line}"));
    }
}

fn lines(refusals: impl Iterator<Item = (u32, String, String)>) -> Vec<String> {
    let mut by_problem: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, name, problem) in refusals {
        let names = by_problem.entry(problem).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    by_problem.iter().map(|(problem, names)| line(problem, names)).collect()
}

fn line(problem: &str, names: &[String]) -> String {
    let first = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("cannot attach to {first}{more}: {problem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_for_one_reason_are_one_line() {
        let refusal = |(index, why): (u32, &str)| (index, format!("v{index}"), why.to_owned());
        let few = [(1, "busy"), (2, "no room"), (3, "busy"), (1, "busy")].map(refusal);
        assert_eq!(lines(few.into_iter()), ["cannot attach to v1, v3: busy", "cannot attach to v2: no room"]);
        let many = (1..=500).map(|index| refusal((index, "no room")));
        assert_eq!(lines(many), ["cannot attach to v1, v2, v3 and 497 more: no room"]);
    }
}
