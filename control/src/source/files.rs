//! Objects from files: manifests named one by one, or all of a folder.
//!
//! Of a folder count `*.yaml`, `*.yml` and `*.json`, not those in folders below and not those whose name begins with a
//! dot; links are followed. A file that cannot be read keeps the objects it had, and so does every document of it that is
//! broken.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::manifest;
use crate::cluster::ClusterState;
use crate::parse::{Document, ObjectKey, Parsed, Refusal};
use crate::problem::{Problem, Severity};

/// The largest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// How long a changed file must have been left alone before it is read: it may be half written.
const SETTLE: Duration = Duration::from_millis(100);

/// How long a file that changes all the time is waited for.
const PATIENCE: Duration = Duration::from_millis(400);

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
            let content = match read(&file, file == *path) {
                Ok(content) => content,
                Err(error) => {
                    loaded.notes.push(unreadable(&file, &error));
                    continue;
                }
            };
            loaded.notes.extend(content.notes);
            for (key, content) in content.objects {
                if !seen.insert(key.clone()) {
                    let text = "given twice; the later one counts";
                    loaded.notes.push(Problem::of_object(Severity::Warning, &key, text).in_file(&file));
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

/// Reads a file. `named` when the user named the file itself: it may then be a pipe.
fn read(file: &Path, named: bool) -> io::Result<Content> {
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() && !named {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > MAX_BYTES {
        let text = format!("it has {} bytes, and {MAX_BYTES} are the most; split it", metadata.len());
        return Err(io::Error::other(text));
    }
    let text = fs::read_to_string(file)?;
    let manifest = manifest::read(&text);
    let mut content = Content { broken: !manifest.broken.is_empty(), ..Content::default() };
    for what in manifest.broken {
        content.notes.push(Problem::of_file(Severity::Refused, file, what));
    }
    for document in manifest.documents {
        match document {
            Document::Taken(parsed) => content.objects.push((parsed.key.clone(), Ok(parsed))),
            Document::Refused(Some(key), refusal) => content.objects.push((key, Err(refusal))),
            Document::Refused(None, refusal) => {
                content.broken = true;
                content.notes.push(Problem::of_file(
                    Severity::Refused,
                    file,
                    format!("an object is refused: {refusal}"),
                ));
            }
            Document::Skipped(why) => content.notes.push(Problem::of_file(Severity::Note, file, why)),
        }
    }
    Ok(content)
}

/// What tells one state of a file from another without reading it; `None` for a file that is not there.
type Signature = Option<(u64, u64, u64, i64, i64, i64, i64)>;

fn signature(file: &Path) -> io::Result<Signature> {
    match fs::metadata(file) {
        Ok(m) => Ok(Some((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the file was written so recently that it has not settled.
fn is_fresh(file: &Path) -> bool {
    let written = fs::metadata(file).and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age < SETTLE))
}

/// A file as it was read last.
#[derive(Debug, Default)]
struct Known {
    signature: Signature,
    /// The last attempt to read it failed; it is tried again at every look.
    unreadable: bool,
    /// Its objects in force or ready to be.
    objects: BTreeMap<ObjectKey, Parsed>,
    /// Objects of it that were refused; their last good content may be among `objects`.
    refused: BTreeMap<ObjectKey, Refusal>,
    notes: Vec<Problem>,
    /// A change that was seen and is not read yet.
    pending: Option<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    signature: Signature,
    first_seen: Instant,
    unchanged_since: Instant,
}

/// The files of `source.files`: read again where they changed, with the memory that last good content needs.
#[derive(Debug)]
pub struct FileSource {
    paths: Vec<PathBuf>,
    /// By file name first: of an object in two files that order decides.
    files: BTreeMap<(OsString, PathBuf), Known>,
    /// Paths that could not even be listed.
    unlisted: Vec<Problem>,
    cluster: ClusterState,
}

impl FileSource {
    /// Reads everything for the first time.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let (files, unlisted, cluster) = Default::default();
        let mut source = FileSource { paths, files, unlisted, cluster };
        source.look(Instant::now(), Duration::ZERO);
        source
    }

    /// The objects in force and what is wrong with the rest. Of an object in two files the first by file name counts.
    pub fn cluster(&self) -> &ClusterState {
        &self.cluster
    }

    /// Looks for changes, and reads the files that changed and have settled since. Returns whether the state changed, and
    /// after which time to look again at the latest if a file has not settled yet.
    pub fn refresh(&mut self, now: Instant) -> (bool, Option<Duration>) {
        let changed = self.look(now, SETTLE);
        let waiting = self.files.values().any(|known| known.pending.is_some());
        (changed, waiting.then_some(SETTLE / 2))
    }

    fn look(&mut self, now: Instant, settle: Duration) -> bool {
        let mut unlisted = Vec::new();
        let mut gone: BTreeSet<_> = self.files.keys().cloned().collect();
        let mut changed = false;
        for path in &self.paths {
            let files = match list(path) {
                Ok(files) => files,
                Err(error) => {
                    // A named file that is gone takes its objects along. A folder that is gone is rather a mount that
                    // failed than all Services deleted at once.
                    let is_gone = error.kind() == io::ErrorKind::NotFound;
                    gone.retain(|(_, file)| (is_gone && file == path) || !file.starts_with(path));
                    unlisted.push(unreadable(path, &error));
                    continue;
                }
            };
            for file in files {
                let key = (file.file_name().unwrap_or_default().to_owned(), file);
                gone.remove(&key);
                let known = self.files.entry(key.clone()).or_default();
                changed |= known.look(&key.1, now, settle);
            }
        }
        for key in gone {
            if self.files.get_mut(&key).is_some_and(|known| known.has_settled(None, now, settle)) {
                self.files.remove(&key);
                changed = true;
            }
        }
        changed |= self.unlisted != unlisted;
        self.unlisted = unlisted;
        changed && self.put_in_force()
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
                    let text = format!("is in {} already, which counts; remove one of the two", first.display());
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

impl Known {
    /// Reads the file if it changed and has settled. Returns whether there is news.
    fn look(&mut self, file: &Path, now: Instant, settle: Duration) -> bool {
        let signature = match signature(file) {
            Ok(signature) => signature,
            Err(error) => return self.cannot_read(file, &error),
        };
        if !self.unreadable {
            if signature == self.signature && signature.is_some() {
                self.pending = None;
                return false;
            }
            if !self.has_settled(signature, now, settle) {
                return false;
            }
        }
        self.pending = None;
        // At the start nothing is waited for. What was written just before is then read once more: it may have been half
        // written, and a clock tick is too coarse to show what came after.
        self.signature = signature.filter(|_| !(settle.is_zero() && is_fresh(file)));
        match read(file, false) {
            Ok(content) => {
                self.take(content, file);
                true
            }
            Err(error) => self.cannot_read(file, &error),
        }
    }

    fn has_settled(&mut self, signature: Signature, now: Instant, settle: Duration) -> bool {
        let seen = Pending { signature, first_seen: now, unchanged_since: now };
        let pending = self.pending.get_or_insert(seen);
        if pending.signature != signature {
            *pending = Pending { first_seen: pending.first_seen, ..seen };
        }
        now.duration_since(pending.unchanged_since) >= settle || now.duration_since(pending.first_seen) >= PATIENCE
    }

    /// Keeps what the file had. Returns whether that is news.
    fn cannot_read(&mut self, file: &Path, error: &io::Error) -> bool {
        self.unreadable = true;
        let kept = if self.objects.is_empty() { "" } else { "; its last good content stays in force" };
        let problem = unreadable(file, error);
        let notes = vec![Problem { text: format!("{}{kept}", problem.text), ..problem }];
        std::mem::replace(&mut self.notes, notes) != self.notes
    }

    /// Takes what the file holds now.
    fn take(&mut self, content: Content, file: &Path) {
        let before = std::mem::take(&mut self.objects);
        self.unreadable = false;
        self.refused.clear();
        self.notes = content.notes;
        for (key, content) in content.objects {
            if self.objects.contains_key(&key) || self.refused.contains_key(&key) {
                let text = "is in this file twice; the later one counts";
                self.notes.push(Problem::of_object(Severity::Warning, &key, text).in_file(file));
            }
            match content {
                Ok(parsed) => {
                    self.refused.remove(&key);
                    self.objects.insert(key, parsed);
                }
                Err(refusal) => {
                    self.refused.insert(key, refusal);
                }
            }
        }
        for (key, parsed) in before {
            let is_kept = content.broken || self.refused.contains_key(&key);
            if is_kept {
                self.objects.entry(key).or_insert(parsed);
            }
        }
    }
}
