//! The container image, run as the manifest's pod: it balances, and where it cannot it says why in one line and ends.

use ringway_tests::container::{Container, Image, PROGRAMS, Pod};
use ringway_tests::process::{ask, try_curl};
use ringway_tests::topology::{Bed, CLUSTER_IPS, HTTP, NODE_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// One link, eth0, so that the manifest's globs name it.
fn bed() -> Bed {
    Bed::prepare(Options { one_arm: true, masquerade: true, ..Options::default() })
}

/// The manifest's pod on the gateway, with objects from files.
fn pod(image: &Image, bed: &Bed) -> Pod {
    let mut pod = Pod::of_manifest(image, &bed.gateway, NODE_IPS[0]);
    let [v4, v6] = NODE_IPS;
    pod.configuration += &format!(
        "source: {{files: /objects}}\nnode: {{addresses: [{v4}, \"{v6}\"]}}\nservices: {{masqueradeAll: true}}\n\
         flows: {{perWorker: 16384}}\n"
    );
    pod
}

/// What the readiness and the liveness probe of the manifest get.
fn probes(bed: &Bed) -> Result<(), String> {
    ["healthz", "livez"]
        .iter()
        .try_for_each(|path| try_curl(&bed.gateway, &format!("http://{}:10266/{path}", NODE_IPS[0])).map(|_| ()))
}

#[track_caller]
fn await_ready(container: &mut Container, bed: &Bed) {
    eventually(SOON, "the probes succeed", || {
        let ended = container.process.ended().expect("crun is ours");
        assert_eq!(ended, None, "{}", container.process.output());
        probes(bed)
    });
}

#[test]
fn the_image_is_small_and_says_what_it_is() {
    if !can_run("the_image_is_small_and_says_what_it_is", &PROGRAMS) {
        return;
    }
    let image = Image::make();
    // Also with the debug build that this may be.
    assert!(image.size() < 45_000_000, "{} bytes", image.size());
    let config = &image.config["config"];
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].as_str().unwrap_or_default();
    assert_eq!((label("version"), label("licenses")), (env!("CARGO_PKG_VERSION"), "MIT OR Apache-2.0"));
    assert!(!label("revision").is_empty() && label("created").ends_with('Z'), "{config}");
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], json!(["/usr/bin/ringway"]));
    // The libraries, not what they were found among: no shell, no package manager.
    for absent in ["bin/sh", "usr/bin/sh", "var", "root"] {
        assert!(!image.root().join(absent).exists(), "{absent}");
    }
}

#[test]
fn the_image_balances_as_the_manifest_runs_it() {
    if !can_run("the_image_balances_as_the_manifest_runs_it", &PROGRAMS) {
        return;
    }
    let image = Image::make();
    let mut bed = bed();
    bed.serve();
    let mut pod = pod(&image, &bed);
    assert_ne!(pod.spec["process"]["user"]["uid"], 0, "not as root");
    let mut container = pod.start(&bed.objects());
    await_ready(&mut container, &bed);
    let mut seen = BTreeSet::new();
    eventually(SOON, "every backend answers", || {
        for ip in [CLUSTER_IPS[0], CLUSTER_IPS[1], NODE_IPS[0]] {
            let port = if ip == NODE_IPS[0] { HTTP.node_port } else { HTTP.port };
            seen.insert(ask(&bed.client, at(ip, port)).backend);
        }
        if seen.len() == 3 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    let status = status_of(&container);
    assert_eq!((&status["ready"], &status["node"]), (&true.into(), &"gw-1".into()));
    assert_eq!(status["ledger"]["closes"], true);
    let eth0 = &status["interfaces"][0];
    // The way back to the kernel works, with all its settings, although /proc/sys is for reading only.
    assert_eq!((&eth0["name"], &eth0["tapProblem"]), (&"eth0".into(), &Value::Null), "{eth0}");
    assert_eq!((&eth0["tapNotes"], eth0["tap"].is_string()), (&json!([]), true), "{eth0}");

    let ended = container.process.terminate(Duration::from_secs(5)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ended.code(), Some(0), "{}", container.process.output());

    // Without the host's settings it says which it could not make, also where their empty folder is still there.
    let mounts = pod.spec["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["destination"] != "/host/proc/sys/net");
    let mut container = pod.start(&bed.objects());
    await_ready(&mut container, &bed);
    let notes = status_of(&container)["interfaces"][0]["tapNotes"].to_string();
    assert!(notes.contains("/proc/sys/net/ipv4/conf/") && notes.contains("Read-only file system"), "{notes}");
    assert!(!notes.contains("/host/proc"), "{notes}");
}

/// What `kubectl exec ds/ringway -- ringway status` says.
#[track_caller]
fn status_of(container: &Container) -> Value {
    let told = container.exec(&["/usr/bin/ringway", "status", "--output", "json"]);
    serde_json::from_str(&told.unwrap_or_else(|error| panic!("{error}"))).expect("JSON")
}

#[test]
fn the_image_says_in_one_line_why_it_cannot_run() {
    if !can_run("the_image_says_in_one_line_why_it_cannot_run", &PROGRAMS) {
        return;
    }
    let image = Image::make();
    let bed = bed();
    let refused = |what: &str, change: &dyn Fn(&mut Pod), status: i32, said: &str| {
        let mut pod = pod(&image, &bed);
        change(&mut pod);
        let (code, line) = pod.start(&bed.objects()).refusal();
        assert!(line.contains(said), "{what}: {line}");
        assert_eq!(code, Some(status), "{what}: {line}");
        assert!(probes(&bed).is_err(), "{what}: nobody answers the probes");
    };

    let all = ["CAP_BPF", "CAP_IPC_LOCK", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON"];
    for missing in all {
        let rest: Vec<&str> = all.into_iter().filter(|name| *name != missing).collect();
        let said = format!("error: missing {missing} ");
        let grant = |pod: &mut Pod| {
            pod.grant(&rest);
            // The runtime's profile would refuse bpf() without CAP_BPF, but that is found later.
            pod.bpf_takes = "CAP_NET_ADMIN";
        };
        refused(missing, &grant, 1, &said);
    }
    refused("no capability", &|pod| pod.grant(&[]), 1, "list NET_ADMIN, NET_RAW, BPF, PERFMON and IPC_LOCK under");
    // A copy has no file capabilities.
    let bare = image.root().with_file_name("bare");
    std::fs::copy(image.root().join("usr/bin/ringway"), &bare).expect("a copy");
    let lose = |pod: &mut Pod| {
        let mount = json!({"destination": "/usr/bin/ringway", "type": "bind", "source": bare, "options": ["bind"]});
        pod.spec["mounts"].as_array_mut().expect("mounts").push(mount);
    };
    refused("no file capabilities", &lose, 1, "but user 65532 gets them by file capabilities only");

    let strict = |pod: &mut Pod| pod.bpf_takes = "CAP_SYS_ADMIN";
    refused("bpf() filtered", &strict, 1, "a seccomp filter is in force, which is what refuses bpf()");
    let filter = |pod: &mut Pod| {
        let mut profile = pod.profile();
        let calls = profile["syscalls"].as_array_mut().expect("syscalls");
        calls.retain(|call| call["names"] != json!(["socket"]));
        // All families but AF_XDP.
        let others = json!([{"index": 0, "value": 44, "op": "SCMP_CMP_NE"}]);
        calls.push(json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": others}));
        pod.spec["linux"]["seccomp"] = profile;
    };
    refused("AF_XDP filtered", &filter, 1, "a seccomp filter is in force, which is what refuses AF_XDP sockets");
    let absent = |pod: &mut Pod| {
        let mut profile = pod.profile();
        let calls = profile["syscalls"].as_array_mut().expect("syscalls");
        calls.retain(|call| !call["names"].as_array().is_some_and(|names| names.contains(&"bpf".into())));
        calls.push(json!({"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22}));
        pod.spec["linux"]["seccomp"] = profile;
    };
    refused("no XSKMAP", &absent, 1, "it needs a kernel with CONFIG_BPF_SYSCALL=y and CONFIG_XDP_SOCKETS=y");

    // Without hostNetwork.
    let said = "this pod is not in its node's network: the node's address 192.0.2.1 (HOST_IP) is on none of its interfaces (eth0)";
    refused("another network", &|pod| pod.set("HOST_IP", "192.0.2.1"), 1, said);
    let elsewhere = |pod: &mut Pod| {
        pod.set("HOST_IP", "");
        pod.configuration = pod.configuration.replace("eth*", "wan0");
    };
    refused("no such interface", &elsewhere, 2, "a pod sees those of its node with hostNetwork: true only");
    let unnamed = |pod: &mut Pod| pod.set("NODE_NAME", "GW 1");
    refused("a wrong node name", &unnamed, 2, "the environment variable NODE_NAME is \"GW 1\", which is no node name");

    // Beside another instance.
    let first = pod(&image, &bed);
    let mut running = first.start(&bed.objects());
    await_ready(&mut running, &bed);
    let (code, line) = first.start(&bed.objects()).refusal();
    assert!(line.contains("admin.healthz: cannot listen on 0.0.0.0:10266: Address already in use"), "{line}");
    assert_eq!(code, Some(1), "{line}");
    let mut other = first.clone();
    other.configuration = other.configuration.replace("10266", "10267");
    let (code, line) = other.start(&bed.objects()).refusal();
    assert!(
        line.contains("another XDP program is attached to eth0") && line.contains("perhaps another instance"),
        "{line}"
    );
    assert_eq!(code, Some(1), "{line}");
    probes(&bed).unwrap_or_else(|error| panic!("the first goes on: {error}"));
}
