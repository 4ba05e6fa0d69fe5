//! `ringway drops`: why packets were dropped or answered.

use std::io::Write;

use clap::Args;
use ringway_shared::DropReason;
use serde_json::{Value, json};

use super::ask::{self, Instance};
use super::status::{interface_losses, losses, port_losses};
use super::table::Table;
use crate::outcome::{Failure, ReportOutput};
use crate::report::drops::{DropsReport, InterfaceLosses, ReasonReport};

/// What `ringway drops` is asked.
#[derive(Debug, Args)]
pub struct Arguments {
    /// List every drop reason there is with its sentence, as the table of docs/drop-reasons.md; no instance is asked
    #[arg(long, conflicts_with_all = ["config", "socket"])]
    reasons: bool,
    #[command(flatten)]
    instance: Instance,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportOutput,
}

/// Asks and prints.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    if arguments.reasons {
        let all = DropReason::ALL.map(|reason| json!({"reason": reason.label(), "sentence": reason.sentence()}));
        let answer = Value::from(all.to_vec()).to_string();
        return ask::print::<Value, _>(answer.as_bytes(), arguments.output, out, |_| reasons());
    }
    let answer = arguments.instance.get("/drops")?;
    ask::print::<DropsReport, _>(&answer, arguments.output, out, text)
}

/// Every reason, as a table in Markdown.
fn reasons() -> String {
    let row = |reason: DropReason| format!("| `{}` | {} |\n", reason.label(), reason.sentence());
    let rows: String = DropReason::ALL.into_iter().map(row).collect();
    format!("| reason | what it says about the packet |\n|---|---|\n{rows}")
}

fn text(report: &DropsReport) -> String {
    let table = |heading: &str, reasons: &[ReasonReport]| {
        let mut table = Table::new(["PACKETS", heading, "MEANING"]).prose();
        for ReasonReport { reason, packets, sentence } in reasons {
            table.row([packets.to_string(), reason.clone(), sentence.clone()]);
        }
        table.to_string()
    };
    let mut text = match report.dropped {
        0 => "No packet was dropped.\n".to_owned(),
        _ => table("DROPPED", &report.drops),
    };
    if report.replied > 0 {
        text.push_str(&format!("\n{}", table("ANSWERED", &report.replies)));
    }
    if report.replies_limited > 0 {
        let limited = report.replies_limited;
        text.push_str(&format!("\n{limited} of the dropped packets were not answered because of the rate limit.\n"));
    }
    text.push_str(&format!("\nAF_XDP {}.\n", losses(&report.kernel)));
    text.push_str(&format!("The interfaces {}.\n", interface_losses(&report.interfaces)));
    for InterfaceLosses { name, counters } in &report.interfaces {
        counters.meanings().iter().for_each(|meaning| text.push_str(&format!("{name}: {meaning}.\n")));
    }
    text.push_str(&format!("Ports {}.\n", port_losses(&report.ports)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::interfaces::InterfaceCounters;

    #[test]
    fn drops_are_told_with_their_meaning() {
        let reason = |reason: DropReason, packets| ReasonReport {
            reason: reason.label().into(),
            packets,
            sentence: reason.sentence().into(),
        };
        let mut report = DropsReport {
            dropped: 3,
            drops: vec![reason(DropReason::NoRoute, 2), reason(DropReason::Land, 1)],
            replied: 1,
            replies: vec![reason(DropReason::NoEndpoint, 1)],
            replies_limited: 1,
            ..DropsReport::default()
        };
        report.kernel.rx_ring_full = 7;
        let counters =
            InterfaceCounters { rx_dropped: 4, tx_dropped: 2, rx_packets: 99, ..InterfaceCounters::default() };
        report.interfaces = vec![InterfaceLosses { name: "eth0".into(), counters }];
        insta::assert_snapshot!(format!("{}---\n{}", text(&report), text(&DropsReport::default())));
    }
}
