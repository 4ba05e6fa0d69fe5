//! Settings of NICs that Ringway changes, and what they were: NICs are left as they were found.
//!
//! What is changed stands in a file of the state folder before it is changed, so that an instance that follows a killed one
//! still knows. It is changed back when Ringway lets go of the device; what is left at the end, a start that failed included,
//! is changed back then.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ringway_dataplane::af_xdp::Device;

use super::interfaces::lock;
use crate::network::nic::{HashFields, Hashed, Nic, NicError, flow_hash, set_flow_hash};

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

    fn say_kept(self, name: &str, error: &NicError) {
        match self {
            Setting::VlanOffload => tracing::warn!("{name}: receive VLAN offload stays off: {error}"),
            Setting::Udp4 | Setting::Udp6 => tracing::warn!("{name} still spreads {} by ports: {error}", self.word()),
        }
    }
}

/// Where settings are read and changed.
pub(super) trait Nics {
    /// How one is now.
    fn state(&mut self, name: &str, setting: Setting) -> Result<State, NicError>;
    /// Changes one, or changes it back.
    fn set(&mut self, name: &str, setting: Setting, changed: bool) -> Result<(), NicError>;
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
    /// By ifindex, the device's name. The kernel gives no ifindex twice while it has others, and the name must fit, too.
    noted: BTreeMap<(u32, Setting), String>,
}

impl Changes {
    /// Those that an instance before this one left behind in the state folder.
    pub(super) fn read(state: &Path) -> Self {
        let file = state.join(FILE);
        let left = std::fs::read_to_string(&file).unwrap_or_default();
        let of_line = |line: &str| {
            let [index, name, setting, was] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
            let setting = Setting::ALL.into_iter().find(|known| known.words() == [setting, was])?;
            Some(((index.parse().ok()?, setting), name.to_owned()))
        };
        let noted = left.lines().filter_map(of_line).collect();
        Changes(Arc::new(Mutex::new(List { file, noted })))
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
        if nics.state(name, setting)? != State::Found {
            return Ok(false);
        }
        // First noted, then done: a driver may take its time, and a process may be killed.
        let is_new = lock(&self.0).note(index, setting, name);
        let done = nics.set(name, setting, true);
        if done.is_err() && is_new {
            lock(&self.0).forget(index, setting);
        }
        done.map(|()| true)
    }

    /// Changes a setting back. Where that fails it stays noted: at the end it is tried again.
    pub(super) fn restore(&self, nics: &mut impl Nics, index: u32, setting: Setting) {
        let Some(name) = lock(&self.0).noted.get(&(index, setting)).cloned() else { return };
        let is_same = Device::by_name(&name).is_ok_and(|device| device.index == index);
        let restored = match is_same {
            true => nics.state(&name, setting).and_then(|state| match state {
                State::Changed => nics.set(&name, setting, false).map(|()| true),
                // Somebody else did.
                State::Found | State::Other => Ok(false),
            }),
            false => Ok(false),
        };
        match restored {
            Ok(true) => setting.say_restored(&name),
            Ok(false) | Err(NicError::Missing { .. }) => {}
            Err(error) => return setting.say_kept(&name, &error),
        }
        lock(&self.0).forget(index, setting);
    }
}

impl List {
    /// Whether that is news.
    fn note(&mut self, index: u32, setting: Setting, name: &str) -> bool {
        let before = self.noted.insert((index, setting), name.to_owned());
        if before.as_deref() != Some(name) {
            self.write();
        }
        before.is_none()
    }

    fn forget(&mut self, index: u32, setting: Setting) {
        if self.noted.remove(&(index, setting)).is_some() {
            self.write();
        }
    }

    fn write(&self) {
        let mut text = String::new();
        for ((index, setting), name) in &self.noted {
            let [setting, was] = setting.words();
            // It cannot fail: a String takes everything.
            let _ = writeln!(text, "{index} {name} {setting} {was}");
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
    /// Changes back what is changed now. At the end that comes first: drivers may take longer over letting go of a NIC than
    /// there is time.
    pub(super) fn restore(&self) {
        let mut nics = KernelNics::default();
        self.0.all().into_iter().for_each(|(index, setting)| self.0.restore(&mut nics, index, setting));
    }
}

impl Drop for LeaveAsFound {
    fn drop(&mut self) {
        self.restore();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// NICs that hold in memory what they are told.
    #[derive(Default)]
    pub(in crate::daemon) struct Memory {
        pub(in crate::daemon) found: Vec<(String, Setting)>,
        pub(in crate::daemon) changed: Vec<(String, Setting)>,
        pub(in crate::daemon) refuses: bool,
        pub(in crate::daemon) tries: u32,
        /// What is looked at when something is set, and what was seen there.
        pub(in crate::daemon) watched: Option<PathBuf>,
        pub(in crate::daemon) seen: Vec<String>,
    }

    impl Nics for Memory {
        fn state(&mut self, name: &str, setting: Setting) -> Result<State, NicError> {
            let this = (name.to_owned(), setting);
            Ok(match (self.found.contains(&this), self.changed.contains(&this)) {
                (true, _) => State::Found,
                (_, true) => State::Changed,
                _ => State::Other,
            })
        }

        fn set(&mut self, name: &str, setting: Setting, changed: bool) -> Result<(), NicError> {
            let file = self.watched.as_ref().map(|file| std::fs::read_to_string(file).unwrap_or_default());
            self.seen.extend(file);
            self.tries += 1;
            if self.refuses {
                return Err(NicError::Unsupported { name: name.to_owned(), what: "this" });
            }
            let this = (name.to_owned(), setting);
            let (from, to) = match changed {
                true => (&mut self.found, &mut self.changed),
                false => (&mut self.changed, &mut self.found),
            };
            from.retain(|one| *one != this);
            to.push(this);
            Ok(())
        }
    }

    fn lo(setting: Setting) -> (String, Setting) {
        ("lo".to_owned(), setting)
    }

    #[test]
    fn a_change_is_noted_before_it_is_made_and_the_instance_after_a_killed_one_undoes_it() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join(FILE);
        let mut nics = Memory {
            found: vec![lo(Setting::Udp4), lo(Setting::VlanOffload)],
            watched: Some(file.clone()),
            ..Memory::default()
        };
        let changes = Changes::read(state.path());
        assert!(changes.change(&mut nics, 1, "lo", Setting::Udp4).unwrap());
        assert!(changes.change(&mut nics, 1, "lo", Setting::VlanOffload).unwrap());
        assert!(!changes.change(&mut nics, 1, "lo", Setting::Udp6).unwrap(), "it is neither");
        assert_eq!(nics.seen, ["1 lo udp4 addresses\n", "1 lo rx-vlan-hw-parse on\n1 lo udp4 addresses\n"]);
        drop(changes);
        let after = Changes::read(state.path());
        assert_eq!(after.all(), [(1, Setting::VlanOffload), (1, Setting::Udp4)]);
        after.restore(&mut nics, 1, Setting::Udp4);
        after.restore(&mut nics, 1, Setting::VlanOffload);
        assert_eq!((nics.found.len(), nics.changed.len()), (2, 0));
        assert!(!file.exists());
    }

    #[test]
    fn what_is_refused_is_not_noted_and_what_cannot_be_undone_stays_so() {
        let state = tempfile::tempdir().unwrap();
        let mut nics = Memory { found: vec![lo(Setting::Udp4)], refuses: true, ..Memory::default() };
        let changes = Changes::read(state.path());
        changes.change(&mut nics, 1, "lo", Setting::Udp4).unwrap_err();
        assert!(changes.all().is_empty() && !state.path().join(FILE).exists());
        nics.refuses = false;
        changes.change(&mut nics, 1, "lo", Setting::Udp4).unwrap();
        nics.refuses = true;
        changes.restore(&mut nics, 1, Setting::Udp4);
        assert_eq!(Changes::read(state.path()).all(), [(1, Setting::Udp4)]);
        // Of another device that has the name by now nothing is known.
        std::fs::write(state.path().join(FILE), "99999 lo udp4 addresses\nrubbish\n2 lo udp4 what\n").unwrap();
        let of_another = Changes::read(state.path());
        of_another.restore(&mut nics, 99999, Setting::Udp4);
        assert_eq!(nics.changed, [lo(Setting::Udp4)]);
        assert!(of_another.all().is_empty());
    }
}
