//! `ringway-perf`: offers load, counts what arrives, and measures what a packet costs.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use ringway_dataplane::af_xdp::program::Attachment;
use ringway_perf::bed;
use ringway_perf::failure::Failure;
use ringway_perf::forwarder::{Way, forward};
use ringway_perf::generator::{Load, send};
use ringway_perf::memory_bed::MemoryBed;
use ringway_perf::recorder::{record, tap};
use ringway_perf::traffic::Mix;
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
        /// Flows in the mix.
        #[arg(long, default_value_t = 1000)]
        flows: u32,
        /// Packets to send after all flows are open.
        #[arg(long, default_value_t = 2_000_000)]
        packets: u64,
        /// Endpoints of the Service.
        #[arg(long, default_value_t = 1000)]
        backends: u32,
    },
    /// Offer UDP over IPv4 on an interface, by AF_XDP transmit.
    Send(SendArguments),
    /// Count what arrives on an interface, what is missing, and how long it took.
    Receive {
        /// The interface; it must exist in this network namespace.
        #[arg(long)]
        interface: String,
        /// Take packets to this address; may be given several times.
        #[arg(long, required = true)]
        address: Vec<IpAddr>,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 5.0)]
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
        #[arg(long, default_value_t = 5.0)]
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
    /// The interface's own MAC address, or whatever the frames shall come from.
    #[arg(long)]
    source_mac: MacAddress,
    /// The first client address; with many flows they count up from it.
    #[arg(long)]
    client: Ipv4Addr,
    /// The frontend, as ADDRESS:PORT.
    #[arg(long)]
    to: SocketAddrV4,
    /// Flows in the mix.
    #[arg(long, default_value_t = 1000)]
    flows: u32,
    /// Bytes a frame, without check sequence.
    #[arg(long, default_value_t = 60)]
    size: usize,
    /// Frames a second; 0 for as many as possible.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Args)]
struct BedArguments {
    /// The `ringway` binary; otherwise the one beside this program.
    #[arg(long)]
    ringway: Option<PathBuf>,
    /// Flows in the mix; one endpoint has SNAT ports for some 4,500.
    #[arg(long, default_value_t = 1000)]
    flows: u32,
    /// Bytes a frame, without check sequence.
    #[arg(long, default_value_t = 60)]
    size: usize,
    /// How long each is loaded in each round, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often they take turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Frames a second; 0 for as many as possible.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Frames a second when latency is measured.
    #[arg(long, default_value_t = 20_000)]
    latency_rate: u64,
    /// Leave the generator and the forwarder to the scheduler instead of pinning them to CPUs 0 and 1.
    #[arg(long)]
    unpinned: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Cost { flows, packets, backends } => Ok(cost(flows, packets, backends)),
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

fn cost(flows: u32, packets: u64, backends: u32) -> Value {
    let mut bed = MemoryBed::new(flows.next_power_of_two().max(1024), flows, backends);
    let opened = f64::from(flows / 64 * 64);
    bed.opening();
    bed.forget();
    let opening = bed.opening();
    bed.forget();
    bed.open_all();
    bed.established(packets / 10);
    let established = bed.established(packets);
    json!({
        "flows": flows,
        "backends": backends,
        "establishedNanos": established.as_nanos() as f64 / packets as f64,
        "newFlowNanos": opening.as_nanos() as f64 / opened,
        "flowTableBytes": bed.memory_bytes(),
    })
}

fn offer(arguments: &SendArguments) -> Result<Value, Failure> {
    let mix = Mix {
        flows: arguments.flows,
        size: arguments.size,
        destination_mac: arguments.next_hop,
        source_mac: arguments.source_mac,
        first_client: arguments.client,
        destination: (*arguments.to.ip(), arguments.to.port()),
    };
    let load = Load { mix, rate: arguments.rate, duration: Duration::from_secs_f64(arguments.seconds) };
    let offered = send(&arguments.interface, &load)?;
    Ok(json!({
        "packets": offered.packets,
        "seconds": offered.elapsed.as_secs_f64(),
        "perSecond": offered.rate(),
        "kickErrors": offered.kick_errors,
    }))
}

fn receive(interface: &str, addresses: &[IpAddr], seconds: f64) -> Result<Value, Failure> {
    let mut taps = tap(interface, addresses, Attachment::Auto, 0)?;
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let recording = record(&mut taps, || Instant::now() >= until);
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
        size: arguments.size,
        duration: Duration::from_secs_f64(arguments.seconds),
        rounds: arguments.rounds,
        rate: arguments.rate,
        latency_rate: arguments.latency_rate,
        cpus: (cpus >= 2 && !arguments.unpinned).then_some([0, 1]),
    })
}
