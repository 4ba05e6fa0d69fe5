//! Random Services and EndpointSlices: what differs between Services in a cluster, and what hardly ever does.

use crate::random::Draw;
use ringway_tests::world::{PODS, PORTS, pod_address};
use serde_json::{Map, Value, json};

/// How many Services a set has.
const SERVICES: usize = 10;

/// Where `index` is this Service's number in addresses and ports.
const EXTERNAL: [&str; 2] = ["203.0.113.", "2001:db8:e::"];
const LOAD_BALANCER: [&str; 2] = ["198.51.100.", "2001:db8:1::"];
const CLUSTER: [&str; 2] = ["172.30.1.", "fd00:30::1"];

const PORT_MENU: [(&str, u16); 4] = [("TCP", 80), ("UDP", 80), ("TCP", 443), ("UDP", 53)];

const RANGES: [&str; 9] = [
    "192.168.0.0/24",
    "198.18.0.0/16",
    " 10.180.0.0/25 ",
    "10.180.0.128/25",
    "192.168.0.2/32",
    "fd00:168::/64",
    "2001:db8:f::/48",
    "fd00:180::/64",
    "203.0.113.0/24",
];

/// Services with their slices.
pub(crate) fn cluster(draw: &mut Draw) -> Vec<Value> {
    let mut objects = Vec::new();
    for index in 0..SERVICES {
        let service = service(draw, index);
        objects.extend(slices(draw, index, &service));
        objects.push(service);
    }
    // kubectl apply takes them in any order, too.
    let count = objects.len();
    draw.some(&objects, count)
}

fn ip(prefixes: [&str; 2], v6: bool, index: usize) -> String {
    format!("{}{}", prefixes[usize::from(v6)], 10 + index)
}

fn service(draw: &mut Draw, index: usize) -> Value {
    let kind = draw.pick(&["headless", "ExternalName", "ClusterIP", "ClusterIP", "NodePort", "NodePort"]);
    let kind = if draw.chance(45) { "LoadBalancer" } else { kind };
    let families: &[bool] = draw.pick(&[&[false], &[true], &[true, false], &[false, true], &[false, true]]);
    let mut spec = Map::new();
    let mut set = |key: &str, value: Value| spec.insert(key.to_owned(), value);
    let outside = matches!(kind, "NodePort" | "LoadBalancer");
    let headless = kind == "headless";
    set("type", if headless { "ClusterIP".into() } else { kind.into() });
    let count = 1 + draw.below(3);
    let unnamed = count == 1 && draw.chance(30);
    let menu = draw.some(&PORT_MENU, count);
    let ports = menu.iter().enumerate().map(|(number, (protocol, port))| {
        let mut value = json!({"protocol": protocol, "port": port, "targetPort": PORTS[0]});
        if !unnamed {
            value["name"] = format!("p{number}").into();
        }
        if outside {
            value["nodePort"] = (30_100 + 4 * index + number).into();
        }
        value
    });
    set("ports", ports.collect());
    let mut status = json!({});
    if kind == "ExternalName" {
        set("externalName", "example.com".into());
    } else {
        let name = |v6: bool| if v6 { "IPv6" } else { "IPv4" };
        set("ipFamilies", families.iter().map(|v6| name(*v6)).collect());
        set("ipFamilyPolicy", if families.len() == 2 { "RequireDualStack".into() } else { "SingleStack".into() });
        let ips: Vec<String> = families.iter().map(|v6| ip(CLUSTER, *v6, index)).collect();
        let ips = if headless { vec!["None".to_owned()] } else { ips };
        set("clusterIP", ips[0].clone().into());
        set("clusterIPs", ips.into());
        set("internalTrafficPolicy", if draw.chance(35) { "Local".into() } else { "Cluster".into() });
        let mut external: Vec<String> = Vec::new();
        if !headless {
            external =
                [false, true].into_iter().filter(|_| draw.chance(35)).map(|v6| ip(EXTERNAL, v6, index)).collect();
            // One Service of a set may claim an address of the node itself.
            if index == 0 && draw.chance(30) {
                external.push("192.168.0.2".to_owned());
            }
        }
        if outside || !external.is_empty() {
            set("externalTrafficPolicy", if draw.chance(50) { "Local".into() } else { "Cluster".into() });
        }
        set("externalIPs", external.into());
        if draw.chance(12) {
            set("sessionAffinity", "ClientIP".into());
        }
    }
    if kind == "LoadBalancer" {
        if draw.chance(40) {
            let count = 1 + draw.below(3);
            set("loadBalancerSourceRanges", draw.some(&RANGES, count).into());
        }
        let mut ingress = Vec::new();
        for v6 in [false, true] {
            if draw.chance(85) {
                let mut entry = json!({"ip": ip(LOAD_BALANCER, v6, index)});
                if let Some(mode) = draw.pick(&[None, Some("VIP"), Some("VIP"), Some("Proxy")]) {
                    entry["ipMode"] = mode.into();
                }
                ingress.push(entry);
            }
        }
        if draw.chance(10) {
            ingress.push(json!({"hostname": "lb.example.com"}));
        }
        status = json!({"loadBalancer": {"ingress": ingress}});
    }
    if spec.get("externalTrafficPolicy").is_some_and(|policy| policy == "Local") && kind == "LoadBalancer" {
        spec.insert("healthCheckNodePort".to_owned(), (32_000 + index).into());
    }
    let mut labels = json!({});
    if draw.chance(4) {
        labels["service.kubernetes.io/service-proxy-name"] = draw.pick(&["other", ""]).into();
    }
    if draw.chance(3) {
        labels["service.kubernetes.io/headless"] = "".into();
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name(index), "namespace": "default", "labels": labels},
        "spec": spec, "status": status,
    })
}

fn name(index: usize) -> String {
    format!("s{index}")
}

/// How the endpoints of a Service do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Fine,
    Mixed,
    Leaving,
    Gone,
}

fn conditions(draw: &mut Draw, mood: Mood) -> Value {
    let maybe = |draw: &mut Draw| draw.pick(&[Value::Null, true.into(), false.into()]);
    let (ready, serving, terminating) = match mood {
        Mood::Fine => (draw.pick(&[Value::Null, true.into()]), draw.pick(&[Value::Null, true.into()]), Value::Null),
        Mood::Mixed => (maybe(draw), maybe(draw), maybe(draw)),
        Mood::Leaving => (false.into(), maybe(draw), true.into()),
        Mood::Gone => (false.into(), false.into(), maybe(draw)),
    };
    let mut value = json!({});
    for (key, condition) in [("ready", ready), ("serving", serving), ("terminating", terminating)] {
        if !condition.is_null() {
            value[key] = condition;
        }
    }
    value
}

/// Hints in the way that most endpoints of a Service have them.
fn hints(draw: &mut Draw, sort: usize, local: bool) -> Value {
    let sort = if draw.chance(4) { draw.below(4) } else { sort };
    let zone = || json!([{"name": if local { "a" } else { "b" }}]);
    let zones = draw.pick(&[zone(), zone(), json!([{"name": "a"}, {"name": "b"}]), json!([{"name": "c"}])]);
    let nodes = draw.pick(&[json!([{"name": if local { "gw-1" } else { "gw-2" }}]), json!([{"name": "gw-3"}])]);
    match sort {
        1 => json!({"forZones": zones}),
        2 => json!({"forNodes": nodes}),
        3 => json!({"forZones": zones, "forNodes": nodes}),
        _ => Value::Null,
    }
}

fn slices(draw: &mut Draw, index: usize, service: &Value) -> Vec<Value> {
    let mood = draw.pick(&[Mood::Fine, Mood::Fine, Mood::Fine, Mood::Mixed, Mood::Mixed, Mood::Leaving, Mood::Gone]);
    let hint_sort = draw.pick(&[0, 0, 1, 2, 3]);
    let crowd = draw.pick(&[30, 50, 80]);
    let mut slices = Vec::new();
    for v6 in [false, true] {
        let count = draw.pick(&[0, 1, 1, 1, 2, 2]);
        let mut left: Vec<usize> = (0..PODS).collect();
        let mut taken: Vec<Value> = Vec::new();
        for number in 0..count {
            let chosen: Vec<usize> = left.iter().copied().filter(|_| draw.chance(crowd)).collect();
            left.retain(|pod| !chosen.contains(pod));
            let mut endpoints: Vec<Value> =
                chosen.into_iter().map(|pod| endpoint(draw, pod, v6, mood, hint_sort)).collect();
            // One endpoint in two slices: of two forms the one that is not terminating wins.
            if let Some(twin) = (!taken.is_empty() && draw.chance(40)).then(|| draw.pick(&taken)) {
                endpoints.push(second_form(draw, twin));
            }
            taken.extend(endpoints.iter().cloned());
            let mut labels = json!({"kubernetes.io/service-name": name(index)});
            if draw.chance(4) {
                labels["service.kubernetes.io/headless"] = "".into();
            }
            slices.push(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{}-{}-{number}", name(index), if v6 { "v6" } else { "v4" }),
                    "namespace": "default", "labels": labels,
                },
                "addressType": if v6 { "IPv6" } else { "IPv4" },
                "ports": slice_ports(draw, service),
                "endpoints": endpoints,
            }));
        }
    }
    slices
}

fn endpoint(draw: &mut Draw, pod: usize, v6: bool, mood: Mood, hint_sort: usize) -> Value {
    let local = pod < PODS / 2;
    let mut value = json!({
        "addresses": [pod_address(pod, v6).to_string()],
        "conditions": conditions(draw, mood),
    });
    let node = if local { "gw-1" } else { "gw-2" };
    let node = if draw.chance(15) { draw.pick(&["gw-1", "gw-2", "gw-3"]) } else { node };
    if !draw.chance(8) {
        value["nodeName"] = node.into();
    }
    let hints = hints(draw, hint_sort, local);
    if !hints.is_null() {
        value["hints"] = hints;
    }
    value
}

/// The same endpoint once more: as it is, or in its last minutes if it is not so yet.
fn second_form(draw: &mut Draw, mut twin: Value) -> Value {
    if draw.chance(50) && twin["conditions"]["terminating"] != true {
        twin["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
    }
    twin
}

fn slice_ports(draw: &mut Draw, service: &Value) -> Vec<Value> {
    let mut ports = Vec::new();
    for port in service["spec"]["ports"].as_array().into_iter().flatten() {
        if draw.chance(4) {
            continue;
        }
        let mut value = json!({"protocol": port["protocol"]});
        value["name"] = port.get("name").cloned().unwrap_or("".into());
        if !draw.chance(3) {
            value["port"] = draw.pick(&PORTS).into();
        }
        ports.push(value);
    }
    if draw.chance(10) {
        ports.push(json!({"name": "more", "protocol": "TCP", "port": PORTS[0]}));
    }
    ports
}
