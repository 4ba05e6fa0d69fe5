use super::*;
use crate::config::keys::{Change, Fate};
use crate::report::configuration::{ConfigurationReport, ReloadFailure};
use crate::report::interfaces::{InterfaceCounters, InterfaceReport};
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
            failure: Some(ReloadFailure {
                age_seconds: 5,
                text: "c.yaml:1:1: one\nc.yaml:2:1: two".into(),
                nothing_changed: true,
                file_changed: false,
            }),
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

#[test]
fn who_is_not_attached_has_one_line_with_the_reason_and_the_next_try() {
    let attached = InterfaceReport {
        name: "eth0".into(),
        up: true,
        mode: Some("native".into()),
        counters: Some(InterfaceCounters { rx_crc: 2, rx_errors: 2, ..InterfaceCounters::default() }),
        ..InterfaceReport::default()
    };
    let refused = InterfaceReport {
        name: "eth1".into(),
        problem: Some("another XDP program is attached to eth1".into()),
        next_try_seconds: Some(64),
        counters: Some(InterfaceCounters { rx_crc: 9, ..InterfaceCounters::default() }),
        rss: vec![crate::report::queues::RssReport { problem: Some("no key".into()), ..Default::default() }],
        ..InterfaceReport::default()
    };
    let gone =
        InterfaceReport { name: "eth2".into(), problem: Some("it is gone".into()), ..InterfaceReport::default() };
    let status = StatusReport {
        interfaces: vec![attached, refused, gone],
        workers: vec![WorkerReport::default(), WorkerReport::default()],
        ..StatusReport::default()
    };
    let text = Text(&status).to_string();
    for (name, said) in [
        ("eth1", "eth1 is not attached: another XDP program is attached to eth1; the next try in 1m4s"),
        ("eth2", "eth2 is not attached: it is gone"),
    ] {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(name)).collect();
        assert_eq!(lines, [said], "{text}");
    }
    assert!(text.contains("eth0: 2 received frames were broken on the wire (CRC)"), "{text}");
}

#[test]
fn snat_ports_have_one_limit() {
    let report = SnatReport {
        ports: "1024-29999".into(),
        total: 28_976,
        per_worker: 14_488,
        high_water: 150,
        endpoints: vec![EndpointPorts {
            endpoint: "10.0.0.1:80".into(),
            protocol: "tcp".into(),
            used: 200,
            limit: 28_976,
            fullest_worker_percent: 1,
            ..EndpointPorts::default()
        }],
        ..SnatReport::default()
    };
    assert_eq!(
        snat(&report, 2),
        [
            "snat       28976 ports towards each endpoint (1024-29999), shared out to 2 workers; a share was full to 2 % at most, 0 \
             taken back",
            "           now 200 in use to tcp:10.0.0.1:80, 1 % of a worker's share",
        ]
    );
    assert_eq!(
        snat(&SnatReport { per_worker: 28_976, ..report }, 1),
        [
            "snat       28976 ports towards each endpoint (1024-29999); at most 150 in use at once, 0 taken back",
            "           now 200 in use to tcp:10.0.0.1:80",
        ]
    );
}
