//! Endpoints that do not answer are seen, by name, until they answer again.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use ringway_tests::echo::EchoClient;
use ringway_tests::process::{nginx, try_ask};
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use serde_json::Value;

/// The sentence of `ringway status` about endpoints that do not answer.
fn told(bed: &mut Bed) -> Option<String> {
    let output = bed.ringway().command(&["status"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.contains("does not answer")).map(str::to_owned)
}

/// A line of the metrics, without its number.
fn scraped(bed: &Bed, line: &str) -> Option<f64> {
    let socket = bed.socket();
    let output = Command::new("curl").args(["-s", "--unix-socket"]).arg(socket).arg("http://ringway/metrics").output();
    let text = String::from_utf8(output.expect("curl").stdout).expect("text");
    text.lines().find_map(|told| told.strip_prefix(line)?.trim().parse().ok())
}

/// Over UDP nobody repeats what he asked, and a flow lasts for a minute: the endpoint is told long before.
#[test]
fn a_silent_server_of_udp_is_told_within_seconds() {
    if !can_run("a_silent_server_of_udp_is_told_within_seconds", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options { backends: 1, ..Options::default() });
    let server = at(LOAD_BALANCER_IPS[0], ECHO.port);
    let ask = |bed: &Bed| EchoClient::new(&bed.client, server).ask(b"?");
    assert!(ask(&bed).is_ok());
    bed.backends[0].ip(&["route", "add", "blackhole", "10.180.0.1/32"]).expect("no way back");
    let begun = Instant::now();
    let endpoint = format!("{}:{}", bed.backend_ip(0, false), ECHO.target);
    let line = eventually(Duration::from_secs(60), "the silence to be told", || {
        assert!(ask(&bed).is_err(), "nothing comes back");
        told(&mut bed).ok_or_else(|| "nothing is told".to_owned())
    });
    assert!(line.contains(&endpoint) && line.contains("requests unanswered"), "{line}");
    // The first flow is still open: it is not its end that tells.
    let flows = bed.ringway().ask("/flows");
    let silence = format!("{:?}", begun.elapsed());
    assert!(flows.to_string().matches("\"unreplied\"").count() >= 3, "{silence}: {flows:#}");
}

/// Nobody listens, and the endpoint's kernel says so: with its source rewritten or kept, whichever worker hears it, over IPv4 and
/// IPv6, though no endpoint of the service port ever answered.
#[test]
fn a_refusal_of_udp_is_told() {
    if !can_run("a_refusal_of_udp_is_told", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { backends: 1, queues: 2, ..Options::default() });
    bed.start_ringway();
    for (v6, vip) in
        [(false, CLUSTER_IPS[0]), (true, CLUSTER_IPS[1]), (false, LOAD_BALANCER_IPS[0]), (true, LOAD_BALANCER_IPS[1])]
    {
        let refused = |bed: &mut Bed| {
            let services = bed.ringway().ask("/services");
            let list = |of: &Value, name: &str| of.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
            let ports = list(&services, "services").into_iter().flat_map(|service| list(&service, "ports"));
            let endpoints = ports.flat_map(|port| list(&port, "endpoints"));
            endpoints.filter_map(|endpoint| endpoint.pointer("/answers/refused")?.as_u64()).sum::<u64>()
        };
        let before = refused(&mut bed);
        let endpoint = SocketAddr::new(bed.backend_ip(0, v6), ECHO.target).to_string();
        eventually(Duration::from_secs(60), "the refusals to be counted", || {
            let _ = EchoClient::new(&bed.client, at(vip, ECHO.port)).ask(b"?");
            let more = refused(&mut bed) - before;
            if more >= 3 { Ok(()) } else { Err(format!("{vip}: {more} refusals")) }
        });
        let output = bed.ringway().command(&["status"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = text.lines().any(|line| line.contains(&endpoint) && line.contains("requests refused"));
        assert!(told, "{endpoint}: {text}");
    }
    let ledger = bed.ledger();
    assert!(ledger.forwarded >= 24, "clients get their questions' errors: {ledger:?}");
}

#[test]
fn a_dead_server_is_told_until_it_lives() {
    if !can_run("a_dead_server_is_told_until_it_lives", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { backends: 1, ..Options::default() });
    bed.write_config("metrics: {services: [default/w*, default/wbe]}\n");
    bed.serve();
    bed.start_ringway();
    let said = bed.ringway().command(&["status"]).stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("metrics.services: default/wbe names no Service"), "{said}");
    let of_web = "{service=\"default/web\",port=\"80\",protocol=\"tcp\",family=\"IPv4\"";
    let all_silent = "ringway_endpoints_silent";
    let silent = format!("ringway_service_endpoints_silent{of_web}}}");
    let first = |outcome: &str| format!("ringway_service_first_packets_total{of_web},outcome=\"{outcome}\"}}");
    let web = at(LOAD_BALANCER_IPS[0], HTTP.port);
    let endpoint = format!("{}:{}", bed.backend_ip(0, false), HTTP.target);
    assert!(try_ask(&bed.client, web).is_ok());
    assert_eq!(told(&mut bed), None);
    assert_eq!((scraped(&bed, all_silent), scraped(&bed, &silent)), (Some(0.0), Some(0.0)));
    // Nobody listens: the kernel refuses.
    bed.kill_servers(0);
    let line = eventually(Duration::from_secs(30), "the refusals to be told", || {
        let _ = try_ask(&bed.client, web);
        told(&mut bed).ok_or_else(|| "nothing is told".to_owned())
    });
    assert!(line.contains(&endpoint) && line.contains("SYNs refused"), "{line}");
    // It is gone altogether: SYNs vanish, and clients repeat them.
    let gateway = "10.180.0.1/32";
    bed.backends[0].ip(&["route", "add", "blackhole", gateway]).expect("no way back");
    eventually(Duration::from_secs(60), "the silence to be told", || {
        let _ = try_ask(&bed.client, web);
        let line = told(&mut bed).ok_or("nothing is told")?;
        line.contains("unanswered").then_some(()).ok_or(line)
    });
    let services = bed.ringway().ask("/services");
    let counts = services.pointer("/services/0/ports/1/endpoints/0/answers");
    let count = |name: &str| counts.and_then(|counts| counts.get(name)).and_then(Value::as_u64).unwrap_or(0);
    assert!(count("answered") > 0 && count("refused") > 2 && count("unanswered") > 0, "{services:#}");
    assert_eq!((scraped(&bed, all_silent), scraped(&bed, &silent)), (Some(1.0), Some(1.0)));
    let outcomes = ["answered", "refused", "unanswered"].map(|outcome| scraped(&bed, &first(outcome)));
    assert!(outcomes.iter().all(|count| count.is_some_and(|count| count > 0.0)), "{outcomes:?}");
    bed.backends[0].ip(&["route", "del", "blackhole", gateway]).expect("a way back");
    let folder = bed.folder().to_owned();
    let _server = nginx(&bed.backends[0], "backend0", HTTP.target, &folder);
    eventually(Duration::from_secs(30), "a connection", || try_ask(&bed.client, web));
    assert_eq!(told(&mut bed), None);
}
