//! Objects from files: manifests named one by one, or all of a folder.
//!
//! Of a folder count `*.yaml`, `*.yml` and `*.json`, not those in folders below and not those whose name begins with a
//! dot; links are followed. Files are read by threads, so that one that takes long keeps no other from being read. A file that cannot be read keeps the objects it had, and so does every document of it that is
//! broken.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::manifest;
use super::open::{self, Named};
use super::readers::{Readers, Reading, Ticket};
use crate::cluster::ClusterState;
use crate::parse::{Document, ObjectKey, Parsed, Refusal};
use crate::plain;
use crate::problem::{Problem, Severity};

mod known;

use known::{Known, Look};

/// The largest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// How long a changed file must have been left alone before it is read: it may be half written.
const SETTLE: Duration = Duration::from_millis(100);

/// How long a file that changes all the time is waited for.
const PATIENCE: Duration = Duration::from_millis(400);

/// A file that gives nothing for so long hangs.
const PATIENCE_FOR_READING: Duration = Duration::from_secs(5);

/// How long a look waits for the files that it found changed. What takes longer is taken by a later one.
const QUICK: Duration = Duration::from_millis(300);

/// How often is looked meanwhile whether one hangs.
const TURN: Duration = Duration::from_millis(50);

/// The most files of a folder.
const MOST_FILES: usize = 200_000;

/// So many objects of a file that cannot be told by name are told one by one.
const TOLD: usize = 20;

/// What is said of an object in two files of `--objects`.
pub const GIVEN_TWICE: &str = "given twice; the later one counts";

/// Objects from `--objects` arguments: read once, the later one of two counts.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Taken and refused objects, in the order of the arguments, files by name.
    pub objects: Vec<LoadedObject>,
    /// What was skipped or could not be read. Problems of objects are found in the cluster state.
    pub notes: Vec<Problem>,
}

/// One object of a file.
#[derive(Clone, Debug)]
pub struct LoadedObject {
    /// The file.
    pub file: PathBuf,
    /// Which object.
    pub key: ObjectKey,
    /// Its content, or why it was refused.
    pub content: Result<Parsed, Refusal>,
}

impl Loaded {
    /// The cluster that these objects make. Of an object given twice the later one counts.
    pub fn into_cluster(self) -> ClusterState {
        let mut cluster = ClusterState::default();
        for LoadedObject { file, key, content } in self.objects {
            match content {
                Ok(parsed) => {
                    cluster.apply(parsed, Some(&file));
                }
                Err(refusal) => cluster.refuse(&key, &refusal, Some(&file)),
            }
        }
        cluster.set_source_problems(self.notes);
        cluster
    }
}

/// Reads the files and folders of `paths` once. Never fails: what cannot be read is a note.
pub fn load(paths: &[PathBuf]) -> Loaded {
    let mut loaded = Loaded::default();
    let mut seen = BTreeSet::new();
    for path in paths {
        let files = match list(path) {
            Ok(files) => files,
            Err(error) => {
                loaded.notes.push(unreadable(path, &error));
                continue;
            }
        };
        for file in files {
            let named = if file == *path { Named::Itself } else { Named::ByOthers };
            let content = match read(&file, named, &Reading::default()) {
                Ok(content) => content,
                Err(error) => {
                    loaded.notes.push(unreadable(&file, &error));
                    continue;
                }
            };
            loaded.notes.extend(content.notes);
            for (key, content) in content.objects {
                if !seen.insert(key.clone()) {
                    loaded.notes.push(Problem::of_object(Severity::Warning, &key, GIVEN_TWICE).in_file(&file));
                }
                loaded.objects.push(LoadedObject { file: file.clone(), key, content });
            }
        }
    }
    loaded
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::of_file(Severity::Refused, path, format!("cannot be read: {error}"))
}

/// A path of `source.files` that leads nowhere. `keeps`: objects are in force that came from below it.
fn absent(path: &Path, keeps: bool) -> Problem {
    let kept = if keeps { "; what it held stays in force" } else { "" };
    let path = plain::path(path);
    Problem::of_source(format!("source.files: {path} does not exist; create it, or correct the path{kept}"))
}

/// Whether `path` is a folder that has no file for us.
pub fn has_no_manifest(path: &Path) -> bool {
    list(path).is_ok_and(|files| files.is_empty())
}

/// The files that `path` stands for: itself, or those of the folder, by name.
fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let is_manifest = Path::new(&name).extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        // A folder may be called `x.yaml`; a link may lead to one.
        if is_manifest && !name.as_encoded_bytes().starts_with(b".") && !path.join(&name).is_dir() {
            names.push(name);
        }
        if names.len() > MOST_FILES {
            return Err(io::Error::other(format!("it has more than {MOST_FILES} files, which are the most")));
        }
    }
    names.sort();
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// What one file holds.
#[derive(Debug, Default)]
struct Content {
    objects: Vec<(ObjectKey, Result<Parsed, Refusal>)>,
    notes: Vec<Problem>,
    /// Something in it could not be told: an object of before may be among it.
    broken: bool,
}

/// Reads a file.
fn read(file: &Path, named: Named, reading: &Reading) -> io::Result<Content> {
    let text = open::text(file, named, MAX_BYTES, &reading.progress)?;
    reading.is_read.store(true, Ordering::Relaxed);
    let manifest = manifest::read(&text);
    let mut content = Content { broken: !manifest.broken.is_empty(), ..Content::default() };
    let (mut skipped, mut nameless) = (0_usize, 0_usize);
    for what in manifest.broken {
        content.notes.push(Problem::of_file(Severity::Refused, file, what));
    }
    for document in manifest.documents {
        match document {
            Document::Taken(parsed) => content.objects.push((parsed.key.clone(), Ok(parsed))),
            Document::Refused(Some(key), refusal) => content.objects.push((key, Err(refusal))),
            Document::Refused(None, refusal) => {
                (content.broken, nameless) = (true, nameless + 1);
                if nameless <= TOLD {
                    let what = format!("an object is refused: {refusal}");
                    content.notes.push(Problem::of_file(Severity::Refused, file, what));
                }
            }
            Document::Skipped(why) => {
                skipped += 1;
                if skipped <= TOLD {
                    content.notes.push(Problem::of_file(Severity::Note, file, why));
                }
            }
        }
    }
    for (count, severity, what) in [(nameless, Severity::Refused, "refused"), (skipped, Severity::Note, "skipped")] {
        if count > TOLD {
            let what = format!("and {} more objects like these are {what}, which are only counted", count - TOLD);
            content.notes.push(Problem::of_file(severity, file, what));
        }
    }
    Ok(content)
}

/// The files of `source.files`: read again where they changed, with the memory that last good content needs.
pub struct FileSource {
    paths: Vec<PathBuf>,
    /// By file name first: of an object in two files that order decides.
    files: BTreeMap<Key, Known>,
    readers: Readers<Content>,
    /// The attempts to read a file that are under way.
    reading: BTreeMap<Ticket, Key>,
    /// Called while files are waited for.
    turn: Box<dyn Fn() + Send>,
    /// Paths that could not even be listed.
    unlisted: Vec<Problem>,
    cluster: ClusterState,
}

/// A file by its name, then by its path.
type Key = (OsString, PathBuf);

impl FileSource {
    /// Reads everything for the first time.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let mut source = FileSource::unread(paths, || ());
        source.look(Instant::now(), Duration::ZERO);
        source
    }

    /// Nothing is read yet, and the first look waits for all that does not hang. `turn` is called meanwhile, again and again.
    pub(super) fn unread(paths: Vec<PathBuf>, turn: impl Fn() + Send + 'static) -> Self {
        let readers = Readers::new(PATIENCE_FOR_READING, |file, reading| read(file, Named::ByOthers, reading));
        let (files, reading, unlisted, cluster) = Default::default();
        FileSource { paths, files, readers, reading, turn: Box::new(turn), unlisted, cluster }
    }

    /// The first look.
    pub(super) fn first(&mut self) {
        self.look(Instant::now(), Duration::ZERO);
    }

    /// The objects in force and what is wrong with the rest. Of an object in two files the first by file name counts.
    pub fn cluster(&self) -> &ClusterState {
        &self.cluster
    }

    /// Looks for changes, and reads the files that changed and have settled since. Returns whether the state changed, and
    /// after which time to look again at the latest if a file has not settled, or was not read to its end, yet.
    pub fn refresh(&mut self, now: Instant) -> (bool, Option<Duration>) {
        let changed = self.look(now, SETTLE);
        let waiting = self.files.values().any(|known| known.pending.is_some());
        let is_reading = self.reading.len() > self.readers.hanging().len();
        (changed, (waiting || is_reading).then_some(SETTLE / 2))
    }

    fn look(&mut self, now: Instant, settle: Duration) -> bool {
        let mut unlisted = Vec::new();
        let mut gone: BTreeSet<_> = self.files.keys().cloned().collect();
        let mut changed = false;
        let mut first = Ticket::MAX;
        for path in &self.paths {
            let files = match list(path) {
                Ok(files) => files,
                Err(error) => {
                    // A named file that is gone takes its objects along. A folder that is gone is rather a mount that
                    // failed than all Services deleted at once.
                    let is_gone = error.kind() == io::ErrorKind::NotFound;
                    gone.retain(|(_, file)| (is_gone && file == path) || !file.starts_with(path));
                    let keeps = self.files.keys().any(|(_, file)| file != path && file.starts_with(path));
                    unlisted.push(if is_gone { absent(path, keeps) } else { unreadable(path, &error) });
                    continue;
                }
            };
            for file in files {
                let key = (file.file_name().unwrap_or_default().to_owned(), file);
                gone.remove(&key);
                let known = self.files.entry(key.clone()).or_default();
                match known.look(&key.1, now, settle) {
                    Look::Same => {}
                    Look::News => changed = true,
                    Look::Read(signature) => {
                        let ticket = self.readers.start(&key.1);
                        first = first.min(ticket);
                        known.reading = Some((ticket, signature));
                        self.reading.insert(ticket, key);
                    }
                }
            }
            (self.turn)();
        }
        for key in gone {
            if self.files.get_mut(&key).is_some_and(|known| known.has_settled(None, now, settle)) {
                self.files.remove(&key);
                changed = true;
            }
        }
        let patience = if settle.is_zero() { Duration::MAX } else { QUICK };
        changed |= self.take_what_is_read(first, patience);
        changed |= self.unlisted != unlisted;
        self.unlisted = unlisted;
        changed && self.put_in_force()
    }

    /// Takes what was read by now, and waits for the attempts from `first` on: what can be read at once is then in force at
    /// once. Returns whether there is news.
    fn take_what_is_read(&mut self, first: Ticket, patience: Duration) -> bool {
        let (mut changed, began) = (false, Instant::now());
        loop {
            let hanging = self.readers.hanging();
            for ticket in &hanging {
                let Some(key) = self.reading.get(ticket) else { continue };
                let known = self.files.get_mut(key).filter(|known| known.reading.is_some_and(|(of, _)| of == *ticket));
                changed |= known.is_some_and(|known| known.hangs(&key.1));
            }
            let mut awaited = self.reading.range(first..).map(|(ticket, _)| ticket);
            let waits = began.elapsed() < patience && awaited.any(|ticket| !hanging.contains(ticket));
            (self.turn)();
            let Some((ticket, outcome)) = self.readers.next(if waits { TURN } else { Duration::ZERO }) else {
                if waits { continue } else { return changed }
            };
            let Some(key) = self.reading.remove(&ticket) else { continue };
            // Of a file that is gone, or was read again since, nobody wants to know.
            let known = self.files.get_mut(&key).filter(|known| known.reading.is_some_and(|(of, _)| of == ticket));
            changed |= known.is_some_and(|known| known.is_read(outcome, &key.1));
        }
    }

    /// Brings the cluster state to what the files say. Returns whether it changed.
    fn put_in_force(&mut self) -> bool {
        let mut problems = self.unlisted.clone();
        problems.extend(self.files.values().flat_map(|known| known.notes.iter().cloned()));
        let mut wanted: BTreeMap<&ObjectKey, (&Path, &Parsed)> = BTreeMap::new();
        for ((_, file), known) in &self.files {
            for (key, parsed) in &known.objects {
                let (first, _) = wanted.entry(key).or_insert((file, parsed));
                if *first != file {
                    let text = format!("is in {} already, which counts; remove one of the two", plain::path(first));
                    problems.push(Problem::of_object(Severity::Warning, key, text).in_file(file));
                }
            }
        }
        let before = self.cluster.clone();
        for key in before.keys().filter(|key| !wanted.contains_key(key)) {
            self.cluster.remove(&key);
        }
        for (_, (file, parsed)) in wanted {
            self.cluster.apply(parsed.clone(), Some(file));
        }
        self.cluster.forget_problems_of_absent();
        for ((_, file), known) in &self.files {
            for (key, refusal) in &known.refused {
                self.cluster.refuse(key, refusal, Some(file));
            }
        }
        self.cluster.set_source_problems(problems);
        self.cluster != before
    }
}
