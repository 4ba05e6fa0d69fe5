//! What reading files takes in memory. The only test of its process: it looks at what that took at most.

use std::fs;
use std::io::Write;

use ringway_control::source::files::FileSource;

/// The most memory that this process ever took, in MiB.
fn most_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

#[test]
fn large_files_take_little_more_memory_than_their_text() {
    let (folder, before) = (tempfile::tempdir().unwrap(), most_memory());
    // As kubectl prints it: the items come before the kind.
    let item = |number: usize| {
        let annotation = "a: b, ".repeat(100);
        format!(
            "- apiVersion: v1\n  kind: Service\n  metadata:\n    name: s{number}\n    annotations: {{x: \"{annotation}\"}}\n    managedFields: [{}]\n  spec: {{clusterIP: 10.0.0.1, ports: [{{port: 80}}]}}\n",
            "{a: {b: {c: {}}, d: {}}}, ".repeat(20)
        )
    };
    const ITEMS: usize = 8_000;
    let yaml = format!("apiVersion: v1\nitems:\n{}kind: List\n", (0..ITEMS).map(item).collect::<String>());
    let size = yaml.len() >> 20;
    fs::write(folder.path().join("a.yaml"), &yaml).unwrap();
    drop(yaml);
    let source = FileSource::new(vec![folder.path().to_owned()]);
    assert_eq!(source.cluster().services().count(), ITEMS);
    // A tree of all of it takes more than ten times its text.
    let more = most_memory() - before;
    assert!(more < size * 5 + 30, "{more} MiB for {size} MiB of text");

    // Neither do documents without content, documents that are broken, or objects of other kinds with long names.
    let (before, name) = (most_memory(), "n".repeat(1_000));
    let other = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}\n---\n");
    let path = folder.path().join("b.yaml");
    let mut file = fs::File::create(&path).unwrap();
    for piece in [&*"---\n".repeat(10_000), &*other, &*"]\n---\n".repeat(50)] {
        for _ in 0..1_000 {
            file.write_all(piece.as_bytes()).unwrap();
        }
    }
    let size = fs::metadata(&path).unwrap().len() as usize >> 20;
    let source = FileSource::new(vec![path]);
    let problems: Vec<String> = source.cluster().problems().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 42, "{:?}", problems.get(..50));
    assert!(problems.iter().all(|problem| problem.len() < 600));
    assert!(
        problems[20].ends_with(": refused: and 49980 more documents like these, which are only counted"),
        "{}",
        problems[20]
    );
    assert!(
        problems[41].ends_with("and 980 more objects like these are skipped, which are only counted"),
        "{}",
        problems[41]
    );
    let more = most_memory().saturating_sub(before);
    assert!(more < size * 2, "{more} MiB for {size} MiB of text");
}
