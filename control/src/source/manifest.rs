//! The text of a manifest to its objects: YAML with any number of documents, JSON, lists.
//!
//! Documents are parted before they are parsed, as kubectl does it, so that one broken document costs only itself.

use std::ops::ControlFlow;

use serde_json::Value;
use serde_saphyr::Options;

use crate::parse::{self, Document};

/// What a manifest holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Its documents in order; the items of a list count as documents of their own.
    pub documents: Vec<Document>,
    /// Documents that are not YAML or JSON: the line and what is wrong.
    pub broken: Vec<String>,
}

/// Reads the text of a manifest.
pub fn read(text: &str) -> Manifest {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut manifest = Manifest::default();
    if text.trim_start().starts_with('{') && json(text, &mut manifest).is_continue() {
        return manifest;
    }
    for (line, chunk) in chunks(text) {
        yaml(line, chunk, &mut manifest);
    }
    manifest
}

/// Reads one JSON value after the other. Breaks, with nothing taken, when the text is no JSON: it may be YAML still.
fn json(text: &str, manifest: &mut Manifest) -> ControlFlow<()> {
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value {
            Ok(value) => values.push(value),
            Err(_) => return ControlFlow::Break(()),
        }
    }
    for value in &values {
        parse::document(value, &mut manifest.documents);
    }
    ControlFlow::Continue(())
}

fn yaml(line: usize, chunk: &str, manifest: &mut Manifest) {
    match serde_saphyr::from_str_with_options::<Value>(chunk, options()) {
        Ok(Value::Null) => {}
        Ok(value) => parse::document(&value, &mut manifest.documents),
        Err(error) => {
            let at = error.location().map_or(line, |location| line + (location.line() as usize).saturating_sub(1));
            let text = error.without_snippet().to_string();
            // The location in the message counts from the start of the document, ours from the start of the file.
            let what = text.lines().next().unwrap_or("").split(" at line ").next().unwrap_or("").to_owned();
            manifest.broken.push(format!("line {at}: {what}"));
        }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        // `on` and `yes` stay texts here; where a boolean is wanted they are understood later.
        strict_booleans: true,
        emit_comments: false,
        with_snippet: false,
        // One file may hold a whole cluster. What aliases may multiply stays limited.
        budget: serde_saphyr::budget! {
            max_events: 50_000_000,
            max_nodes: 25_000_000,
            max_total_scalar_bytes: 1 << 30,
        },
    }
}

/// The documents of a YAML text with the lines they start on, those without content left out.
fn chunks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut starts = vec![(1, 0)];
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if marks(line, "---") {
            starts.push((index + 1, offset));
        } else if marks(line, "...") {
            starts.push((index + 2, offset + line.len()));
        }
        offset += line.len();
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(_, start)| *start).chain([text.len()]).collect();
    let chunks = starts.into_iter().zip(ends).filter_map(|((line, start), end)| Some((line, text.get(start..end)?)));
    chunks.filter(|(_, chunk)| !chunk.lines().all(is_blank))
}

/// Whether a line is the marker, alone or followed by a blank.
fn marks(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// A line without content: blank, a comment, a directive, a marker.
fn is_blank(line: &str) -> bool {
    let line = if marks(line, "---") || marks(line, "...") { line.get(3..).unwrap_or("") } else { line };
    let line = line.trim();
    line.is_empty() || line.starts_with(['#', '%'])
}
