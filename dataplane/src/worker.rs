//! A worker: a pinned thread that alone polls its ports.

mod aside;
mod asking;
mod changes;
mod handle;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use ringway_shared::counters::{Counter, WorkerCounters};
use ringway_shared::handoff::Reader;
use ringway_shared::{DropReason, Snapshot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::af_xdp::Umem;
use crate::batch::{BATCH, Batch, Received};
use crate::clock::{Clock, Time};
use crate::config::Poll;
use crate::dispatch::{dispatch, turn_away};
use crate::handover::{Handover, Mesh};
use crate::io::Ports;
use crate::io::port::{Loan, PortError};
use crate::pipeline::Pipeline;
use crate::query::Queries;
use crate::verdict::Verdict;

pub use aside::{Opening, Patience, aside};
pub use asking::{Asked, Question, ask_all};
use changes::{Answer, Change, Changes};
pub use handle::{AttachError, WorkerHandle};

/// Expired flows that one loop looks at.
const EXPIRY_BUDGET: u32 = 32;

/// Loops without a packet after which an adaptive worker sleeps.
const IDLE_LOOPS: u32 = 200;

/// The longest sleep: flows expire and held packets run out meanwhile. An acknowledgement does not wait for it, since
/// whoever publishes wakes the workers.
const SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The longest sleep while a transmit ring is not drained (the kernel wants another kick), or while fragments, which
/// have just come, wait for what another worker knows.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// How many descriptors a sleeping worker watches.
const POLLED: usize = 64;

/// How often the kernel is asked for its own drop counts, in nanoseconds.
const STATISTICS_EVERY: u64 = 500_000_000;

/// What a worker is made of. It starts without ports: [`WorkerHandle::take`] adds them.
pub struct WorkerParts {
    /// Its number.
    pub id: u16,
    /// The CPU to pin it to.
    pub cpu: Option<usize>,
    /// How it waits.
    pub poll: Poll,
    /// The frames of all its ports.
    pub umem: Umem,
    /// The packet path.
    pub pipeline: Pipeline,
    /// Its end of the handoff.
    pub snapshots: Reader<Snapshot>,
    /// Its end of the mesh.
    pub handover: Handover,
    /// The clock that all workers share.
    pub clock: Clock,
}

/// Starts a worker's thread.
pub fn spawn(parts: WorkerParts, mesh: Arc<Mesh>, counters: Arc<WorkerCounters>) -> std::io::Result<WorkerHandle> {
    let stop = Arc::new(AtomicBool::new(false));
    let (id, cpu) = (parts.id, parts.cpu);
    let queries = Queries::new();
    let changes = Changes::new();
    let mut worker = Worker::new(parts, queries.clone(), changes.clone());
    let thread = std::thread::Builder::new().name(format!("worker-{id}")).spawn({
        let stop = stop.clone();
        move || {
            if let Some(cpu) = cpu
                && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
            {
                tracing::warn!(
                    worker = id,
                    cpu,
                    "cannot pin the worker to its CPU; it runs wherever the kernel puts it"
                );
            }
            worker.run(&stop);
        }
    })?;
    Ok(WorkerHandle {
        id,
        cpu,
        counters,
        queries,
        changes,
        mesh,
        stop,
        thread: Some(thread),
        patience: handle::PATIENCE,
        sockets: Vec::new(),
        awaited: false,
        kept: None,
        owes: false,
        unanswered: None,
        late: VecDeque::new(),
        returned: Vec::new(),
        strays: Vec::new(),
    })
}

struct Worker {
    poll: Poll,
    umem: Umem,
    io: Ports,
    pipeline: Pipeline,
    snapshots: Reader<Snapshot>,
    queries: Arc<Queries>,
    changes: Arc<Changes>,
    clock: Clock,
    batch: Batch,
    statistics_due: Time,
}

impl Worker {
    fn new(parts: WorkerParts, queries: Arc<Queries>, changes: Arc<Changes>) -> Self {
        Worker {
            poll: parts.poll,
            umem: parts.umem,
            io: Ports::new(parts.handover),
            pipeline: parts.pipeline,
            snapshots: parts.snapshots,
            queries,
            changes,
            clock: parts.clock,
            batch: Batch::new(),
            statistics_due: Time::default(),
        }
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut idle = 0;
        while !stop.load(Ordering::Relaxed) {
            let worked = self.turn();
            idle = if worked { 0 } else { idle + 1 };
            if idle >= IDLE_LOOPS && self.poll == Poll::Adaptive {
                self.sleep();
                // One look around after a sleep, then sleep again: an idle node costs nothing.
                idle = IDLE_LOOPS - 1;
            }
        }
        self.pipeline.end_waiting();
        self.turn();
        self.pipeline.drop_held(&mut self.umem);
        self.publish(self.clock.tick());
    }

    /// One turn of the loop; whether there was anything to do.
    fn turn(&mut self) -> bool {
        // The batch's only clock read and the batch's only shared load.
        let now = self.clock.tick();
        let snapshot = self.snapshots.current();
        let (umem, pipeline, batch, io) = (&mut self.umem, &mut self.pipeline, &mut self.batch, &mut self.io);
        let mut worked = false;
        for port in 0..io.len() {
            if io.receive(port, umem, &mut batch.input, pipeline.tally()) > 0 {
                worked = true;
                pipeline.process(umem, batch, snapshot, now);
                dispatch(batch, umem, pipeline.tally(), io);
            }
        }
        // Others may hand over as much as comes by all of their ports; one without ports is handed packets as well.
        for _ in 0..io.len().max(1) {
            if !io.handover().is_waiting() {
                break;
            }
            worked = true;
            unpack(io, umem, batch, pipeline);
            pipeline.process(umem, batch, snapshot, now);
            dispatch(batch, umem, pipeline.tally(), io);
        }
        let mut more = pipeline.held() > 0;
        // Each time there are fewer.
        while more {
            more = pipeline.release(umem, batch, snapshot, now);
            dispatch(batch, umem, pipeline.tally(), io);
        }
        io.flush(umem);
        pipeline.expire(now, EXPIRY_BUDGET);
        self.queries.serve(pipeline.flows(), now);
        self.snapshots.ack();
        if worked || now >= self.statistics_due {
            self.publish(now);
        }
        if let Some(change) = self.changes.asked.pop() {
            let answer = self.apply(change);
            // Whoever asked finds what came of it in the counts.
            self.publish_frames();
            // Never full: whoever asks waits for the answer to one question before the next.
            let _ = self.changes.answered.push(answer);
        }
        worked
    }

    /// Publishes the counts, with the kernel's own when they are due.
    fn publish(&mut self, now: Time) {
        if now >= self.statistics_due {
            self.statistics_due = Time(now.0 + STATISTICS_EVERY);
            self.io.note(now);
            self.io.count(self.pipeline.tally());
            return self.publish_frames();
        }
        self.pipeline.publish();
    }

    /// Publishes the counts, with the frames that are free now.
    #[cold]
    fn publish_frames(&mut self) {
        self.pipeline.tally().set(Counter::FreeFrames, self.umem.free_frames().into());
        self.pipeline.publish();
    }

    #[cold]
    fn apply(&mut self, change: Change) -> Answer {
        match change {
            Change::Lend(rings) => return Loan::of(&mut self.umem, rings).map_or_else(Answer::Refused, Answer::Lent),
            Change::Take(port) => {
                self.io.push(*port);
            }
            Change::HandBack(device) => {
                let ports = self.io.detach(device);
                self.io.count(self.pipeline.tally());
                self.pipeline.publish();
                return Answer::HandedBack(ports);
            }
            Change::Reclaim(closed) => {
                closed.reclaim(&mut self.umem);
            }
            Change::Room(needed) => match self.umem.unpromised() {
                free if free >= needed => {}
                free => return Answer::Refused(PortError::Frames { needed, free }),
            },
            Change::Carry(interface, lowers) => self.io.carry(interface, lowers),
            Change::Tap(interface, tap) => self.io.set_tap(interface, tap),
            Change::Probe(device, frame) => self.io.probe(device, &frame, &mut self.umem),
            Change::Set(settings) => self.pipeline.set(settings, self.clock.tick()),
        }
        Answer::Done
    }

    /// Sleeps until a packet, a handover or the control thread needs the worker.
    #[cold]
    fn sleep(&mut self) {
        let Some(waker) = self.io.handover().waker() else { return };
        waker.sleep();
        // What came before `sleep` was called woke nobody: look once more.
        let is_needed = self.io.handover().is_waiting()
            || !self.changes.asked.is_empty()
            || self.queries.is_waiting()
            || self.snapshots.is_stale();
        if !is_needed {
            let mut fds: ArrayVec<PollFd, POLLED> = ArrayVec::new();
            fds.push(PollFd::from_borrowed_fd(waker.fd(), PollFlags::IN));
            // Ports beyond the room are looked at when a sleep ends.
            fds.extend(self.io.fds().take(POLLED - 1).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let is_drained = self.io.iter().all(|port| port.in_transmit() == 0);
            let is_patient = is_drained && !self.pipeline.waits_for_others(self.clock.tick());
            let _ = poll(&mut fds, Some(if is_patient { &SLEEP } else { &NAP }));
        }
        waker.awake();
    }
}

/// Unpacks what other workers handed over.
fn unpack(io: &mut Ports, umem: &mut Umem, batch: &mut Batch, pipeline: &mut Pipeline) {
    while batch.input.len() < BATCH {
        let Some(mut frame) = umem.allocate() else { return };
        let umem_ref = &mut *umem;
        let frame_ref = &mut frame;
        let unpacked = io
            .handover_mut()
            .receive(|bytes, interface, tag| (umem_ref.fill(frame_ref, bytes), interface, tag, bytes.len() as u64));
        match unpacked {
            None => return umem.free(frame),
            Some((true, interface, tag, _)) => {
                batch.input.push(Received { frame, interface, tag, handed_over: true });
            }
            Some((false, _, _, bytes)) => {
                umem.free(frame);
                turn_away(pipeline.tally(), bytes, Verdict::Drop(DropReason::TooBig));
            }
        }
    }
}
