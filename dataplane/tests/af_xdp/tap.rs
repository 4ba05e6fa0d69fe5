//! TAP: packets given back reach the kernel as if from the NIC.

use std::net::UdpSocket;
use std::time::Duration;

use ringway_dataplane::af_xdp::{Device, Tap, TapError};

use crate::packets::udp;
use crate::veth::{Bed, refused, run};

/// The reverse path filter as hosts have it: off, strict for new interfaces, lax or strict for all.
const FILTERS: [[u8; 2]; 4] = [[0, 0], [1, 0], [2, 2], [1, 1]];

#[test]
fn an_injected_packet_reaches_the_socket_on_the_nics_address() {
    for [default, all] in FILTERS {
        let Some(bed) = Bed::new(1, 1) else { return };
        bed.gateway(|| {
            let device = Device::by_name("l0").unwrap();
            for (which, value) in [("default", default), ("all", all)] {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{which}/rp_filter"), value.to_string()).unwrap();
            }
            let routes = run("ip route show table all").unwrap();
            let tap = Tap::open(&device).unwrap();
            assert_eq!(tap.notes(), [""; 0]);
            assert_eq!(tap.device().name, format!("rw{}", device.index));
            assert_eq!(tap.device().mac().unwrap(), device.mac().unwrap());
            for (own, other) in [("10.77.0.1", "10.77.0.2"), ("[fd77:0::1]", "[fd77:0::2]")] {
                let socket = UdpSocket::bind(format!("{own}:5555")).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let packet = udp(&format!("{other}:4444"), &format!("{own}:5555"), b"passed");
                tap.inject(&packet).unwrap();
                let mut bytes = [0; 16];
                let received = socket.recv_from(&mut bytes);
                let (length, from) = received.unwrap_or_else(|error| panic!("{own}, filter {default} {all}: {error}"));
                assert_eq!((&bytes[..length], from.port()), (&b"passed"[..], 4444));
            }
            let ours = |line: &str| line.contains(&tap.device().name) && !line.contains("127.255.255.254");
            let added: Vec<String> = run("ip -4 route show table all").unwrap().lines().map(String::from).collect();
            assert!(!added.iter().any(|line| ours(line)), "routes by the device: {added:?}");
            assert!(!run(&format!("ip address show dev {}", tap.device())).unwrap().contains("inet6"), "an address");
            assert!(matches!(refused(Tap::open(&device)), TapError::Exists { .. }));
            let name = tap.device().name.clone();
            drop(tap);
            assert!(Device::by_name(&name).is_err(), "the device ends with its file descriptor");
            assert_eq!(run("ip route show table all").unwrap(), routes);
        });
    }
}
