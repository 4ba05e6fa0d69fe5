//! Large packets in generic mode: a client with default offloads sends a stream that the kernel hands up merged.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use ringway_dataplane::af_xdp::program::{SteeringEntry, XdpMode};
use ringway_dataplane::af_xdp::{Device, Tap};
use ringway_dataplane::forward::nat::complete_partial;
use ringway_dataplane::wire::Packet;
use ringway_shared::{Frontend, Protocol};

use crate::veth::{Bed, Worker, until};

/// The whole stream comes up by the port, in pieces, and goes into the kernel by the TAP device, where a real TCP server
/// reads it.
#[test]
fn a_stream_with_default_offloads_arrives_whole_in_generic_mode() {
    const LENGTH: usize = 4 << 20;
    let byte = |index: usize| (index % 251) as u8;
    for (server, port) in [("10.77.0.1", 7000), ("fd77:0::1", 7001)] {
        let Some(bed) = Bed::new(1, 1) else { return };
        let address = server.parse().unwrap();
        let frontend = SteeringEntry::Frontend(Frontend { address, protocol: Protocol::Tcp, port });
        let mut worker = Worker::start(&bed, "l0", XdpMode::Generic, &[frontend]);
        let (tap, listener) = bed.gateway(|| {
            (Tap::open(&Device::by_name("l0").unwrap()).unwrap(), TcpListener::bind((server, port)).unwrap())
        });
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
            bytes
        });
        thread::scope(|scope| {
            scope.spawn(|| {
                bed.peer(|| {
                    let stream: Vec<u8> = (0..LENGTH).map(byte).collect();
                    TcpStream::connect((server, port)).unwrap().write_all(&stream).unwrap();
                });
            });
            until("the server has read it all", || {
                for (_, mut packet) in worker.poll() {
                    let parsed = Packet::parse(&packet).unwrap();
                    complete_partial(&mut packet, &parsed);
                    tap.inject(&packet).unwrap();
                }
                reader.is_finished()
            });
        });
        assert!(reader.join().unwrap().into_iter().eq((0..LENGTH).map(byte)), "the stream is not the one sent");
        let counters = *worker.ports[0].counters();
        assert!(counters.large_cut > 0, "nothing was merged, so this proved nothing: {counters:?}");
        assert_eq!(counters.large_lost, 0);
        assert_eq!(worker.ports[0].statistics().unwrap().rx_dropped, 0);
        worker.assert_whole();
    }
}
