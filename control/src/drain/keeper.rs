//! Keeps what is drained: for this process, and in the state folder what shall outlive it.
//!
//! Who says that an endpoint is drained means the pod that has its address now. When no slice has named the address for a
//! while and then one does, that is another pod, which nobody drained. The time when no process runs counts as such: so when a
//! slice named it last is written down, too.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ringway_shared::snapshot::Services;
use tokio::sync::watch;

use super::{Drained, Target};
use crate::plain;
use crate::publish::Published;
use crate::watch::heart;

/// The file in the state folder: a target a line, when it was drained, and when a slice named it last, in seconds since 1970. Before
/// there were times in it, it had the target alone.
const FILE: &str = "drained";
/// The most that can be drained at once.
const MOST: usize = 4096;
/// An address that no slice named for so long is somebody else's when one names it again.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// How often it is written down that slices name those that are kept.
const NOTE: Duration = Duration::from_secs(60);

/// One that is drained.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Whether it outlives this process.
    pub kept: bool,
    /// When it was drained.
    pub since: Instant,
    /// Since when no slice names it.
    absent: Option<Instant>,
}

/// All that are drained.
pub struct Keeper {
    file: PathBuf,
    all: Mutex<BTreeMap<Target, Drain>>,
    sender: watch::Sender<Arc<Drained>>,
}

impl Keeper {
    /// What the state folder `state` has from earlier processes.
    pub fn read(state: &Path) -> Arc<Self> {
        Self::read_at(state, Moment::now())
    }

    fn read_at(state: &Path, now: Moment) -> Arc<Self> {
        let file = state.join(FILE);
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!("{}: cannot read what is drained: {error}", plain::path(&file));
            }
            String::new()
        });
        let (all, problems) = now.read(&text);
        all.keys().for_each(|target| tracing::info!("{target} is drained, as it was when the last process ended"));
        problems.iter().for_each(|problem| tracing::warn!("{}: {problem}", plain::path(&file)));
        let (sender, _) = watch::channel(Arc::new(all.keys().copied().collect()));
        Arc::new(Keeper { file, all: Mutex::new(all), sender })
    }

    /// What is drained, as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Drained>> {
        self.sender.subscribe()
    }

    /// All of them.
    pub fn list(&self) -> Vec<(Target, Drain)> {
        self.lock().iter().map(|(target, drain)| (*target, *drain)).collect()
    }

    /// Drains `targets`, also for processes that follow if they are to be kept.
    pub fn drain(&self, targets: &[Target], keep: bool) -> Result<(), String> {
        self.change(|all| {
            for target in targets {
                let new = || Drain { kept: keep, since: Instant::now(), absent: None };
                all.entry(*target).or_insert_with(new).kept |= keep;
            }
            if all.len() > MOST {
                return Err(format!(
                    "{} endpoints would be drained, and {MOST} are the most; undrain others",
                    all.len()
                ));
            }
            Ok(())
        })
    }

    /// Takes `targets` back: an address with all that is drained of it.
    pub fn undrain(&self, targets: &[Target]) -> Result<(), String> {
        self.change(|all| {
            // One may be meant twice, by itself and with its address.
            let before = all.clone();
            for target in targets {
                let is_meant = |drained: &Target| match target.port {
                    None => drained.address == target.address,
                    Some(_) => drained == target,
                };
                all.retain(|drained, _| !is_meant(drained));
                if !before.keys().any(is_meant) {
                    let whole = Target { port: None, ..*target };
                    return Err(match target.port {
                        Some(_) if before.contains_key(&whole) => {
                            format!("{target} is drained with all ports of its address; write ringway undrain {whole}")
                        }
                        _ => format!("{target} is not drained; ringway drain --list says what is"),
                    });
                }
            }
            Ok(())
        })
    }

    /// Takes all of them back.
    pub fn undrain_all(&self) -> Result<(), String> {
        self.change(|all| {
            all.clear();
            Ok(())
        })
    }

    /// Follows which endpoints there are, and forgets those that are others by now.
    pub async fn follow(self: Arc<Self>, mut published: watch::Receiver<Arc<Published>>) {
        let heart = heart("drained endpoints");
        let (mut last, mut failed) = (Instant::now(), false);
        loop {
            match heart.waiting(tokio::time::timeout(NOTE, published.changed())).await {
                Ok(Ok(())) => {
                    let now = published.borrow_and_update().clone();
                    if now.ready {
                        self.look(&now.snapshot.services, Instant::now());
                    }
                }
                Ok(Err(_)) => break,
                Err(_) => {}
            }
            if last.elapsed() >= NOTE {
                last = Instant::now();
                // Of a file that cannot be written nobody needs to know but once.
                match tokio::task::block_in_place(|| self.note(Moment::now())) {
                    Ok(()) => failed = false,
                    Err(error) if !failed => {
                        failed = true;
                        tracing::warn!(
                            "cannot write {}: {error}; what is drained may be forgotten at a restart: make the state folder writable",
                            plain::path(&self.file)
                        );
                    }
                    Err(_) => {}
                }
            }
        }
        heart.waiting(std::future::pending()).await
    }

    fn look(&self, services: &Services, now: Instant) {
        let known = self.list();
        if known.is_empty() {
            return;
        }
        let mut absent: BTreeMap<Target, ()> = known.iter().map(|(target, _)| (*target, ())).collect();
        for endpoint in services.service_ports.iter().flatten().flat_map(|port| port.endpoints.iter()) {
            if absent.is_empty() {
                break;
            }
            let (address, port) = (endpoint.backend.address, endpoint.backend.port);
            absent.remove(&Target { address, port: None });
            absent.remove(&Target { address, port: Some(port) });
        }
        let mut others = Vec::new();
        for (target, drain) in self.lock().iter_mut() {
            if absent.contains_key(target) {
                drain.absent.get_or_insert(now);
            } else if drain.absent.is_some_and(|since| now.saturating_duration_since(since) >= FORGOTTEN) {
                // What cannot be forgotten now is tried again when endpoints change.
                others.push(*target);
            } else {
                drain.absent = None;
            }
        }
        if others.is_empty() {
            return;
        }
        // Each alone: an address and one of its ports may both be among them, or only one.
        let forgotten = self.change(|all| {
            all.retain(|target, _| !others.contains(target));
            Ok(())
        });
        match forgotten {
            Ok(()) => others.iter().for_each(|target| {
                tracing::info!(
                    "{target} is not drained any more: it was gone for a while, and is another endpoint now"
                );
            }),
            Err(error) => tracing::warn!(
                "{others} other endpoints than those that were drained are drained still: {error}",
                others = others.len()
            ),
        }
    }

    /// Writes down when slices named those that are kept. Under the lock, as every change does: a list of before would otherwise take
    /// the place of the file of one that comes in between.
    fn note(&self, now: Moment) -> io::Result<()> {
        let all = self.lock();
        let kept = kept(&all);
        if kept.is_empty() { Ok(()) } else { write(&self.file, &kept, now) }
    }

    /// Changes what is drained, in the file first: what cannot be written down does not come into force.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<Target, Drain>) -> Result<(), String>) -> Result<(), String> {
        let mut all = self.lock();
        let mut wanted = all.clone();
        change(&mut wanted)?;
        let (before, now) = (kept(&all), kept(&wanted));
        if !before.iter().map(|(target, _)| target).eq(now.iter().map(|(target, _)| target)) {
            write(&self.file, &now, Moment::now()).map_err(|error| {
                format!(
                    "cannot write {}: {error}; nothing was changed: make the state folder writable, or do without --keep",
                    plain::path(&self.file)
                )
            })?;
        }
        *all = wanted;
        self.sender.send_replace(Arc::new(all.keys().copied().collect()));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Target, Drain>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kept(all: &BTreeMap<Target, Drain>) -> Vec<(Target, Drain)> {
    all.iter().filter(|(_, drain)| drain.kept).map(|(target, drain)| (*target, *drain)).collect()
}

/// A moment by both clocks: that of this process, and the one that goes on without it.
#[derive(Clone, Copy, Debug)]
struct Moment {
    instant: Instant,
    time: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Moment { instant: Instant::now(), time: SystemTime::now() }
    }

    /// A line of the file.
    fn line(self, target: Target, drain: Drain) -> String {
        let seconds = |at: Instant| {
            let past = self.time.checked_sub(self.instant.saturating_duration_since(at)).unwrap_or(self.time);
            past.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
        };
        format!("{target} {} {}\n", seconds(drain.since), seconds(drain.absent.unwrap_or(self.instant)))
    }

    /// What the file says, and what is wrong with it.
    fn read(self, text: &str) -> (BTreeMap<Target, Drain>, Vec<String>) {
        let (mut all, mut problems, mut beyond) = (BTreeMap::new(), Vec::new(), 0);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match self.parse(line) {
                Ok((target, drain)) if all.len() < MOST || all.contains_key(&target) => {
                    all.insert(target, drain);
                }
                Ok(_) => beyond += 1,
                Err(error) if problems.len() < 10 => problems.push(format!("{error}; the line is left out")),
                Err(_) => {}
            }
        }
        if beyond > 0 {
            problems.push(format!(
                "{beyond} lines beyond {MOST} endpoints are left out: these get new connections again; drain fewer at once"
            ));
        }
        (all, problems)
    }

    /// What a line of the file says.
    fn parse(self, line: &str) -> Result<(Target, Drain), String> {
        let mut words = line.split_whitespace();
        let target = words.next().unwrap_or_default().parse::<Target>().map_err(|error| error.to_string())?;
        // A time that is still to come was written by another clock.
        let ago = |word: &str| {
            let seconds = word.parse().map_err(|_| format!("{word:?} behind {target} is no time in seconds"))?;
            let past = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            let past = past.and_then(|past| self.time.duration_since(past).ok());
            Ok::<_, String>(past.unwrap_or_default())
        };
        let before = |ago: Duration| self.instant.checked_sub(ago).unwrap_or(self.instant);
        let since = words.next().map(ago).transpose()?.map_or(self.instant, before);
        // It may have been named for as long after it was written down.
        let unseen = words.next().map(ago).transpose()?.map(|ago| ago.saturating_sub(NOTE));
        let absent = unseen.filter(|unseen| !unseen.is_zero()).map(before);
        Ok((target, Drain { kept: true, since, absent }))
    }
}

/// Writes beside the file first, so that it is whole at any moment.
fn write(file: &Path, kept: &[(Target, Drain)], now: Moment) -> io::Result<()> {
    if kept.is_empty() {
        return match std::fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let new = file.with_extension("new");
    std::fs::write(&new, kept.iter().map(|(target, drain)| now.line(*target, *drain)).collect::<String>())?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests;
