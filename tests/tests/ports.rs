//! SNAT ports: very many connections to one endpoint, and what else comes to the node's ports meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ringway_control::demo::process::Process;
use ringway_tests::netns::Namespace;
use ringway_tests::topology::{Bed, ECHO, HTTP, LOAD_BALANCER_IPS, NODE_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use rustix::net::sockopt::{Timeout, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, listen, socket};
use serde_json::Value;

/// As many as complaints elsewhere begin at.
const CONNECTIONS: usize = 25_000;

/// Addresses of the client, two for each of the processes that connect.
const CLIENTS: [[&str; 2]; 2] = [["192.168.0.1", "192.168.0.3"], ["192.168.0.4", "192.168.0.5"]];

/// How long all of them may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A TCP connection from this address and port.
fn connect_from(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(LIMIT))?;
    bind(&socket, &from)?;
    connect(&socket, &to)?;
    Ok(socket.into())
}

fn one_endpoint_takes_them_all(queues: u32) {
    if !can_run("very many connections", &["ip"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { backends: 1, queues, ..Options::default() });
    for client in CLIENTS.iter().flatten().skip(1) {
        bed.client.address("eth0", &format!("{client}/24")).expect("another address");
    }
    let config = std::fs::read_to_string(bed.config()).expect("the configuration");
    std::fs::write(bed.config(), config.replace("perWorker: 16384", "perWorker: 65536")).expect("a larger table");
    // The kernel keeps what the server has not taken yet.
    bed.backends[0].sysctl("net/core/somaxconn", "32768").expect("room for connections");
    let server = bed.backends[0].enter(|| {
        let server = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&server, &at("0.0.0.0", HTTP.target))?;
        listen(&server, 32_768)?;
        set_socket_timeout(&server, Timeout::Recv, Some(LIMIT))?;
        Ok::<_, std::io::Error>(TcpListener::from(server))
    });
    let server = server.expect("the namespace").expect("a server");
    bed.start_ringway();
    let before = bed.ledger();
    let (web, go) = (at(LOAD_BALANCER_IPS[0], HTTP.port).to_string(), bed.folder().join("go"));
    let each = (CONNECTIONS / 4).to_string();
    let mut clients = CLIENTS.map(|addresses| {
        let mut command = bed.client.command(env!("CARGO_BIN_EXE_ringway-connections"));
        command.args([&web, &each]).arg(&go).args(addresses);
        Process::start("connections", command).expect("a process")
    });
    for client in &mut clients {
        eventually(LIMIT, "all to be connected", || match client.output() {
            output if output == "connected" => Ok(()),
            output => Err(output),
        });
    }
    let fullest = eventually(Duration::from_secs(20), "status to know the ports in use", || {
        let status = bed.ringway().ask("/status");
        let fullest = status.pointer("/snat/endpoints/0").cloned().unwrap_or_default();
        match fullest.get("used").and_then(Value::as_u64) {
            Some(used) if used == CONNECTIONS as u64 => Ok(fullest),
            used => Err(format!("{used:?} ports are used")),
        }
    });
    assert_eq!(fullest["endpoint"], format!("10.180.0.11:{}", HTTP.target));
    assert_eq!((&fullest["protocol"], &fullest["address"]), (&Value::from("tcp"), &Value::from("10.180.0.1")));
    assert!(fullest["limit"].as_u64().is_some_and(|limit| limit > CONNECTIONS as u64), "{fullest:#}");
    let percent = fullest["fullestWorkerPercent"].as_u64().expect("a number");
    let log = bed.ringway().output();
    assert_eq!(
        percent >= 80,
        log.contains("SNAT ports are in use from 10.180.0.1 to tcp:10.180.0.11"),
        "{percent}: {log}"
    );
    let services = bed.ringway().ask("/services");
    let web = services["services"].as_array().and_then(|services| services.first()).cloned().unwrap_or_default();
    let endpoint = web["ports"].as_array().into_iter().flatten().find(|port| port["protocol"] == "tcp");
    assert_eq!(endpoint.expect("a port")["endpoints"][0]["snatPorts"]["used"], CONNECTIONS as u64);
    // Each is its own.
    std::fs::write(&go, "").expect("the file");
    for number in 0..CONNECTIONS {
        let (mut connection, _) = server.accept().unwrap_or_else(|error| panic!("connection {number}: {error}"));
        let mut word = [0; 4];
        connection.set_read_timeout(Some(LIMIT)).expect("a timeout");
        connection.read_exact(&mut word).unwrap_or_else(|error| panic!("connection {number} said nothing: {error}"));
        connection.write_all(&word).expect("the answer");
    }
    for client in &mut clients {
        let status = client.wait(LIMIT).expect("an end");
        assert!(status.success(), "{}", client.output());
    }
    let ledger = bed.ledger().since(&before);
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
    assert_eq!(bed.ringway().worker_ledgers().len(), queues as usize);
}

#[test]
fn one_endpoint_takes_25_000_masqueraded_connections() {
    one_endpoint_takes_them_all(1);
}

#[test]
fn two_workers_share_one_endpoints_25_000_connections() {
    one_endpoint_takes_them_all(2);
}

/// One exchange with a server of the node, a kubelet say, from an address and port of a namespace.
fn ask_node(from: &Namespace, source: SocketAddr, server: &TcpListener) {
    let to = server.local_addr().expect("its address");
    let mut client = from.enter(|| connect_from(source, to).expect("connected")).expect("the namespace");
    let (mut accepted, peer) = server.accept().expect("a connection");
    assert_eq!(peer.port(), client.local_addr().expect("its address").port());
    client.write_all(b"asked").expect("sent");
    let mut word = [0; 5];
    accepted.read_exact(&mut word).expect("what the client says");
    accepted.write_all(&word).expect("the answer");
    client.read_exact(&mut word).expect("the answer");
}

/// The default SNAT ports have the numbers of much that listens on a node.
#[test]
fn what_the_node_listens_on_among_the_snat_ports_is_not_touched() {
    if !can_run("the node's own ports", &["ip"]) {
        return;
    }
    for masquerade in [false, true] {
        let mut bed = Bed::prepare(Options { backends: 1, masquerade, ..Options::default() });
        bed.start_ringway();
        let status = bed.ringway().ask("/status");
        let ports = status["snat"]["ports"].as_str().expect("ports").to_owned();
        assert!(ports.starts_with("1024-29999,"), "10250 is one of {ports}");
        let listen = |address: &str| bed.gateway.enter(|| TcpListener::bind((address, 10_250)).expect("a listener"));
        let [front, back] = [NODE_IPS[0], "10.180.0.1"].map(|address| listen(address).expect("the namespace"));
        let before = bed.ledger();
        for port in 2_000..2_003 {
            ask_node(&bed.client, at(CLIENTS[0][0], port), &front);
            ask_node(&bed.backends[0], SocketAddr::new(bed.backend_ip(0, false), port), &back);
        }
        let ledger = bed.ledger().since(&before);
        assert_eq!(ledger.rx, 0, "no packet took the way through Ringway: {ledger:?}");
        // From the very port that it serves on, an endpoint's packets look like replies: they come up, and are passed on.
        ask_node(&bed.backends[0], SocketAddr::new(bed.backend_ip(0, false), HTTP.target), &back);
        let ledger = bed.ledger().since(&before);
        assert!(ledger.rx > 0 && ledger.rx == ledger.passed, "{ledger:?}");
    }
}

#[test]
fn an_answer_of_an_endpoint_that_is_gone_still_finds_back() {
    if !can_run("answers of endpoints that are gone", &["ip"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { backends: 2, ..Options::default() });
    bed.write_web(&[0]);
    let socket = |namespace: &Namespace, port| {
        let socket = namespace.enter(|| UdpSocket::bind(("0.0.0.0", port)).expect("a socket")).expect("the namespace");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        socket
    };
    let [client, server] = [socket(&bed.client, 0), socket(&bed.backends[0], ECHO.target)];
    bed.start_ringway();
    client.send_to(b"asked", at(LOAD_BALANCER_IPS[0], ECHO.port)).expect("sent");
    let mut word = [0; 16];
    let (length, peer) = server.recv_from(&mut word).expect("the question");
    assert_eq!((&word[..length], peer.ip()), (&b"asked"[..], "10.180.0.1".parse().expect("an address")));
    bed.write_web(&[1]);
    eventually(Duration::from_secs(10), "the endpoint to be gone on all workers", || {
        let services = bed.ringway().ask("/services").to_string();
        let status = bed.ringway().ask("/status");
        match status["snapshot"]["inForce"].as_bool() {
            Some(true) if services.contains("10.180.0.12:") && !services.contains("10.180.0.11:") => Ok(()),
            _ => Err(services),
        }
    });
    server.send_to(b"answered", peer).expect("sent");
    let (length, from) = client.recv_from(&mut word).expect("the answer");
    assert_eq!((&word[..length], from), (&b"answered"[..], at(LOAD_BALANCER_IPS[0], ECHO.port)));
}

/// A socket of the node that comes later than a flow with the same address and port hears everybody but the flow's endpoint.
#[test]
fn a_socket_of_the_node_on_a_port_that_a_flow_has_hears_all_others() {
    if !can_run("a socket on a SNAT port", &["ip"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { backends: 1, ..Options::default() });
    bed.write_config("snat: {ports: 20000}\n");
    let bound = |namespace: &Namespace, address: &str, port| {
        let socket = namespace.enter(|| UdpSocket::bind((address, port)).expect("a socket")).expect("the namespace");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        socket
    };
    let [client, endpoint, other] = [(&bed.client, 0), (&bed.backends[0], ECHO.target), (&bed.backends[0], 0)]
        .map(|(at, port)| bound(at, "0.0.0.0", port));
    let heard = |socket: &UdpSocket| {
        let mut word = [0; 16];
        let (length, from) = socket.recv_from(&mut word).expect("a datagram");
        (String::from_utf8_lossy(&word[..length]).into_owned(), from)
    };
    bed.start_ringway();
    client.send_to(b"asked", at(LOAD_BALANCER_IPS[0], ECHO.port)).expect("sent");
    let snat = SocketAddr::new("10.180.0.1".parse().expect("an address"), 20_000);
    assert_eq!(heard(&endpoint), ("asked".to_owned(), snat));
    let node = bound(&bed.gateway, "10.180.0.1", 20_000);
    other.send_to(b"to the node", snat).expect("sent");
    assert_eq!(heard(&node).0, "to the node");
    endpoint.send_to(b"answered", snat).expect("sent");
    assert_eq!(heard(&client), ("answered".to_owned(), at(LOAD_BALANCER_IPS[0], ECHO.port)));
    // What the node answers reaches who asked it.
    let (_, peer) = {
        other.send_to(b"again", snat).expect("sent");
        heard(&node)
    };
    node.send_to(b"heard", peer).expect("sent");
    assert_eq!(heard(&other), ("heard".to_owned(), snat));
}

/// Those of established connections are nobody else's; those of half-open ones are to be had.
#[test]
fn trace_and_status_tell_when_no_snat_port_is_left() {
    if !can_run("SNAT ports that run out", &["ip"]) {
        return;
    }
    const PORTS: usize = 5;
    let mut bed = Bed::prepare(Options { backends: 1, queues: 1, ..Options::default() });
    bed.write_config(&format!("snat: {{ports: 20000-{}}}\n", 20_000 + PORTS - 1));
    bed.serve();
    bed.start_ringway();
    let web = at(LOAD_BALANCER_IPS[0], HTTP.port);
    let endpoint = format!("10.180.0.11:{}", HTTP.target);
    let packet = format!("tcp:192.168.0.1:9->{web}");
    let trace = |bed: &mut Bed| {
        let output = bed.ringway().command(&["trace", "--output", "json", &packet]);
        let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        line
    };
    let limits = |bed: &mut Bed| bed.ringway().ask("/status")["limits"].clone();
    let told = |bed: &mut Bed, said: &str| {
        eventually(Duration::from_secs(20), said, || {
            let limits = limits(bed);
            let first = limits.pointer("/0").and_then(Value::as_str).unwrap_or_default();
            if first.contains(said) { Ok(first.to_owned()) } else { Err(limits.to_string()) }
        })
    };
    let open = |bed: &Bed| bed.client.enter(|| TcpStream::connect_timeout(&web, LIMIT)).expect("the namespace");
    let mut connections: Vec<TcpStream> = Vec::new();
    for _ in 1..PORTS {
        connections.push(open(&bed).expect("connected"));
    }
    assert_eq!((&trace(&mut bed)["verdict"], &limits(&mut bed)[1]), (&Value::from("forward"), &Value::Null));
    told(&mut bed, &format!("4 of 5 SNAT ports are in use from 10.180.0.1 to tcp:{endpoint}: when none is left"));
    connections.push(open(&bed).expect("connected"));
    let first =
        told(&mut bed, &format!("5 of 5 SNAT ports are in use from 10.180.0.1 to tcp:{endpoint}: none is free"));
    assert!(first.contains("add ports to snat.ports"), "{first}");
    let text = String::from_utf8(bed.ringway().command(&["status"]).stdout).expect("text");
    let listed = text.split("to be known:").nth(1).unwrap_or_default();
    assert!(listed.contains("5 of 5 SNAT ports are in use"), "{text}");
    let line = trace(&mut bed);
    assert_eq!((&line["verdict"], &line["reason"]), (&Value::from("drop"), &Value::from("snat_ports_exhausted")));
    assert!(
        line["steps"].to_string().contains(&format!("5 of 5 SNAT ports towards {endpoint} are in use.")),
        "{line:#}"
    );
    // It is so; and whose flow there is already is served.
    let before = bed.ledger();
    let refused = bed.client.enter(|| TcpStream::connect_timeout(&web, Duration::from_millis(300)));
    refused.expect("the namespace").expect_err("no port is left");
    // How often it asked depends on when its time was looked at.
    eventually(Duration::from_secs(20), "its drop to be counted", || {
        let drops = bed.ledger().since(&before).drops;
        if drops.contains_key("snat_ports_exhausted") { Ok(()) } else { Err(format!("{drops:?}")) }
    });
    let known = connections.first().and_then(|one| one.local_addr().ok()).expect("its address");
    let output = bed.ringway().command(&["trace", "--output", "json", &format!("tcp:{known}->{web}")]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(r#""verdict":"forward""#));
}
