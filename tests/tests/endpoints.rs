//! Endpoints that are added, removed, or dead.

use ringway_tests::echo::EchoClient;
use ringway_tests::process::{ask, try_ask};
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

/// How often each backend answered `count` new connections.
fn spread(bed: &Bed, count: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        *seen.entry(ask(&bed.client, at(CLUSTER_IPS[0], HTTP.port)).backend).or_default() += 1;
    }
    seen
}

#[test]
fn one_added_takes_its_share_and_one_removed_gets_nothing() {
    if !can_run("one_added_takes_its_share_and_one_removed_gets_nothing", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::prepare(Options::default());
    bed.write_web_slices(&[0, 1]);
    bed.serve();
    bed.start_ringway();
    assert!(!spread(&bed, 30).contains_key("backend2"), "it is no endpoint yet");

    bed.write_web_slices(&[0, 1, 2]);
    eventually(SOON, "the added backend answers", || {
        let answer = ask(&bed.client, at(CLUSTER_IPS[0], HTTP.port));
        if answer.backend == "backend2" { Ok(()) } else { Err(answer.backend) }
    });
    let shares = spread(&bed, 60);
    // 20 expected of each; fewer than 6 has a chance below 1 in 100,000.
    assert!(shares.values().all(|share| *share >= 6) && shares.len() == 3, "{shares:?}");

    bed.write_web_slices(&[1, 2]);
    eventually(SOON, "30 connections in a row avoid the removed backend", || {
        // One that is under way to it at that moment is reset.
        (0..30).try_for_each(|_| match try_ask(&bed.client, at(CLUSTER_IPS[0], HTTP.port))?.backend.as_str() {
            "backend0" => Err("backend0 answered".to_owned()),
            _ => Ok(()),
        })
    });
    let ledger = bed.ledger();
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
}

/// Connects until a given backend has the connection, which stays open.
fn connection_to(bed: &Bed, backend: &str) -> TcpStream {
    eventually(SOON, "a connection to the wanted backend", || {
        let open = || TcpStream::connect_timeout(&at(CLUSTER_IPS[0], HTTP.port), Duration::from_secs(2));
        let stream = bed.client.enter(open).and_then(|stream| stream).map_err(|error| error.to_string())?;
        let answer = request(&stream).map_err(|error| error.to_string())?;
        if answer.contains(backend) { Ok(stream) } else { Err(answer) }
    })
}

/// One request on a connection that is kept open.
fn request(mut stream: &TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")?;
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}

#[test]
fn flows_of_a_deleted_endpoint_are_told_and_others_stay() {
    if !can_run("flows_of_a_deleted_endpoint_are_told_and_others_stay", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let deleted = connection_to(&bed, "backend0");
    let kept = connection_to(&bed, "backend1");
    let udp = eventually(SOON, "a UDP flow to backend0", || {
        let client = EchoClient::new(&bed.client, at(CLUSTER_IPS[0], ECHO.port));
        let answer = client.ask(b"first")?;
        if answer.backend == "backend0" { Ok(client) } else { Err(answer.backend) }
    });
    bed.write_web_slices(&[1, 2]);
    eventually(SOON, "the UDP flow moves to another backend", || {
        let answer = udp.ask(b"again")?;
        if answer.backend == "backend0" { Err(answer.backend) } else { Ok(()) }
    });
    let answer = request(&kept).expect("the flow of another endpoint goes on");
    assert!(answer.contains("backend1"), "{answer}");
    let error = request(&deleted).expect_err("the endpoint of this flow is deleted");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    let ledger = bed.ledger();
    assert!(ledger.replied >= 1, "the RST is in the ledger: {ledger:?}");
}

#[test]
fn a_dead_one_costs_only_its_own_connections_until_it_is_removed() {
    if !can_run("a_dead_one_costs_only_its_own_connections_until_it_is_removed", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let kept = connection_to(&bed, "backend1");
    bed.kill_servers(0);
    let mut refused = 0;
    for _ in 0..40 {
        match try_ask(&bed.client, at(LOAD_BALANCER_IPS[1], HTTP.port)) {
            Ok(answer) => assert_ne!(answer.backend, "backend0"),
            // The dead backend's host answers with RST, and that comes back through the VIP.
            Err(error) => {
                assert!(error.contains("Connection refused") || error.contains("Couldn't connect"), "{error}");
                refused += 1;
            }
        }
    }
    assert!((1..30).contains(&refused), "{refused} of 40 connections were refused");
    bed.write_web_slices(&[1, 2]);
    eventually(SOON, "30 connections in a row are answered", || {
        (0..30).try_for_each(|_| try_ask(&bed.client, at(LOAD_BALANCER_IPS[1], HTTP.port)).map(|_| ()))
    });
    assert!(request(&kept).expect("it goes on").contains("backend1"));
    let ledger = bed.ledger();
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
}
