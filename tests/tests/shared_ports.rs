//! A Service that comes to a port which masqueraded flows have: who asks hears of it.

use ringway_tests::echo::EchoClient;
use ringway_tests::objects::{self, Addresses, Port};
use ringway_tests::topology::{Bed, ECHO, LOAD_BALANCER_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use std::time::Duration;

const LATE: Port = Port { name: "late", protocol: "UDP", port: 40_000, target: 5353, node_port: 0 };

#[test]
fn trace_and_services_say_that_flows_have_the_port_of_a_service() {
    if !can_run("a Service on a SNAT port", &["ip", "nginx"]) {
        return;
    }
    let mut bed = Bed::prepare(Options { backends: 1, masquerade: true, ..Options::default() });
    let config = std::fs::read_to_string(bed.config()).expect("the configuration");
    std::fs::write(bed.config(), format!("{config}snat: {{ports: 40000}}\n")).expect("the configuration");
    bed.serve();
    bed.start_ringway();
    let client = EchoClient::new(&bed.client, at(LOAD_BALANCER_IPS[0], ECHO.port));
    client.ask(b"one").expect("an answer");
    let packet = "udp:192.0.2.9:7->10.180.0.1:40000";
    let trace = |bed: &mut Bed| {
        let output = bed.ringway().command(&["trace", packet]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!trace(&mut bed).contains("have had the SNAT port"), "there is no Service");
    let addresses = Addresses {
        cluster: vec!["172.30.0.30".to_owned()],
        external: vec!["10.180.0.1".to_owned()],
        ..Addresses::default()
    };
    let endpoint = [bed.backend_ip(0, false).to_string()];
    let list = [objects::service("late", &addresses, &[LATE]), objects::slice("late", "IPv4", &endpoint, &[LATE])];
    bed.write_object("late.json", &objects::list(&list));
    let said = "Masqueraded flows to 10.180.0.11:5353 have had the SNAT port udp 10.180.0.1:40000";
    eventually(Duration::from_secs(10), "trace to say so", || {
        let text = trace(&mut bed);
        if text.contains(said) { Ok(()) } else { Err(text) }
    });
    let services = bed.ringway().command(&["services", "default/late"]);
    let text = String::from_utf8_lossy(&services.stdout).into_owned();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("externalIP 10.180.0.1:40000 (Masqueraded flows to 10.180.0.11:5353"), "{text}");
    assert!(words.contains("clusterIP 172.30.0.30:40000 externalIP"), "the other address is none: {text}");
}
