//! Fuzzing: stories of packets, played to two workers, and what must hold of every one of them: nothing panics, every packet
//! has one fate, the ledger closes, frames are conserved, what is passed is as it came, what is sent on differs only in what a
//! router and its NAT may change, no checksum is more right or wrong than it was, and played twice it all comes out the same.
//!
//! As a test it replays the corpus, and hunts for as long as a test may take. `make fuzz` hunts for hours.
//!
//! - `FUZZ_SECONDS=N` is how long; `FUZZ_SEED=N` makes it another hunt; `FUZZ_THEME=flows|quotes|fragments|parse|captures`.
//! - A story that breaks something is written, shortened, to `corpus/faults.txt`, where the next replay finds it.
//! - `FUZZ_KEEP=1` writes the shortest stories that reach all that the hunt reached to `corpus/reached.txt`.

#[path = "../bed/mod.rs"]
mod bed;
mod bytes;
mod covered;
mod frames;
mod hunt;
mod judge;
mod play;
mod story;
mod vary;

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bed::random::Random;
use hunt::{Hunter, Wanted, attempt};
use play::{SNAPSHOTS, Stage};
use ringway_dataplane::wire::{Packet, Refusal};
use ringway_shared::DropReason;
use ringway_shared::counters::Counter;
use story::{Event, Story};
use vary::Theme;

/// How many stories the same two workers are played in a hunt.
const TOGETHER: u64 = 50;
/// How many stories of each theme, frames and captures a test goes through.
const STORIES: u64 = 3_000;
const FRAMES: u64 = 200_000;
const CAPTURES: u64 = 10_000;

fn corpus() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fuzz", "corpus"].iter().collect()
}

/// All stories of the corpus, with the names of their files.
fn stories() -> Vec<(String, Story)> {
    let mut files: Vec<PathBuf> = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let of = |file: PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let stories = story::read(&fs::read_to_string(&file).unwrap(), SNAPSHOTS);
        stories.into_iter().map(move |story| (name.clone(), story))
    };
    files.into_iter().flat_map(of).collect()
}

/// A number or word that the environment has.
fn asked<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}: it must be a number")))
}

#[test]
fn every_story_of_the_corpus_holds() {
    let stage = Stage::new();
    let stories = stories();
    assert!(stories.len() > 20, "the corpus has but {} stories", stories.len());
    for (file, story) in &stories {
        let text = story.to_string();
        let again = story::read(&text, SNAPSHOTS);
        assert_eq!(again, std::slice::from_ref(story), "what is written is not what was read: {file}");
        let [first, second] = [(); 2].map(|()| {
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.play(story)));
            played.unwrap_or_else(|_| panic!("{file} has a story that breaks something:\n{text}"))
        });
        assert_eq!(first, second, "played twice, it comes out otherwise: {file}\n{text}");
    }
}

/// What the corpus has as packets that come, not as answers to others.
#[test]
fn every_frame_of_the_corpus_is_read_as_it_stands() {
    let (mut read, mut foreign, mut refused) = (0, 0, HashSet::new());
    for (file, story) in stories() {
        for event in &story.events {
            let Event::Packet(arrival) = event else { continue };
            for (_, frame) in frames::of(arrival, &[]) {
                match Packet::parse(&frame) {
                    Ok(_) => read += 1,
                    Err(Refusal::Invalid(invalid)) => drop(refused.insert(invalid.reason)),
                    Err(Refusal::Foreign) => foreign += 1,
                }
                let parsed = std::panic::catch_unwind(|| bytes::parsed(frame.clone(), &mut Random::new(7)));
                assert!(
                    parsed.is_ok(),
                    "{file} has a frame that is read otherwise than it stands: {frame:02x?}\n{story}"
                );
            }
        }
    }
    assert!(read > 60 && foreign > 5, "the corpus has but {read} good frames and {foreign} that are no IP");
    let missing: Vec<_> = REFUSED.iter().filter(|reason| !refused.contains(reason)).collect();
    assert!(missing.is_empty(), "the corpus has no frame that is {missing:?}");
}

/// Why the parser refuses frames of the corpus.
const REFUSED: &[DropReason] = &[
    DropReason::TruncatedIpv4,
    DropReason::InvalidIpv4Header,
    DropReason::Ipv4HeaderChecksum,
    DropReason::TruncatedIpv6,
    DropReason::InvalidIpv6Header,
    DropReason::ExtensionChainTooLong,
    DropReason::TruncatedTcp,
    DropReason::InvalidTcpHeader,
    DropReason::TruncatedUdp,
    DropReason::InvalidUdpLength,
    DropReason::TruncatedSctp,
    DropReason::TruncatedIcmp,
    DropReason::TinyFragment,
];

/// What is hunted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prey {
    Story(Theme),
    Frame,
    Capture,
}

/// Themes, how much of each in a test, and how much at a time in a long hunt.
const PREY: &[(&str, Prey, u64, u64)] = &[
    ("flows", Prey::Story(Theme::Flows), STORIES, 1_000),
    ("quotes", Prey::Story(Theme::Quotes), STORIES, 1_000),
    ("fragments", Prey::Story(Theme::Fragments), STORIES, 1_000),
    ("parse", Prey::Frame, FRAMES, 5_000),
    ("captures", Prey::Capture, CAPTURES, 500),
];

/// What stories must lead to, or they are good for nothing.
const WANTED: &[Wanted] = &[
    Wanted::Count(Counter::HandedOver),
    Wanted::Count(Counter::FlowsEvicted),
    Wanted::Count(Counter::FlowsRescued),
    Wanted::Count(Counter::RepliesLimited),
    Wanted::Reply(DropReason::NoEndpoint),
    Wanted::Reply(DropReason::NoServicePort),
    Wanted::Reply(DropReason::TtlExpired),
    Wanted::Reply(DropReason::EndpointDeleted),
    Wanted::Reply(DropReason::TooBig),
    Wanted::Reply(DropReason::EchoRequest),
    Wanted::Drop(DropReason::TruncatedIpv4),
    Wanted::Drop(DropReason::TruncatedIpv6),
    Wanted::Drop(DropReason::InvalidTcpHeader),
    Wanted::Drop(DropReason::InvalidUdpLength),
    Wanted::Drop(DropReason::ImpossibleSource),
    Wanted::Drop(DropReason::FragmentWithoutFirst),
    Wanted::Drop(DropReason::TinyFragment),
    Wanted::Drop(DropReason::FragmentOverlap),
    Wanted::Drop(DropReason::NeighborUnresolved),
    Wanted::Drop(DropReason::UnallocatedClusterIp),
    Wanted::Drop(DropReason::RstWithoutFlow),
    Wanted::Drop(DropReason::NoRoute),
    Wanted::Drop(DropReason::SourceRouted),
    Wanted::Drop(DropReason::IcmpWithoutFlow),
    Wanted::Drop(DropReason::IcmpOutsideWindow),
    Wanted::Drop(DropReason::ExtensionChainTooLong),
    Wanted::Drop(DropReason::SctpFragment),
    Wanted::Drop(DropReason::SnatPortsExhausted),
];

#[test]
fn a_hunt_finds_nothing() {
    let seconds: Option<u64> = asked("FUZZ_SECONDS");
    let seed = asked("FUZZ_SEED").unwrap_or(0x5eed);
    let theme: Option<String> = asked("FUZZ_THEME");
    let prey: Vec<_> = PREY.iter().filter(|(name, ..)| theme.as_ref().is_none_or(|theme| theme == name)).collect();
    assert!(!prey.is_empty(), "FUZZ_THEME is {theme:?}: it must be one of flows, quotes, fragments, parse, captures");
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut random = Random::new(seed);
    hunt::keep_panics();
    let mut hunter = Hunter::new();
    let mut faults = Faults::default();
    for (file, story) in stories() {
        match hunter.play(&story) {
            Ok(_) => hunter.pool.push(story),
            Err(said) => faults.tell(&format!("in {file}"), &story.to_string(), &said),
        }
    }
    let mut counts = vec![0; prey.len()];
    loop {
        for ((name, prey, in_test, at_a_time), count) in prey.iter().zip(&mut counts) {
            let times = if seconds.is_some() { *at_a_time } else { *in_test };
            let end = *count + times;
            while *count < end {
                match prey {
                    Prey::Story(theme) => {
                        *count += TOGETHER;
                        if let Err((story, said)) = hunter.several(&mut random, *theme, TOGETHER) {
                            faults.tell(&format!("{name}, after {count}"), &story.to_string(), &said);
                        }
                    }
                    Prey::Frame | Prey::Capture => {
                        *count += 1;
                        let seed = random.next();
                        let act = if *prey == Prey::Frame { bytes::parse } else { bytes::capture };
                        if let Err(said) = attempt(|| act(&mut Random::new(seed))) {
                            faults.tell(&format!("{name}, after {count}: Random::new({seed})"), "", &said);
                        }
                    }
                }
            }
        }
        let over = seconds.is_none_or(|seconds| start.elapsed() > Duration::from_secs(seconds));
        if seconds.is_some() && (over || told.elapsed() > Duration::from_secs(60)) {
            told = Instant::now();
            let (covered, regions) = hunter.covered();
            let counts: Vec<_> =
                prey.iter().zip(&counts).map(|((name, ..), count)| format!("{name} {count}")).collect();
            println!(
                "{} s: {}; {} packets in stories, {} stories kept, {covered} of {regions} regions, {} faults",
                start.elapsed().as_secs(),
                counts.join(", "),
                hunter.packets,
                hunter.pool.len(),
                faults.known.len(),
            );
        }
        if over {
            break;
        }
    }
    if asked::<u8>("FUZZ_KEEP").is_some_and(|keep| keep > 0) {
        let mut gist: Vec<String> = hunter.gist().iter().map(Story::to_string).collect();
        gist.sort();
        fs::write(corpus().join("reached.txt"), gist.join("\n")).unwrap();
    }
    let _ = std::panic::take_hook();
    let missing = hunter.missing(WANTED);
    assert!(theme.is_some() || missing.is_empty(), "the hunt never came by {missing:?}");
    assert!(faults.known.is_empty(), "found {} faults:\n{}", faults.known.len(), faults.all);
}

/// What was found.
#[derive(Default)]
struct Faults {
    /// Without their numbers.
    known: HashSet<String>,
    all: String,
}

impl Faults {
    /// Writes down what breaks something, unless the like of it is known.
    fn tell(&mut self, place: &str, story: &str, said: &str) {
        let like: String = said.chars().filter(|letter| !letter.is_ascii_digit()).take(160).collect();
        if self.known.len() > 100 || !self.known.insert(like) {
            return;
        }
        let said: String = said.chars().take(2_000).collect();
        println!("FAULT ({place}): {said}\n{story}");
        self.all += &format!("({place}): {said}\n{story}\n");
        if !story.is_empty() && asked::<u64>("FUZZ_SECONDS").is_some() {
            let first: String = said.lines().nth(1).unwrap_or(&said).chars().take(160).collect();
            let mut file = fs::OpenOptions::new().create(true).append(true).open(corpus().join("faults.txt")).unwrap();
            writeln!(file, "\n# {first}\n{story}").unwrap();
        }
    }
}
