//! The text of a manifest to its objects: YAML with any number of documents, JSON, lists.
//!
//! Documents are parted before they are parsed, as kubectl does it, so that one broken document costs only itself.

use std::ops::ControlFlow;

use serde_saphyr::Options;

use crate::parse::{Document, MOST_MEMORY, Streamed, too_much};

/// What a manifest holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Its documents in order; the items of a list count as documents of their own.
    pub documents: Vec<Document>,
    /// Documents that are not YAML or JSON: the line and what is wrong. Of very many the first ones, and how many more.
    pub broken: Vec<String>,
}

/// So many broken documents are told one by one.
const TOLD: usize = 20;

/// The longest that is told of one, in characters.
const LONGEST: usize = 300;

/// Reads the text of a manifest.
pub fn read(text: &str) -> Manifest {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut manifest = Manifest::default();
    if text.trim_start().starts_with('{') && json(text, &mut manifest).is_continue() {
        return manifest;
    }
    let (mut memory, mut counted, mut more) = (0, 0, 0);
    for (line, chunk) in chunks(text) {
        more += usize::from(!yaml(line, chunk, &mut manifest));
        memory += manifest.documents[counted..].iter().map(Document::weight).sum::<usize>();
        counted = manifest.documents.len();
        if memory > MOST_MEMORY {
            manifest.broken.push(format!("line {line}: {}", too_much()));
            break;
        }
    }
    if more > 0 {
        manifest.broken.push(format!("and {more} more documents like these, which are only counted"));
    }
    manifest
}

/// Reads one JSON value after the other. Breaks, with nothing taken, when the text is no JSON: it may be YAML still.
fn json(text: &str, manifest: &mut Manifest) -> ControlFlow<()> {
    let mut documents = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Streamed>() {
        match value {
            Ok(Streamed(of_value)) => documents.extend(of_value),
            Err(_) => return ControlFlow::Break(()),
        }
    }
    manifest.documents.extend(documents);
    ControlFlow::Continue(())
}

/// Reads one document. False where it is broken and not told, since many were before it.
fn yaml(line: usize, chunk: &str, manifest: &mut Manifest) -> bool {
    match serde_saphyr::from_str_with_options::<Streamed>(chunk, options(chunk)) {
        Ok(Streamed(documents)) => manifest.documents.extend(documents),
        Err(_) if manifest.broken.len() >= TOLD => return false,
        Err(error) => {
            let at = error.location().map_or(line, |location| line + (location.line() as usize).saturating_sub(1));
            let text = error.without_snippet().to_string();
            // The location in the message counts from the start of the document, ours from the start of the file.
            let what = text.lines().next().unwrap_or("").split(" at line ").next().unwrap_or("");
            // This message ends in advice for programmers.
            let what = match what.strip_prefix("duplicate mapping key: ").and_then(|rest| rest.split(", set ").next()) {
                Some(key) => format!("the key {key} stands here for the second time; remove one"),
                None if MULTIPLIES.iter().any(|word| what.contains(word)) => {
                    "its anchors and aliases multiply it beyond measure; write out what they stand for".to_owned()
                }
                None => what.to_owned(),
            };
            let end = what.char_indices().nth(LONGEST).map_or("", |_| "…");
            let what: String = what.chars().take(LONGEST).collect();
            manifest.broken.push(format!("line {at}: {what}{end}"));
        }
    }
    true
}

/// Of the messages about that.
const MULTIPLIES: [&str; 5] =
    ["alias replay limit", "breached: Recorded", "breached: ScalarBytes", "breached: Alias", "breached: Events"];

/// What aliases may add to a document: events, and bytes of text.
const MULTIPLIED: [usize; 2] = [200_000, 16 << 20];

/// A document without aliases has no more events and text than it has bytes, so that aliases cannot multiply what one file
/// of a whole cluster may hold.
fn options(chunk: &str) -> Options {
    let [events, bytes] = MULTIPLIED;
    // `{a}` has four events.
    let own_events = chunk.len().saturating_mul(2);
    serde_saphyr::options! {
        // `on` and `yes` stay texts here; where a boolean is wanted they are understood later.
        strict_booleans: true,
        emit_comments: false,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: own_events.saturating_add(events).min(50_000_000),
            max_nodes: own_events.saturating_add(events).min(25_000_000),
            max_total_scalar_bytes: chunk.len().saturating_add(bytes).min(1 << 30),
            max_recorded_anchor_events: events,
            max_recorded_anchor_bytes: bytes,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: events },
    }
}

/// The documents of a YAML text with the lines they start on, those without content left out.
fn chunks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut line, mut rest) = (1, Some(text));
    let chunks = std::iter::from_fn(move || {
        let (first, text) = (line, rest.take()?);
        let mut end = 0;
        for (index, of_text) in text.split_inclusive('\n').enumerate() {
            let ends = marks(of_text, "...");
            if ends || (index > 0 && marks(of_text, "---")) {
                end += if ends { of_text.len() } else { 0 };
                line += index + usize::from(ends);
                rest = text.get(end..);
                return Some((first, text.get(..end)?));
            }
            end += of_text.len();
        }
        Some((first, text))
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: n}}";

    /// Names of taken objects, `refused`, or the words of what was skipped; then what is broken.
    fn outline(text: &str) -> Vec<String> {
        let manifest = read(text);
        let documents = manifest.documents.into_iter().map(|document| match document {
            Document::Taken(parsed) => parsed.key.to_string(),
            Document::Refused(key, refusal) => format!("refused {key:?}: {refusal}"),
            Document::Skipped(why) => why,
        });
        documents.chain(manifest.broken.into_iter().map(|what| format!("broken {what}"))).collect()
    }

    #[test]
    fn documents_are_parted_as_kubectl_does_it() {
        for (text, expected) in [
            (String::new(), 0),
            ("# nothing\n---\n---\n\n# more\n...\n".into(), 0),
            ("null\n---\n~\n".into(), 0),
            (NODE.into(), 1),
            (format!("---\n{NODE}"), 1),
            (format!("--- {NODE}\n--- # comment\n{NODE}\n"), 2),
            (format!("%YAML 1.2\n---\n{NODE}\n...\n{NODE}\n"), 2),
            (format!("\u{feff}{NODE}\r\n---\r\n{NODE}\r\n"), 2),
            // Inside of a text the marker is none.
            ("apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  annotations:\n    a: |\n      x\n      ---\n      y\n".into(), 1),
            ("apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec: {providerID: ---x}\n".into(), 1),
        ] {
            assert_eq!(outline(&text), vec!["Node n"; expected], "{text:?}");
        }
    }

    #[test]
    fn of_very_many_broken_documents_a_few_are_told_and_the_rest_is_counted() {
        let outline = outline(&(format!("{NODE}\n") + &"---\n]\n".repeat(1000) + "---\n" + NODE));
        assert_eq!((outline.len(), &*outline[0], &*outline[1]), (2 + TOLD + 1, "Node n", "Node n"));
        assert!(outline[2].starts_with("broken line 3: ") && outline[3].starts_with("broken line 5: "), "{outline:?}");
        assert_eq!(outline[2 + TOLD], "broken and 980 more documents like these, which are only counted");
        let key = "k".repeat(10_000);
        let long = read(&format!("{key}: 1\n{key}: 2\n")).broken;
        assert!(long.len() == 1 && long[0].len() < 400, "{long:?}");
    }

    #[test]
    fn json_may_follow_json_and_lists_hold_objects() {
        let json = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#;
        let tabs = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Node\",\n\t\"metadata\": {\"name\": \"n\"}\n}\n";
        let list = format!("{{apiVersion: v1, kind: List, items: [{NODE}, {NODE}]}}");
        let typed = "{apiVersion: v1, kind: NodeList, items: [{metadata: {name: n}}, {metadata: {name: n}}]}";
        let nested = format!("{{apiVersion: v1, kind: List, items: [{list}]}}");
        for (text, expected) in [
            (json.into(), 1),
            (format!("{json}\n{json}{json}"), 3),
            (tabs.into(), 1),
            (list, 2),
            (typed.into(), 2),
            (nested, 2),
        ] {
            assert_eq!(outline(&text), vec!["Node n"; expected], "{text}");
        }
        assert_eq!(outline("{apiVersion: v1, kind: List, items: null}"), [""; 0]);
        assert_eq!(outline("{apiVersion: v1, kind: List, items: 3}"), ["items of List is 3, not a list"]);
    }

    #[test]
    fn a_broken_document_costs_only_itself_and_names_its_line() {
        let text = format!("{NODE}\n---\na: [1,\n---\n{NODE}\n---\na: 1\na: 2\n---\nb:\n\t- x\n");
        let outline = outline(&text);
        assert_eq!(outline[..2], ["Node n", "Node n"]);
        for (broken, line) in outline[2..].iter().zip(["line 3", "line 8", "line 11"]) {
            assert!(broken.starts_with(&format!("broken {line}: ")), "{broken}");
        }
        assert_eq!(outline.len(), 5);
        assert_eq!(outline[3], "broken line 8: the key a stands here for the second time; remove one");
    }

    #[test]
    fn other_documents_are_skipped_by_name() {
        for (text, expected) in [
            (
                "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}",
                "v1 ConfigMap c is no kind that Ringway reads; skipped",
            ),
            (
                "{apiVersion: discovery.k8s.io/v1beta1, kind: EndpointSlice, metadata: {name: s}}",
                "discovery.k8s.io/v1beta1 EndpointSlice s is no kind that Ringway reads; skipped",
            ),
            (
                "{apiVersion: apps/v1, kind: Deployment}",
                "apps/v1 Deployment without a name is no kind that Ringway reads; skipped",
            ),
            ("{kind: Service}", "a document without apiVersion and kind is not a Kubernetes object"),
            ("hello", "\"hello\" is not a Kubernetes object; it needs apiVersion and kind"),
            ("[1]", "a list is not a Kubernetes object; it needs apiVersion and kind"),
        ] {
            assert_eq!(outline(text), [expected]);
        }
        assert_eq!(
            outline("{apiVersion: v1, kind: Service, metadata: {}}"),
            ["refused None: metadata.name is missing; every object needs a name"]
        );
        let odd = outline("{apiVersion: v1, kind: Service, metadata: {name: ../etc}}");
        assert!(odd[0].contains("metadata.name is \"../etc\"; a name has"), "{odd:?}");
    }

    #[test]
    fn bombs_do_not_go_off() {
        let aliases = |levels| {
            let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
            for n in 1..levels {
                let all = vec![format!("*a{}", n - 1); 10].join(", ");
                aliases += &format!("a{n}: &a{n} [{all}]\n");
            }
            aliases
        };
        assert_eq!(outline(&aliases(4)), ["a document without apiVersion and kind is not a Kubernetes object"]);
        let long = "x".repeat(1 << 20);
        let texts = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 90].join(", "));
        for text in [
            aliases(6),
            aliases(12),
            texts,
            "[".repeat(200_000),
            "{a: ".repeat(100_000),
            "- ".repeat(100_000),
            "{\"a\":".repeat(100_000),
        ] {
            let manifest = read(&text);
            assert_eq!((manifest.documents.len(), manifest.broken.len()), (0, 1));
            let has_aliases = text.contains("&a");
            assert_eq!(manifest.broken[0].contains("multiply it beyond measure"), has_aliases, "{:?}", manifest.broken);
        }
    }

    #[test]
    fn a_whole_cluster_fits_in_one_file() {
        let mut text = String::new();
        for n in 0..500 {
            text += &format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}}}\nspec:\n  clusterIP: 172.30.{}.{}\n  ports:\n  - port: 80\n",
                n / 250,
                n % 250
            );
        }
        text += "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: big\n  labels: {kubernetes.io/service-name: s0}\naddressType: IPv4\nports:\n- port: 80\nendpoints:\n";
        for n in 0..30_000 {
            text += &format!(
                "- addresses:\n  - 10.{}.{}.1\n  conditions:\n    ready: true\n  nodeName: node-{n}\n",
                n / 250,
                n % 250
            );
        }
        let manifest = read(&text);
        assert_eq!(manifest.broken, [""; 0]);
        assert_eq!(manifest.documents.len(), 501);
    }
}
