//! What the command says when something is wrong, word for word, with its exit status.

mod bed;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use bed::{Bed, SERVICE, check, config, told};
use insta::assert_snapshot;

#[test]
fn a_valid_configuration_says_what_would_be_done() {
    assert_snapshot!(check(&config("")));
}

/// The API server is not asked, so nobody there is no problem.
#[test]
fn a_configuration_for_a_cluster_says_what_would_be_done() {
    let config = config("").replace("source: {files: objects}", "source: {kubernetes: {kubeconfig: kubeconfig}}");
    let config = config.replace("addresses: [192.168.0.2]", "podCIDRs: []");
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
                      contexts: [{name: here, context: {cluster: c, user: u}}]\n\
                      clusters: [{name: c, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
                      users: [{name: u, user: {token: t}}]\n";
    assert_snapshot!(
        Bed::new(&[("gw.yaml", &config), ("kubeconfig", kubeconfig)]).run(&["check", "--config", "gw.yaml"])
    );
}

#[test]
fn an_unknown_key_is_told_with_the_allowed_ones() {
    assert_snapshot!(check(&config("flows:\n  perworker: 7\n")));
}

#[test]
fn every_wrong_value_is_told_at_once() {
    let wrong = "workers: {cpus: [a], poll: lazy}\nsnat: {ports: 65535-61000}\nflows: {timeouts: {udp: 60}}\n\
                 whenDown: forward\nadmin: {metrics: 9098}\nlog: loud\nforwarding: dsr\n";
    assert_snapshot!(check(&config(wrong)));
}

#[test]
fn a_missing_key_is_told_with_what_to_write() {
    assert_snapshot!(check("source: {files: objects}\n"));
}

#[test]
fn an_interface_that_the_network_does_not_describe_is_told() {
    assert_snapshot!(check(&config("").replace("{name: eth0}]\n", "{name: eth0}, {name: wan0}]\n")));
}

#[test]
fn an_unreachable_route_is_told() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: ns1, name: svc1-x, labels: \
                 {kubernetes.io/service-name: svc1}}\naddressType: IPv4\nports: [{name: p80, port: 8080}]\nendpoints: \
                 [{addresses: [10.9.0.1]}]\n";
    let files = [
        ("gw.yaml", &*config("  routes: [{to: 10.9.0.0/16, dev: wg0}]\n")),
        ("objects/svc1.yaml", SERVICE),
        ("objects/slice.yaml", slice),
    ];
    assert_snapshot!(Bed::new(&files).run(&["check", "--config", "gw.yaml"]));
}

#[test]
fn a_configuration_that_is_not_there_is_told() {
    assert_snapshot!(Bed::new(&[]).run(&["check", "--config", "gw.yaml"]));
}

#[test]
fn a_configuration_that_is_no_yaml_is_told_with_the_line() {
    assert_snapshot!(check("nodeName: gw-1\n\tinterfaces: []\n"));
}

#[test]
fn a_broken_object_fails_check_and_is_a_note_to_trace() {
    let broken = SERVICE.replace("port: 80", "port: 80000").replace("svc1", "svc2");
    let bed = Bed::new(&[
        ("gw.yaml", &config("")),
        ("objects/svc1.yaml", SERVICE),
        ("objects/svc2.yaml", &broken),
        ("objects/yaml.yaml", "a: [\n"),
    ]);
    assert_snapshot!(bed.run(&["check", "--config", "gw.yaml"]));
    assert_snapshot!(bed.run(&[
        "trace",
        "--objects",
        "objects",
        "tcp:10.0.0.2->172.30.0.41:80",
        "tcp:10.0.0.2->1.2.3.4:5"
    ]));
}

#[test]
fn what_would_not_take_effect_as_written_fails_check() {
    let slice = |name: &str, address: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: ns1, name: {name}-1, labels: \
             {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nports: [{{name: p80, port: 8080}}]\nendpoints: \
             [{{addresses: [{address}]}}]\n"
        )
    };
    let unnamed = slice("svc1", "10.0.0.1").replace("ports: [{name: p80, port: 8080}]\n", "");
    let stray = slice("svc1", "10.0.0.1").replace("8080}", "8080}, {name: p81, port: 8081}");
    let headless = slice("db", "10.0.0.1").replace("labels: {", "labels: {service.kubernetes.io/headless: \"\", ");
    let foreign = slice("db", "10.0.0.1").replace("kubernetes.io/service-name: db", "a: b");
    for (objects, said) in [
        (slice("svc1", "10.0.0.1"), None),
        (headless, None),
        (foreign, None),
        (unnamed, Some("Service ns1/svc1: port p80 (80/tcp) has no endpoint")),
        (stray, Some("Service ns1/svc1: port p81 (tcp) of EndpointSlice ns1/svc1-1 gets no packets")),
        (slice("svc1", "192.168.0.2"), Some("Service ns1/svc1: endpoint 192.168.0.2 gets no packets")),
        (
            slice("svc1", "nowhere"),
            Some("EndpointSlice ns1/svc1-1: endpoints[0] is skipped: \"nowhere\" is not an IP address"),
        ),
        (
            slice("svc2", "10.0.0.1"),
            Some(
                "EndpointSlice ns1/svc2-1: the label kubernetes.io/service-name names the Service ns1/svc2, which is not \
                  there: correct it, or add the Service",
            ),
        ),
        (
            SERVICE.replace("svc1", "svc3").replacen("apiVersion", "---\napiVersion", 1),
            Some("belongs to Service ns1/svc1 already"),
        ),
        // Its slices are those of a Service that is there, although it is refused.
        (
            format!(
                "---\n{}{}",
                SERVICE.replace("svc1", "svc4").replace("port: 80", "port: 0"),
                slice("svc4", "10.0.0.1")
            ),
            Some("is refused"),
        ),
    ] {
        let objects = format!("{SERVICE}{objects}");
        // The last case tells of the refusal alone.
        let said = said
            .map(|said| if said == "is refused" { "Service ns1/svc4: refused: spec.ports[0].port is 0" } else { said });
        let bed = Bed::new(&[("gw.yaml", &config("").replace("objects", "nowhere")), ("o.yaml", &objects)]);
        let answer = bed.run(&["check", "--config", "gw.yaml", "--objects", "o.yaml"]);
        match said {
            None => assert!(answer.starts_with("exit status 0\n"), "{objects}{answer}"),
            Some(said) => {
                assert!(answer.starts_with("exit status 2\n") && answer.contains(said), "{objects}{answer}");
                let (_, told) = answer.split_once("--- stderr\n").unwrap();
                assert_eq!(told.lines().filter(|line| !line.starts_with("note: ")).count(), 1, "{answer}");
            }
        }
    }
}

#[test]
fn objects_that_cannot_be_read_fail_check() {
    let bed = Bed::new(&[("gw.yaml", &config(""))]);
    assert_snapshot!(bed.run(&["check", "--config", "gw.yaml"]));
    assert_snapshot!(bed.run(&["trace", "--objects", "objects", "tcp:10.0.0.2->172.30.0.41:80"]));
}

#[test]
fn a_folder_without_manifests_is_noted_by_check() {
    let bed = Bed::new(&[("gw.yaml", &config("")), ("objects/README", "none yet\n"), ("full/svc1.yaml", SERVICE)]);
    let note = "--- stderr\nnote: no manifests (*.yaml, *.yml, *.json) in objects\n";
    for more in [&[][..], &["--objects", "objects"]] {
        let told = bed.run(&[&["check", "--config", "gw.yaml"][..], more].concat());
        assert!(told.starts_with("exit status 0\n") && told.ends_with(note), "{told}");
    }
    let told = bed.run(&["check", "--config", "gw.yaml", "--objects", "full"]);
    assert!(told.starts_with("exit status 0\n") && !told.contains("no manifests"), "{told}");
}

#[test]
fn one_malformed_packet_ends_trace_before_any_output() {
    let bed = Bed::new(&[("objects/svc1.yaml", SERVICE)]);
    let ask =
        |packet| bed.run(&["trace", "--objects", "objects", "-o", "json", "tcp:10.0.0.2->172.30.0.41:80", packet]);
    assert_snapshot!(ask("tcp:10.0.0.2->172.30.0.41"));
    assert_snapshot!(ask("tcp:10.0.0.2->[fd00::1]:80"));
}

#[test]
fn wrong_usage_is_told_by_what_is_missing() {
    let bed = Bed::new(&[]);
    assert_snapshot!(bed.run(&["trace"]));
    assert_snapshot!(bed.run(&["chekc"]));
    assert_snapshot!(bed.run(&["flows", "--client", "10.0.0"]));
    assert_snapshot!(bed.run(&["flows", "--state", "bogus"]));
}

#[test]
fn a_configuration_without_its_option_is_told_how_to_write_it() {
    let tip = "\n\n  tip: write --config good.yaml\n";
    for (arguments, is_meant) in [
        (&["run", "good.yaml"][..], true),
        (&["check", "-o", "json", "good.yaml"], true),
        (&["check", "good"], false),
        (&["demo", "good.yaml"], false),
    ] {
        let told = Bed::new(&[]).run(arguments);
        let start = "exit status 2\n--- stdout\n--- stderr\nerror: unexpected argument 'good";
        assert!(told.starts_with(start) && told.contains(tip) == is_meant, "{told}");
    }
}

#[test]
fn demo_without_root_is_an_error_like_any_other() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    if rustix::process::geteuid().is_root() {
        let nobody = 65_534;
        command.uid(nobody).gid(nobody);
    }
    let told = told(command.arg("demo").output().unwrap());
    let start = "exit status 1\n--- stdout\n--- stderr\nerror: ringway demo makes network namespaces";
    assert!(told.starts_with(start), "{told}");
}

#[test]
fn every_question_says_when_no_instance_runs() {
    let bed = Bed::new(&[("gw.yaml", &config("admin: {socket: admin.sock}\n"))]);
    assert_snapshot!(bed.run(&["status", "--config", "gw.yaml"]));
    // A socket that a killed process left.
    drop(std::os::unix::net::UnixListener::bind(bed.path().join("admin.sock")).unwrap());
    assert_snapshot!(bed.run(&["trace", "--socket", "admin.sock", "tcp:10.0.0.2->172.30.0.41:80"]));
    for command in ["services", "flows", "drops"] {
        let told = bed.run(&[command, "--socket", "none.sock"]);
        assert!(told.starts_with("exit status 1\n--- stdout\n--- stderr\nerror: none.sock: no instance"), "{told}");
    }
}

#[test]
fn a_malformed_packet_is_told_before_an_instance_is_asked() {
    let told = Bed::new(&[]).run(&["trace", "--socket", "none.sock", "tcp:1.2.3.4"]);
    assert!(told.starts_with("exit status 2\n--- stdout\n--- stderr\nerror: PACKET \"tcp:1.2.3.4\": no ->"), "{told}");
}

#[test]
fn run_says_what_a_missing_interface_and_missing_privileges_need() {
    let text = "nodeName: gw-1\nsource: {files: objects}\ninterfaces: [{name: nosuch0}]\nstate: state\nadmin: {socket: \
                admin.sock, metrics: off, healthz: off}\n";
    let bed = Bed::new(&[("gw.yaml", text), ("objects/svc1.yaml", SERVICE)]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["run", "--config", "gw.yaml"]).current_dir(bed.path());
    if rustix::process::geteuid().is_root() {
        // What this says depends on the machine's interfaces at its end.
        let told = told(command.output().unwrap());
        let (first, _) = told.split_once("`ip link`").expect(&told);
        assert_snapshot!(first);
        let nobody = 65_534;
        std::fs::set_permissions(bed.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        command.uid(nobody).gid(nobody);
    }
    let told = told(command.output().unwrap());
    let (first, _) = told.split_once("setcap").expect(&told);
    assert_snapshot!("no_privileges", first);
}

#[test]
fn drop_reasons_are_listed_without_an_instance() {
    let listed = Bed::new(&[]).run(&["drops", "--reasons"]);
    let expected =
        "exit status 0\n--- stdout\n| reason | what it says about the packet |\n|---|---|\n| `no_endpoint` | ";
    assert!(listed.starts_with(expected), "{listed}");
    assert_eq!(
        listed.lines().filter(|line| line.starts_with("| `")).count(),
        ringway_shared::drop_reason::DROP_REASONS
    );
}

#[test]
fn the_version_is_known_everywhere() {
    let bed = Bed::new(&[]);
    let version = ringway_control::VERSION;
    assert!(version.starts_with(concat!(env!("CARGO_PKG_VERSION"), " (")), "{version} tells the build");
    assert_eq!(bed.run(&["--version"]), format!("exit status 0\n--- stdout\nringway {version}\n--- stderr\n"));
    assert!(bed.run(&["check", "--version"]).starts_with("exit status 0\n--- stdout\nringway-check "));
}

/// Runs `ringway` where /etc has `ringway/ringway.yaml` with this text, or no such file.
fn with_default(config: Option<&str>, arguments: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test mounts an /etc of its own, and needs root for that");
        eprintln!("SKIPPED: this test mounts an /etc of its own, and needs root for that");
        return None;
    }
    let write = config.map_or("", |_| "mkdir /etc/ringway && cp gw.yaml /etc/ringway/ringway.yaml &&");
    let bed = Bed::new(&[("gw.yaml", config.unwrap_or("")), ("objects/svc1.yaml", SERVICE)]);
    let script = format!("mount -t tmpfs none /etc && {write} exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_ringway")]);
    command.args(arguments).current_dir(bed.path());
    Some(told(command.output().unwrap()))
}

#[test]
fn without_a_name_the_configuration_is_the_one_in_etc() {
    // An interface that no machine has: `run` must not run.
    let here =
        config("state: state\nadmin: {socket: here.sock, metrics: off, healthz: off}\n").replace("eth0", "nosuch0");
    let packet = "tcp:10.0.0.2->172.30.0.41:80";
    for (arguments, said) in [
        (&["check"][..], "/etc/ringway/ringway.yaml is valid"),
        (&["run"], "nosuch0"),
        (&["replay", "--in", "i.pcap", "--out", "o.pcap"], "i.pcap: "),
        (&["status"], "error: here.sock: no instance"),
        (&["reload"], "error: here.sock: no instance"),
        (&["trace", packet], "error: here.sock: no instance"),
    ] {
        let Some(told) = with_default(Some(&here), arguments) else { return };
        assert!(told.contains(said), "{arguments:?}: {told}");
    }
    // Somebody may be at work on it, and wants to know how the instance is all the same.
    let told = with_default(Some("nodeName: [\n"), &["status"]).unwrap();
    assert!(told.contains("note: /etc/ringway/ringway.yaml:"), "{told}");
    assert!(told.contains("error: /run/ringway/admin.sock: "), "{told}");
}

#[test]
fn a_configuration_that_is_nowhere_is_told() {
    for arguments in [&["check"][..], &["run"], &["replay", "--in", "i.pcap", "--out", "o.pcap"]] {
        let Some(told) = with_default(None, arguments) else { return };
        let (head, what) =
            ("exit status 2\n--- stdout\n--- stderr\n", "no --config, and no /etc/ringway/ringway.yaml: ");
        assert!(told.starts_with(&format!("{head}error: {what}")), "{arguments:?}: {told}");
    }
    let traced = with_default(None, &["trace", "--objects", "objects", "tcp:10.0.0.2->172.30.0.41:80"]).unwrap();
    assert!(traced.starts_with("exit status 0\n"), "{traced}");
}

#[test]
fn a_snat_address_that_replies_do_not_come_to_is_told() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: ns1, name: svc1-x, labels: \
                 {kubernetes.io/service-name: svc1}}\naddressType: IPv4\nports: [{name: p80, port: 8080}]\nendpoints: \
                 [{addresses: [192.168.0.7]}]\n";
    let addresses = "snat: {addresses: [192.168.0.2, 192.168.0.9, 172.30.0.41, 192.168.0.7, 192.168.0.2]}\n";
    let files = [("gw.yaml", &*config(addresses)), ("objects/svc1.yaml", SERVICE), ("objects/slice.yaml", slice)];
    let told = Bed::new(&files).run(&["check", "--config", "gw.yaml"]);
    assert!(told.starts_with("exit status 0\n"), "{told}");
    let notes: Vec<&str> =
        told.lines().filter_map(|line| line.split_once("snat.addresses: ")).map(|(_, n)| n).collect();
    let [other, vip, endpoint, twice] = notes[..] else { panic!("{told}") };
    assert!(other.starts_with("192.168.0.9 is no address of this node: "), "{other}");
    assert!(vip.starts_with("172.30.0.41 is a VIP of Service ns1/svc1: "), "{vip}");
    assert!(endpoint.starts_with("192.168.0.7 is the address of an endpoint of Service ns1/svc1: "), "{endpoint}");
    assert!(twice.starts_with("192.168.0.2 is listed twice"), "{twice}");
}
