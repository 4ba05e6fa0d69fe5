//! What is wrong with an object or a file, in words for the person who wrote it. Problems never stop anything: the rest
//! takes effect, and `check`, `status` and `services` list them.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::parse::ObjectKey;
use crate::plain;

/// How much of the object is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Nothing that Ringway could use: another kind of object in a manifest, for example.
    Note,
    /// A part of the object or of the file does not count; the rest does.
    Warning,
    /// The object or the file is refused as a whole; its last good content stays, if there is any.
    Refused,
}

impl Severity {
    /// The word in text output.
    pub const fn label(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Refused => "refused",
        }
    }
}

/// One thing that is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// How much is lost.
    pub severity: Severity,
    /// The object, when it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectKey>,
    /// The file, when the object came from one or never became one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// What is wrong, with the value, and what to do.
    pub text: String,
}

impl Problem {
    /// A problem of an object.
    pub fn of_object(severity: Severity, object: &ObjectKey, text: impl Into<String>) -> Self {
        Problem { severity, object: Some(object.clone()), file: None, text: text.into() }
    }

    /// A problem of a file.
    pub fn of_file(severity: Severity, file: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Problem { severity, object: None, file: Some(file.into()), text: text.into() }
    }

    /// A problem of the source as a whole: objects may be missing.
    pub fn of_source(text: impl Into<String>) -> Self {
        Problem { severity: Severity::Refused, object: None, file: None, text: text.into() }
    }

    /// The same problem, found in `file`.
    pub fn in_file(self, file: impl Into<PathBuf>) -> Self {
        Problem { file: Some(file.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", plain::path(file))?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        let text = plain::line(&self.text);
        match self.severity {
            // Of a source as a whole the text says what became of it.
            Severity::Refused if self.file.is_some() || self.object.is_some() => write!(f, "refused: {text}"),
            Severity::Refused | Severity::Warning | Severity::Note => f.write_str(&text),
        }
    }
}

/// Logs what is newly wrong, and what no longer is; of each so many at `most`, since `status` has them all.
pub fn tell_changes<'p>(
    most: usize,
    before: impl IntoIterator<Item = &'p Problem>,
    now: impl IntoIterator<Item = &'p Problem>,
) {
    let [before, now]: [Vec<&Problem>; 2] = [before.into_iter().collect(), now.into_iter().collect()];
    let (more, mut fewer) = (not_among(&now, &before), not_among(&before, &now));
    fewer.retain(|problem| problem.severity != Severity::Note);
    for problem in more.iter().take(most) {
        match problem.severity {
            Severity::Note => tracing::info!("{problem}"),
            Severity::Warning | Severity::Refused => tracing::warn!("{problem}"),
        }
    }
    fewer.iter().take(most).for_each(|problem| tracing::info!("no longer: {problem}"));
    let untold = more.len().saturating_sub(most) + fewer.len().saturating_sub(most);
    if untold > 0 {
        tracing::warn!("{untold} more problems came or went; ringway status lists those that are there");
    }
}

/// Logs changes of problems at a pace that can be read; `status` has all that are there.
#[derive(Debug)]
pub struct Voice {
    /// Lines that may still be logged since `began`.
    left: usize,
    began: Instant,
    untold: usize,
}

impl Voice {
    /// So many in [`Self::WHILE`]: a first list may bring many.
    const LINES: usize = 200;
    const WHILE: Duration = Duration::from_secs(10);

    /// Nothing was logged yet.
    pub fn new() -> Self {
        Voice { left: Self::LINES, began: Instant::now(), untold: 0 }
    }

    /// Logs what is newly wrong, and what no longer is.
    pub fn tell_changes<'p>(
        &mut self,
        before: impl IntoIterator<Item = &'p Problem>,
        now: impl IntoIterator<Item = &'p Problem>,
    ) {
        let [before, now]: [Vec<&Problem>; 2] = [before.into_iter().collect(), now.into_iter().collect()];
        let count = not_among(&now, &before).len() + not_among(&before, &now).len();
        if self.left == 0 {
            self.untold += count;
        } else {
            tell_changes(self.left, before, now);
            self.left = self.left.saturating_sub(count);
        }
    }

    /// To be called now and then: says how much was not said, once more may be said.
    pub fn catch_up(&mut self) {
        if self.began.elapsed() < Self::WHILE {
            return;
        }
        (self.left, self.began) = (Self::LINES, Instant::now());
        if self.untold > 0 {
            tracing::warn!("{} more problems came or went; ringway status lists those that are there", self.untold);
            self.untold = 0;
        }
    }
}

impl Default for Voice {
    fn default() -> Self {
        Self::new()
    }
}

/// Those that are not in `other`, each once, in their order.
fn not_among<'p>(problems: &[&'p Problem], other: &[&'p Problem]) -> Vec<&'p Problem> {
    let mut known: HashSet<&Problem> = other.iter().copied().collect();
    problems.iter().copied().filter(|problem| known.insert(problem)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told_and_only_once() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Problem::of_file(Severity::Warning, "x.yaml", text));
        assert_eq!(not_among(&[&a, &b, &c, &b.clone()], &[&c.clone()]), [&a, &b]);
        assert_eq!(not_among(&[&c], &[&a, &b, &c]), Vec::<&Problem>::new());
    }
}
