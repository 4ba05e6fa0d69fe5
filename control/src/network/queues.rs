//! How lower devices choose the queue of a packet: asked of their drivers, and followed as it changes.
//!
//! By a task of its own, since a driver may take its time. The kernel tells of a changed key or table from 6.19 on, of changed
//! hash fields never; so everything is looked at every few seconds, too.

use std::sync::{Arc, Mutex, PoisonError};

use ringway_shared::network::rss::{FieldsByPacket, HashedFields, Rss, RssSettings};
use ringway_shared::network::{Interface, QueueChoice};
use ringway_shared::{Family, Protocol};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::nic::{Changes, HashFields, HashFunction, Hashed, Nic, NicError, flow_hash};
use crate::watch::heart;

/// Lower devices: ifindex and name.
type Devices = Arc<[(u32, Arc<str>)]>;
/// How each chooses, by ifindex.
type Choices = Arc<[(u32, QueueChoice)]>;

/// The kinds of packets whose hash fields a driver tells.
const KINDS: [(Hashed, Family, Protocol); 6] = [
    (Hashed::Tcp4, Family::V4, Protocol::Tcp),
    (Hashed::Tcp6, Family::V6, Protocol::Tcp),
    (Hashed::Udp4, Family::V4, Protocol::Udp),
    (Hashed::Udp6, Family::V6, Protocol::Udp),
    (Hashed::Sctp4, Family::V4, Protocol::Sctp),
    (Hashed::Sctp6, Family::V6, Protocol::Sctp),
];

/// The choices of all lower devices, kept up to date until this is dropped.
pub(super) struct Queues {
    devices: watch::Sender<Devices>,
    choices: watch::Receiver<Choices>,
    task: JoinHandle<()>,
}

impl Drop for Queues {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Queues {
    /// Asks in the calling thread's network namespace.
    pub(super) fn follow() -> Self {
        let (devices, wanted) = watch::channel(Devices::default());
        let (told, choices) = watch::channel(Choices::default());
        let reader = Reader { nic: Nic::open(), known: Vec::new() };
        Queues { devices, choices, task: tokio::spawn(run(reader, Changes::listen().ok(), wanted, told)) }
    }

    /// Waits until a device chooses in another way.
    pub(super) async fn changed(&mut self) {
        if self.choices.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How the devices below these interfaces choose, as far as they were asked; from now on they are.
    pub(super) fn of(&mut self, interfaces: &[Interface]) -> Vec<(u32, QueueChoice)> {
        let lowers = interfaces.iter().flat_map(|interface| interface.lowers.devices.iter());
        let mut devices: Vec<_> = lowers.map(|lower| (lower.index, lower.name.clone())).collect();
        devices.sort();
        devices.dedup();
        let choices = self.choices.borrow_and_update();
        let known = choices.iter().filter(|(index, _)| devices.iter().any(|(other, _)| other == index));
        let known = known.cloned().collect();
        self.devices.send_if_modified(|before| {
            let differs = **before != *devices;
            if differs {
                *before = devices.into();
            }
            differs
        });
        known
    }
}

async fn run(
    reader: Reader,
    mut changes: Option<Changes>,
    mut wanted: watch::Receiver<Devices>,
    told: watch::Sender<Choices>,
) {
    let reader = Arc::new(Mutex::new(reader));
    let heart = heart("queues of NICs");
    loop {
        heart.beat();
        let devices = wanted.borrow_and_update().clone();
        let asking = reader.clone();
        let read = spawn_blocking(move || asking.lock().unwrap_or_else(PoisonError::into_inner).read(&devices));
        let Ok(choices) = heart.waiting(read).await else { return };
        told.send_if_modified(|before| {
            let differs = **before != *choices;
            if differs {
                *before = choices;
            }
            differs
        });
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            _ = next(&mut changes) => {}
            () = heart.rest() => {}
        }
    }
}

async fn next(changes: &mut Option<Changes>) -> Option<u32> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// Asks drivers.
struct Reader {
    nic: Result<Nic, NicError>,
    // What was computed lately: devices that do the same share it, and what does not change stays the same.
    known: Vec<Arc<Rss>>,
}

impl Reader {
    fn read(&mut self, devices: &[(u32, Arc<str>)]) -> Choices {
        let choices: Choices = devices.iter().map(|(index, name)| (*index, self.choice(name))).collect();
        self.known.retain(|rss| Arc::strong_count(rss) > 1);
        choices
    }

    fn choice(&mut self, name: &str) -> QueueChoice {
        let settings = match self.settings(name) {
            Ok(settings) => settings,
            Err(why) => return QueueChoice::Unknown(why.into()),
        };
        if let Some(rss) = self.known.iter().find(|rss| *rss.settings() == settings) {
            return QueueChoice::Computed(rss.clone());
        }
        match Rss::new(settings) {
            Ok(rss) => {
                let rss = Arc::new(rss);
                self.known.push(rss.clone());
                QueueChoice::Computed(rss)
            }
            Err(why) => QueueChoice::Unknown(why.to_string().into()),
        }
    }

    fn settings(&mut self, name: &str) -> Result<RssSettings, String> {
        let nic = self.nic.as_mut().map_err(|error| error.to_string())?;
        let told = nic.rss(name).map_err(|error| error.to_string())?;
        match told.function {
            // Drivers that know one function only do not always name it.
            HashFunction::Toeplitz | HashFunction::Unknown => {}
            other => return Err(format!("its hash function is {}, and only toeplitz is computed", other.label())),
        }
        if told.symmetric {
            return Err("its hash is made symmetric (ethtool -X xfrm), which is not computed".to_owned());
        }
        let fields = fields(|kind| flow_hash(name, kind).ok());
        if fields == FieldsByPacket::default() {
            return Err("its driver does not tell what it hashes (ethtool -n rx-flow-hash)".to_owned());
        }
        Ok(RssSettings { key: told.key, table: told.table, fields })
    }
}

/// What is hashed, as `told` says for each kind of packets.
fn fields(told: impl Fn(Hashed) -> Option<HashFields>) -> FieldsByPacket {
    let mut fields = FieldsByPacket::default();
    for (kind, family, protocol) in KINDS {
        let known = match told(kind) {
            Some(HashFields::ADDRESSES) => Some(HashedFields::Addresses),
            Some(HashFields::ADDRESSES_AND_PORTS) => Some(HashedFields::AddressesAndPorts),
            _ => None,
        };
        fields.set(family, protocol, known);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_addresses_or_addresses_and_ports_is_known() {
        let told = |kind| match kind {
            Hashed::Tcp4 => Some(HashFields::ADDRESSES_AND_PORTS),
            Hashed::Udp4 => Some(HashFields::ADDRESSES),
            // The source alone.
            Hashed::Tcp6 => Some(HashFields(1 << 4)),
            _ => None,
        };
        let fields = fields(told);
        assert_eq!(fields.get(Family::V4, Protocol::Tcp), Some(HashedFields::AddressesAndPorts));
        assert_eq!(fields.get(Family::V4, Protocol::Udp), Some(HashedFields::Addresses));
        assert_eq!(fields.get(Family::V6, Protocol::Tcp), None);
        assert_eq!(fields.get(Family::V6, Protocol::Sctp), None);
    }

    /// The loopback interface has no driver that could tell.
    #[tokio::test]
    async fn devices_are_asked_once_they_are_below_an_interface() {
        let mut queues = Queues::follow();
        assert!(queues.of(&[]).is_empty());
        let lowers = ringway_shared::network::Lowers::itself(1, "lo".into());
        let interface = Interface {
            id: ringway_shared::InterfaceId(0),
            name: "lo".into(),
            index: 1,
            mac: Default::default(),
            mtu: 1500,
            addresses: Vec::new(),
            up: true,
            lowers,
        };
        while queues.of(std::slice::from_ref(&interface)).is_empty() {
            queues.changed().await;
        }
        let [(1, QueueChoice::Unknown(why))] = &queues.of(&[interface])[..] else { panic!("not asked") };
        assert!(why.contains("RSS"), "{why}");
        assert!(queues.of(&[]).is_empty(), "what is below nothing is left out");
    }
}
