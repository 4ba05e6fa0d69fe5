use ringway_shared::MacAddress;

use super::*;

/// NICs that hold in memory what they are told.
#[derive(Default)]
pub(in crate::daemon) struct Memory {
    pub(in crate::daemon) found: Vec<(String, Setting)>,
    pub(in crate::daemon) changed: Vec<(String, Setting)>,
    pub(in crate::daemon) refuses: bool,
    /// The devices that are here: their ifindexes, their names, and what they are known by.
    pub(in crate::daemon) links: Option<Vec<(u32, &'static str, Identity)>>,
    /// The devices do not answer.
    pub(in crate::daemon) is_silent: bool,
    /// Those that are not here are nowhere.
    pub(in crate::daemon) is_unplugged: bool,
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

    fn identity(&mut self, index: u32, name: &str) -> Result<Option<Identity>, String> {
        if self.is_silent {
            return Err(format!("{name} does not answer just now"));
        }
        let known = self.links.iter().flatten().find(|(other, ..)| *other == index);
        Ok(known.map(|(.., identity)| identity.clone()))
    }

    fn find(&mut self, index: u32, name: &str, noted: Option<&Identity>) -> Whereabouts {
        let Some(links) = self.links.clone() else { return whereabouts::find(index, name, noted) };
        let known: Vec<_> = links.iter().map(|(index, name, identity)| (*index, *name, identity.mac)).collect();
        let bus = |name: &str| match self.is_silent {
            true => Err(format!("{name} does not answer just now")),
            false => Ok(links.iter().find(|(_, other, _)| *other == name).map(|(.., identity)| identity.bus.clone())),
        };
        whereabouts::among(&known, (index, name), noted, bus, |_| !self.is_unplugged)
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

fn port(last: u8) -> Identity {
    Identity { bus: "0000:01:00.0".to_owned(), mac: Some(MacAddress([2, 0, 0, 0, 0, last])) }
}

#[test]
fn a_device_in_another_namespace_stays_noted_until_it_is_back() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join(FILE);
    let links = Some(vec![(7, "lo", port(1))]);
    let mut nics = Memory { found: vec![lo(Setting::Udp4)], links, ..Memory::default() };
    let changes = Changes::read(state.path());
    changes.change(&mut nics, 7, "lo", Setting::Udp4).unwrap();
    nics.links = Some(Vec::new());
    changes.restore(&mut nics, 7, Setting::Udp4);
    let noted = "7 lo udp4 addresses 0000:01:00.0,02:00:00:00:00:01\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), noted);
    // Another instance, and the device is back under another ifindex.
    let changes = Changes::read(state.path());
    assert_eq!(changes.all(), [(7, Setting::Udp4)]);
    nics.links = Some(vec![(9, "lo", port(1))]);
    assert!(!changes.change(&mut nics, 9, "lo", Setting::Udp4).unwrap(), "it is as Ringway wants it");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), noted.replace('7', "9"));
    changes.restore(&mut nics, 9, Setting::Udp4);
    assert_eq!((&nics.found, file.exists()), (&vec![lo(Setting::Udp4)], false));
    // It comes back as it was before Ringway changed it: what was noted before is over.
    changes.change(&mut nics, 9, "lo", Setting::Udp4).unwrap();
    (nics.found, nics.changed) = (vec![lo(Setting::Udp4)], Vec::new());
    nics.links = Some(vec![(11, "lo", port(1))]);
    assert!(changes.change(&mut nics, 11, "lo", Setting::Udp4).unwrap());
    assert_eq!(changes.all(), [(11, Setting::Udp4)]);
    // One that was unplugged is forgotten.
    (nics.links, nics.is_unplugged) = (Some(Vec::new()), true);
    changes.restore(&mut nics, 11, Setting::Udp4);
    assert!(changes.all().is_empty());
}

#[test]
fn ports_of_one_nic_are_not_taken_for_each_other() {
    let state = tempfile::tempdir().unwrap();
    let (p0, p1) = (("p0".to_owned(), Setting::VlanOffload), ("p1".to_owned(), Setting::VlanOffload));
    let both = Some(vec![(4, "p0", port(1)), (5, "p1", port(2))]);
    let mut nics =
        Memory { found: vec![p0.clone()], changed: vec![p1.clone()], links: both.clone(), ..Memory::default() };
    let changes = Changes::read(state.path());
    assert!(changes.change(&mut nics, 4, "p0", Setting::VlanOffload).unwrap());
    // The operator has set the other one so.
    assert!(!changes.change(&mut nics, 5, "p1", Setting::VlanOffload).unwrap());
    assert_eq!(changes.all(), [(4, Setting::VlanOffload)]);
    // The first one goes to another namespace.
    nics.links = Some(vec![(5, "p1", port(2))]);
    changes.restore(&mut nics, 4, Setting::VlanOffload);
    assert!(nics.changed.contains(&p1), "that one is not to be changed back");
    assert_eq!(changes.all(), [(4, Setting::VlanOffload)]);
    // And comes back.
    nics.links = both;
    changes.restore(&mut nics, 4, Setting::VlanOffload);
    assert_eq!((nics.found, nics.changed, changes.all().len()), (vec![p0], vec![p1], 0));
}

#[test]
fn a_device_that_does_not_answer_stays_noted_as_it_was() {
    let state = tempfile::tempdir().unwrap();
    let links = Some(vec![(7, "lo", port(1))]);
    let mut nics = Memory { found: vec![lo(Setting::Udp4)], links, is_unplugged: true, ..Memory::default() };
    let changes = Changes::read(state.path());
    changes.change(&mut nics, 7, "lo", Setting::Udp4).unwrap();
    nics.is_silent = true;
    changes.restore(&mut nics, 7, Setting::Udp4);
    assert_eq!((changes.all().len(), nics.changed.len()), (1, 1));
    // Somebody changes it back, and it is changed again: it is known by what it was known by.
    (nics.found, nics.changed) = (vec![lo(Setting::Udp4)], Vec::new());
    changes.change(&mut nics, 7, "lo", Setting::Udp4).unwrap();
    nics.is_silent = false;
    nics.links = Some(vec![(9, "lo", port(1))]);
    changes.restore(&mut nics, 7, Setting::Udp4);
    assert_eq!((nics.found.len(), changes.all().len()), (1, 0));
}

#[test]
fn a_line_is_read_with_and_without_what_a_device_is_known_by() {
    let state = tempfile::tempdir().unwrap();
    let lines = "7 eth0 rx-vlan-hw-parse on 0000:01:00.0,02:00:00:00:00:01\n8 eth1 udp4 addresses 0000:02:00.0\n\
                 9 veth0 udp6 addresses\n";
    std::fs::write(state.path().join(FILE), lines).unwrap();
    let changes = Changes::read(state.path());
    assert_eq!(changes.all(), [(7, Setting::VlanOffload), (8, Setting::Udp4), (9, Setting::Udp6)]);
    let told: Vec<u32> = changed(state.path()).iter().map(|changed| changed.index).collect();
    assert_eq!(told, [7, 8, 9], "whoever only looks reads the same");
    lock(&changes.0).write();
    assert_eq!(std::fs::read_to_string(state.path().join(FILE)).unwrap(), lines, "nothing is lost of it");
}
