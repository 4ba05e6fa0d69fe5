//! The story that `ringway demo` tells, step by step. Every step says what it checks; the first that fails does not end
//! the story, but its exit status.

use super::bed::{BACKENDS, Bed, CLIENT, backend_ips};
use super::client::{Load, UDP_LIMIT, ask_http, ask_udp};
use super::instance::Instance;
use super::reading::{Packets, Reading, modes};
use super::screen::{Row, Screen};
use super::server::Server;
use super::tally::{Counts, Tally};
use serde_json::Value;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the table is drawn.
const FRAME: Duration = Duration::from_millis(500);
/// How far back the table's rates look.
const WINDOW: usize = 4;
/// A source port of the client for the one traced connection, outside the range that the kernel picks from.
const TRACED_PORT: u16 = 23_456;

/// HTTP requests that may have been under way to one endpoint at one moment.
const UNDER_WAY: u64 = 5;

/// Why the story ended before its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Ctrl-C, another signal, or a terminal that went away.
    Interrupted,
    /// Something without which the story cannot go on.
    Failed(String),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Stopped::Failed(error.to_string())
    }
}

/// The story and all it is made of. Fields are dropped in order: load first, links last.
#[derive(Debug)]
pub(super) struct Story<'a> {
    screen: Screen,
    interrupted: &'a AtomicBool,
    failures: usize,
    load: Option<Load>,
    servers: Vec<Option<Server>>,
    states: Vec<&'static str>,
    tally: Arc<Tally>,
    readings: Vec<Reading>,
    ringway: Instance,
    bed: Bed,
}

impl<'a> Story<'a> {
    /// Makes the network, starts three backends and Ringway, and waits until it serves.
    pub(super) fn begin(mut screen: Screen, interrupted: &'a AtomicBool) -> Result<Story<'a>, Stopped> {
        screen.heading("A client, a gateway and three backends, each in a network namespace of its own");
        let bed = Bed::create()?;
        bed.set_endpoints(&[0, 1, 2])?;
        let mut servers = Vec::new();
        for (index, (namespace, name)) in bed.backends.iter().zip(BACKENDS).enumerate() {
            servers.push(if index < 3 { Some(Server::start(namespace, name)?) } else { None });
        }
        screen.say("  starting `ringway run` in the gateway ...");
        let binary = std::env::current_exe()?;
        let mut ringway = Instance::start_with_us(&bed.gateway, &binary, &bed.config(), &bed.socket())?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(why) = ringway.healthy(&bed.gateway) {
            if why.ended || Instant::now() > deadline {
                return Err(Stopped::Failed(format!("the load balancer does not serve: {}", why.text)));
            }
            pause(interrupted, Duration::from_millis(50))?;
        }
        let states = vec!["ready", "ready", "ready", ""];
        let (tally, readings) = (Arc::new(Tally::default()), Vec::new());
        let mut story =
            Story { screen, interrupted, failures: 0, load: None, servers, states, tally, readings, ringway, bed };
        let modes = modes(&story.status()?);
        story.check(!modes.is_empty(), &format!("Ringway runs over AF_XDP: {}", modes.join("; ")));
        Ok(story)
    }

    /// Tells it to the end. How many checks failed.
    pub(super) fn tell(&mut self) -> Result<usize, Stopped> {
        self.reach_every_vip()?;
        self.balance()?;
        self.explain()?;
        self.lose_a_backend()?;
        self.add_a_backend()?;
        self.close_the_ledger()?;
        Ok(self.failures)
    }

    /// Every VIP answers, by HTTP and UDP, over IPv4 and IPv6.
    fn reach_every_vip(&mut self) -> Result<(), Stopped> {
        self.screen
            .heading("One Service: HTTP and UDP through its ClusterIP, NodePort and LoadBalancer IP, IPv4 and IPv6");
        for target in self.bed.targets() {
            let http = ask_http(&self.bed.client, target.http, 0);
            let udp = ask_udp(&self.bed.client, target.udp);
            let held = http.is_ok() && udp.is_ok();
            let said = |answer: Result<String, String>| answer.unwrap_or_else(|error| error);
            let text = format!(
                "{:<16} HTTP {:<26} answered by {}, UDP port {} by {}",
                target.what,
                target.http.to_string(),
                said(http),
                target.udp.port(),
                said(udp)
            );
            self.check(held, &text);
            pause(self.interrupted, Duration::ZERO)?;
        }
        Ok(())
    }

    /// Steady load spreads over the three endpoints.
    fn balance(&mut self) -> Result<(), Stopped> {
        self.screen
            .heading("Steady load: new connections and datagrams to all of them, and one connection that stays open");
        self.load = Some(Load::start(&self.bed.client, self.bed.targets(), Arc::clone(&self.tally))?);
        let before = self.tally.read();
        self.watch(Duration::from_secs(10))?;
        let counts = self.tally.read().since(&before);
        let shares: Vec<f64> = BACKENDS.iter().map(|name| counts.share(name)).collect();
        let even = shares.iter().take(3).all(|share| (0.22..0.45).contains(share)) && shares[3] == 0.0;
        self.check(even, &format!("each of three endpoints takes about a third: {}", percentages(&counts)));
        self.check(counts.failed() == 0, &failed(&counts));
        Ok(())
    }

    /// What `trace` says of a connection is what then happens to it.
    fn explain(&mut self) -> Result<(), Stopped> {
        let Some(target) = self.bed.targets().into_iter().next() else { return Ok(()) };
        let packet = format!("tcp:{CLIENT}:{TRACED_PORT}->{}", target.http);
        self.screen.heading(&format!("Where would a packet go? ringway trace '{packet}'"));
        let explained = self.ringway(&["trace", &packet])?;
        self.screen.say(&indented(&explained));
        let json: Value = serde_json::from_str(self.ringway(&["trace", "--output", "json", &packet])?.trim())
            .map_err(|error| Stopped::Failed(format!("trace --output json: {error}")))?;
        let chosen = json["chosen"].as_str().unwrap_or("none").to_owned();
        let predicted = (0..BACKENDS.len()).find(|index| chosen == format!("{}:8080", backend_ips(*index)[0]));
        let predicted = predicted.and_then(|index| BACKENDS.get(index)).copied().unwrap_or("nobody");
        let answer = ask_http(&self.bed.client, target.http, TRACED_PORT).unwrap_or_else(|error| error);
        self.check(
            answer == predicted,
            &format!("trace chose {chosen} ({predicted}); that very connection was answered by {answer}"),
        );
        Ok(())
    }

    /// A backend dies without a word. While it is still listed, TCP clients are moved; once the cluster notices, all its traffic
    /// goes to the others.
    fn lose_a_backend(&mut self) -> Result<(), Stopped> {
        // Not the one that has the connection that stays open: that one shows that others are untouched.
        let keeper = self.tally.read().long_lived_endpoints.last().cloned().unwrap_or_default();
        let victim = (0..3).rev().find(|index| BACKENDS.get(*index).is_none_or(|name| *name != keeper)).unwrap_or(2);
        let name = BACKENDS[victim];
        self.screen.heading(&format!("{name} dies without a word, and is still listed"));
        self.screen.expect_failures(name);
        let alive = self.tally.read();
        self.bed.backends[victim].set_link("eth0", false)?;
        self.servers[victim] = None;
        self.states[victim] = "dead";
        self.watch(Duration::from_secs(3))?;
        let moved = self.status()?["flows"]["rescued"].as_u64().unwrap_or(0);
        let text = format!("{moved} clients that repeated their SYN were moved to other endpoints");
        self.check(moved > 0, &text);
        let services = self.ringway(&["services", "demo/web"])?;
        let told = services.lines().find_map(|line| line.find("suspected of being dead").and_then(|at| line.get(at..)));
        self.check(told.is_some(), &format!("ringway services says of it: {}", told.unwrap_or("nothing")));

        let ready: Vec<usize> = (0..3).filter(|index| *index != victim).collect();
        self.bed.set_endpoints(&ready)?;
        self.screen.say(&format!("  the EndpointSlices are updated without {name}, as a controller would"));
        self.states[victim] = "removed";
        // What was asked before has failed by then.
        self.watch(UDP_LIMIT + Duration::from_secs(1))?;
        let before = self.tally.read();
        let [http, udp] = before.since(&alive).failures;
        let text =
            format!("of HTTP {http} requests failed, at most what was under way; of UDP, which nobody repeats, {udp}");
        self.check(http <= UNDER_WAY && udp > 0, &text);
        self.screen.expect_no_more(before.failed());
        self.watch(Duration::from_secs(8))?;
        let now = self.tally.read();
        let counts = now.since(&before);
        self.check(counts.of(name) == 0 && counts.total() > 0, &format!("its traffic moved: {}", percentages(&counts)));
        self.check(counts.failed() == 0, &failed(&counts));
        let undisturbed =
            now.long_lived_failure.is_none() && now.long_lived_endpoints.len() == 1 && counts.long_lived > 0;
        let text = match &now.long_lived_failure {
            None => format!("the open connection stayed on {keeper}: {} requests so far", now.long_lived),
            Some(failure) => format!("the open connection broke: {failure}"),
        };
        self.check(undisturbed, &text);
        Ok(())
    }

    /// A backend is added and takes its share.
    fn add_a_backend(&mut self) -> Result<(), Stopped> {
        let name = BACKENDS[3];
        self.screen.heading(&format!("{name} is added"));
        self.servers[3] = Some(Server::start(&self.bed.backends[3], name)?);
        let ready: Vec<usize> = (0..4).filter(|index| self.servers[*index].is_some()).collect();
        self.states[3] = "ready";
        self.bed.set_endpoints(&ready)?;
        self.watch(Duration::from_secs(2))?;
        let before = self.tally.read();
        self.watch(Duration::from_secs(10))?;
        let now = self.tally.read();
        let counts = now.since(&before);
        let held = (0.22..0.45).contains(&counts.share(name));
        self.check(held, &format!("it takes its share: {}", percentages(&counts)));
        self.check(counts.failed() == 0, &failed(&counts));
        let text = format!("the open connection goes on: {} requests on one endpoint", now.long_lived);
        self.check(now.long_lived_failure.is_none() && now.long_lived_endpoints.len() == 1, &text);
        Ok(())
    }

    /// Every packet is accounted for, and the gateway forwarded what the client counted.
    fn close_the_ledger(&mut self) -> Result<(), Stopped> {
        self.screen.heading("The ledger: what became of every packet that came in");
        if let Some(load) = self.load.take() {
            load.stop();
        }
        self.screen.clear();
        let counts = self.tally.read();
        let packets = self.packets()?;
        let text = format!(
            "{} received = {} forwarded + {} replied + {} passed + {} held + {} dropped",
            packets.rx,
            packets.forwarded,
            packets.replied,
            packets.passed,
            packets.held,
            packets.dropped()
        );
        self.check(packets.closes(), &text);
        // An HTTP request over a new connection is at least nine packets (three and one to open and ask, one answer, four
        // to close), a datagram and its answer two.
        let http: u64 = counts.answers.values().map(|[http, _]| http).sum();
        let udp: u64 = counts.answers.values().map(|[_, udp]| udp).sum();
        let least = http * 9 + udp * 2;
        self.check(
            packets.forwarded >= least,
            &format!("{http} HTTP requests and {udp} datagrams were answered: at least {least} packets forwarded"),
        );
        for (reason, count) in &packets.drops {
            self.screen.say(&format!("    {count} dropped: {reason}"));
        }
        Ok(())
    }

    /// Stops Ringway as a service manager would, and checks that nothing is left. How many checks failed in all.
    pub(super) fn end(mut self) -> Result<usize, Stopped> {
        self.load = None;
        self.screen.heading("Ringway ends (SIGTERM)");
        let begin = Instant::now();
        let status = self.ringway.stop()?;
        let text = format!("it ended within {:.1} s with {status}", begin.elapsed().as_secs_f64());
        self.check(status.success(), &text);
        let left = self.bed.leftovers()?;
        self.check(left.is_empty(), &format!("no XDP program and no device is left behind{left}"));
        if self.failures > 0 {
            self.show_log();
        }
        Ok(self.failures)
    }

    /// Stays, with load, until Ctrl-C.
    pub(super) fn stay(&mut self) -> Result<(), Stopped> {
        self.load = Some(Load::start(&self.bed.client, self.bed.targets(), Arc::clone(&self.tally))?);
        let (client, gateway) = (self.bed.client.name(), self.bed.gateway.name());
        let binary = std::env::current_exe()?;
        let (binary, config, objects) = (binary.display(), self.bed.config(), self.bed.objects());
        let (config, objects) = (config.display(), objects.display());
        self.screen.heading("It stays until Ctrl-C. Things to try, as root, in another terminal:");
        let vip = super::bed::CLUSTER_IPS;
        self.screen.say(&format!(
            "  ip netns exec {client} curl http://{}/
  ip netns exec {client} curl 'http://[{}]/'
  {binary} status --config {config}
  {binary} services --config {config}
  {binary} flows --config {config}
  {binary} drops --config {config}
  {binary} trace --config {config} 'tcp:{CLIENT}:40000->{}:80'
  $EDITOR {objects}/slices.yaml        # take endpoints away or add them
  ip netns exec {gateway} ip link set back down    # nothing reaches the backends
  ip netns exec {gateway} ip link set back up      # and all is well again",
            vip[0], vip[1], vip[0]
        ));
        loop {
            match self.watch(Duration::from_secs(3600)) {
                Ok(()) => {}
                Err(Stopped::Interrupted) => return Ok(()),
                Err(other) => return Err(other),
            }
        }
    }

    /// The end of Ringway's log, for when something failed.
    pub(super) fn show_log(&mut self) {
        let output = self.ringway.process.output();
        let lines: Vec<&str> = output.lines().collect();
        let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
        self.screen.say(&format!("\nThe end of Ringway's log:\n{}", indented(&last)));
    }

    fn check(&mut self, held: bool, text: &str) {
        if !held {
            self.failures += 1;
        }
        self.screen.check(held, text);
    }

    /// Lets time pass, and shows the table meanwhile.
    fn watch(&mut self, time: Duration) -> Result<(), Stopped> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            pause(self.interrupted, FRAME.min(end.saturating_duration_since(Instant::now())))?;
            if let Some(status) = self.ringway.process.ended()? {
                return Err(Stopped::Failed(format!("ringway run has ended with {status}")));
            }
            let now = Reading { at: Instant::now(), counts: self.tally.read(), packets: self.packets()? };
            let rows: Vec<Row> =
                BACKENDS.into_iter().zip(self.states.iter().copied()).filter(|(_, state)| !state.is_empty()).collect();
            if let Some(before) = self.readings.first() {
                self.screen.show(&rows, before, &now);
            }
            if self.readings.len() == WINDOW {
                self.readings.remove(0);
            }
            self.readings.push(now);
        }
        Ok(())
    }

    fn status(&self) -> Result<Value, Stopped> {
        self.ringway.get("/status").map_err(Stopped::Failed)
    }

    fn packets(&self) -> Result<Packets, Stopped> {
        let status = self.status()?;
        Packets::read(&status["ledger"]).ok_or_else(|| Stopped::Failed(format!("a status without a ledger: {status}")))
    }

    /// Runs a subcommand of this binary against the running instance.
    fn ringway(&self, arguments: &[&str]) -> Result<String, Stopped> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).arg("--config").arg(self.bed.config()).stdin(Stdio::null());
        let output = command.output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Stopped::Failed(format!("ringway {}: {}", arguments.join(" "), complaint.trim())))
    }
}

/// Sleeps, unless the user wants to end.
fn pause(interrupted: &AtomicBool, time: Duration) -> Result<(), Stopped> {
    let end = Instant::now() + time;
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Err(Stopped::Interrupted);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

fn percentages(counts: &Counts) -> String {
    let part = |name: &&str| format!("{name} {:.0} %", counts.share(name) * 100.0);
    let parts: Vec<String> = BACKENDS.iter().filter(|name| counts.of(name) > 0).map(part).collect();
    format!("{} of {} requests", parts.join(", "), counts.total())
}

fn failed(counts: &Counts) -> String {
    match (&counts.last_failure, counts.failed()) {
        (_, 0) => "no request failed".to_owned(),
        (last, _) => format!("{} requests failed; the last one: {}", counts.failed(), last.as_deref().unwrap_or("?")),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
