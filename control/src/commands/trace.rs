//! `ringway trace`: which endpoint would this packet get, and why.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use ringway_dataplane::trace::{Question, Trace, View, explain};
use serde_json::{Value, json};

use super::ask::{Instance, read};
use super::config_file::ConfigFile;
use super::objects::Offline;
use crate::config::SourceKey;
use crate::outcome::{Failure, Output, note};
use crate::plain;
use crate::report::overlooked;

/// Packets in one question to an instance.
const PACKETS: usize = 1_000;

/// What `ringway trace` is asked.
#[derive(Debug, Args)]
#[command(
    after_help = "A packet without SPORT comes from port 49152. Each packet is a new connection on its own; tracing \
                        changes nothing.\nicmp:SRC->DST is a ping, and 'icmp:SRC->DST about PROTO:SRC:SPORT->DST:PORT' \
                        an ICMP error about a packet.\nExit status is 0 whatever the verdicts."
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// A file or a folder of Kubernetes manifests, in place of the running instance; may be repeated
    #[arg(long, value_name = "PATH")]
    objects: Vec<PathBuf>,
    /// The admin socket of the instance that is asked
    #[arg(long, value_name = "PATH", conflicts_with = "objects")]
    socket: Option<PathBuf>,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
    /// PROTO:SRC[:SPORT]->DST:PORT, as 'tcp:10.0.0.2->172.30.0.41:80' or 'udp:[2001:db8::1]:4242->[fd00::a]:53'
    #[arg(required = true, value_name = "PACKET")]
    packets: Vec<String>,
}

/// Answers for each packet.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let questions = questions(&arguments.packets)?;
    if arguments.objects.is_empty() {
        for (at, answer) in online(arguments)?.iter().enumerate() {
            match arguments.output {
                Output::Json => writeln!(out, "{answer}")?,
                Output::Text => write_text(out, at, &read::<Trace>(answer.to_string().as_bytes())?)?,
            }
        }
        return Ok(());
    }
    for (at, trace) in offline(arguments, &questions)?.iter().enumerate() {
        match arguments.output {
            Output::Json => writeln!(out, "{}", json(trace)?)?,
            Output::Text => write_text(out, at, trace)?,
        }
    }
    Ok(())
}

fn write_text(out: &mut impl Write, at: usize, trace: &Trace) -> io::Result<()> {
    writeln!(out, "{}{}", if at > 0 { "\n" } else { "" }, plain::lines(&trace.to_string()))
}

/// Asks the running instance.
fn online(arguments: &Arguments) -> Result<Vec<Value>, Failure> {
    let instance = Instance::new(arguments.config.clone(), arguments.socket.clone());
    let mut answers: Vec<Value> = Vec::new();
    for packets in arguments.packets.chunks(PACKETS) {
        answers.extend(read::<Vec<Value>>(&instance.post("/trace", &json!({"packets": packets}))?)?);
    }
    let (asked, answered) = (arguments.packets.len(), answers.len());
    if answered != asked {
        return Err(Failure::failed(format!(
            "the instance answered for {answered} of {asked} packets; look at its log"
        )));
    }
    Ok(answers)
}

fn questions(packets: &[String]) -> Result<Vec<Question>, Failure> {
    let read = |text: &String| text.parse().map_err(|error| Failure::invalid(format!("PACKET {text:?}: {error}")));
    packets.iter().map(read).collect()
}

fn offline(arguments: &Arguments, questions: &[Question]) -> Result<Vec<Trace>, Failure> {
    let config = arguments.config.load_if_there(SourceKey::Replaced)?.unwrap_or_default();
    let offline = Offline::read(&arguments.objects, &config)?;
    offline.problems().for_each(note);
    let network = config.network.as_ref().map(|network| network.build(1, &config.interfaces));
    let view = View {
        affinities: None,
        rescue: config.flows.syn_rescue,
        suspects: None,
        services: &offline.compiled.services,
        network: network.as_ref(),
        snat_addresses: &config.snat.addresses,
    };
    let answer = |question: &Question| {
        let mut trace = explain(&view, question);
        overlooked::tell(&mut trace, question, &offline.cluster, view.services);
        trace
    };
    Ok(questions.iter().map(answer).collect())
}

fn json(trace: &Trace) -> Result<String, Failure> {
    serde_json::to_string(trace).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))
}
