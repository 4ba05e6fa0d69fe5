//! Ports on real queues: traffic both ways, one UMEM over several, interfaces that go down, come back and vanish.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ringway_dataplane::af_xdp::program::{AttachedMode, SteeringEntry, XdpMode};
use ringway_dataplane::af_xdp::{CopyMode, Device, SocketError, SocketOptions, ZeroCopy};
use ringway_dataplane::io::{Port, PortError};

use crate::packets::{turned, udp};
use crate::veth::{Bed, Worker, open_port, options, refused, umem, until};

const VIP: &str = "10.99.0.1";

fn vip() -> SteeringEntry {
    SteeringEntry::Vip(VIP.parse::<IpAddr>().unwrap())
}

/// Sixty-four clients of the peer each send a datagram to the VIP and get it back from a worker that turns packets round
/// on all queues, whichever the attachment and the number of queues.
#[test]
fn packets_come_up_and_go_out_on_every_queue_in_both_modes() {
    for queues in [1, 2, 4] {
        for how in [XdpMode::Native, XdpMode::Generic] {
            let Some(bed) = Bed::new(1, queues) else { return };
            bed.peer_ip("route add 10.99.0.0/24 via 10.77.0.1");
            let mut worker = Worker::start(&bed, "l0", how, &[vip()]);
            assert_eq!(worker.mode == AttachedMode::Native, how == XdpMode::Native);
            let clients: Vec<UdpSocket> = bed.peer(|| {
                let bind = |_| UdpSocket::bind("10.77.0.2:0").unwrap();
                (0..64).map(bind).collect()
            });
            for (number, client) in clients.iter().enumerate() {
                client.set_nonblocking(true).unwrap();
                client.send_to(&[number as u8; 32], (VIP, 80)).unwrap();
            }
            let (mut places, mut answered) = (BTreeSet::new(), BTreeSet::new());
            until("every client has its answer", || {
                for (place, packet) in worker.poll() {
                    places.insert(place);
                    worker.send(place, &turned(&packet));
                }
                for (number, client) in clients.iter().enumerate() {
                    let mut answer = [0; 64];
                    if let Ok((length, from)) = client.recv_from(&mut answer) {
                        assert_eq!(
                            (&answer[..length], from.to_string()),
                            (&[number as u8; 32][..], format!("{VIP}:80"))
                        );
                        answered.insert(number);
                    }
                }
                answered.len() == clients.len()
            });
            // In generic mode a veth says queue 0 for what came on 0 or 1, 1 for 2, and so on.
            let spreads = queues > if how == XdpMode::Native { 1 } else { 2 };
            assert_eq!(places.len() > 1, spreads, "{queues} queues, {how:?}, and packets came on {places:?}");
            until("every sent chunk is free again", || {
                worker.poll();
                worker.ports.iter().all(|port| port.in_transmit() == 0)
            });
            assert_eq!(worker.ports.iter().map(|port| port.counters().kick_errors()).sum::<u64>(), 0);
        }
    }
}

#[test]
fn a_port_that_polls_the_driver_itself_receives_as_well() {
    let Some(bed) = Bed::new(1, 1) else { return };
    bed.peer_ip("route add 10.99.0.0/24 via 10.77.0.1");
    let mut worker = Worker::start(&bed, "l0", XdpMode::Native, &[vip()]);
    let mut umem = umem(1);
    worker.ports.clear();
    let port = bed.gateway(|| {
        let busy = SocketOptions { busy_poll: true, ..options(false) };
        open_port("l0", 0, busy, &mut umem, &[]).unwrap()
    });
    let index = bed.gateway(|| Device::by_name("l0").unwrap().index);
    worker.program.set_socket(index, 0, port.fd().unwrap()).unwrap();
    (worker.umem, worker.ports) = (umem, vec![port]);
    let client = bed.peer(|| UdpSocket::bind("10.77.0.2:0").unwrap());
    client.send_to(b"hello", (VIP, 80)).unwrap();
    until("the packet came up", || !worker.poll().is_empty());
    assert!(worker.ports[0].counters().kicks > 0);
    assert_eq!(worker.ports[0].counters().kick_errors(), 0);
}

#[test]
fn a_burst_larger_than_one_send_call_leaves_whole() {
    let Some(bed) = Bed::new(1, 1) else { return };
    let server = bed.peer(|| UdpSocket::bind("10.77.0.2:9").unwrap());
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut worker = Worker::start(&bed, "l0", XdpMode::Native, &[]);
    for number in 0..200u8 {
        let mut frame = worker.umem.allocate().unwrap();
        let packet = turned(&udp("10.77.0.2:9", "10.77.0.1:9", &[number; 8]));
        assert!(worker.umem.fill(&mut frame, &packet));
        worker.ports[0].send(&mut worker.umem, frame).unwrap();
    }
    until("all have left", || {
        worker.poll();
        worker.ports[0].in_transmit() == 0
    });
    for number in 0..200u8 {
        let mut bytes = [0; 16];
        let length = server.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], [number; 8]);
    }
}

#[test]
fn one_umem_serves_ports_of_two_interfaces() {
    let Some(bed) = Bed::new(2, 2) else { return };
    bed.peer_ip("route add 10.99.0.0/24 via 10.77.0.1");
    let receiver = bed.peer(|| UdpSocket::bind("10.77.1.2:7").unwrap());
    receiver.set_nonblocking(true).unwrap();
    let mut worker = bed.gateway(|| {
        let mut worker = Worker::start_here("l0", XdpMode::Native, &[vip()]);
        let needed = crate::veth::SIZES.frames();
        let error = refused(open_port("l1", 0, options(false), &mut worker.umem, &worker.ports));
        assert_eq!(error, PortError::Frames { needed, free: 128 });
        let mut large = umem(4);
        let mut ports: Vec<Port> = Vec::new();
        worker.ports.clear();
        for (interface, queue) in [("l0", 0), ("l0", 1), ("l1", 0), ("l1", 1)] {
            let port = open_port(interface, queue, options(false), &mut large, &ports).unwrap();
            if interface == "l0" {
                let index = Device::by_name("l0").unwrap().index;
                worker.program.set_socket(index, queue, port.fd().unwrap()).unwrap();
            }
            ports.push(port);
        }
        worker.umem = large;
        worker.ports = ports;
        worker
    });
    let client = bed.peer(|| UdpSocket::bind("10.77.0.2:1234").unwrap());
    client.send_to(b"from one to the other", (VIP, 80)).unwrap();
    let mut bytes = [0; 64];
    until("the packet that came by l0 has left by l1", || {
        for (place, packet) in worker.poll() {
            assert!(place < 2);
            // What the peer takes for a packet from l1's end of link 1 to its own.
            let mut packet = udp("10.77.1.1:80", "10.77.1.2:7", &packet[42..]);
            packet[..12].copy_from_slice(&[2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1]);
            worker.send(2 + place, &packet);
        }
        receiver.recv(&mut bytes).is_ok()
    });
    assert_eq!(&bytes[..21], b"from one to the other");
}

#[test]
fn a_queue_that_is_held_is_told_and_one_that_was_left_is_taken() {
    let Some(bed) = Bed::new(1, 1) else { return };
    bed.gateway(|| {
        let (mut first, mut second) = (umem(1), umem(1));
        let port = open_port("l0", 0, options(false), &mut first, &[]).unwrap();
        let error = refused(open_port("l0", 0, options(false), &mut second, &[]));
        assert_eq!(error, PortError::Socket(SocketError::Busy { interface: "l0".into(), queue: 0 }));
        assert!(error.to_string().contains("ss --xdp -p"), "{error}");
        assert_eq!(second.free_frames(), second.total());
        assert_eq!(port.close().reclaim(&mut first), 256);
        assert_eq!(first.free_frames(), first.total());
        let port = open_port("l0", 0, options(false), &mut second, &[]).unwrap();
        assert_eq!(port.in_receive(), 256);
    });
}

#[test]
fn what_an_interface_cannot_do_is_told_with_numbers() {
    let Some(bed) = Bed::new(1, 2) else { return };
    bed.gateway(|| {
        let mut umem = umem(1);
        let error = refused(open_port("l0", 2, options(false), &mut umem, &[]));
        assert_eq!(
            error.to_string(),
            "l0 has 2 queues, so there is no queue 2: lower the number of workers, or run `ethtool -L l0 combined 3` (veth: `rx 3 tx 3`)"
        );
        let on = SocketOptions { zero_copy: ZeroCopy::On, ..options(false) };
        let error = refused(open_port("l0", 0, on, &mut umem, &[])).to_string();
        assert!(error.starts_with("zeroCopy: on, but driver \"veth\" of l0 cannot: "), "{error}");
        let error = refused(open_port("l0", 0, SocketOptions { generic: true, ..on }, &mut umem, &[])).to_string();
        assert!(error.contains("generic mode, which always copies"), "{error}");
        let port = open_port("l0", 0, options(false), &mut umem, &[]).unwrap();
        let because = "driver \"veth\": zero-copy is not supported".to_owned();
        assert_eq!(port.mode(), Some(&CopyMode::Copy { because }));
        drop(port);
        let error = refused(open_port("l0", 0, options(false), &mut umem, &[]));
        assert!(matches!(error, PortError::Frames { .. }), "a port that was dropped, not closed, keeps its chunks: {error}");
    });
    bed.gateway_ip("link set l0 mtu 3000");
    let error = bed.gateway(|| refused(open_port("l0", 0, options(false), &mut umem(1), &[])));
    assert_eq!(
        error.to_string(),
        "l0 has MTU 3000, and frames of this size carry at most 1774: restart Ringway, which makes frames as large as its \
             interfaces need"
    );
}

#[test]
fn a_port_outlives_its_interface_going_down_and_its_peers() {
    let Some(bed) = Bed::new(1, 1) else { return };
    bed.peer_ip("route add 10.99.0.0/24 via 10.77.0.1");
    let mut worker = Worker::start(&bed, "l0", XdpMode::Native, &[vip()]);
    let packet = turned(&udp("10.77.0.2:9", "10.77.0.1:9", b"to a link that is down"));
    bed.gateway_ip("link set l0 down");
    worker.send(0, &packet);
    until("the interface is found down", || {
        worker.poll();
        worker.ports[0].counters().kicks_down > 0
    });
    bed.gateway_ip("link set l0 up");
    until("the packet left after all", || {
        worker.poll();
        worker.ports[0].in_transmit() == 0
    });
    bed.peer_ip("link set c0 down");
    worker.send(0, &packet);
    until("the peer is found down, or the packet is gone", || {
        worker.poll();
        worker.ports[0].counters().kicks_busy > 0 || worker.ports[0].in_transmit() == 0
    });
    bed.peer_ip("link set c0 up");
    bed.peer_ip("route replace 10.99.0.0/24 via 10.77.0.1");
    bed.peer_ip("neigh replace 10.77.0.1 lladdr 02:00:00:00:00:01 dev c0");
    let client = bed.peer(|| UdpSocket::bind("10.77.0.2:0").unwrap());
    until("packets come up again", || {
        let _ = client.send_to(b"hello", (VIP, 80));
        !worker.poll().is_empty()
    });
    until("all that was sent is gone", || {
        worker.poll();
        worker.ports[0].in_transmit() == 0
    });
}

#[test]
fn an_interface_that_vanishes_takes_no_chunk_with_it() {
    let Some(bed) = Bed::new(2, 1) else { return };
    let mut worker = Worker::start(&bed, "l1", XdpMode::Native, &[vip()]);
    bed.gateway_ip("link del l1");
    let packet = turned(&udp("10.77.0.2:9", "10.77.0.1:9", b"to nowhere"));
    let mut frame = worker.umem.allocate().unwrap();
    assert!(worker.umem.fill(&mut frame, &packet));
    worker.ports[0].send(&mut worker.umem, frame).unwrap();
    until("the port notices", || {
        worker.ports[0].flush(&mut worker.umem);
        worker.ports[0].is_gone()
    });
    let frame = worker.umem.allocate().unwrap();
    let frame = worker.ports[0].send(&mut worker.umem, frame).unwrap_err();
    worker.umem.free(frame);
    let port = worker.ports.pop().unwrap();
    let _ = port.close().reclaim(&mut worker.umem);
    assert_eq!(worker.umem.free_frames(), worker.umem.total());
    let port = bed.gateway(|| open_port("l0", 0, options(false), &mut worker.umem, &[]).unwrap());
    assert_eq!(port.in_receive(), 256);
}
