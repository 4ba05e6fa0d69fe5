//! Who is inside, over all doors that share the room. Whoever comes is let in: when there is no room, one leaves. That is
//! one of the peer that has most connections, so that nobody can keep others out by holding many; of these the one that
//! has been silent for longest, and one that is being answered only when all are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How many may be inside, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Connections through one door.
    pub(crate) at_one_door: usize,
    /// Connections through all of them.
    pub(crate) in_all: usize,
    /// From the start, or from the last answer, until the next request is there and the answer is taken.
    pub(crate) silent: Duration,
    /// From a request until its answer.
    pub(crate) asked: Duration,
}

/// Who a connection comes from. One host has a whole /64 of IPv6 to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    /// The peer with this address.
    pub(crate) fn of(address: IpAddr) -> Self {
        Peer(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        })
    }
}

/// Who is inside.
pub(crate) struct Guests {
    room: Room,
    inside: Mutex<HashMap<u64, Guest>>,
    next: AtomicU64,
}

struct Guest {
    door: u64,
    peer: Peer,
    state: Arc<Mutex<State>>,
    // Dropped to make it leave.
    _leave: oneshot::Sender<()>,
}

/// What a connection does, and since when.
#[derive(Clone, Copy)]
struct State {
    is_asked: bool,
    since: Instant,
}

/// One door; when it is closed, those who came through it leave.
pub(crate) struct Door {
    guests: Arc<Guests>,
    number: u64,
}

/// One connection, as long as it lasts.
pub(crate) struct Visit {
    guests: Arc<Guests>,
    number: u64,
    state: Arc<Mutex<State>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guests {
    /// Nobody yet.
    pub(crate) fn new(room: Room) -> Arc<Self> {
        Arc::new(Guests { room, inside: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// A door to this room.
    pub(crate) fn door(self: &Arc<Self>) -> Door {
        Door { guests: self.clone(), number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// Makes one leave, whatever door it came through.
    pub(crate) fn make_room(&self) {
        remove_one(&mut lock(&self.inside), None);
    }
}

/// Makes one leave; only of those who came through `door`, if it is named.
fn remove_one(inside: &mut HashMap<u64, Guest>, door: Option<u64>) {
    let is_meant = |guest: &Guest| door.is_none_or(|door| guest.door == door);
    let mut of_peer: HashMap<Peer, usize> = HashMap::new();
    inside.values().filter(|guest| is_meant(guest)).for_each(|guest| *of_peer.entry(guest.peer).or_default() += 1);
    let most = of_peer.values().copied().max().unwrap_or(0);
    let candidates = inside.iter().filter(|(_, guest)| is_meant(guest) && of_peer.get(&guest.peer) == Some(&most));
    let longest = candidates.min_by_key(|(number, guest)| {
        let State { is_asked, since } = *lock(&guest.state);
        (is_asked, since, **number)
    });
    if let Some(number) = longest.map(|(number, _)| *number) {
        inside.remove(&number);
    }
}

impl Door {
    /// Lets somebody in. What comes second says, or its end does, that it is to leave.
    pub(crate) fn admit(&self, peer: Peer) -> (Visit, oneshot::Receiver<()>) {
        let Guests { room, next, .. } = &*self.guests;
        let (leave, asked_to_leave) = oneshot::channel();
        let state = Arc::new(Mutex::new(State { is_asked: false, since: Instant::now() }));
        let number = next.fetch_add(1, Ordering::Relaxed);
        let mut inside = lock(&self.guests.inside);
        if inside.values().filter(|guest| guest.door == self.number).count() >= room.at_one_door {
            remove_one(&mut inside, Some(self.number));
        } else if inside.len() >= room.in_all {
            remove_one(&mut inside, None);
        }
        inside.insert(number, Guest { door: self.number, peer, state: state.clone(), _leave: leave });
        (Visit { guests: self.guests.clone(), number, state }, asked_to_leave)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        lock(&self.guests.inside).retain(|_, guest| guest.door != self.number);
    }
}

impl Visit {
    /// A request has come.
    pub(crate) fn asks(&self) {
        *lock(&self.state) = State { is_asked: true, since: Instant::now() };
    }

    /// Its answer is on its way.
    pub(crate) fn is_answered(&self) {
        *lock(&self.state) = State { is_asked: false, since: Instant::now() };
    }

    /// How long it may stay if it goes on as it does now.
    pub(crate) fn until(&self) -> Instant {
        let State { is_asked, since } = *lock(&self.state);
        since + if is_asked { self.guests.room.asked } else { self.guests.room.silent }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        lock(&self.guests.inside).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn room(at_one_door: usize, in_all: usize) -> Arc<Guests> {
        Guests::new(Room { at_one_door, in_all, silent: LONG, asked: LONG })
    }

    fn peer(last: u8) -> Peer {
        Peer::of(IpAddr::from([192, 0, 2, last]))
    }

    fn stays((_, leave): &mut (Visit, oneshot::Receiver<()>)) -> bool {
        leave.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    #[test]
    fn who_holds_most_gives_way_and_its_oldest_first() {
        let guests = room(4, 100);
        let door = guests.door();
        let mut prober = door.admit(peer(1));
        let mut silent: Vec<_> = (0..100).map(|_| door.admit(peer(2))).collect();
        assert!(stays(&mut prober), "it was the oldest of all, and alone");
        let stay: Vec<bool> = silent.iter_mut().map(stays).collect();
        assert_eq!(stay, [[false; 97].as_slice(), &[true; 3]].concat());
        // Those who left are forgotten once, not twice.
        silent.drain(..97);
        assert_eq!(lock(&guests.inside).len(), 4);
        drop((prober, silent));
        assert_eq!(lock(&guests.inside).len(), 0);
    }

    #[test]
    fn who_is_being_answered_stays_longer_than_who_is_silent() {
        let guests = room(2, 100);
        let door = guests.door();
        let (mut asks, mut silent) = (door.admit(peer(1)), door.admit(peer(1)));
        asks.0.asks();
        let mut new = door.admit(peer(1));
        assert_eq!([&mut asks, &mut silent, &mut new].map(stays), [true, false, true]);
        new.0.asks();
        let mut newer = door.admit(peer(1));
        assert_eq!([&mut asks, &mut new, &mut newer].map(stays), [false, true, true], "all were asked: the oldest");
    }

    #[test]
    fn all_doors_share_the_room_and_a_closed_one_is_left() {
        let guests = room(2, 3);
        let (one, other) = (guests.door(), guests.door());
        let mut inside = [one.admit(peer(1)), one.admit(peer(2)), other.admit(peer(3))];
        let mut last = other.admit(peer(4));
        assert_eq!(inside.each_mut().map(stays), [false, true, true], "the oldest, whatever its door");
        drop(other);
        assert_eq!(inside.each_mut().map(stays), [false, true, false]);
        assert!(!stays(&mut last));
        guests.make_room();
        assert_eq!(lock(&guests.inside).len(), 0);
    }

    #[test]
    fn a_host_is_one_peer_wherever_in_its_network_it_comes_from() {
        let of = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
