//! The same by the real kube-proxy: what clients hear of errors is the same with it and with Ringway.

use ringway_tests::control_plane::{self, ControlPlane, KubeProxy, node};
use ringway_tests::eventually;
use ringway_tests::process::try_ask;
use serde_json::Value;

use super::*;

/// Some rounds of questions.
const WHILE: Duration = Duration::from_secs(90);

/// What the far end makes of errors on its way to every frontend: the hops but the gateway's own, the path MTU and where the way
/// ends, and what it is told of a port that nobody listens behind.
fn heard(journey: &Journey) -> Vec<String> {
    let mut all = Vec::new();
    for (_, ip, ports) in frontends() {
        for mut hops in hops(journey, ip, ports) {
            hops.remove(2);
            all.push(format!("{ip}: {hops:?}"));
        }
    }
    for (_, vip) in vips() {
        let path = journey.run("tracepath", &["-n", "-m", "12", "-p", &FIRST_PATH_PORT.to_string(), vip]);
        let resume = path.lines().find(|line| line.contains("Resume")).unwrap_or_else(|| panic!("{path}"));
        all.push(format!("{vip}: {}", resume.trim()));
        all.push(format!("{vip}: {:?}", refusal(&journey.far, at(vip, CLOSED))));
    }
    all
}

#[test]
fn clients_hear_of_errors_what_they_hear_through_the_real_kube_proxy() {
    let test = "clients_hear_of_errors_what_they_hear_through_the_real_kube_proxy";
    let programs = ["ip", "nginx", "iperf3", "tracepath", "traceroute", "curl", "nft"];
    if !can_run(test, &programs) || !control_plane::can_run(test) {
        return;
    }
    let mut journey = Journey::prepare(1400, 1300);
    let plane = ControlPlane::start();
    plane.join(&journey.bed.gateway);
    let mut objects = vec![node("gw-1", "a", &["10.250.0.0/24", "fd00:250::/64"], &NODE_IPS)];
    for file in ["web-service.json", "web-slice4.json", "web-slice6.json"] {
        let text = std::fs::read_to_string(journey.bed.objects().join(file)).expect("the objects");
        let mut object: Value = serde_json::from_str(&text).expect("an object");
        if object["kind"] == "Service" {
            // Nobody but the test writes its slices, and it has the NodePorts that it names.
            object["spec"].as_object_mut().and_then(|spec| spec.remove("selector"));
            object["spec"]["allocateLoadBalancerNodePorts"] = false.into();
        }
        objects.push(object);
    }
    plane.apply(&objects);
    let kube_proxy = KubeProxy::start(&plane, &journey.bed.gateway, "gw-1", false, false);
    let served = |journey: &Journey| {
        for (_, ip, [port, _]) in frontends() {
            eventually(Duration::from_secs(30), ip, || try_ask(&journey.far, at(ip, port)).map(drop));
        }
    };
    served(&journey);
    // Each hop is asked once, and on a machine with much else to do an answer may be late.
    let by_kube_proxy = eventually(WHILE, "the same is heard twice", || {
        let (once, again) = (heard(&journey), heard(&journey));
        if once == again { Ok(once) } else { Err(format!("{once:#?}\n{again:#?}")) }
    });
    drop(kube_proxy);
    run(&journey.bed.gateway, "nft", &["flush", "ruleset"], Duration::from_secs(10)).unwrap_or_else(|e| panic!("{e}"));
    journey.bed.start_ringway();
    served(&journey);
    eventually(WHILE, "the same is heard through Ringway", || {
        let by_ringway = heard(&journey);
        if by_ringway == by_kube_proxy { Ok(()) } else { Err(format!("{by_ringway:#?}\n{by_kube_proxy:#?}")) }
    });
    assert!(journey.bed.ledger().forwarded > 100, "{:?}", journey.bed.ledger());
}
