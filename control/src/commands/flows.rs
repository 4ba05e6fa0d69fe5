//! `ringway flows`: the connections that the running instance tracks.

use std::io::Write;
use std::net::IpAddr;

use clap::Args;

use super::ask::{self, Instance};
use super::status::duration;
use super::table::Table;
use crate::outcome::{Failure, ReportOutput};
use crate::report::flows::{FlowReport, FlowsReport, protocol, service, state};

/// What `ringway flows` is asked.
#[derive(Debug, Args)]
#[command(after_help = "Only flows are listed that every given option names.")]
pub struct Arguments {
    /// Flows of this Service
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = service)]
    service: Option<String>,
    /// Flows of this client
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Flows to this VIP
    #[arg(long, value_name = "IP")]
    vip: Option<IpAddr>,
    /// Flows to this endpoint
    #[arg(long, value_name = "IP")]
    endpoint: Option<IpAddr>,
    /// Flows of this protocol: tcp, udp or sctp
    #[arg(long, value_name = "PROTO", value_parser = protocol)]
    protocol: Option<String>,
    /// Flows in this state, as the list calls it: established, closing, replied ...
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    instance: Instance,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportOutput,
}

/// Asks and prints.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let answer = arguments.instance.get(&arguments.path())?;
    ask::print::<FlowsReport, _>(&answer, arguments.output, out, text)
}

impl Arguments {
    /// `/flows` with what is asked for.
    fn path(&self) -> String {
        let address = |address: Option<IpAddr>| address.map(|address| address.to_string());
        let asked = [
            ("service", self.service.clone()),
            ("client", address(self.client)),
            ("vip", address(self.vip)),
            ("endpoint", address(self.endpoint)),
            ("protocol", self.protocol.clone()),
            ("state", self.state.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        let asked = asked.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped(&value?))));
        let query = asked.collect::<Vec<_>>().join("&");
        if query.is_empty() { "/flows".into() } else { format!("/flows?{query}") }
    }
}

/// What is not plain in the query of a URL is written as %XX.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn text(report: &FlowsReport) -> String {
    let headings = [
        "WORKER", "PROTO", "CLIENT", "FRONTEND", "ENDPOINT", "SOURCE", "STATE", "IDLE", "PACKETS", "REPLIES", "SERVICE",
    ];
    let mut table =
        Table::new(headings).dispensable(&["WORKER", "PACKETS", "REPLIES", "SOURCE", "SERVICE", "IDLE", "PROTO"]);
    for flow in &report.flows {
        let FlowReport { worker, protocol, client, frontend, endpoint, source, state, .. } = flow;
        let idle = match u64::from(flow.idle_millis) {
            millis @ ..1000 => format!("{millis}ms"),
            millis => duration(millis / 1000),
        };
        table.row([
            worker.to_string(),
            protocol.clone(),
            client.clone(),
            frontend.clone(),
            endpoint.clone(),
            if source == client { "kept".into() } else { source.clone() },
            state.clone(),
            idle,
            flow.packets.to_string(),
            flow.replies.to_string(),
            flow.service.clone().unwrap_or("-".into()),
        ]);
    }
    let more = if report.truncated { "\nThere are more; --limit N shows more of them.\n" } else { "" };
    match (table.is_empty(), report.total) {
        (true, 0) => "No flows.\n".into(),
        (true, 1) => format!("There is 1 flow, and it is not such a one.\n{more}"),
        (true, total) => format!("None of {total} flows is such a one.\n{more}"),
        (false, _) => format!("{table}{more}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_what_is_asked_for() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let path = |line: &[&str]| Line::parse_from([&["flows"], line].concat()).arguments.path();
        assert_eq!(path(&[]), "/flows");
        let asked = path(&["--service", "ns1/svc1", "--client", "fd00::1", "--state", "closed", "--limit", "5"]);
        assert_eq!(asked, "/flows?service=ns1/svc1&client=fd00::1&state=closed&limit=5");
        assert_eq!(path(&["--service", "a b&c/d"]), "/flows?service=a%20b%26c/d");
    }

    #[test]
    fn flows_are_a_table() {
        let flow = FlowReport {
            worker: 1,
            protocol: "tcp".into(),
            client: "192.0.2.7:4000".into(),
            frontend: "172.30.0.41:80".into(),
            source: "192.168.0.2:61000".into(),
            endpoint: "10.0.0.1:8080".into(),
            service: Some("ns1/web".into()),
            service_port: Some("http".into()),
            state: "established".into(),
            masquerade: true,
            packets: 7,
            replies: 6,
            idle_millis: 61_000,
        };
        let kept = FlowReport { source: flow.client.clone(), service: None, idle_millis: 5, ..flow.clone() };
        let report = FlowsReport { total: 9, truncated: true, flows: vec![flow, kept] };
        insta::assert_snapshot!(text(&report));
        assert_eq!(text(&FlowsReport { total: 9, ..FlowsReport::default() }), "None of 9 flows is such a one.\n");
        let one = FlowsReport { total: 1, ..FlowsReport::default() };
        assert_eq!(text(&one), "There is 1 flow, and it is not such a one.\n");
    }
}
