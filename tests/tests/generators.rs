//! The load generators: what one offers arrives, each frame as it was meant, and where one cannot be, it is said why.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::program::XdpMode;
use ringway_dataplane::wire::Packet;
use ringway_perf::generator::{By, LiveFrames, Load, send};
use ringway_perf::recorder::{record, tap};
use ringway_perf::traffic::{Kind, LONGEST, Mix, PSH_ACK, SYN, SizeList, Stamp};
use ringway_shared::MacAddress;
use ringway_tests::can_run;
use ringway_tests::netns::{End, Namespace, veth};

const CLIENT_MAC: &str = "02:00:00:00:01:01";
const SERVER_MAC: &str = "02:00:00:00:01:02";
const REDIRECT: u32 = 4;

fn mac(text: &str) -> MacAddress {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

fn mix(kind: Kind, sizes: &str) -> Mix {
    let [client, frontend] =
        if kind.is_v6() { ["fd00:198::1", "[fd00:192::2]:53"] } else { ["198.18.0.1", "192.0.2.2:53"] };
    Mix {
        kind,
        flows: 20_000,
        sizes: sizes.parse::<SizeList>().expect("sizes").of(kind),
        destination_mac: mac(SERVER_MAC),
        source_mac: mac(CLIENT_MAC),
        first_client: client.parse().expect("an address"),
        destination: frontend.parse().expect("an address"),
    }
}

/// A client and a server, joined by one link.
fn link(test: &str) -> (Namespace, Namespace) {
    let namespace =
        |role: &str| Namespace::create("test", &format!("{test}{role}")).unwrap_or_else(|error| panic!("{error}"));
    let (client, server) = (namespace("client"), namespace("server"));
    let end = |namespace, mac| End { namespace, link: "eth0", mac: Some(mac) };
    veth(end(&server, SERVER_MAC), end(&client, CLIENT_MAC), 1).unwrap_or_else(|error| panic!("{error}"));
    (client, server)
}

/// Checksums and all the rest of what the program writes are then those that the unit tests of `Mix` look at.
#[test]
fn the_program_writes_the_frames_of_the_mix() {
    if !can_run("the_program_writes_the_frames_of_the_mix", &[]) {
        return;
    }
    for kind in Kind::ALL {
        let mix = mix(kind, "60,65,75,85,90,91,1514");
        let sizes = mix.sizes.iter().copied().filter(|size| *size >= kind.shortest()).collect();
        let mix = Mix { sizes, ..mix };
        let mut frames = LiveFrames::new(1, &mix, 0).unwrap_or_else(|error| panic!("{error}"));
        let (mut seen, mut stamps) = (std::collections::HashSet::new(), 0);
        for _ in 0..500 {
            let (verdict, made) = frames.one().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(verdict, REDIRECT);
            let packet = Packet::parse(&made).unwrap_or_else(|error| panic!("{error:?}: {made:?}"));
            let flow = (0..mix.flows).find(|flow| mix.tuple(*flow) == packet.tuple);
            let flow = flow.unwrap_or_else(|| panic!("no flow of the mix: {:?}", packet.tuple));
            let is_first = seen.insert(flow);
            let stamp = Stamp::read(&made);
            assert_eq!(stamp.is_some(), made.len() >= kind.shortest_stamped());
            if let Some(stamp) = stamp {
                assert_eq!(stamp.sequence, stamps);
                stamps += 1;
            }
            let mut expected = vec![0; LONGEST];
            let flags = if is_first { SYN } else { PSH_ACK };
            let length = mix.write(flow, made.len(), flags, stamp.unwrap_or_default(), &mut expected);
            assert_eq!(made, expected[..length], "{kind}, flow {flow}");
        }
        assert!(stamps > 0);
    }
}

/// So few frames that the receiver's rings hold them all, whenever it gets to look at them.
#[test]
fn all_that_is_offered_arrives() {
    if !can_run("all_that_is_offered_arrives", &["ip"]) {
        return;
    }
    let (client, server) = link("offer");
    for by in [By::LiveFrames, By::AfXdp] {
        for kind in Kind::ALL {
            let mix = mix(kind, if kind == Kind::Udp4 { "imix" } else { "75,100,1514" });
            let frontend: SocketAddr = mix.destination;
            let (rate, duration) = (5_000, Duration::from_millis(200));
            let (recording, offered) = server
                .enter(|| {
                    let taps = tap("eth0", &[frontend.ip()], XdpMode::Native, 0);
                    let mut taps = taps.unwrap_or_else(|error| panic!("{error}"));
                    let load = Load { mix, rate, duration, by };
                    let offered = client.enter(|| send("eth0", &load)).unwrap_or_else(|error| panic!("{error}"));
                    let offered = offered.unwrap_or_else(|error| panic!("{error}"));
                    let deadline = Instant::now() + Duration::from_secs(10);
                    let recording = record(&mut taps, |so_far| {
                        so_far.packets + so_far.foreign >= offered.packets || Instant::now() > deadline
                    });
                    (recording, offered)
                })
                .unwrap_or_else(|error| panic!("{error}"));
            let what = format!("{} {kind}: {offered:?}", by.label());
            assert_eq!((offered.by, &offered.because), (by, &None), "{what}");
            // At least one burst, and no more than the rate allows for twice as long.
            assert!((1..=2 * 1000 + 64).contains(&offered.packets), "{what}");
            assert_eq!(recording.packets, offered.stamped, "{what}");
            assert_eq!(recording.packets + recording.foreign, offered.packets, "{what}");
            assert_eq!((recording.lost, recording.latency.len()), (0, offered.stamped), "{what}");
            assert!(offered.stamped > 0, "{what}");
            // Frames of 75 bytes: a third.
            assert_eq!(offered.stamped < offered.packets, kind.is_v6(), "{what}");
        }
    }
}

/// The other end of this veth has neither a native XDP program nor GRO.
#[test]
fn where_live_frames_do_not_leave_af_xdp_takes_over_and_says_why() {
    if !can_run("where_live_frames_do_not_leave_af_xdp_takes_over_and_says_why", &["ip"]) {
        return;
    }
    let (client, _server) = link("fallback");
    let offer = |by| {
        let load = Load { mix: mix(Kind::Udp4, "shortest"), rate: 1_000, duration: Duration::from_millis(50), by };
        client.enter(|| send("eth0", &load)).unwrap_or_else(|error| panic!("{error}"))
    };
    let why = "live frames do not leave by eth0: it takes no redirected frames; a veth does once";
    let error = offer(By::LiveFrames).expect_err("nothing takes them").0;
    assert!(error.starts_with(why), "{error}");
    let offered = offer(By::Auto).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(offered.by, By::AfXdp);
    assert!(offered.because.as_ref().is_some_and(|because| because.starts_with(why)), "{offered:?}");
    assert!(offered.packets > 0);
}
