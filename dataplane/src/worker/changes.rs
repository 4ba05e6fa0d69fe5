//! What the control thread asks of a running worker, and what it gets back.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use ringway_shared::InterfaceId;
use ringway_shared::network::Lowers;

use crate::af_xdp::{RingSizes, Tap};
use crate::config::Settings;
use crate::io::Port;
use crate::io::port::{Closed, Loan, PortError};

/// A change of a worker while it runs. None takes the worker longer than a few microseconds: what the kernel may wait for is
/// done before and afterwards, by whoever asks.
pub(super) enum Change {
    /// Lend what a port with these rings needs.
    Lend(RingSizes),
    /// Have this port from now on.
    Take(Box<Port>),
    /// Hand back the ports of a device, by its ifindex.
    HandBack(u32),
    /// Free the chunks of a port that is closed.
    Reclaim(Closed),
    /// Say whether packet memory has room for ports that hold so many frames together.
    Room(u32),
    /// Have these devices carry an interface.
    Carry(InterfaceId, Lowers),
    /// Give back by this device what came by that interface and is not ours; by none.
    Tap(InterfaceId, Option<Arc<Tap>>),
    /// Send this frame by every port of a device, by its ifindex.
    Probe(u32, [u8; 60]),
    /// Go on with other settings.
    Set(Settings),
}

impl Change {
    /// Whether whoever does `later` need not do this before.
    pub(super) fn is_replaced_by(&self, later: &Change) -> bool {
        match (self, later) {
            (Change::Carry(this, _), Change::Carry(later, _)) | (Change::Tap(this, _), Change::Tap(later, _)) => {
                this == later
            }
            (Change::HandBack(this), Change::HandBack(later)) => this == later,
            _ => false,
        }
    }
}

/// What a worker answers.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// What was asked for.
    Lent(Loan),
    /// Ports that are the worker's no more.
    HandedBack(Vec<Port>),
    /// It cannot be.
    Refused(PortError),
}

/// The change that is asked for, and the answer on its way back: one at a time.
pub(super) struct Changes {
    pub(super) asked: ArrayQueue<Change>,
    pub(super) answered: ArrayQueue<Answer>,
}

impl Changes {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Changes { asked: ArrayQueue::new(1), answered: ArrayQueue::new(1) })
    }
}
