//! `ringway services`: each Service with its addresses and endpoints, and what they get.

use std::io::Write;

use clap::Args;

use ringway_shared::answers::{Answers, HANDSHAKE_BOUNDS};

use super::ask::{self, Instance};
use super::status::counted;
use super::table::Table;
use crate::outcome::{Failure, ReportOutput};
use crate::plain;
use crate::report::ports::EndpointPortCounts;
use crate::report::services::{AddressReport, BackendCounts, ServicePortReport, ServiceReport, ServicesReport};
use crate::report::suspects::SuspectReport;

/// What `ringway services` is asked.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this Service, with each of its endpoints
    #[arg(value_name = "NAMESPACE/NAME")]
    service: Option<String>,
    #[command(flatten)]
    instance: Instance,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportOutput,
}

/// Asks and prints.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let mut answer = arguments.instance.get("/services")?;
    if let Some(name) = &arguments.service {
        answer = only(&answer, name)?.into();
    }
    ask::print::<ServicesReport, _>(&answer, arguments.output, out, |report| match &arguments.service {
        Some(_) => report.services.iter().map(detail).collect(),
        None => overview(report),
    })
}

/// The answer with one Service alone.
fn only(answer: &[u8], name: &str) -> Result<Vec<u8>, Failure> {
    let mut report: ServicesReport = ask::read(answer)?;
    let there: Vec<String> = report.services.iter().map(|service| service.service.clone()).collect();
    report.services.retain(|service| service.service == name);
    if report.services.is_empty() {
        let (name, what) = (plain::line(name), meant(name, &there));
        return Err(Failure::failed(format!("the instance knows no Service {name}; {what}")));
    }
    serde_json::to_vec(&report).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))
}

/// What to write instead of a name that no Service has.
fn meant(name: &str, there: &[String]) -> String {
    const FEW: usize = 5;
    let bare = |name: &str| name.rsplit_once('/').map_or(name, |(_, bare)| bare).to_owned();
    let alike: Vec<&str> = there.iter().map(|name| &**name).filter(|other| bare(other) == bare(name)).collect();
    let write = if name.contains('/') { "" } else { "write NAMESPACE/NAME; " };
    match &alike[..] {
        [] => format!("{write}ringway services lists those there are"),
        alike => format!("{write}there is {}", alike[..alike.len().min(FEW)].join(", ")),
    }
}

fn overview(report: &ServicesReport) -> String {
    let mut table = Table::new(["SERVICE", "PORT", "ADDRESSES", "ELIGIBLE", "FLOWS", "PACKETS", "BYTES", "NOTE"])
        .dispensable(&["BYTES", "PACKETS", "FLOWS"])
        .prose();
    for service in &report.services {
        let note = note(service);
        if service.ports.is_empty() {
            let dash = || "-".to_owned();
            table.row([service.service.clone(), dash(), dash(), dash(), dash(), dash(), dash(), note.clone()]);
        }
        for port in &service.ports {
            let eligible = port.endpoints.iter().filter(|endpoint| endpoint.eligible).count();
            let addresses: Vec<&str> = port.addresses.iter().map(|address| &*address.address).collect();
            table.row([
                service.service.clone(),
                name(port),
                if addresses.is_empty() { "-".into() } else { addresses.join(",") },
                format!("{eligible}/{}", port.endpoints.len()),
                port.counts.flows.to_string(),
                port.counts.packets.to_string(),
                port.counts.bytes.to_string(),
                note.clone(),
            ]);
        }
    }
    if table.is_empty() { "No Services: every packet passes to the kernel.\n".into() } else { table.to_string() }
}

fn note(service: &ServiceReport) -> String {
    let problems = service.problems.iter().map(|problem| &*problem.text);
    service.ignored.as_deref().into_iter().chain(problems).collect::<Vec<_>>().join("; ")
}

fn name(port: &ServicePortReport) -> String {
    let name = if port.name.is_empty() { String::new() } else { format!("{}:", port.name) };
    format!("{name}{}/{}", port.port, port.protocol)
}

/// Everything about one Service.
fn detail(service: &ServiceReport) -> String {
    let mut text = format!("{}\n", service.service);
    text.extend(service.ignored.iter().map(|why| format!("  gets no packets: {why}\n")));
    text.extend(service.problems.iter().map(|problem| format!("  {problem}\n")));
    for port in &service.ports {
        text.push_str(&format!("\n{} ({})\n", name(port), port.family));
        for AddressReport { kind, address, note, ping } in &port.addresses {
            let silent = (*ping == Some(false)).then_some("pings are not answered: no Service on it has an endpoint");
            let notes: Vec<&str> = note.as_deref().into_iter().chain(silent).collect();
            let note = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
            text.push_str(&format!("  {kind} {address}{note}\n"));
        }
        text.push_str(&format!(
            "  internalTrafficPolicy {}, externalTrafficPolicy {}, forwarding {}\n",
            port.internal_traffic_policy, port.external_traffic_policy, port.forwarding
        ));
        text.extend(
            port.session_affinity_seconds.map(|seconds| format!("  sessionAffinity ClientIP for {seconds} s\n")),
        );
        text.extend(port.source_ranges.as_ref().map(|ranges| format!("  only for clients in {}\n", ranges.join(", "))));
        let BackendCounts { flows, packets, bytes, answers } = port.counts;
        text.push_str(&format!(
            "  {}, {} and {} since the start\n",
            counted(flows, "flow", "flows"),
            counted(packets, "packet", "packets"),
            counted(bytes, "byte", "bytes"),
        ));
        text.push_str(&answered(&answers));
        text.push_str(&endpoints(port));
    }
    text
}

/// What became of first packets, and how long SYNs waited; nothing where nothing was sent.
fn answered(answers: &Answers) -> String {
    let Answers { answered, unanswered, refused, handshakes, .. } = answers;
    if answered + unanswered + refused == 0 {
        return String::new();
    }
    let bounds = HANDSHAKE_BOUNDS.map(|bound| format!("within {bound} ms"));
    let names = bounds.into_iter().chain([format!("later than {} ms", HANDSHAKE_BOUNDS.last().unwrap_or(&0))]);
    let times = names.zip(handshakes).filter(|(_, count)| **count > 0).map(|(name, count)| format!("{count} {name}"));
    let times = times.collect::<Vec<_>>().join(", ");
    let times = if times.is_empty() { times } else { format!("; SYN to SYN-ACK: {times}") };
    format!("  {answered} answered, {unanswered} unanswered, {refused} refused{times}\n")
}

fn endpoints(port: &ServicePortReport) -> String {
    let mut table =
        Table::new(["  ENDPOINT", "SLICE", "NODE", "ELIGIBLE", "LOCAL", "FLOWS", "PACKETS", "BYTES", "NOTE"])
            .dispensable(&["SLICE", "BYTES", "NODE", "PACKETS", "FLOWS"])
            .prose();
    let asks_for_local = [&port.internal_traffic_policy, &port.external_traffic_policy].iter().any(|p| *p == "Local");
    for endpoint in &port.endpoints {
        let yes = |eligible| if eligible { "yes" } else { "no" }.to_owned();
        let local = endpoint.excluded_local.as_ref().filter(|_| asks_for_local);
        let local = local.filter(|why| endpoint.excluded.as_ref() != Some(why));
        let Answers { unanswered, refused, .. } = endpoint.counts.answers;
        let failed = (unanswered + refused > 0).then(|| format!("{unanswered} unanswered, {refused} refused"));
        let silent = endpoint.unanswering.as_ref().map(|what| format!("does not answer: {what}"));
        let told = silent.as_ref().or(failed.as_ref());
        let suspect = endpoint.suspect.as_ref().map(SuspectReport::sentence);
        let high = |ports: &EndpointPortCounts| ports.used * 2 > ports.limit;
        let ports = endpoint.snat_ports.filter(high);
        let ports = ports.map(|ports| format!("{} of {} SNAT ports in use", ports.used, ports.limit));
        let drained = (endpoint.drained && endpoint.eligible).then(|| "drained, and no other is ready".to_owned());
        let weight = (endpoint.weight != 1).then(|| format!("weight {}", endpoint.weight));
        let notes = [
            endpoint.excluded.as_ref(),
            local,
            drained.as_ref(),
            weight.as_ref(),
            endpoint.unreachable.as_ref(),
            suspect.as_ref(),
            told,
            ports.as_ref(),
        ];
        let notes = notes.into_iter().flatten();
        table.row([
            format!("  {}", endpoint.endpoint),
            endpoint.slice.clone(),
            endpoint.node.clone().unwrap_or("-".into()),
            yes(endpoint.eligible),
            yes(endpoint.eligible_local),
            endpoint.counts.flows.to_string(),
            endpoint.counts.packets.to_string(),
            endpoint.counts.bytes.to_string(),
            notes.cloned().collect::<Vec<_>>().join("; "),
        ]);
    }
    if table.is_empty() { "  no endpoints\n".into() } else { table.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::services::EndpointReport;

    fn report() -> ServicesReport {
        let counts = |flows| BackendCounts {
            flows,
            packets: flows * 10,
            bytes: flows * 1000,
            answers: Answers {
                answered: flows,
                refused: flows / 4,
                handshakes: [1, 0, 1, 0, 0, 0, 2],
                ..Answers::default()
            },
        };
        let endpoint = |endpoint: &str, excluded: Option<&str>| EndpointReport {
            endpoint: endpoint.into(),
            slice: "ns1/web-x".into(),
            node: Some("a".into()),
            weight: if excluded.is_none() { 2 } else { 1 },
            eligible: excluded.is_none(),
            excluded: excluded.map(str::to_owned),
            excluded_local: Some("on node a, not on this one".into()),
            counts: counts(2),
            ..EndpointReport::default()
        };
        let port = ServicePortReport {
            name: "http".into(),
            protocol: "tcp".into(),
            port: 80,
            family: "IPv4".into(),
            addresses: vec![AddressReport {
                kind: "clusterIP".into(),
                address: "172.30.0.41:80".into(),
                note: None,
                ping: Some(false),
            }],
            internal_traffic_policy: "Cluster".into(),
            external_traffic_policy: "Local".into(),
            forwarding: "nat".into(),
            endpoints: vec![endpoint("10.0.0.1:80", None), endpoint("10.0.0.2:80", Some("not ready"))],
            counts: counts(4),
            ..ServicePortReport::default()
        };
        let ignored = ServiceReport {
            service: "ns1/headless".into(),
            ignored: Some("headless".into()),
            ..ServiceReport::default()
        };
        let service = ServiceReport { service: "ns1/web".into(), ports: vec![port], ..ServiceReport::default() };
        ServicesReport { services: vec![ignored, service] }
    }

    #[test]
    fn all_services_are_a_table_and_one_is_told_in_full() {
        let report = report();
        insta::assert_snapshot!(format!("{}\n{}", overview(&report), detail(&report.services[1])));
        let one = only(&serde_json::to_vec(&report).unwrap(), "ns1/web").unwrap();
        assert_eq!(ask::read::<ServicesReport>(&one).unwrap().services.len(), 1);
        assert_eq!(only(&one, "ns1/other").unwrap_err().status(), 1);
        for (name, said) in [
            ("web", "the instance knows no Service web; write NAMESPACE/NAME; there is ns1/web"),
            ("ns2/web", "the instance knows no Service ns2/web; there is ns1/web"),
            ("x", "the instance knows no Service x; write NAMESPACE/NAME; ringway services lists those there are"),
            (
                "a\u{1b}\nb",
                r"the instance knows no Service a\u{1b}\nb; write NAMESPACE/NAME; ringway services lists those there are",
            ),
            ("ns1/x", "the instance knows no Service ns1/x; ringway services lists those there are"),
        ] {
            assert_eq!(only(&one, name).unwrap_err().to_string(), said);
        }
    }
}
