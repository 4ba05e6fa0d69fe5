//! Pods in an overlay: VXLAN devices as flannel and Calico make them, listed as interfaces beside the NIC.

use ringway_tests::echo::EchoClient;
use ringway_tests::instance::binary;
use ringway_tests::overlay::{Agent, Overlay, Queues, bridge, mtu, node_address, pod_address};
use ringway_tests::process::{ask, ping, run, try_ask};
use ringway_tests::topology::{CLUSTER_IPS, ECHO, HTTP, LOAD_BALANCER_IPS, at};
use ringway_tests::{can_run, eventually};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const PROGRAMS: [&str; 5] = ["ip", "bridge", "nginx", "curl", "ping"];

/// HTTP and UDP through the ClusterIPs (the source is kept) and the load balancer's (it is masqueraded), both families.
fn serves(bed: &mut Overlay, agent: Agent) {
    let before = bed.ledger();
    for (family, client) in ["192.168.0.1", "fd00:168::1"].into_iter().enumerate() {
        let masqueraded: IpAddr = agent.tunnel_address(0, family == 1).parse().expect("an address");
        let masqueraded = masqueraded.to_string();
        for (ip, seen) in [(CLUSTER_IPS[family], client), (LOAD_BALANCER_IPS[family], &masqueraded)] {
            let mut pods = BTreeSet::new();
            for _ in 0..20 {
                let answer = ask(&bed.client, at(ip, HTTP.port));
                assert_eq!(answer.client, seen, "whom the pod saw through {ip}");
                pods.insert(answer.backend);
                let client = EchoClient::new(&bed.client, at(ip, ECHO.port));
                let answer = client.ask(b"overlay").unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(answer.client, seen, "whom the pod saw through {ip}");
            }
            assert_eq!(pods.len(), bed.nodes.len(), "{ip}: {pods:?}");
        }
    }
    let ledger = bed.ledger().since(&before);
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
    assert!(ledger.forwarded >= 80 * (8 + 2), "both directions: {ledger:?}");
}

/// Megabytes in both directions arrive as they were sent, whatever offloads made of them on the way.
fn transfers(bed: &mut Overlay) {
    let content: Vec<u8> =
        (0..10_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(10 << 20).collect();
    std::fs::write(bed.folder().join("content"), &content).expect("the file to serve");
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        let (server, target) = (at(ip, HTTP.port), bed.folder().join("received"));
        let url = format!("http://{server}/files/content");
        let arguments = ["-gsS", "--fail", "--max-time", "30", "-o", target.to_str().expect("a path"), &url];
        run(&bed.client, "curl", &arguments, Duration::from_secs(35)).unwrap_or_else(|error| panic!("{error}"));
        assert!(std::fs::read(&target).expect("what curl wrote") == content, "{server}: other bytes than were sent");
    }
}

fn interface(bed: &mut Overlay, name: &str) -> serde_json::Value {
    let status = bed.ringway().ask("/status");
    let interfaces = status["interfaces"].as_array().expect("interfaces");
    interfaces
        .iter()
        .find(|interface| interface["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {status}"))
        .clone()
}

#[test]
fn pods_behind_flannels_vxlan() {
    if !can_run("pods_behind_flannels_vxlan", &PROGRAMS) {
        return;
    }
    let mut bed = Overlay::start(Agent::Flannel, 2);
    assert_eq!(interface(&mut bed, "flannel.1")["mode"], "generic");
    serves(&mut bed, Agent::Flannel);
    transfers(&mut bed);
}

#[test]
fn pods_behind_calicos_vxlan() {
    if !can_run("pods_behind_calicos_vxlan", &PROGRAMS) {
        return;
    }
    let mut bed = Overlay::start(Agent::Calico, 2);
    serves(&mut bed, Agent::Calico);
    transfers(&mut bed);
}

/// NICs merge what is wrapped, as veths do when they are told to: the packets that come out of the overlay are larger than
/// any link's, and are cut again.
#[test]
fn what_the_nic_merged_below_the_overlay_is_cut() {
    if !can_run("what_the_nic_merged_below_the_overlay_is_cut", &["ip", "bridge", "nginx", "curl", "ethtool"]) {
        return;
    }
    let mut bed = Overlay::prepare(Agent::Flannel, 1, Queues::default());
    run(&bed.gateway, "ethtool", &["-K", "under", "gro", "on"], SOON).unwrap_or_else(|error| panic!("{error}"));
    bed.start_ringway();
    // Whether packets wait to be merged depends on how busy the CPUs are.
    let ports = (0..20).find_map(|_| {
        transfers(&mut bed);
        let ports = bed.ringway().ask("/status")["ports"].clone();
        (ports["largeCut"].as_u64() > Some(0)).then_some(ports)
    });
    let ports = ports.expect("packets larger than a frame");
    assert_eq!(ports["largeLost"], 0, "{ports}");
}

/// The agent is started anew and makes its device again, with another MAC address, or another node's agent does.
#[test]
fn devices_that_are_made_anew_are_attached_to_again() {
    if !can_run("devices_that_are_made_anew_are_attached_to_again", &PROGRAMS) {
        return;
    }
    let mut bed = Overlay::start(Agent::Flannel, 1);
    serves(&mut bed, Agent::Flannel);
    let before = interface(&mut bed, "flannel.1")["index"].clone();
    let answers = |bed: &Overlay, ip: &str| try_ask(&bed.client, at(ip, HTTP.port)).map(|_| ());
    bed.remake_gateway_devices(1);
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        eventually(SOON, "the gateway's new device is used", || answers(&bed, ip));
    }
    assert_ne!(interface(&mut bed, "flannel.1")["index"], before);
    bed.remake_node_devices(1, 2, 1);
    for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
        eventually(SOON, "the node's new MAC address is used", || answers(&bed, ip));
    }
    serves(&mut bed, Agent::Flannel);
}

/// Entries of the neighbour table that others write, whatever they say of them: nobody is asked, they are used.
#[test]
fn neighbours_that_an_agent_writes_are_used_as_they_are() {
    if !can_run("neighbours_that_an_agent_writes_are_used_as_they_are", &PROGRAMS) {
        return;
    }
    let mut bed = Overlay::start(Agent::Flannel, 1);
    let gateway = |bed: &Overlay, words: &[&str]| bed.gateway.ip(words).unwrap_or_else(|error| panic!("{error}"));
    for (family, device) in Agent::Flannel.devices().into_iter().enumerate() {
        let next_hop = Agent::Flannel.tunnel_address(1, family == 1);
        let shown = || run(&bed.gateway, "ip", &["neighbor", "show", &next_hop, "dev", device], SOON);
        let entry = shown().unwrap_or_else(|error| panic!("{error}"));
        let mac =
            entry.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).expect("a MAC address").to_owned();
        for state in [&["nud", "noarp"][..], &["nud", "reachable", "extern_learn"]] {
            gateway(&bed, &["neighbor", "delete", &next_hop, "dev", device]);
            eventually(SOON, "there is no way", || {
                let answer = try_ask(&bed.client, at(LOAD_BALANCER_IPS[family], HTTP.port));
                if answer.is_err() { Ok(()) } else { Err(format!("{answer:?}")) }
            });
            let words = ["neighbor", "replace", &next_hop, "lladdr", &mac, "dev", device];
            gateway(&bed, &words.into_iter().chain(state.iter().copied()).collect::<Vec<_>>());
            eventually(SOON, "there is one again", || {
                try_ask(&bed.client, at(LOAD_BALANCER_IPS[family], HTTP.port)).map(|_| ())
            });
        }
    }
    let ledger = bed.ledger();
    assert!(ledger.drops("neighbor_unresolved") > 0, "{ledger:?}");
}

/// A node gets another address below the overlay: its agent tells the forwarding entry, and nothing else changes.
#[test]
fn a_node_that_moved_below_the_overlay_is_reached() {
    if !can_run("a_node_that_moved_below_the_overlay_is_reached", &PROGRAMS) {
        return;
    }
    let mut bed = Overlay::start(Agent::Flannel, 1);
    serves(&mut bed, Agent::Flannel);
    let (old, new) = (node_address(1, false), "172.16.0.99");
    let node = |words: &[&str]| bed.nodes[0].ip(words).unwrap_or_else(|error| panic!("{error}"));
    node(&["address", "delete", &format!("{old}/24"), "dev", "under"]);
    node(&["address", "add", &format!("{new}/24"), "dev", "under"]);
    node(&["link", "set", "flannel.1", "type", "vxlan", "local", new]);
    let links = run(&bed.gateway, "bridge", &["fdb", "show", "dev", "flannel.1"], SOON).expect("entries");
    let mac =
        links.lines().find(|line| line.contains(&old)).and_then(|line| line.split(' ').next()).expect("the node's");
    bridge(&bed.gateway, &["fdb", "replace", mac, "dev", "flannel.1", "dst", new]);
    eventually(SOON, "it answers there", || try_ask(&bed.client, at(LOAD_BALANCER_IPS[0], HTTP.port)).map(|_| ()));
}

/// Packets that the overlay does not carry are answered with what it does carry, like any router's.
#[test]
fn packets_too_large_for_the_overlay_are_answered() {
    if !can_run("packets_too_large_for_the_overlay_are_answered", &PROGRAMS) {
        return;
    }
    let mut bed = Overlay::start(Agent::Flannel, 1);
    for (family, v6) in [false, true].into_iter().enumerate() {
        let vip = at(LOAD_BALANCER_IPS[family], ECHO.port);
        // As large as the client's own link takes; it may not be cut on the way.
        let largest = vec![b'x'; 1500 - if v6 { 48 } else { 28 }];
        EchoClient::new(&bed.client, vip).ask(&largest).expect_err("it does not get through");
        let known = run(&bed.client, "ip", &["route", "get", LOAD_BALANCER_IPS[family]], SOON).expect("a route");
        assert!(known.contains(&format!("mtu {}", mtu(v6))), "{known}");
        // The largest datagram gets through, both ways: the pod's name and the client's address go before it.
        let client = EchoClient::new(&bed.client, vip);
        let payload = vec![b'x'; mtu(v6) as usize - if v6 { 48 } else { 28 } - 100];
        let answer = client.ask(&payload).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.payload.len(), payload.len());
    }
    let replies = bed.ledger().replied;
    assert!(replies >= 2, "{replies}");
}

/// Where nodes answer clients past the overlay, answers come plain by the NIC, and become the VIP's all the same.
#[test]
fn answers_past_the_overlay_reach_the_client() {
    if !can_run("answers_past_the_overlay_reach_the_client", &PROGRAMS) {
        return;
    }
    let bed = Overlay::start(Agent::Calico, 1);
    for (family, v6) in [false, true].into_iter().enumerate() {
        bed.route_back(1, v6, false).unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..5 {
            ask(&bed.client, at(CLUSTER_IPS[family], HTTP.port));
            ask(&bed.client, at(LOAD_BALANCER_IPS[family], HTTP.port));
        }
    }
}

/// What concerns no Service goes on by the kernel: to pods, by the devices that Ringway is attached to.
#[test]
fn the_nodes_own_way_into_the_overlay_stays() {
    if !can_run("the_nodes_own_way_into_the_overlay_stays", &PROGRAMS) {
        return;
    }
    let mut bed = Overlay::start(Agent::Flannel, 1);
    for v6 in [false, true] {
        ping(&bed.client, pod_address(1, v6), 2).unwrap_or_else(|error| panic!("{error}"));
        ping(&bed.gateway, pod_address(1, v6), 2).unwrap_or_else(|error| panic!("{error}"));
        ask(&bed.gateway, (pod_address(1, v6), HTTP.target).into());
        ask(&bed.client, (pod_address(1, v6), HTTP.target).into());
    }
    let ledger = bed.ledger();
    assert_eq!((ledger.forwarded, ledger.dropped()), (0, 0), "{ledger:?}");
}

/// A VXLAN device has one queue, so there is one worker, whatever the NIC has; made with more, it takes more.
#[test]
fn there_are_as_many_workers_as_the_device_has_queues() {
    if !can_run("there_are_as_many_workers_as_the_device_has_queues", &PROGRAMS) {
        return;
    }
    for queues in [1, 2] {
        let mut bed = Overlay::prepare(Agent::Flannel, 1, Queues { nic: 2, device: queues });
        bed.start_ringway();
        assert_eq!(bed.ringway().worker_ledgers().len(), queues as usize);
        serves(&mut bed, Agent::Flannel);
    }
}

/// Tunnels that take no Ethernet frames are refused by name, with what to do, and are not what a glob means.
#[test]
fn devices_that_take_no_frames_are_refused() {
    if !can_run("devices_that_take_no_frames_are_refused", &["ip", "bridge", "nginx"]) {
        return;
    }
    let mut bed = Overlay::prepare(Agent::Flannel, 1, Queues::default());
    bed.gateway
        .ip(&["link", "add", "cilium_vxlan", "type", "vxlan", "external", "dstport", "8473"])
        .and_then(|()| bed.gateway.ip(&["tuntap", "add", "mode", "tun", "name", "flat0"]))
        .unwrap_or_else(|error| panic!("{error}"));
    for (name, told) in [
        ("cilium_vxlan", "cilium_vxlan is a tunnel of kind vxlan in external mode"),
        ("flat0", "flat0 is not an Ethernet interface but one of kind tun"),
    ] {
        bed.write_config(&["front", "under", name]);
        let config = bed.config();
        let arguments = ["run", "--config", config.to_str().expect("a path")];
        let program = binary().to_str().expect("a path");
        let error = run(&bed.gateway, program, &arguments, SOON).expect_err("it is refused");
        assert!(error.contains("exit status: 2") && error.contains(&format!("interfaces[2].name: {told}")), "{error}");
        let noted = run(&bed.gateway, program, &["check", "--config", config.to_str().expect("a path")], SOON);
        assert!(noted.as_ref().is_err_and(|text| text.contains("exit status: 2") && text.contains(told)), "{noted:?}");
    }
    bed.write_config(&["front", "under", "\"fla*\"", "\"cilium*\""]);
    bed.start_ringway();
    let status = bed.ringway().ask("/status");
    let names: Vec<_> =
        status["interfaces"].as_array().expect("interfaces").iter().map(|i| i["name"].clone()).collect();
    assert_eq!(names, ["front", "under", "flannel-v6.1", "flannel.1"]);
}
