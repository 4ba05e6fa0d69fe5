//! How long it takes until the ways to many endpoints are known: from nothing until each endpoint has a route, a source
//! address and the MAC address of its next hop. Beside it, how long `ip route get` takes to ask the kernel for each.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ringway_control::config::InterfacePattern;
use ringway_control::demo::netns::{End, Namespace, veth};
use ringway_control::network::NetworkWatch;
use ringway_dataplane::resolver::Resolver;
use ringway_shared::Network;
use serde_json::{Value, json};

use crate::failure::{Failure, failed};

/// Ways that are not known by then never will be.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Endpoints, evenly behind the next hops.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub endpoints: u32,
    /// Next hops, each with a route of its own.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub next_hops: u32,
    /// How often.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

struct Bed {
    gateway: Namespace,
    // Answers for every next hop.
    _routers: Namespace,
    endpoints: Vec<IpAddr>,
    folder: tempfile::TempDir,
}

impl Bed {
    fn new(options: &Options) -> Result<Bed, Failure> {
        let made = |namespace: std::io::Result<Namespace>| namespace.map_err(failed("a network namespace"));
        let gateway = made(Namespace::create("ways", "gateway"))?;
        let routers = made(Namespace::create("ways", "routers"))?;
        let near = End { namespace: &gateway, link: "eth0", mac: None };
        veth(near, End { namespace: &routers, link: "uplink", mac: None }, 1).map_err(failed("a link"))?;
        let run = |namespace: &Namespace, line: &str| {
            namespace.ip(&line.split(' ').collect::<Vec<_>>()).map_err(failed(format!("ip {line}")))
        };
        run(&gateway, "address add 10.0.0.1/16 dev eth0")?;
        run(&routers, "route add 10.0.0.1/32 dev uplink table local")?;
        run(&routers, "route add local 10.0.0.0/16 dev uplink")?;
        let hop = |n: u32| Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 1, 0).to_bits() + n);
        let behind = |n: u32| Ipv4Addr::from_bits(Ipv4Addr::new(10, 16, 0, 0).to_bits() + (n << 8));
        let endpoint =
            |n: u32| IpAddr::V4((behind(n % options.next_hops).to_bits() + 1 + n / options.next_hops).into());
        let bed = Bed {
            endpoints: (0..options.endpoints).map(endpoint).collect(),
            folder: tempfile::tempdir().map_err(failed("a folder"))?,
            gateway,
            _routers: routers,
        };
        bed.batch((0..options.next_hops).map(|n| format!("route add {}/24 via {}\n", behind(n), hop(n))).collect())?;
        Ok(bed)
    }

    /// Runs lines of `ip`; returns how long that took.
    fn batch(&self, lines: String) -> Result<Duration, Failure> {
        let file = self.folder.path().join("batch");
        fs::write(&file, lines).map_err(failed("a file"))?;
        let mut command = self.gateway.command("ip");
        let began = Instant::now();
        let status = command.arg("-batch").arg(&file).stdout(Stdio::null()).status().map_err(failed("ip -batch"))?;
        match status.success() {
            true => Ok(began.elapsed()),
            false => Err(Failure(format!("ip -batch: {status}"))),
        }
    }

    fn forget(&self) -> Result<(), Failure> {
        self.gateway.ip(&["neighbour", "flush", "dev", "eth0"]).map_err(failed("ip neighbour flush"))
    }

    /// How long it takes until all is known: by a fresh watch, and by one whose policy rules change.
    fn known(&self) -> Result<[Duration; 2], Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed("a runtime"))?;
        runtime.block_on(async {
            let pattern = InterfacePattern::parse("eth0").map_err(failed("eth0"))?;
            let resolver = Resolver::new().map_err(failed("the workers' questions"))?;
            self.forget()?;
            let began = Instant::now();
            let mut watch = NetworkWatch::start(vec![pattern], resolver).await.map_err(failed("the network"))?;
            watch.endpoints.send_replace(self.endpoints.iter().map(|endpoint| (*endpoint, 1)).collect());
            self.until(&mut watch, Ipv4Addr::new(10, 0, 0, 1)).await?;
            let fresh = began.elapsed();
            // Another source for all of them, by a rule: nothing of the kernel's dump says that, all of it is asked.
            for line in ["address add 10.0.0.7/32 dev lo", "route add default dev eth0 src 10.0.0.7 table 100"] {
                self.gateway.ip(&line.split(' ').collect::<Vec<_>>()).map_err(failed(format!("ip {line}")))?;
            }
            self.batch(self.via_another_table())?;
            let began = Instant::now();
            self.gateway.ip(&["rule", "add", "pref", "100", "lookup", "100"]).map_err(failed("ip rule add"))?;
            self.until(&mut watch, Ipv4Addr::new(10, 0, 0, 7)).await?;
            let changed = began.elapsed();
            for line in ["rule del pref 100", "route flush table 100", "address del 10.0.0.7/32 dev lo"] {
                self.gateway.ip(&line.split(' ').collect::<Vec<_>>()).map_err(failed(format!("ip {line}")))?;
            }
            Ok([fresh, changed])
        })
    }

    /// The routes once more, in table 100 and with another source.
    fn via_another_table(&self) -> String {
        let mut nets: Vec<(u32, u32)> = Vec::new();
        for endpoint in &self.endpoints {
            let IpAddr::V4(v4) = endpoint else { continue };
            let net = v4.to_bits() & !0xff;
            let number = (net - Ipv4Addr::new(10, 16, 0, 0).to_bits()) >> 8;
            nets.push((net, number));
        }
        nets.sort_unstable();
        nets.dedup();
        let first = Ipv4Addr::new(10, 0, 1, 0).to_bits();
        let line = |(net, number): (u32, u32)| {
            let (net, hop) = (Ipv4Addr::from_bits(net), Ipv4Addr::from_bits(first + number));
            format!("route add {net}/24 via {hop} dev eth0 onlink src 10.0.0.7 table 100\n")
        };
        nets.into_iter().map(line).collect()
    }

    /// Waits until every endpoint has a way, and `source` on it.
    async fn until(&self, watch: &mut NetworkWatch, source: Ipv4Addr) -> Result<(), Failure> {
        let source = Some(IpAddr::V4(source));
        let known = |network: &Network| {
            let known =
                |endpoint: &IpAddr| network.resolve(*endpoint).is_ok() && network.source_address(*endpoint) == source;
            self.endpoints.iter().all(known)
        };
        let wait = watch.latest.wait_for(|network| known(network));
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Failure("the watch of the network ended".into())),
            Err(_) => Err(Failure(format!("not all ways are known after {} s", PATIENCE.as_secs()))),
        }
    }
}

/// Measures, in turns; the result is one JSON object.
pub fn run(options: &Options) -> Result<Value, Failure> {
    let bed = Bed::new(options)?;
    let gets: String = bed.endpoints.iter().map(|endpoint| format!("route get {endpoint}\n")).collect();
    let (mut fresh, mut changed, mut asked, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let [first, second] = bed.gateway.enter(|| bed.known()).map_err(failed("the namespace"))??;
        let ip = bed.batch(gets.clone())?;
        fresh.push(first.as_secs_f64() * 1e3);
        changed.push(second.as_secs_f64() * 1e3);
        asked.push(ip.as_secs_f64() * 1e3);
        ratios.push(first.max(second).as_secs_f64() / ip.as_secs_f64());
    }
    Ok(json!({
        "endpoints": options.endpoints,
        "nextHops": options.next_hops,
        "knownMillis": fresh,
        "afterRuleMillis": changed,
        "ipRouteGetMillis": asked,
        "ratios": ratios,
    }))
}
