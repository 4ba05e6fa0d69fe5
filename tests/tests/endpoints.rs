//! Endpoints that are added, removed, dead, weighted, or drained.

use ringway_tests::echo::EchoClient;
use ringway_tests::objects;
use ringway_tests::process::{ask, try_ask};
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;
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

/// Writes the configuration with these weights.
fn weigh(bed: &Bed, weights: &str) {
    bed.write_config("");
    let text = std::fs::read_to_string(bed.config()).expect("the configuration");
    let text = text.replace("services:\n", &format!("services:\n  weights: {weights}\n"));
    std::fs::write(bed.config(), text).expect("a file");
}

#[test]
fn weights_are_shares_of_new_connections() {
    if !can_run("weights_are_shares_of_new_connections", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::prepare(Options::default());
    let ips: Vec<String> = (0..3).map(|index| bed.backend_ip(index, false).to_string()).collect();
    let mut slice = objects::slice("web", "IPv4", &ips, &[HTTP, ECHO]);
    slice["endpoints"][0]["zone"] = "a".into();
    slice["endpoints"][1]["zone"] = "b".into();
    slice["endpoints"][2]["zone"] = "a".into();
    slice["endpoints"][2]["nodeName"] = "worker-1".into();
    bed.write_object("web-slice4.json", &slice);
    weigh(&bed, "{zones: {a: 3, b: 1}, nodes: {worker-1: 0}}");
    bed.serve();
    bed.start_ringway();
    let kept = connection_to(&bed, "backend0");
    let shares = spread(&bed, 80);
    // 60 and 20 expected; beyond these bounds one time in a million.
    let of = |backend: &str| shares.get(backend).copied().unwrap_or(0);
    assert!(of("backend0") >= 40 && of("backend1") >= 4 && of("backend2") == 0, "{shares:?}");

    weigh(&bed, "{zones: {a: 0}, nodes: {worker-1: 2}}");
    let (status, out, error) = said(&bed.ringway().command(&["reload"]));
    assert_eq!(status, Some(0), "{out}{error}");
    assert!(out.contains("services.weights.zones: {a: 3, b: 1} -> {a: 0}: in force"), "{out}");
    let shares = spread(&bed, 40);
    assert!(!shares.contains_key("backend0") && shares.len() == 2, "{shares:?}");
    assert!(request(&kept).expect("it goes on").contains("backend0"));
    let (_, text, _) = said(&bed.ringway().command(&["services", "default/web"]));
    assert!(text.contains("its weight is 0, and others have more") && text.contains("weight 2"), "{text}");
    assert_eq!(bed.ledger().dropped(), 0);
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_drained_one_gets_nothing_new_and_keeps_what_it_has() {
    if !can_run("a_drained_one_gets_nothing_new_and_keeps_what_it_has", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let kept = connection_to(&bed, "backend0");
    let udp = eventually(SOON, "a UDP flow to backend0", || {
        let client = EchoClient::new(&bed.client, at(CLUSTER_IPS[0], ECHO.port));
        let answer = client.ask(b"first")?;
        if answer.backend == "backend0" { Ok(client) } else { Err(answer.backend) }
    });
    let ips: Vec<String> = (0..3).map(|index| bed.backend_ip(index, false).to_string()).collect();
    let ringway = |bed: &mut Bed, arguments: &[&str]| said(&bed.ringway().command(arguments));

    let (status, out, error) = ringway(&mut bed, &["drain", &ips[0]]);
    assert_eq!((status, &*error), (Some(0), ""), "{out}");
    assert_eq!(out, format!("{} (default/web): no new connections until ringway undrain or a restart\n", ips[0]));
    // The command comes back when all workers know.
    assert!(!spread(&bed, 40).contains_key("backend0"));
    for _ in 0..20 {
        let answer = EchoClient::new(&bed.client, at(CLUSTER_IPS[0], ECHO.port)).ask(b"new").expect("an answer");
        assert_ne!(answer.backend, "backend0");
    }
    assert!(request(&kept).expect("it goes on").contains("backend0"));
    assert_eq!(udp.ask(b"again").expect("an answer").backend, "backend0");
    let services = bed.ringway().ask("/services");
    let endpoint = &services["services"][0]["ports"][0]["endpoints"][0];
    assert_eq!((&endpoint["drained"], &endpoint["eligible"]), (&true.into(), &false.into()), "{endpoint}");
    assert_eq!(endpoint["excluded"], "drained by command");
    let (_, text, _) = ringway(&mut bed, &["status"]);
    assert!(text.contains(&format!("{} (default/web) is drained for ", ips[0])), "{text}");
    let (_, text, _) = ringway(&mut bed, &["trace", "tcp:192.168.0.1->172.30.0.10:80"]);
    assert!(
        text.contains(&format!("{}:8080 of EndpointSlice default/web-ipv4 is not eligible: drained", ips[0])),
        "{text}"
    );

    // Whoever had it by session affinity is to leave it as well.
    let (status, ..) = ringway(&mut bed, &["undrain", &ips[0]]);
    assert_eq!(status, Some(0));
    let strings = |ips: [&str; 2]| ips.map(str::to_owned).to_vec();
    let addresses =
        objects::Addresses { cluster: strings(CLUSTER_IPS), external: Vec::new(), load_balancer: Vec::new() };
    let mut service = objects::service("web", &addresses, &[HTTP, ECHO]);
    service["spec"]["sessionAffinity"] = "ClientIP".into();
    bed.write_object("web-service.json", &service);
    let own =
        eventually(
            SOON,
            "the client has one endpoint",
            || match &spread(&bed, 20).into_keys().collect::<Vec<_>>()[..] {
                [one] => Ok(one.clone()),
                several => Err(format!("{several:?}")),
            },
        );
    let place = own.strip_prefix("backend").and_then(|place| place.parse::<usize>().ok()).expect("a backend");
    let target = format!("{}:{}", ips[place], HTTP.target);
    assert_eq!(ringway(&mut bed, &["drain", &target]).0, Some(0));
    let others = spread(&bed, 10);
    assert!(!others.contains_key(&own) && others.len() == 1, "{own}: {others:?}");

    // The last one of a Service goes on to get what nobody else may have, and the command says so.
    let (status, _, error) = ringway(&mut bed, &["drain", &ips[0], &ips[1], &ips[2]]);
    assert_eq!(status, Some(0));
    assert!(
        error.contains("gets new connections still: nobody else is ready for default/web 53/udp, default/web 80/tcp"),
        "{error}"
    );
    assert_eq!(spread(&bed, 5).values().sum::<usize>(), 5);
    let (_, text, _) = ringway(&mut bed, &["drain", "--list"]);
    assert_eq!(text.lines().count(), 5, "{text}");
    let (status, out, _) = ringway(&mut bed, &["undrain", "--all"]);
    assert_eq!((status, &*out), (Some(0), "nothing is drained any more\n"));

    // Mistakes are told, and a restart forgets all but what is kept.
    let (status, _, error) = ringway(&mut bed, &["drain", "10.180.0.99"]);
    assert!(status == Some(1) && error.contains("no Service has an endpoint 10.180.0.99"), "{error}");
    assert_eq!(ringway(&mut bed, &["drain", "backend0"]).0, Some(2));
    assert_eq!(ringway(&mut bed, &["drain", &ips[1]]).0, Some(0));
    assert_eq!(ringway(&mut bed, &["drain", "--keep", &ips[2]]).0, Some(0));
    bed.write_web(&[0, 1, 2]);
    bed.ringway().stop();
    bed.start_ringway();
    let drained = bed.ringway().ask("/drained");
    assert_eq!(drained["drained"].as_array().map(Vec::len), Some(1), "{drained}");
    assert_eq!((&drained["drained"][0]["endpoint"], &drained["drained"][0]["kept"]), (&(*ips[2]).into(), &true.into()));
    let shares = spread(&bed, 60);
    assert!(!shares.contains_key("backend2") && shares.len() == 2, "{shares:?}");
}
