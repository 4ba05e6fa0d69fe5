//! `ringway-perf`: offers load, counts what arrives, and measures what a packet costs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringway_perf::memory_bed::MemoryBed;

/// Measures Ringway.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What a packet costs in memory, without I/O: one JSON line.
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
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Cost { flows, packets, backends } => cost(flows, packets, backends),
    }
    ExitCode::SUCCESS
}

fn cost(flows: u32, packets: u64, backends: u32) {
    let mut bed = MemoryBed::new(flows.next_power_of_two().max(1024), flows, backends);
    let opened = f64::from(flows / 64 * 64);
    bed.opening();
    bed.forget();
    let opening = bed.opening();
    bed.forget();
    bed.open_all();
    bed.established(packets / 10);
    let established = bed.established(packets);
    let line = serde_json::json!({
        "flows": flows,
        "backends": backends,
        "establishedNanos": established.as_nanos() as f64 / packets as f64,
        "newFlowNanos": opening.as_nanos() as f64 / opened,
        "flowTableBytes": bed.memory_bytes(),
    });
    println!("{line}");
}
