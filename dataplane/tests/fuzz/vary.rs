//! Makes stories out of stories, and out of nothing.

use ringway_shared::InterfaceId;

use crate::bed::random::Random;
use crate::bed::{BARE, INSIDE, NARROW, OUTSIDE};
use crate::play::SNAPSHOTS;
use crate::story::{Arrival, Change, Event, Story, What};

/// What stories are mostly about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    Flows,
    Quotes,
    Fragments,
}

/// How many events a story has at most.
const LONGEST: usize = 40;

const OUTSIDE4: &[&str] = &["203.0.113.9", "203.0.113.10", "192.168.0.77", "198.18.7.9"];
const OUTSIDE6: &[&str] = &["[2001:db8:c::9]", "[2001:db8:c::10]", "[2001:db8:7::9]"];
const INSIDE4: &[&str] = &["10.0.1.9", "10.0.1.1", "10.0.1.3", "10.0.2.99"];
const INSIDE6: &[&str] = &["[fd00:10::9]", "[fd00:10::1]", "[fd00:10::3]"];
const ODD4: &[&str] = &["0.0.0.0", "127.0.0.1", "224.0.0.1", "192.168.0.2", "255.255.255.255", "172.30.0.41"];
const ODD6: &[&str] = &["[::]", "[::1]", "[ff02::1]", "[2001:db8::2]", "[fd00:172:30::41]"];

const TCP4: &[&str] = &[
    "172.30.0.41:80",
    "172.30.0.41:80",
    "192.168.0.2:30080",
    "198.51.100.1:80",
    "172.30.0.44:80",
    "172.30.0.45:80",
    "172.30.0.46:80",
    "198.51.100.7:80",
    "198.51.100.8:80",
    "172.30.0.49:80",
    "172.30.0.60:80",
    "172.30.0.41:81",
    "172.30.9.9:80",
    "192.168.0.2:22",
    "10.0.1.1:8080",
];
const TCP6: &[&str] = &[
    "[fd00:172:30::41]:80",
    "[fd00:172:30::41]:80",
    "[2001:db8::2]:30080",
    "[fd00:172:30::45]:80",
    "[fd00:10::1]:8080",
];
const UDP4: &[&str] = &[
    "172.30.0.53:53",
    "172.30.0.53:53",
    "192.168.0.2:30053",
    "172.30.0.46:53",
    "172.30.0.44:53",
    "172.30.0.60:80",
    "192.168.0.2:4789",
    "10.0.1.3:5353",
];
const UDP6: &[&str] = &[
    "[fd00:172:30::53]:53",
    "[fd00:172:30::53]:53",
    "[2001:db8::2]:30053",
    "[fd00:172:30::46]:53",
    "[2001:db8:7::7]:53",
    "[fd00:172:30::44]:53",
];
const SCTP4: &[&str] = &["172.30.0.42:2905"];
const SCTP6: &[&str] = &["[fd00:172:30::42]:2905"];

const FLAGS: &[&str] = &["S", "S", "S", "A", "AP", "SA", "FA", "R", "RA", "SF", "-"];
const WORDS: &[&str] = &[
    "ttl=1",
    "ttl=2",
    "ttl=0",
    "ttl=255",
    "tos=3",
    "tos=184",
    "id=7",
    "id=8",
    "label=7",
    "df",
    "pad=6",
    "sum=partial",
    "sum=none",
    "sum=wrong",
    "bytes=1",
    "bytes=33",
    "bytes=300",
    "bytes=900",
    "bytes=1232",
    "bytes=1260",
    "bytes=1400",
    "bytes=1452",
    "bytes=1600",
    "data=x",
    "frag=0+",
    "frag=8",
    "frag=8+",
    "frag=16",
    "frag=1480",
    "frag=65528",
    "bytes=7",
];
const TCP_WORDS: &[&str] = &[
    "mss=1460",
    "mss=536",
    "mss=9000",
    "seq=1000",
    "seq=1001",
    "seq=4294967295",
    "ack=1",
    "window=0",
    "tcpopt=0101020405b40101",
    "tcpopt=0102042328010100",
];
const WORDS4: &[&str] = &["opt=0707040a00010100", "opt=94040000", "opt=8307040a00010100", "opt=44080500aabbccdd"];
const WORDS6: &[&str] =
    &["ext=0:00010400000000", "ext=60:00010400000000", "ext=43:00040100000000", "ext=43:00000000000000"];
const ERROR_WORDS: &[&str] = &[
    "mtu=1280",
    "mtu=1400",
    "mtu=68",
    "mtu=0",
    "rest=10200000",
    "rest=00200000",
    "quote=28",
    "quote=36",
    "quote=48",
    "quote=56",
    "quote=20",
    "quote=27",
    "quote=128",
    "zeros=128",
    "zeros=136",
    "more=200000000008010100000000",
    "more=2000dfff",
    "from=198.51.100.99",
    "from=2001:db8:99::1",
    "from=172.30.0.41",
    "sum=wrong",
    "ttl=1",
    "ttl=2",
    "tos=192",
    "pad=6",
];
const ERRORS: &[(u8, u8)] = &[
    (3, 0),
    (3, 1),
    (3, 2),
    (3, 3),
    (3, 4),
    (3, 13),
    (4, 0),
    (5, 1),
    (11, 0),
    (11, 1),
    (12, 0),
    (1, 0),
    (1, 3),
    (1, 4),
    (2, 0),
    (4, 1),
    (128, 0),
];
const TELLING: &[u8] = &[0, 1, 2, 4, 5, 6, 8, 17, 44, 0x45, 0x46, 0x60, 0x7f, 0x80, 0xff];
const WAITS: &[u32] = &[1, 20, 400, 900, 1_100, 3_200, 11_000, 31_000, 61_000, 125_000];
const ORDERS: &[&[u8]] =
    &[&[0, 1], &[1, 0], &[0], &[1], &[2], &[0, 1, 2], &[2, 1, 0], &[1, 1, 0], &[0, 0, 1], &[0, 2, 1, 1], &[3, 2, 1, 0]];
const SIZES: &[usize] = &[8, 16, 24, 40, 512, 600, 1232, 1400];

/// A packet of its own.
fn line(random: &mut Random) -> What {
    let is_ipv4 = !random.once_in(3);
    let from_inside = random.once_in(3);
    let mut arrives = if from_inside { INSIDE } else { OUTSIDE };
    let clients = match (is_ipv4, from_inside, random.once_in(25)) {
        (true, _, true) => ODD4,
        (false, _, true) => ODD6,
        (true, true, _) => INSIDE4,
        (true, false, _) => OUTSIDE4,
        (false, true, _) => INSIDE6,
        (false, false, _) => OUTSIDE6,
    };
    if random.once_in(40) {
        arrives = *random.pick(&[BARE, NARROW, OUTSIDE, INSIDE]);
    }
    let client = *random.pick(clients);
    let port = if random.once_in(12) { 8080 } else { 40_000 + random.below(6) };
    let (kind, targets) = match random.below(16) {
        0..7 => (format!("tcp {}", random.pick(FLAGS)), if is_ipv4 { TCP4 } else { TCP6 }),
        7..13 => ("udp".to_owned(), if is_ipv4 { UDP4 } else { UDP6 }),
        13 => ("sctp".to_owned(), if is_ipv4 { SCTP4 } else { SCTP6 }),
        14 => ("echo".to_owned(), if is_ipv4 { TCP4 } else { TCP6 }),
        _ => (format!("proto {}", random.pick(&[47, 50, 4, 41, 136])), if is_ipv4 { UDP4 } else { UDP6 }),
    };
    let mut text = format!("{kind} {client}:{port} > {}", random.pick(targets));
    for _ in 0..random.below(3) {
        let words = match random.below(6) {
            0 if is_ipv4 => WORDS4,
            0 => WORDS6,
            1 | 2 if kind.starts_with("tcp") => TCP_WORDS,
            _ => WORDS,
        };
        text = format!("{text} {}", random.pick(words));
    }
    What::line(arrives, &text)
}

fn words(random: &mut Random, from: &[&str]) -> Vec<String> {
    (0..random.below(3)).map(|_| random.pick(from).to_string()).collect()
}

fn what(random: &mut Random, theme: Theme) -> What {
    let age = if random.once_in(3) { random.below(6) } else { 0 };
    let error = if theme == Theme::Quotes { 8 } else { 2 };
    match random.below(16) {
        choice if choice < error => {
            let (kind, code) = *random.pick(ERRORS);
            What::Error { age, kind, code, words: words(random, ERROR_WORDS) }
        }
        choice if choice < error + 4 => {
            let mut words = words(random, WORDS);
            if random.once_in(2) {
                words.push(format!("flags={}", random.pick(FLAGS)));
            }
            What::Answer { age, words }
        }
        _ => line(random),
    }
}

fn change(random: &mut Random) -> Change {
    match random.below(12) {
        0 => Change::Cut(14 + random.below(120)),
        1 => Change::Grow(60 + random.below(1700)),
        2 => {
            let (at, length) = (random.below(120), 1 + random.below(6));
            Change::Poke(at, (0..length).map(|_| random.next() as u8).collect())
        }
        3 => Change::Mend,
        _ => Change::Poke(12 + random.below(90), vec![*random.pick(TELLING)]),
    }
}

fn arrival(random: &mut Random, theme: Theme) -> Arrival {
    let mut arrival = Arrival::of(random.below(2), what(random, theme));
    arrival.together = random.once_in(4);
    if random.once_in(if theme == Theme::Fragments { 2 } else { 16 }) {
        arrival.changes.push(Change::Pieces(*random.pick(SIZES), random.pick(ORDERS).to_vec()));
    }
    if random.once_in(6) {
        arrival.changes.push(change(random));
        arrival.changes.push(Change::Mend);
    }
    arrival
}

fn event(random: &mut Random, theme: Theme) -> Event {
    match random.below(20) {
        0 => Event::Use(SNAPSHOTS[random.below(SNAPSHOTS.len())]),
        1 | 2 => Event::Wait(*random.pick(WAITS)),
        _ => Event::Packet(arrival(random, theme)),
    }
}

/// A story of its own.
pub(crate) fn fresh(random: &mut Random, theme: Theme) -> Story {
    let events = (0..1 + random.below(12)).map(|_| event(random, theme)).collect();
    Story { about: Vec::new(), events }
}

/// Another story than `from`, but not very.
pub(crate) fn vary(random: &mut Random, theme: Theme, from: &Story, other: &Story) -> Story {
    let mut events = from.events.clone();
    for _ in 0..1 + random.below(4) {
        let at = random.below(events.len().max(1));
        match random.below(10) {
            0 if events.len() > 1 => {
                events.remove(at);
            }
            1 if events.len() > 1 => {
                let with = random.below(events.len());
                events.swap(at, with);
            }
            2 if !events.is_empty() => {
                let again = events[at].clone();
                let to = random.below(events.len() + 1);
                events.insert(to, again);
            }
            3 => {
                let first = random.below(other.events.len().max(1));
                events.truncate(at);
                events.extend(other.events.iter().skip(first).cloned());
            }
            4 | 5 => events.insert(at.min(events.len()), event(random, theme)),
            _ => match events.get_mut(at) {
                Some(Event::Packet(arrival)) => little(random, arrival),
                Some(other) => *other = event(random, theme),
                None => events.push(event(random, theme)),
            },
        }
    }
    events.truncate(LONGEST);
    Story { about: Vec::new(), events }
}

/// Changes something about a packet.
fn little(random: &mut Random, arrival: &mut Arrival) {
    match random.below(10) {
        0 => arrival.worker ^= 1,
        1 => arrival.together ^= true,
        2 if !arrival.changes.is_empty() => {
            let at = random.below(arrival.changes.len());
            arrival.changes.remove(at);
        }
        3 => arrival.changes.push(Change::Pieces(*random.pick(SIZES), random.pick(ORDERS).to_vec())),
        4 | 5 => {
            arrival.changes.push(change(random));
            if !random.once_in(4) {
                arrival.changes.push(Change::Mend);
            }
        }
        _ => match &mut arrival.what {
            What::Line { arrives, text, .. } => {
                let changed = other_line(random, text);
                arrival.what = What::line(*arrives, &changed);
            }
            What::Answer { words, .. } => another(random, words, WORDS),
            What::Error { words, .. } => another(random, words, ERROR_WORDS),
        },
    }
    arrival.changes.truncate(6);
}

fn another(random: &mut Random, words: &mut Vec<String>, from: &[&str]) {
    if words.len() > 3 || (!words.is_empty() && random.once_in(3)) {
        let at = random.below(words.len());
        words.remove(at);
    } else if random.once_in(4) {
        words.push(data(random));
    } else {
        words.push(random.pick(from).to_string());
    }
}

/// Data that nothing else has, and so another checksum.
fn data(random: &mut Random) -> String {
    format!("data={}", random.next())
}

/// A line with a word more or less, or another port.
fn other_line(random: &mut Random, line: &str) -> String {
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let Some(arrow) = words.iter().position(|word| word == ">") else { return line.to_owned() };
    if line.contains(" about ") {
        return line.to_owned();
    }
    let extra = arrow + 2;
    match random.below(4) {
        0 if words.len() > extra => {
            let at = extra + random.below(words.len() - extra);
            words.remove(at);
        }
        1 => {
            if let Some((address, _)) = words[arrow - 1].rsplit_once(':').filter(|(address, _)| !address.ends_with(':'))
            {
                words[arrow - 1] = format!("{address}:{}", 40_000 + random.below(6));
            }
        }
        2 if words[0] == "tcp" => words[1] = random.pick(FLAGS).to_string(),
        _ if words.len() < extra + 5 => {
            let is_ipv6 = words[arrow + 1].starts_with('[');
            let from = match random.below(6) {
                0 if is_ipv6 => WORDS6,
                0 => WORDS4,
                1 | 2 if words[0] == "tcp" => TCP_WORDS,
                _ => WORDS,
            };
            let word = if random.once_in(4) { data(random) } else { random.pick(from).to_string() };
            // Options and extension headers say everything at once.
            words.retain(|other| word.split('=').next() != other.split('=').next());
            words.push(word);
        }
        _ => {}
    }
    words.join(" ")
}

/// The frame of some packet, damaged.
pub(crate) fn frame(random: &mut Random) -> (InterfaceId, Vec<u8>) {
    let mut arrival = Arrival::of(0, line(random));
    (0..random.below(4)).for_each(|_| arrival.changes.push(change(random)));
    if !random.once_in(4) {
        arrival.changes.push(Change::Mend);
    }
    crate::frames::of(&arrival, &[]).swap_remove(0)
}
