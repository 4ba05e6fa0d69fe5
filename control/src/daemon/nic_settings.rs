//! Settings of NICs that Ringway changes, and what they were: NICs are left as they were found.
//!
//! What is changed stands in a file of the state folder before it is changed, so that an instance that follows a killed one
//! still knows. It is changed back when Ringway lets go of the device; what is left at the end, a start that failed included,
//! is changed back then. A device that was renamed is found all the same; of one that went to another network namespace the log says
//! what to do there.

mod whereabouts;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::interfaces::{Unsteered, lock};
use crate::network::nic::{HashFields, Hashed, Nic, NicError, flow_hash, set_flow_hash};
use whereabouts::{Identity, Whereabouts};

/// The file in the state folder.
const FILE: &str = "nic-settings";
/// The kernel's name of receive VLAN offload.
pub(super) const VLAN_OFFLOAD: &str = "rx-vlan-hw-parse";

/// What Ringway changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Setting {
    /// Receive VLAN offload: on, and then off.
    VlanOffload,
    /// What decides about the queue of UDP over IPv4: addresses, and then ports as well.
    Udp4,
    /// The same over IPv6.
    Udp6,
}

/// How a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As Ringway finds it and changes it.
    Found,
    /// As Ringway changes it.
    Changed,
    /// Neither: it is left alone.
    Other,
}

impl Setting {
    const ALL: [Setting; 3] = [Setting::VlanOffload, Setting::Udp4, Setting::Udp6];

    /// The setting, and what it was, as the file has them.
    fn words(self) -> [&'static str; 2] {
        match self {
            Setting::VlanOffload => [VLAN_OFFLOAD, "on"],
            Setting::Udp4 => ["udp4", "addresses"],
            Setting::Udp6 => ["udp6", "addresses"],
        }
    }

    /// Its name.
    pub(super) fn word(self) -> &'static str {
        self.words()[0]
    }

    fn say_restored(self, name: &str) {
        match self {
            Setting::VlanOffload => tracing::info!("{name}: switched receive VLAN offload on again"),
            Setting::Udp4 | Setting::Udp6 => tracing::info!("{name} spreads {} by addresses again", self.word()),
        }
    }

    /// That nobody here can change it back.
    fn say_away(self, name: &str) {
        let back = "Ringway does it at its end, should the device be here again by then";
        match self {
            Setting::VlanOffload => tracing::warn!(
                "{name} left this network namespace with receive VLAN offload off: switch it on where it is now (ethtool -K {name} \
                 rxvlan on); {back}"
            ),
            Setting::Udp4 | Setting::Udp6 => tracing::warn!(
                "{name} left this network namespace and still spreads {word} by ports: have it spread by addresses where it is \
                 now (ethtool -N {name} rx-flow-hash {word} sd); {back}",
                word = self.word()
            ),
        }
    }

    /// That nobody knows where it is.
    fn say_unknown(self, name: &str, error: &str) {
        tracing::warn!(
            "cannot find out where {name} is now: {error}; what Ringway changed there ({}) stays so, and noted: it is changed back \
             at Ringway's end or after its next start",
            self.word()
        );
    }

    fn say_kept(self, name: &str, error: &NicError) {
        match self {
            Setting::VlanOffload => tracing::warn!("{name}: receive VLAN offload stays off: {error}"),
            Setting::Udp4 | Setting::Udp6 => tracing::warn!("{name} still spreads {} by ports: {error}", self.word()),
        }
    }
}

/// A setting that an instance has changed and not changed back, as its state folder has it noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) index: u32,
    pub(crate) setting: &'static str,
    pub(crate) was: &'static str,
}

/// All that stands in a state folder.
pub(crate) fn changed(state: &Path) -> Vec<Changed> {
    let of = |(index, setting): (u32, Setting)| {
        let [setting, was] = setting.words();
        Changed { index, setting, was }
    };
    noted(&state.join(FILE)).into_keys().map(of).collect()
}

/// What a file notes, by ifindex and setting.
fn noted(file: &Path) -> BTreeMap<(u32, Setting), Noted> {
    let left = std::fs::read_to_string(file).unwrap_or_default();
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ([index, name, setting, was] | [index, name, setting, was, _]) = words[..] else { return None };
        let setting = Setting::ALL.into_iter().find(|known| known.words() == [setting, was])?;
        let identity = words.get(4).map(|word| Identity::read(word));
        Some(((index.parse().ok()?, setting), Noted { name: name.to_owned(), identity }))
    };
    left.lines().filter_map(of_line).collect()
}

/// Where settings are read and changed.
pub(super) trait Nics {
    /// How one is now.
    fn state(&mut self, name: &str, setting: Setting) -> Result<State, NicError>;
    /// Changes one, or changes it back.
    fn set(&mut self, name: &str, setting: Setting, changed: bool) -> Result<(), NicError>;
    /// What a device is known by, if it has hardware; an error where it cannot be asked.
    fn identity(&mut self, index: u32, name: &str) -> Result<Option<Identity>, String> {
        whereabouts::identity(index, name)
    }
    /// Where the device is that had this ifindex and this name and is known by that.
    fn find(&mut self, index: u32, name: &str, noted: Option<&Identity>) -> Whereabouts {
        whereabouts::find(index, name, noted)
    }
}

/// The NICs of the calling thread's network namespace.
#[derive(Default)]
pub(super) struct KernelNics(Option<Nic>);

impl KernelNics {
    fn ask<T>(&mut self, question: impl FnOnce(&mut Nic) -> Result<T, NicError>) -> Result<T, NicError> {
        let nic = match self.0.take() {
            Some(nic) => nic,
            None => Nic::open()?,
        };
        let answer = question(self.0.insert(nic));
        if matches!(answer, Err(NicError::Socket(_))) {
            self.0 = None;
        }
        answer
    }
}

/// The packets that a setting is about.
fn hashed(setting: Setting) -> Hashed {
    if setting == Setting::Udp6 { Hashed::Udp6 } else { Hashed::Udp4 }
}

impl Nics for KernelNics {
    fn state(&mut self, name: &str, setting: Setting) -> Result<State, NicError> {
        if setting != Setting::VlanOffload {
            return flow_hash(name, hashed(setting)).map(|fields| match fields {
                HashFields::ADDRESSES => State::Found,
                HashFields::ADDRESSES_AND_PORTS => State::Changed,
                _ => State::Other,
            });
        }
        self.ask(|nic| match nic.features(name)?.get(VLAN_OFFLOAD) {
            // Whoever asks for what cannot be is told so before anything is noted.
            Some(feature) if feature.on && feature.fixed => {
                nic.set_feature(name, VLAN_OFFLOAD, false).map(|_| State::Other)
            }
            Some(feature) => Ok(if feature.on { State::Found } else { State::Changed }),
            None => Ok(State::Other),
        })
    }

    fn set(&mut self, name: &str, setting: Setting, changed: bool) -> Result<(), NicError> {
        if setting == Setting::VlanOffload {
            return self.ask(|nic| nic.set_feature(name, VLAN_OFFLOAD, !changed).map(|_| ()));
        }
        let fields = if changed { HashFields::ADDRESSES_AND_PORTS } else { HashFields::ADDRESSES };
        set_flow_hash(name, hashed(setting), fields)?;
        match flow_hash(name, hashed(setting))? == fields {
            true => Ok(()),
            false => Err(NicError::Kept {
                name: name.to_owned(),
                feature: format!("the hash of {} ports", setting.word()),
                on: changed,
                why: "its driver took the setting, and does not follow it",
            }),
        }
    }
}

/// What is changed, for all who change it.
#[derive(Clone, Debug)]
pub(super) struct Changes(Arc<Mutex<List>>);

#[derive(Debug)]
struct List {
    file: PathBuf,
    /// By ifindex, which the kernel gives to no other while it has others.
    noted: BTreeMap<(u32, Setting), Noted>,
    /// What was said of those that are out of reach.
    said: BTreeMap<(u32, Setting), Whereabouts>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Noted {
    /// What it was called.
    name: String,
    /// What it is known by, if it has hardware.
    identity: Option<Identity>,
}

impl Changes {
    /// Those that an instance before this one left behind in the state folder.
    pub(super) fn read(state: &Path) -> Self {
        let file = state.join(FILE);
        let noted = noted(&file);
        Changes(Arc::new(Mutex::new(List { file, noted, said: BTreeMap::new() })))
    }

    /// Whether a setting is changed because of Ringway.
    pub(super) fn has(&self, index: u32, setting: Setting) -> bool {
        lock(&self.0).noted.contains_key(&(index, setting))
    }

    /// All that is changed.
    pub(super) fn all(&self) -> Vec<(u32, Setting)> {
        lock(&self.0).noted.keys().copied().collect()
    }

    /// Changes a setting, where it is as Ringway finds it; whether that was so.
    pub(super) fn change(
        &self,
        nics: &mut impl Nics,
        index: u32,
        name: &str,
        setting: Setting,
    ) -> Result<bool, NicError> {
        let state = nics.state(name, setting)?;
        let is_found = state == State::Found;
        if state == State::Other || !is_found && !lock(&self.0).has_others(index, setting) {
            return Ok(false);
        }
        // What cannot be asked now may be known from before.
        let before = |_| lock(&self.0).noted.get(&(index, setting)).and_then(|noted| noted.identity.clone());
        let identity = nics.identity(index, name).unwrap_or_else(before);
        let known = identity.as_ref();
        let former = known.map(|known| self.former(nics, (index, name), setting, known)).unwrap_or_default();
        let noted = Noted { name: name.to_owned(), identity };
        if !is_found {
            if !former.is_empty() {
                lock(&self.0).note(index, setting, noted, &former);
            }
            return Ok(false);
        }
        // First noted, then done: a driver may take its time, and a process may be killed.
        let is_new = lock(&self.0).note(index, setting, noted, &former);
        let done = nics.set(name, setting, true);
        if done.is_err() && is_new {
            lock(&self.0).forget(index, setting);
        }
        done.map(|()| true)
    }

    /// The ifindexes under which a device is noted that has another one since it is back from another network namespace.
    fn former(&self, nics: &mut impl Nics, device: (u32, &str), setting: Setting, known: &Identity) -> Vec<u32> {
        let (index, name) = device;
        let alike = lock(&self.0).alike(index, setting, known);
        // Another one may have the same address and be here under its own ifindex.
        let mut find = |former, noted: &Noted| nics.find(former, &noted.name, noted.identity.as_ref());
        let here = Whereabouts::Here(name.to_owned());
        alike.into_iter().filter(|(former, noted)| find(*former, noted) == here).map(|(former, _)| former).collect()
    }

    /// Changes a setting back. Where that fails it stays noted: at the end it is tried again.
    pub(super) fn restore(&self, nics: &mut impl Nics, index: u32, setting: Setting) {
        let Some(noted) = lock(&self.0).noted.get(&(index, setting)).cloned() else { return };
        let found = nics.find(index, &noted.name, noted.identity.as_ref());
        let name = match &found {
            Whereabouts::Here(name) => name.clone(),
            Whereabouts::Gone => return lock(&self.0).forget(index, setting),
            _ if lock(&self.0).said.insert((index, setting), found.clone()).as_ref() == Some(&found) => return,
            Whereabouts::Away => return setting.say_away(&noted.name),
            Whereabouts::Unknown(error) => return setting.say_unknown(&noted.name, error),
        };
        let restored = nics.state(&name, setting).and_then(|state| match state {
            State::Changed => nics.set(&name, setting, false).map(|()| true),
            // Somebody else did.
            State::Found | State::Other => Ok(false),
        });
        match restored {
            Ok(true) => setting.say_restored(&name),
            Ok(false) | Err(NicError::Missing { .. }) => {}
            Err(error) => return setting.say_kept(&name, &error),
        }
        lock(&self.0).forget(index, setting);
    }
}

impl List {
    /// Notes a device, in place of what is noted of it under former ifindexes; whether that is news.
    fn note(&mut self, index: u32, setting: Setting, device: Noted, former: &[u32]) -> bool {
        for former in former {
            self.noted.remove(&(*former, setting));
            self.said.remove(&(*former, setting));
        }
        let before = self.noted.insert((index, setting), device.clone());
        if before.as_ref() != Some(&device) || !former.is_empty() {
            self.write();
        }
        before.is_none()
    }

    /// Whether other devices have this setting changed, and not this one.
    fn has_others(&self, index: u32, setting: Setting) -> bool {
        let of_it = |&(other, changed): &(u32, Setting)| changed == setting && other != index;
        !self.noted.contains_key(&(index, setting)) && self.noted.keys().any(of_it)
    }

    /// What is noted under other ifindexes of a device that is known by this.
    fn alike(&self, index: u32, setting: Setting, identity: &Identity) -> Vec<(u32, Noted)> {
        let others = self.noted.iter().filter(|((other, changed), _)| *changed == setting && *other != index);
        let alike = others.filter(|(_, noted)| noted.identity.as_ref().is_some_and(|known| known.is(identity)));
        alike.map(|((other, _), noted)| (*other, noted.clone())).collect()
    }

    fn forget(&mut self, index: u32, setting: Setting) {
        self.said.remove(&(index, setting));
        if self.noted.remove(&(index, setting)).is_some() {
            self.write();
        }
    }

    fn write(&self) {
        let mut text = String::new();
        for ((index, setting), Noted { name, identity }) in &self.noted {
            let [setting, was] = setting.words();
            let identity = identity.as_ref().map_or_else(String::new, |identity| format!(" {identity}"));
            // It cannot fail: a String takes everything.
            let _ = writeln!(text, "{index} {name} {setting} {was}{identity}");
        }
        let written = match text.is_empty() {
            true => std::fs::remove_file(&self.file).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }),
            // Never half a list, whenever the process is killed.
            false => {
                let whole = self.file.with_extension("new");
                std::fs::write(&whole, text).and_then(|()| std::fs::rename(&whole, &self.file))
            }
        };
        if let Err(error) = written {
            let file = crate::plain::path(&self.file);
            tracing::warn!("cannot note in {file} which settings of NICs to change back after a crash: {error}");
        }
    }
}

/// Changes back what is still changed when it is dropped, whatever way the run ends.
pub(super) struct LeaveAsFound(pub(super) Changes);

impl LeaveAsFound {
    /// Changes back what is changed now, once nothing is steered: drivers may take longer to let go of a NIC than there is time.
    pub(super) fn restore(&self, _: &Unsteered) {
        let mut nics = KernelNics::default();
        self.0.all().into_iter().for_each(|(index, setting)| self.0.restore(&mut nics, index, setting));
    }
}

impl Drop for LeaveAsFound {
    fn drop(&mut self) {
        self.restore(&Unsteered::without_program());
    }
}

#[cfg(test)]
pub(super) mod tests;
