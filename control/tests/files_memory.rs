//! What reading files takes in memory. The only test of its process: it looks at what that took at most.

use std::fs;

use ringway_control::source::files::FileSource;

/// The most memory that this process ever took, in MiB.
fn most_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

#[test]
fn a_large_list_takes_little_more_memory_than_its_text() {
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
}
