//! The manifest and the chart at a real API server: it takes every object, strictly, and what they grant is enough to run.

use ringway_tests::control_plane::{self, ControlPlane, node};
use ringway_tests::helm::{self, in_repository, service_monitor_crd, template};
use ringway_tests::process::run;
use ringway_tests::world::ringway::Ringway;
use ringway_tests::world::{NODE_ADDRESSES, POD_CIDRS, World};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Strictly, at the server: an unknown field, a double one and a value that is none are errors.
fn apply(plane: &ControlPlane, file: &Path, more: &[&str]) -> Result<String, String> {
    let file = file.to_str().expect("a path in UTF-8");
    plane.kubectl(&[&["apply", "--server-side", "--validate=strict", "-f", file], more].concat())
}

#[test]
fn a_real_api_server_takes_the_manifest_and_it_grants_enough() {
    let test = "a_real_api_server_takes_the_manifest_and_it_grants_enough";
    if !control_plane::can_run(test) || !helm::can_run(test) {
        return;
    }
    let world = World::start();
    let plane = ControlPlane::start();
    plane.join(&world.gateway);
    plane.apply(&[node("gw-1", "a", &POD_CIDRS, &NODE_ADDRESSES)]);
    let manifest = in_repository("deploy/kubernetes.yaml");

    // A field that Kubernetes does not have would be told.
    let text = std::fs::read_to_string(&manifest).expect("the manifest");
    let wrong = plane.path("wrong.yaml");
    std::fs::write(&wrong, text.replace("hostNetwork: true", "hostNetworks: true")).expect("a file");
    let told = apply(&plane, &wrong, &["--dry-run=server", "--force-conflicts"]).expect_err("a wrong field is refused");
    assert!(told.contains("hostNetworks"), "{told}");

    // The role alone, for a Ringway on a host.
    let selector = ["-l", "app.kubernetes.io/component=access", "--force-conflicts"];
    let told = apply(&plane, &manifest, &selector).unwrap_or_else(|error| panic!("{error}"));
    let objects: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    let access = ["serviceaccount/ringway", "clusterrole.rbac.authorization.k8s.io/ringway"];
    assert_eq!(objects, [access[0], access[1], "clusterrolebinding.rbac.authorization.k8s.io/ringway"]);

    let token = plane.kubectl(&["-n", "kube-system", "create", "token", "ringway"]);
    let kubeconfig = plane.kubeconfig_of("serviceaccount", token.unwrap_or_else(|error| panic!("{error}")).trim());
    let ringway = Ringway::start_ready(&world, &kubeconfig, &json!({}));
    let status = ringway.instance.ask("/status");
    assert_eq!(status["ready"], true, "{status:#}");
    for kind in ["Service", "EndpointSlice", "Node", "ServiceCIDR"] {
        let resource = ringway.resource(kind);
        assert_eq!((&resource["listed"], &resource["unserved"]), (&true.into(), &Value::Null), "{resource}");
    }

    // All of it; and a pod as the DaemonSet would make it.
    apply(&plane, &manifest, &["--force-conflicts"]).unwrap_or_else(|error| panic!("{error}"));
    let set = plane.kubectl(&["-n", "kube-system", "get", "daemonset", "ringway", "-o", "json"]);
    let set: Value = serde_json::from_str(&set.unwrap_or_else(|error| panic!("{error}"))).expect("JSON");
    let mut pod = set["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "ringway-x".into();
    pod["metadata"]["namespace"] = "kube-system".into();
    let file = plane.path("pod.json");
    std::fs::write(&file, pod.to_string()).expect("a file");
    let pod = apply(&plane, &file, &["--dry-run=server", "-o", "json"]).unwrap_or_else(|error| panic!("{error}"));
    let pod: Value = serde_json::from_str(&pod).expect("JSON");
    assert_eq!(pod["spec"]["priorityClassName"], "system-node-critical");
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 10_266, "two on a node are not scheduled");
}

#[test]
fn a_real_api_server_takes_what_the_chart_makes_with_every_option() {
    let test = "a_real_api_server_takes_what_the_chart_makes_with_every_option";
    if !control_plane::can_run(test) || !helm::can_run(test) {
        return;
    }
    let plane = ControlPlane::start_with(std::iter::empty());
    let crd = apply(&plane, &service_monitor_crd(), &[]);
    crd.unwrap_or_else(|error| panic!("{error}"));
    let name = "crd/servicemonitors.monitoring.coreos.com";
    plane
        .kubectl(&["wait", "--for=condition=Established", "--timeout=30s", name])
        .unwrap_or_else(|error| panic!("{error}"));
    let options = r#"serviceMonitor={"enabled":true,"labels":{"release":"prometheus"}},
        networkPolicy={"enabled":true,"metricsFrom":[{"namespaceSelector":{"matchLabels":{"name":"monitoring"}}}]},
        apiServer={"host":"10.0.0.1","port":6443},imagePullSecrets=[{"name":"registry"}],runAsUser=0,
        podLabels={"team":"net"},podAnnotations={"note":"x"},resources={"limits":{"memory":"2Gi"}},
        seccompProfile={"type":"Localhost","localhostProfile":"ringway.json"},updateStrategy={"type":"OnDelete"},
        affinity={"nodeAffinity":{}},config.workers={"cpus":[1]}"#;
    let options: String = options.lines().map(str::trim).collect();
    let unsettled = "updateStrategy.rollingUpdate=null";
    let made = template(&["--set-json", &options, "--set", unsettled]).unwrap_or_else(|error| panic!("{error}"));
    let file = plane.path("all.yaml");
    std::fs::write(&file, &made).expect("a file");
    // The harness made the role itself, under the same name.
    let told = apply(&plane, &file, &["--dry-run=server", "--force-conflicts"]);
    let told = told.unwrap_or_else(|error| panic!("{error}\n{made}"));
    for kind in ["servicemonitor.monitoring.coreos.com/ringway", "networkpolicy.networking.k8s.io/ringway", "daemonset"]
    {
        assert!(told.contains(kind), "{told}");
    }
    // The CRD is what judges.
    std::fs::write(&file, made.replace("jobLabel:", "jobLabels:")).expect("a file");
    let told = apply(&plane, &file, &["--dry-run=server", "--force-conflicts"]).expect_err("a wrong field is refused");
    assert!(told.contains("jobLabels"), "{told}");
}

#[test]
fn helm_installs_upgrades_and_leaves_nothing() {
    let test = "helm_installs_upgrades_and_leaves_nothing";
    if !control_plane::can_run(test) || !helm::can_run(test) {
        return;
    }
    let plane = ControlPlane::start_with(std::iter::empty());
    // The harness made the role itself; what is not Helm's own it leaves alone.
    plane.kubectl(&["delete", "clusterrole", "ringway"]).unwrap_or_else(|error| panic!("{error}"));
    let kubeconfig = plane.kubeconfig("admin", None);
    let helm = |words: &[&str]| {
        let place = ["--namespace", "kube-system", "--kubeconfig", kubeconfig.to_str().expect("a path in UTF-8")];
        let program = helm::program().to_str().expect("a path in UTF-8").to_owned();
        run(&plane.namespace, &program, &[words, &place].concat(), SOON).unwrap_or_else(|error| panic!("{error}"))
    };
    let chart = in_repository("deploy/chart");
    let chart = chart.to_str().expect("a path in UTF-8");
    let annotation = || {
        let path = "jsonpath={.spec.template.metadata.annotations.checksum/config}";
        plane
            .kubectl(&["-n", "kube-system", "get", "ds", "ringway", "-o", path])
            .unwrap_or_else(|error| panic!("{error}"))
    };

    let told = helm(&["install", "ringway", chart]);
    for line in ["kubectl label node NODE ringway.io/gateway=true", "It attaches to eth*, en[ops]*;"] {
        assert!(told.contains(line), "{told}");
    }
    let first = annotation();
    assert_eq!(first.len(), 64, "{first}");
    // Pods start anew when their configuration changes, and only then.
    helm(&["upgrade", "ringway", chart, "--set", "resources.requests.cpu=1"]);
    assert_eq!(annotation(), first);
    helm(&["upgrade", "ringway", chart, "--set", "config.log=debug"]);
    assert_ne!(annotation(), first);
    // A second release, for nodes whose interfaces have other names.
    let other = ["--set-json", r#"config.interfaces=[{"name":"wan0"}],nodeSelector={"ringway.io/gateway":"wan"}"#];
    helm(&[&["install", "wan", chart], &other[..]].concat());

    helm(&["uninstall", "ringway"]);
    let kinds =
        "daemonsets,configmaps,serviceaccounts,clusterroles,clusterrolebindings,services,networkpolicies,secrets";
    let left = |selector: &str| {
        plane.kubectl(&["get", kinds, "-A", "-o", "name", "-l", selector]).map(|told| told.lines().count())
    };
    assert_eq!(left("app.kubernetes.io/instance=ringway"), Ok(0));
    assert_eq!(left("app.kubernetes.io/instance=wan"), Ok(5), "the other goes on");
    helm(&["uninstall", "wan"]);
    assert_eq!(left("app.kubernetes.io/name=ringway"), Ok(0));
}
