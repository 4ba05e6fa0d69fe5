//! The page that says which test holds what: every sentence has one, and every test that it names is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root of the repository")
}

/// The sources below a folder.
fn sources(folder: &Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
    }
}

/// The test functions of all crates.
fn functions() -> BTreeSet<String> {
    let mut texts = Vec::new();
    for krate in ["shared", "dataplane", "control", "tests"] {
        for folder in ["src", "tests"].map(|folder| root().join(krate).join(folder)) {
            if folder.exists() {
                sources(&folder, &mut texts);
            }
        }
    }
    let mut names = BTreeSet::new();
    for text in &texts {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            match line.trim_start_matches("pub ").trim_start_matches("async ").strip_prefix("fn ") {
                Some(rest) if is_test => {
                    names.extend(rest.split(['(', '<']).next().map(str::to_owned));
                    is_test = false;
                }
                Some(_) => is_test = false,
                None => is_test |= line == "#[test]" || line.starts_with("#[tokio::test"),
            }
        }
    }
    names
}

/// The names of rows.
fn rows() -> BTreeSet<String> {
    let mut texts = Vec::new();
    sources(&root().join("dataplane/tests/packets"), &mut texts);
    let name = |line: &str| Some(line.trim().strip_prefix("name: \"")?.strip_suffix("\",")?.to_owned());
    texts.iter().flat_map(|text| text.lines().filter_map(name)).collect()
}

#[test]
fn every_sentence_has_tests_and_every_name_is_one() {
    let page = std::fs::read_to_string(root().join("docs/tested.md")).expect("docs/tested.md");
    let (functions, rows) = (functions(), rows());
    assert!(functions.len() > 800 && rows.len() > 200, "{} functions, {} rows", functions.len(), rows.len());
    let (mut wrong, mut sentences) = (Vec::new(), 0);
    for line in page.lines().filter(|line| line.starts_with("| ") && *line != "| what holds | tests |") {
        let mut cells = line.trim_matches('|').split(" | ");
        let (sentence, tests) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        sentences += 1;
        if names.is_empty() {
            wrong.push(format!("no test:{sentence}"));
        }
        wrong.extend(names.into_iter().filter(|name| !functions.contains(*name) && !rows.contains(*name)).map(
            |name| {
                format!(
                    "no test or row of this name, so take the name that it has now, or one that holds the same: {name}"
                )
            },
        ));
    }
    assert!(wrong.is_empty(), "docs/tested.md:\n{}", wrong.join("\n"));
    assert!(sentences > 80, "{sentences} sentences");
}
