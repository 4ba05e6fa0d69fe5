//! Keeps what is drained: for this process, and in the state folder what shall outlive it.
//!
//! Who says that an endpoint is drained means the pod that has its address now. When no slice has named the address for a
//! while and then one does, that is another pod, which nobody drained.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringway_shared::snapshot::Services;
use tokio::sync::watch;

use super::{Drained, Target};
use crate::plain;
use crate::publish::Published;
use crate::watch::heart;

/// The file in the state folder: a target a line.
const FILE: &str = "drained";
/// The most that can be drained at once.
const MOST: usize = 4096;
/// An address that no slice named for so long is somebody else's when one names it again.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// One that is drained.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Whether it outlives this process.
    pub kept: bool,
    /// When it was drained, or read from the file.
    pub since: Instant,
    /// Since when no slice names it.
    absent: Option<Instant>,
}

/// All that are drained.
pub struct Keeper {
    file: PathBuf,
    all: Mutex<BTreeMap<Target, Drain>>,
    sender: watch::Sender<Arc<Drained>>,
}

impl Keeper {
    /// What the state folder `state` has from earlier processes.
    pub fn read(state: &Path) -> Arc<Self> {
        let file = state.join(FILE);
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!("{}: cannot read what is drained: {error}", plain::path(&file));
            }
            String::new()
        });
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match line.trim().parse::<Target>() {
                Ok(target) if all.len() < MOST => {
                    tracing::info!("{target} is drained, as it was when the last process ended");
                    all.insert(target, Drain { kept: true, since: Instant::now(), absent: None });
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("{}: {error}; the line is left out", plain::path(&file)),
            }
        }
        let (sender, _) = watch::channel(Arc::new(all.keys().copied().collect()));
        Arc::new(Keeper { file, all: Mutex::new(all), sender })
    }

    /// What is drained, as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Drained>> {
        self.sender.subscribe()
    }

    /// All of them.
    pub fn list(&self) -> Vec<(Target, Drain)> {
        self.lock().iter().map(|(target, drain)| (*target, *drain)).collect()
    }

    /// Drains `targets`, also for processes that follow if they are to be kept.
    pub fn drain(&self, targets: &[Target], keep: bool) -> Result<(), String> {
        self.change(|all| {
            for target in targets {
                let new = || Drain { kept: keep, since: Instant::now(), absent: None };
                all.entry(*target).or_insert_with(new).kept |= keep;
            }
            if all.len() > MOST {
                return Err(format!(
                    "{} endpoints would be drained, and {MOST} are the most; undrain others",
                    all.len()
                ));
            }
            Ok(())
        })
    }

    /// Takes `targets` back: an address with all that is drained of it.
    pub fn undrain(&self, targets: &[Target]) -> Result<(), String> {
        self.change(|all| {
            for target in targets {
                let before = all.len();
                all.retain(|drained, _| match target.port {
                    None => drained.address != target.address,
                    Some(_) => drained != target,
                });
                if all.len() == before {
                    let whole = Target { port: None, ..*target };
                    return Err(match target.port {
                        Some(_) if all.contains_key(&whole) => {
                            format!("{target} is drained with all ports of its address; write ringway undrain {whole}")
                        }
                        _ => format!("{target} is not drained; ringway drain --list says what is"),
                    });
                }
            }
            Ok(())
        })
    }

    /// Takes all of them back.
    pub fn undrain_all(&self) -> Result<(), String> {
        self.change(|all| {
            all.clear();
            Ok(())
        })
    }

    /// Follows which endpoints there are, and forgets those that are others by now.
    pub async fn follow(self: Arc<Self>, mut published: watch::Receiver<Arc<Published>>) {
        let heart = heart("drained endpoints");
        while heart.waiting(published.changed()).await.is_ok() {
            let now = published.borrow_and_update().clone();
            if now.ready {
                self.look(&now.snapshot.services, Instant::now());
            }
        }
        heart.waiting(std::future::pending()).await
    }

    fn look(&self, services: &Services, now: Instant) {
        let known = self.list();
        if known.is_empty() {
            return;
        }
        let mut absent: BTreeMap<Target, ()> = known.iter().map(|(target, _)| (*target, ())).collect();
        for endpoint in services.service_ports.iter().flatten().flat_map(|port| port.endpoints.iter()) {
            if absent.is_empty() {
                break;
            }
            let (address, port) = (endpoint.backend.address, endpoint.backend.port);
            absent.remove(&Target { address, port: None });
            absent.remove(&Target { address, port: Some(port) });
        }
        let mut others = Vec::new();
        for (target, drain) in self.lock().iter_mut() {
            if absent.contains_key(target) {
                drain.absent.get_or_insert(now);
            } else if drain.absent.is_some_and(|since| now.saturating_duration_since(since) >= FORGOTTEN) {
                // What cannot be forgotten now is tried again when endpoints change.
                others.push(*target);
            } else {
                drain.absent = None;
            }
        }
        if others.is_empty() {
            return;
        }
        // Each alone: an address and one of its ports may both be among them, or only one.
        let forgotten = self.change(|all| {
            all.retain(|target, _| !others.contains(target));
            Ok(())
        });
        match forgotten {
            Ok(()) => others.iter().for_each(|target| {
                tracing::info!(
                    "{target} is not drained any more: it was gone for a while, and is another endpoint now"
                );
            }),
            Err(error) => tracing::warn!(
                "{others} other endpoints than those that were drained are drained still: {error}",
                others = others.len()
            ),
        }
    }

    /// Changes what is drained, in the file first: what cannot be written down does not come into force.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<Target, Drain>) -> Result<(), String>) -> Result<(), String> {
        let mut all = self.lock();
        let mut wanted = all.clone();
        change(&mut wanted)?;
        let kept = |all: &BTreeMap<Target, Drain>| -> Vec<Target> {
            all.iter().filter(|(_, drain)| drain.kept).map(|(target, _)| *target).collect()
        };
        let (before, now) = (kept(&all), kept(&wanted));
        if before != now {
            write(&self.file, &now).map_err(|error| {
                format!(
                    "cannot write {}: {error}; nothing was changed: make the state folder writable, or do without --keep",
                    plain::path(&self.file)
                )
            })?;
        }
        *all = wanted;
        self.sender.send_replace(Arc::new(all.keys().copied().collect()));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Target, Drain>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes beside the file first, so that it is whole at any moment.
fn write(file: &Path, kept: &[Target]) -> io::Result<()> {
    if kept.is_empty() {
        return match std::fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let new = file.with_extension("new");
    std::fs::write(&new, kept.iter().map(|target| format!("{target}\n")).collect::<String>())?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterState;
    use crate::compile::{CompileOptions, Memory, compile};
    use crate::parse::Document;
    use crate::source::manifest;

    fn targets(texts: &[&str]) -> Vec<Target> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn listed(keeper: &Keeper) -> String {
        let all = keeper.list();
        all.iter().map(|(target, drain)| format!("{target}{} ", if drain.kept { "!" } else { "" })).collect()
    }

    #[test]
    fn what_is_kept_outlives_the_process_and_the_rest_does_not() {
        let state = tempfile::tempdir().unwrap();
        let keeper = Keeper::read(state.path());
        keeper.drain(&targets(&["10.0.0.1:80", "10.0.0.2"]), false).unwrap();
        keeper.drain(&targets(&["10.0.0.2", "[fd00::1]:80"]), true).unwrap();
        assert_eq!(listed(&keeper), "10.0.0.1:80 10.0.0.2! [fd00::1]:80! ");
        assert!(keeper.watch().borrow().has("10.0.0.2".parse().unwrap(), 9));
        let next = Keeper::read(state.path());
        assert_eq!(listed(&next), "10.0.0.2! [fd00::1]:80! ");
        next.undrain(&targets(&["10.0.0.2"])).unwrap();
        assert_eq!(listed(&Keeper::read(state.path())), "[fd00::1]:80! ");
        next.undrain_all().unwrap();
        assert!(!state.path().join(FILE).exists());
    }

    #[test]
    fn a_line_that_names_no_endpoint_is_left_out() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(FILE), "rubbish\n\n10.0.0.1:80\n").unwrap();
        assert_eq!(listed(&Keeper::read(state.path())), "10.0.0.1:80! ");
    }

    #[test]
    fn what_cannot_be_written_down_or_is_not_drained_changes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let keeper = Keeper::read(&state.path().join("nowhere"));
        let error = keeper.drain(&targets(&["10.0.0.1"]), true).unwrap_err();
        assert!(error.starts_with("cannot write ") && error.contains("nothing was changed"), "{error}");
        assert_eq!(listed(&keeper), "");
        keeper.drain(&targets(&["10.0.0.1"]), false).unwrap();
        assert_eq!(
            keeper.undrain(&targets(&["10.0.0.1:80"])).unwrap_err(),
            "10.0.0.1:80 is drained with all ports of its address; write ringway undrain 10.0.0.1"
        );
        assert_eq!(
            keeper.undrain(&targets(&["10.0.0.1", "10.0.0.2"])).unwrap_err(),
            "10.0.0.2 is not drained; ringway drain --list says what is"
        );
        assert_eq!(listed(&keeper), "10.0.0.1 ", "all of it or nothing");
        let many: Vec<Target> =
            (0..MOST as u32).map(|n| Target { address: std::net::Ipv4Addr::from(n).into(), port: None }).collect();
        assert!(keeper.drain(&many, false).unwrap_err().contains("4096 are the most"));
        assert_eq!(listed(&keeper), "10.0.0.1 ");
    }

    fn services(endpoints: &str) -> Services {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{clusterIP: 172.30.0.1, ports: [{{port: 80}}]}}}}\n---\n\
             {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: web, labels: {{kubernetes.io/service-name: web}}}},\n\
             addressType: IPv4, ports: [{{port: 80}}], endpoints: [{endpoints}]}}"
        );
        let mut cluster = ClusterState::default();
        for document in manifest::read(&text).documents {
            let Document::Taken(parsed) = document else { panic!("{document:?}") };
            cluster.apply(parsed, None);
        }
        compile(&cluster, &CompileOptions::default(), &mut Memory::new()).services
    }

    #[test]
    fn an_address_that_comes_back_after_a_while_is_another_endpoint() {
        let state = tempfile::tempdir().unwrap();
        let keeper = Keeper::read(state.path());
        keeper.drain(&targets(&["10.0.0.1:80", "10.0.0.2"]), true).unwrap();
        let (both, second) =
            (services("{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}"), services("{addresses: [10.0.0.2]}"));
        let begin = Instant::now();
        keeper.look(&both, begin);
        keeper.look(&second, begin);
        keeper.look(&both, begin + FORGOTTEN - Duration::from_secs(1));
        assert_eq!(listed(&keeper), "10.0.0.1:80! 10.0.0.2! ", "a slice that was written anew");
        keeper.look(&second, begin + FORGOTTEN);
        keeper.look(&second, begin + 2 * FORGOTTEN);
        assert_eq!(listed(&keeper), "10.0.0.1:80! 10.0.0.2! ");
        keeper.look(&both, begin + 2 * FORGOTTEN);
        assert_eq!(listed(&keeper), "10.0.0.2! ");
        assert_eq!(listed(&Keeper::read(state.path())), "10.0.0.2! ");
    }

    #[test]
    fn an_address_and_a_port_of_it_are_both_forgotten_and_what_cannot_be_is_tried_again() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("there");
        std::fs::create_dir(&folder).unwrap();
        let keeper = Keeper::read(&folder);
        keeper.drain(&targets(&["10.0.0.1", "10.0.0.1:80", "10.0.0.1:90"]), true).unwrap();
        let (both, second) =
            (services("{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}"), services("{addresses: [10.0.0.2]}"));
        let begin = Instant::now();
        keeper.look(&second, begin);
        // Nothing can be written to the state folder for a while.
        let away = state.path().join("away");
        std::fs::rename(&folder, &away).unwrap();
        keeper.look(&both, begin + FORGOTTEN);
        assert_eq!(listed(&keeper), "10.0.0.1! 10.0.0.1:80! 10.0.0.1:90! ");
        std::fs::rename(&away, &folder).unwrap();
        keeper.look(&both, begin + FORGOTTEN);
        assert_eq!(listed(&keeper), "10.0.0.1:90! ");
        assert_eq!(listed(&Keeper::read(&folder)), "10.0.0.1:90! ");
    }
}
