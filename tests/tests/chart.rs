//! The Helm chart, without a cluster: what it makes, what it refuses, and that `deploy/kubernetes.yaml` is what it makes of
//! its defaults.
//!
//! `UPDATE=1 cargo test -p ringway-tests --test chart` writes `deploy/kubernetes.yaml`.

use ringway_control::config::{Config, SourceKey, keys};
use ringway_tests::helm::{self, helm, in_repository, template};
use serde_json::Value;
use std::collections::BTreeSet;

const HEADER: &str = "\
# Ringway on the nodes that are labelled for it:
#
#   kubectl label node NODE ringway.io/gateway=true
#   kubectl apply -f kubernetes.yaml
#   kubectl -n kube-system exec ds/ringway -- ringway status
#
# The role alone, for a Ringway that runs on a host: kubectl apply -f kubernetes.yaml -l app.kubernetes.io/component=access
#
# Made of deploy/chart with its default values: UPDATE=1 cargo test -p ringway-tests --test chart
";

fn read(file: &str) -> String {
    std::fs::read_to_string(in_repository(file)).expect(file)
}

#[test]
fn helm_finds_nothing_wrong_with_it() {
    if !helm::can_run("helm_finds_nothing_wrong_with_it") {
        return;
    }
    let output = helm(&["lint", "--strict", in_repository("deploy/chart").to_str().expect("a path in UTF-8")]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("1 chart(s) linted, 0 chart(s) failed"), "{told}");
    assert!(!told.contains("[WARNING]"), "{told}");
}

#[test]
fn the_manifest_is_the_chart_with_its_defaults() {
    if !helm::can_run("the_manifest_is_the_chart_with_its_defaults") {
        return;
    }
    let made = template(&[]).unwrap_or_else(|error| panic!("{error}"));
    let lines = made.lines().filter(|line| !line.starts_with("# Source: "));
    let made = lines.fold(HEADER.to_owned(), |text, line| text + line + "\n");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(in_repository("deploy/kubernetes.yaml"), made).expect("writing deploy/kubernetes.yaml");
        return;
    }
    assert!(
        read("deploy/kubernetes.yaml") == made,
        "deploy/kubernetes.yaml is not what deploy/chart makes: run\n  UPDATE=1 cargo test -p ringway-tests --test chart"
    );
}

#[test]
fn it_has_the_version_of_the_binary() {
    let chart: Value = serde_saphyr::from_str(&read("deploy/chart/Chart.yaml")).expect("Chart.yaml");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((chart["version"].as_str(), chart["appVersion"].as_str()), (Some(version), Some(version)));
}

/// The configuration file of the ConfigMap that is made with these arguments.
fn configuration(more: &[&str]) -> String {
    let made = template(&[more, &["--show-only", "templates/configmap.yaml"]].concat());
    let made = made.unwrap_or_else(|error| panic!("{more:?}: {error}"));
    let map: Value = serde_saphyr::from_str(&made).expect("YAML");
    map["data"]["ringway.yaml"].as_str().expect("a file ringway.yaml").to_owned()
}

/// Every key, with a value that differs from the default.
const EVERY_KEY: &str = r#"config={
    "interfaces": [{"name": "eth0", "xdp": "native", "zeroCopy": "off"}, {"name": "wan[0-9]*"}],
    "node": {"addresses": ["192.168.0.2", "fd00::2"], "podCIDRs": ["10.0.0.0/16", "fd00:10::/64"], "labels": {"zone": "a"}},
    "services": {"nodePortAddresses": ["primary", "10.0.0.0/8"], "serviceCIDRs": ["172.30.0.0/16"], "masqueradeAll": true,
        "weights": {"zones": {"a": 2, "b": 1}, "nodes": {"worker-1": 0}}},
    "workers": {"cpus": [2, 3], "poll": "busy"},
    "snat": {"addresses": ["192.168.0.9"], "ports": "1024-29999,61000-65535"},
    "forwarding": "nat",
    "flows": {"perWorker": 4096, "synRescue": false, "timeouts": {"tcpEstablished": "2h", "tcpHalfOpen": "20s", "udp": "1m30s", "udpUnreplied": "500ms"}},
    "whenDown": "pass",
    "admin": {"metrics": "[::]:9099", "healthz": "127.0.0.1:10300"},
    "metrics": {"services": ["shop/*"]},
    "log": "debug"
}"#;

#[test]
fn its_configurations_are_valid_and_it_knows_every_key() {
    if !helm::can_run("its_configurations_are_valid_and_it_knows_every_key") {
        return;
    }
    let monitored = ["--set", "serviceMonitor.enabled=true"];
    for more in [&[][..], &monitored, &["--set-json", EVERY_KEY]] {
        let text = configuration(more);
        // Each pod's node comes by the environment.
        let named = format!("nodeName: gw-1\n{text}");
        Config::parse(&named, "ringway.yaml".as_ref(), SourceKey::Read)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    assert!(configuration(&monitored).contains("metrics: 0.0.0.0:9098"));

    // What a pod is given otherwise cannot be set.
    let given = ["nodeName", "source", "network", "state", "admin.socket"];
    let known: BTreeSet<&str> = keys::KEYS.iter().map(|key| key.name).filter(|key| !given.contains(key)).collect();
    let schema: Value = serde_json::from_str(&read("deploy/chart/values.schema.json")).expect("JSON");
    let mut allowed = BTreeSet::new();
    leaves(&schema["properties"]["config"], "", &mut allowed);
    assert_eq!(allowed.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

/// The paths of the schema's properties that are no sections.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties) => {
            for (key, value) in properties {
                leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        None => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn values_that_cannot_work_are_refused() {
    if !helm::can_run("values_that_cannot_work_are_refused") {
        return;
    }
    for (value, said) in [
        ("wrokers={}", "additional properties 'wrokers' not allowed"),
        (r#"config.interface=[]"#, "additional properties 'interface' not allowed"),
        (r#"config.nodeName="gw-1""#, "additional properties 'nodeName' not allowed"),
        ("config.interfaces=[]", "/config/interfaces': minItems: got 0, want 1"),
        (r#"config.interfaces=[{"name":"et/h0"}]"#, "/config/interfaces/0/name': 'et/h0' does not match"),
        (r#"config.interfaces=[{"name":"eth0","xdp":"fast"}]"#, "/config/interfaces/0/xdp': value must be one of"),
        (
            r#"config.interfaces=[{"name":"eth0","zeroCopy":false}]"#,
            "/config/interfaces/0/zeroCopy': value must be one of",
        ),
        (r#"config.node={"podCIDRs":["10.0.0.0/33"]}"#, "/config/node/podCIDRs/0': '10.0.0.0/33' does not match"),
        (r#"config.node={"podCIDRs":["10.0.0.256/24"]}"#, "/config/node/podCIDRs/0': '10.0.0.256/24' does not match"),
        (r#"config.node={"podCIDRs":["10.0.0.1"]}"#, "/config/node/podCIDRs/0': '10.0.0.1' does not match"),
        (
            r#"config.services={"serviceCIDRs":["fd00::/129"]}"#,
            "/config/services/serviceCIDRs/0': 'fd00::/129' does not",
        ),
        (r#"config.admin.healthz="0.0.0.0:70000""#, "/config/admin/healthz': '0.0.0.0:70000' does not match"),
        (r#"config.admin.healthz="off""#, "/config/admin/healthz': 'off' does not match"),
        (
            r#"config.admin.healthz="0.0.0.0:9098""#,
            "config.admin.metrics and config.admin.healthz cannot both have port 9098",
        ),
        (r#"config.snat={"ports":"0-70000"}"#, "/config/snat/ports"),
        (r#"config.snat={"ports":"6000-5000"}"#, "config.snat.ports has 6000-5000, whose end is before its beginning"),
        (
            r#"config.snat={"ports":"7,9000-8000"}"#,
            "config.snat.ports has 9000-8000, whose end is before its beginning",
        ),
        (r#"config.flows={"perWorker":0}"#, "/config/flows/perWorker': minimum: got 0, want 1"),
        (r#"config.flows={"timeouts":{"udp":"60"}}"#, "/config/flows/timeouts/udp': '60' does not match"),
        (r#"config.forwarding="dsr""#, "/config/forwarding"),
        (r#"image.tag="a:b""#, "/image/tag': 'a:b' does not match"),
        (r#"nodeSelector={"a":true}"#, "/nodeSelector/a': got boolean, want string"),
        (r#"apiServer.host="https://10.0.0.1""#, "/apiServer/host': 'https://10.0.0.1' does not match"),
        (r#"runAsUser="root""#, "/runAsUser': got string, want integer"),
        (r#"seccompProfile.type="Localhost""#, "/seccompProfile': missing property 'localhostProfile'"),
        ("updateStrategy.rollingUpdate.maxSurge=1", "additional properties 'maxSurge' not allowed"),
        (
            r#"config.admin.metrics="127.0.0.1:9098",serviceMonitor.enabled=true"#,
            "config.admin.metrics is 127.0.0.1:9098, where Prometheus cannot ask",
        ),
    ] {
        let told = template(&["--set-json", value]).expect_err(value);
        assert!(told.contains(said), "{value}: {told}");
    }
}
