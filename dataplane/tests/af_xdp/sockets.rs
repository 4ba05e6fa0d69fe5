//! What becomes of packets of ours while a queue has no socket.

use ringway_dataplane::af_xdp::Device;
use ringway_dataplane::af_xdp::program::{SteeringProgram, XdpMode};
use ringway_shared::MacAddress;

use crate::steering::entries;
use crate::veth::{Bed, Worker, open_port, options, umem, until};

#[test]
fn without_a_socket_our_packets_pass_or_drop_as_told() {
    let Some(bed) = Bed::new(1, 1) else { return };
    // The gateway owns the VIP, so that the kernel answers what passes.
    bed.gateway_ip("address add 10.99.0.1/32 dev lo");
    bed.peer_ip("route add 10.99.0.0/24 via 10.77.0.1");
    let mut worker = Worker::start(&bed, "l0", XdpMode::Native, &entries());
    assert!(!bed.peer_pings("10.99.0.1"), "the socket has it");
    worker.ports.clear();
    until("the kernel answers", || bed.peer_pings("10.99.0.1"));
    worker.program.drop_without_socket(true).unwrap();
    assert!(!bed.peer_pings("10.99.0.1"));
    assert!(bed.peer_pings("10.77.0.1"));
    worker.program.drop_without_socket(false).unwrap();
    assert!(bed.peer_pings("10.99.0.1"));
}

#[test]
fn ports_are_opened_anew_while_the_program_stays_and_nothing_of_ours_reaches_the_kernel() {
    let Some(bed) = Bed::new(1, 1) else { return };
    bed.gateway_ip("address add 10.99.0.1/32 dev lo");
    bed.peer_ip("route add 10.99.0.0/24 via 10.77.0.1");
    let mut worker = Worker::start(&bed, "l0", XdpMode::Native, &entries());
    let index = bed.gateway(|| Device::by_name("l0").unwrap().index);
    worker.program.drop_without_socket(true).unwrap();
    worker.program.remove_sockets(index);
    worker.ports.clear();
    assert!(bed.gateway_ip("link show l0").contains("xdp"), "the program stays");
    assert!(!bed.peer_pings("10.99.0.1"), "the kernel would answer");
    assert!(bed.peer_pings("10.77.0.1"), "what is not ours passes");
    let mut memory = umem(1);
    let port = bed.gateway(|| open_port("l0", 0, options(false), &mut memory, &[])).unwrap();
    worker.program.set_socket(index, 0, port.fd().unwrap()).unwrap();
    worker.program.drop_without_socket(false).unwrap();
    worker.umem = memory;
    worker.ports = vec![port];
    assert!(!bed.peer_pings("10.99.0.1"), "the new socket has it");
    let packets = worker.poll();
    assert!(!packets.is_empty());
}

/// Pods' links come and go, and queues are opened anew, for as long as an instance runs.
#[test]
fn what_a_device_had_in_the_maps_is_free_again() {
    let Some(bed) = Bed::new(1, 1) else { return };
    let mut memory = umem(1);
    let port = bed.gateway(|| open_port("l0", 0, options(false), &mut memory, &[])).unwrap();
    let mut program = SteeringProgram::load().unwrap();
    // More than there is room for at once: first of sockets, then of both them and addresses.
    for _ in 0..1_100 {
        program.set_socket(1, 0, port.fd().unwrap()).unwrap();
    }
    for index in 1..4_200 {
        program.set_link(index, Some(7), MacAddress([2; 6])).unwrap();
        program.set_socket(index, 0, port.fd().unwrap()).unwrap();
        program.detach(index);
    }
}
