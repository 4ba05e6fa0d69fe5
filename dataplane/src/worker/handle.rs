//! A running worker, as the control thread sees it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use ringway_shared::InterfaceId;
use ringway_shared::counters::WorkerCounters;
use ringway_shared::network::Lowers;

use crate::af_xdp::{CopyMode, Device, SocketError, SocketOptions, Tap};
use crate::config::Settings;
use crate::handover::Mesh;
use crate::io::port::{PortError, ProgressCell};
use crate::query::Queries;

/// How long the control thread waits for a worker's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a queue may stay busy after another socket left it, before we believe that somebody holds it.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);

/// How often a busy queue is tried. The worker forwards meanwhile.
const BUSY_STEP: Duration = Duration::from_millis(20);

/// A change of a worker's ports while it runs, and the answer on its way back.
pub(super) enum Change {
    /// Open a port on a queue.
    Attach { device: Device, queue: u32, socket: SocketOptions },
    /// Say whether packet memory has room for ports that hold so many frames together.
    Room(u32),
    /// Have these devices carry an interface.
    Carry(InterfaceId, Lowers),
    /// Give back by this device what came by that interface and is not ours; by none.
    Tap(InterfaceId, Option<Arc<Tap>>),
    /// Send this frame by every port of a device, by its ifindex.
    Probe(u32, [u8; 60]),
    /// Close the ports of a device, by its ifindex.
    Detach(u32),
    /// Go on with other settings.
    Set(Settings),
}

/// A port that a worker has opened.
#[derive(Debug)]
pub struct Attached {
    /// Its socket, for the steering map.
    pub fd: OwnedFd,
    /// Zero-copy, or why not.
    pub mode: CopyMode,
    /// Where to read how far it is.
    pub progress: Arc<ProgressCell>,
}

/// Why a worker did not attach a port.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The port could not be opened.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The worker does not answer.
    #[error("worker {0} did not answer within 5 s; it is stuck or has ended")]
    Silent(u16),
}

pub(super) type Answer = Result<Option<Attached>, PortError>;

/// Changes on their way to a worker and the answers on their way back.
pub(super) struct Changes {
    pub(super) asked: ArrayQueue<Change>,
    pub(super) answered: ArrayQueue<Answer>,
}

impl Changes {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Changes { asked: ArrayQueue::new(1), answered: ArrayQueue::new(1) })
    }
}

/// A running worker, as the control thread sees it.
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
    pub(super) thread: Option<std::thread::JoinHandle<()>>,
}

impl WorkerHandle {
    /// Wakes the worker, so that it takes a new snapshot, a question or a change at once.
    pub fn wake(&self) {
        if let Some(waker) = self.mesh.waker(self.id) {
            waker.wake();
        }
    }

    /// Opens a port on `queue` of `device`. Waits for the worker, at most 5 s, and while the queue is busy, at most 1 s.
    pub fn attach(&mut self, device: &Device, queue: u32, socket: SocketOptions) -> Result<Attached, AttachError> {
        let start = Instant::now();
        loop {
            match self.change(Change::Attach { device: device.clone(), queue, socket })? {
                Err(PortError::Socket(SocketError::Busy { .. })) if start.elapsed() < BUSY_PATIENCE => {
                    std::thread::sleep(BUSY_STEP);
                }
                answer => return answer?.ok_or(AttachError::Silent(self.id)),
            }
        }
    }

    /// Whether packet memory has room for ports that hold so many frames together. Waits for the worker, at most 5 s.
    pub fn has_room(&mut self, frames: u32) -> Result<(), AttachError> {
        self.change(Change::Room(frames))??;
        Ok(())
    }

    /// Has these devices carry an interface from now on; none: it is gone. Waits for the worker, at most 5 s.
    pub fn carry(&mut self, interface: InterfaceId, lowers: Lowers) -> Result<(), AttachError> {
        self.change(Change::Carry(interface, lowers))??;
        Ok(())
    }

    /// Gives packets of an interface that are not ours back by `tap` from now on. Waits for the worker, at most 5 s.
    pub fn set_tap(&mut self, interface: InterfaceId, tap: Option<Arc<Tap>>) -> Result<(), AttachError> {
        self.change(Change::Tap(interface, tap))??;
        Ok(())
    }

    /// Sends a frame by every port of a device, by its ifindex, whatever it carries. Waits for the worker, at most 5 s.
    pub fn probe(&mut self, device: u32, frame: [u8; 60]) -> Result<(), AttachError> {
        self.change(Change::Probe(device, frame))??;
        Ok(())
    }

    /// Closes the ports of a device, by its ifindex. Waits for the worker, at most 5 s.
    pub fn detach(&mut self, device: u32) -> Result<(), AttachError> {
        self.change(Change::Detach(device))??;
        Ok(())
    }

    /// Goes on with other settings. Waits for the worker, at most 5 s.
    pub fn set(&mut self, settings: Settings) -> Result<(), AttachError> {
        self.change(Change::Set(settings))??;
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<Answer, AttachError> {
        // An answer that came too late for its question is none of this one's.
        while self.changes.answered.pop().is_some() {}
        if self.changes.asked.push(change).is_err() {
            return Err(AttachError::Silent(self.id));
        }
        self.wake();
        let start = Instant::now();
        while start.elapsed() < PATIENCE && self.is_running() {
            if let Some(answer) = self.changes.answered.pop() {
                return Ok(answer);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Err(AttachError::Silent(self.id))
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
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.join();
    }
}
