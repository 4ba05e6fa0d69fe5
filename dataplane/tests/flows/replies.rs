//! SNAT ports by the queue that replies come to.

use super::*;
use proptest::prelude::*;
use ringway_dataplane::flow::ReplyQueues;
use ringway_shared::network::rss::{FieldsByPacket, HashedFields, Rss, RssSettings};
use std::collections::HashSet;

/// The queue of a packet, bit by bit as the definition says.
fn queue(settings: &RssSettings, tuple: &FiveTuple) -> u32 {
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut input = [bytes(tuple.source_address()), bytes(tuple.destination_address())].concat();
    input.extend([tuple.source_port(), tuple.destination_port()].map(u16::to_be_bytes).concat());
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1 == 1;
    let mut hash = 0u32;
    for at in (0..input.len() * 8).filter(|at| bit(&input, *at)) {
        hash ^= (0..32).fold(0, |window, step| window << 1 | u32::from(bit(&settings.key, at + step)));
    }
    settings.table[hash as usize % settings.table.len()]
}

fn settings(key: u64, queues: u32, size: usize) -> RssSettings {
    let mut state = key;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    RssSettings {
        key: (0..52).map(|_| random() as u8).collect(),
        table: (0..size).map(|_| random() % queues).collect(),
        fields: FieldsByPacket::all(HashedFields::AddressesAndPorts),
    }
}

fn open(table: &mut FlowTable, new: &NewFlow, rss: Option<&Rss>, worker: u16, workers: u16, at: Time) -> FlowId {
    let replies = rss.and_then(|rss| ReplyQueues::new(rss, worker, workers));
    table.open_new(table.hash(&new.original), new, replies, at).unwrap().id
}

fn comes_to(settings: &RssSettings, table: &FlowTable, id: FlowId, workers: u16) -> u16 {
    (queue(settings, &table.flow(id).reply()) % u32::from(workers)) as u16
}

/// How many ports are looked at for one flow.
const LOOKS: usize = 256;

#[test]
fn replies_come_to_the_owner_while_fitting_ports_are_left() {
    for (key, family) in [(1, "10.0.0.9"), (2, "[2001:db8::9]"), (3, "10.0.0.9")] {
        for (worker, workers) in [(0, 2), (1, 2), (3, 4), (7, 8)] {
            let settings = settings(key, u32::from(workers), 128);
            let rss = Rss::new(settings.clone()).unwrap();
            let mut table = FlowTable::new(&config(1024, 61000..=61255));
            let (mut fitting, mut last, mut client_of_last) = (0, 0, 0);
            for client in 1..=256 {
                let new = masqueraded(Protocol::Tcp, &format!("{family}:{client}"));
                let id = open(&mut table, &new, Some(&rss), worker, workers, seconds(1));
                establish(&mut table, id, seconds(1));
                if comes_to(&settings, &table, id, workers) == worker {
                    fitting += 1;
                    (last, client_of_last) = (fitting, client);
                }
            }
            let like = 256 / u32::from(workers);
            assert!((like / 3..=like * 2).contains(&fitting), "{fitting} of 256 fit");
            // Few flows took another while one was left that fits: they found none among those that they looked at.
            let missed = client_of_last - last;
            assert!(missed <= fitting / 8, "{missed} flows beside {fitting} whose port fits, {workers} workers");
        }
    }
}

/// By this key only one port bit of the lowest six decides about two queues: 32 ports in a row fit, and 32 do not.
#[test]
fn no_run_of_ports_that_do_not_fit_is_too_long() {
    let words = [
        0xff5b_0f16_u32,
        0x2111_1b88,
        0x5b9e_55d1,
        0x32eb_df41,
        0x47d0_7e8e,
        0x21e1_3cca,
        0xff1e_ace5,
        0x9277_2e4b,
        0x5d20_6327,
        0xc7af_47c1,
    ];
    let key = words.into_iter().flat_map(u32::to_be_bytes).collect();
    let settings = RssSettings { key, table: (0..128).map(|place| place % 2).collect(), ..settings(1, 2, 1) };
    let rss = Rss::new(settings.clone()).unwrap();
    let mut table = FlowTable::new(&config(4096, 10_000..=59_999));
    for client in 1..=1000 {
        let new = masqueraded(Protocol::Tcp, &format!("10.0.0.9:{client}"));
        let id = open(&mut table, &new, Some(&rss), 0, 2, seconds(1));
        assert_eq!(comes_to(&settings, &table, id, 2), 0, "flow {client}");
    }
}

/// One value of the hash in 1024 leads to the worker: ports that fit are far apart, and no flow looks for one for long.
#[test]
fn for_one_flow_few_ports_are_looked_at() {
    for workers in [2u16, 4, 8] {
        let table_of_one = (0..1024).map(|place| u32::from(place == 77)).collect();
        let settings = RssSettings { table: table_of_one, ..settings(9, 2, 1024) };
        let rss = Rss::new(settings.clone()).unwrap();
        let mut table = FlowTable::new(&config(4096, 10_000..=59_999));
        const FLOWS: usize = 100;
        let mut fitting = 0;
        for client in 1..=FLOWS {
            let new = masqueraded(Protocol::Udp, &format!("10.0.0.9:{client}"));
            let id = open(&mut table, &new, Some(&rss), 1, workers, seconds(1));
            fitting += usize::from(comes_to(&settings, &table, id, workers) == 1);
        }
        let seen = FLOWS * LOOKS;
        assert!(
            (seen / 1024 / 2..=seen / 1024 * 2).contains(&fitting),
            "{fitting} fit of {seen} that may be looked at"
        );
    }
}

/// The NIC's RSS is changed, and at last cannot be read any more.
#[test]
fn ports_are_sorted_anew_when_the_rss_changes() {
    let mut table = FlowTable::new(&config(1024, 61000..=61127));
    let mut client = 0;
    let mut flows = Vec::new();
    for (second, key) in (10..).step_by(5).zip([Some(1), Some(2), None, Some(3)]) {
        let settings = key.map(|key| settings(key, 2, 64));
        let rss = settings.clone().map(|settings| Rss::new(settings).unwrap());
        for id in std::mem::take(&mut flows) {
            table.remove(id, seconds(second));
        }
        let mut fitting = 0;
        for _ in 0..128 {
            client += 1;
            let new = masqueraded(Protocol::Udp, &format!("10.0.0.9:{client}"));
            let id = open(&mut table, &new, rss.as_ref(), 1, 2, seconds(second));
            if let Some(settings) = &settings {
                let fits = comes_to(settings, &table, id, 2) == 1;
                assert!(!fits || fitting == flows.len(), "key {key:?}, flow {}", flows.len());
                fitting += usize::from(fits);
            }
            flows.push(id);
        }
        let ports: HashSet<u16> = flows.iter().map(|id| table.flow(*id).reply().destination_port()).collect();
        assert_eq!(ports.len(), 128, "every port is found");
        assert_eq!(table.port_use(&table.flow(flows[0]).reply()).map(|port_use| port_use.used), Some(128));
    }
}

/// Next hops by two NICs, whose RSS differ.
#[test]
fn ways_by_several_nics_disturb_nobody() {
    let settings = [1, 2].map(|key| settings(key, 2, 128));
    let rss = settings.clone().map(|settings| Rss::new(settings).unwrap());
    let mut table = FlowTable::new(&config(4096, 61000..=61999));
    let mut fitting = 0;
    for client in 0..400u16 {
        let nic = usize::from(client % 2);
        let new = masqueraded(Protocol::Udp, &format!("10.0.0.9:{}", client + 1));
        let id = open(&mut table, &new, Some(&rss[nic]), 0, 2, millis(1000 + u64::from(client)));
        fitting += u16::from(comes_to(&settings[nic], &table, id, 2) == 0);
    }
    assert_eq!(fitting, 400);
}

#[test]
fn where_ports_make_no_difference_they_are_used_as_ever() {
    let addresses = RssSettings { fields: FieldsByPacket::all(HashedFields::Addresses), ..settings(1, 2, 128) };
    let elsewhere = RssSettings { table: vec![0; 128], ..settings(1, 2, 128) };
    let zero = RssSettings { key: vec![0; 40], ..settings(1, 2, 128) };
    for settings in [addresses, elsewhere, zero] {
        let rss = Rss::new(settings).unwrap();
        let mut table = FlowTable::new(&config(64, 61000..=61007));
        let ports: HashSet<u16> = (1..=8)
            .map(|client| {
                let new = masqueraded(Protocol::Udp, &format!("10.0.0.9:{client}"));
                let id = open(&mut table, &new, Some(&rss), 1, 2, seconds(1));
                table.flow(id).reply().destination_port()
            })
            .collect();
        assert_eq!(ports.len(), 8);
    }
}

/// A client port that is taken at the endpoint: of the others one that fits.
#[test]
fn a_kept_source_that_needs_another_port_gets_one_that_fits() {
    let settings = settings(5, 2, 128);
    let rss = Rss::new(settings.clone()).unwrap();
    let mut table = FlowTable::new(&config(512, 61000..=61002));
    for vip in 1..=40u8 {
        let original =
            FiveTuple::new(Protocol::Tcp, "10.0.0.9:4000".parse().unwrap(), SocketAddr::from(([172, 30, 0, vip], 80)));
        let new = NewFlow { original, ..kept(Protocol::Tcp, "10.0.0.9:4000") };
        let id = open(&mut table, &new, Some(&rss), 1, 2, seconds(1));
        if vip > 1 {
            assert_eq!(comes_to(&settings, &table, id, 2), 1, "VIP {vip}");
        }
    }
}

/// Millions of endpoints' pools share the memory for telling ports apart: who gets none gets ports all the same.
#[test]
fn without_memory_to_sort_by_ports_are_found_all_the_same() {
    let rss = Rss::new(settings(1, 2, 128)).unwrap();
    let mut table = FlowTable::new(&config(8000, 1024..=65535));
    let mut live = Vec::new();
    for n in 0..6000u32 {
        let original = FiveTuple::new(
            Protocol::Tcp,
            SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 999)),
            SocketAddr::from(([172, 30, 0, 1], 80)),
        );
        let endpoint = SocketAddr::from(([10, 180, ((n % 1100) >> 8) as u8, (n % 1100) as u8], 80));
        let new = new_flow(original, &endpoint.to_string(), Source::Masquerade(snat(true)));
        live.push(open(&mut table, &new, Some(&rss), 1, 2, seconds(1)));
    }
    for id in live {
        assert!(table.remove(id, seconds(2)));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Port {
    New,
    Used,
    Free,
    /// Given back by a closed connection, in milliseconds.
    Rests(u64),
}

proptest! {
    /// Every port that is chosen fits while one that fits is free and not far, and none is taken from its rest while any is free.
    #[test]
    fn fitting_ports_come_first(
        key in any::<u64>(),
        (workers, worker) in (2u16..6).prop_flat_map(|workers| (Just(workers), 0..workers)),
        size in prop_oneof![Just(128usize), Just(512), 3usize..200],
        operations in proptest::collection::vec((0u8..5, any::<usize>(), 0u64..20_000), 1..400),
    ) {
        let settings = settings(key, u32::from(workers) + 1, size);
        let rss = Rss::new(settings.clone()).unwrap();
        let mut table = FlowTable::new(&config(128, 100..=131));
        let mut ports = [Port::New; 32];
        let mut flows: Vec<FlowId> = Vec::new();
        let mut now = 1_000_000u64;
        for (client, (operation, which, wait)) in (1..).zip(operations) {
            match operation {
                0..=2 if flows.len() < 32 => {
                    let new = masqueraded(Protocol::Tcp, &format!("10.0.0.9:{client}"));
                    let id = open(&mut table, &new, Some(&rss), worker, workers, millis(now));
                    let reply = table.flow(id).reply();
                    let fits = |place: usize| {
                        let port = FiveTuple::from_parts(
                            Protocol::Tcp,
                            reply.source_address(),
                            reply.source_port(),
                            reply.destination_address(),
                            100 + place as u16,
                        );
                        queue(&settings, &port) % u32::from(workers) == u32::from(worker)
                    };
                    let chosen = usize::from(reply.destination_port()) - 100;
                    // Rest is counted in whole seconds, rounded up.
                    let rests = |port: Port, more: u64| matches!(port, Port::Rests(since) if now - since < 60_000 + more);
                    let free = |place: &usize| ports[*place] != Port::Used && !rests(ports[*place], 1_000);
                    prop_assert!(ports[chosen] != Port::Used);
                    if rests(ports[chosen], 0) {
                        prop_assert!(!(0..32).any(|place| free(&place)), "{chosen} rests: {ports:?} at {now}");
                    } else if !fits(chosen) {
                        let better: Vec<_> = (0..32).filter(free).filter(|place| fits(*place)).collect();
                        // Only behind as many that do not.
                        let passed_by = (0..32).filter(|place| ports[*place] != Port::Used && !rests(ports[*place], 0));
                        let passed_by = passed_by.filter(|place| !fits(*place)).count();
                        prop_assert!(
                            better.is_empty() || passed_by >= LOOKS,
                            "{chosen} does not fit, {better:?} would: {ports:?} at {now}"
                        );
                    }
                    ports[chosen] = Port::Used;
                    flows.push(id);
                    if client % 4 > 0 {
                        establish(&mut table, id, millis(now));
                    }
                }
                3 if !flows.is_empty() => {
                    let id = flows.remove(which % flows.len());
                    let place = usize::from(table.flow(id).reply().destination_port()) - 100;
                    ports[place] = if table.flow(id).seen(Direction::Reply) { Port::Rests(now) } else { Port::Free };
                    table.remove(id, millis(now));
                }
                _ => now += wait,
            }
        }
        prop_assert_eq!(table.port_uses().map(|port_use| port_use.used).sum::<u32>(), flows.len() as u32);
    }
}
