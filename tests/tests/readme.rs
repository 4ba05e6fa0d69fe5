//! The README's table of drop reasons says what the one list says.
//!
//! `UPDATE=1 cargo test -p ringway-tests --test readme` writes the table.

use ringway_shared::DropReason;
use std::fmt::Write;
use std::path::Path;

const BEGIN: &str = "<!-- drop reasons: begin";
const END: &str = "<!-- drop reasons: end -->";

#[test]
fn drop_reasons_are_those_of_the_list() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let begin = readme.find(BEGIN).expect("README.md marks the begin of the drop reasons");
    let start = begin + readme[begin..].find('\n').expect("the marker is a line") + 1;
    let end = readme.find(END).expect("README.md marks the end of the drop reasons");

    let mut table = String::from("| reason | what it says about the packet |\n|---|---|\n");
    for reason in DropReason::ALL {
        writeln!(table, "| `{}` | {} |", reason.label(), reason.sentence()).expect("writing to a string");
    }
    if std::env::var_os("UPDATE").is_some() {
        let updated = format!("{}{table}{}", &readme[..start], &readme[end..]);
        std::fs::write(&path, updated).expect("writing README.md");
        return;
    }
    assert!(
        readme[start..end] == table,
        "the README's drop reasons differ from shared/src/drop_reason.rs: run\n  \
         UPDATE=1 cargo test -p ringway-tests --test readme"
    );
}
