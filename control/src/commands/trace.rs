//! `ringway trace`: which endpoint would this packet get, and why.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ringway_dataplane::trace::{Question, Trace, View, explain};

use super::objects::Offline;
use crate::cli::{Failure, TraceOutput, note};
use crate::config::{Config, SourceKey};

/// What `ringway trace` is asked.
#[derive(Debug, Args)]
#[command(
    after_help = "A packet without SPORT comes from port 49152. Each packet is a new connection on its own; tracing \
                        changes nothing.\nExit status is 0 whatever the verdicts."
)]
pub struct Arguments {
    /// The configuration file; with --objects, defaults are used without it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file or a folder of Kubernetes manifests, in place of the running instance; may be repeated
    #[arg(long, value_name = "PATH", required = true)]
    objects: Vec<PathBuf>,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: TraceOutput,
    /// PROTO:SRC[:SPORT]->DST:PORT, as 'tcp:10.0.0.2->172.30.0.41:80' or 'udp:[2001:db8::1]:4242->[fd00::a]:53'
    #[arg(required = true, value_name = "PACKET")]
    packets: Vec<String>,
}

/// Answers for each packet.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let questions = questions(&arguments.packets)?;
    let traces = offline(arguments, &questions)?;
    for (at, trace) in traces.iter().enumerate() {
        match arguments.output {
            TraceOutput::Json => writeln!(out, "{}", json(trace)?)?,
            TraceOutput::Text => writeln!(out, "{}{trace}", if at > 0 { "\n" } else { "" })?,
        }
    }
    Ok(())
}

fn questions(packets: &[String]) -> Result<Vec<Question>, Failure> {
    let read = |text: &String| text.parse().map_err(|error| Failure::invalid(format!("PACKET {text:?}: {error}")));
    packets.iter().map(read).collect()
}

fn offline(arguments: &Arguments, questions: &[Question]) -> Result<Vec<Trace>, Failure> {
    let config = match &arguments.config {
        Some(file) => Config::load(file, SourceKey::Replaced)?,
        None => Config::default(),
    };
    let offline = Offline::read(&arguments.objects, &config)?;
    offline.problems().for_each(note);
    let network = config.network.as_ref().map(|network| network.build(1, &config.interfaces));
    let view = View {
        services: &offline.compiled.services,
        network: network.as_ref(),
        snat_addresses: &config.snat.addresses,
    };
    Ok(questions.iter().map(|question| explain(&view, question)).collect())
}

fn json(trace: &Trace) -> Result<String, Failure> {
    serde_json::to_string(trace).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))
}
