//! The control plane itself, without Ringway: a failure here is one of the harness, not of the load balancer.

use ringway_tests::control_plane::{self, ControlPlane, EndpointState, Pod, pod_objects};
use ringway_tests::eventually;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

fn pod(name: &str, host: u8, http: u16) -> Pod {
    let addresses = vec![format!("10.180.0.{host}"), format!("fd00:180::{host}")];
    Pod { name: name.into(), app: "web".into(), node: "gw-1".into(), addresses, http, echo: 5353 }
}

/// `ADDRESS:PORT ready serving terminating` of every endpoint of the Service `web`, for its port `http`.
fn endpoints(plane: &ControlPlane) -> Vec<String> {
    let mut all = Vec::new();
    for slice in plane.list("EndpointSlice") {
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != "web" {
            continue;
        }
        let ports = slice["ports"].as_array().cloned().unwrap_or_default();
        for port in ports.iter().filter(|port| port["name"] == "http") {
            for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                let condition =
                    |name: &'static str| if endpoint["conditions"][name] == json!(true) { name } else { "-" };
                let words = [condition("ready"), condition("serving"), condition("terminating")];
                let address = endpoint["addresses"][0].as_str().unwrap_or_default();
                all.push(format!("{address}:{} {}", port["port"], words.join(" ")));
            }
        }
    }
    all.sort();
    all
}

#[track_caller]
fn await_endpoints(plane: &ControlPlane, wanted: &[&str]) {
    eventually(SOON, "the controllers write the endpoints", || {
        let found = endpoints(plane);
        if found == wanted { Ok(()) } else { Err(format!("{found:?} instead of {wanted:?}")) }
    });
}

#[test]
fn real_controllers_make_slices_of_services_and_pods() {
    if !control_plane::can_run("real_controllers_make_slices_of_services_and_pods") {
        return;
    }
    let mut plane = ControlPlane::start();
    plane.apply(&[control_plane::node("gw-1", "a", &[], &["192.168.0.2"])]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack", "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.10", "ipMode": "VIP"}]}},
    });
    let [one, two] = [pod("one", 11, 8080), pod("two", 12, 8081)];
    let objects = [&one, &two].map(|pod| pod_objects(pod, EndpointState::Ready));
    plane.apply(&[service, objects[0].clone(), pod_objects(&two, EndpointState::NotReady)]);
    // A named targetPort may be another number in each Pod.
    await_endpoints(
        &plane,
        &[
            "10.180.0.11:8080 ready serving -",
            "10.180.0.12:8081 - - -",
            "fd00:180::11:8080 ready serving -",
            "fd00:180::12:8081 - - -",
        ],
    );
    let web = plane.get("Service", "web").expect("it was created");
    assert_eq!(web["status"]["loadBalancer"]["ingress"][0]["ip"], "198.51.100.10");
    assert_eq!(web["spec"]["clusterIPs"].as_array().map(Vec::len), Some(2), "{web}");
    assert!(web["spec"]["ports"][0]["nodePort"].is_u64(), "{web}");

    plane.patch_status("Pod", "two", objects[1]["status"].clone());
    plane.delete_within(&objects[..1], 600);
    await_endpoints(
        &plane,
        &[
            "10.180.0.11:8080 - serving terminating",
            "10.180.0.12:8081 ready serving -",
            "fd00:180::11:8080 - serving terminating",
            "fd00:180::12:8081 ready serving -",
        ],
    );

    // Objects outlive both servers, and a revision from before the compaction is gone.
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let before = version(&web);
    plane.kill_api();
    plane.compact();
    plane.kill_etcd();
    plane.start_etcd();
    plane.start_api();
    plane.delete(&objects[..1]);
    await_endpoints(&plane, &["10.180.0.12:8081 ready serving -", "fd00:180::12:8081 ready serving -"]);
    let watch = format!("/api/v1/services?watch=true&timeoutSeconds=1&resourceVersion={before}");
    let answer = plane.kubectl(&["get", "--raw", &watch]);
    assert!(format!("{answer:?}").contains("too old resource version"), "{answer:?}");
}

/// What tells two objects of the same form apart.
fn without_identity(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|field, _| ["namespace", "labels", "generation"].contains(&field.as_str()));
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|field, _| !["clusterIP", "clusterIPs"].contains(&field.as_str()));
    }
    object
}

#[test]
fn objects_written_into_etcd_are_served_like_created_ones() {
    if !control_plane::can_run("objects_written_into_etcd_are_served_like_created_ones") {
        return;
    }
    let service = |name: &str, addresses: [&str; 2]| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {
                "type": "ClusterIP", "clusterIP": addresses[0], "clusterIPs": addresses,
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
                "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
            },
            "status": {"loadBalancer": {}},
        })
    };
    let slice = |name: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": name, "namespace": "default", "generation": 1, "labels": {"kubernetes.io/service-name": "web"},
            },
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
            "endpoints": [{"addresses": ["10.180.0.11"], "conditions": {"ready": true}, "nodeName": "gw-1"}],
        })
    };
    let (taken, free) = (["172.30.0.20", "fd00:30::20"], ["172.30.0.21", "fd00:30::21"]);
    let filled = [service("filled", taken), slice("filled")];
    let plane = ControlPlane::start_with(filled.clone().into_iter());
    plane.apply(&[service("created", free), slice("created")]);
    for (kind, written) in ["Service", "EndpointSlice"].into_iter().zip(filled) {
        let [filled, created] = ["filled", "created"].map(|name| plane.get(kind, name).expect("it was written"));
        assert_eq!(filled["spec"], written["spec"]);
        assert_eq!(without_identity(filled), without_identity(created));
    }
    // Their addresses are theirs. Had they been found missing, the API server would have made others of its own.
    for address in taken {
        let path = format!("/apis/networking.k8s.io/v1/ipaddresses/{address}");
        let allocated: Value = serde_json::from_str(&plane.kubectl(&["get", "--raw", &path]).expect("it is there"))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(allocated["spec"]["parentRef"]["name"], "filled", "{allocated}");
        assert_eq!(allocated["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z", "{allocated}");
    }
    let clash = plane.kubectl(&["create", "service", "clusterip", "clash", "--clusterip", taken[0], "--tcp", "80"]);
    assert!(clash.as_ref().is_err_and(|why| why.contains("already allocated")), "{clash:?}");

    plane.patch("EndpointSlice", "filled", json!({"endpoints": [{"addresses": ["10.180.0.12"], "conditions": {}}]}));
    let changed = plane.get("EndpointSlice", "filled").expect("it is still there");
    assert_eq!(
        (&changed["endpoints"][0]["addresses"][0], &changed["metadata"]["generation"]),
        (&json!("10.180.0.12"), &json!(2))
    );
}
