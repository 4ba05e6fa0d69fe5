//! What commands print, and how they end, where names hold anything, readers leave, and values can never be.

mod bed;

use std::process::Command;

use bed::{Bed, SERVICE, check, config};

#[test]
fn names_that_would_steer_a_terminal_or_make_lines_of_their_own_are_written_out() {
    let odd = "ob\u{1b}[2Jjects\nerror: all is lost";
    let bed = Bed::new(&[("gw.yaml", &config("").replace("objects", "nowhere")), (&format!("{odd}/a.yaml"), "a: [\n")]);
    let answers = [
        bed.run(&["check", "--config", "gw.yaml", "--objects", odd]),
        bed.run(&["trace", "--objects", odd, "tcp:10.0.0.2->172.30.0.41:80"]),
        bed.run(&["check", "--config", odd]),
        bed.run(&["status", "--socket", odd]),
        bed.run(&["replay", "--config", "gw.yaml", "--in", odd, "--out", "x"]),
    ];
    for answer in answers {
        assert!(answer.contains(r"ob\u{1b}[2Jjects\nerror: all is lost"), "{answer:?}");
        assert!(!answer.contains('\u{1b}') && !answer.contains("\nerror: all"), "{answer:?}");
    }
    let key = bed.run(&["check", "--config", &{
        std::fs::write(bed.path().join("odd.yaml"), config("\"x\\e[31m\\ny\": 1\n")).unwrap();
        "odd.yaml".to_owned()
    }]);
    assert!(key.contains(r"x\u{1b}[31m\ny: unknown key") && !key.contains('\u{1b}'), "{key:?}");
}

#[test]
fn a_reader_that_leaves_ends_a_command_without_a_word() {
    let bed = Bed::new(&[("gw.yaml", &config("")), ("objects/svc1.yaml", SERVICE)]);
    for arguments in [
        &["drops", "--reasons"][..],
        &["drops", "--reasons", "--output", "yaml"],
        &["check", "--config", "gw.yaml"],
        &["trace", "--objects", "objects", "tcp:10.0.0.2->172.30.0.41:80"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        let output = command.args(arguments).current_dir(bed.path()).stdout(writer).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        // As a shell tells that SIGPIPE ended it.
        assert_eq!((output.status.code(), said.contains("error")), (Some(141), false), "{arguments:?}: {said}");
    }
}

#[test]
fn a_socket_whose_path_is_too_long_is_told_with_its_length() {
    let path = "s".repeat(108);
    let told = check(&config(&format!("admin: {{socket: {path}}}\n")));
    assert!(told.starts_with("exit status 2\n") && told.contains("admin.socket: \"sss"), "{told}");
    assert!(told.contains("has 108 bytes, and the path of a Unix socket at most 107"), "{told}");
    assert!(check(&config(&format!("admin: {{socket: {}}}\n", &path[1..]))).starts_with("exit status 0\n"));
    let told = Bed::new(&[]).run(&["status", "--socket", &path]);
    assert!(told.contains("has 108 bytes, and the path of a Unix socket at most 107"), "{told}");
}

#[test]
fn a_socket_that_cannot_be_made_is_told_with_why() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test runs an instance, and needs root for that");
        eprintln!("SKIPPED: this test runs an instance, and needs root for that");
        return;
    }
    for (path, why) in [
        ("gw.yaml/admin.sock", "File exists (os error 17); set a path in a folder that can be written to"),
        (
            "/proc/ringway/admin.sock",
            "No such file or directory (os error 2); set a path in a folder that can be written to",
        ),
        ("objects", "it exists and is no socket; set another path"),
    ] {
        let config = format!(
            "nodeName: gw-1\nsource: {{files: objects}}\ninterfaces: [{{name: nosuch0}}]\nstate: state\n\
             admin: {{socket: {path}, metrics: off, healthz: off}}\n"
        );
        let bed = Bed::new(&[("gw.yaml", &config), ("objects/svc1.yaml", SERVICE)]);
        let told = bed.run(&["run", "--config", "gw.yaml"]);
        assert!(told.starts_with("exit status 1\n"), "{told}");
        assert!(told.contains(&format!("error: admin.socket: cannot make {path}: {why}\n")), "{told}");
    }
}

#[test]
fn node_port_addresses_that_name_none_of_the_nodes_are_told_with_those() {
    let told = |wanted: &str| check(&config(&format!("services: {{nodePortAddresses: [{wanted}]}}\n")));
    let note = "note: services.nodePortAddresses names none of the addresses of this node (192.168.0.2), so no NodePort is \
                served\n";
    let none = told("192.168.1.0/24, 2001:db8::/32");
    assert!(none.starts_with("exit status 0\n") && none.contains(note), "{none}");
    for wanted in ["192.168.1.0/24, 192.168.0.0/24", "192.168.1.0/24, primary", ""] {
        let some = told(wanted);
        assert!(some.starts_with("exit status 0\n") && !some.contains("nodePortAddresses"), "{wanted}: {some}");
    }
}

#[test]
fn an_interface_that_can_never_be_attached_to_is_told_by_check() {
    let config = config("").replace("eth0", "lo");
    let (config, _) = config.split_once("network:").unwrap();
    let told = check(config);
    let expected = "gw.yaml: interfaces[0].name: lo is not an Ethernet interface, so Ringway cannot be attached to it";
    assert!(told.starts_with("exit status 2\n") && told.contains(expected), "{told}");
    assert!(check(&config.replace("lo}", "\"l*\"}")).contains("l*: not here now"));
}

#[test]
fn names_in_a_kubeconfig_are_written_out_too() {
    let odd = "c\\e[31m\\nerror: all is lost";
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: \"{odd}\"\ncontexts: [{{name: \"{odd}\", context: {{cluster: c, user: \
         \"{odd}\"}}}}]\nclusters: [{{name: c, cluster: {{server: \"http://127.0.0.1:1\"}}}}]\nusers: [{{name: \"{odd}\", user: \
         {{token: t}}}}]\n"
    );
    let plain = config("").replace("source: {files: objects}", "source: {kubernetes: {kubeconfig: kubeconfig}}");
    let other = plain.replace("kubeconfig: kubeconfig", "kubeconfig: kubeconfig, context: other");
    for (command, config, status) in [("check", &plain, 0), ("check", &other, 2), ("run", &other, 2)] {
        let bed = Bed::new(&[("gw.yaml", config), ("kubeconfig", &kubeconfig)]);
        let answer = bed.run(&[command, "--config", "gw.yaml"]);
        assert!(answer.starts_with(&format!("exit status {status}\n")), "{answer}");
        assert!(answer.contains(r"c\u{1b}[31m\nerror: all is lost"), "{answer:?}");
        assert!(!answer.contains('\u{1b}') && !answer.contains("\nerror: all"), "{answer:?}");
    }
}

#[test]
fn node_ports_among_written_snat_ports_are_noted() {
    let service = SERVICE
        .replace("clusterIP: 172", "type: NodePort\n  clusterIP: 172")
        .replace("port: 80}", "port: 80, nodePort: 30080}");
    let told = |ports: &str| {
        let config = config(&format!("snat: {{ports: {ports}}}\n"));
        Bed::new(&[("gw.yaml", &config), ("objects/svc1.yaml", &service)]).run(&["check", "--config", "gw.yaml"])
    };
    let inside = told("\"20000-40000\"");
    let note = "note: snat.ports holds NodePorts of Services (30080): no new UDP flow gets one of a UDP Service";
    assert!(inside.starts_with("exit status 0\n") && inside.contains(note), "{inside}");
    for ports in ["\"20000-30079,30081-40000\"", "auto"] {
        assert!(!told(ports).contains("NodePorts of Services"), "{ports}");
    }
}
