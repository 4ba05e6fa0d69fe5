//! A glance at the links alone, ahead of the reading of all tables that a change of a link asks for.
//!
//! A bond that goes on to another member changes no route, and its packets are lost until workers know. With large tables
//! the reading takes long, and in a storm it waits. The glance costs one dump of the links, and does not wait for a reading.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_shared::Network;
use ringway_shared::network::{Interface, Lowers};
use tokio::sync::watch;

use super::Watcher;
use crate::pace::Pace;

/// The longest pause between two glances.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// When to look at the links next.
#[derive(Debug)]
pub(super) struct Glances {
    /// Something about links may have changed since the last one.
    pub(super) wanted: bool,
    /// How many there were.
    pub(super) made: u64,
    pace: Pace,
}

impl Glances {
    pub(super) fn new() -> Self {
        Glances { wanted: false, made: 0, pace: Pace::at_most(LONGEST_PAUSE) }
    }

    /// When the next one is to be, if any.
    pub(super) fn due(&self) -> Option<Instant> {
        self.wanted.then(|| self.pace.not_before())
    }
}

impl Watcher {
    /// Looks at the links, and publishes at once where attached interfaces are carried otherwise, or are up, down or have
    /// another MAC address. Interfaces that came or went wait for the reading.
    pub(super) async fn glance(&mut self, networks: &watch::Sender<Arc<Network>>) {
        let began = Instant::now();
        self.glances.wanted = false;
        self.glances.made += 1;
        // What fails here fails in the reading as well, and is told there.
        if let Ok(true) = self.look_at_links().await {
            self.publish(networks);
        }
        self.glances.pace.done(began);
    }

    /// Takes over what the links say now of attached interfaces; false when that is known.
    pub(super) async fn look_at_links(&mut self) -> io::Result<bool> {
        let links = self.kernel.links_apart().await?;
        let (interfaces, _) = self.attachments.interfaces(&links, &self.tables.addresses);
        let is_news = interfaces != self.interfaces && are_the_same(&interfaces, &self.interfaces);
        if is_news {
            self.interfaces = interfaces;
        }
        Ok(is_news)
    }

    /// Not everything that a bond decides is told: while a bond, a bridge or a VLAN device is attached, it is looked at again.
    pub(super) fn look_again_at_layers(&mut self) {
        let by_itself = |interface: &Interface| {
            matches!(&*interface.lowers.devices, [only] if only.index == interface.index)
                || interface.lowers == Lowers::default()
        };
        self.glances.wanted |= !self.interfaces.iter().all(by_itself);
    }

    /// Publishes the network, if it differs from the last one.
    pub(super) fn publish(&mut self, networks: &watch::Sender<Arc<Network>>) {
        if let Some(network) = self.build().map(Arc::new) {
            self.use_network(&network);
            networks.send_replace(network);
        }
    }
}

/// Whether these are the same devices, whatever their state.
fn are_the_same(some: &[Interface], others: &[Interface]) -> bool {
    let devices = |all: &[Interface]| all.iter().map(|interface| (interface.id, interface.index)).collect::<Vec<_>>();
    devices(some) == devices(others)
}
