//! The README and the pages of `docs` say what is so: drop reasons are those of the list, links lead somewhere, command
//! lines are understood, files and make targets exist; and the README stays short.
//!
//! `UPDATE=1 cargo test -p ringway-tests --test readme` writes the table of drop reasons.

use ringway_shared::DropReason;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- drop reasons: begin";
const END: &str = "<!-- drop reasons: end -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root of the repository")
}

/// The README and every page that it may lead to, as paths from the root, with their text.
fn pages() -> Vec<(String, String)> {
    let root = root();
    let mut files: Vec<PathBuf> = ["README.md", "CHANGELOG.md"].map(|file| root.join(file)).into();
    let mut folders: Vec<PathBuf> = ["docs", "deploy"].map(|folder| root.join(folder)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "md") => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a page");
        (path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned(), text)
    };
    files.into_iter().map(read).collect()
}

/// A page's text outside of code blocks, and its code blocks: the word after the fence, and the lines.
fn split(text: &str) -> (String, Vec<(&str, Vec<&str>)>) {
    let (mut prose, mut blocks, mut open) = (String::new(), Vec::new(), false);
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) if !open => blocks.push((language, Vec::new())),
            Some(_) => {}
            None if open => blocks.last_mut().expect("an open block").1.push(line.trim_start()),
            None => {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        open ^= line.trim_start().starts_with("```");
    }
    assert!(!open, "a code block is not closed");
    (prose, blocks)
}

/// What stands between backticks, which may go on in the next line.
fn spans(prose: &str) -> impl Iterator<Item = String> {
    prose.split('`').skip(1).step_by(2).map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The anchors of a page, as GitHub and others make them of headings.
fn anchors(prose: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in prose.lines().filter(|line| line.starts_with('#')) {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// `folder` and `link` as one path from the root.
fn join(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(link.split('/')) {
        match part {
            "" | "." => {}
            ".." => assert!(parts.pop().is_some(), "{link} in {folder} leaves the repository"),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn drop_reasons_are_those_of_the_list() {
    let path = root().join("docs/drop-reasons.md");
    let page = std::fs::read_to_string(&path).expect("docs/drop-reasons.md");
    let begin = page.find(BEGIN).expect("docs/drop-reasons.md marks the begin of the drop reasons");
    let start = begin + page[begin..].find('\n').expect("the marker is a line") + 1;
    let end = page.find(END).expect("docs/drop-reasons.md marks the end of the drop reasons");

    let mut table = String::from("| reason | what it says about the packet |\n|---|---|\n");
    for reason in DropReason::ALL {
        writeln!(table, "| `{}` | {} |", reason.label(), reason.sentence()).expect("writing to a string");
    }
    if std::env::var_os("UPDATE").is_some() {
        let updated = format!("{}{table}{}", &page[..start], &page[end..]);
        std::fs::write(&path, updated).expect("writing docs/drop-reasons.md");
        return;
    }
    assert!(
        page[start..end] == table,
        "docs/drop-reasons.md differs from shared/src/drop_reason.rs: run\n  \
         UPDATE=1 cargo test -p ringway-tests --test readme"
    );
}

/// Reference belongs into `docs`.
#[test]
fn the_readme_is_short() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(readme.len() < 10_000, "README.md has {} bytes: move something to docs", readme.len());
}

#[test]
fn every_link_leads_somewhere() {
    let (root, mut wrong, mut seen) = (root(), Vec::new(), 0);
    for (file, text) in pages() {
        let (prose, _) = split(&text);
        // What stands between backticks is no link.
        let prose: String = prose.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { join(folder, path) };
            let there = root.join(&target);
            if !there.exists() {
                wrong.push(format!("{file}: {link}: there is no {target}"));
            } else if !anchor.is_empty() {
                let text = std::fs::read_to_string(&there).expect("a page");
                if !anchors(&split(&text).0).contains(anchor) {
                    wrong.push(format!("{file}: {link}: {target} has no heading for #{anchor}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "{seen} links");
}

#[test]
fn the_index_names_every_page() {
    let index = std::fs::read_to_string(root().join("docs/README.md")).expect("docs/README.md");
    for (file, _) in pages() {
        let Some(page) = file.strip_prefix("docs/").filter(|page| *page != "README.md") else { continue };
        assert!(index.contains(&format!("]({page})")), "docs/README.md does not name {page}");
    }
}

/// The words of a command line as a shell would make them; it ends where another command begins.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ';' | '|' | '&' | '>') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The `ringway` command line in a line of code, after sudo and the like, or in a pod.
fn command_line(line: &str) -> Option<String> {
    let line = line.strip_prefix("sudo ").unwrap_or(line);
    let line = line.split_once(" -- ").filter(|_| line.starts_with("kubectl ")).map_or(line, |(_, rest)| rest);
    // What `--version` says is none.
    let is_one = line.strip_prefix("ringway ").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
    is_one.then(|| line.to_owned())
}

/// The command lines of a page that are to be typed: those of its code blocks.
fn typed(blocks: &[(&str, Vec<&str>)]) -> Vec<String> {
    let mut commands = Vec::new();
    for (language, block) in blocks.iter().filter(|(language, _)| matches!(*language, "" | "console" | "sh")) {
        let joined = block.join("\n").replace("\\\n", " ");
        let prompted = |line: &str| line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")).map(str::to_owned);
        // In a console the rest is what was answered.
        let lines = joined.lines().filter_map(|line| prompted(line).or((*language != "console").then(|| line.into())));
        commands.extend(lines.filter_map(|line| command_line(&line)));
    }
    commands
}

/// What a synopsis stands for: `[--keep]` is `--keep`, `PACKET...` a packet, and `A|B` is A.
fn example(word: &str) -> String {
    let word: String = word.chars().filter(|c| !matches!(c, '[' | ']')).collect();
    let word = word.trim_end_matches("...").trim_end_matches('…');
    match word {
        "PACKET" => "tcp:10.0.0.2->172.30.0.41:80".to_owned(),
        word => word.replace("=SECONDS", "=60").split('|').next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn every_command_line_is_understood() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (file, text) in pages() {
        let (prose, blocks) = split(&text);
        let told = spans(&prose).filter_map(|span| command_line(&span)).map(|line| (line, false));
        for (line, is_typed) in typed(&blocks).into_iter().map(|line| (line, true)).chain(told) {
            let mut words = words(&line);
            // A packet has brackets of its own.
            words.iter_mut().filter(|word| !word.contains("->")).for_each(|word| *word = example(word));
            words.retain(|word| !word.is_empty());
            seen += 1;
            let Err(error) = ringway_control::cli::command().try_get_matches_from(&words) else { continue };
            // `--help` and `--version`; and a text that names a command need not repeat what it is to be told.
            let lacks_words = format!("{:?}", error.kind()) == "MissingRequiredArgument";
            if error.exit_code() != 0 && (is_typed || !lacks_words) {
                wrong.push(format!("{file}: {line}\n{error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "{seen} command lines");
}

#[test]
fn files_and_make_targets_of_code_exist() {
    let (root, mut wrong) = (root(), Vec::new());
    let makefile = std::fs::read_to_string(root.join("Makefile")).expect("Makefile");
    let has_target = |target: &str| makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
    for (file, text) in pages().into_iter().filter(|(file, _)| file != "CHANGELOG.md") {
        let (prose, blocks) = split(&text);
        let blocks = blocks.iter().filter(|(language, _)| *language != "yaml").flat_map(|(_, lines)| lines);
        let code: Vec<String> = spans(&prose).chain(blocks.map(|line| (*line).to_owned())).collect();
        for line in &code {
            let line = words(line);
            if line.first().is_some_and(|word| word == "make") {
                let target = line.iter().skip(1).find(|word| !word.contains('='));
                if !target.is_some_and(|target| has_target(target)) {
                    wrong.push(format!("{file}: {}: no such target", line.join(" ")));
                }
            }
            for word in line.iter().filter(|word| word.starts_with("deploy/") || word.starts_with("tests/")) {
                let path = word.trim_end_matches(['*', ',', '.']);
                if !root.join(path).exists() {
                    wrong.push(format!("{file}: there is no {path}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
