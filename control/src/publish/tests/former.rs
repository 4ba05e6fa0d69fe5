//! What older flows need still: SNAT addresses and endpoints that new flows would not get.

use ringway_shared::Network;

use super::*;

/// Settings, objects and network of a moment.
#[derive(Clone, Copy)]
struct Moment {
    policy: &'static str,
    endpoints: &'static [&'static str],
    masquerade_all: bool,
    // The node's addresses, and the one that it prefers.
    addresses: &'static str,
    source: &'static str,
}

const USUAL: Moment = Moment {
    policy: "Cluster",
    endpoints: &["10.0.0.1"],
    masquerade_all: false,
    addresses: "192.168.0.1/24, 192.168.0.8/24",
    source: "192.168.0.1",
};

fn network(moment: &Moment) -> Arc<Network> {
    let config = CONFIG
        .replace("192.168.0.1/24", moment.addresses)
        .replace("dev: eth0}", &format!("dev: eth0, source: {}}}", moment.source));
    let config = Config::parse(&config, "test.yaml".as_ref(), SourceKey::Read).unwrap();
    Arc::new(config.network.as_ref().unwrap().build(1, &config.interfaces))
}

fn advance(sets: &mut SteeringSets, memory: &mut Memory, moment: &Moment) -> SteeringChanges {
    let config = Config::parse(CONFIG, "test.yaml".as_ref(), SourceKey::Read).unwrap();
    let mut options = CompileOptions::from_config(&config);
    options.masquerade_all = moment.masquerade_all;
    let services = Arc::new(compile(&cluster_of(moment.policy, 1, moment.endpoints), &options, memory).services);
    sets.advance(&Snapshot { generation: Generation(1), services, network: network(moment) })
}

fn snat(address: &str) -> SteeringEntry {
    SteeringEntry::Snat(ip(address))
}

#[test]
fn a_family_without_a_configured_snat_address_has_those_of_linux() {
    for (configured, of_linux) in [("fd00::9", true), ("192.168.0.9", false)] {
        let (mut sets, mut memory) = (SteeringSets::new(&[ip(configured)]), Memory::new());
        let added = advance(&mut sets, &mut memory, &USUAL).added;
        assert!(added.contains(&snat(configured)), "{added:?}");
        assert_eq!(added.contains(&snat("192.168.0.1")), of_linux, "{added:?}");
    }
}

#[test]
fn a_source_that_linux_chooses_no_more_stays_while_the_node_has_it_and_lingers_then() {
    let (mut sets, mut memory) = (SteeringSets::new(&[]), Memory::new());
    advance(&mut sets, &mut memory, &USUAL);
    let changes = advance(&mut sets, &mut memory, &Moment { source: "192.168.0.8", ..USUAL });
    assert_eq!((changes.added, changes.removed, changes.abandoned), (vec![snat("192.168.0.8")], vec![], vec![]));
    let lost = Moment { source: "192.168.0.8", addresses: "192.168.0.8/24", ..USUAL };
    let changes = advance(&mut sets, &mut memory, &lost);
    assert_eq!((changes.removed, changes.abandoned.clone()), (vec![], vec![snat("192.168.0.1")]));
    let begin = Instant::now();
    let mut pending = Pending::default();
    pending.note(SteeringChanges { abandoned: changes.abandoned, ..SteeringChanges::default() }, begin);
    pending.end_lingering(begin + Duration::from_secs(299));
    assert!(pending.remove.is_empty(), "{:?}", pending.remove);
    pending.end_lingering(begin + Duration::from_secs(300));
    assert_eq!(pending.remove, [snat("192.168.0.1")].into());
}

#[test]
fn the_last_endpoint_leaves_its_snat_address() {
    let (mut sets, mut memory) = (SteeringSets::new(&[]), Memory::new());
    advance(&mut sets, &mut memory, &USUAL);
    let changes = advance(&mut sets, &mut memory, &Moment { endpoints: &[], ..USUAL });
    assert!(changes.removed.is_empty(), "{:?}", changes.removed);
    assert_eq!(changes.abandoned, [SteeringEntry::Endpoint(frontend("10.0.0.1:8080"))]);
    assert_eq!(sets.counts().snat_addresses, 1);
}

#[test]
fn flows_whose_source_was_kept_find_back_when_all_sources_are_rewritten() {
    let (mut sets, mut memory) = (SteeringSets::new(&[]), Memory::new());
    let endpoint = frontend("10.0.0.1:8080");
    let local = Moment { policy: "Local", masquerade_all: true, ..USUAL };
    advance(&mut sets, &mut memory, &local);
    let changes = advance(&mut sets, &mut memory, &Moment { policy: "Cluster", ..local });
    assert_eq!(changes.added, [SteeringEntry::MasqueradedEndpoint(endpoint)]);
    assert_eq!((changes.removed, changes.abandoned), (vec![], vec![]));
    // Both entries go with the endpoint.
    let changes = advance(&mut sets, &mut memory, &Moment { policy: "Cluster", endpoints: &[], ..local });
    assert_eq!(changes.abandoned, [SteeringEntry::MasqueradedEndpoint(endpoint), SteeringEntry::Endpoint(endpoint)]);
    assert_eq!(sets.counts().endpoints, 0);
}

#[test]
fn only_replies_are_steered_when_every_source_is_rewritten() {
    let config = Config::parse(CONFIG, "test.yaml".as_ref(), SourceKey::Read).unwrap();
    let network = Arc::new(config.network.as_ref().unwrap().build(1, &config.interfaces));
    let mut options = CompileOptions::from_config(&config);
    options.masquerade_all = true;
    let compiled = compile(&cluster(1, &["10.0.0.1"]), &options, &mut Memory::new());
    let snapshot = Snapshot { generation: Generation(1), services: Arc::new(compiled.services), network };
    let mut sets = SteeringSets::new(&[ip("192.168.0.9")]);
    let added = sets.advance(&snapshot).added;
    assert!(added.contains(&SteeringEntry::MasqueradedEndpoint(frontend("10.0.0.1:8080"))), "{added:?}");
    assert!(!added.contains(&SteeringEntry::Endpoint(frontend("10.0.0.1:8080"))), "{added:?}");
    let SteeringCounts { snat_addresses, endpoints, .. } = sets.counts();
    assert_eq!((snat_addresses, endpoints), (1, 1));
}
