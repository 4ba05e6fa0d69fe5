//! What is followed while something takes long: a driver, a worker that waits for frames, a file that is read.
//!
//! Ports are opened one after the other, and each may take a driver seconds. Meanwhile a bond goes on to another of its members, by
//! which workers have to send at once, and no later than they could have without all that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_dataplane::worker::aside;
use ringway_shared::network::{Interface, Lower, Lowers};
use ringway_shared::{InterfaceId, Network};
use tokio::sync::watch;

use super::{Interfaces, is_other, lock, lowers_of, unable};
use crate::watch::thread::Drivers;

/// After so long a call of the kernel is no progress any more.
const LONGEST: Duration = Duration::from_secs(60);

impl Interfaces {
    /// Follows what carries interfaces also while something takes long, by the newest network, and says what `drivers` have to
    /// let go of at the end.
    pub(in crate::daemon) fn follow_meanwhile(&mut self, latest: watch::Receiver<Arc<Network>>, drivers: Arc<Drivers>) {
        (self.latest, self.drivers) = (Some(latest), drivers);
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
            }
            self.keep_up();
        }
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

    /// Follows what changed hands among devices that are attached. All else about the network waits for its turn.
    pub(super) fn keep_up(&mut self) {
        let Some(network) = self.latest.as_ref().map(|latest| latest.borrow().clone()) else { return };
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
