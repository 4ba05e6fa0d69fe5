use super::*;

/// NICs that hold in memory what they are told.
#[derive(Default)]
pub(in crate::daemon) struct Memory {
    pub(in crate::daemon) found: Vec<(String, Setting)>,
    pub(in crate::daemon) changed: Vec<(String, Setting)>,
    pub(in crate::daemon) refuses: bool,
    /// Where the devices are plugged in.
    pub(in crate::daemon) bus: Option<String>,
    pub(in crate::daemon) whereabouts: Option<Whereabouts>,
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

    fn bus(&mut self, _name: &str) -> Option<String> {
        self.bus.clone()
    }

    fn find(&mut self, index: u32, bus: Option<&str>) -> Whereabouts {
        self.whereabouts.clone().unwrap_or_else(|| whereabouts::find(index, bus))
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

#[test]
fn a_device_in_another_namespace_stays_noted_until_it_is_back() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join(FILE);
    let bus = Some("0000:01:00.0".to_owned());
    let mut nics = Memory { found: vec![lo(Setting::Udp4)], bus, ..Memory::default() };
    let changes = Changes::read(state.path());
    changes.change(&mut nics, 7, "lo", Setting::Udp4).unwrap();
    nics.whereabouts = Some(Whereabouts::Away);
    changes.restore(&mut nics, 7, Setting::Udp4);
    let noted = "7 lo udp4 addresses 0000:01:00.0\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), noted);
    // Another instance, and the device is back under another ifindex.
    let changes = Changes::read(state.path());
    assert_eq!(changes.all(), [(7, Setting::Udp4)]);
    assert!(!changes.change(&mut nics, 9, "lo", Setting::Udp4).unwrap(), "it is as Ringway wants it");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), noted.replace('7', "9"));
    nics.whereabouts = Some(Whereabouts::Here("lo".into()));
    changes.restore(&mut nics, 9, Setting::Udp4);
    assert_eq!((&nics.found, file.exists()), (&vec![lo(Setting::Udp4)], false));
    // One that was unplugged is forgotten.
    changes.change(&mut nics, 9, "lo", Setting::Udp4).unwrap();
    nics.whereabouts = Some(Whereabouts::Gone);
    changes.restore(&mut nics, 9, Setting::Udp4);
    assert!(changes.all().is_empty());
}
