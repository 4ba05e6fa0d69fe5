//! A file as it was read last, with the memory that last good content needs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::readers::Ticket;
use super::{Content, PATIENCE, PATIENCE_FOR_READING, SETTLE, unreadable};
use crate::parse::{ObjectKey, Parsed, Refusal};
use crate::problem::{Problem, Severity};

/// What tells one state of a file from another without reading it; `None` for a file that is not there.
pub(super) type Signature = Option<(u64, u64, u64, i64, i64, i64, i64)>;

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
pub(super) struct Known {
    signature: Signature,
    /// The last attempt to read it failed; it is tried again at every look.
    unreadable: bool,
    /// Its objects in force or ready to be.
    pub(super) objects: BTreeMap<ObjectKey, Parsed>,
    /// Objects of it that were refused; their last good content may be among `objects`.
    pub(super) refused: BTreeMap<ObjectKey, Refusal>,
    pub(super) notes: Vec<Problem>,
    /// A change that was seen and is not read yet.
    pub(super) pending: Option<Pending>,
    /// It is being read: which attempt that is, and of what.
    pub(super) reading: Option<(Ticket, Signature)>,
    /// And it has not given anything for a while.
    hangs: bool,
}

/// What to do about a file after a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Same,
    /// Something about it is new.
    News,
    /// To read it.
    Read(Signature),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    signature: Signature,
    first_seen: Instant,
    unchanged_since: Instant,
}

impl Known {
    /// Looks whether the file changed and has settled.
    pub(super) fn look(&mut self, file: &Path, now: Instant, settle: Duration) -> Look {
        let signature = match signature(file) {
            Ok(signature) => signature,
            Err(error) => return if self.cannot_read(file, &error) { Look::News } else { Look::Same },
        };
        // What changes while it is read is read once more afterwards; what hangs is waited for only as long as it is there.
        if self.reading.is_some_and(|(_, of)| of == signature || !self.hangs) {
            return Look::Same;
        }
        if !self.unreadable {
            if signature == self.signature && signature.is_some() {
                self.pending = None;
                return Look::Same;
            }
            if !self.has_settled(signature, now, settle) {
                return Look::Same;
            }
        }
        self.pending = None;
        // At the start nothing is waited for. What was written just before is then read once more: it may have been half
        // written, and a clock tick is too coarse to show what came after.
        self.signature = signature.filter(|_| !(settle.is_zero() && is_fresh(file)));
        Look::Read(signature)
    }

    /// The file was read, or could not be. Returns whether there is news.
    pub(super) fn is_read(&mut self, outcome: io::Result<Content>, file: &Path) -> bool {
        (self.reading, self.hangs) = (None, false);
        match outcome {
            Ok(content) => {
                self.take(content, file);
                true
            }
            Err(error) => self.cannot_read(file, &error),
        }
    }

    /// It has not given anything for a while. Returns whether that is news.
    pub(super) fn hangs(&mut self, file: &Path) -> bool {
        self.hangs = true;
        let text = format!(
            "it has given nothing for more than {} s (is it on a file server that is away?); it is still waited for",
            PATIENCE_FOR_READING.as_secs()
        );
        self.cannot_read(file, &io::Error::other(text))
    }

    pub(super) fn has_settled(&mut self, signature: Signature, now: Instant, settle: Duration) -> bool {
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex};

    use super::super::super::readers::Readers;
    use super::super::{FileSource, read};
    use super::*;
    use crate::source::open::Named;

    #[test]
    fn a_file_that_hangs_is_told_and_taken_when_it_comes_after_all() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let text = format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}");
            fs::write(folder.path().join(format!("{name}.yaml")), text).unwrap();
        }
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let closed = gate.clone();
        let mut source = FileSource::unread(vec![folder.path().to_owned()], || ());
        source.readers = Readers::new(Duration::from_millis(50), move |file, reading| {
            if file.ends_with("a.yaml") {
                let (is_open, opened) = &*closed;
                drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
            }
            read(file, Named::ByOthers, reading)
        });
        source.first();
        let told = |source: &FileSource| -> (Vec<String>, Vec<String>) {
            let cluster = source.cluster();
            (cluster.keys().map(|key| key.to_string()).collect(), cluster.problems().map(ToString::to_string).collect())
        };
        let (nodes, problems) = told(&source);
        assert_eq!(nodes, ["Node b"]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].contains("a.yaml: refused: cannot be read: it has given nothing for more than 5 s"),
            "{problems:?}"
        );
        let (is_open, opened) = &*gate;
        *is_open.lock().unwrap() = true;
        opened.notify_all();
        while told(&source).0.len() < 2 {
            source.refresh(Instant::now());
        }
        assert_eq!(told(&source), (vec!["Node a".to_owned(), "Node b".to_owned()], vec![]));
    }
}
