//! What the documentation shows is what the command says.

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).expect(file)
}

/// Runs a command line of the documentation at the root of the repository; its standard output.
fn run(line: &str) -> String {
    let words = line.split(' ').skip(1).map(|word| word.trim_matches('\''));
    let output = Command::new(env!("CARGO_BIN_EXE_ringway")).args(words).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_readmes_offline_trace_is_word_for_word() {
    let readme = read("README.md");
    let blocks = readme.split("```console\n$ ringway trace ").skip(1);
    let mut seen = 0;
    for block in blocks {
        let (line, rest) = block.split_once('\n').unwrap();
        let (shown, _) = rest.split_once("```").unwrap();
        assert_eq!(run(&format!("ringway trace {line}")), shown);
        seen += 1;
    }
    assert!(seen > 0, "the README shows an offline trace");
}

/// Blank lines and comments do not count.
fn bare(yaml: &str) -> Vec<&str> {
    let bare = yaml.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end());
    bare.filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_configurations_shown_are_those_in_deploy() {
    let [configuration, objects] = ["deploy/gateway/ringway.yaml", "deploy/gateway/objects/web.yaml"];
    for (page, file) in [
        ("README.md", configuration),
        ("docs/install/bare-metal.md", configuration),
        ("docs/install/bare-metal.md", objects),
    ] {
        let (page_text, yaml) = (read(page), read(file));
        let shown = page_text.split("```yaml\n").skip(1).map(|block| bare(block.split("```").next().unwrap()));
        assert!(shown.collect::<Vec<_>>().contains(&bare(&yaml)), "{file} is not what {page} shows");
    }
}

#[test]
fn the_example_in_deploy_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let objects = root().join("deploy/gateway/objects").canonicalize().unwrap();
    let config = read("deploy/gateway/ringway.yaml").replace("/etc/ringway/objects", objects.to_str().unwrap());
    let file = folder.path().join("ringway.yaml");
    std::fs::write(&file, config).unwrap();
    let said = run(&format!("ringway check --config {}", file.display()));
    for frontend in ["clusterIP=172.30.0.41:80", "loadBalancerIP=198.51.100.10:80", "nodePort=192.168.0.2:30080"] {
        assert!(said.contains(frontend), "{said}");
    }
}

/// Every page below `folder`, as a path from the root.
fn pages_below(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap());
    let below = entries.flat_map(|entry| {
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() { pages_below(&name) } else { vec![name] }
    });
    below.filter(|name| name.ends_with(".md")).collect()
}

#[test]
fn every_configuration_that_a_page_shows_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ringway.yaml");
    let mut seen = 0;
    for page in pages_below("docs").into_iter().chain(["README.md".to_owned()]) {
        let text = read(&page);
        let blocks = text.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap());
        // What is not Ringway's is an object of Kubernetes or its like.
        for shown in blocks.filter(|block| !block.contains("apiVersion:")) {
            let lacks = |key: &str| !shown.lines().any(|line| line.starts_with(key));
            let name = if lacks("nodeName:") { "nodeName: gw-1\n" } else { "" };
            let interfaces = if lacks("interfaces:") { "interfaces: [{name: eth0}]\n" } else { "" };
            std::fs::write(&file, format!("{name}{interfaces}{shown}")).unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_ringway"));
            check.arg("check").arg("--config").arg(&file).arg("--objects").arg(root().join("deploy/gateway/objects"));
            let output = check.output().unwrap();
            assert!(output.status.success(), "{page}: {}\n{shown}", String::from_utf8_lossy(&output.stderr));
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} configurations");
}

#[test]
fn the_configurations_page_names_every_key() {
    let page = read("docs/configuration.md");
    // The answer to an unknown key lists the allowed ones.
    let keys = |config: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        std::fs::write(&file, config).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_ringway")).args(["check", "--config"]).arg(&file).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        let listed = told.lines().filter_map(|line| line.split_once("llowed here: "));
        listed.flat_map(|(_, keys)| keys.split(", ").map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let sections = "x0: 1\nsource: {x0: 1}\nnode: {x0: 1}\nservices: {x0: 1}\nsnat: {x0: 1}\nworkers: {x0: 1}\nflows: {x0: 1, \
                    timeouts: {x0: 1}}\nadmin: {x0: 1}\nmetrics: {x0: 1}\ninterfaces: [{name: eth0, x0: 1}]\nnetwork: {x0: 1, interfaces: [{x0: 1}], \
                    routes: [{x0: 1}], neighbors: [{x0: 1}]}\n";
    let keys = keys(sections);
    assert!(keys.len() > 40, "{keys:?}");
    for key in keys {
        assert!(page.contains(&key), "docs/configuration.md does not name {key}");
    }
}

/// All keys of a JSON value, at any depth.
fn keys_of(value: &serde_json::Value, into: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(members) => members.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            keys_of(value, into);
        }),
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys_of(item, into)),
        _ => {}
    }
}

#[test]
fn the_commands_page_names_every_option_and_every_key() {
    let (commands, admin) = (read("docs/commands.md"), read("docs/admin-api.md"));
    let asked = ["check", "run", "reload", "trace", "replay", "status", "services", "flows", "drops", "nic", "demo"];
    let mut options = std::collections::BTreeSet::new();
    for command in asked {
        let help = run(&format!("ringway {command} --help"));
        let words = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        let names =
            words.map(|word| word.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect::<String>());
        options.extend(names.filter(|name| !name.is_empty()));
    }
    assert!(options.len() > 15, "{options:?}");
    for option in options {
        assert!(commands.contains(&format!("--{option}")), "docs/commands.md does not name --{option}");
    }
    let mut keys = std::collections::BTreeSet::new();
    let objects = "deploy/gateway/objects";
    for line in [
        format!("ringway check --config deploy/gateway/ringway.yaml --objects {objects} --output json"),
        format!(
            "ringway trace --config deploy/gateway/ringway.yaml --objects {objects} --output json tcp:203.0.113.7:50000->198.51.100.10:80"
        ),
        "ringway drops --reasons --output json".to_owned(),
        "ringway nic --config deploy/gateway/ringway.yaml lo --output json".to_owned(),
    ] {
        keys_of(&serde_json::from_str(&run(&line)).unwrap(), &mut keys);
    }
    assert!(keys.len() > 25, "{keys:?}");
    let named = |page: &str, key: &str| {
        page.contains(&format!("`{key}`"))
            || page.contains(&format!("`{key}[]`"))
            || page.contains(&format!("\"{key}\""))
    };
    for key in keys {
        assert!(named(&commands, &key), "docs/commands.md does not name the key {key}");
    }
    for counter in ringway_shared::counters::Counter::ALL {
        assert!(named(&admin, counter.label()), "docs/admin-api.md does not name the counter {}", counter.label());
    }
}
