use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use ringway_shared::BackendId;
use ringway_shared::service::ServiceName;

use super::*;

fn affinity(service: u8, seconds: u64) -> Affinity {
    let name = ServiceName { namespace: "shop".into(), name: service.to_string().into() };
    Affinity::new(&name, Duration::from_secs(seconds))
}

fn set(v6: bool, members: &[(u8, u16)]) -> EndpointSet {
    let backend = |(n, (last, port)): (u32, &(u8, u16))| Backend {
        id: BackendId(n),
        address: address(v6, 9, *last),
        port: *port,
        weight: 1,
    };
    EndpointSet::new((0..).zip(members).map(backend).collect())
}

fn address(v6: bool, net: u8, last: u8) -> IpAddr {
    if v6 { format!("fd00::{net:x}:{last:x}").parse().unwrap() } else { IpAddr::from([10, 0, net, last]) }
}

fn seconds(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

#[test]
fn one_of_several_ports_on_the_address_is_picked_by_the_choice() {
    let affinities = Affinities::new(8, 1);
    let client = address(false, 1, 1);
    let set = set(false, &[(1, 80), (2, 80), (2, 81), (3, 80)]);
    affinities.note(&affinity(1, 60), client, address(false, 9, 2), seconds(0));
    let ports: Vec<_> = (0..4)
        .map(|choice| affinities.find(&affinity(1, 60), client, &set, choice, seconds(1)).unwrap().port)
        .collect();
    assert_eq!(ports, [80, 81, 80, 81]);
}

#[test]
fn the_first_connection_goes_where_the_later_ones_do() {
    for v6 in [false, true] {
        let set = set(v6, &[(1, 80), (1, 81), (2, 80), (2, 81), (2, 82)]);
        for choice in (0..1_000).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let (affinities, client) = (Affinities::new(8, 1), address(v6, 1, 1));
            let chosen = first(&set, choice).unwrap();
            assert_eq!(Some(chosen.address), set.select(choice).map(|backend| backend.address));
            affinities.note(&affinity(1, 60), client, chosen.address, seconds(0));
            assert_eq!(affinities.find(&affinity(1, 60), client, &set, choice, seconds(1)), Some(chosen));
        }
    }
}

#[test]
fn a_full_bucket_forgets_who_was_silent_for_longest() {
    let affinities = Affinities::new(WAYS, 1);
    let (affinity, set) = (affinity(1, 3600), set(false, &[(1, 80)]));
    let client = |n: u64| address(false, 1, n as u8);
    let endpoint = address(false, 9, 1);
    for n in 0..WAYS as u64 {
        affinities.note(&affinity, client(n), endpoint, seconds(n));
    }
    affinities.note(&affinity, client(0), endpoint, seconds(20));
    affinities.note(&affinity, client(100), endpoint, seconds(21));
    let known: Vec<u64> =
        (0..101).filter(|n| affinities.find(&affinity, client(*n), &set, 0, seconds(22)).is_some()).collect();
    assert_eq!(known, [0, 2, 3, 4, 5, 6, 7, 100]);
}

/// Who is known of these after all, in a bucket that they fill, each a second after the one before.
fn known_after(steps: &[(IpAddr, Rank)]) -> Vec<IpAddr> {
    let (affinities, affinity) = (Affinities::new(WAYS, 1), affinity(1, 3600));
    let v6 = |client: &IpAddr| client.is_ipv6();
    for (n, (client, rank)) in steps.iter().enumerate() {
        let (endpoint, now) = (address(v6(client), 9, 1), seconds(n as u64));
        affinities.note(&affinity, *client, endpoint, now);
        affinities.raise(&affinity, *client, endpoint, *rank, now);
    }
    let is_known = |client: &&IpAddr| {
        affinities.find(&affinity, **client, &set(v6(client), &[(1, 80)]), 0, seconds(steps.len() as u64)).is_some()
    };
    steps.iter().map(|(client, _)| client).filter(is_known).copied().collect()
}

#[test]
fn none_is_forgotten_for_one_of_a_lower_rank() {
    use Rank::{Heard, Named, WentOn};
    let client = |n: u8| address(false, 1, n);
    let first = [Named, WentOn, Heard, Named, WentOn, Heard, Named, WentOn];
    let filled: Vec<_> = (0..).map(client).zip(first).collect();
    let after =
        |more: &[Rank]| known_after(&[filled.clone(), (8..).map(client).zip(more.iter().copied()).collect()].concat());
    let clients = |numbers: &[u8]| numbers.iter().map(|n| client(*n)).collect::<Vec<_>>();
    assert_eq!(after(&[Named; 5]), clients(&[1, 2, 4, 5, 7, 10, 11, 12]));
    assert_eq!(after(&[WentOn; 5]), clients(&[2, 5, 7, 8, 9, 10, 11, 12]));
    assert_eq!(after(&[WentOn; 20])[..2], clients(&[2, 5]));
    assert_eq!(after(&[Heard; 6]), clients(&[2, 5, 8, 9, 10, 11, 12, 13]));
    assert_eq!(after(&[Heard; 7]), clients(&[5, 8, 9, 10, 11, 12, 13, 14]));
    assert_eq!(after(&[Heard, Heard, Heard, Heard, Heard, Heard, Named, WentOn]), after(&[Heard; 6]));
}

#[test]
fn who_has_an_ipv6_network_to_himself_pushes_out_his_own() {
    for rank in [Rank::Named, Rank::WentOn, Rank::Heard] {
        let one = |n: u8| (format!("2001:db8::{n:x}").parse().unwrap(), rank);
        let other = |n: u8| (format!("2001:db8:{n:x}::1").parse().unwrap(), rank);
        let v4 = |n: u8| (address(false, 1, n), rank);
        let honest = [other(1), v4(1), other(2), v4(2), other(3), v4(3), other(4)];
        let flood: Vec<_> = (1..100).map(one).collect();
        let expected: Vec<IpAddr> = honest.iter().chain(flood.last()).map(|(client, _)| *client).collect();
        assert_eq!(known_after(&[&honest[..], &flood[..]].concat()), expected);
        // While nobody else asks, it has all the room.
        assert_eq!(known_after(&flood).len(), WAYS);
        assert_eq!(known_after(&[&flood[..], &honest[..]].concat()).len(), WAYS);
        assert!(known_after(&[&flood[..], &honest[..]].concat()).ends_with(&honest.map(|(client, _)| client)));
    }
}

/// Clients who share a network are no easier to push out for who has many: the one that was silent for longest goes.
#[test]
fn who_has_many_ipv6_networks_pushes_out_by_age_alone() {
    let share = |n: u8| (format!("2001:db8::{n:x}").parse().unwrap(), Rank::WentOn);
    let forged = |n: u8| (format!("2001:db9:{n:x}::1").parse().unwrap(), Rank::WentOn);
    let steps: Vec<_> = (1..5).map(forged).chain((1..5).map(share)).chain((5..9).map(forged)).collect();
    let expected: Vec<IpAddr> = steps[4..].iter().map(|(client, _)| *client).collect();
    assert_eq!(known_after(&steps), expected);
}

#[test]
fn a_client_that_goes_elsewhere_has_to_show_itself_anew() {
    let (affinities, affinity, client) = (Affinities::new(WAYS, 1), affinity(1, 3600), address(false, 1, 1));
    let (one, other) = (address(false, 9, 1), address(false, 9, 2));
    affinities.note(&affinity, client, one, seconds(0));
    affinities.raise(&affinity, client, one, Rank::Heard, seconds(0));
    affinities.note(&affinity, client, other, seconds(1));
    affinities.raise(&affinity, client, one, Rank::Heard, seconds(1));
    for n in 0..WAYS as u8 {
        affinities.note(&affinity, address(false, 2, n), one, seconds(2));
    }
    assert_eq!(affinities.find(&affinity, client, &set(false, &[(1, 80), (2, 80)]), 0, seconds(3)), None);
}

#[test]
fn a_rank_is_never_lowered_and_protects_nobody_after_the_longest_timeout() {
    let (affinities, affinity) = (Affinities::new(WAYS, 1), affinity(1, 3 * LONGEST));
    let (endpoint, set) = (address(false, 9, 1), set(false, &[(1, 80)]));
    let rise = |client: u8, rank, at| {
        affinities.note(&affinity, address(false, 1, client), endpoint, seconds(at));
        affinities.raise(&affinity, address(false, 1, client), endpoint, rank, seconds(at));
    };
    let is_known = |client| affinities.find(&affinity, address(false, 1, client), &set, 0, seconds(LONGEST)).is_some();
    rise(0, Rank::Heard, 0);
    rise(0, Rank::WentOn, 0);
    (1..20).for_each(|client| rise(client, Rank::WentOn, 1));
    assert!(is_known(0));
    (20..28).for_each(|client| rise(client, Rank::Heard, 2));
    rise(100, Rank::Named, LONGEST);
    assert!(!is_known(100));
    rise(100, Rank::Named, LONGEST + 10);
    assert!(is_known(100));
}

/// Writers race on one bucket; whoever reads gets an endpoint that this client really had, or none.
#[test]
fn a_reader_never_sees_a_mixture_of_two_clients() {
    let affinities = Affinities::new(WAYS, 1);
    let affinity = affinity(1, 3600);
    let members: Vec<(u8, u16)> = (0..=255).map(|last| (last, 80)).collect();
    let set = set(false, &members);
    std::thread::scope(|scope| {
        for writer in 0..2u8 {
            let (affinities, set) = (&affinities, &set);
            scope.spawn(move || {
                for n in 0..200_000u32 {
                    let last = (n % 31) as u8 * 8 + writer;
                    // A client always gets the endpoint with its own last byte.
                    affinities.note(&affinity, address(false, 1, last), address(false, 9, last), seconds(1));
                    let other = last ^ 1;
                    if let Some(found) = affinities.find(&affinity, address(false, 1, other), set, 0, seconds(1)) {
                        assert_eq!(found.address, address(false, 9, other));
                    }
                }
            });
        }
    });
}

proptest! {
    /// Against a map, with room for all.
    #[test]
    fn a_client_keeps_its_endpoint_for_as_long_as_it_should(
        v6 in any::<bool>(),
        steps in proptest::collection::vec((0u8..3, 0u8..20, 0u8..6, 0u64..40, any::<bool>()), 1..200),
    ) {
        let affinities = Affinities::new(1 << 12, 7);
        let timeout = 60;
        let mut oracle: HashMap<(u8, u8), (u8, u64)> = HashMap::new();
        let mut now = 0;
        for (service, client, endpoint, pause, look) in steps {
            now += pause;
            let affinity = affinity(service, timeout);
            let address_of_client = address(v6, 1, client);
            if look {
                // Only even endpoints are eligible just now.
                let set = set(v6, &[(0, 80), (2, 80), (4, 80)]);
                let found = affinities.find(&affinity, address_of_client, &set, 0, seconds(now));
                let expected = oracle
                    .get(&(service, client))
                    .filter(|(endpoint, then)| now - then < timeout && endpoint % 2 == 0)
                    .map(|(endpoint, _)| address(v6, 9, *endpoint));
                // Time is kept to 67 ms.
                let on_edge = oracle.get(&(service, client)).is_some_and(|(_, then)| now - then == timeout);
                prop_assert!(on_edge || found.map(|found| found.address) == expected);
            } else {
                affinities.note(&affinity, address_of_client, address(v6, 9, endpoint), seconds(now));
                oracle.insert((service, client), (endpoint, now));
            }
        }
    }
}
