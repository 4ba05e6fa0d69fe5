//! Packet memory where there is too little of it for all devices: what the configuration names comes before what a glob means.

use std::collections::BTreeMap;

/// Who has a share of packet memory, and what is certain not to be had.
#[derive(Default)]
pub(super) struct Room {
    /// By name: the frames that the ports of a device that is named hold, of each worker, or held when it was attached last.
    shares: BTreeMap<String, Vec<u32>>,
    /// How often frames were given back.
    given_back: u64,
    out: Option<Out>,
}

/// That there was no room.
struct Out {
    given_back: u64,
    /// For so many queues.
    queues: u32,
    problem: String,
}

impl Room {
    /// A device that is named has so many frames of each worker. They are kept for it while it is away: it may be made again.
    pub(super) fn share(&mut self, name: &str, frames: Vec<u32>) {
        self.shares.insert(name.to_owned(), frames);
        // What was said of that may be untrue now.
        self.out = None;
    }

    /// What is kept of the memory of a worker, for devices that are named and away.
    pub(super) fn kept(&self, place: usize, is_attached: impl Fn(&str) -> bool) -> u32 {
        let away = self.shares.iter().filter(|(name, _)| !is_attached(name));
        away.filter_map(|(_, frames)| frames.get(place)).sum()
    }

    /// Other devices may be named from now on.
    pub(super) fn begin_anew(&mut self, is_attached: impl Fn(&str) -> bool) {
        self.shares.retain(|name, _| is_attached(name));
        self.out = None;
    }

    pub(super) fn note_given_back(&mut self) {
        self.given_back += 1;
    }

    /// There is no room for a device with so many queues that is not named.
    pub(super) fn note_out(&mut self, queues: u32, problem: &str) {
        self.out = Some(Out { given_back: self.given_back, queues, problem: problem.to_owned() });
    }

    /// Why there is no room for so many queues, as far as that is known: nothing was given back since it was tried.
    pub(super) fn is_out(&self, queues: u32) -> Option<&String> {
        let out = self.out.as_ref().filter(|out| out.given_back == self.given_back && queues >= out.queues);
        out.map(|out| &out.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_and_away_keeps_its_share() {
        let mut room = Room::default();
        room.share("eth0", vec![100, 0]);
        room.share("eth1", vec![300, 50]);
        let kept = |room: &Room, away: &[&str]| [0, 1, 2].map(|place| room.kept(place, |name| !away.contains(&name)));
        assert_eq!(kept(&room, &[]), [0, 0, 0]);
        assert_eq!(kept(&room, &["eth1"]), [300, 50, 0]);
        assert_eq!(kept(&room, &["eth0", "eth1"]), [400, 50, 0]);
        room.begin_anew(|name| name != "eth1");
        assert_eq!(kept(&room, &["eth0", "eth1"]), [100, 0, 0]);
    }

    #[test]
    fn nobody_tries_what_is_certain_to_fail() {
        let mut room = Room::default();
        assert_eq!(room.is_out(1), None);
        room.note_out(2, "no room");
        assert_eq!((room.is_out(1), room.is_out(2).is_some(), room.is_out(8).is_some()), (None, true, true));
        room.note_given_back();
        assert_eq!(room.is_out(8), None);
        // What is kept for others changes, and with it what was said.
        room.note_out(2, "no room");
        room.share("eth0", vec![100]);
        assert_eq!(room.is_out(8), None);
        room.note_out(2, "no room");
        room.begin_anew(|_| true);
        assert_eq!(room.is_out(8), None);
    }
}
