//! UDP spread by ports: NICs that hash addresses alone bring all replies of an endpoint to one queue.
//!
//! With several workers, a NIC that Ringway is attached to below an interface with `rss: auto` is told to hash the ports of UDP as
//! well, where its driver lets it be told; not when another interface that it carries says `rss: leave`. That is said in the
//! log, and undone when Ringway lets go of the interface or ends. What a driver forgets it is told again; what it refuses stays
//! as it is, and `status` says what that means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::interfaces::lock;
use super::nic_settings::{Changes, KernelNics, Nics, Setting, State};
use super::reload::Loaded;
use crate::config::{InterfaceConfig, RssMode};
use crate::report::interfaces::InterfaceReport;
use crate::watch::heart;

const UDP: [Setting; 2] = [Setting::Udp4, Setting::Udp6];

/// What NICs were told, and are to be told again at the end.
#[derive(Clone)]
pub(super) struct UdpHash(Arc<Mutex<Told<KernelNics>>>);

struct Told<N> {
    changes: Changes,
    nics: N,
    /// What was refused, by the device's ifindex: it is not asked again while Ringway is attached.
    refused: BTreeSet<(u32, Setting)>,
    over: bool,
}

impl UdpHash {
    /// Nothing told yet. `changes`: with those that an instance before this one left behind.
    pub(super) fn new(changes: Changes) -> Self {
        UdpHash(Arc::new(Mutex::new(Told::new(changes, KernelNics::default()))))
    }

    /// Tells NICs from now on, as interfaces and configuration change. With one worker there is nothing to spread.
    pub(super) async fn follow(
        self,
        mut reports: watch::Receiver<Arc<[InterfaceReport]>>,
        mut loaded: watch::Receiver<Arc<Loaded>>,
        workers: usize,
    ) {
        let heart = heart("UDP hash of NICs");
        loop {
            heart.beat();
            let wanted = match workers {
                0 | 1 => BTreeMap::new(),
                _ => wanted(&reports.borrow_and_update(), &loaded.borrow_and_update().config.interfaces),
            };
            let told = self.clone();
            // A driver may reset its NIC first.
            if heart.waiting(spawn_blocking(move || lock(&told.0).tell(&wanted))).await.is_err() {
                return;
            }
            tokio::select! {
                changed = reports.changed() => if changed.is_err() { return },
                changed = loaded.changed() => if changed.is_err() { return },
                () = heart.rest() => {}
            }
        }
    }

    /// Undoes it all, for good.
    pub(super) fn end(&self) {
        let mut told = lock(&self.0);
        told.tell(&BTreeMap::new());
        told.over = true;
    }
}

/// The devices that are to spread UDP by ports: those that Ringway is attached to, unless an interface says that they be left.
fn wanted(reports: &[InterfaceReport], listed: &[InterfaceConfig]) -> BTreeMap<u32, String> {
    let of = |name: &str| listed.iter().find(|listed| listed.name.matches(name)).map(|listed| listed.rss);
    let (mut wanted, mut left) = (BTreeMap::new(), BTreeSet::new());
    for report in reports {
        for lower in report.lowers.iter().filter(|lower| lower.mode.is_some()) {
            match of(&report.name) {
                Some(RssMode::Auto) => drop(wanted.insert(lower.index, lower.name.clone())),
                Some(RssMode::Leave) => drop(left.insert(lower.index)),
                None => {}
            }
        }
    }
    wanted.retain(|index, _| !left.contains(index));
    wanted
}

impl<N: Nics> Told<N> {
    fn new(changes: Changes, nics: N) -> Self {
        Told { changes, nics, refused: BTreeSet::new(), over: false }
    }

    fn tell(&mut self, wanted: &BTreeMap<u32, String>) {
        if self.over {
            return;
        }
        let left = self.changes.all().into_iter().filter(|(index, _)| !wanted.contains_key(index));
        for (index, setting) in left.filter(|(_, setting)| UDP.contains(setting)) {
            self.changes.restore(&mut self.nics, index, setting);
        }
        self.refused.retain(|(index, _)| wanted.contains_key(index));
        for (index, name) in wanted {
            UDP.into_iter().for_each(|setting| self.tell_one(*index, name, setting));
        }
    }

    fn tell_one(&mut self, index: u32, name: &str, setting: Setting) {
        let is_by_addresses = self.nics.state(name, setting).is_ok_and(|state| state == State::Found);
        if !is_by_addresses || self.refused.contains(&(index, setting)) {
            return;
        }
        let (again, word) = (self.changes.has(index, setting), setting.word());
        match self.changes.change(&mut self.nics, index, name, setting) {
            Ok(true) if again => tracing::warn!(
                "{name} had gone back to spreading {word} by addresses, as some drivers do with new queues: by ports again \
                 (interfaces[].rss: leave keeps it as it is)"
            ),
            Ok(true) => {
                tracing::info!(
                    "{name} spreads {word} by ports from now on (interfaces[].rss: leave keeps it as it is)"
                );
            }
            Ok(false) => {}
            Err(error) => {
                tracing::info!("{name} spreads {word} by addresses only: {error}");
                self.refused.insert((index, setting));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InterfacePattern;
    use crate::daemon::nic_settings::tests::Memory;
    use crate::report::interfaces::LowerReport;

    fn interface(name: &str, lowers: &[(u32, bool)]) -> InterfaceReport {
        let lower = |(index, attached): &(u32, bool)| LowerReport {
            name: format!("nic{index}"),
            index: *index,
            mode: attached.then(|| "native".to_owned()),
            ..LowerReport::default()
        };
        InterfaceReport {
            name: name.to_owned(),
            lowers: lowers.iter().map(lower).collect(),
            ..InterfaceReport::default()
        }
    }

    #[test]
    fn attached_nics_are_told_unless_one_of_their_interfaces_is_to_be_left() {
        let reports = [
            interface("eth0", &[(10, true), (14, false)]),
            interface("eth1", &[(11, true)]),
            interface("eth2", &[(12, true)]),
            interface("eth0.100", &[(13, true)]),
            interface("eth0.200", &[(13, true)]),
        ];
        let listed = |name: &str, rss| InterfaceConfig {
            name: InterfacePattern::parse(name).unwrap(),
            xdp: Default::default(),
            zero_copy: Default::default(),
            rss,
        };
        let listed = [
            listed("eth1", RssMode::Leave),
            listed("eth[01]", RssMode::Auto),
            listed("eth0.100", RssMode::Leave),
            listed("eth0.200", RssMode::Auto),
        ];
        assert_eq!(wanted(&reports, &listed), BTreeMap::from([(10, "nic10".into())]));
    }

    #[test]
    fn a_nic_is_told_again_when_its_driver_forgets_and_put_back_at_the_end() {
        let state = tempfile::tempdir().unwrap();
        let both = || UDP.map(|setting| ("lo".to_owned(), setting)).to_vec();
        let mut told = Told::new(Changes::read(state.path()), Memory { found: both(), ..Memory::default() });
        let lo = BTreeMap::from([(1, "lo".to_owned())]);
        told.tell(&lo);
        assert_eq!((told.nics.changed.clone(), told.changes.all().len()), (both(), 2));
        (told.nics.found, told.nics.changed) = (both(), Vec::new());
        told.tell(&lo);
        assert_eq!(told.nics.changed, both());
        // The next instance, after a kill.
        let mut next = Told::new(Changes::read(state.path()), told.nics);
        next.tell(&lo);
        next.tell(&BTreeMap::new());
        assert_eq!((next.nics.found.clone(), next.changes.all().len()), (both(), 0));
        next.over = true;
        next.tell(&lo);
        assert_eq!(next.nics.found, both(), "nothing is told after the end");
    }

    #[test]
    fn what_a_driver_refuses_it_is_not_asked_again() {
        let state = tempfile::tempdir().unwrap();
        let found = vec![("lo".to_owned(), Setting::Udp4)];
        let nics = Memory { found, refuses: true, ..Memory::default() };
        let mut told = Told::new(Changes::read(state.path()), nics);
        let lo = BTreeMap::from([(1, "lo".to_owned())]);
        told.tell(&lo);
        told.tell(&lo);
        assert_eq!((told.nics.tries, told.changes.all().len()), (1, 0));
    }
}
