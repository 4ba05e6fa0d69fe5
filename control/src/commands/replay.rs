//! `ringway replay`: a capture through the real packet path, offline and deterministic: one worker, no NIC, no root.
//!
//! The clock is the capture's timestamps, seeds are fixed, and the kernel is asked for nothing.

mod ledger;
mod run;
mod verdicts;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use ringway_dataplane::io::pcap::{CaptureError, CaptureReader, CaptureWriter, Captured, Format};
use ringway_shared::snapshot::{Generation, Snapshot};

use super::config_file::ConfigFile;
use super::objects::Offline;
use crate::config::{Config, Source, SourceKey};
use crate::outcome::{Failure, note};
use crate::plain;
use crate::source::files::FileSource;
use ledger::Ledger;
use run::{Replay, Unwritten};
use verdicts::Verdicts;

/// What `ringway replay` is asked.
#[derive(Debug, Args)]
#[command(after_help = "Routes and neighbours come from the configuration's network section. Packets of a plain pcap \
                        arrive on the first configured interface, those of a pcapng on the one that it names.")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// A file or a folder of Kubernetes manifests, in place of the configured source; may be repeated
    #[arg(long, value_name = "PATH")]
    objects: Vec<PathBuf>,
    /// The capture, pcap or pcapng
    #[arg(long = "in", value_name = "IN")]
    input: PathBuf,
    /// What leaves is written here; pcapng when the name ends in .pcapng
    #[arg(long = "out", value_name = "OUT")]
    output: PathBuf,
    /// How many packets met which fate is written here, as JSON
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The fate of each packet is written here, one JSON object a line
    #[arg(long, value_name = "FILE")]
    verdicts: Option<PathBuf>,
}

/// Replays the capture.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (config, snapshot) = prepare(arguments)?;
    let mut reader = open(&arguments.input)?;
    if same_file(&arguments.input, &arguments.output) {
        let name = plain::path(&arguments.output);
        return Err(Failure::invalid(format!("--out {name} is the capture itself; name another file")));
    }
    // The first packet of a pcapng tells how fine its timestamps are.
    let first = reader.next_packet();
    let is_pcapng = arguments.output.extension().is_some_and(|extension| extension == "pcapng");
    let format = if is_pcapng { Format::PcapNg } else { Format::Pcap(reader.resolution()) };
    let output = Output { path: arguments.output.clone() };
    let interfaces: Vec<Arc<str>> = snapshot.network.interfaces().iter().map(|i| i.name.clone()).collect();
    let writer = CaptureWriter::new(output.create()?, format, interfaces.iter().map(|name| &**name));
    let writer = writer.map_err(|error| output.failed(error))?;
    let verdicts = arguments.verdicts.as_ref().map(|path| Output { path: path.clone() });
    let lines = verdicts.as_ref().map(Output::create).transpose()?;
    let mut replay = Replay::new(&config, snapshot, writer, Verdicts::new(lines))?;
    let read = through(&mut replay, &mut reader, first);
    // A capture that breaks off has been replayed as far as it goes.
    let unwritten = |unwritten| match (unwritten, &verdicts) {
        (Unwritten::Verdicts(error), Some(verdicts)) => verdicts.failed(error),
        (Unwritten::Out(error) | Unwritten::Verdicts(error), _) => output.failed(error),
    };
    let tally = replay.finish().map_err(unwritten)?;
    if let Some(path) = &arguments.ledger {
        let file = Output { path: path.clone() };
        let mut to = file.create()?;
        let written = serde_json::to_writer(&mut to, &Ledger::of(&tally)).map_err(Into::into);
        let written = written.and_then(|()| writeln!(to)).and_then(|()| to.flush());
        written.map_err(|error| file.failed(error))?;
    }
    read.map_err(|failure| match failure {
        Broken::Capture(error) => Failure::failed(format!("{}: {error}", plain::path(&arguments.input))),
        Broken::Output(error) => unwritten(error),
    })
}

/// Why the capture was not replayed to its end.
enum Broken {
    Capture(CaptureError),
    Output(Unwritten),
}

fn through(
    replay: &mut Replay<BufWriter<File>>,
    reader: &mut CaptureReader<BufReader<File>>,
    first: Result<Option<Captured>, CaptureError>,
) -> Result<(), Broken> {
    let mut next = first;
    while let Some(packet) = next.map_err(Broken::Capture)? {
        let name = reader.interface_name(packet.interface);
        replay.packet(&packet, name).map_err(Broken::Output)?;
        next = reader.next_packet();
    }
    Ok(())
}

/// Everything that decides about packets.
fn prepare(arguments: &Arguments) -> Result<(Config, Snapshot), Failure> {
    let source = if arguments.objects.is_empty() { SourceKey::Read } else { SourceKey::Replaced };
    let config = arguments.config.load(source)?;
    let invalid = |what: String| Failure::invalid(format!("{}: {what}", plain::path(arguments.config.path())));
    let Some(network) = &config.network else {
        let what = "network: missing; replay does not ask the kernel, so write interfaces, routes and neighbors";
        return Err(invalid(what.into()));
    };
    let described = |name: &str| network.interfaces.iter().any(|interface| &*interface.name == name);
    if let Some(listed) = config.interfaces.iter().find(|i| !i.name.is_glob() && !described(i.name.as_str())) {
        return Err(invalid(format!("interfaces: {} is not among network.interfaces; describe it there", listed.name)));
    }
    let network = network.build(1, &config.interfaces);
    if network.interfaces().is_empty() {
        return Err(invalid(
            "interfaces: none of them is among network.interfaces; describe at least one there".into(),
        ));
    }
    let offline = match (&config.source, &arguments.objects[..]) {
        (_, paths @ [_, ..]) => Offline::read(paths, &config)?,
        (Source::Files(paths), []) => Offline::compile(FileSource::new(paths.clone()).cluster().clone(), &config),
        (Source::Kubernetes { .. }, []) => {
            return Err(invalid("source: replay reads objects from files; name them with --objects PATH".into()));
        }
    };
    offline.problems().for_each(note);
    let services = Arc::new(offline.compiled.services);
    Ok((config, Snapshot { generation: Generation(1), services, network: Arc::new(network) }))
}

fn open(path: &Path) -> Result<CaptureReader<BufReader<File>>, Failure> {
    let file = File::open(path).map_err(|error| Failure::failed(format!("--in {}: {error}", plain::path(path))))?;
    let reader = CaptureReader::new(BufReader::new(file));
    reader.map_err(|error| Failure::failed(format!("{}: {error}", plain::path(path))))
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// A file that is written.
struct Output {
    path: PathBuf,
}

impl Output {
    fn create(&self) -> Result<BufWriter<File>, Failure> {
        File::create(&self.path).map(BufWriter::new).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Failure {
        Failure::failed(format!("cannot write {}: {error}", plain::path(&self.path)))
    }
}
