//! Answers of masqueraded flows: which queue they come to, and whose they are.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_dataplane::config::Settings as ReloadedSettings;
use ringway_dataplane::flow::Timeouts;
use ringway_dataplane::verdict::Verdict;
use ringway_dataplane::wire::Packet;
use ringway_shared::network::QueueChoice;
use ringway_shared::network::rss::{FieldsByPacket, HashedFields, Rss, RssSettings};
use ringway_shared::{Family, Protocol};

use crate::bed::random::Random;
use crate::bed::{INSIDE, Neighbors, OUTSIDE, ms, network};
use crate::{Team, answer, source_port};

/// The NIC towards pods hashes addresses and ports of TCP, of UDP addresses alone: with many SNAT addresses to choose from
/// that does no harm.
#[test]
fn answers_come_to_the_queue_of_the_worker_that_opened_the_flow() {
    for (addresses, udp) in [(64, 0..1), (0, 200..400)] {
        let handed = handed_answers(addresses);
        // For a few in a hundred no port that fits is among those looked at.
        assert!(handed.tcp <= 48, "{} of 800 answers of TCP were handed over", handed.tcp);
        assert!(udp.contains(&handed.udp), "{} of 400 answers of UDP were handed over", handed.udp);
    }
}

struct Handed {
    tcp: u64,
    udp: u64,
}

/// How many of 800 answers of TCP and of 400 of UDP were handed over, with so many SNAT addresses.
fn handed_answers(addresses: u8) -> Handed {
    let mut handed = Handed { tcp: 0, udp: 0 };
    for seed in 1..=4 {
        let mut random = Random::new(seed);
        let mut fields = FieldsByPacket::all(HashedFields::AddressesAndPorts);
        fields.set(Family::V4, Protocol::Udp, Some(HashedFields::Addresses));
        let key = (0..40).map(|_| random.below(256) as u8).collect();
        let rss = Arc::new(Rss::new(RssSettings { key, table: (0..128).map(|n| n % 4).collect(), fields }).unwrap());
        let mut team = Team::new(4);
        let choices = vec![(u32::from(INSIDE.0) + 1, QueueChoice::Computed(rss.clone()))];
        team.snapshot.network = Arc::new(network(1, Neighbors::All).with_queue_choices(choices));
        for worker in &mut team.workers {
            let snat_addresses =
                (0..addresses).map(|n| IpAddr::from([10, 77, n.wrapping_mul(31), n.wrapping_mul(57)])).collect();
            worker
                .pipeline
                .set(ReloadedSettings { timeouts: Timeouts::default(), snat_addresses, rescue: true }, ms(0));
        }
        for client in 0..100 {
            for (protocol, ask) in [
                (Protocol::Tcp, format!("outside tcp S 203.0.113.9:{} > 172.30.0.41:80", 1000 + client)),
                (Protocol::Tcp, format!("outside tcp S [2001:db8:c::9]:{} > [fd00:172:30::41]:80", 1000 + client)),
                (Protocol::Udp, format!("outside udp 203.0.113.9:{} > 172.30.0.53:53", 1000 + client)),
            ] {
                let owner = random.below(4);
                let (at, verdict, sent) = team.line(owner, &ask, ms(1));
                assert_eq!((at, verdict), (owner, Verdict::Forward { out: INSIDE }));
                let reply = answer(&sent.unwrap());
                let queue = rss.queue(&Packet::parse(&reply).unwrap().tuple).unwrap();
                let (back_at, verdict, _) = team.receive(usize::from(queue), INSIDE, &reply, ms(1));
                assert_eq!((back_at, verdict), (owner, Verdict::Forward { out: OUTSIDE }));
                let count = if protocol == Protocol::Tcp { &mut handed.tcp } else { &mut handed.udp };
                *count += u64::from(usize::from(queue) != owner);
            }
        }
        team.sum();
    }
    handed
}

/// All workers go on with these SNAT addresses.
fn reload(team: &mut Team, addresses: &[&str], at: u64) {
    for worker in &mut team.workers {
        let snat_addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        worker.pipeline.set(ReloadedSettings { timeouts: Timeouts::default(), snat_addresses, rescue: true }, ms(at));
    }
}

/// No interface has these addresses.
#[test]
fn answers_to_an_address_of_former_settings_find_their_owner() {
    for (ask, endpoint, addresses) in [
        ("203.0.113.9:5000 > 172.30.0.53:53", "10.0.1.3", ["198.51.100.50", "198.51.100.51"]),
        ("[2001:db8:c::9]:5000 > [fd00:172:30::53]:53", "[fd00:10::3]", ["[2001:db8:5::50]", "[2001:db8:5::51]"]),
    ] {
        let bare = addresses.map(|address| address.trim_matches(['[', ']']));
        let mut team = Team::new(2);
        reload(&mut team, &bare[..1], 0);
        let (_, _, sent) = team.line(1, &format!("outside udp {ask}"), ms(1));
        let port = source_port(&sent.unwrap());
        reload(&mut team, &bare[1..], 2);
        let snat = format!("{}:{port}", addresses[0]);
        let reply = format!("inside udp {endpoint}:5353 > {snat}");
        let (at, verdict, _) = team.line(0, &reply, ms(3));
        assert_eq!((at, verdict), (1, Verdict::Forward { out: OUTSIDE }), "{reply}");
        let kind = if endpoint.starts_with('[') { "1/4" } else { "3/3" };
        let [from, to] = [endpoint, addresses[0]].map(|address| address.trim_matches(['[', ']']));
        let error = format!("inside icmp {kind} {from} > {to} about udp {snat} > {endpoint}:5353");
        let (at, verdict, _) = team.line(0, &error, ms(4));
        assert_eq!((at, verdict), (1, Verdict::Forward { out: OUTSIDE }), "{error}");
        // As many are remembered as there is room for.
        for number in 0..63 {
            reload(&mut team, &[&format!("198.51.101.{number}")], 5);
        }
        assert_eq!(team.line(0, &reply, ms(5)).0, 1);
        reload(&mut team, &["198.51.101.63"], 6);
        let (at, verdict, _) = team.line(0, &reply, ms(7));
        assert_eq!((at, verdict), (0, Verdict::Pass { arrived: INSIDE }));
        team.sum();
    }
}

#[test]
fn settings_that_change_no_address_forget_none_of_before() {
    let mut team = Team::new(2);
    reload(&mut team, &["198.51.100.50"], 0);
    let (_, _, sent) = team.line(1, "outside udp 203.0.113.9:5000 > 172.30.0.53:53", ms(1));
    let reply = format!("inside udp 10.0.1.3:5353 > 198.51.100.50:{}", source_port(&sent.unwrap()));
    // As many as are remembered.
    let addresses: Vec<String> = (0..64).map(|number| format!("198.51.101.{number}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    for _ in 0..2 {
        reload(&mut team, &addresses, 2);
    }
    let (at, verdict, _) = team.line(0, &reply, ms(3));
    assert_eq!((at, verdict), (1, Verdict::Forward { out: OUTSIDE }));
    team.sum();
}

#[test]
fn an_address_that_comes_and_goes_is_remembered_once() {
    let mut team = Team::new(2);
    reload(&mut team, &["198.51.100.50"], 0);
    let (_, _, sent) = team.line(1, "outside udp 203.0.113.9:5000 > 172.30.0.53:53", ms(1));
    let reply = format!("inside udp 10.0.1.3:5353 > 198.51.100.50:{}", source_port(&sent.unwrap()));
    // More often than addresses are remembered.
    for address in ["198.51.101.1", "198.51.101.2"].iter().cycle().take(200) {
        reload(&mut team, &[address], 2);
    }
    let (at, verdict, _) = team.line(0, &reply, ms(3));
    assert_eq!((at, verdict), (1, Verdict::Forward { out: OUTSIDE }));
}
