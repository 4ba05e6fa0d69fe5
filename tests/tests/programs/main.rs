//! Programs that others wrote, through VIPs: a DNS server's large answers, QUIC, streams of datagrams larger than an MTU, and what
//! nping makes of packets.

mod crafted;

use ringway_control::demo::process::Process;
use ringway_tests::journey::{FAR, Journey, LARGE, addresses, known_mtu, large};
use ringway_tests::objects::Port;
use ringway_tests::process::{iperf, run};
use ringway_tests::topology::{BULK_IPS, BULK_UDP, Bed, Options, at};
use ringway_tests::{can_run, eventually};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// The client's source is kept there, and at the next it is not.
const CLUSTER: [&str; 2] = ["172.30.0.30", "fd00:30::30"];
const LOAD_BALANCER: [&str; 2] = ["198.51.100.30", "2001:db8:1::30"];
const DNS: Port = Port { name: "dns", protocol: "UDP", port: 53, target: 5300, node_port: 0 };
const QUIC: Port = Port { name: "quic", protocol: "UDP", port: 443, target: 4433, node_port: 0 };

/// Both families' addresses, with the client that the pod sees behind them.
fn vips() -> Vec<(usize, &'static str, String)> {
    let [far4, far6] = addresses(FAR, 2);
    vec![
        (0, CLUSTER[0], far4),
        (1, CLUSTER[1], far6),
        (0, LOAD_BALANCER[0], "10.180.0.1".into()),
        (1, LOAD_BALANCER[1], "fd00:180::1".into()),
    ]
}

/// Fifteen texts of a name, with which an answer has 3,984 bytes.
fn texts() -> Vec<String> {
    (b'a'..=b'o').map(|letter| char::from(letter).to_string().repeat(250)).collect()
}

fn dns_server(journey: &Journey) -> Process {
    let port = format!("--port={}", DNS.target);
    let mut command = journey.pod.command("dnsmasq");
    command.args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="]);
    command.args([&port, "--edns-packet-max=4096", "--log-queries", "--log-facility=-"]);
    command.args(texts().iter().map(|text| format!("--txt-record=large.test,{text}")));
    Process::start("dnsmasq", command).unwrap_or_else(|error| panic!("{error}"))
}

/// Asks each address for the texts, as often as it takes the server to learn of the way.
fn ask_for_texts(journey: &mut Journey) {
    let server = dns_server(journey);
    for (_, vip, client) in vips() {
        let server_at = format!("@{vip}");
        let port = DNS.port.to_string();
        let question = ["-p", &port, &server_at, "+bufsize=4096", "+notcp", "+ignore", "+tries=1", "+time=1", "TXT"];
        eventually(PATIENCE, &format!("{vip} answers"), || {
            let answer = run(&journey.far, "dig", &[&question[..], &["large.test"]].concat(), PATIENCE)?;
            assert!(answer.contains("MSG SIZE  rcvd: 3984"), "one datagram brings it all:\n{answer}");
            assert!(texts().iter().all(|text| answer.contains(text)), "other texts than were asked for:\n{answer}");
            Ok(())
        });
        let said = server.output();
        assert!(said.contains(&format!("query[TXT] large.test from {client}")), "{vip}: {client}: {said}");
    }
    let ledger = journey.bed.ledger();
    for reason in ["tiny_fragment", "fragment_overlap", "invalid_fragment", "fragment_without_first"] {
        assert_eq!(ledger.drops(reason), 0, "{ledger:?}");
    }
}

/// Answers in several fragments, which routers cut further, or say that they are too large (IPv6).
#[test]
fn dns_answers_of_4000_bytes_pass_a_narrow_link() {
    if !can_run("dns_answers_of_4000_bytes_pass_a_narrow_link", &["ip", "nginx", "iperf3", "dnsmasq", "dig"]) {
        return;
    }
    let mut journey = Journey::prepare(1280, 1500);
    journey.write_service("dns", CLUSTER, LOAD_BALANCER, &[DNS]);
    journey.bed.start_ringway();
    ask_for_texts(&mut journey);
    for client in [&addresses(FAR, 2)[1], "fd00:180::1"] {
        let route = known_mtu(&journey.pod, client);
        assert!(route.contains("mtu 1280"), "the pod was told: {route}");
    }
}

/// The same where the narrow link is the gateway's own: it cuts and tells.
#[test]
fn dns_answers_of_4000_bytes_leave_by_a_narrow_link() {
    if !can_run("dns_answers_of_4000_bytes_leave_by_a_narrow_link", &["ip", "nginx", "iperf3", "dnsmasq", "dig"]) {
        return;
    }
    let mut journey = Journey::prepare(1500, 1500);
    journey.write_service("dns", CLUSTER, LOAD_BALANCER, &[DNS]);
    journey.bed.gateway.ip(&["link", "set", "front", "mtu", "1280"]).expect("a smaller MTU");
    journey.bed.start_ringway();
    ask_for_texts(&mut journey);
    let ledger = journey.bed.ledger();
    assert!(ledger.replied > 0, "IPv6 is told: {ledger:?}");
}

/// QUIC sends whole datagrams that must not be fragmented, and finds out how large they may be.
#[test]
fn a_large_file_comes_by_quic_over_a_narrow_link() {
    let programs = ["ip", "nginx", "iperf3", "openssl", "gtlsserver", "gtlsclient"];
    if !can_run("a_large_file_comes_by_quic_over_a_narrow_link", &programs) {
        return;
    }
    let mut journey = Journey::prepare(1300, 1400);
    journey.write_service("quic", CLUSTER, LOAD_BALANCER, &[QUIC]);
    let folder = journey.bed.folder().to_owned();
    let file = |name: &str| folder.join(name).display().to_string();
    let (key, certificate) = (file("key.pem"), file("certificate.pem"));
    let made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let more = ["-subj", "/CN=large.test", "-keyout", &key, "-out", &certificate];
    run(&journey.pod, "openssl", &[&made[..], &more].concat(), PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    let mut command = journey.pod.command("gtlsserver");
    let (port, files) = (QUIC.target.to_string(), folder.display().to_string());
    command.args(["--quiet", "--htdocs", &files, "*", &port, &key, &certificate]);
    let _server = Process::start("gtlsserver", command).unwrap_or_else(|error| panic!("{error}"));
    journey.bed.start_ringway();
    let fetched = folder.join("fetched");
    std::fs::create_dir(&fetched).expect("a folder");
    let port = QUIC.port.to_string();
    for (_, vip, _) in vips() {
        let before = journey.bed.ledger();
        let fetched_to = format!("--download={}", fetched.display());
        let how = ["--quiet", "--exit-on-all-streams-close", "--timeout=5s", &fetched_to];
        eventually(PATIENCE, &format!("{vip} serves"), || {
            run(&journey.far, "gtlsclient", &[&how[..], &[vip, &port, "https://large.test/large"]].concat(), PATIENCE)?;
            let received = std::fs::read(fetched.join("large")).map_err(|error| error.to_string())?;
            if received == large() { Ok(()) } else { Err(format!("{} of {LARGE} bytes", received.len())) }
        });
        std::fs::remove_file(fetched.join("large")).expect("what was fetched");
        let ledger = journey.bed.ledger().since(&before);
        assert!(ledger.forwarded > (LARGE / 1300) as u64, "{ledger:?}");
    }
}

#[test]
fn streams_of_datagrams_larger_than_an_mtu_arrive() {
    if !can_run("streams_of_datagrams_larger_than_an_mtu_arrive", &["ip", "nginx", "iperf3"]) {
        return;
    }
    for masquerade in [false, true] {
        let mut bed = Bed::prepare(Options { backends: 1, masquerade, ..Options::default() });
        bed.serve_bulk(0);
        bed.start_ringway();
        for ip in BULK_IPS {
            for more in [&[][..], &["--reverse"]] {
                let before = bed.ledger();
                let arguments = [&["--udp", "--bitrate", "16M", "--length", "4000"][..], more].concat();
                let report = iperf(&bed.client, at(ip, BULK_UDP.port), 1, &arguments);
                let sum = &report["end"]["sum"];
                let number = |key: &str| sum[key].as_f64().unwrap_or_else(|| panic!("no {key}: {}", report["end"]));
                // One fragment that a busy machine loses costs a datagram.
                assert!(number("packets") > 300.0 && number("lost_percent") < 20.0, "{ip} {more:?}: {sum}");
                let ledger = bed.ledger().since(&before);
                let arrived = number("packets") - number("lost_packets");
                assert!(ledger.forwarded as f64 > 3.0 * arrived, "{ledger:?}: {sum}");
                assert_eq!(ledger.dropped() - ledger.drops("fragment_without_first"), 0, "{ledger:?}");
            }
        }
    }
}
