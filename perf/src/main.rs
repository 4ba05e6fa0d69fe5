//! `ringway-perf`: offers load, counts what arrives, and measures what a packet costs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ringway_dataplane::af_xdp::Device;
use ringway_dataplane::af_xdp::program::XdpMode;
use ringway_perf::bed;
use ringway_perf::control_cost;
use ringway_perf::failure::{Failure, failed};
use ringway_perf::flood::FloodOptions;
use ringway_perf::forwarder::{Way, forward};
use ringway_perf::generator::{By, Load, send};
use ringway_perf::memory_bed::{Company, ForgedCost, MOST_FRAGMENTS, MemoryBed, hand_over, replies_of_another};
use ringway_perf::recorder::{record, tap};
use ringway_perf::traffic::{Kind, MOST_FLOWS, Mix, SizeList};
use ringway_perf::ways;
use ringway_shared::MacAddress;
use serde_json::{Value, json};

/// Measures Ringway. Every command prints one JSON object.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What a packet costs in memory, without I/O.
    Cost {
        /// What is sent: udp4, tcp4, udp6 or tcp6.
        #[arg(long, default_value_t)]
        kind: Kind,
        /// Flows in the mix.
        #[arg(long, default_value_t = 1000, value_parser = between(64, 2_000_000))]
        flows: u32,
        /// Packets to send after all flows are open.
        #[arg(long, default_value_t = 2_000_000, value_parser = RangedU64ValueParser::<u64>::new().range(64..))]
        packets: u64,
        /// Endpoints of the Service.
        #[arg(long, default_value_t = 1000, value_parser = between(1, 50_000))]
        backends: u32,
        /// Workers that share SNAT ports and the directory of flows; what is measured is one of them.
        #[arg(long, default_value_t = 1, value_parser = between(1, 64))]
        workers: u32,
        /// Each has a queue, and ports are chosen by the queue that their replies come to.
        #[arg(long)]
        by_queue: bool,
    },
    /// Sends packets of known flows from ring to ring in memory, for who counts instructions: all that a packet costs in user space.
    Rings {
        /// What is sent: udp4, tcp4, udp6 or tcp6.
        #[arg(long, default_value_t)]
        kind: Kind,
        /// By the bare forwarder, which changes nothing but MAC addresses.
        #[arg(long)]
        bare: bool,
        /// Packets to send.
        #[arg(long, default_value_t = 20_000, value_parser = RangedU64ValueParser::<u64>::new().range(64..))]
        packets: u64,
    },
    /// What a fragment costs in memory: datagrams of UDP over IPv4 of 1,000 flows, in two fragments each.
    Fragments {
        /// Fragments to send.
        #[arg(long, default_value_t = 120_000, value_parser = RangedU64ValueParser::<u64>::new().range(64..=MOST_FRAGMENTS))]
        packets: u64,
    },
    /// What forged packets cost in memory, beside a thousand flows, and what becomes of them.
    Forged(ForgedCost),
    /// What it costs to hand packets over to another worker, both on one CPU.
    Handover {
        /// Packets to hand over.
        #[arg(long, default_value_t = 1_000_000, value_parser = RangedU64ValueParser::<u64>::new().range(64..))]
        packets: u64,
        /// Bytes a packet.
        #[arg(long, default_value_t = 60, value_parser = between(14, 4096))]
        size: u32,
        /// Instead, what it costs to know that they are another worker's: UDP replies to its ports, from the frame to the mesh.
        #[arg(long, conflicts_with = "size")]
        replies: bool,
    },
    /// What changes of a large cluster cost: compile, publish, memory.
    Control(control_cost::Options),
    /// How long it takes until the ways to all endpoints are known, in namespaces of its own.
    Ways(ways::Options),
    /// Offer UDP or TCP on an interface.
    ///
    /// Frames carry a number and the time at the start of their payload, by which `receive` finds loss and latency; short
    /// ones have no room for that, and only count.
    Send(SendArguments),
    /// Send forged packets on an interface, at a rate, and leave the CPU to others between them.
    Flood(FloodOptions),
    /// Count what arrives on an interface, what is missing, and how long it took.
    Receive {
        /// The interface; it must exist in this network namespace.
        #[arg(long)]
        interface: String,
        /// Take packets to this address; may be given several times.
        #[arg(long, required = true)]
        address: Vec<IpAddr>,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 5.0, value_parser = seconds, allow_hyphen_values = true)]
        seconds: f64,
    },
    /// Forward from one interface to another and change nothing but MAC addresses.
    Forward {
        /// Where packets arrive.
        #[arg(long)]
        from: String,
        /// Where they leave.
        #[arg(long)]
        to: String,
        /// Take packets to this address; may be given several times.
        #[arg(long, required = true)]
        address: Vec<IpAddr>,
        /// The MAC address of the next hop.
        #[arg(long)]
        next_hop: MacAddress,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 5.0, value_parser = seconds, allow_hyphen_values = true)]
        seconds: f64,
    },
    /// Compare `ringway run` with the bare forwarder, in namespaces of its own.
    Bed(BedArguments),
}

#[derive(Args)]
struct SendArguments {
    /// The interface.
    #[arg(long)]
    interface: String,
    /// The MAC address of the next hop.
    #[arg(long)]
    next_hop: MacAddress,
    /// The MAC address that frames come from; otherwise the interface's own.
    #[arg(long)]
    source_mac: Option<MacAddress>,
    /// The first client address; with many flows they count up from it.
    #[arg(long)]
    client: IpAddr,
    /// The frontend, as `ADDRESS:PORT`; of IPv6 as `[ADDRESS]:PORT`.
    #[arg(long)]
    to: SocketAddr,
    /// TCP sends one SYN a flow and then data, and waits for no answer.
    #[arg(long, value_enum, default_value_t = Transport::Udp)]
    protocol: Transport,
    /// Flows in the mix.
    #[arg(long, default_value_t = 1000, value_parser = between(1, MOST_FLOWS))]
    flows: u32,
    /// Bytes a frame, without check sequence: shortest, imix, or a list as in 60,60,1514, of which each frame has one.
    #[arg(long, default_value_t)]
    size: SizeList,
    /// Frames a second; 0 for as many as possible.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 5.0, value_parser = seconds, allow_hyphen_values = true)]
    seconds: f64,
    /// The generator; auto takes live frames where they work, and says why where not.
    #[arg(long, value_enum, default_value_t)]
    by: By,
}

#[derive(Args)]
struct BedArguments {
    /// The `ringway` binary; otherwise the one beside this program.
    #[arg(long)]
    ringway: Option<PathBuf>,
    /// Flows in the mix; one endpoint has SNAT ports for some 4,500.
    #[arg(long, default_value_t = 1000, value_parser = between(1, 4_500))]
    flows: u32,
    /// Bytes a frame, without check sequence: shortest, imix, or a list as in 60,60,1514, of which each frame has one.
    #[arg(long, default_value_t)]
    size: SizeList,
    /// The generator; auto takes live frames where they work, and says why where not.
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// How long each is loaded in each round, in seconds.
    #[arg(long, default_value_t = 3.0, value_parser = seconds, allow_hyphen_values = true)]
    seconds: f64,
    /// How often they take turns.
    #[arg(long, default_value_t = 3, value_parser = between(1, 1000))]
    rounds: u32,
    /// Frames a second; 0 for as many as possible.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Frames a second when latency is measured.
    #[arg(long, default_value_t = 20_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    latency_rate: u64,
    /// Leave the generator and the forwarder to the scheduler instead of pinning them to CPUs 0 and 1.
    #[arg(long)]
    unpinned: bool,
}

/// The protocol of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    Udp,
    Tcp,
}

fn between(first: u32, last: u32) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(u64::from(first)..=u64::from(last))
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.01..=86_400.0).contains(number));
    number.ok_or_else(|| format!("{text:?} is no number of seconds; allowed are 0.01 to 86400"))
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Cost { kind, flows, packets, backends, workers, by_queue } => {
            let company = Company { workers: workers as u16, knows_queues: by_queue };
            Ok(cost(&company, kind, flows, packets, backends))
        }
        Command::Rings { kind, bare, packets } => Ok(rings(kind, bare, packets)),
        Command::Fragments { packets } => {
            let took = MemoryBed::new(Kind::Udp4, 1024, 1000, 100).fragments(packets);
            Ok(json!({"packets": packets, "fragmentNanos": took.as_nanos() as f64 / packets as f64}))
        }
        Command::Forged(options) => options.run(),
        Command::Flood(options) => options.run(),
        Command::Handover { packets, replies: true, .. } => {
            let took = replies_of_another(packets);
            Ok(json!({"packets": packets, "replyNanos": took.as_nanos() as f64 / packets as f64}))
        }
        Command::Handover { packets, size, .. } => {
            let took = hand_over(packets, size as usize);
            Ok(json!({"packets": packets, "size": size, "handoverNanos": took.as_nanos() as f64 / packets as f64}))
        }
        Command::Control(options) => control_cost::run(&options),
        Command::Ways(options) => ways::run(&options),
        Command::Send(arguments) => offer(&arguments),
        Command::Receive { interface, address, seconds } => receive(&interface, &address, seconds),
        Command::Forward { from, to, address, next_hop, seconds } => {
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            let way = Way { from, to, addresses: address, next_hop };
            forward(&way, || (), || Instant::now() >= until).map(|packets| json!({"forwarded": packets}))
        }
        Command::Bed(arguments) => compare(arguments),
    };
    match done {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn cost(company: &Company, kind: Kind, flows: u32, packets: u64, backends: u32) -> Value {
    let mut bed = MemoryBed::among(company, kind, flows.next_power_of_two().max(1024), flows, backends);
    let opened = f64::from(flows / 64 * 64);
    bed.opening();
    bed.forget();
    let opening = bed.opening();
    bed.forget();
    bed.open_all();
    bed.established(packets / 10);
    let established = bed.established(packets);
    json!({
        "kind": kind.label(),
        "flows": flows,
        "backends": backends,
        "workers": company.workers,
        "byQueue": company.knows_queues,
        "establishedNanos": established.as_nanos() as f64 / packets as f64,
        "newFlowNanos": opening.as_nanos() as f64 / opened,
        "flowTableBytes": bed.memory_bytes(),
    })
}

fn rings(kind: Kind, bare: bool, packets: u64) -> Value {
    let mut bed = MemoryBed::new(kind, 1024, 1000, 100);
    bed.open_all();
    if bare {
        bed.bare_by_rings(packets);
    } else {
        bed.by_rings(packets);
    }
    json!({"kind": kind.label(), "bare": bare, "packets": packets})
}

fn offer(arguments: &SendArguments) -> Result<Value, Failure> {
    let kind = Kind::of(arguments.protocol == Transport::Tcp, arguments.to.is_ipv6());
    let source_mac = match arguments.source_mac {
        Some(mac) => mac,
        None => Device::by_name(&arguments.interface).and_then(|device| device.mac()).map_err(failed("cannot send"))?,
    };
    let mix = Mix {
        kind,
        flows: arguments.flows,
        sizes: arguments.size.of(kind),
        destination_mac: arguments.next_hop,
        source_mac,
        first_client: arguments.client,
        destination: arguments.to,
    };
    let duration = Duration::from_secs_f64(arguments.seconds);
    let load = Load { mix, rate: arguments.rate, duration, by: arguments.by };
    let offered = send(&arguments.interface, &load)?;
    Ok(json!({
        "kind": kind.label(),
        "by": offered.by.label(),
        "because": offered.because,
        "packets": offered.packets,
        "stamped": offered.stamped,
        "shortestStamped": kind.shortest_stamped(),
        "seconds": offered.elapsed.as_secs_f64(),
        "perSecond": offered.rate(),
        "kickErrors": offered.kick_errors,
    }))
}

fn receive(interface: &str, addresses: &[IpAddr], seconds: f64) -> Result<Value, Failure> {
    let mut taps = tap(interface, addresses, XdpMode::Auto, 0)?;
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let recording = record(&mut taps, |_| Instant::now() >= until);
    let micros = |quantile: f64| recording.latency.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(json!({
        "packets": recording.packets,
        "foreign": recording.foreign,
        "lost": recording.lost,
        "seconds": recording.elapsed.as_secs_f64(),
        "perSecond": recording.packets as f64 / recording.elapsed.as_secs_f64().max(1e-9),
        "latencyMicros": {"p50": micros(0.5), "p90": micros(0.9), "p99": micros(0.99), "p999": micros(0.999)},
    }))
}

fn compare(arguments: BedArguments) -> Result<Value, Failure> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    bed::run(bed::Options {
        binary: arguments.ringway.unwrap_or_else(bed::sibling),
        flows: arguments.flows,
        sizes: arguments.size,
        by: arguments.by,
        duration: Duration::from_secs_f64(arguments.seconds),
        rounds: arguments.rounds,
        rate: arguments.rate,
        latency_rate: arguments.latency_rate,
        cpus: (cpus >= 2 && !arguments.unpinned).then_some([0, 1]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_is_allowed() {
        let refused = |line: &str| match Arguments::try_parse_from(line.split(' ')) {
            Ok(_) => panic!("{line} is taken"),
            Err(error) => error.to_string(),
        };
        for (line, said) in [
            ("ringway-perf cost --kind udp", "\"udp\" is no kind of traffic; allowed are udp4, tcp4, udp6, tcp6"),
            ("ringway-perf cost --flows 0", "0 is not in 64..=2000000"),
            ("ringway-perf bed --seconds -1", "\"-1\" is no number of seconds; allowed are 0.01 to 86400"),
            ("ringway-perf bed --seconds=nan", "\"nan\" is no number of seconds"),
            ("ringway-perf bed --size 9000", "\"9000\" is no frame length; write shortest, imix, or up to 16 lengths"),
            ("ringway-perf bed --by magic", "[possible values: auto, live-frames, af-xdp]"),
        ] {
            let error = refused(line);
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
