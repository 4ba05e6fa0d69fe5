//! What is followed while something takes long: a driver, a worker that waits for frames, a file that is read.
//!
//! Ports are opened one after the other, and each may take a driver seconds. Meanwhile a bond goes on to another of its members, by
//! which workers have to send at once, and no later than they could have without all that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_dataplane::worker::{AttachError, Question, WorkerHandle, aside, ask_all};
use ringway_shared::network::{Interface, Lower, Lowers};
use ringway_shared::{InterfaceId, Network};
use tokio::sync::watch;

use super::{Interfaces, fit, is_other, lock, lowers_of, unable};
use crate::network::Unattached;
use crate::watch::thread::Drivers;

/// After so long a call of the kernel is no progress any more.
const LONGEST: Duration = Duration::from_secs(60);

impl Interfaces {
    /// Follows what carries interfaces also while something takes long, by the newest network, and says what `drivers` have to
    /// let go of at the end.
    pub(in crate::daemon) fn follow_meanwhile(&mut self, latest: watch::Receiver<Arc<Network>>, drivers: Arc<Drivers>) {
        (self.latest, self.drivers) = (Some(latest), drivers);
    }

    /// Says here which interfaces are not attached, from now on.
    pub(in crate::daemon) fn tell_network(&mut self, unattached: Unattached) {
        self.unattached = unattached;
    }

    /// Does this, for which the kernel may wait for a driver, in a thread of its own.
    pub(super) fn aside<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        let at_work = self.placement.cpus.clone();
        aside(None, &at_work, work, self.meanwhile())
    }

    /// What to do while the kernel waits for a driver.
    pub(super) fn meanwhile(&mut self) -> impl FnMut() {
        let start = Instant::now();
        move || {
            // What never returns is to be told.
            if start.elapsed() < LONGEST {
                self.heart.beat();
                self.tell_of_start();
            }
            self.keep_up();
        }
    }

    /// Asks all workers that there is a question for, and waits for their answers. What changes meanwhile is followed.
    pub(super) fn ask_all<T>(
        &mut self,
        question: impl FnMut(&WorkerHandle) -> Option<Question<T>>,
    ) -> Vec<(u16, Result<T, AttachError>)> {
        let workers = self.workers.clone();
        ask_all(&workers, question, self.meanwhile())
    }

    /// The same of one of them.
    pub(super) fn ask<T>(&mut self, worker: u16, question: Question<T>) -> Result<T, AttachError> {
        let mut question = Some(question);
        let answers = self.ask_all(|asked| if asked.id == worker { question.take() } else { None });
        answers.into_iter().next().map_or(Err(AttachError::Ended(worker)), |(_, answer)| answer)
    }

    /// Waits for this, and follows what carries interfaces.
    pub(in crate::daemon) async fn wait_for<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let Some(mut latest) = self.latest.clone() else { return work.await };
        loop {
            tokio::select! {
                done = &mut work => return done,
                Ok(()) = latest.changed() => tokio::task::block_in_place(|| self.keep_up()),
            }
        }
    }

    pub(super) fn newest(&self) -> Option<Arc<Network>> {
        self.latest.as_ref().map(|latest| latest.borrow().clone())
    }

    /// Has an interface go on with the devices that carry it now, if they are attached; whether they are. `interface` is how the
    /// network shows it that is being followed: that may be an older one, since attaching takes a driver seconds.
    pub(super) fn go_on(&mut self, interface: &Interface) -> bool {
        let newest = self.newest();
        let now = newest.as_ref().and_then(|network| network.interface(interface.id)).unwrap_or(interface);
        let can_move = self.can_move(now);
        if can_move {
            self.follow_lowers(now);
        }
        can_move
    }

    /// The same, after it was tried to attach those that carry it: also with devices that could not be. Not with those that
    /// carried it when that began, and do no more.
    pub(super) fn go_on_all_the_same(&mut self, interface: &Interface) {
        let newest = self.newest();
        let now = newest.as_ref().and_then(|network| network.interface(interface.id)).unwrap_or(interface);
        if !self.go_on(interface) && now.lowers == interface.lowers {
            self.follow_lowers(interface);
        }
    }

    /// The devices that are needed by the network that is followed, or by the newest.
    pub(super) fn is_needed(&self, index: u32, network: &Network) -> bool {
        let needs = |network: &Network| fit::wanted(&self.listed, network).contains_key(&index);
        needs(network) || self.newest().is_some_and(|newest| needs(&newest))
    }

    /// Follows what changed hands among devices that are attached. All else about the network waits for its turn.
    pub(super) fn keep_up(&mut self) {
        let Some(network) = self.newest() else { return };
        let mut moved = false;
        for interface in network.interfaces() {
            if self.can_move(interface) {
                moved |= self.follow_lowers(interface);
            }
        }
        if moved {
            self.steer();
        }
    }

    /// Whether an interface that is attached goes on with devices that are. One that goes on with others alone waits until these
    /// are attached, and is served as before until then.
    pub(super) fn can_move(&self, interface: &Interface) -> bool {
        let is_attached = self.attached.get(&interface.id).is_some_and(|attached| !is_other(attached, interface));
        if !is_attached || !unable(interface).is_empty() {
            return false;
        }
        let Ok(lowers) = lowers_of(interface) else { return false };
        let mut senders = lowers.devices.iter().filter(|lower| lower.sends).peekable();
        senders.peek().is_none() || senders.any(|lower| self.carriers.contains_key(&lower.index))
    }

    /// Has frames come by the devices that carry an interface now; whether these are others.
    pub(super) fn follow_lowers(&mut self, interface: &Interface) -> bool {
        let Ok(lowers) = lowers_of(interface) else { return false };
        if self.attached.get(&interface.id).is_none_or(|attached| attached.lowers == lowers) {
            return false;
        }
        // Workers first: what comes by a new device must find its interface.
        self.carry(interface.id, &lowers);
        tracing::info!("{} is carried {}", interface.name, told(&lowers));
        if let Some(attached) = self.attached.get_mut(&interface.id) {
            attached.lowers = lowers;
        }
        true
    }

    /// Has every worker send by these devices what leaves by the interface, and take from them what arrives by it.
    pub(super) fn carry(&self, id: InterfaceId, lowers: &Lowers) {
        let mut workers = lock(&self.workers);
        workers.iter_mut().for_each(|worker| worker.carry(id, lowers.clone()));
        for worker in workers.iter_mut() {
            if !worker.catch_up() {
                tracing::warn!(
                    "worker {} is late: it learns how its interfaces are carried when it is back",
                    worker.id
                );
            }
        }
    }
}

/// By what an interface is carried, for the log.
fn told(lowers: &Lowers) -> String {
    let names = |does: fn(&Lower) -> bool| {
        let names: Vec<&str> = lowers.devices.iter().filter(|lower| does(lower)).map(|lower| &*lower.name).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let vlan = lowers.vlan.map_or_else(String::new, |vlan| format!(" in VLAN {vlan}"));
    let (receives, sends) = (names(|lower| lower.receives), names(|lower| lower.sends));
    match receives == sends {
        true => format!("by {receives}{vlan}"),
        false => format!("by {receives}{vlan}, and sends by {sends}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use ringway_dataplane::af_xdp::program::SteeringProgram;
    use ringway_dataplane::af_xdp::{Device as KernelDevice, UmemLayout};
    use ringway_shared::MacAddress;

    use super::super::carriers::Carrier;
    use super::super::{Attached, Changes, Placement};
    use super::*;
    use crate::config::{InterfaceConfig, InterfacePattern, Poll, RssMode, XdpMode, ZeroCopy};
    use crate::report::interfaces::InterfaceReport;

    /// A bond, number 0 and ifindex 9, whose member with this ifindex carries it.
    fn bond(by: u32) -> Interface {
        Interface {
            id: InterfaceId(0),
            name: "bond0".into(),
            index: 9,
            mac: MacAddress([2; 6]),
            mtu: 1500,
            addresses: Vec::new(),
            up: true,
            lowers: Lowers::itself(by, format!("m{by}").as_str().into()),
        }
    }

    fn network(by: u32) -> Arc<Network> {
        Arc::new(Network::new(1, vec![bond(by)], [], []))
    }

    /// Attached to the bond, which member 1 carries, and to these members.
    pub(crate) fn interfaces(members: &[u32]) -> Option<(Interfaces, watch::Sender<Arc<Network>>)> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            eprintln!("SKIPPED: needs root to load a BPF program");
            return None;
        }
        let name = InterfacePattern::parse("bond0").unwrap();
        let (xdp, zero_copy) = (XdpMode::Auto, ZeroCopy::Auto);
        let listed = vec![InterfaceConfig { name, xdp, zero_copy, rss: RssMode::Auto }];
        let steering = Arc::new(Mutex::new(SteeringProgram::load().unwrap()));
        let state = tempfile::tempdir().unwrap();
        let (workers, memory) = (Arc::default(), UmemLayout::for_mtu(64, 1500));
        let placement = Placement { cpus: Vec::new() };
        let changes = Changes::read(state.path());
        let mut all = Interfaces::new(changes, listed, placement, Poll::Adaptive, workers, steering, memory);
        for &index in members {
            all.carriers.insert(index, Carrier::bare(KernelDevice { name: format!("m{index}"), index }));
        }
        let Interface { id, mac, mtu, lowers, .. } = bond(1);
        let device = KernelDevice { name: "bond0".into(), index: 9 };
        all.attached.insert(id, Attached { device, mac, mtu, lowers, tap: None, report: InterfaceReport::default() });
        let latest = watch::Sender::new(network(1));
        all.follow_meanwhile(latest.subscribe(), Arc::default());
        Some((all, latest))
    }

    fn carried(all: &Interfaces) -> u32 {
        all.attached[&InterfaceId(0)].lowers.devices[0].index
    }

    #[test]
    fn what_changed_while_a_driver_took_its_time_is_not_undone_by_what_came_before() {
        let Some((mut all, latest)) = interfaces(&[1]) else { return };
        // It goes on with member 2, which is not attached: it has to wait for it.
        let followed = network(2);
        latest.send_replace(followed.clone());
        assert!(!all.go_on(&followed.interfaces()[0]));
        assert!(all.is_needed(2, &followed) && !all.is_needed(1, &followed));
        // Member 2's link drops as it is attached, and the bond goes back.
        all.carriers.insert(2, Carrier::bare(KernelDevice { name: "m2".into(), index: 2 }));
        all.keep_up();
        assert_eq!(carried(&all), 2, "while the driver is at work still");
        latest.send_replace(network(1));
        all.keep_up();
        all.go_on_all_the_same(&followed.interfaces()[0]);
        assert_eq!(carried(&all), 1);
        assert!(all.is_needed(1, &followed), "by the newest");
        all.detach_unneeded(&followed);
        assert!(all.carriers.contains_key(&1));
    }

    #[test]
    fn whoever_waited_goes_on_when_it_was_tried_to_attach_what_carries_it() {
        let Some((mut all, latest)) = interfaces(&[1, 2]) else { return };
        for (by, ends) in [(2, 2), (3, 3)] {
            let followed = network(by);
            latest.send_replace(followed.clone());
            all.go_on_all_the_same(&followed.interfaces()[0]);
            assert_eq!(carried(&all), ends, "attached or not");
        }
        // A network that nobody has followed yet says that another carries it, which is not attached.
        latest.send_replace(network(4));
        all.go_on_all_the_same(&network(1).interfaces()[0]);
        assert_eq!(carried(&all), 3);
    }
}
