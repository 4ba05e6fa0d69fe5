//! One page of a list, read while it comes in: each object is handed on as soon as it is whole, and forgotten. So a page
//! of any size takes no more memory than its largest object.

use std::mem;

/// The longest member of a page beside its objects: `metadata` with a continue token, mostly.
const LONGEST_MEMBER: usize = 64 << 10;

/// The longest key.
const LONGEST_KEY: usize = 1 << 10;

/// What a scratch buffer may keep for the next object.
const KEPT: usize = 256 << 10;

/// Something in a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    /// An object, as JSON. Whether it is, is for the receiver to find out.
    Object(&'t [u8]),
    /// An object that is longer than one may be.
    TooLong,
}

/// Where the scanner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the page's brace.
    Start,
    /// Before a key, a comma or the last brace.
    Key,
    /// After a key.
    Colon,
    /// Before the value of a key.
    Value,
    /// In the list of objects, before one, a comma or the bracket.
    Items,
    /// In the value of a key.
    InKey,
    InValue,
    InObject,
    /// After the last brace.
    End,
}

/// Reads a page in pieces of any size.
pub(super) struct PageReader {
    at: At,
    longest: usize,
    key: Vec<u8>,
    /// The value that is being read, as far as it came with earlier pieces.
    text: Vec<u8>,
    too_long: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
    head: Head,
    has_items: bool,
}

/// What a page has beside its objects, as JSON.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) api_version: Option<Vec<u8>>,
    pub(super) kind: Option<Vec<u8>>,
    pub(super) metadata: Option<Vec<u8>>,
}

impl Head {
    /// The member of this name, of those that somebody asks for.
    fn member(&mut self, key: &[u8]) -> Option<&mut Option<Vec<u8>>> {
        match key {
            b"apiVersion" => Some(&mut self.api_version),
            b"kind" => Some(&mut self.kind),
            b"metadata" => Some(&mut self.metadata),
            _ => None,
        }
    }
}

impl PageReader {
    /// `longest` is the longest object.
    pub(super) fn new(longest: usize) -> Self {
        PageReader {
            at: At::Start,
            longest,
            key: Vec::new(),
            text: Vec::new(),
            too_long: false,
            depth: 0,
            in_string: false,
            escaped: false,
            head: Head::default(),
            has_items: false,
        }
    }

    /// Reads the next piece.
    pub(super) fn read<E: From<Malformed>>(
        &mut self,
        mut piece: &[u8],
        mut part: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(&byte) = piece.first() {
            if matches!(self.at, At::InKey | At::InValue | At::InObject) {
                let (length, is_whole) = self.scan(piece);
                let (of_value, rest) = piece.split_at(length);
                piece = rest;
                if is_whole {
                    self.finish_value(of_value, &mut part)?;
                } else {
                    self.keep(of_value)?;
                }
                continue;
            }
            if byte.is_ascii_whitespace() {
                piece = &piece[1..];
                continue;
            }
            match (self.at, byte) {
                (At::Start, b'{') => self.at = At::Key,
                (At::Key, b'"') => {
                    self.begin(At::InKey);
                    continue;
                }
                (At::Key | At::Items, b',') => {}
                (At::Key, b'}') => self.at = At::End,
                (At::Colon, b':') => self.at = At::Value,
                (At::Value, b'[') if self.key == b"items" => {
                    self.has_items = true;
                    self.at = At::Items;
                }
                (At::Value, _) => {
                    self.begin(At::InValue);
                    continue;
                }
                (At::Items, b']') => self.at = At::Key,
                (At::Items, b'{') => {
                    self.begin(At::InObject);
                    continue;
                }
                _ => return Err(Malformed("it is no list in JSON".into()).into()),
            }
            piece = &piece[1..];
        }
        Ok(())
    }

    /// What a page that is over has beside its objects.
    pub(super) fn finish(self) -> Result<Head, Malformed> {
        if self.at != At::End {
            return Err(Malformed("it ends in the middle".into()));
        }
        // An answer without items is no list, and must not be taken for an empty one.
        if !self.has_items {
            return Err(Malformed("it has no items".into()));
        }
        Ok(self.head)
    }

    fn begin(&mut self, at: At) {
        (self.at, self.depth, self.in_string, self.escaped, self.too_long) = (at, 0, false, false, false);
        self.text.clear();
    }

    /// How much of a piece belongs to the value that is being read, and whether it is whole with it.
    fn scan(&mut self, piece: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            if self.escaped {
                self.escaped = false;
                at += 1;
                continue;
            }
            let stops: fn(u8) -> bool = if self.in_string {
                |byte| matches!(byte, b'"' | b'\\')
            } else {
                |byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b',')
            };
            let Some(found) = rest.iter().position(|byte| stops(*byte)) else { return (piece.len(), false) };
            at += found;
            match rest[found] {
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = !self.in_string;
                    if !self.in_string && self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                b'{' | b'[' => self.depth += 1,
                // The end of what is around a number or a word.
                b'}' | b']' | b',' if self.depth == 0 => return (at, true),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        (piece.len(), false)
    }

    fn longest(&self) -> usize {
        match self.at {
            At::InKey => LONGEST_KEY,
            At::InObject => self.longest,
            _ => LONGEST_MEMBER,
        }
    }

    fn keep(&mut self, of_value: &[u8]) -> Result<(), Malformed> {
        if self.text.len() + of_value.len() > self.longest() {
            self.too_long = true;
            self.text = Vec::new();
            if self.at == At::InKey {
                return Err(Malformed(format!("a key is longer than {LONGEST_KEY} bytes")));
            }
        }
        if !self.too_long {
            self.text.extend_from_slice(of_value);
        }
        Ok(())
    }

    fn finish_value<E: From<Malformed>>(
        &mut self,
        of_value: &[u8],
        part: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let is_alone = self.text.is_empty() && !self.too_long && of_value.len() <= self.longest();
        if !is_alone {
            self.keep(of_value)?;
        }
        let text: &[u8] = if is_alone { of_value } else { &self.text };
        match self.at {
            At::InKey => {
                let key = text.to_vec();
                self.key = key.get(1..key.len().saturating_sub(1)).unwrap_or_default().to_vec();
                self.at = At::Colon;
            }
            At::InObject => {
                part(if self.too_long { Part::TooLong } else { Part::Object(text) })?;
                self.at = At::Items;
            }
            _ => {
                if let Some(member) = self.head.member(&self.key) {
                    if self.too_long {
                        let key = String::from_utf8_lossy(&self.key);
                        return Err(Malformed(format!("{key} is longer than {LONGEST_MEMBER} bytes")).into());
                    }
                    *member = Some(text.to_vec());
                }
                // Go writes an empty list as `[]` or as `null`.
                self.has_items |= self.key == b"items" && text.trim_ascii() == b"null";
                self.at = At::Key;
            }
        }
        self.text.clear();
        if self.text.capacity() > KEPT {
            drop(mem::take(&mut self.text));
        }
        Ok(())
    }
}

/// A page that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

#[cfg(test)]
mod tests {
    use super::*;

    /// The objects and the metadata of a page that comes in pieces of `size`.
    fn read(text: &str, size: usize, longest: usize) -> Result<(Vec<String>, String), String> {
        let mut reader = PageReader::new(longest);
        let mut objects = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            let taken = reader.read(piece, |part| {
                objects.push(match part {
                    Part::Object(text) => String::from_utf8(text.to_vec()).unwrap(),
                    Part::TooLong => "too long".to_owned(),
                });
                Ok::<(), Malformed>(())
            });
            taken.map_err(|malformed| malformed.0)?;
        }
        let head = reader.finish().map_err(|malformed| malformed.0)?;
        Ok((objects, String::from_utf8(head.metadata.unwrap_or_else(|| b"{}".to_vec())).unwrap()))
    }

    #[test]
    fn objects_are_whole_however_the_page_is_cut() {
        let text = r#" {"kind":"List","x":[{"items":[1]},"}"],"n":12 ,"metadata":{"continue":"a\"}","resourceVersion":"7"},
            "items":[{"a":"]}\\\""},{"b":[{},[{"c":"\\"}]]} , {}],"last":null}  "#;
        let objects = [r#"{"a":"]}\\\""}"#, r#"{"b":[{},[{"c":"\\"}]]}"#, "{}"];
        let metadata = r#"{"continue":"a\"}","resourceVersion":"7"}"#;
        for size in 1..text.len() + 1 {
            let (found, of_page) = read(text, size, 1_000).unwrap();
            assert_eq!(found, objects, "pieces of {size}");
            assert_eq!(of_page, metadata);
        }
    }

    #[test]
    fn what_is_no_list_is_told() {
        for text in [
            "",
            "<html>",
            "[]",
            "7",
            "{",
            r#"{"items":[{}"#,
            r#"{"items":[{}]"#,
            r#"{"items":[7]}"#,
            r#"{"items":7}"#,
            r#"{"kind":"Status"}"#,
            "{}",
            r#"{"items":[]} x"#,
        ] {
            for size in [1, 1_000] {
                assert!(read(text, size, 100).is_err(), "{text}");
            }
        }
        for text in [r#"{"items":null}"#, r#"{"items":[]}"#] {
            assert_eq!(read(text, 3, 100), Ok((vec![], "{}".to_owned())));
        }
    }

    #[test]
    fn what_is_too_long_is_left_out_and_the_rest_goes_on() {
        let text = format!(r#"{{"items":[{{}},{{"a":"{}"}},{{"b":1}}],"metadata":{{}}}}"#, "x".repeat(100));
        for size in [1, 7, 1_000] {
            let (objects, _) = read(&text, size, 50).unwrap();
            assert_eq!(objects, ["{}", "too long", r#"{"b":1}"#], "pieces of {size}");
        }
        let long = "x".repeat(LONGEST_MEMBER + 1);
        assert!(read(&format!(r#"{{"items":[],"metadata":{{"a":"{long}"}}}}"#), 900, 50).is_err());
        assert!(read(&format!(r#"{{"{long}":1,"items":[]}}"#), 900, 50).is_err());
        assert!(read(&format!(r#"{{"kind":"{long}","items":[]}}"#), 900, 50).is_err());
        assert!(read(&format!(r#"{{"more":"{long}","items":[]}}"#), 900, 50).is_ok(), "nobody asks for it");
    }
}
