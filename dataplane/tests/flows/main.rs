//! The flow table from outside: what its users rely on.

mod answers;
mod endings;
mod evidence;
mod forged;
mod forger;
mod lookups;
mod oracle;
mod ports;
mod reclaim;
mod replies;
mod settled;
mod states;

use std::net::{IpAddr, SocketAddr};

use ringway_dataplane::clock::Time;
use ringway_dataplane::flow::{Direction, State};
use ringway_dataplane::flow::{FlowConfig, FlowId, FlowTable, NewFlow, OpenError, Opened, Segment, Source, Timeouts};
use ringway_dataplane::wire::tcp::Flags;
use ringway_shared::{BackendId, FiveTuple, PortSet, Protocol, ServicePortId};

/// The first sequence numbers of client and endpoint in these tests.
const CLIENT: u32 = 0xffff_fff0;
const ENDPOINT: u32 = 0x7000_0000;

fn segment(flags: u8, sequence: u32, acknowledgment: u32) -> Segment {
    Segment { flags: Flags(flags), sequence, acknowledgment, ..Segment::default() }
}

fn syn() -> Segment {
    segment(Flags::SYN, CLIENT, 0)
}

fn syn_ack() -> Segment {
    segment(Flags::SYN | Flags::ACK, ENDPOINT, CLIENT.wrapping_add(1))
}

/// A segment of the client, `sent` and `received` bytes into the connection.
fn client(flags: u8, sent: u32, received: u32) -> Segment {
    segment(flags, CLIENT.wrapping_add(1).wrapping_add(sent), ENDPOINT.wrapping_add(1).wrapping_add(received))
}

/// A segment of the endpoint, `sent` and `received` bytes into the connection.
fn endpoint(flags: u8, sent: u32, received: u32) -> Segment {
    segment(flags, ENDPOINT.wrapping_add(1).wrapping_add(sent), CLIENT.wrapping_add(1).wrapping_add(received))
}

const SYN: u8 = Flags::SYN;
const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const RST: u8 = Flags::RST;

fn millis(millis: u64) -> Time {
    Time(millis * 1_000_000)
}

fn seconds(seconds: u64) -> Time {
    millis(seconds * 1000)
}

fn config(capacity: u32, snat_ports: impl Into<PortSet>) -> FlowConfig {
    FlowConfig { capacity, seed: 7, timeouts: Timeouts::default(), snat_ports: snat_ports.into() }
}

fn table(capacity: u32) -> FlowTable {
    FlowTable::new(&config(capacity, 61000..=61007))
}

fn tuple(protocol: Protocol, client: &str) -> FiveTuple {
    let client: SocketAddr = client.parse().unwrap();
    let vip = if client.is_ipv4() { "172.30.0.41:80" } else { "[fd00::41]:80" };
    FiveTuple::new(protocol, client, vip.parse().unwrap())
}

fn new_flow(original: FiveTuple, endpoint: &str, source: Source) -> NewFlow {
    let endpoint: SocketAddr = endpoint.parse().unwrap();
    NewFlow {
        original,
        segment: if original.protocol() == Protocol::Tcp { syn() } else { Segment::default() },
        endpoint: endpoint.ip(),
        endpoint_port: endpoint.port(),
        source,
        service_port: ServicePortId(3),
        backend: BackendId(5),
    }
}

fn snat(v4: bool) -> IpAddr {
    if v4 { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap()
}

fn masqueraded(protocol: Protocol, client: &str) -> NewFlow {
    let original = tuple(protocol, client);
    let v4 = original.source_address().is_ipv4();
    let endpoint = if v4 { "10.180.0.1:8080" } else { "[fd01::1]:8080" };
    new_flow(original, endpoint, Source::Masquerade(snat(v4)))
}

fn kept(protocol: Protocol, client: &str) -> NewFlow {
    NewFlow { source: Source::Kept, ..masqueraded(protocol, client) }
}

/// Opens a flow, which comes to what was foretold.
fn open_as_told(table: &mut FlowTable, new: &NewFlow, now: Time) -> Result<Opened, OpenError> {
    let told = table.prospect(new, None, now).map(|told| (told.reclaims, told.evicts));
    let opened = table.open(new, now);
    assert_eq!(told, opened.map(|opened| (opened.reclaimed.is_some(), opened.evicted.is_some())), "{new:?}");
    opened
}

/// Walks a freshly opened TCP flow through the handshake.
fn establish(table: &mut FlowTable, id: FlowId, now: Time) {
    assert_eq!(table.advance(id, Direction::Reply, &syn_ack(), now), State::SynReceived);
    assert_eq!(table.advance(id, Direction::Original, &client(ACK, 0, 0), now), State::Established);
}

/// Walks a freshly opened SCTP flow through the handshake.
fn associate(table: &mut FlowTable, id: FlowId, now: Time) {
    let acknowledged = Segment { chunk: 11, ..Segment::default() };
    assert_eq!(table.advance(id, Direction::Reply, &acknowledged, now), State::SctpReplied);
}

/// Closes an established flow in good order.
fn close(table: &mut FlowTable, id: FlowId, now: Time) {
    table.advance(id, Direction::Original, &client(FIN, 0, 0), now);
    table.advance(id, Direction::Reply, &endpoint(FIN, 0, 1), now);
    assert_eq!(table.advance(id, Direction::Original, &client(ACK, 1, 1), now), State::Closed);
}
