//! TAP: packets given back reach the kernel as if from the NIC.

use std::net::UdpSocket;
use std::time::Duration;

use ringway_dataplane::af_xdp::program::{SteeringEntry, XdpMode};
use ringway_dataplane::af_xdp::{Device, Tap, TapError};
use ringway_shared::Protocol;

use crate::packets::udp;
use crate::steering::frontend;
use crate::veth::{Bed, Worker, refused, run, until};

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
            let before = routes();
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
            let added: Vec<String> = routes().lines().map(String::from).collect();
            assert!(!added.iter().any(|line| ours(line)), "routes by the device: {added:?}");
            assert!(!run(&format!("ip address show dev {}", tap.device())).unwrap().contains("inet6"), "an address");
            assert!(matches!(refused(Tap::open(&device)), TapError::Exists { .. }));
            let name = tap.device().name.clone();
            drop(tap);
            // Or with that of another test's child that has not come to its program yet.
            until("the device ends with its file descriptor", || Device::by_name(&name).is_err());
            assert_eq!(routes(), before);
        });
    }
}

/// The routes of IPv4, whether or not their links have a carrier by now.
fn routes() -> String {
    run("ip -4 route show table all").unwrap().replace(" linkdown", "")
}

/// Rules by interface see what they would see without Ringway, and generic XDP does not see again what went up already.
#[test]
fn an_injected_packet_comes_by_the_nic_itself_and_never_goes_round() {
    for mode in [XdpMode::Native, XdpMode::Generic] {
        let Some(bed) = Bed::new(1, 1) else { return };
        let own = "10.77.0.1:5555";
        let frontend = frontend(Protocol::Udp, "10.77.0.1", 5555);
        let mut worker = Worker::start(&bed, "l0", mode, &[SteeringEntry::Frontend(frontend)]);
        bed.gateway(|| {
            let tap = Tap::open(&Device::by_name("l0").unwrap()).unwrap();
            let socket = UdpSocket::bind(own).unwrap();
            run("nft add table inet rules").unwrap();
            run("nft add chain inet rules input { type filter hook input priority 0 ; }").unwrap();
            run("nft add rule inet rules input iifname != l0 udp dport 5555 drop").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            for number in 0..20_u8 {
                tap.inject(&udp("10.77.0.2:4444", own, &[number])).unwrap();
                let mut bytes = [0; 16];
                let received = socket.recv_from(&mut bytes);
                let (length, _) = received.unwrap_or_else(|error| panic!("{mode:?}: {error}"));
                assert_eq!(bytes[..length], [number], "{mode:?}");
            }
            // Whoever takes it away, it is set up again.
            run(&format!("tc qdisc del dev {} ingress", tap.device())).unwrap();
            let name = tap.device().name.clone();
            assert_eq!(tap.mend(&Device::by_name("l0").unwrap(), true).unwrap(), ["its packets did not go on as l0's"]);
            tap.inject(&udp("10.77.0.2:4444", own, b"again")).unwrap();
            assert!(socket.recv_from(&mut [0; 16]).is_ok(), "{name}");
        });
        // Each from the peer would come up.
        let came = worker.poll();
        assert!(came.is_empty(), "{mode:?}: {came:?}");
    }
}

#[test]
fn what_somebody_changes_is_put_right_and_what_is_taken_away_is_told() {
    let Some(bed) = Bed::new(1, 1) else { return };
    bed.gateway(|| {
        let device = Device::by_name("l0").unwrap();
        let tap = Tap::open(&device).unwrap();
        let name = tap.device().name.clone();
        assert_eq!(tap.mend(&device, true).unwrap(), [""; 0]);
        let socket = UdpSocket::bind("10.77.0.1:5555").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let passes = |tap: &Tap| {
            tap.inject(&udp("10.77.0.2:4444", "10.77.0.1:5555", b"passed")).unwrap();
            socket.recv_from(&mut [0; 16]).unwrap();
        };
        // What is done to the device, and what is said of it.
        let ipv6 = |key: &str| format!("sysctl -qw net.ipv6.conf.{name}.{key}");
        let changes = [
            (format!("ip link set {name} down"), "it was down"),
            (format!("ip link set {name} address 02:00:00:00:00:77"), "its MAC address was 02:00:00:00:00:77"),
            (format!("ip link set {name} mtu 1400"), "its MTU was 1400"),
            (format!("ip link set {name} arp on"), "ARP was on"),
            (format!("{}=1", ipv6("disable_ipv6")), "its net.ipv6.disable_ipv6 was 1"),
            (format!("{}=1", ipv6("accept_ra")), "its net.ipv6.accept_ra was 1"),
            (format!("{}=0", ipv6("addr_gen_mode")), "its net.ipv6.addr_gen_mode was 0"),
            ("sysctl -qw net.ipv4.conf.l0.forwarding=1".to_owned(), "its net.ipv4.forwarding was 0"),
        ];
        for (command, said) in changes {
            run(&command).unwrap();
            assert_eq!(tap.mend(&device, true).unwrap(), [said], "{command}");
            assert_eq!(tap.mend(&device, true).unwrap(), [""; 0], "{command}");
            passes(&tap);
        }
        // The NIC's own MAC address and MTU are followed.
        run("ip link set l0 address 02:00:00:00:00:88 mtu 1300").unwrap();
        assert_eq!(tap.mend(&device, false).unwrap().len(), 2);
        assert_eq!((tap.device().mac().unwrap(), tap.device().mtu().unwrap()), (device.mac().unwrap(), 1300));
        // Taken away in every way; a new one can be made while the old one's descriptor is still open.
        let elsewhere = format!("rw-elsewhere-{}", std::process::id());
        run(&format!("ip netns add {elsewhere}")).unwrap();
        let mut taps = vec![tap];
        for (command, how) in [
            (format!("ip link del {name}"), "it was deleted".to_owned()),
            (format!("ip link set {name} name other0"), "it was renamed to other0".to_owned()),
            (format!("ip link set {name} netns {elsewhere}"), "it was moved to another network namespace".into()),
        ] {
            run(&command).unwrap();
            let gone = taps.last().unwrap().mend(&device, false);
            assert_eq!(gone, Err(TapError::Gone { name: name.clone(), how }), "{command}");
            taps.push(Tap::open(&device).unwrap());
        }
        drop(taps);
        run(&format!("ip netns del {elsewhere}")).unwrap();
    });
}
