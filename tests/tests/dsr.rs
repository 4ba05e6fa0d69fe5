//! Direct server return to backends that are set up as docs/dsr.md says: the request goes through Ringway, the answer past it.

use ringway_control::demo::process::Process;
use ringway_tests::echo::{EchoClient, EchoServer};
use ringway_tests::journey::{self, FAR, NEAR, addresses, known_mtu};
use ringway_tests::netns::{self, Namespace};
use ringway_tests::objects::{self, Addresses, Port};
use ringway_tests::process::{nginx, run, try_ask};
use ringway_tests::topology::{Bed, CLUSTER_IPS, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use std::collections::BTreeSet;
use std::time::Duration;

const HTTP: Port = Port { name: "http", protocol: "TCP", port: 80, target: 80, node_port: 0 };
const ECHO: Port = Port { name: "echo", protocol: "UDP", port: 7007, target: 7007, node_port: 0 };
const BACKENDS: usize = 2;
const LONG: Duration = Duration::from_secs(20);

/// What is inside is put on this device, as `tunl0` and `ip6tnl0` do, which not every kernel that tests run on has.
const TUNNEL: &str = "tunnel0";

fn command(namespace: &Namespace, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    run(namespace, words[0], &words[1..], LONG).unwrap_or_else(|error| panic!("{error}"));
}

/// Client, gateway and backends on one link. The servers run until they are dropped.
fn bed(mode: &str) -> (Bed, Vec<Process>, Vec<EchoServer>) {
    let bed = Bed::prepare(Options { one_arm: true, backends: BACKENDS, ..Options::default() });
    let strings = |ips: [&str; 2]| ips.map(str::to_owned).to_vec();
    let [cluster, load_balancer] = [CLUSTER_IPS, LOAD_BALANCER_IPS].map(strings);
    let addresses = Addresses { cluster, load_balancer, external: Vec::new() };
    let mut service = objects::service("web", &addresses, &[HTTP, ECHO]);
    service["spec"]["type"] = "LoadBalancer".into();
    service["metadata"]["annotations"] = serde_json::json!({"ringway.io/forwarding": mode});
    bed.write_object("web-service.json", &service);
    let ips = |v6| (0..BACKENDS).map(|index| bed.backend_ip(index, v6).to_string()).collect::<Vec<_>>();
    bed.write_object("web-slice4.json", &objects::slice("web", "IPv4", &ips(false), &[HTTP, ECHO]));
    bed.write_object("web-slice6.json", &objects::slice("web", "IPv6", &ips(true), &[HTTP, ECHO]));
    let (mut servers, mut echoes) = (Vec::new(), Vec::new());
    for (index, backend) in bed.backends.iter().enumerate() {
        command(backend, "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
        for vip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
            let length = if vip.contains(':') { 128 } else { 32 };
            command(backend, &format!("ip address add {vip}/{length} dev lo"));
        }
        let name = format!("backend{index}");
        servers.push(nginx(backend, &name, HTTP.target, bed.folder()));
        for vip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
            echoes.push(EchoServer::start_at(backend, &name, at(vip, ECHO.target)));
        }
    }
    (bed, servers, echoes)
}

/// Every VIP serves, from all backends, which see the client itself; and no answer goes through the gateway.
fn serves(bed: &mut Bed, mode: &str) {
    let before = bed.ledger();
    let mut datagrams = 0;
    for (family, client) in ["192.168.0.1", "fd00:168::1"].into_iter().enumerate() {
        for ip in [CLUSTER_IPS[family], LOAD_BALANCER_IPS[family]] {
            let mut seen = BTreeSet::new();
            for _ in 0..20 {
                let answer = try_ask(&bed.client, at(ip, HTTP.port)).unwrap_or_else(|error| {
                    panic!("{error}\nledger: {:?}\nlog: {}", bed.ledger(), bed.ringway().output())
                });
                assert_eq!(answer.client, client, "whom the backend saw through {ip}");
                seen.insert(answer.backend);
                let asking = EchoClient::new(&bed.client, at(ip, ECHO.port));
                for text in ["first", "second"] {
                    let answer = asking.ask(text.as_bytes()).unwrap_or_else(|error| panic!("{ip}: {error}"));
                    assert_eq!((&*answer.client, &*answer.payload), (client, text));
                    datagrams += 1;
                }
            }
            assert_eq!(seen.len(), BACKENDS, "{ip}: {seen:?}");
        }
    }
    let ledger = bed.ledger().since(&before);
    assert_eq!((ledger.dropped(), ledger.replied), (0, 0), "{ledger:?}");
    let flows = bed.ringway().ask("/flows");
    let flows = flows["flows"].as_array().expect("flows").clone();
    assert!(flows.iter().all(|flow| flow["replies"] == 0), "answers went through the gateway: {flows:?}");
    // Of each connection SYN, ACK, request, ACK and FIN at least, and each datagram once.
    assert!(ledger.forwarded >= 80 * 5 + datagrams, "{ledger:?}");
    assert!(ledger.forwarded <= 80 * 12 + datagrams, "more than one direction: {ledger:?}");
    let services = bed.ringway().ask("/services");
    let ports = services["services"][0]["ports"].as_array().expect("ports").clone();
    assert!(ports.iter().all(|port| port["forwarding"] == mode), "{services}");
    assert!(
        ports.iter().all(|port| port["answers"]["answered"] == 0 && port["answers"]["unanswered"] == 0),
        "{services}"
    );
}

/// A download of a few megabytes, whose acknowledgments are all that the gateway sees.
fn downloads(bed: &Bed, from: &Namespace) {
    let content: Vec<u8> = (0..1_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(bed.folder().join("content"), &content).expect("the file to serve");
    let target = bed.folder().join("received");
    for ip in LOAD_BALANCER_IPS {
        let url = format!("http://{}/files/content", at(ip, HTTP.port));
        let arguments = ["-gsS", "--fail", "--max-time", "30", "-o", target.to_str().expect("a path"), &url];
        run(from, "curl", &arguments, Duration::from_secs(35)).unwrap_or_else(|error| panic!("{error}"));
        assert!(std::fs::read(&target).expect("what curl wrote") == content, "{ip}: other bytes than were sent");
    }
}

#[test]
fn backends_on_the_link_answer_by_themselves() {
    if !can_run("backends_on_the_link_answer_by_themselves", &["ip", "nginx", "curl", "sysctl"]) {
        return;
    }
    let (mut bed, _servers, _echoes) = bed("dsr-l2");
    bed.start_ringway();
    serves(&mut bed, "dsr-l2");
    downloads(&bed, &bed.client);
    // Requests go through the gateway: without it nobody answers.
    bed.ringway().stop();
    let refused = try_ask(&bed.client, at(LOAD_BALANCER_IPS[0], HTTP.port));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn backends_behind_a_tunnel_answer_by_themselves() {
    if !can_run("backends_behind_a_tunnel_answer_by_themselves", &["ip", "nginx", "curl", "sysctl", "socat"]) {
        return;
    }
    let (mut bed, _servers, _echoes) = bed("dsr-ipip");
    let mut tunnels = Vec::new();
    for backend in &bed.backends {
        for (number, receive) in [(4, "IP4-RECV:4"), (6, "IP6-RECV:41")] {
            let device = format!("{TUNNEL}{number}");
            let mut socat = backend.command("socat");
            socat.args(["-u", receive, &format!("TUN,tun-name={device},iff-no-pi,iff-up")]);
            let process = Process::start("socat", socat).unwrap_or_else(|error| panic!("{error}"));
            eventually(LONG, "the tunnel's device", || run(backend, "ip", &["link", "show", &device], LONG));
            tunnels.push(process);
            backend.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "0").expect("no check of sources");
        }
        backend.sysctl("net/ipv4/conf/all/rp_filter", "0").expect("no check of sources");
    }
    bed.start_ringway();
    serves(&mut bed, "dsr-ipip");
    downloads(&bed, &bed.client);
    drop(tunnels);
}

/// A client far away, behind a link that carries less than the backends': what the router before it says of their answers goes to
/// the VIP, and so to the gateway, which has seen none of them.
#[test]
fn what_a_router_says_of_answers_reaches_the_backend_that_sent_them() {
    let programs = ["ip", "nginx", "curl", "sysctl"];
    if !can_run("what_a_router_says_of_answers_reaches_the_backend_that_sent_them", &programs) {
        return;
    }
    let (mut bed, _servers, _echoes) = bed("dsr-l2");
    let number = netns::next_bed();
    let [far, middle] = ["far", "middle"].map(|role| netns::namespace(number, role));
    journey::connect((&middle, "far"), (&far, "eth0"), FAR, 1500);
    journey::connect((&bed.client, "near"), (&middle, "near"), NEAR, 1300);
    for router in [&middle, &bed.client] {
        router.forward_packets().expect("a router");
        router.sysctl("net/ipv4/icmp_ratelimit", "0").expect("no limit");
        router.sysctl("net/ipv6/icmp/ratelimit", "0").expect("no limit");
    }
    for (namespace, link) in [(&far, FAR), (&middle, NEAR)] {
        addresses(link, 1).iter().for_each(|via| namespace.route("default", via).expect("a route"));
    }
    journey::route(&bed.client, FAR, addresses(NEAR, 2));
    let by_the_client = || ["192.168.0.1".to_owned(), "fd00:168::1".to_owned()];
    for namespace in bed.backends.iter().chain([&bed.gateway]) {
        journey::route(namespace, FAR, by_the_client());
    }
    bed.start_ringway();
    let before = bed.ledger();
    downloads(&bed, &far);
    for client in addresses(FAR, 2) {
        let known: Vec<String> = bed.backends.iter().map(|backend| known_mtu(backend, &client)).collect();
        assert!(known.iter().any(|route| route.contains("mtu 1300")), "no backend was told: {known:?}");
    }
    let ledger = bed.ledger().since(&before);
    assert_eq!((ledger.dropped(), ledger.replied), (0, 0), "{ledger:?}");
}
