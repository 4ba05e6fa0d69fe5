use super::*;
use crate::cluster::ClusterState;
use crate::compile::{CompileOptions, Memory, compile};
use crate::parse::Document;
use crate::publish::Published;
use crate::source::manifest;

const OBJECTS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 172.30.0.1, externalIPs: [x], ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: wrong, namespace: shop}, spec: {type: Balancer}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}},
 addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}, {addresses: [nowhere]}, {addresses: [10.0.0.2], conditions: {ready: false}}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-2, namespace: shop, labels: {kubernetes.io/service-name: web}},
 addressType: IPv4, ports: [{name: http, port: 80}], endpoints: [{addresses: [10.0.0.3]}]}
";

fn published() -> Published {
    published_of(OBJECTS, &CompileOptions::default())
}

fn published_of(objects: &str, options: &CompileOptions) -> Published {
    let mut cluster = ClusterState::default();
    for document in manifest::read(objects).documents {
        match document {
            Document::Taken(parsed) => {
                cluster.apply(parsed, None);
            }
            Document::Refused(Some(key), refusal) => cluster.refuse(&key, &refusal, None),
            other => panic!("{other:?}"),
        }
    }
    let compiled = compile(&cluster, options, &mut Memory::new());
    let snapshot = Snapshot { services: Arc::new(compiled.services), ..Snapshot::default() };
    Published { snapshot, cluster: Arc::new(cluster), problems: compiled.problems, ..Published::default() }
}

#[test]
fn a_service_is_told_with_its_endpoints_and_with_what_is_wrong_with_it_and_its_slices() {
    let report = ServicesReport::of(&AnswerView { published: &published(), counters: &[], suspects: None, now: 0 });
    let [web, wrong] = &report.services[..] else { panic!("{report:#?}") };
    let texts = |service: &ServiceReport| -> Vec<String> { service.problems.iter().map(ToString::to_string).collect() };
    assert_eq!((&*web.service, &*wrong.service), ("shop/web", "shop/wrong"));
    assert_eq!(
        texts(web),
        [
            "warning: Service shop/web: spec.externalIPs: \"x\" is not an IP address; skipped",
            "warning: Service shop/web: port http (tcp) of EndpointSlice shop/web-2 gets no packets: name and protocol must be \
             those of a port of the Service, which has \"\" (tcp)",
            "warning: EndpointSlice shop/web-1: endpoints[1] is skipped: \"nowhere\" is not an IP address",
        ]
    );
    // Refused at once: no content, but its owner looks for it here.
    assert!(wrong.ports.is_empty());
    let [refused] = &texts(wrong)[..] else { panic!("{wrong:#?}") };
    assert!(refused.starts_with("Service shop/wrong: refused: spec.type is \"Balancer\""), "{refused}");
    let endpoints = web.ports[0].endpoints.iter();
    let told: Vec<_> =
        endpoints.map(|e| (&*e.endpoint, &*e.slice, e.eligible, e.excluded.as_deref().unwrap_or("-"))).collect();
    assert_eq!(
        told,
        [
            ("10.0.0.1:80", "shop/web-1", true, "-"),
            ("10.0.0.2:80", "shop/web-1", false, "not ready"),
            ("10.0.0.3:80", "shop/web-2", false, "its slice gives the port the name \"http\""),
        ]
    );
}

#[test]
fn an_endpoint_that_does_not_answer_is_told_until_it_does() {
    use ringway_shared::counters::WorkerCounters;
    let published = published();
    let workers = [WorkerCounters::new(8), WorkerCounters::new(8)];
    let told = |now| {
        let view = AnswerView { published: &published, counters: &workers, suspects: None, now };
        let port = ServicesReport::of(&view).services.into_iter().flat_map(|s| s.ports).next().unwrap();
        let (all, count) = view.all_unanswering();
        assert_eq!((all.len(), all.iter().all(|one| one.service == "shop/web")), (count, true));
        (port.endpoints.into_iter().find(|e| e.endpoint == "10.0.0.1:80").unwrap().unanswering, count)
    };
    let ports = published.snapshot.services.service_ports.iter().flatten();
    let id = ports.flat_map(|port| port.endpoints.iter()).find(|e| e.backend.port == 80).unwrap().backend.id;
    workers[0].answered(id, Some(2), 1_000);
    workers[0].unanswered(id, 2_000);
    workers[1].refused(id, 3_000);
    assert_eq!(told(4_000), (None, 0), "two failures may be chance");
    workers[1].unanswered(id, 5_000);
    let sentence = "3 of the last 3 SYNs failed: 2 unanswered, 1 refused, the last 7 s ago";
    assert_eq!(told(12_000), (Some(sentence.to_owned()), 1));
    assert_eq!(told(605_000), (None, 0), "nobody tries any more");
    workers[0].answered(id, None, 13_000);
    assert_eq!(told(14_000), (None, 0));
    (0..4).for_each(|second| workers[0].refused(id, 14_000 + second));
    assert_eq!(told(15_000).0.as_deref(), Some("4 of the last 4 SYNs refused, the last 0 s ago"));
    // A number that has a new owner: what the former one did not answer is nothing of its.
    let mut sum = BackendTally::default();
    workers.iter().for_each(|worker| sum.merge(worker.backend(id)));
    let baselines = [(id, sum)].into_iter().collect();
    let renumbered = Published { baselines, ..published.clone() };
    let view = AnswerView { published: &renumbered, counters: &workers, suspects: None, now: 15_000 };
    assert_eq!(view.all_unanswering(), (Vec::new(), 0));
}

/// A VIP with an endpoint, one without, one that the machine owns, and a NodePort.
const PINGED: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {type: NodePort, clusterIP: 172.30.0.1,
 externalIPs: [198.51.100.1, 192.0.2.7], ports: [{port: 80, nodePort: 30080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: idle, namespace: shop}, spec: {clusterIP: 172.30.0.2, externalIPs: [198.51.100.1], ports: [{port: 81}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}},
 addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]}
";

#[test]
fn of_each_address_it_is_told_whether_pings_are_answered() {
    let options = CompileOptions { addresses: Some(vec!["192.0.2.7".parse().unwrap()]), ..CompileOptions::default() };
    let published = published_of(PINGED, &options);
    let view = AnswerView { published: &published, counters: &[], suspects: None, now: 0 };
    let ports = ServicesReport::of(&view).services.into_iter().flat_map(|service| service.ports);
    let told: BTreeMap<String, Option<bool>> =
        ports.flat_map(|port| port.addresses).map(|address| (address.address, address.ping)).collect();
    let expected = [
        ("172.30.0.1:80", Some(true)),
        ("172.30.0.2:81", Some(false)),
        ("192.0.2.7:30080", None),
        ("192.0.2.7:80", None),
        ("198.51.100.1:80", Some(true)),
        ("198.51.100.1:81", Some(true)),
    ];
    assert_eq!(told, expected.map(|(address, ping)| (address.to_owned(), ping)).into());
}
