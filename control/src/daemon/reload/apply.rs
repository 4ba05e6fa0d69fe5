//! Putting a checked configuration in force.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::Device as KernelDevice;
use ringway_dataplane::worker::{Question, ask_all};

use super::{Loaded, Plan, Running};
use crate::compile::CompileOptions;
use crate::config::keys::Fate;
use crate::config::{AdminConfig, Config, InterfacePattern};
use crate::daemon::doorway::{self, Move};
use crate::daemon::logging;
use crate::network::listing::Listing;
use crate::publish::{PublishOptions, Resetting};
use crate::report::configuration::{Over, ReloadReport};

/// How long one step may take to be in force. A worker takes microseconds, a large cluster a second.
const STEP: Duration = Duration::from_secs(5);
/// How long interfaces may be tried, one after the other, until the answer says of the others that they wait for their turn.
const TRIED: Duration = Duration::from_secs(5);

/// What could not be done, each with when it is done all the same.
#[derive(Default)]
struct Problems {
    texts: Vec<String>,
    over: Vec<Over>,
}

impl Problems {
    fn add(&mut self, text: String, over: Over) {
        self.texts.push(text);
        self.over.push(over);
    }

    fn push(&mut self, text: String) {
        self.add(text, Over::Reloaded);
    }
}

impl Running {
    /// Puts in force what the plan says.
    pub(super) async fn take(&mut self, loaded: &Loaded, plan: Plan) -> ReloadReport {
        let Plan { changes, mut config, log, healthz, metrics, socket } = plan;
        let running = &loaded.config;
        let mut problems = Problems::default();
        if let Some(filter) = log
            && let Err(error) = logging::set(filter)
        {
            problems.push(format!("log: {error}"));
            config.log.clone_from(&running.log);
        }
        // No step may take as long as a loop may be silent.
        self.interfaces.heart.beat();
        self.take_settings(running, &mut config, &mut problems).await;
        self.interfaces.heart.beat();
        self.take_interfaces(running, &config, &mut problems).await;
        self.interfaces.heart.beat();
        let (old, new) = (running.admin.clone(), &mut config.admin);
        self.take_addresses(&old, new, healthz, metrics, &mut problems).await;
        if let (Some(moving), Some((listener, file))) = (&self.reloader.moving, socket) {
            // It fails only when the process ends. Whoever asks now gets the answer over the old socket still.
            let _ = moving.socket.send(Some(listener)).await;
            self.socket = Some(file);
        }
        let restarts = changes.iter().filter(|change| change.fate == Fate::Restart).count();
        tracing::debug!("{} changes, {restarts} of them for a restart", changes.len());
        self.reloader.note(|loaded| loaded.config = Arc::new(config));
        let Problems { texts: problems, over } = problems;
        ReloadReport { file: loaded.file.display().to_string(), changes, problems, over }
    }

    /// What publishing and workers know. Addresses that masqueraded flows get are steered before a flow gets one.
    async fn take_settings(&mut self, running: &Config, config: &mut Config, problems: &mut Problems) {
        let options = |config: &Config| PublishOptions {
            compile: CompileOptions::from_config(config),
            snat_addresses: config.snat.addresses.clone(),
        };
        let (before, now) = (options(running), options(config));
        let snat_changed = before.snat_addresses != now.snat_addresses;
        if before.compile != now.compile || snat_changed {
            let mut number = 0;
            self.reloader.resettings.send_modify(|last| {
                number = last.as_ref().map_or(0, |last| last.number) + 1;
                *last = Some(Resetting { number, options: now });
            });
            // Before the first full list there is nothing to wait for.
            let mut published = self.published.clone();
            if published.borrow().ready {
                let taken = published.wait_for(|published| published.settings >= number && published.in_force);
                let taken = tokio::time::timeout(STEP, async { taken.await.is_ok() });
                if self.interfaces.wait_for(taken).await != Ok(true) {
                    let seconds = STEP.as_secs();
                    let text = format!("node, services and snat were not in force on all workers after {seconds} s");
                    problems.add(text, Over::InForce(number));
                }
            }
        }
        let rescue_changed = running.flows.syn_rescue != config.flows.syn_rescue;
        if running.flows.timeouts == config.flows.timeouts && !snat_changed && !rescue_changed {
            return;
        }
        let settings = config.settings();
        let workers = self.workers.handles.clone();
        // A signal must end the process even while a worker does not answer.
        let setting = tokio::task::spawn_blocking(move || {
            let answers = ask_all(&workers, |_| Some(Question::set(settings.clone())), || ());
            answers.into_iter().filter_map(|(_, answer)| Some(answer.err()?.to_string())).collect::<Vec<String>>()
        });
        let failures = self.interfaces.wait_for(setting).await.unwrap_or_else(|error| vec![error.to_string()]);
        if !failures.is_empty() {
            // The next reload tries again.
            config.flows.timeouts = running.flows.timeouts;
            config.flows.syn_rescue = running.flows.syn_rescue;
            config.snat.addresses.clone_from(&running.snat.addresses);
        }
        failures
            .iter()
            .for_each(|error| problems.push(format!("flows.timeouts, flows.synRescue and snat.addresses: {error}")));
    }

    async fn take_interfaces(&mut self, running: &Config, config: &Config, problems: &mut Problems) {
        if running.interfaces == config.interfaces {
            return;
        }
        self.interfaces.list(config.interfaces.clone());
        let patterns: Vec<_> = config.interfaces.iter().map(|listed| listed.name.clone()).collect();
        self.patterns.send_replace(patterns.clone());
        let meant = |name: &str| patterns.iter().any(|pattern| pattern.matches(name));
        // What a glob means is asked here: whoever follows the kernel's links may show them a moment later.
        let fixed = config.network.is_some();
        let there = || if fixed { BTreeSet::new() } else { self::meant(&patterns) };
        let expected = there();
        let mut network = self.network.clone();
        let followed = network.wait_for(|network| {
            let present = |name: &str| network.interfaces().iter().any(|i| i.index != 0 && &*i.name == name);
            let gone = network.interfaces().iter().all(|i| i.index == 0 || meant(&i.name));
            let named = patterns.iter().filter(|p| !p.is_glob() && is_new(running, p)).all(|p| present(p.as_str()));
            // A link may be gone again by now.
            gone && named && (expected.iter().all(|name| present(name)) || there().iter().all(|name| present(name)))
        });
        let followed = tokio::time::timeout(STEP, async { followed.await.map(|known| known.clone()) });
        let mut known = match self.interfaces.wait_for(followed).await {
            Ok(Ok(known)) => known,
            _ => {
                problems.push(format!("interfaces: the kernel did not show them within {} s", STEP.as_secs()));
                return;
            }
        };
        let until = Instant::now() + TRIED;
        tokio::task::block_in_place(|| {
            self.interfaces.follow_until(&known, until);
            // Those that a glob means give way to what has changed meanwhile.
            while self.interfaces.has_untried() && Instant::now() < until {
                known = self.network.borrow().clone();
                self.interfaces.follow_until(&known, until);
            }
        });
        for (name, why) in self.interfaces.failures() {
            let named = patterns.iter().any(|pattern| pattern.as_str() == name);
            // A link that went meanwhile is tried again by nobody.
            if !named && KernelDevice::by_name(name).is_err() {
                continue;
            }
            problems.add(format!("{name} is not attached, and is tried again: {why}"), Over::Attached(name.to_owned()));
        }
    }

    async fn take_addresses(
        &mut self,
        old: &AdminConfig,
        new: &mut AdminConfig,
        healthz: doorway::Prepared,
        metrics: doorway::Prepared,
        problems: &mut Problems,
    ) {
        let Some(moving) = &self.reloader.moving else { return };
        let moves = vec![
            Move { key: "admin.healthz", old: old.healthz, prepared: healthz, door: &moving.healthz },
            Move { key: "admin.metrics", old: old.metrics, prepared: metrics, door: &moving.metrics },
        ];
        for (key, error) in doorway::take(moves).await {
            problems.push(error.to_string());
            match key {
                "admin.healthz" => new.healthz = old.healthz,
                _ => new.metrics = old.metrics,
            }
        }
    }
}

fn is_new(running: &Config, pattern: &InterfacePattern) -> bool {
    !running.interfaces.iter().any(|kept| kept.name == *pattern)
}

/// The interfaces that are meant and could be attached to, as the kernel has them now.
fn meant(patterns: &[InterfacePattern]) -> BTreeSet<String> {
    let network = Listing::read().map(|listing| listing.network(patterns.to_vec()));
    // A kernel that cannot be asked is waited for by nobody.
    let names = network.iter().flat_map(|network| network.interfaces()).map(|interface| interface.name.to_string());
    names.collect()
}
