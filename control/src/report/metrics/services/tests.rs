use ringway_shared::counters::WorkerCounters;
use ringway_shared::snapshot::Snapshot;

use super::*;
use crate::cluster::ClusterState;
use crate::compile::{CompileOptions, Memory, compile};
use crate::parse::Document;
use crate::publish::Published;
use crate::report::metrics::render;
use crate::source::manifest;

/// Services `shop/NAME` with a TCP and a UDP port and these endpoints each.
fn cluster(services: impl IntoIterator<Item = (String, Vec<u8>)>) -> ClusterState {
    let mut cluster = ClusterState::default();
    for (at, (name, endpoints)) in services.into_iter().enumerate() {
        let endpoints: Vec<String> = endpoints.iter().map(|last| format!("{{addresses: [10.0.0.{last}]}}")).collect();
        let ports = "[{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]";
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, spec: {{clusterIP: 172.30.{}.{}, ports: {ports}}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-1, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}},
 addressType: IPv4, ports: {ports}, endpoints: [{}]}}
",
            at / 250,
            at % 250 + 1,
            endpoints.join(", ")
        );
        for document in manifest::read(&text).documents {
            let Document::Taken(parsed) = document else { panic!("{document:?}") };
            cluster.apply(parsed, None);
        }
    }
    cluster
}

fn published(cluster: &ClusterState, memory: &mut Memory) -> Published {
    let compiled = compile(cluster, &CompileOptions::default(), memory);
    Published {
        snapshot: Snapshot { services: Arc::new(compiled.services), ..Snapshot::default() },
        ..Published::default()
    }
}

fn web(endpoints: &[u8]) -> ClusterState {
    cluster([("web".to_owned(), endpoints.to_vec())])
}

fn patterns(texts: &[&str]) -> Vec<ServicePattern> {
    texts.iter().map(|text| ServicePattern::parse(text).unwrap()).collect()
}

fn backend(published: &Published, port: u16, address: &str) -> BackendId {
    let ports = published.snapshot.services.service_ports.iter().flatten();
    let member = ports.filter(|own| own.port == port).find_map(|own| own.member(address.parse().unwrap(), port));
    member.expect(address).id
}

const TCP: &str = "{service=\"shop/web\",port=\"80\",protocol=\"tcp\",family=\"IPv4\"";

#[test]
fn a_named_service_has_its_counts_and_what_its_endpoints_make_of_first_packets() {
    let published = published(&web(&[1, 2]), &mut Memory::new());
    let workers = [WorkerCounters::new(8), WorkerCounters::new(8)];
    let id = backend(&published, 80, "10.0.0.1");
    workers[0].backend_flow(id);
    workers[1].backend_packet(id, 60);
    workers[0].answered(id, Some(2), 1_000);
    workers[1].answered(id, Some(7_000), 1_000);
    let dead = backend(&published, 80, "10.0.0.2");
    workers[0].unanswered(dead, 2_000);
    workers[0].unanswered(dead, 2_000);
    workers[1].refused(dead, 3_000);
    let view = AnswerView { published: &published, counters: &workers, suspects: None, now: 4_000 };
    let mut series = ServiceSeries::default();
    let text = render(series.read(&patterns(&["shop/web"]), &view)).unwrap();
    for line in [
        format!("ringway_service_flows_total{TCP}}} 1"),
        format!("ringway_service_packets_total{TCP}}} 1"),
        format!("ringway_service_bytes_total{TCP}}} 60"),
        format!("ringway_service_first_packets_total{TCP},outcome=\"answered\"}} 2"),
        format!("ringway_service_first_packets_total{TCP},outcome=\"unanswered\"}} 2"),
        format!("ringway_service_first_packets_total{TCP},outcome=\"refused\"}} 1"),
        "# TYPE ringway_service_handshake_seconds histogram".to_owned(),
        format!("ringway_service_handshake_seconds_sum{TCP}}} 7.002"),
        format!("ringway_service_handshake_seconds_count{TCP}}} 2"),
        format!("ringway_service_endpoints_silent{TCP}}} 1.0"),
        "ringway_service_flows_total{service=\"shop/web\",port=\"53\",protocol=\"udp\",family=\"IPv4\"} 0".to_owned(),
        "ringway_service_ports_without_series 0.0".to_owned(),
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is missing:\n{text}");
    }
    // The classes are added up, as Prometheus wants them.
    let classes = text.lines().filter(|line| line.starts_with("ringway_service_handshake_seconds_bucket"));
    let of_tcp: Vec<(&str, &str)> = classes
        .filter(|line| line.contains("port=\"80\""))
        .map(|line| (line.split("le=\"").nth(1).unwrap().split('"').next().unwrap(), line.rsplit(' ').next().unwrap()))
        .collect();
    let bounds = ["0.001", "0.005", "0.025", "0.1", "0.5", "2.5", "+Inf"];
    assert_eq!(of_tcp, bounds.into_iter().zip(["0", "1", "1", "1", "1", "1", "2"]).collect::<Vec<_>>());
    assert!(series.read(&[], &view).is_empty(), "nobody asks for any");
    assert_eq!(render(series.read(&patterns(&["other/*"]), &view)).unwrap().matches("service=").count(), 0);
}

#[test]
fn counts_never_fall_when_endpoints_go() {
    let mut memory = Memory::new();
    let workers = [WorkerCounters::new(64)];
    let mut series = ServiceSeries::default();
    let mut flows = |published: &Published| {
        let view = AnswerView { published, counters: &workers, suspects: None, now: 0 };
        let all = series.read(&patterns(&["shop/web"]), &view);
        let flows = all.iter().find(|metric| metric.name == "service_flows").unwrap();
        match flows.series.iter().find(|(labels, _)| labels[1] == "80") {
            Some((_, Number::Count(count))) => *count,
            other => panic!("{other:?}"),
        }
    };
    let both = published(&web(&[1, 2]), &mut memory);
    let [one, two] = ["10.0.0.1", "10.0.0.2"].map(|address| backend(&both, 80, address));
    (0..5).for_each(|_| workers[0].backend_flow(one));
    workers[0].backend_flow(two);
    assert_eq!(flows(&both), 6);
    workers[0].backend_flow(two);
    let left = published(&web(&[2]), &mut memory);
    assert_eq!(flows(&left), 7, "what the other one got stays counted");
    // Its number has another owner, which begins at nothing.
    let third = published(&web(&[2, 3]), &mut memory);
    let three = backend(&third, 80, "10.0.0.3");
    (0..2).for_each(|_| workers[0].backend_flow(three));
    assert_eq!(flows(&third), 9);
}

#[test]
fn too_many_and_unknown_services_are_told() {
    let many = cluster((0..150).map(|at| (format!("s{at:03}"), vec![1])));
    let published = published(&many, &mut Memory::new());
    let services = &published.snapshot.services;
    let view = AnswerView { published: &published, counters: &[], suspects: None, now: 0 };
    let mut series = ServiceSeries::default();
    let wanted = patterns(&["shop/*", "shop/s000", "shop/wbe"]);
    let all = series.read(&wanted, &view);
    let flows = all.iter().find(|metric| metric.name == "service_flows").unwrap();
    let names: Vec<&str> = flows.series.iter().map(|(labels, _)| &*labels[0]).collect();
    assert_eq!((names.len(), names[0], names[255]), (MOST, "shop/s000", "shop/s127"));
    let beyond = all.iter().find(|metric| metric.name == "service_ports_without_series").unwrap();
    assert_eq!(beyond.series, [(Vec::new(), Number::Gauge(44.0))]);
    let [more, unknown] = &series.problems(&wanted, services)[..] else { panic!("two problems") };
    assert!(more.contains("names 300 service ports") && more.contains("first 256"), "{more}");
    // s000 is found although the glob names it, too.
    assert!(unknown.contains("shop/wbe names no Service"), "{unknown}");
    assert!(series.problems(&patterns(&["shop/s00?"]), services).is_empty(), "other patterns, another answer");
}

#[test]
fn udp_that_nothing_answers_is_asked_for_once() {
    let published = published(&web(&[1, 2, 3]), &mut Memory::new());
    let workers = [WorkerCounters::new(8)];
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        let id = backend(&published, 53, address);
        (0..3).for_each(|_| workers[0].unanswered(id, 1_000));
    }
    let view = AnswerView { published: &published, counters: &workers, suspects: None, now: 2_000 };
    assert_eq!(view.all_unanswering(), (Vec::new(), 0), "who sends logs expects nothing back");
    workers[0].answered(backend(&published, 53, "10.0.0.1"), None, 1_500);
    assert_eq!(view.all_unanswering().1, 2);
    let told = OnceCell::from(0);
    let port = published.snapshot.services.service_ports.iter().flatten().find(|port| port.port == 53).unwrap();
    let silent = port.endpoints.iter().filter(|endpoint| view.unanswering(port, endpoint, &told).is_some());
    assert_eq!(silent.count(), 0, "what is known of the service port is not added up again for each endpoint");
}

#[test]
fn every_metric_is_documented() {
    let page = include_str!("../../../../../docs/admin-api.md");
    let published = published(&web(&[1]), &mut Memory::new());
    let view = AnswerView { published: &published, counters: &[], suspects: None, now: 0 };
    let all = ServiceSeries::default().read(&patterns(&["*/*"]), &view);
    assert!(all.len() > 5, "{all:?}");
    for metric in all {
        let row = format!("| `{}`", metric.full_name());
        assert!(page.contains(&row), "docs/admin-api.md has no row for {}: {}", metric.full_name(), metric.help);
    }
}
