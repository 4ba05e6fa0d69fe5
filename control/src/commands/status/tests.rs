use super::*;
use crate::config::keys::{Change, Fate};
use crate::report::configuration::{ConfigurationReport, ReloadFailure};
use crate::report::interfaces::InterfaceCounters;
use crate::report::source::ResourceReport;
use crate::report::status::SnapshotReport;

#[test]
fn a_status_is_read_from_top_to_bottom() {
    let ledger = LedgerReport {
        rx: 9,
        forwarded: 6,
        replied: 1,
        drops: [("land".into(), 2)].into(),
        closes: true,
        ..LedgerReport::default()
    };
    let report = StatusReport {
        version: "1.0".into(),
        node: "gw-1".into(),
        pid: 7,
        uptime_seconds: 3_700,
        ready: true,
        configuration: ConfigurationReport {
            file: "/etc/ringway/ringway.yaml".into(),
            age_seconds: 61,
            reloads: 1,
            waiting: vec![Change {
                key: "workers.cpus".into(),
                from: "[2]".into(),
                to: "[3]".into(),
                fate: Fate::Restart,
            }],
            failure: Some(ReloadFailure { age_seconds: 5, text: "c.yaml:1:1: one\nc.yaml:2:1: two".into() }),
        },
        source: SourceReport { age_seconds: Some(0), ..SourceReport::default() },
        snapshot: SnapshotReport {
            generation: 3,
            in_force: true,
            problem: None,
            took_micros: Some(1_250),
            ..SnapshotReport::default()
        },
        interfaces: vec![InterfaceReport {
            name: "eth0".into(),
            up: true,
            mode: Some("generic".into()),
            mode_reason: Some("the driver has no XDP".into()),
            counters: Some(InterfaceCounters { rx_missed: 5, tx_packets: 7, ..InterfaceCounters::default() }),
            ..InterfaceReport::default()
        }],
        workers: vec![WorkerReport {
            cpu: Some(2),
            queues: vec!["eth0/0".into()],
            ledger: ledger.clone(),
            ..WorkerReport::default()
        }],
        ledger,
        ..StatusReport::default()
    };
    insta::assert_snapshot!(Text(&report).to_string());
}

#[test]
fn why_it_is_not_ready_is_told_first() {
    let first = |ready, reasons: &[&str]| {
        let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        let report = StatusReport { node: "gw-1".into(), ready, reasons, ..StatusReport::default() };
        Text(&report).to_string().lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(first(true, &[]), "ringway  on gw-1: ready, up 0s, process 0");
    assert_eq!(first(false, &[]), "ringway  on gw-1: not ready, up 0s, process 0");
    assert_eq!(first(false, &["a", "b"]), "ringway  on gw-1: not ready: a; b, up 0s, process 0");
}

#[test]
fn one_is_told_from_many() {
    let counted = [0, 1, 2].map(|number| counted(number, "Service", "Services"));
    assert_eq!(counted, ["0 Services", "1 Service", "2 Services"]);
    let source = SourceReport { services: 1, ..SourceReport::default() };
    let snapshot = SnapshotReport { service_ports: 1, frontends: 1, vips: 2, endpoints: 1, ..Default::default() };
    let text = Text(&StatusReport { source, snapshot, ..StatusReport::default() }).to_string();
    assert!(text.contains("objects    1 Service from nowhere, not looked at yet\n"), "{text}");
    assert!(text.contains("services   1 service port on 1 frontend and 2 VIPs, 1 endpoint, 0 next hops\n"), "{text}");
}

#[test]
fn what_ports_lost_is_told() {
    let told = |large_cut, large_lost, outside_umem| port_losses(&PortCounts { large_cut, large_lost, outside_umem });
    assert_eq!(told(0, 0, 0), "lost nothing");
    assert_eq!(told(1, 0, 0), "lost nothing; cut 1 large packet");
    assert_eq!(
        told(2, 3, 4),
        "lost packets: larger than a frame and not to be cut 3, descriptors outside the packet memory 4; cut 2 large \
         packets"
    );
}

#[test]
fn objects_from_an_api_server_have_an_age() {
    let mut source = SourceReport {
        services: 3,
        kubernetes: Some(KubernetesReport {
            server: "https://10.0.0.1:6443".into(),
            complete: true,
            age_seconds: Some(72),
            ..KubernetesReport::default()
        }),
        ..SourceReport::default()
    };
    assert_eq!(objects(&source), "3 Services from https://10.0.0.1:6443, heard of 1m12s ago");
    if let Some(kubernetes) = &mut source.kubernetes {
        let resource = |kind: &str, listed| ResourceReport { kind: kind.into(), listed, ..ResourceReport::default() };
        kubernetes.complete = false;
        kubernetes.resources = vec![resource("Service", true), resource("Node", false)];
    }
    assert_eq!(objects(&source), "waiting for the first full list of Node from https://10.0.0.1:6443");
}

#[test]
fn long_lists_are_cut() {
    let told = |count: usize| first_of((0..count).map(|number| number.to_string()), 0);
    assert_eq!((told(0).len(), told(20).len()), (0, 20));
    assert_eq!(told(90_000).len(), 21);
    assert_eq!(told(22)[20], "and 2 more of these; --output json lists them all");
    let beyond = first_of((0..1_000).map(|number| number.to_string()), 500);
    assert_eq!(beyond[20], "and 1480 more of these; --output json lists 980 of them");
}

#[test]
fn a_trouble_that_several_kinds_share_is_told_once() {
    let resource = |kind: &str, problem: &str, seconds| ResourceReport {
        kind: kind.into(),
        problem: Some(problem.into()),
        problem_seconds: Some(seconds),
        ..ResourceReport::default()
    };
    let resources = vec![resource("Service", "refused", 61), resource("Node", "refused", 60)];
    let report = KubernetesReport { resources, ..KubernetesReport::default() };
    assert_eq!(troubles(&report), ["for 1m1s: refused (Service, Node)"]);
}

#[test]
fn ages_are_short() {
    let ages = [59, 61, 3_700, 90_000].map(duration);
    assert_eq!(ages, ["59s", "1m1s", "1h1m", "1d1h"]);
}
