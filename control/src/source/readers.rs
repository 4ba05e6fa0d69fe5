//! Threads that read files, so that one which takes long, or for ever, keeps nobody from the others.
//!
//! A thread whose file gives nothing for a while hangs in the kernel (a file server that is away, for example), and nothing
//! can be done about that: another one takes its place, up to a number. When its file gives something again it goes on.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::open::Progress;

/// Files that are read at once.
const AT_ONCE: usize = 2;

/// Threads that may hang beside those.
const HANGING: usize = 16;

/// What one attempt to read a file is called.
pub(super) type Ticket = u64;

type Read<T> = Arc<dyn Fn(&Path, &Reading) -> io::Result<T> + Send + Sync>;

/// How far a file is.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) progress: Progress,
    /// All of it was read; what is still to do takes no longer than it takes.
    pub(super) is_read: AtomicBool,
}

struct Job {
    ticket: Ticket,
    file: PathBuf,
}

/// What a thread does now.
struct Busy {
    ticket: Ticket,
    reading: Arc<Reading>,
    /// The last progress that was seen, and since when it is that.
    seen: u64,
    since: Instant,
}

#[derive(Default)]
struct Shared {
    waiting: VecDeque<Job>,
    busy: Vec<Busy>,
    threads: usize,
}

/// Threads that read files.
pub(super) struct Readers<T> {
    read: Read<T>,
    shared: Arc<Mutex<Shared>>,
    done: mpsc::Receiver<(Ticket, io::Result<T>)>,
    tell: mpsc::Sender<(Ticket, io::Result<T>)>,
    /// After so much time without progress a file hangs.
    patience: Duration,
    tickets: Ticket,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Nothing that is done while it is held panics half-way.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static> Readers<T> {
    /// `read` reads one file.
    pub(super) fn new(
        patience: Duration,
        read: impl Fn(&Path, &Reading) -> io::Result<T> + Send + Sync + 'static,
    ) -> Self {
        let (tell, done) = mpsc::channel();
        Readers { read: Arc::new(read), shared: Arc::default(), done, tell, patience, tickets: 0 }
    }

    /// A file is to be read.
    pub(super) fn start(&mut self, file: &Path) -> Ticket {
        self.tickets += 1;
        lock(&self.shared).waiting.push_back(Job { ticket: self.tickets, file: file.to_owned() });
        self.employ();
        self.tickets
    }

    /// Starts a thread if one is missing.
    fn employ(&self) {
        let mut shared = lock(&self.shared);
        let hanging = self.hanging_of(&mut shared).len();
        let needed = !shared.waiting.is_empty() && shared.threads < AT_ONCE + hanging.min(HANGING);
        if !needed {
            return;
        }
        shared.threads += 1;
        drop(shared);
        let (read, shared, tell) = (self.read.clone(), self.shared.clone(), self.tell.clone());
        let spawned = thread::Builder::new().name("ringway-read".into()).spawn(move || work(&read, &shared, &tell));
        if let Err(error) = spawned {
            // It is tried again whenever the outcome is waited for.
            lock(&self.shared).threads -= 1;
            tracing::warn!("cannot start a thread that reads files: {error}");
        }
    }

    /// The next file that was read, if one is within `wait`.
    pub(super) fn next(&self, wait: Duration) -> Option<(Ticket, io::Result<T>)> {
        self.employ();
        // Only time can run out: a sender is held here.
        self.done.recv_timeout(wait).ok()
    }

    /// The attempts that hang, and those that wait because of them.
    pub(super) fn hanging(&self) -> Vec<Ticket> {
        let mut shared = lock(&self.shared);
        let mut hanging = self.hanging_of(&mut shared);
        if hanging.len() >= AT_ONCE + HANGING {
            hanging.extend(shared.waiting.iter().map(|job| job.ticket));
        }
        hanging
    }

    fn hanging_of(&self, shared: &mut Shared) -> Vec<Ticket> {
        let now = Instant::now();
        let hangs = |busy: &mut Busy| {
            let progress = busy.reading.progress.get();
            if progress != busy.seen || busy.reading.is_read.load(Ordering::Relaxed) {
                (busy.seen, busy.since) = (progress, now);
            }
            (now.duration_since(busy.since) >= self.patience).then_some(busy.ticket)
        };
        shared.busy.iter_mut().filter_map(hangs).collect()
    }
}

/// Reads files as long as there are some.
fn work<T>(read: &Read<T>, shared: &Mutex<Shared>, tell: &mpsc::Sender<(Ticket, io::Result<T>)>) {
    loop {
        let reading = Arc::<Reading>::default();
        let Job { ticket, file } = {
            let mut shared = lock(shared);
            let Some(job) = shared.waiting.pop_front() else {
                shared.threads -= 1;
                return;
            };
            let (ticket, since) = (job.ticket, Instant::now());
            shared.busy.push(Busy { ticket, reading: reading.clone(), seen: 0, since });
            job
        };
        let outcome = read(&file, &reading);
        lock(shared).busy.retain(|busy| busy.ticket != ticket);
        // Nobody waits for it any more: then there is nothing to do either.
        if tell.send((ticket, outcome)).is_err() {
            lock(shared).threads -= 1;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;

    #[test]
    fn files_that_hang_keep_nobody_from_the_others() {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let closed = gate.clone();
        let mut readers = Readers::new(Duration::from_millis(20), move |file, reading| {
            if file.starts_with("hangs") {
                let (is_open, opened) = &*closed;
                drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
            }
            if file.starts_with("long") {
                reading.is_read.store(true, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(100));
            }
            Ok(file.to_owned())
        });
        let next = |readers: &Readers<PathBuf>| readers.next(Duration::from_secs(10)).map(|(ticket, _)| ticket);
        let hanging: Vec<Ticket> = (0..5).map(|n| readers.start(&Path::new("hangs").join(n.to_string()))).collect();
        let long = readers.start(Path::new("long"));
        let good = readers.start(Path::new("good"));
        // Threads are employed while somebody waits for the outcome.
        let mut done = Vec::new();
        while done.len() < 2 {
            done.extend(readers.next(Duration::from_millis(5)).map(|(ticket, _)| ticket));
        }
        done.sort_unstable();
        assert_eq!(done, [long, good]);
        let mut told = readers.hanging();
        told.sort_unstable();
        assert_eq!(told, hanging, "what is still being understood does not hang");
        let (is_open, opened) = &*gate;
        *is_open.lock().unwrap() = true;
        opened.notify_all();
        let mut done: Vec<Ticket> = hanging.iter().filter_map(|_| next(&readers)).collect();
        done.sort_unstable();
        assert_eq!(done, hanging);
        assert!(readers.hanging().is_empty());
    }
}
