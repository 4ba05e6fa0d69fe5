//! Replays through the real binary: what leaves, with which timestamp, and that every packet is accounted for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use etherparse::PacketBuilder;
use ringway_dataplane::io::pcap::{CaptureReader, CaptureWriter, Captured, Format, Resolution};
use serde_json::Value;

const CONFIG: &str = r#"
nodeName: gw-1
node: {addresses: [192.168.0.2], podCIDRs: [10.0.0.0/16]}
interfaces: [{name: wan0}, {name: lan0}]
network:
  interfaces:
  - {name: lan0, mac: "02:00:00:00:00:02", addresses: [10.180.0.254/24]}
  - {name: wan0, mac: "02:00:00:00:00:01", addresses: [192.168.0.2/24]}
  neighbors:
  - {address: 192.168.0.9, mac: "02:00:00:00:00:09", dev: wan0}
  - {address: 10.180.0.1, mac: "02:00:00:00:01:01", dev: lan0}
"#;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {namespace: ns1, name: svc1}
spec:
  clusterIP: 172.30.0.41
  clusterIPs: [172.30.0.41]
  ports: [{name: p80, port: 80}, {name: p81, port: 81}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: ns1, name: svc1-a, labels: {kubernetes.io/service-name: svc1}}
addressType: IPv4
ports: [{name: p80, port: 8080}]
endpoints: [{addresses: [10.180.0.1]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: ns1, name: svc1-b, labels: {kubernetes.io/service-name: svc1}}
addressType: IPv4
ports: [{name: p81, port: 8081}]
endpoints: [{addresses: [10.180.0.7]}]
"#;

struct Bed(tempfile::TempDir);

impl Bed {
    fn new() -> Self {
        let bed = Bed(tempfile::tempdir().unwrap());
        std::fs::write(bed.path("gw.yaml"), CONFIG).unwrap();
        std::fs::write(bed.path("objects.yaml"), OBJECTS).unwrap();
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn capture(&self, name: &str, format: Format, packets: &[(usize, u64, Vec<u8>)]) {
        let file = std::fs::File::create(self.path(name)).unwrap();
        let mut writer = CaptureWriter::new(file, format, ["lan0", "wan0", "other0"]).unwrap();
        for (interface, micros, data) in packets {
            writer.write(*interface, at(*micros), data).unwrap();
        }
        writer.finish().unwrap();
    }

    fn replay(&self, input: &str, output: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command.args(["replay", "--config", "gw.yaml", "--objects", "objects.yaml", "--in", input, "--out", output]);
        command.args(["--ledger", "ledger.json", "--verdicts", "verdicts.jsonl"]).current_dir(self.0.path());
        command.output().unwrap()
    }

    /// The ledger and the verdicts; the first is proven to be the tally of the second.
    fn fates(&self) -> (Value, Vec<Value>) {
        let ledger: Value = serde_json::from_slice(&std::fs::read(self.path("ledger.json")).unwrap()).unwrap();
        let text = std::fs::read_to_string(self.path("verdicts.jsonl")).unwrap();
        let verdicts: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut drops: BTreeMap<&str, u64> = BTreeMap::new();
        let dropped = verdicts.iter().filter(|line| line["verdict"] == "drop");
        dropped.for_each(|line| *drops.entry(line["reason"].as_str().unwrap()).or_default() += 1);
        let count = |verdict: &str| verdicts.iter().filter(|line| line["verdict"] == verdict).count();
        let tally = serde_json::json!({"rx": verdicts.len(), "forwarded": count("forward"), "replied": count("reply"),
            "passed": count("pass"), "drops": drops});
        assert_eq!(ledger, tally);
        (ledger, verdicts)
    }

    fn left(&self, name: &str) -> (Vec<Captured>, Vec<Option<String>>) {
        let mut reader = CaptureReader::new(std::fs::File::open(self.path(name)).unwrap()).unwrap();
        let (mut packets, mut names) = (Vec::new(), Vec::new());
        while let Some(packet) = reader.next_packet().unwrap() {
            names.push(reader.interface_name(packet.interface).map(str::to_owned));
            packets.push(packet);
        }
        (packets, names)
    }
}

fn at(micros: u64) -> Duration {
    Duration::from_secs(1_700_000_000) + Duration::from_micros(micros)
}

const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 9];
const WAN: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn udp(destination: [u8; 4], port: u16, payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(CLIENT, WAN).ipv4([192, 168, 0, 9], destination, 64).udp(4000, port);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &vec![7; payload]).unwrap();
    bytes
}

fn syn(destination: [u8; 4], source_port: u16, port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(CLIENT, WAN).ipv4([192, 168, 0, 9], destination, 64);
    let mut bytes = Vec::new();
    builder.tcp(source_port, port, 1, 1000).syn().write(&mut bytes, &[]).unwrap();
    bytes
}

/// The SYN-ACK to a SYN that left by lan0.
fn reply_to(syn: &[u8]) -> Vec<u8> {
    let port = u16::from_be_bytes([syn[34], syn[35]]);
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 0, 2]);
    let mut bytes = Vec::new();
    let builder = builder.ipv4([10, 180, 0, 1], [10, 180, 0, 254], 64).tcp(8080, port, 7, 1000);
    builder.syn().ack(2).write(&mut bytes, &[]).unwrap();
    bytes
}

/// A packet of every fate, on wan0.
fn mixed() -> Vec<(usize, u64, Vec<u8>)> {
    vec![
        (1, 0, syn([172, 30, 0, 41], 5001, 80)),
        (1, 10, syn([172, 30, 0, 41], 5002, 81)),
        (1, 20, udp([8, 8, 8, 8], 53, 5)),
        (1, 2_500_000, syn([172, 30, 0, 41], 5003, 82)),
        (1, 2_500_001, syn([172, 30, 0, 41], 5004, 80)),
        (1, 2_500_002, syn([172, 30, 0, 41], 5005, 80)[..40].to_vec()),
        (1, 2_500_003, udp([172, 30, 0, 41], 80, 5000)),
        (1, 2_500_004, syn([172, 30, 0, 41], 5006, 81)),
    ]
}

#[test]
fn every_packet_has_one_fate_and_what_leaves_has_the_time_of_its_cause() {
    let bed = Bed::new();
    bed.capture("in.pcap", Format::Pcap(Resolution::Micros), &mixed());
    let output = bed.replay("in.pcap", "out.pcap");
    assert!(output.status.success(), "{output:?}");
    let (_, verdicts) = bed.fates();
    let fates: Vec<_> =
        verdicts.iter().map(|line| (line["verdict"].as_str().unwrap(), line["reason"].as_str())).collect();
    let expected = [
        ("forward", None),
        ("drop", Some("neighbor_unresolved")),
        ("pass", None),
        ("reply", Some("no_service_port")),
        ("forward", None),
        ("drop", Some("truncated_ipv4")),
        ("reply", Some("no_service_port")),
        ("drop", Some("neighbor_unresolved")),
    ];
    assert_eq!(fates, expected);
    assert_eq!(verdicts[0]["service"], "ns1/svc1");
    assert_eq!(verdicts[3]["out"], serde_json::json!([2]));
    assert_eq!(verdicts[4]["out"], serde_json::json!([3]));
    let (packets, _) = bed.left("out.pcap");
    let times: Vec<_> = packets.iter().map(|packet| packet.timestamp).collect();
    assert_eq!(times, [at(0), at(2_500_000), at(2_500_001), at(2_500_003)]);
}

#[test]
fn packets_of_any_size_are_replayed() {
    let bed = Bed::new();
    let jumbo = CONFIG.replace("addresses: [10", "mtu: 65535, addresses: [10");
    std::fs::write(bed.path("gw.yaml"), jumbo).unwrap();
    let sizes = [1472, 4000, 9000, 65_000];
    let packets: Vec<_> = sizes.map(|size| (1, 0, udp([172, 30, 0, 41], 53, size))).into();
    bed.capture("in.pcap", Format::Pcap(Resolution::Micros), &packets);
    let objects =
        OBJECTS.replace("port: 80}", "port: 53, protocol: UDP}").replace("port: 8080}", "port: 53, protocol: UDP}");
    std::fs::write(bed.path("objects.yaml"), objects).unwrap();
    assert!(bed.replay("in.pcap", "out.pcap").status.success());
    assert_eq!(bed.fates().0["forwarded"], 4);
    let lengths = bed.left("out.pcap").0.iter().map(|packet| packet.data.len()).collect::<Vec<_>>();
    assert_eq!(lengths, sizes.map(|size| size + 42));
}

#[test]
fn a_long_silence_ends_flows() {
    const DAY: u64 = 24 * 60 * 60 * 1_000_000;
    // More than half of the circle that flows count milliseconds in, a whole turn of it, and years.
    for days in [1, 25, 30, 40, 49, 50, 365, 36_500] {
        let bed = Bed::new();
        let open = syn([172, 30, 0, 41], 5001, 80);
        bed.capture("in.pcap", Format::PcapNg, &[(1, 0, open.clone())]);
        assert!(bed.replay("in.pcap", "out.pcapng").status.success());
        let reply = reply_to(&bed.left("out.pcapng").0[0].data);
        let packets = [(1, 0, open), (0, 1000, reply.clone()), (0, days * DAY, reply)];
        bed.capture("in.pcap", Format::PcapNg, &packets);
        assert!(bed.replay("in.pcap", "out.pcapng").status.success());
        let fates: Vec<_> = bed.fates().1.iter().map(|line| line["verdict"].as_str().unwrap().to_owned()).collect();
        assert_eq!(fates, ["forward", "forward", "pass"], "{days} days");
    }
}

#[test]
fn a_replay_is_the_same_every_time() {
    let bed = Bed::new();
    bed.capture("in.pcap", Format::Pcap(Resolution::Nanos), &mixed());
    assert!(bed.replay("in.pcap", "one.pcap").status.success());
    let one = bed.fates();
    assert!(bed.replay("in.pcap", "two.pcap").status.success());
    assert_eq!(one, bed.fates());
    let read = |name| std::fs::read(bed.path(name)).unwrap();
    assert_eq!(read("one.pcap"), read("two.pcap"));
}

#[test]
fn a_pcapng_says_where_packets_arrive_and_where_they_leave() {
    let bed = Bed::new();
    let syn = syn([172, 30, 0, 41], 5001, 80);
    // On lan0 the frame has another interface's address, and other0 is not listed: both pass.
    let packets: Vec<_> = [1, 0, 2].map(|interface| (interface, 0, syn.clone())).into();
    bed.capture("in.pcapng", Format::PcapNg, &packets);
    let output = bed.replay("in.pcapng", "out.pcapng");
    let (_, verdicts) = bed.fates();
    let fates: Vec<_> = verdicts.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(fates, ["forward", "pass", "pass"]);
    let (packets, names) = bed.left("out.pcapng");
    assert_eq!((packets.len(), &names[..]), (1, &[Some("lan0".to_owned())][..]));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "note: packets that arrived on other0 pass: the configuration's interfaces do not list it\n");
}

#[test]
fn a_capture_that_breaks_off_is_replayed_as_far_as_it_goes() {
    let bed = Bed::new();
    bed.capture("in.pcap", Format::Pcap(Resolution::Micros), &mixed());
    let bytes = std::fs::read(bed.path("in.pcap")).unwrap();
    std::fs::write(bed.path("in.pcap"), &bytes[..200]).unwrap();
    let output = bed.replay("in.pcap", "out.pcap");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "error: in.pcap: the file ends at byte 200, inside packet 3 (packets before it are whole)\n");
    let (ledger, _) = bed.fates();
    assert_eq!(ledger["rx"], 2);
    assert_eq!(bed.left("out.pcap").0.len(), 1);
}

#[test]
fn packets_that_the_capture_cut_off_are_told() {
    let bed = Bed::new();
    bed.capture("in.pcap", Format::Pcap(Resolution::Micros), &[(1, 0, syn([172, 30, 0, 41], 5001, 80)[..40].to_vec())]);
    let mut bytes = std::fs::read(bed.path("in.pcap")).unwrap();
    // How long the packet was, behind the file's header and the packet's timestamp and captured length.
    bytes[24 + 12] = 54;
    std::fs::write(bed.path("in.pcap"), bytes).unwrap();
    let output = bed.replay("in.pcap", "out.pcap");
    let told = "note: 1 packet was cut off by the capture, which counts as truncated; capture with -s 0\n";
    assert_eq!((output.status.code(), &*String::from_utf8(output.stderr).unwrap()), (Some(0), told));
    assert_eq!(bed.fates().0["drops"], serde_json::json!({"truncated_ipv4": 1}));
}

#[test]
fn what_replay_cannot_start_with_is_told() {
    let bed = Bed::new();
    bed.capture("in.pcap", Format::Pcap(Resolution::Micros), &[]);
    let told = |output: Output| (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap());
    let same = "error: --out in.pcap is the capture itself; name another file\n";
    assert_eq!(told(bed.replay("in.pcap", "in.pcap")), (2, same.to_owned()));
    let gone = "error: --in gone.pcap: No such file or directory (os error 2)\n";
    assert_eq!(told(bed.replay("gone.pcap", "out.pcap")), (1, gone.to_owned()));
    // A file that cannot be written is named, whichever it is.
    bed.capture("mixed.pcap", Format::Pcap(Resolution::Micros), &mixed());
    std::os::unix::fs::symlink("/dev/full", bed.path("full.pcap")).unwrap();
    let full = "error: cannot write full.pcap: No space left on device (os error 28)\n";
    assert_eq!(told(bed.replay("mixed.pcap", "full.pcap")), (1, full.to_owned()));
    std::fs::remove_file(bed.path("verdicts.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/full", bed.path("verdicts.jsonl")).unwrap();
    let full = "error: cannot write verdicts.jsonl: No space left on device (os error 28)\n";
    assert_eq!(told(bed.replay("mixed.pcap", "out.pcap")), (1, full.to_owned()));
    std::fs::write(bed.path("text.pcap"), "text").unwrap();
    let text = "error: text.pcap: not a pcap or pcapng file: it begins with 74657874\n";
    assert_eq!(told(bed.replay("text.pcap", "out.pcap")), (1, text.to_owned()));
    std::fs::write(bed.path("gw.yaml"), "nodeName: a\ninterfaces: [{name: eth0}]\n").unwrap();
    let network =
        "error: gw.yaml: network: missing; replay does not ask the kernel, so write interfaces, routes and neighbors\n";
    assert_eq!(told(bed.replay("in.pcap", "out.pcap")), (2, network.to_owned()));
}
