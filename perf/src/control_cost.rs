//! What changes of a large cluster cost the control side: from objects in memory to the last worker's ack, with real
//! workers (without ports) and, as root, the real steering program.

mod bed;
mod cluster;
mod forwarding;
pub mod process;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ringway_control::cluster::ClusterState;
use ringway_control::compile::{CompileOptions, Memory, compile};
use ringway_control::config::{Config, SourceKey};
use ringway_shared::MacAddress;
use serde_json::{Value, json};

use crate::failure::{Failure, failed};
use bed::Bed;
use cluster::Model;
use forwarding::Forwarding;
use process::resident_bytes;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Services in the cluster.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub services: u32,
    /// Endpoints of each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub endpoints: u32,
    /// How many changes are made one by one.
    #[arg(long, default_value_t = 300)]
    pub changes: u32,
    /// For how long a storm of changes lasts, in seconds.
    #[arg(long, default_value_t = 60)]
    pub storm_seconds: u32,
    /// Changes a second in the storm.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub storm_rate: u32,
    /// How often everything is compiled from nothing.
    #[arg(long, default_value_t = 5)]
    pub cold: u32,
    /// How often forwarding with and without a storm take turns, for half a second each.
    #[arg(long, default_value_t = 30)]
    pub forward_rounds: u32,
    /// Flows that are forwarded, evenly over the Services.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub forward_flows: u32,
}

const CONFIG: &str = r#"
nodeName: gw
node: {addresses: [192.168.0.1], podCIDRs: [10.0.0.0/16]}
network:
  interfaces: [{name: eth0, mac: "02:00:00:00:00:01", addresses: [192.168.0.1/24]}]
  routes: [{to: 10.0.0.0/8, via: 192.168.0.3, dev: eth0}]
  neighbors: [{address: 192.168.0.3, mac: "02:00:00:00:00:03", dev: eth0}]
interfaces: [{name: eth0}]
flows: {perWorker: 1024}
source: {files: /none}
"#;

/// How long forwarding is measured at a time: short, so that what else the machine does meets both alike.
const TURN: Duration = Duration::from_millis(500);

/// Workers, as on a machine with two CPUs.
const WORKERS: usize = 2;

const GATEWAY_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const NEXT_HOP_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 3]);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 9);

/// Measures; the result is one JSON object.
pub fn run(options: &Options) -> Result<Value, Failure> {
    let config = Config::parse(CONFIG, "built in".as_ref(), SourceKey::Read).map_err(failed("the configuration"))?;
    let mut model = Model::new(options.services, options.endpoints);
    let before = resident_bytes("self");
    let began = Instant::now();
    let mut state = ClusterState::default();
    model.fill(&mut state);
    let filled = began.elapsed();
    let compile_options = CompileOptions::from_config(&config);
    let mut cold: Vec<f64> = (0..options.cold).map(|_| compile_cold(&state, &compile_options)).collect();
    cold.sort_by(f64::total_cmp);
    let warm = compile_warm(Model::new(options.services, options.endpoints), &state, &compile_options);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("ringway-control")
        .enable_all()
        .build()
        .map_err(failed("the control thread"))?;
    let (steps, shared) = (compile_options.clone(), state.clone());
    let mut bed = runtime.block_on(Bed::with_workers(&config, steps, shared))?;
    let first = bed.first;
    let resident = resident_bytes("self");
    let single = runtime.block_on(bed.changes(&mut model, options.changes));
    let storm =
        runtime.block_on(bed.storm(&mut model, options.storm_rate, Duration::from_secs(options.storm_seconds.into())));
    let steering = if bed.steering { "program" } else { "none: not root" };
    runtime.block_on(bed.end());
    drop(runtime);
    let forwarding = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Away from the worker's CPU; threads that are started here inherit it.
            core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(failed("the control threads"))?;
            runtime.block_on(forward(options, &config, compile_options, state))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(json!({
        "services": options.services,
        "endpoints": options.endpoints,
        "steering": steering,
        "objectsMillis": filled.as_secs_f64() * 1e3,
        "compileColdMillis": cold,
        "compileOneChangeMicros": warm,
        "firstInForceMillis": first.as_secs_f64() * 1e3,
        "residentMiB": (resident - before.min(resident)) as f64 / f64::from(1 << 20),
        "residentInAllMiB": resident as f64 / f64::from(1 << 20),
        "oneChange": single,
        "storm": storm,
        "forwarding": forwarding,
    }))
}

/// Forwarding without and with a storm, in turns.
async fn forward(
    options: &Options,
    config: &Config,
    compile: CompileOptions,
    state: ClusterState,
) -> Result<Value, Failure> {
    let mut model = Model::new(options.services, options.endpoints);
    let (mut bed, forwarding) =
        Bed::with_forwarding(config, compile, state, options.services, options.forward_flows).await?;
    while !forwarding.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut quiet, mut storm, mut delays) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.forward_rounds {
        let before = counts(&forwarding);
        tokio::time::sleep(TURN).await;
        quiet.push(nanos_a_packet(before, counts(&forwarding)));
        let before = counts(&forwarding);
        delays.push(bed.storm(&mut model, options.storm_rate, TURN).await);
        storm.push(nanos_a_packet(before, counts(&forwarding)));
    }
    bed.end().await;
    let shown = forwarding.shown.clone();
    if !forwarding.end() {
        return Err(Failure("the worker in memory panicked".into()));
    }
    let ratios: Vec<f64> = quiet.iter().zip(&storm).map(|(quiet, storm)| quiet / storm).collect();
    let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    Ok(json!({
        "flows": options.forward_flows,
        "quietNanos": quiet,
        "stormNanos": storm,
        "ratios": ratios,
        "ratio": median(ratios.clone()),
        "quietMedianNanos": median(quiet.clone()),
        "stormMedianNanos": median(storm.clone()),
        "packets": load(&shown.packets),
        "checked": load(&shown.checked),
        "wrong": load(&shown.wrong),
        "flowsOpened": load(&shown.reopened),
        "storms": delays,
    }))
}

/// Packets, and nanoseconds in the packet path.
fn counts(forwarding: &Forwarding) -> (u64, u64) {
    (forwarding.shown.packets.load(Ordering::Relaxed), forwarding.shown.nanos.load(Ordering::Relaxed))
}

fn nanos_a_packet(before: (u64, u64), after: (u64, u64)) -> f64 {
    (after.1 - before.1) as f64 / (after.0 - before.0).max(1) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Everything from nothing, in milliseconds.
fn compile_cold(state: &ClusterState, options: &CompileOptions) -> f64 {
    let mut memory = Memory::new();
    let began = Instant::now();
    let compiled = compile(state, options, &mut memory);
    let took = began.elapsed();
    assert!(compiled.problems.is_empty(), "{:?}", compiled.problems.first());
    took.as_secs_f64() * 1e3
}

/// One change, compiled alone, in microseconds: the median of many.
fn compile_warm(mut model: Model, state: &ClusterState, options: &CompileOptions) -> f64 {
    let (mut state, mut memory) = (state.clone(), Memory::new());
    let mut last = compile(&state, options, &mut memory);
    let mut times: Vec<f64> = (0..101)
        .map(|_| {
            model.change(&mut state);
            let began = Instant::now();
            let newer = compile(&state, options, &mut memory);
            last = newer;
            let took = began.elapsed();
            memory.release(last.services.generation);
            took.as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
