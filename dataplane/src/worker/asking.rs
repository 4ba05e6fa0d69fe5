//! Questions to workers whose answers somebody waits for, without keeping anybody else from the workers meanwhile.
//!
//! A worker may get no CPU for seconds. Whoever holds the handles of all workers while it waits keeps others from telling them
//! what cannot wait, as by which of its members a bond sends now. So all are asked first, and then looked at again and again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringway_shared::InterfaceId;

use super::aside::Opening;
use super::changes::{Answer, Change};
use super::handle::{AttachError, WorkerHandle};
use crate::af_xdp::{RingSizes, Tap};
use crate::config::Settings;
use crate::io::Port;
use crate::io::port::Closed;

/// The pause between two looks: a worker answers within microseconds, unless it gets no CPU.
const SOON: Duration = Duration::from_micros(200);
/// Whoever has not answered within that does not answer at once.
const AT_ONCE: Duration = Duration::from_millis(5);
/// The pause from then on, in which other things have their turn.
const LATER: Duration = Duration::from_millis(5);

/// A question, and what its answer means.
pub struct Question<T> {
    pub(super) change: Change,
    read: fn(&WorkerHandle, Answer) -> Option<T>,
}

impl Question<Opening> {
    /// What a port with these rings needs, lent.
    pub fn lend(rings: RingSizes) -> Self {
        Question {
            change: Change::Lend(rings),
            read: |worker, answer| match answer {
                Answer::Lent(loan) => Some(Opening { cpu: worker.cpu, loan, siblings: worker.sockets.clone() }),
                _ => None,
            },
        }
    }
}

impl Question<Vec<Port>> {
    /// The ports of a device, by its ifindex, which are the worker's no more.
    pub fn hand_back(device: u32) -> Self {
        Question {
            change: Change::HandBack(device),
            read: |_, answer| match answer {
                Answer::HandedBack(ports) => Some(ports),
                _ => Some(Vec::new()),
            },
        }
    }
}

impl Question<()> {
    fn done(change: Change) -> Self {
        Question { change, read: |_, _| Some(()) }
    }

    /// To serve a port from now on that was opened with what it lent.
    pub fn take(port: Port) -> Self {
        Self::done(Change::Take(Box::new(port)))
    }

    /// To free what a closed port left.
    pub fn reclaim(closed: Closed) -> Self {
        Self::done(Change::Reclaim(closed))
    }

    /// Whether packet memory has room for ports that hold so many frames together.
    pub fn room(frames: u32) -> Self {
        Self::done(Change::Room(frames))
    }

    /// To give packets of an interface that are not ours back by `tap` from now on.
    pub fn tap(interface: InterfaceId, tap: Option<Arc<Tap>>) -> Self {
        Self::done(Change::Tap(interface, tap))
    }

    /// To send a frame by every port of a device, by its ifindex, whatever it carries.
    pub fn probe(device: u32, frame: [u8; 60]) -> Self {
        Self::done(Change::Probe(device, frame))
    }

    /// To go on with other settings.
    pub fn set(settings: Settings) -> Self {
        Self::done(Change::Set(settings))
    }
}

/// A question that a worker was asked, or could not be.
pub struct Asked<T> {
    since: Instant,
    begun: bool,
    read: fn(&WorkerHandle, Answer) -> Option<T>,
}

impl WorkerHandle {
    /// Asks the worker, and waits for no answer: [`Self::look`] has it. One at a time.
    pub fn begin<T>(&mut self, Question { change, read }: Question<T>) -> Asked<T> {
        let begun = self.push(change);
        Asked { since: Instant::now(), begun, read }
    }

    /// The answer to what the worker was asked, or that there will be none: after 5 s nobody waits any more.
    pub fn look<T>(&mut self, asked: &Asked<T>) -> Option<Result<T, AttachError>> {
        if !asked.begun {
            return Some(Err(self.silence()));
        }
        // Others may have had its answer kept when they had something to tell.
        self.tell(Duration::ZERO);
        match self.kept.take() {
            Some(Answer::Refused(error)) => Some(Err(error.into())),
            Some(answer) => Some((asked.read)(self, answer).ok_or_else(|| self.silence())),
            None if asked.since.elapsed() >= self.patience || !self.is_running() => {
                let silence = self.silence();
                self.give_up();
                Some(Err(silence))
            }
            None => None,
        }
    }

    /// Asks the worker and waits for its answer.
    pub(super) fn ask<T>(&mut self, question: Question<T>) -> Result<T, AttachError> {
        let asked = self.begin(question);
        loop {
            if let Some(answer) = self.look(&asked) {
                return answer;
            }
            std::thread::sleep(SOON);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks all workers that there is a question for, and waits for their answers: for all together as long as for one. Nobody is kept
/// from the workers meanwhile; `meanwhile` is done in between when it takes long.
pub fn ask_all<T>(
    workers: &Mutex<Vec<WorkerHandle>>,
    mut question: impl FnMut(&WorkerHandle) -> Option<Question<T>>,
    mut meanwhile: impl FnMut(),
) -> Vec<(u16, Result<T, AttachError>)> {
    let mut asked: Vec<(u16, Asked<T>)> = Vec::new();
    for worker in lock(workers).iter_mut() {
        if let Some(question) = question(worker) {
            asked.push((worker.id, worker.begin(question)));
        }
    }
    let (start, mut answers) = (Instant::now(), Vec::with_capacity(asked.len()));
    loop {
        {
            let mut workers = lock(workers);
            asked.retain(|(id, asked)| {
                let worker = workers.iter_mut().find(|worker| worker.id == *id);
                let answer = worker.map_or(Some(Err(AttachError::Ended(*id))), |worker| worker.look(asked));
                let waits = answer.is_none();
                answers.extend(answer.map(|answer| (*id, answer)));
                waits
            });
        }
        if asked.is_empty() {
            answers.sort_by_key(|(id, _)| *id);
            return answers;
        }
        if start.elapsed() < AT_ONCE {
            std::thread::sleep(SOON);
        } else {
            meanwhile();
            std::thread::sleep(LATER);
        }
    }
}
