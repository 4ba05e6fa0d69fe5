//! The conditions of a start: all that is looked at before anything is touched. `run` ends at the first that is not met, `check`
//! tells all, by the same functions. Each calls them by itself, in the same order: what is added to one is to be added to the
//! other. What an attempt alone can show, `check` names as not tested.

use std::path::Path;

use ringway_dataplane::af_xdp::{Device as KernelDevice, DeviceError, RingSizes, Tap, UmemLayout};
use ringway_dataplane::config::port_share;
use ringway_shared::Network;
use ringway_shared::network::Interface;

use super::error::RunError;
use super::interfaces::fit::{Looked, Terms, Unfit};
use super::placement::{Device, Placement, allowed_cpus};
use super::start::{Listeners, check_name};
use super::workers::{ports_per_worker, share_of};
use super::{choose_ports, instance, limits, logging, packet_memory, pod, privileges};
use crate::config::{Config, Poll};
use crate::network::listing::Listing;

/// What the machine makes of the configuration.
pub(super) struct Plan {
    pub(super) placement: Placement,
    /// The packet memory of each worker.
    pub(super) memory: UmemLayout,
    /// The rings of a port, as a rule.
    pub(super) rings: RingSizes,
    size: limits::Size,
}

impl Plan {
    /// Places workers for the interfaces of a network, if all that are named are there.
    pub(super) fn make(config: &Config, network: &Network) -> Result<Self, RunError> {
        if let Some(error) = unlisted(config, network).next() {
            return Err(error);
        }
        let devices = devices(config, network)?;
        let placement = Placement::new(&devices, config.workers.cpus.as_deref(), &allowed_cpus())?;
        let queues: Vec<u32> = devices.iter().map(|device| device.rx).collect();
        let ports = ports_per_worker(config, &queues, placement.workers());
        let shares = devices.iter().map(|device| (&*device.name, share_of(device.rx, placement.workers())));
        let memory = packet_memory::layout(config, network, ports, &shares.collect());
        let workers = placement.workers() as u64;
        let packets = u64::from(memory.frames) * u64::from(memory.chunk_size) * workers;
        let size = limits::Size { workers, packets, ports: workers * u64::from(ports) };
        Ok(Plan { placement, memory, rings: packet_memory::usual(ports), size })
    }

    /// What this process may do.
    pub(super) fn check_privileges(&self) -> Result<(), RunError> {
        Ok(privileges::check(self.size.packets)?)
    }

    /// The limits of this process, and the SNAT ports.
    pub(super) fn check_limits(&self, config: &Config) -> Result<(), RunError> {
        limits::check(config, self.size)?;
        let (workers, count) = (self.placement.workers(), self.placement.workers() as u16);
        match (0..count).all(|worker| port_share(&config.snat.ports, worker, count).is_some()) {
            true => Ok(()),
            false => Err(RunError::TooFewPorts { workers, ports: config.snat.ports.to_string() }),
        }
    }

    /// Looks at all devices before anything is done to one: a start that ends for one of them has touched none.
    pub(super) fn look(&self, config: &Config, network: &Network) -> Result<(), RunError> {
        let (terms, listing) = (self.terms(config), Listing::read().unwrap_or_default());
        let looked = Looked::at(&config.interfaces, network, |device, wanted| {
            terms.look_at(device, wanted, |index| listing.has_program(index)).map(drop)
        });
        let obstacle = looked.unfit().find(|(.., ends)| *ends);
        obstacle.map_or(Ok(()), |(name, why, _)| {
            Err(RunError::Attach { interface: name.to_owned(), reason: why.to_owned() })
        })
    }

    fn terms(&self, config: &Config) -> Terms<'_> {
        Terms { placement: &self.placement, memory: self.memory, busy_poll: config.workers.poll == Poll::Busy }
    }
}

/// Interfaces that are named, not meant by a glob, and are not there or are not fit for it.
pub(super) fn unlisted<'a>(config: &'a Config, network: &'a Network) -> impl Iterator<Item = RunError> + 'a {
    let named = config.interfaces.iter().enumerate().filter(|(_, listed)| !listed.name.is_glob());
    named.filter_map(|(place, listed)| {
        let name = listed.name.as_str();
        // Of a configured network nothing is known of what carries it.
        let is_carried = |interface: &Interface| interface.index == 0 || !interface.lowers.devices.is_empty();
        match network.interfaces().iter().find(|interface| &*interface.name == name) {
            Some(interface) if is_carried(interface) => return None,
            Some(interface) if !interface.lowers.notes.is_empty() => {
                let why = interface.lowers.notes.join("; ");
                return Some(RunError::Unfit { place, name: name.to_owned(), why });
            }
            _ => {}
        }
        let why = "went away while Ringway started; start it again".to_owned();
        let gone = || RunError::Unfit { place, name: name.to_owned(), why };
        Some(check_name(place, &listed.name).map_or_else(|error| error, |()| gone()))
    })
}

/// The devices that carry the interfaces, each once: their queues are what workers poll. One that is gone meanwhile is left out where
/// only globs mean what it carries.
fn devices(config: &Config, network: &Network) -> Result<Vec<Device>, RunError> {
    let mut names: Vec<(&str, bool)> = Vec::new();
    for interface in network.interfaces() {
        let is_named = config.interfaces.iter().any(|listed| listed.name.as_str() == &*interface.name);
        let lowers = interface.lowers.devices.iter().map(|lower| &*lower.name);
        // Of a configured network nothing is known of what carries it.
        let itself = interface.lowers.devices.is_empty().then_some(&*interface.name);
        names.extend(lowers.chain(itself).map(|name| (name, is_named)));
    }
    // Of each device what names it comes first.
    names.sort_unstable_by_key(|&(name, is_named)| (name, !is_named));
    names.dedup_by_key(|(name, _)| *name);
    let mut devices = Vec::new();
    for (name, is_named) in names {
        let read = || {
            let device = KernelDevice::by_name(name)?;
            let queues = device.queues()?;
            Ok(Device::read("/sys".as_ref(), &device.name, device.index, queues))
        };
        match read() {
            Err(DeviceError::Missing { .. }) if !is_named => {}
            result => devices.push(result?),
        }
    }
    Ok(devices)
}

/// An instance that runs already: what it has is no obstacle to one that takes its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Predecessor {
    /// The devices that it is attached to, if it could be asked.
    pub(crate) devices: Option<Vec<String>>,
}

/// What a start here would find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// Why `run` would not start, in the words that it would end with.
    pub(crate) unmet: Vec<String>,
    /// What it would go on without.
    pub(crate) notes: Vec<String>,
    /// What was not tested, and why.
    pub(crate) untested: Vec<String>,
}

/// What cannot be known without doing it.
const UNTESTED: [&str; 3] = [
    "whether the kernel takes the steering program",
    "whether drivers take native XDP and zero-copy as they are set now (an attempt alone shows that, and resets some NICs)",
    "whether another process has an AF_XDP socket on a queue, where the kernel does not tell (before Linux 6.15)",
];

/// The links of this machine that are meant, and what is to be done with them; or everything that is in the way of that.
fn planned(config: &Config) -> Result<(Network, Plan), Vec<String>> {
    let listing = Listing::read()
        .map_err(|error| vec![format!("the kernel does not tell of its links over netlink: {error}")])?;
    let patterns = config.interfaces.iter().map(|listed| listed.name.clone()).collect();
    let network = listing.network(patterns);
    let unlisted: Vec<String> = unlisted(config, &network).map(|error| error.to_string()).collect();
    if !unlisted.is_empty() {
        return Err(unlisted);
    }
    let plan = Plan::make(config, &network).map_err(|error| vec![error.to_string()])?;
    Ok((network, plan))
}

/// What `run` would go on without. A module that is not loaded yet would be loaded by an attempt, so that is not made.
fn look_at_tun() -> Option<String> {
    let is_registered = Path::new("/sys/class/misc/tun").exists();
    let found = if is_registered || !Path::new("/dev/net/tun").exists() { Tap::look() } else { Ok(()) };
    found.err().map(|error| format!("packets that are not ours but reach a worker are lost: {error}"))
}

impl Outlook {
    /// Looks at this machine, whose interfaces are those of `config`; nothing is touched. `predecessor`: who answers on the admin
    /// socket.
    pub(crate) fn of(config: &Config, predecessor: Option<&Predecessor>) -> Self {
        let mut outlook = Outlook { untested: UNTESTED.map(str::to_owned).to_vec(), ..Outlook::default() };
        let mut config = config.clone();
        outlook.take(limits::check_first(&config).map_err(RunError::from));
        let filter = logging::parse(&config.log).map(drop);
        outlook.take(filter.map_err(|error| RunError::Log { filter: config.log.clone(), reason: error.to_string() }));
        outlook.take(pod::check());
        outlook.take_files(instance::look(&config.state).map_err(RunError::from));
        outlook.notes.extend(look_at_tun());
        let holder = instance::holder_of(&config.state);
        match (predecessor, holder) {
            (None, None) => outlook.take_files(Listeners::look(&config)),
            (_, holder) => {
                let pid = holder.map_or_else(String::new, |pid| format!(" (process {pid})"));
                outlook
                    .notes
                    .push(format!("an instance runs already{pid}; another start would have to wait for its end"));
                outlook.untested.push("whether the addresses of admin are free: an instance runs".to_owned());
            }
        }
        outlook.notes.extend(choose_ports(&mut config.snat));
        match planned(&config) {
            Ok((network, plan)) => {
                outlook.take_privileges(plan.check_privileges());
                outlook.take(plan.check_limits(&config));
                outlook.take_devices(&config, &network, &plan, predecessor);
            }
            Err(unmet) => {
                outlook.unmet.extend(unmet);
                // How much memory is to be locked is not known.
                outlook.take_privileges(privileges::check(0).map_err(RunError::from));
            }
        }
        outlook
    }

    fn take(&mut self, result: Result<(), RunError>) {
        self.unmet.extend(result.err().map(|error| error.to_string()));
    }

    /// Whoever checks need not be who runs it, and may have fewer rights.
    fn take_files(&mut self, result: Result<(), RunError>) {
        match result {
            Err(error) if error.is_denied() && !rustix::process::geteuid().is_root() => {
                self.untested.push(format!("files of whoever runs it: as this user it would be {error}"));
            }
            result => self.take(result),
        }
    }

    /// The same of what is allowed.
    fn take_privileges(&mut self, result: Result<(), RunError>) {
        let Err(error) = result else { return };
        match rustix::process::geteuid().is_root() {
            true => self.unmet.push(error.to_string()),
            false => self.untested.push(format!("whether it may: as this user it would be {error}")),
        }
    }

    fn take_devices(&mut self, config: &Config, network: &Network, plan: &Plan, predecessor: Option<&Predecessor>) {
        let (terms, listing) = (plan.terms(config), Listing::read().unwrap_or_default());
        let looked = Looked::at(&config.interfaces, network, |device, wanted| {
            let ours = predecessor
                .is_some_and(|other| other.devices.as_ref().is_none_or(|devices| devices.contains(&device.name)));
            let found = terms.look_at(device, wanted, |index| !ours && listing.has_program(index))?;
            // An attempt shows it, and what an attempt shows ends no start while there is something else to attach to.
            let held = || if ours { None } else { found.held(device) };
            found.doubt(device, wanted).or_else(held).map_or(Ok(()), |why| Err(Unfit::for_now(why)))
        });
        if predecessor.is_some_and(|other| other.devices.is_none()) {
            let text = "whether another XDP program is attached: the instance that runs does not say which are its own";
            self.untested.push(text.to_owned());
        }
        for (name, why, ends) in looked.unfit() {
            match ends {
                true => self.unmet.push(format!("{name}: {why}")),
                false => self.notes.push(format!("{name}: {why}; ringway run goes on without it, and tries again")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ringway_shared::network::Lowers;
    use ringway_shared::{InterfaceId, MacAddress};

    use super::*;
    use crate::config::{InterfaceConfig, InterfacePattern, RssMode, XdpMode, ZeroCopy};

    #[test]
    fn a_device_that_went_away_ends_a_start_only_where_it_is_named() {
        let interface = |id, name: &str, index, carrier: &str| Interface {
            id: InterfaceId(id),
            name: name.into(),
            index,
            mac: MacAddress([2; 6]),
            mtu: 1500,
            addresses: Vec::new(),
            up: true,
            lowers: Lowers::itself(index, carrier.into()),
        };
        let read = |names: &[&str]| {
            let listed = |name: &&str| InterfaceConfig {
                name: InterfacePattern::parse(name).unwrap(),
                xdp: XdpMode::Auto,
                zero_copy: ZeroCopy::Auto,
                rss: RssMode::Auto,
            };
            let config = Config { interfaces: names.iter().map(listed).collect(), ..Config::default() };
            let network =
                Network::new(1, vec![interface(0, "lo", 1, "lo"), interface(1, "rwgone7", 7, "rwgone7")], [], []);
            let found = devices(&config, &network);
            found.map(|found| found.into_iter().map(|device| device.name).collect::<Vec<_>>())
        };
        assert_eq!(read(&["rwgone*"]).unwrap(), ["lo"]);
        for named in [&["rwgone7"] as &[&str], &["rwgone*", "rwgone7"]] {
            let error = read(named).unwrap_err().to_string();
            assert!(error.contains("rwgone7"), "{error}");
        }
    }
}
