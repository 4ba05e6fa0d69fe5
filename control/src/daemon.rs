//! `ringway run`: the load balancer as a process.
//!
//! The order of the start: what can be refused without touching anything is checked first; then workers, then the
//! steering program with nothing to steer, then the first snapshot. The end goes the other way round: nothing is steered
//! any more, workers end and close their sockets, TAP devices and links go with their descriptors. Whatever the kernel
//! holds for us it takes back by itself when the process dies, so a kill leaves nothing behind either.

mod conditions;
mod descriptors;
mod doorway;
mod error;
mod health;
mod instance;
mod interfaces;
pub(crate) mod limits;
pub(crate) mod logging;
mod nic_settings;
mod nics;
mod packet_memory;
mod placement;
mod pod;
mod privileges;
pub mod reload;
mod signals;
mod start;
mod steering;
mod supervisor;
mod udp_hash;
mod workers;
pub(crate) mod writable;

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::{Config, SnatConfig};
use crate::network::{free_ports, nic};
use crate::source::Source;
use crate::watch::thread::Watch;
use crate::watch::{self, last};
pub(crate) use conditions::{Outlook, Predecessor};
pub use error::RunError;
pub use instance::{Instance, InstanceError};
pub use placement::{Device, Placement, PlacementError, allowed_cpus};
pub use privileges::{MissingPrivileges, check as check_privileges, take as take_privileges};
pub use workers::Workers;

use interfaces::lock;
pub(crate) use nic_settings::changed as changed_settings;
use nic_settings::{Changes, LeaveAsFound};
use reload::Reloader;
pub(crate) use start::check_name;
use start::{Listeners, Running};
use supervisor::Supervisor;

/// How often interfaces that could not be attached are tried again, and workers are looked after.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the load balancer until SIGTERM or SIGINT. `config` was read from `file`, which a reload reads anew.
pub fn run(config: Config, file: &Path) -> Result<(), RunError> {
    limits::check_first(&config)?;
    logging::start(&config.log)
        .map_err(|error| RunError::Log { filter: config.log.clone(), reason: error.to_string() })?;
    last::panics_end_the_process();
    let watch = Watch::start(watch::hearts()).map_err(RunError::start("the thread that watches"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("ringway-control")
        .enable_all()
        .build()
        .map_err(RunError::start("the control thread"))?;
    let result = runtime.block_on(serve(config, file, &watch));
    watch.end();
    // Nobody waits for what is still under way.
    runtime.shutdown_background();
    result
}

/// The signals that end a run.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    fn listen() -> std::io::Result<Self> {
        Ok(End { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: ending"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: ending"),
        }
    }
}

async fn serve(mut config: Config, file: &Path, watch: &Watch) -> Result<(), RunError> {
    // A signal during the start must end it as well, and cleanly.
    let mut end = End::listen().map_err(RunError::start("listening for signals"))?;
    let (supervisor, news) = Supervisor::of_environment();
    let reloader =
        Reloader::listen(file, &config, supervisor.clone()).map_err(RunError::start("listening for SIGHUP"))?;
    let _others = signals::survive_others().map_err(RunError::start("listening for signals"))?;
    pod::check()?;
    // What no machine can do comes first.
    let Some(source) = open(&config, &mut end).await? else { return Ok(()) };
    // Before anything that fails for want of privileges with a message of its own. How much memory is to be locked is
    // known later.
    privileges::check(0)?;
    let _instance = Instance::take(&config.state)?;
    // Whatever way this ends.
    let as_found = LeaveAsFound(Changes::read(&config.state));
    let listeners = Listeners::open(&config)?;
    let meanwhile = listeners.answer_meanwhile(watch)?;
    // Once the listeners have their ports.
    if let Some(warning) = choose_ports(&mut config.snat) {
        tracing::warn!("{warning}");
    }
    reloader.start_with(&config);
    let (mut running, publication) = tokio::select! {
        started = Running::start(&config, source, reloader, &as_found.0, watch) => match started {
            // A signal came before all devices were attached, and the others were left alone.
            Err(_) if watch.drivers.is_end() => {
                end.wait().await;
                return Ok(());
            }
            started => started?,
        },
        () = end.wait() => return Ok(()),
    };
    let (stop, stopped) = oneshot::channel();
    let health = running.source.clone();
    // Half a cluster must not be served as if it were all of it.
    let complete = async move { health.complete().await };
    let publishing = publication.start(complete, stopped).map_err(RunError::start("the thread that publishes"))?;
    meanwhile.end().await;
    let tasks = running.serve(listeners, &config, watch, news)?;
    let result = tokio::select! {
        () = end.wait() => Ok(()),
        died = running.follow() => Err(died),
    };
    watch.end();
    supervisor.stopping();
    // Nothing is answered and nothing published any more, then nothing is steered, then the workers end.
    drop(tasks);
    let _ = stop.send(());
    let _ = publishing.await;
    watch.drivers.have(running.interfaces.devices());
    tokio::task::block_in_place(|| {
        // Without the tags in their frames, those of any VLAN would be taken for untagged ones.
        let unsteered = running.interfaces.stop_steering();
        as_found.restore(&unsteered);
    });
    running.end();
    tracing::info!("ended");
    result
}

/// Takes all free ports when the configuration names none; what is to be said of that.
fn choose_ports(snat: &mut SnatConfig) -> Option<String> {
    if !snat.ports_are_free {
        return None;
    }
    let free = free_ports::all();
    if free.is_empty() {
        return Some(format!(
            "no port is free for masquerade: net.ipv4.ip_local_port_range leaves none; {} are taken all the same, and may \
             collide with the node's own connections; make that range narrower, or set snat.ports",
            snat.ports
        ));
    }
    snat.ports = free;
    None
}

/// Opens the source; `None` when a signal came first. A kubeconfig may name a program that gives the credentials, and that
/// may hang.
async fn open(config: &Config, end: &mut End) -> Result<Option<Source>, RunError> {
    let described = config.source.clone();
    let opening = tokio::spawn(async move { Source::open(&described).await });
    tokio::select! {
        opened = opening => {
            let opened = opened.map_err(std::io::Error::other).map_err(RunError::start("the source of objects"))?;
            Ok(Some(opened?))
        }
        () = end.wait() => Ok(None),
    }
}

/// Waits until something changes at a NIC: queues that somebody adds are to be polled at once.
async fn change(nics: &mut Option<nic::Changes>) {
    match nics {
        Some(nics) => drop(nics.next().await),
        None => std::future::pending().await,
    }
}

impl Running {
    /// Follows the network with attaching and detaching, and reloads for those who ask, until a worker dies.
    async fn follow(&mut self) -> RunError {
        let mut network = self.network.clone();
        // Where it cannot be had, ports are looked at every second.
        let mut nics = nic::Changes::listen().ok();
        loop {
            let known = network.borrow_and_update().clone();
            let complete = tokio::task::block_in_place(|| self.interfaces.follow(&known));
            loop {
                self.interfaces.heart.beat();
                if let Some(dead) = lock(&self.workers.handles).iter().find(|worker| !worker.is_running()) {
                    return RunError::WorkerDied(dead.id);
                }
                let event = tokio::select! {
                    asker = self.reloader.next() => {
                        self.reload(asker).await;
                        break;
                    }
                    () = change(&mut nics) => {
                        let anew = tokio::task::block_in_place(|| self.interfaces.look_at_once());
                        // However often something changes, what could not be done is tried again.
                        if anew || !complete { break } else { continue }
                    }
                    event = tokio::time::timeout(LOOK, network.changed()) => event,
                };
                match event {
                    Ok(Ok(())) => break,
                    Ok(Err(_)) => tokio::time::sleep(LOOK).await,
                    Err(_) if !complete => break,
                    // What was let go of is attached anew.
                    Err(_) if tokio::task::block_in_place(|| self.interfaces.look_after()) => break,
                    Err(_) => {}
                }
            }
        }
    }
}
