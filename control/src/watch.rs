//! Watches that every part of this process makes progress, and that it ends when it is to end.
//!
//! Every loop, a thread's or a task's, has a [`Heart`] that it beats at each turn. One that waits for something that may
//! take long beats by a timer meanwhile ([`Heart::waiting`], [`Heart::rest`]). Workers beat by publishing their counts.
//! Silence is told in turns of the watching thread ([`thread`]), not by the clock: a machine that was suspended, or that
//! has no CPU for any of us, makes nobody look dead.
//!
//! A panic, wherever it is, ends the process with a message and a status ([`last`]).

pub(crate) mod last;
pub(crate) mod thread;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a loop that has nothing to do beats.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// How often the watching thread looks.
const TICK: Duration = Duration::from_millis(250);
/// After so many turns of it without a beat a loop makes no progress: 8 s, so that it is told within 10.
const SILENCE: u64 = 32;

/// The hearts of this process.
static OURS: LazyLock<Hearts> = LazyLock::new(Hearts::default);

/// A heart for a loop of this process. It is watched until it is dropped.
pub(crate) fn heart(name: impl Into<String>) -> Heart {
    OURS.heart(name, None)
}

/// Watches something whose progress shows in a number that changes, until the result is dropped.
pub(crate) fn follow(name: impl Into<String>, progress: impl Fn() -> u64 + Send + Sync + 'static) -> Heart {
    OURS.heart(name, Some(Box::new(progress)))
}

thread_local! {
    /// The heart of the loop that has this thread for itself.
    static HERE: RefCell<Option<(Hearts, Arc<Pulse>)>> = const { RefCell::new(None) };
}

/// Beats the heart of this thread's loop, if it has one: long work makes progress in between, wherever it is done.
pub(crate) fn beat() {
    HERE.with_borrow(|here| {
        if let Some((hearts, pulse)) = here {
            pulse.beat(hearts);
        }
    });
}

/// The hearts of this process, for those who judge by them.
pub(crate) fn hearts() -> Hearts {
    OURS.clone()
}

/// Hearts that are watched together. A copy shows the same.
#[derive(Clone, Default)]
pub(crate) struct Hearts(Arc<Shared>);

#[derive(Default)]
struct Shared {
    turns: AtomicU64,
    pulses: Mutex<Vec<Arc<Pulse>>>,
}

type Progress = Box<dyn Fn() -> u64 + Send + Sync>;

/// What is known of one loop.
struct Pulse {
    name: String,
    /// The turn of the last beat.
    last: AtomicU64,
    /// What progress was at that turn, where it is a number.
    seen: AtomicU64,
    progress: Option<Progress>,
}

/// One loop's heart.
pub(crate) struct Heart {
    hearts: Hearts,
    pulse: Arc<Pulse>,
}

/// A loop that makes no progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silence {
    /// Which loop.
    pub(crate) name: String,
    /// For how long.
    pub(crate) lasts: Duration,
}

impl Hearts {
    fn pulses(&self) -> MutexGuard<'_, Vec<Arc<Pulse>>> {
        self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more heart among these.
    pub(crate) fn heart(&self, name: impl Into<String>, progress: Option<Progress>) -> Heart {
        let pulse = Arc::new(Pulse {
            name: name.into(),
            last: AtomicU64::new(self.0.turns.load(Ordering::Relaxed)),
            seen: AtomicU64::new(0),
            progress,
        });
        self.pulses().push(pulse.clone());
        Heart { hearts: self.clone(), pulse }
    }

    /// A turn of the thread that watches.
    pub(crate) fn turn(&self) {
        let now = self.0.turns.fetch_add(1, Ordering::Relaxed) + 1;
        for pulse in &*self.pulses() {
            let Some(progress) = &pulse.progress else { continue };
            let progress = progress();
            if pulse.seen.swap(progress, Ordering::Relaxed) != progress {
                pulse.last.store(now, Ordering::Relaxed);
            }
        }
    }

    /// The loops that are watched.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.pulses().iter().map(|pulse| pulse.name.clone()).collect();
        names.sort();
        names
    }

    /// The loops that make no progress, the longest silence first.
    pub(crate) fn silent(&self) -> Vec<Silence> {
        let now = self.0.turns.load(Ordering::Relaxed);
        let silence = |pulse: &Arc<Pulse>| {
            let turns = now.saturating_sub(pulse.last.load(Ordering::Relaxed));
            let lasts = TICK * u32::try_from(turns).unwrap_or(u32::MAX);
            (turns >= SILENCE).then(|| Silence { name: pulse.name.clone(), lasts })
        };
        let mut silent: Vec<Silence> = self.pulses().iter().filter_map(silence).collect();
        silent.sort_by_key(|silence| std::cmp::Reverse(silence.lasts));
        silent
    }
}

impl Pulse {
    fn beat(&self, hearts: &Hearts) {
        self.last.store(hearts.0.turns.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Heart {
    /// The loop makes progress.
    pub(crate) fn beat(&self) {
        self.pulse.beat(&self.hearts);
    }

    /// From here on, [`beat`] on this thread is a beat of this heart. For a loop that has a thread for itself.
    pub(crate) fn of_this_thread(self) -> Self {
        HERE.set(Some((self.hearts.clone(), self.pulse.clone())));
        self
    }

    /// Beats, and then waits as long as a loop may before it comes around and beats again: one of the things that its
    /// `select!` waits for.
    pub(crate) async fn rest(&self) {
        self.beat();
        tokio::time::sleep(BEAT).await;
    }

    /// Waits for something that may rightly take long, and beats meanwhile.
    pub(crate) async fn waiting<T>(&self, something: impl Future<Output = T>) -> T {
        let mut something = std::pin::pin!(something);
        loop {
            tokio::select! {
                biased;
                done = &mut something => {
                    self.beat();
                    return done;
                }
                () = self.rest() => {}
            }
        }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.hearts.pulses().retain(|pulse| !Arc::ptr_eq(pulse, &self.pulse));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(hearts: &Hearts, count: u64) {
        (0..count).for_each(|_| hearts.turn());
    }

    fn names(hearts: &Hearts) -> Vec<String> {
        hearts.silent().into_iter().map(|silence| silence.name).collect()
    }

    #[test]
    fn a_loop_without_a_beat_is_named_in_time() {
        assert!(TICK * SILENCE as u32 + BEAT < Duration::from_secs(10));
        let hearts = Hearts::default();
        let (first, second) = (hearts.heart("first", None), hearts.heart("second", None));
        turns(&hearts, SILENCE - 1);
        assert!(hearts.silent().is_empty());
        second.beat();
        turns(&hearts, 1);
        assert_eq!(hearts.silent(), [Silence { name: "first".into(), lasts: Duration::from_secs(8) }]);
        turns(&hearts, SILENCE);
        assert_eq!(names(&hearts), ["first", "second"], "the longest silence first");
        first.beat();
        drop(second);
        assert!(hearts.silent().is_empty());
    }

    #[test]
    fn progress_that_is_a_number_is_looked_at() {
        let hearts = Hearts::default();
        let count = Arc::new(AtomicU64::new(0));
        let _heart = hearts.heart("worker", {
            let count = count.clone();
            Some(Box::new(move || count.load(Ordering::Relaxed)))
        });
        for _ in 0..SILENCE * 2 {
            count.fetch_add(2, Ordering::Relaxed);
            turns(&hearts, 1);
        }
        assert!(hearts.silent().is_empty());
        turns(&hearts, SILENCE);
        assert_eq!(names(&hearts), ["worker"]);
    }

    #[test]
    fn long_work_beats_the_heart_of_its_thread() {
        let hearts = Hearts::default();
        let heart = hearts.heart("files", None).of_this_thread();
        turns(&hearts, SILENCE);
        std::thread::spawn(beat).join().unwrap();
        assert_eq!(names(&hearts), ["files"], "another thread's work is none of its");
        beat();
        assert!(hearts.silent().is_empty());
        drop(heart);
        beat();
    }

    #[tokio::test]
    async fn who_waits_beats_and_who_is_stuck_does_not() {
        let hearts = Hearts::default();
        let (waits, stuck) = (hearts.heart("waits", None), hearts.heart("stuck", None));
        let waiting = waits.waiting(std::future::pending::<()>());
        // A beat comes every ten turns at the latest.
        let watching = async {
            while hearts.silent().is_empty() {
                tokio::time::sleep(BEAT / 10).await;
                hearts.turn();
            }
        };
        tokio::select! {
            biased;
            () = waiting => unreachable!(),
            () = watching => {}
        }
        assert_eq!(names(&hearts), ["stuck"]);
        drop(stuck);
    }
}
