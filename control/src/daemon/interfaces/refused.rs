//! Devices that could not be attached, and when they are tried again.
//!
//! Every attempt may reset a NIC (some drivers do for XDP, for a socket, for an offload), so that one tried every second would
//! never come up again, for nobody. The pause between attempts doubles up to a minute; it ends at once when something changed
//! that an attempt may depend on. Whether the link has a carrier is none of that: an attempt changes it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::Device as KernelDevice;
use ringway_shared::network::Lowers;

use super::fit::Wanted;
use super::vlans;

/// The first pause.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(60);
/// The kernel's IFF_UP.
const UP: u16 = 1;

/// What an attempt may depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signs {
    wanted: Wanted,
    mtu: Option<u32>,
    queues: Option<u32>,
    is_up: bool,
    vlans: Vec<String>,
}

impl Signs {
    pub(super) fn of(index: u32, wanted: &Wanted) -> Self {
        let device = KernelDevice { name: wanted.name.clone(), index };
        Signs {
            wanted: wanted.clone(),
            mtu: device.mtu().ok(),
            queues: device.queues().ok(),
            is_up: device.flags().is_ok_and(|flags| flags & UP != 0),
            vlans: vlans::above(&device.name),
        }
    }

    /// How many queues it has, as far as it says.
    pub(super) fn queues(&self) -> u32 {
        self.queues.unwrap_or_default()
    }
}

/// Why a device could not be attached.
struct Refusal {
    problem: String,
    signs: Signs,
    pause: Duration,
    due: Instant,
}

/// Devices that could not be attached, by ifindex.
#[derive(Default)]
pub(super) struct Refused(BTreeMap<u32, Refusal>);

impl Refused {
    /// Why a device could not be attached.
    pub(super) fn problem(&self, index: u32) -> Option<&String> {
        self.0.get(&index).map(|refusal| &refusal.problem)
    }

    /// Why none of the devices that carry an interface of this name could be attached, as far as each was tried.
    pub(super) fn why(&self, name: &str, lowers: &Lowers) -> String {
        let why = lowers.devices.iter().filter_map(|lower| {
            let problem = self.problem(lower.index)?;
            Some(if *lower.name == *name { problem.clone() } else { format!("{}: {problem}", lower.name) })
        });
        why.collect::<Vec<_>>().join("; ")
    }

    /// When the first of them is tried again.
    pub(super) fn next_try(&self, lowers: &Lowers) -> Option<Instant> {
        lowers.devices.iter().filter_map(|lower| Some(self.0.get(&lower.index)?.due)).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is too early for another attempt.
    pub(super) fn is_waiting(&self, index: u32, signs: &Signs, now: Instant) -> bool {
        self.0.get(&index).is_some_and(|refusal| refusal.signs == *signs && now < refusal.due)
    }

    /// An attempt failed. Whether the problem is a new one.
    pub(super) fn note(&mut self, index: u32, problem: String, signs: Signs, now: Instant) -> bool {
        let before = self.0.remove(&index);
        let is_new = before.as_ref().is_none_or(|before| before.problem != problem);
        let again = before.filter(|before| before.signs == signs);
        let pause = again.map_or(SHORTEST, |before| (before.pause * 2).min(LONGEST));
        self.0.insert(index, Refusal { problem, signs, pause, due: now + pause });
        is_new
    }

    /// Whether it was one of them.
    pub(super) fn remove(&mut self, index: u32) -> bool {
        self.0.remove(&index).is_some()
    }

    /// Forgets those that nobody needs.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&u32) -> bool) {
        self.0.retain(|index, _| is_wanted(index));
    }

    /// Something changed that concerns all: each is tried at once, with short pauses.
    pub(super) fn hurry(&mut self, now: Instant) {
        for refusal in self.0.values_mut() {
            (refusal.pause, refusal.due) = (SHORTEST / 2, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use ringway_shared::network::Lower;

    use super::*;
    use crate::config::{XdpMode, ZeroCopy};

    fn signs(mtu: u32) -> Signs {
        let wanted =
            Wanted { name: "nic0".into(), xdp: XdpMode::Auto, zero_copy: ZeroCopy::Auto, tagged: false, named: true };
        Signs { wanted, mtu: Some(mtu), queues: Some(1), is_up: true, vlans: Vec::new() }
    }

    #[test]
    fn a_device_that_is_refused_again_and_again_is_left_alone_for_longer() {
        let (mut refused, mut now, mut pauses) = (Refused::default(), Instant::now(), Vec::new());
        for attempt in 0..8 {
            assert!(!refused.is_waiting(2, &signs(1500), now));
            // The numbers in it may differ.
            assert!(refused.note(2, format!("attempt {attempt}"), signs(1500), now));
            let start = now;
            while refused.is_waiting(2, &signs(1500), now) {
                now += Duration::from_secs(1);
            }
            pauses.push((now - start).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!refused.note(2, "attempt 7".into(), signs(1500), now), "it was told");
        assert!(refused.is_waiting(2, &signs(1500), now));
        assert!(!refused.is_waiting(2, &signs(1400), now), "another MTU may help");
        refused.hurry(now);
        assert!(!refused.is_waiting(2, &signs(1500), now));
        refused.note(2, "again".into(), signs(1500), now);
        assert!(!refused.is_waiting(2, &signs(1500), now + Duration::from_secs(1)));
    }

    #[test]
    fn what_changed_begins_with_the_shortest_pause_and_all_is_told_of_those_that_carry_an_interface() {
        let (mut refused, start) = (Refused::default(), Instant::now());
        for _ in 0..5 {
            refused.note(2, "busy".into(), signs(1500), start);
        }
        refused.note(3, "too few queues".into(), signs(1500), start + Duration::from_secs(3));
        let lower = |index, name: &str| Lower { index, name: name.into(), receives: true, sends: true };
        let of = |devices: &[Lower]| Lowers { devices: devices.into(), ..Lowers::default() };
        let all = of(&[lower(2, "nic0"), lower(3, "nic1"), lower(4, "nic2")]);
        assert_eq!(refused.why("bond0", &all), "nic0: busy; nic1: too few queues");
        assert_eq!(refused.why("nic0", &of(&[lower(2, "nic0")])), "busy");
        assert_eq!(refused.next_try(&all), Some(start + Duration::from_secs(4)), "the first of them");
        refused.note(2, "busy".into(), signs(1400), start);
        assert_eq!(refused.next_try(&all), Some(start + SHORTEST), "another MTU is another matter");
        refused.retain(|index| *index == 3);
        assert_eq!((refused.problem(2), refused.is_empty()), (None, false));
    }
}
