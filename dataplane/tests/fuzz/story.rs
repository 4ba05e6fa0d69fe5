//! Stories: what happens to two workers, one event a line, and nothing else. A story is the input of the fuzzer, a file of the
//! corpus holds many, and people can read and write them:
//!
//! ```text
//! 0 outside tcp S 203.0.113.9:40000 > 172.30.0.41:80   a packet arrives at worker 0 (see `bed/text.rs`)
//! +1 answer 0 flags=SA bytes=9       in the same batch: what whoever got the frame that left last would answer
//! 0 error 1 3/4 mtu=1280 quote=28    what a router would say about the frame before that; `from=ADDRESS`
//! wait 1500                          milliseconds
//! use less                           another snapshot
//! ```
//!
//! What stands behind `|` happens to the frame then: `poke=OFFSET:HEX`, `cut=LENGTH`, `grow=LENGTH`, `mend` (the IPv4 header's
//! checksum), `pieces=SIZE:ORDER` (its fragments of SIZE bytes, each by a digit: 210 is three, the last first). Whatever does not
//! fit the frame does nothing. Stories are separated by empty lines, and `#` begins a line that tells what one is about.

use std::fmt;
use std::rc::Rc;

use ringway_shared::InterfaceId;

use crate::bed::{INTERFACES, text};

/// What happens, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Story {
    pub(crate) about: Vec<String>,
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Milliseconds.
    Wait(u32),
    /// A snapshot's name.
    Use(&'static str),
    Packet(Arrival),
}

/// A packet, or the fragments of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) worker: usize,
    /// In one batch with what came before.
    pub(crate) together: bool,
    pub(crate) what: What,
    pub(crate) changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Line {
        arrives: InterfaceId,
        text: String,
        frame: Rc<[u8]>,
    },
    /// Of the frame that left this many frames ago.
    Answer {
        age: usize,
        words: Vec<String>,
    },
    Error {
        age: usize,
        kind: u8,
        code: u8,
        words: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Poke(usize, Vec<u8>),
    Cut(usize),
    Grow(usize),
    Mend,
    Pieces(usize, Vec<u8>),
}

impl What {
    pub(crate) fn line(arrives: InterfaceId, text: &str) -> Self {
        What::Line { arrives, text: text.to_owned(), frame: text::frame(arrives, text).into() }
    }
}

impl Arrival {
    pub(crate) fn of(worker: usize, what: What) -> Self {
        Arrival { worker, together: false, what, changes: Vec::new() }
    }
}

/// The stories of a file.
pub(crate) fn read(file: &str, snapshots: &[&'static str]) -> Vec<Story> {
    let mut stories = vec![Story::default()];
    for line in file.lines().map(str::trim) {
        let last = stories.last_mut().unwrap();
        if line.is_empty() {
            if !last.events.is_empty() {
                stories.push(Story::default());
            }
        } else if let Some(about) = line.strip_prefix('#') {
            last.about.push(about.trim().to_owned());
        } else {
            last.events.push(event(line, snapshots));
        }
    }
    stories.retain(|story| !story.events.is_empty());
    stories
}

fn event(line: &str, snapshots: &[&'static str]) -> Event {
    let (first, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?} is no event"));
    match first {
        "wait" => Event::Wait(rest.parse().unwrap()),
        "use" => Event::Use(snapshots.iter().find(|name| **name == rest).unwrap_or_else(|| panic!("{line:?}"))),
        _ => {
            let (together, worker) = first.strip_prefix('+').map_or((false, first), |worker| (true, worker));
            let (rest, changes) = rest.split_once('|').unwrap_or((rest, ""));
            let worker = worker.parse().unwrap_or_else(|_| panic!("{line:?} is no event"));
            assert!(worker < 2, "there are two workers: {line:?}");
            let changes = changes.split_whitespace().map(change).collect();
            Event::Packet(Arrival { worker, together, what: what(rest.trim()), changes })
        }
    }
}

fn what(line: &str) -> What {
    let owned = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
    let words: Vec<&str> = line.split_whitespace().collect();
    match &words[..] {
        ["answer", age, words @ ..] => What::Answer { age: age.parse().unwrap(), words: owned(words) },
        ["error", age, type_and_code, words @ ..] => {
            let (kind, code) = type_and_code.split_once('/').unwrap();
            let [kind, code] = [kind, code].map(|number| number.parse().unwrap());
            What::Error { age: age.parse().unwrap(), kind, code, words: owned(words) }
        }
        [name, ..] => {
            let arrives = text::interface(name).unwrap_or_else(|| panic!("no interface {name:?}"));
            What::line(arrives, line[name.len()..].trim())
        }
        [] => panic!("no packet"),
    }
}

fn change(word: &str) -> Change {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{word:?} has no number"));
    match (key, value.split_once(':')) {
        ("poke", Some((at, bytes))) => Change::Poke(number(at), text::hex(bytes)),
        ("cut", None) => Change::Cut(number(value)),
        ("grow", None) => Change::Grow(number(value)),
        ("mend", None) => Change::Mend,
        ("pieces", Some((size, order))) => {
            let order = order.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
            Change::Pieces(number(size), order)
        }
        _ => panic!("{word:?} is no change"),
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.about.iter().try_for_each(|about| writeln!(f, "# {about}"))?;
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arrival { worker, together, what, changes } = match self {
            Event::Wait(millis) => return write!(f, "wait {millis}"),
            Event::Use(name) => return write!(f, "use {name}"),
            Event::Packet(arrival) => arrival,
        };
        write!(f, "{}{worker} {what}", if *together { "+" } else { "" })?;
        changes
            .iter()
            .enumerate()
            .try_for_each(|(at, change)| write!(f, "{} {change}", if at == 0 { " |" } else { "" }))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            What::Line { arrives, text, .. } => {
                return write!(f, "{} {text}", INTERFACES[usize::from(arrives.0)]);
            }
            What::Answer { age, words } => {
                write!(f, "answer {age}")?;
                words
            }
            What::Error { age, kind, code, words } => {
                write!(f, "error {age} {kind}/{code}")?;
                words
            }
        };
        words.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Poke(at, bytes) => {
                write!(f, "poke={at}:")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Change::Cut(length) => write!(f, "cut={length}"),
            Change::Grow(length) => write!(f, "grow={length}"),
            Change::Mend => write!(f, "mend"),
            Change::Pieces(size, order) => {
                write!(f, "pieces={size}:")?;
                order.iter().try_for_each(|digit| write!(f, "{digit:x}"))
            }
        }
    }
}
