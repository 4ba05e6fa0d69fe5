//! A running worker, as the control thread sees it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway_shared::InterfaceId;
use ringway_shared::counters::WorkerCounters;
use ringway_shared::network::Lowers;

use super::aside::Opening;
use super::asking::Question;
use super::changes::{Answer, Change, Changes};
use crate::af_xdp::{RingSizes, Socket, Tap};
use crate::handover::Mesh;
use crate::io::Port;
use crate::io::port::{Closed, PortError};
use crate::query::Queries;

/// How long the control thread waits for a worker's answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// One that is waited for already is given this part of that: whoever can be told has to be told meanwhile.
const AGAIN: u32 = 100;

/// Why a worker's ports are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The port could not be opened.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The worker does not answer.
    #[error(
        "worker {worker} has not answered for {:.1} s; {}", waited.as_secs_f32(),
        if *waited < PATIENCE { "it is asked again" } else { "it is stuck, or gets no CPU" }
    )]
    Silent {
        /// Its number.
        worker: u16,
        /// For how long.
        waited: Duration,
    },
    /// There is no such worker any more.
    #[error("worker {0} has ended")]
    Ended(u16),
}

/// A running worker, as the control thread sees it. What takes the kernel long is never asked of a worker: its ports are
/// opened ([`Self::lend`], [`Opening::open`], [`Self::take`]) and closed ([`Self::hand_back`], [`Port::close`],
/// [`Self::reclaim`]) by whoever has this.
///
/// A worker may get no CPU for longer than anybody waits for it. What it is to be like from then on (what carries an interface,
/// its TAP device, the devices whose ports it gives up) is not lost by that: it is told before all else, or by
/// [`Self::catch_up`], as soon as it answers again.
pub struct WorkerHandle {
    /// Its number.
    pub id: u16,
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// Its counts.
    pub counters: Arc<WorkerCounters>,
    /// Questions to it.
    pub queries: Arc<Queries>,
    pub(super) changes: Arc<Changes>,
    pub(super) mesh: Arc<Mesh>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) thread: Option<JoinHandle<()>>,
    /// How long to wait for an answer.
    pub(super) patience: Duration,
    /// The sockets of its ports, which share its memory with those that come.
    pub(super) sockets: Vec<Arc<Socket>>,
    /// Whether it has been asked something that somebody comes back for ([`Self::look`]).
    pub(super) awaited: bool,
    /// The answer to that.
    pub(super) kept: Option<Answer>,
    /// Whether it has been asked something that nobody waits for the answer to any more.
    pub(super) owes: bool,
    /// When it was asked what it has not answered yet.
    pub(super) unanswered: Option<Instant>,
    /// What it has to be told before anything else: of each interface and device the last word, so there are no more of them
    /// than there are interfaces and devices.
    pub(super) late: VecDeque<Change>,
    /// Ports that came back when nobody waited for them.
    pub(super) returned: Vec<Port>,
    /// Of ports that are closed, what came back when nobody waited for it.
    pub(super) strays: Vec<Closed>,
}

impl WorkerHandle {
    /// Wakes the worker, so that it takes a new snapshot, a question or a change at once.
    pub fn wake(&self) {
        if let Some(waker) = self.mesh.waker(self.id) {
            waker.wake();
        }
    }

    /// Has the worker lend what a port with these rings needs. Like all of these it waits for the worker, at most 5 s.
    pub fn lend(&mut self, rings: RingSizes) -> Result<Opening, AttachError> {
        self.ask(Question::lend(rings))
    }

    /// Has the worker serve a port from now on that was opened with what it lent.
    pub fn take(&mut self, port: Port) -> Result<(), AttachError> {
        self.ask(Question::take(port))
    }

    /// Takes the ports of a device, by its ifindex, from the worker. Whoever has them closes them, and has the worker reclaim
    /// what they leave when nobody uses it any more.
    pub fn hand_back(&mut self, device: u32) -> Result<Vec<Port>, AttachError> {
        self.ask(Question::hand_back(device))
    }

    /// Has the worker free what a closed port left.
    pub fn reclaim(&mut self, closed: Closed) -> Result<(), AttachError> {
        self.ask(Question::reclaim(closed))
    }

    /// Tells the worker what it could not be told before; whether it knows all now. Waits 50 ms at most for one that is stuck.
    pub fn catch_up(&mut self) -> bool {
        self.tell(self.patience / AGAIN)
    }

    pub(super) fn tell(&mut self, patience: Duration) -> bool {
        loop {
            if self.awaited {
                let Some(answer) = self.answer(patience) else { return false };
                (self.awaited, self.kept) = (false, Some(answer));
            }
            if self.owes {
                let Some(answer) = self.answer(patience) else { return false };
                self.owes = false;
                match answer {
                    Answer::Lent(loan) => self.strays.push(loan.unused()),
                    Answer::HandedBack(ports) => self.returned.extend(ports),
                    Answer::Done | Answer::Refused(_) => {}
                }
            }
            let Some(change) = self.late.pop_front() else { return true };
            // There is room: what was asked before was taken or withdrawn.
            if let Err(change) = self.changes.asked.push(change) {
                self.late.push_front(change);
                return false;
            }
            self.unanswered = Some(Instant::now());
            self.owes = true;
            self.wake();
        }
    }

    /// Ports that came back when nobody waited for them: to be closed.
    pub fn take_returned(&mut self) -> Vec<Port> {
        std::mem::take(&mut self.returned)
    }

    /// What came back from the worker when nobody waited for it, or could not be given to it: to be reclaimed.
    pub fn take_strays(&mut self) -> Vec<Closed> {
        std::mem::take(&mut self.strays)
    }

    /// Whether packet memory has room for ports that hold so many frames together.
    pub fn has_room(&mut self, frames: u32) -> Result<(), AttachError> {
        self.ask(Question::room(frames))
    }

    /// Has these devices carry an interface from now on; none: it is gone. It does not wait for the worker, so that of several
    /// workers one that is stuck keeps no other from being told: whether this one knows, [`Self::catch_up`] says.
    pub fn carry(&mut self, interface: InterfaceId, lowers: Lowers) {
        self.withdraw(Change::Carry(interface, lowers));
        self.tell(Duration::ZERO);
    }

    /// Gives packets of an interface that are not ours back by `tap` from now on.
    pub fn set_tap(&mut self, interface: InterfaceId, tap: Option<Arc<Tap>>) -> Result<(), AttachError> {
        self.ask(Question::tap(interface, tap))
    }

    /// Asks this, and whether that was possible. What a late answer brings is never taken for the answer to another question:
    /// [`Self::take_returned`] and [`Self::take_strays`] have what is left.
    pub(super) fn push(&mut self, change: Change) -> bool {
        match &change {
            Change::Take(port) => self.sockets.extend(port.socket().cloned()),
            // No new socket shares memory with these any more.
            Change::HandBack(device) => self.sockets.retain(|socket| socket.device().index != *device),
            _ => {}
        }
        // Of two that ask at once the second one finds the worker silent.
        if !self.catch_up() || self.kept.is_some() {
            self.withdraw(change);
            return false;
        }
        // There is room: the worker has taken all before.
        if let Err(change) = self.changes.asked.push(change) {
            self.withdraw(change);
            return false;
        }
        (self.awaited, self.unanswered) = (true, Some(Instant::now()));
        self.wake();
        true
    }

    /// That there is no answer, for as long as that has been so.
    pub(super) fn silence(&self) -> AttachError {
        let waited = self.unanswered.map(|asked| asked.elapsed()).unwrap_or_default();
        if self.is_running() { AttachError::Silent { worker: self.id, waited } } else { AttachError::Ended(self.id) }
    }

    /// Waits no more for an answer. A question that the worker has not taken is withdrawn.
    pub(super) fn give_up(&mut self) {
        self.awaited = false;
        match self.changes.asked.pop() {
            Some(change) => {
                self.unanswered = None;
                self.withdraw(change);
            }
            None => self.owes = true,
        }
    }

    /// Keeps what is left of a question that the worker has not taken.
    fn withdraw(&mut self, change: Change) {
        match change {
            Change::Take(port) => {
                self.sockets.retain(|socket| port.socket().is_none_or(|its| !Arc::ptr_eq(socket, its)));
                self.returned.push(*port);
            }
            Change::Reclaim(closed) => self.strays.push(closed),
            Change::Carry(..) | Change::Tap(..) | Change::HandBack(_) => {
                self.late.retain(|before| !before.is_replaced_by(&change));
                self.late.push_back(change);
            }
            // Whoever wants these asks again.
            Change::Lend(_) | Change::Room(_) | Change::Probe(..) | Change::Set(_) => {}
        }
    }

    /// Waits for an answer.
    fn answer(&mut self, patience: Duration) -> Option<Answer> {
        let start = Instant::now();
        while self.is_running() {
            if let Some(answer) = self.changes.answered.pop() {
                self.unanswered = None;
                return Some(answer);
            }
            if start.elapsed() >= patience {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        None
    }

    /// Whether the thread still runs. It ends only when asked to.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Asks the worker to end. [`WorkerHandle::join`] waits for it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Waits until the worker has ended; its ports are closed then. False when it panicked.
    pub fn join(&mut self) -> bool {
        self.stop();
        self.sockets.clear();
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests;
