//! No port free: who gives one up.

use super::ports::{open, port_of};
use super::*;

/// Established flows keep their ports whatever comes; among the others the one silent for longest goes.
#[test]
fn half_open_flows_give_their_ports_up() {
    let mut table = FlowTable::new(&config(64, 61000..=61003));
    let (established, kept_port) = open(&mut table, Protocol::Tcp, 1, seconds(0));
    establish(&mut table, established, seconds(0));
    let waiting: Vec<_> = (2..=4).map(|n| open(&mut table, Protocol::Tcp, n, seconds(u64::from(n) * 2))).collect();
    // Its client asks again, so that it is the youngest now.
    table.advance(waiting[0].0, Direction::Original, &syn(), seconds(10));
    for (client, expected) in (10u16..).zip([waiting[1].1, waiting[2].1, waiting[0].1, waiting[1].1]) {
        let now = seconds(u64::from(client) * 2);
        let opened = table.open(&masqueraded(Protocol::Tcp, &format!("10.0.0.9:{client}")), now).unwrap();
        assert_eq!((port_of(&table, opened.id), opened.reclaimed), (expected, Some(State::SynSent)));
        assert_eq!(opened.evicted, None, "the table has room");
        assert_ne!(expected, kept_port);
    }
    let statistics = table.statistics();
    assert_eq!((statistics.evicted, statistics.ports_reclaimed), (4, 4));
    assert_eq!(table.flow(established).state(), State::Established);
    assert_eq!(table.port_uses().map(|port_use| port_use.used).sum::<u32>(), 4);
}

/// UDP that an endpoint answers may be forged as well: it goes, too, but what is in use does not.
#[test]
fn answered_udp_gives_its_ports_up_when_nothing_else_can() {
    let mut table = FlowTable::new(&config(4096, 1000..=1999));
    let flows: Vec<_> = (0..1000).map(|n| open(&mut table, Protocol::Udp, 1 + n, seconds(1)).0).collect();
    for id in &flows {
        table.advance(*id, Direction::Reply, &Segment::default(), seconds(1));
    }
    let used = &flows[..20];
    for second in 2..20u16 {
        used.iter().for_each(|id| {
            table.advance(*id, Direction::Original, &Segment::default(), seconds(second.into()));
        });
        for client in 0..50 {
            let new = masqueraded(Protocol::Udp, &format!("10.0.0.8:{}", second * 100 + client));
            let opened = table.open(&new, seconds(second.into())).unwrap();
            assert_eq!(opened.reclaimed, Some(State::UdpAnswered));
            table.advance(opened.id, Direction::Reply, &Segment::default(), seconds(second.into()));
        }
    }
    let lives = |id: &FlowId| table.flow(*id).packets(Direction::Original) > 10;
    assert!(used.iter().all(lives), "a flow in use had to go");
}

/// Who sends datagrams and has them answered holds no port for ever: queries give theirs up, then conversations, the one
/// silent for longest first.
#[test]
fn answered_flows_give_their_ports_up() {
    let mut table = FlowTable::new(&config(64, 61000..=61003));
    let flows: Vec<_> = (1..=4).map(|n| open(&mut table, Protocol::Udp, n, seconds(0))).collect();
    let packet = |table: &mut FlowTable, flow: usize, direction, at| {
        table.advance(flows[flow].0, direction, &Segment::default(), seconds(at))
    };
    for flow in 0..4 {
        assert_eq!(packet(&mut table, flow, Direction::Reply, 1), State::UdpAnswered);
    }
    for flow in [3, 0, 2] {
        assert_eq!(packet(&mut table, flow, Direction::Original, 5), State::UdpReplied);
    }
    packet(&mut table, 3, Direction::Reply, 6);
    packet(&mut table, 0, Direction::Reply, 7);
    let expected = [1, 2, 3, 0].map(|flow| (flows[flow].1, table.flow(flows[flow].0).state()));
    for (client, (port, state)) in (10..).zip(expected) {
        let (id, found) = open(&mut table, Protocol::Udp, client, seconds(10));
        assert_eq!(found, port, "of a flow that was {state:?}");
        // The newcomer is needed more.
        table.advance(id, Direction::Reply, &Segment::default(), seconds(10));
        table.advance(id, Direction::Original, &Segment::default(), seconds(13));
    }
}

/// As many closed flows as there are ports, those of another endpoint before them: still no search is needed.
#[test]
fn closed_flows_give_their_ports_up_before_half_open_ones() {
    let mut table = FlowTable::new(&config(4096, 61000..=61003));
    let now = seconds(1);
    for n in 0..1000u32 {
        let endpoint = format!("10.180.{}.{}:80", 1 + n / 4 / 250, 1 + n / 4 % 250);
        let client = format!("10.1.{}.{}:9", n / 250, n % 250);
        let new = new_flow(tuple(Protocol::Tcp, &client), &endpoint, Source::Masquerade(snat(true)));
        let id = table.open(&new, now).unwrap().id;
        establish(&mut table, id, now);
        close(&mut table, id, now);
    }
    let (waiting, _) = open(&mut table, Protocol::Tcp, 1, now);
    let closed = [2, 3, 4].map(|client| {
        let (id, port) = open(&mut table, Protocol::Tcp, client, now);
        establish(&mut table, id, now);
        close(&mut table, id, now);
        port
    });
    for (client, port) in (10..).zip(closed) {
        let opened = table.open(&masqueraded(Protocol::Tcp, &format!("10.0.0.9:{client}")), now).unwrap();
        assert_eq!((port_of(&table, opened.id), opened.reclaimed), (port, Some(State::Closed)));
    }
    assert_eq!(table.statistics().ports_reclaimed, 0, "what is over is nothing lost");
    assert_eq!(table.flow(waiting).state(), State::SynSent);
}

/// A flood through one VIP takes the ports that a client keeps towards an endpoint that another VIP has, too.
#[test]
fn a_kept_source_finds_a_port_among_half_open_flows() {
    let mut table = FlowTable::new(&config(80_000, 61000..=61000));
    let now = seconds(1);
    for port in 600..=1023u16 {
        let vip = SocketAddr::from(([172, 30, 0, 7], 80));
        let original = FiveTuple::new(Protocol::Tcp, SocketAddr::from(([10, 0, 0, 9], port)), vip);
        table.open(&NewFlow { original, ..kept(Protocol::Tcp, "10.0.0.9:1") }, now).unwrap();
    }
    let opened = table.open(&kept(Protocol::Tcp, "10.0.0.9:700"), now).unwrap();
    assert_eq!(opened.reclaimed, Some(State::SynSent));
    establish(&mut table, opened.id, now);
    for port in 600..=1023u16 {
        let vip = SocketAddr::from(([172, 30, 0, 7], 80));
        let original = FiveTuple::new(Protocol::Tcp, SocketAddr::from(([10, 0, 0, 9], port)), vip);
        if let Some((id, _)) = table.lookup(&original, now) {
            establish(&mut table, id, now);
        }
    }
    let exhausted = table.open(&kept(Protocol::Tcp, "10.0.0.9:701"), now);
    assert_eq!(exhausted, Err(OpenError::PortsExhausted));
}

/// A table or a pool full of UDP that was answered, or that is a conversation: those that open go on to be answered, however
/// many open at once.
#[test]
fn flows_that_open_do_not_push_each_other_out() {
    let filled = |ports, conversations: bool| {
        let mut table = FlowTable::new(&config(64, ports));
        for client in 1..=64 {
            let Ok(opened) = table.open(&masqueraded(Protocol::Udp, &format!("10.0.0.7:{client}")), seconds(1)) else {
                break;
            };
            table.advance(opened.id, Direction::Reply, &Segment::default(), seconds(1));
            if conversations {
                let state = table.advance(opened.id, Direction::Original, &Segment::default(), seconds(4));
                assert_eq!(state, State::UdpReplied);
            }
        }
        table
    };
    for (ports, protocol, conversations) in [
        (1000..=1999, Protocol::Tcp, false),
        (1000..=1999, Protocol::Tcp, true),
        (1000..=1999, Protocol::Udp, true),
        (1000..=1063, Protocol::Udp, false),
        (1000..=1063, Protocol::Udp, true),
    ] {
        let mut table = filled(ports, conversations);
        let new = |client: u16| masqueraded(protocol, &format!("10.0.0.8:{client}"));
        for client in 1..=20 {
            table.open(&new(client), seconds(10)).unwrap();
        }
        let alive = (1..=20).filter(|client| table.lookup(&new(*client).original, seconds(10)).is_some()).count();
        assert_eq!(alive, 20, "{protocol:?}, conversations: {conversations}");
        // Whoever gets no answer goes before them again.
        table.advance(
            table.lookup(&new(1).original, seconds(10)).unwrap().0,
            Direction::Reply,
            &Segment::default(),
            seconds(10),
        );
        let opened = table.open(&new(21), seconds(14)).unwrap();
        let gone = opened.evicted.or(opened.reclaimed).unwrap();
        assert!(gone.is_half_open(), "{gone:?}");
    }
}

/// The same where a flow keeps its source and its port is taken.
#[test]
fn flows_that_open_do_not_push_each_other_off_kept_ports() {
    let mut table = FlowTable::new(&config(4096, 61000..=61000));
    for port in 600..=1023u16 {
        let vip = SocketAddr::from(([172, 30, 0, 7], 53));
        let original = FiveTuple::new(Protocol::Udp, SocketAddr::from(([10, 0, 0, 9], port)), vip);
        let id = table.open(&NewFlow { original, ..kept(Protocol::Udp, "10.0.0.9:1") }, seconds(1)).unwrap().id;
        table.advance(id, Direction::Reply, &Segment::default(), seconds(1));
    }
    for port in 700..=800 {
        let opened = table.open(&kept(Protocol::Udp, &format!("10.0.0.9:{port}")), seconds(10)).unwrap();
        assert_eq!(opened.reclaimed, Some(State::UdpAnswered), "{port}");
    }
}
