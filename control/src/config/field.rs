//! Reads a document key by key, and remembers every problem with its path and line instead of stopping at the first.

use std::cell::RefCell;
use std::fmt;

use crate::plain;

use super::document::{Content, Entry, Node, Position};

/// Something wrong at one place of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key with its path, as `interfaces[0].xdp`; empty for the document itself.
    pub path: String,
    /// Where it stands; `None` for a key that is not there.
    pub position: Option<Position>,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Collects the problems of one document.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, path: &str, position: Option<Position>, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem { path: path.to_owned(), position, message: message.into() });
    }

    pub(super) fn into_inner(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A value under a known key.
#[derive(Clone)]
pub(super) struct Field<'d> {
    path: String,
    node: &'d Node,
    problems: &'d Problems,
}

impl<'d> Field<'d> {
    /// The whole document.
    pub(super) fn root(node: &'d Node, problems: &'d Problems) -> Self {
        Field { path: String::new(), node, problems }
    }

    /// Says what is wrong with this value.
    pub(super) fn problem(&self, message: impl Into<String>) {
        self.problems.add(&self.path, Some(self.node.position), message);
    }

    /// The mapping that this value must be.
    pub(super) fn map(&self) -> Option<Map<'d>> {
        let entries = match &self.node.content {
            Content::Map(entries) => &entries[..],
            Content::Null => &[],
            other => {
                self.problem(format!("{}, where keys with values are expected", said(other)));
                return None;
            }
        };
        Some(Map { field: self.clone(), entries, asked: RefCell::default() })
    }

    /// The items of the list that this value must be.
    pub(super) fn list(&self) -> Option<Vec<Field<'d>>> {
        let Content::List(items) = &self.node.content else {
            self.problem(format!("{}, where a list is expected: write [a, b]", said(&self.node.content)));
            return None;
        };
        Some((0..).zip(items).map(|(at, node)| self.item(at, node)).collect())
    }

    /// The items of a list, or the one value that stands for a list of one.
    pub(super) fn one_or_more(&self) -> Option<Vec<Field<'d>>> {
        if matches!(self.node.content, Content::Scalar(_)) { Some(vec![self.clone()]) } else { self.list() }
    }

    fn item(&self, at: usize, node: &'d Node) -> Field<'d> {
        Field { path: format!("{}[{at}]", self.path), node, problems: self.problems }
    }

    /// The text that this value must be.
    pub(super) fn text(&self) -> Option<&'d str> {
        match &self.node.content {
            Content::Scalar(text) => Some(text),
            other => {
                self.problem(format!("{}, where one value is expected", said(other)));
                None
            }
        }
    }

    /// The value as `parse` reads it. Its error continues the sentence that begins with the value.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text()?;
        parse(text).map_err(|error| self.problem(format!("{text:?} {error}"))).ok()
    }

    /// Every item of a list as `parse` reads it; items that it refuses are left out.
    pub(super) fn parse_list<T>(&self, mut parse: impl FnMut(&str) -> Result<T, String>) -> Vec<T> {
        self.list().unwrap_or_default().iter().filter_map(|item| item.parse(&mut parse)).collect()
    }
}

fn said(content: &Content) -> String {
    match content {
        Content::Null => "nothing is said".to_owned(),
        Content::Scalar(text) => format!("{text:?} is one value"),
        Content::List(_) => "this is a list".to_owned(),
        Content::Map(_) => "these are keys with values".to_owned(),
    }
}

/// A mapping. Every key that is asked for is an allowed one; [`Map::finish`] reports the others.
pub(super) struct Map<'d> {
    field: Field<'d>,
    entries: &'d [Entry],
    asked: RefCell<Vec<&'static str>>,
}

impl<'d> Map<'d> {
    fn path(&self, key: &str) -> String {
        let key = plain::line(key);
        if self.field.path.is_empty() { key.into_owned() } else { format!("{}.{key}", self.field.path) }
    }

    /// The value of `key`, unless it is missing or null, which is the same.
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'d>> {
        self.get_even_null(key).filter(|field| !matches!(field.node.content, Content::Null))
    }

    /// The value of `key` when the key is there, whatever stands behind it.
    pub(super) fn get_even_null(&self, key: &'static str) -> Option<Field<'d>> {
        self.asked.borrow_mut().push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(Field { path: self.path(key), node: &entry.value, problems: self.field.problems })
    }

    /// The value of `key`, which has no default: `hint` says what to write.
    pub(super) fn require(&self, key: &'static str, hint: &str) -> Option<Field<'d>> {
        let field = self.get(key);
        if field.is_none() {
            self.missing(key, format!("missing; {hint}"));
        }
        field
    }

    /// Says what is wrong with a key that is not there.
    pub(super) fn missing(&self, key: &'static str, message: String) {
        let position = (!self.field.path.is_empty()).then_some(self.field.node.position);
        self.field.problems.add(&self.path(key), position, message);
    }

    /// The value of `key` as `parse` reads it, else the default.
    pub(super) fn value<T>(&self, key: &'static str, default: T, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        self.get(key).and_then(|field| field.parse(parse)).unwrap_or(default)
    }

    /// The mapping under `key`; `None` when it is missing or null.
    pub(super) fn map(&self, key: &'static str) -> Option<Map<'d>> {
        self.get(key)?.map()
    }

    /// Every key with its value: for mappings whose keys are free.
    pub(super) fn free(&self) -> impl Iterator<Item = (&'d str, Field<'d>)> + '_ {
        self.entries.iter().map(|entry| {
            let field = Field { path: self.path(&entry.key), node: &entry.value, problems: self.field.problems };
            (&*entry.key, field)
        })
    }

    /// Says what is wrong with the mapping as a whole.
    pub(super) fn problem(&self, message: impl Into<String>) {
        self.field.problem(message);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for entry in self.entries.iter().filter(|entry| !asked.contains(&&*entry.key)) {
            let allowed = asked.join(", ");
            let message = match nearest(&entry.key, &asked) {
                Some(nearest) => format!("unknown key; did you mean {nearest}? Allowed here: {allowed}"),
                None => format!("unknown key; allowed here: {allowed}"),
            };
            self.field.problems.add(&self.path(&entry.key), Some(entry.position), message);
        }
    }
}

/// The allowed key that `key` is probably meant to be.
fn nearest<'k>(key: &str, allowed: &[&'k str]) -> Option<&'k str> {
    let letters = |key: &str| {
        key.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    let wanted = letters(key);
    let best = allowed.iter().map(|allowed| (distance(&wanted, &letters(allowed)), *allowed)).min()?;
    // A third of the letters may be wrong before a guess misleads more than it helps.
    (best.0 <= wanted.len().div_ceil(3)).then_some(best.1)
}

/// How many letters must be added, removed, replaced or swapped with the next to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for (row, letter) in from.iter().enumerate() {
        let above = &rows[row];
        let mut next = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let mut best =
                (above[column] + usize::from(letter != other)).min(above[column + 1] + 1).min(next[column] + 1);
            if row > 0 && column > 0 && from[row - 1] == *other && to[column - 1] == *letter {
                best = best.min(rows[row - 1][column - 1] + 1);
            }
            next.push(best);
        }
        rows.push(next);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_guessed_only_when_it_is_near() {
        let allowed = ["name", "xdp", "zeroCopy"];
        assert_eq!(nearest("zero_copy", &allowed), Some("zeroCopy"));
        assert_eq!(nearest("xpd", &allowed), Some("xdp"));
        assert_eq!(nearest("nmae", &allowed), Some("name"));
        assert_eq!(nearest("timeouts", &allowed), None);
    }
}
