//! A YAML document as a tree that remembers where everything stands, so that a message can name the line.
//!
//! Scalars stay text: what a value may be is for its key to say, not for YAML (`on`, `61000-65535`, `02:00:…`).

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Documents that people write are far below this; it bounds what anchors and aliases can multiply.
const MAX_NODES: usize = 100_000;

/// So many bytes of text that an alias repeats weigh as much as a node.
const BYTES_A_NODE: usize = 32;

/// Where something stands in the file; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    fn of(span: &Span) -> Self {
        Position { line: span.start.line(), column: span.start.col() + 1 }
    }
}

/// A value in the document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) value: Node,
}

/// Why a text is no document that configures anything.
pub(super) struct Malformed {
    pub(super) position: Option<Position>,
    pub(super) message: String,
}

impl From<ScanError> for Malformed {
    fn from(error: ScanError) -> Self {
        let position = Position { line: error.marker().line(), column: error.marker().col() + 1 };
        Malformed { position: Some(position), message: format!("not valid YAML: {}", error.info()) }
    }
}

/// The one document in `text`; `None` when there is nothing but comments.
pub(super) fn load(text: &str) -> Result<Option<Node>, Malformed> {
    let mut loader = Loader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut document = None;
    while let Some((event, span)) = loader.next()? {
        match event {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd | Event::StreamEnd => {}
            _ if document.is_some() => {
                let message = "a second document begins here; the configuration is one document".to_owned();
                return Err(Malformed { position: Some(Position::of(&span)), message });
            }
            event => document = Some(loader.node(event, &span)?),
        }
    }
    Ok(document)
}

struct Loader<'t, I: serde_saphyr::granit_parser::input::BorrowedInput<'t>> {
    parser: Parser<'t, I>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t, I: serde_saphyr::granit_parser::input::BorrowedInput<'t>> Loader<'t, I> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Malformed> {
        loop {
            match self.parser.next_event().transpose()? {
                Some((Event::Comment(..), _)) => {}
                other => return Ok(other),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: &Span) -> Result<Node, Malformed> {
        let position = Position::of(span);
        let malformed = |message: &str| Malformed { position: Some(position), message: message.to_owned() };
        let too_large = || malformed("the document is too large for a configuration");
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(too_large());
        }
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (if null { Content::Null } else { Content::Scalar(text.into_owned()) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (Content::List(self.list()?), anchor),
            Event::MappingStart(_, anchor, _) => (Content::Map(self.map()?), anchor),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).ok_or_else(|| malformed("this alias names no earlier value"))?;
                self.nodes += size(node);
                if self.nodes > MAX_NODES {
                    return Err(too_large());
                }
                (node.content.clone(), 0)
            }
            _ => return Err(malformed("a value was expected here")),
        };
        let node = Node { position, content };
        if anchor != 0 {
            self.nodes += size(&node);
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Vec<Node>, Malformed> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.node(event, &span)?);
        }
        Ok(items)
    }

    fn map(&mut self) -> Result<Vec<Entry>, Malformed> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some((event, span)) = self.next()? {
            let position = Position::of(&span);
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Malformed { position: Some(position), message: "a key must be a plain word".into() }),
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let message = format!(
                    "the key {} stands here for the second time; first on line {}",
                    crate::plain::line(&key),
                    first.position.line
                );
                return Err(Malformed { position: Some(position), message });
            }
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, &span)?;
            entries.push(Entry { key, position, value });
        }
        Ok(entries)
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.content {
        Content::Null => 0,
        Content::Scalar(text) => text.len() / BYTES_A_NODE,
        Content::List(items) => items.iter().map(size).sum(),
        Content::Map(entries) => entries.iter().map(|entry| entry.key.len() / BYTES_A_NODE + size(&entry.value)).sum(),
    }
}
