//! What an installed Ringway gives to shells and to `man`.

use std::path::Path;
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

fn ringway(arguments: &[&str]) -> Output {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

/// Whether a program that judges texts is there; in CI it must be.
fn can_judge(program: &str) -> bool {
    let is_there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    assert!(
        is_there || std::env::var_os("CI").is_none(),
        "{program} is missing: run tests/scripts/prerequisites.sh test"
    );
    if !is_there {
        eprintln!("SKIPPED: {program} is missing, and cannot judge");
    }
    is_there
}

#[test]
fn shells_complete_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, judge) in [("bash", &["bash", "-n"][..]), ("zsh", &["zsh", "-n"]), ("fish", &["fish", "--no-execute"])]
    {
        let script = ringway(&["completion", shell]).stdout;
        let text = String::from_utf8(script.clone()).unwrap();
        for command in ["check", "run", "status", "completion"] {
            assert!(text.contains(command), "{shell} does not complete {command}");
        }
        assert!(!text.contains("ringway man"), "{shell} offers what is only for packagers");
        if can_judge(judge[0]) {
            let file = folder.path().join(shell);
            std::fs::write(&file, script).unwrap();
            let judged = Command::new(judge[0]).args(&judge[1..]).arg(&file).output().unwrap();
            assert!(judged.status.success() && judged.stderr.is_empty(), "{shell}: {judged:?}");
        }
    }
    // bash, asked as it asks when somebody presses the tab key.
    let ask = "source \"$1\"; COMP_WORDS=(ringway status --so); COMP_CWORD=2; _ringway ringway --so status; echo ${COMPREPLY[*]}";
    let file = folder.path().join("bash");
    let answer = Command::new("bash").args(["-c", ask, "bash"]).arg(file).output().unwrap();
    assert_eq!(String::from_utf8(answer.stdout).unwrap(), "--socket\n");
}

#[test]
fn every_command_has_a_manual_page_without_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    ringway(&["man", folder.path().to_str().unwrap()]);
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let commands =
        ["check", "completion", "demo", "drops", "flows", "reload", "replay", "run", "services", "status", "trace"];
    let mut wanted: Vec<String> = commands.iter().map(|command| format!("ringway-{command}.8")).collect();
    wanted.insert(0, "ringway.8".into());
    wanted.sort();
    assert_eq!(names, wanted);
    let run = page(&folder.path().join("ringway-run.8"));
    for word in
        ["ringway-run", "[--config]", "/etc/ringway/ringway.yaml", "ringway(8)", "SIGHUP", ringway_control::VERSION]
    {
        assert!(run.contains(word), "{word} is missing in:\n{run}");
    }
    assert!(page(&folder.path().join("ringway.8")).contains("ringway-status(8)"));
    if can_judge("mandoc") {
        for name in names {
            let mut judge = Command::new("mandoc");
            let judged = judge.args(["-T", "lint", "-W", "error"]).arg(folder.path().join(&name)).output().unwrap();
            let faults = String::from_utf8(judged.stdout).unwrap();
            assert!(judged.status.success(), "{name}: {faults}");
        }
    }
}

/// A page as a reader sees it.
fn page(file: &Path) -> String {
    if !can_judge("mandoc") {
        return std::fs::read_to_string(file).unwrap();
    }
    let output = Command::new("mandoc").args(["-T", "utf8", "-O", "width=500"]).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Bold is a letter struck twice.
    let mut shown = String::new();
    for letter in text.chars() {
        match letter {
            '\u{8}' => assert!(shown.pop().is_some()),
            _ => shown.push(letter),
        }
    }
    shown
}
