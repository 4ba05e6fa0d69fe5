use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("gw.yaml"), SourceKey::Read).map_err(|error| error.to_string())
}

/// The example of the documentation, whole.
const WHOLE: &str = r#"
nodeName: gw-1
source:
  files: /etc/ringway/objects
node:
  addresses: [192.168.0.2]
  podCIDRs: [10.0.0.0/16]
  labels: {topology.kubernetes.io/zone: a}
services:
  nodePortAddresses: [primary]
  serviceCIDRs: []
  masqueradeAll: false
network:
  interfaces: [{name: eth0, mac: "02:00:00:00:00:01", mtu: 1500, addresses: [192.168.0.2/24]}]
  routes: [{to: 10.0.0.0/16, via: 192.168.0.3, dev: eth0}]
  neighbors: [{address: 192.168.0.3, mac: "02:00:00:00:00:03", dev: eth0}]
interfaces:
  - name: eth0
    xdp: auto
    zeroCopy: auto
workers:
  cpus: [2, 3]
  poll: adaptive
snat:
  addresses: []
  ports: 61000-65535
forwarding: nat
flows:
  perWorker: 1048576
  synRescue: true
  timeouts: {tcpEstablished: 8000s, tcpHalfOpen: 30s, udp: 120s, udpUnreplied: 60s}
state: /run/ringway
whenDown: hold
admin:
  socket: /run/ringway/admin.sock
  metrics: 127.0.0.1:9098
  healthz: 0.0.0.0:10256
metrics:
  services: []
log: info
"#;

#[test]
fn the_documented_example_is_read_and_its_values_are_the_defaults() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(&*config.node_name, "gw-1");
    assert_eq!(config.source, Source::Files(vec!["/etc/ringway/objects".into()]));
    assert_eq!(config.node.labels.as_ref().unwrap()["topology.kubernetes.io/zone"], "a");
    assert_eq!(config.workers.cpus, Some(vec![2, 3]));
    let short = parse("nodeName: gw-1\ninterfaces: [{name: eth0}]\n").unwrap();
    assert_eq!(short.source, Source::default());
    assert_eq!(short.node, NodeConfig::default());
    let primary = NodePortAddresses { primary: true, cidrs: Vec::new() };
    let same = Config {
        source: config.source.clone(),
        node: config.node.clone(),
        network: config.network.clone(),
        workers: WorkersConfig { cpus: Some(vec![2, 3]), ..short.workers.clone() },
        services: ServicesConfig { node_port_addresses: primary, ..short.services.clone() },
        snat: SnatConfig { ports_are_free: false, ..short.snat.clone() },
        ..short
    };
    assert_eq!(config, same);
}

#[test]
fn an_empty_key_of_node_wins_and_a_missing_one_does_not() {
    let text = "nodeName: a\ninterfaces: [{name: e}]\nnode: {labels: {}, podCIDRs: []}\n";
    let node = parse(text).unwrap().node;
    assert_eq!(node, NodeConfig { addresses: None, pod_cidrs: Some(vec![]), labels: Some(BTreeMap::new()) });
}

#[test]
fn source_is_not_even_looked_at_when_objects_replace_it() {
    let text = "nodeName: a\ninterfaces: [{name: e}]\nsource: {nonsense: [1]}\n";
    assert!(parse(text).is_err());
    assert!(Config::parse(text, Path::new("gw.yaml"), SourceKey::Replaced).is_ok());
}

#[test]
fn the_static_network_attaches_the_listed_interfaces_in_their_order() {
    let text = r#"
nodeName: a
interfaces: [{name: eth1}, {name: "eth*"}]
network:
  interfaces:
  - {name: eth0, mac: "02:00:00:00:00:01", addresses: [192.168.0.2/24]}
  - {name: eth1, mac: "02:00:00:00:00:02", addresses: [192.168.1.2/24], mtu: 9000}
  - {name: wg0, mac: "02:00:00:00:00:03", addresses: [10.9.0.1/24]}
  routes:
  - {to: default, via: 192.168.0.254, dev: eth0}
  - {to: 10.7.0.0/16, via: 192.168.1.3, dev: eth1, mtu: 1400}
  neighbors: [{address: 192.168.1.3, mac: "02:00:00:00:00:04", dev: eth1}]
"#;
    let config = parse(text).unwrap();
    let network = config.network.as_ref().unwrap().build(7, &config.interfaces);
    assert_eq!(network.generation, 7);
    assert_eq!(network.interfaces().iter().map(|interface| &*interface.name).collect::<Vec<_>>(), ["eth1", "eth0"]);
    let adjacency = network.adjacency(network.resolve("192.168.1.3".parse().unwrap()).unwrap()).unwrap();
    assert_eq!((adjacency.out.0, adjacency.mtu), (0, 9000));
    let adjacency = network.adjacency(network.resolve("10.7.1.1".parse().unwrap()).unwrap()).unwrap();
    assert_eq!((adjacency.out.0, adjacency.mtu), (0, 1400));
    use ringway_shared::network::NoAdjacency;
    let beyond = "10.9.0.7".parse().unwrap();
    assert_eq!((network.resolve(beyond), network.unlisted(beyond)), (Err(NoAdjacency::NoInterface), Some("wg0")));
    let unresolved = network.resolve("8.8.8.8".parse().unwrap()).unwrap_err();
    assert_eq!(unresolved.reason(), ringway_shared::DropReason::NeighborUnresolved);
}

#[test]
fn every_problem_is_told_with_its_line_and_what_is_allowed() {
    let cases = [
        ("", "gw.yaml: the file is empty; at least nodeName and interfaces must be written"),
        ("a: [", "gw.yaml:1:4: not valid YAML: "),
        ("nodeName: a\ninterfaces: []", "gw.yaml:2:13: interfaces: is empty; list at least one, as [{name: eth0}]"),
        ("nodeName: a", "gw.yaml: interfaces: missing; list at least one, as [{name: eth0}]"),
        (
            "nodeName: a\ninterfaces: [{name: eth0, xpd: auto}]",
            "gw.yaml:2:27: interfaces[0].xpd: unknown key; did you mean xdp? Allowed here: name, xdp, zeroCopy",
        ),
        (
            "nodeName: a\ninterfaces: [{name: eth0, xdp: fast}]",
            "gw.yaml:2:32: interfaces[0].xdp: \"fast\" is not allowed; write auto, native or generic",
        ),
        (
            "nodeName: a\ninterfaces: [{name: eth0}]\nflows: {timeouts: {udp: 60}}",
            "gw.yaml:3:25: flows.timeouts.udp: \"60\" needs a unit; write 60s, or another of h, m, s, ms",
        ),
        (
            "nodeName: a\ninterfaces: [{name: eth0}]\nsource: {}",
            "gw.yaml:3:9: source: names no source; write kubernetes: {} or files: PATH",
        ),
        (
            "nodeName: a\ninterfaces: [{name: eth0}]\nsource: {files: a, kubernetes: {}}",
            "gw.yaml:3:9: source: has both kubernetes and files; keep one of them",
        ),
        (
            "nodeName: a\nnodeName: b\ninterfaces: [{name: eth0}]",
            "gw.yaml:2:1: the key nodeName stands here for the second time; first on line 1",
        ),
        (
            "nodeName: [a]\ninterfaces: [{name: eth0}]",
            "gw.yaml:1:11: nodeName: this is a list, where one value is expected",
        ),
        (
            "nodeName: a\ninterfaces: [{name: eth0}]\nmetrics: {services: [web]}",
            "gw.yaml:3:22: metrics.services[0]: \"web\" is neither NAMESPACE/NAME nor a glob of it; write shop/web, shop/* or",
        ),
        (
            "nodeName: a\ninterfaces: eth0",
            "gw.yaml:2:13: interfaces: \"eth0\" is one value, where a list is expected: write [a, b]",
        ),
    ];
    for (text, expected) in cases {
        let message = parse(text).unwrap_err();
        assert!(message.starts_with(expected), "{text}\n  told {message}\n  want {expected}");
    }
    let two = parse("nodeName: A\ninterfaces: [{name: e, zerocopy: on}]\nlogs: x").unwrap_err();
    assert_eq!(two.lines().count(), 3, "{two}");
}

#[test]
fn two_doors_cannot_have_one_address() {
    let admin = |metrics: &str| {
        parse(&format!(
            "nodeName: a\nsource: {{files: a}}\ninterfaces: [{{name: eth0}}]\nadmin: {{metrics: \"{metrics}\"}}\n"
        ))
    };
    let told = admin("0.0.0.0:10256").unwrap_err();
    assert!(told.contains("admin: metrics and healthz cannot both be at 0.0.0.0:10256; set another address"), "{told}");
    assert!(admin("0.0.0.0:9098").is_ok());
}

#[test]
fn what_aliases_repeat_is_bounded() {
    let long = "x".repeat(10_000);
    let texts = format!("nodeName: &a {long}\nsource: [{}]\n", vec!["*a"; 1_000].join(", "));
    let told = parse(&texts).unwrap_err();
    assert!(told.contains("the document is too large for a configuration"), "{told:.300}");
}

#[test]
fn the_environments_node_counts_where_the_file_names_none() {
    let on = |node: Option<&str>, first: &str| {
        let text = format!("{first}interfaces: [{{name: eth0}}]\n");
        Config::parse_on(node, &text, Path::new("c.yaml"), SourceKey::Replaced)
            .map(|config| config.node_name.to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(on(Some("gw-1"), ""), Ok("gw-1".into()));
    assert_eq!(on(Some("gw-1"), "nodeName: gw-2\n"), Ok("gw-2".into()));
    let told = on(Some("GW 1"), "").unwrap_err();
    assert!(told.contains("nodeName: not given, and the environment variable NODE_NAME is \"GW 1\", which"), "{told}");
    assert!(on(None, "").unwrap_err().contains("or set the environment variable NODE_NAME"));
}
