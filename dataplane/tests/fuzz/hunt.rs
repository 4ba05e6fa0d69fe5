//! The hunt for stories that break something: those that reach what no other did are kept and varied further.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ringway_shared::DropReason;
use ringway_shared::counters::Counter;

use crate::bed::random::Random;
use crate::covered::Counters;
use crate::play::{Played, Stage, between};
use crate::story::{Event, Story};
use crate::vary::{self, Theme};

thread_local! {
    /// What the last panic said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
    /// Whether one may come.
    static ATTEMPTED: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic of what is attempted is kept, and not printed.
pub(crate) fn keep_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| if ATTEMPTED.get() { SAID.set(info.to_string()) } else { before(info) }));
}

/// Does something that may panic; the error is what the panic said.
pub(crate) fn attempt<R>(act: impl FnOnce() -> R) -> Result<R, String> {
    ATTEMPTED.set(true);
    let result = catch_unwind(AssertUnwindSafe(act)).map_err(|_| SAID.take());
    ATTEMPTED.set(false);
    result
}

/// What a hunt must come by, if its stories are good for anything.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    Reply(DropReason),
    Drop(DropReason),
    Count(Counter),
}

/// What was reached so far, and the stories that did.
pub(crate) struct Hunter {
    stage: Rc<Stage>,
    counters: Option<Counters>,
    /// By counter of the packet path, which orders of magnitude it moved by.
    magnitudes: Vec<u8>,
    features: HashSet<u32>,
    pub(crate) pool: Vec<Story>,
    pub(crate) packets: u64,
}

/// Stories that are kept at most.
const POOL: usize = 20_000;

impl Hunter {
    pub(crate) fn new() -> Self {
        let counters = Counters::open();
        let magnitudes = vec![0; counters.as_ref().map_or(0, Counters::len)];
        Hunter {
            stage: Rc::new(Stage::new()),
            counters,
            magnitudes,
            features: HashSet::new(),
            pool: Vec::new(),
            packets: 0,
        }
    }

    /// How many regions of the packet path were executed, of how many.
    pub(crate) fn covered(&self) -> (usize, usize) {
        (self.magnitudes.iter().filter(|seen| **seen != 0).count(), self.magnitudes.len())
    }

    /// What of these should have been reached, and was not.
    pub(crate) fn missing(&self, wanted: &[Wanted]) -> Vec<Wanted> {
        let is_reached = |wanted: &&Wanted| {
            let is = |feature: &u32| match wanted {
                Wanted::Reply(reason) => feature >> 24 == 1 && feature & 0xfff == 0x100 | *reason as u32,
                Wanted::Drop(reason) => feature >> 8 == 2 << 16 | *reason as u32,
                Wanted::Count(counter) => feature >> 8 == 3 << 16 | *counter as u32 && feature & 0xff > 0,
            };
            self.features.iter().any(is)
        };
        wanted.iter().filter(|wanted| !is_reached(wanted)).copied().collect()
    }

    /// Plays a story. Whether it reached anything new, or what does not hold.
    pub(crate) fn play(&mut self, story: &Story) -> Result<bool, String> {
        let played = attempt(|| self.stage.play(story))?;
        Ok(self.learn(&played))
    }

    /// Whether what was just played reached anything new.
    fn learn(&mut self, played: &Played) -> bool {
        self.packets += played.packets;
        let mut new = false;
        for feature in &played.features {
            new |= self.features.insert(*feature);
        }
        if let Some(counters) = &mut self.counters {
            let magnitudes = &mut self.magnitudes;
            counters.moved(|at, by| {
                let bit = 1 << (64 - by.leading_zeros()).min(8).saturating_sub(1);
                new |= magnitudes[at] & bit == 0;
                magnitudes[at] |= bit;
            });
        }
        new
    }

    /// Plays a story twice.
    fn play_again(&self, story: &Story) -> Result<Played, String> {
        let [first, second] = [(); 2].map(|()| attempt(|| self.stage.play(story)));
        let (first, second) = (first?, second?);
        if first == second { Ok(first) } else { Err("played twice, a story comes out otherwise".to_owned()) }
    }

    /// A story to play next.
    fn next(&self, random: &mut Random, theme: Theme) -> Story {
        if self.pool.is_empty() || random.once_in(12) {
            return vary::fresh(random, theme);
        }
        // The newest are what is least known about.
        let recent = self.pool.len().min(64);
        let at =
            if random.once_in(3) { self.pool.len() - 1 - random.below(recent) } else { random.below(self.pool.len()) };
        let other = random.below(self.pool.len());
        vary::vary(random, theme, &self.pool[at], &self.pool[other])
    }

    /// Some more stories, all played to the same workers, since those take longer to make than a story to play. The error is a
    /// story that breaks something, as short as could be found, and what it breaks.
    pub(crate) fn several(&mut self, random: &mut Random, theme: Theme, times: u64) -> Result<(), (Story, String)> {
        let stage = self.stage.clone();
        let mut scene = stage.scene();
        let mut all = Story::default();
        let mut result = Ok(());
        for _ in 0..times {
            let story = self.next(random, theme);
            all.events.extend(story.events.iter().cloned());
            let played = attempt(|| scene.play(&story));
            all.events.extend(between());
            match played {
                Ok(played) if self.learn(&played) => self.keep(random, story),
                Ok(_) => {}
                Err(said) => {
                    result = Err((story, said));
                    break;
                }
            }
        }
        // After a panic it may hold frames, which are not to be dropped.
        let _ = attempt(|| drop(scene));
        let Err((story, said)) = result else {
            let again = if random.once_in(16) { self.play_again(&all).map(drop) } else { Ok(()) };
            return again.map_err(|said| self.shorten(all, said));
        };
        let alone = self.play_again(&story).err();
        Err(match alone {
            Some(said) => self.shorten(story, said),
            None => self.shorten(all, said),
        })
    }

    fn keep(&mut self, random: &mut Random, story: Story) {
        if self.pool.len() < POOL {
            self.pool.push(story);
        } else {
            let at = random.below(POOL);
            self.pool[at] = story;
        }
    }

    /// The shortest story found that still breaks something, and what.
    fn shorten(&self, mut story: Story, mut said: String) -> (Story, String) {
        let mut less = |story: &mut Story, change: &dyn Fn(&mut Story)| {
            let mut shorter = story.clone();
            change(&mut shorter);
            let broken =
                shorter != *story && self.play_again(&shorter).inspect_err(|why| said.clone_from(why)).is_err();
            if broken {
                *story = shorter;
            }
            broken
        };
        // Many events at once first: several stories may be one here.
        let mut many = story.events.len() / 2;
        while many > 1 {
            let mut at = 0;
            while at < story.events.len() {
                let end = story.events.len().min(at + many);
                if !less(&mut story, &|story| drop(story.events.drain(at..end))) {
                    at += many;
                }
            }
            many /= 2;
        }
        for _ in 0..3 {
            let mut at = 0;
            while at < story.events.len() {
                if less(&mut story, &|story| drop(story.events.remove(at))) {
                    continue;
                }
                let changes = if let Event::Packet(arrival) = &story.events[at] { arrival.changes.len() } else { 0 };
                for number in (0..changes).rev() {
                    less(&mut story, &|story| {
                        if let Event::Packet(arrival) = &mut story.events[at] {
                            arrival.changes.remove(number);
                        }
                    });
                }
                less(&mut story, &|story| {
                    if let Event::Packet(arrival) = &mut story.events[at] {
                        arrival.together = false;
                    }
                });
                at += 1;
            }
        }
        (story, said)
    }

    /// The shortest stories that together reach every region of the packet path, counter and drop reason that the pool does.
    pub(crate) fn gist(&mut self) -> Vec<Story> {
        let mut pool = std::mem::take(&mut self.pool);
        pool.sort_by_key(|story| (story.events.len(), story.to_string().len()));
        let mut seen = HashSet::new();
        let mut gist = Vec::new();
        for story in pool {
            let own = self.reached(&story);
            let new: Vec<u64> = own.into_iter().filter(|what| !seen.contains(what)).collect();
            if new.is_empty() {
                continue;
            }
            let mut short = story;
            let mut at = 0;
            while at < short.events.len() {
                let mut shorter = short.clone();
                shorter.events.remove(at);
                let still = self.reached(&shorter);
                if new.iter().all(|what| still.contains(what)) {
                    short = shorter;
                } else {
                    at += 1;
                }
            }
            seen.extend(self.reached(&short));
            seen.extend(new);
            gist.push(short);
        }
        gist
    }

    /// What a story reaches, however often.
    fn reached(&mut self, story: &Story) -> HashSet<u64> {
        let Ok(played) = attempt(|| self.stage.play(story)) else { return HashSet::new() };
        // Not which verdict followed which, nor how many there were.
        let counted = played.features.iter().filter(|feature| **feature >> 24 > 1 && **feature & 0xff > 0);
        let mut reached: HashSet<u64> = counted.map(|feature| u64::from(feature >> 8)).collect();
        reached.extend(
            played.features.iter().filter(|feature| **feature >> 24 == 1).map(|f| u64::from(f & 0xfff) | 4 << 24),
        );
        if let Some(counters) = &mut self.counters {
            counters.moved(|at, _| {
                reached.insert(1 << 32 | at as u64);
            });
        }
        reached
    }
}
