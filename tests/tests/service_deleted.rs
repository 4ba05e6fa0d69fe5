//! A deleted Service, one without endpoints, and a port that no Service has.

use ringway_tests::echo::EchoClient;
use ringway_tests::process::{ask, try_ask};
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn without_endpoints_clients_are_refused_at_once() {
    if !can_run("without_endpoints_clients_are_refused_at_once", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    bed.write_web_slices(&[]);
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        eventually(SOON, "connections are refused", || match try_ask(&bed.client, at(ip, HTTP.port)) {
            Ok(answer) => Err(format!("{answer:?}")),
            Err(_) => Ok(()),
        });
        let begin = Instant::now();
        let error = try_ask(&bed.client, at(ip, HTTP.port)).expect_err("there is no endpoint");
        assert!(begin.elapsed() < Duration::from_secs(1), "a RST comes at once, a timeout does not: {error}");
        let error = EchoClient::new(&bed.client, at(ip, ECHO.port)).ask(b"anyone?").expect_err("there is no endpoint");
        assert!(error.contains("refused"), "ICMP port unreachable: {error}");
        // A port that no Service has.
        let error = EchoClient::new(&bed.client, at(ip, 999)).ask(b"anyone?").expect_err("there is no such port");
        assert!(error.contains("refused"), "ICMP port unreachable: {error}");
    }
    let ledger = bed.ledger();
    assert!(ledger.replied >= 4 * 4, "{ledger:?}");

    bed.write_web_slices(&[0, 1, 2]);
    eventually(SOON, "refilled slices serve again", || try_ask(&bed.client, at(CLUSTER_IPS[0], HTTP.port)).map(|_| ()));
    bed.ledger();
}

/// One request on a connection that is kept open.
fn request(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")?;
    let length = stream.read(&mut [0; 4096])?;
    if length == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[test]
fn its_clients_are_told_instead_of_hanging() {
    if !can_run("its_clients_are_told_instead_of_hanging", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let vips = || CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS);
    let held: Vec<TcpStream> = vips()
        .map(|vip| {
            let connect = || TcpStream::connect_timeout(&at(vip, HTTP.port), Duration::from_secs(3));
            let stream = bed.client.enter(connect).expect("the namespace").expect("a connection");
            request(&stream).expect("an answer");
            stream
        })
        .collect();
    bed.remove_object("web-service.json");
    for stream in &held {
        let (from, to) = (stream.local_addr().expect("its own address"), stream.peer_addr().expect("the VIP"));
        let packet = format!("tcp:{from}->{to}");
        eventually(SOON, "trace tells what becomes of it", || {
            let said = String::from_utf8_lossy(&bed.ringway().command(&["trace", &packet]).stdout).into_owned();
            if said.contains("its next packet is answered with a RST") { Ok(()) } else { Err(said) }
        });
        let error = eventually(SOON, "the Service is gone", || request(stream).err().ok_or("an answer".to_owned()));
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{:?}: {error}", stream.peer_addr());
    }
    bed.ledger();
}

#[test]
fn its_vips_are_no_longer_ours() {
    if !can_run("its_vips_are_no_longer_ours", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    ask(&bed.client, at(CLUSTER_IPS[0], HTTP.port));
    bed.remove_object("web-service.json");
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        eventually(SOON, "forwarding stops although the slices remain", || {
            match try_ask(&bed.client, at(ip, HTTP.port)) {
                Ok(answer) => Err(format!("{answer:?}")),
                Err(_) => Ok(()),
            }
        });
    }
    let before = bed.ledger();
    let _ = try_ask(&bed.client, at(CLUSTER_IPS[0], HTTP.port));
    let ledger = bed.ledger().since(&before);
    assert_eq!(ledger.forwarded, 0, "{ledger:?}");

    bed.write_web(&[0, 1, 2]);
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        eventually(SOON, "the Service is back", || try_ask(&bed.client, at(ip, HTTP.port)).map(|_| ()));
    }
    bed.ledger();
}
