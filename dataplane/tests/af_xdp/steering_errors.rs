//! Steering of ICMP errors: those about packets of flows come up, those about the node's own connections do not.

use ringway_dataplane::af_xdp::program::XdpMode;
use ringway_shared::{FiveTuple, Protocol};

use crate::packets::{error, inside, syn, udp, with};
use crate::steering::{coming_up, entries, extended, options_in};
use crate::veth::{Bed, Worker, open_port, options, umem};

/// Empty destination options headers, the last of them followed by UDP.
fn chain(headers: usize) -> Vec<u8> {
    let mut chain = [60, 0, 1, 4, 0, 0, 0, 0].repeat(headers);
    chain[8 * (headers - 1)] = 17;
    chain
}

/// Name, packet, whether it comes up.
fn rows() -> Vec<(&'static str, Vec<u8>, bool)> {
    let masqueraded = udp("10.77.0.1:61000", "10.77.0.2:7", b"x");
    let node_port = syn("10.77.0.1:30080", "10.1.2.3:4000");
    let node_port6 = udp("[fd77:0::1]:30053", "[fd01::5]:4000", b"x");
    let fragment = |offset: u16| [&[17, 0][..], &offset.to_be_bytes(), &[0, 0, 0, 9]].concat();
    let mut rows = vec![
        ("a redirect is the kernel's", error(5, &masqueraded), false),
        ("no error, but like one", error(13, &masqueraded), false),
        ("from another port of the node", error(3, &udp("10.77.0.1:50000", "10.77.0.2:7", b"x")), false),
        ("from a SNAT port, to no endpoint", error(3, &udp("10.77.0.1:61000", "10.77.0.2:8", b"x")), false),
        ("from a SNAT port, over another protocol", error(3, &with(&masqueraded, 23, &[47])), false),
        ("with IPv4 options", error(11, &options_in(&masqueraded)), true),
        ("itself with IPv4 options", options_in(&error(11, &options_in(&masqueraded))), true),
        ("of a first fragment", error(11, &with(&masqueraded, 20, &[0x20, 0])), true),
        ("of a later fragment", error(11, &with(&masqueraded, 20, &[0, 10])), false),
        ("cut before the ports", error(3, &masqueraded)[..14 + 20 + 8 + 23].to_vec(), false),
        ("cut behind the ports", error(3, &masqueraded)[..14 + 20 + 8 + 24].to_vec(), true),
        ("with a header length that cannot be", with(&error(3, &masqueraded), 42, &[0x44]), false),
        ("from a NodePort", error(3, &node_port), true),
        ("from no NodePort", error(3, &syn("10.77.0.1:30081", "10.1.2.3:4000")), false),
        (
            "from a NodePort's number, over another protocol",
            error(3, &udp("10.77.0.1:30080", "10.1.2.3:4", b"x")),
            false,
        ),
        ("of a client nobody knows", error(3, &udp("10.1.2.3:4000", "10.77.0.2:53", b"x")), false),
        ("an echo request with such a payload", error(128, &node_port6), false),
        ("from no IPv6 NodePort", error(1, &udp("[fd77:0::1]:30054", "[fd01::5]:4000", b"x")), false),
        ("with an IPv6 header", error(2, &extended(&node_port6, 60, &chain(1))), true),
        ("with eight IPv6 headers", error(2, &extended(&node_port6, 60, &chain(8))), true),
        ("itself with eight", extended(&error(2, &extended(&node_port6, 60, &chain(8))), 60, &icmp6(&chain(8))), true),
        ("with nine IPv6 headers", error(2, &extended(&node_port6, 60, &chain(9))), false),
        ("of a whole IPv6 packet with a fragment header", error(2, &extended(&node_port6, 44, &fragment(0))), true),
        ("of a first IPv6 fragment", error(3, &extended(&node_port6, 44, &fragment(1))), true),
        ("of a later IPv6 fragment", error(3, &extended(&node_port6, 44, &fragment(8))), false),
        ("with an IPv6 header past the end", error(2, &extended(&node_port6, 60, &[17, 200, 1, 4, 0, 0, 0, 0])), false),
        ("IPv4 in an ICMPv6 error", with(&error(1, &node_port6), 62, &[0x45]), false),
    ];
    rows.extend(tunnelled());
    rows.extend([3, 4, 11, 12].map(|icmp_type| ("of each type", error(icmp_type, &masqueraded), true)));
    rows.extend(
        [1, 2, 3, 4, 100, 127].map(|icmp_type| ("of each type of ICMPv6", error(icmp_type, &node_port6), true)),
    );
    rows
}

/// The same, of errors about packets with others inside.
fn tunnelled() -> Vec<(&'static str, Vec<u8>, bool)> {
    let vip = syn("10.1.2.3:4000", "10.99.0.1:80");
    let vip6 = syn("[fd01::5]:4000", "[fd99::1]:80");
    let other = syn("10.1.2.3:4000", "10.99.0.2:80");
    let other6 = syn("[fd01::5]:4000", "[fd99::2]:80");
    let outer = inside(false, &vip);
    vec![
        ("inside, to a VIP", error(3, &outer), true),
        ("inside, to no VIP", error(3, &inside(false, &other)), false),
        ("inside, cut in the inner header", error(3, &outer)[..14 + 20 + 8 + 20 + 19].to_vec(), false),
        ("inside, cut behind it", error(3, &outer)[..14 + 20 + 8 + 20 + 20].to_vec(), true),
        ("inside a later fragment", error(3, &with(&outer, 20, &[0, 10])), false),
        ("inside, a redirect", error(5, &outer), false),
        ("inside IPv6, to a VIP", error(2, &inside(true, &vip6)), true),
        ("inside IPv6, to no VIP", error(2, &inside(true, &other6)), false),
        (
            "inside IPv6, cut in the inner header",
            error(2, &inside(true, &vip6))[..14 + 40 + 8 + 40 + 39].to_vec(),
            false,
        ),
        ("IPv6 inside IPv4", error(11, &inside(false, &vip6)), true),
        ("IPv4 inside IPv6", error(3, &inside(true, &vip)), true),
        ("IPv4 inside IPv6, to no VIP", error(3, &inside(true, &other)), false),
    ]
}

/// The chain, followed by ICMPv6.
fn icmp6(chain: &[u8]) -> Vec<u8> {
    with(chain, chain.len() - 8, &[58])
}

#[test]
fn errors_about_packets_of_flows_come_up() {
    for how in [XdpMode::Native, XdpMode::Generic] {
        let Some(bed) = Bed::new(1, 1) else { return };
        let mut worker = Worker::start(&bed, "l0", how, &entries());
        let mut umem = umem(1);
        let mut sender = bed.peer(|| open_port("c0", 0, options(true), &mut umem, &[]).unwrap());
        let marker = udp("10.77.0.2:1", "10.99.0.1:1", b"marker");
        let mut comes_up = |worker: &mut Worker, packet: &[u8]| {
            let mut came = coming_up(worker, (&mut sender, &mut umem), &[packet, &marker]);
            came.pop();
            assert!(came.iter().all(|came| came == packet));
            came.len() == 1
        };
        for (name, packet, expected) in rows() {
            assert_eq!(comes_up(&mut worker, &packet), expected, "{name} ({how:?})");
        }
        // Where the source is kept, a claim says that there is a flow.
        let kept = FiveTuple::new(Protocol::Udp, "10.1.2.3:4000".parse().unwrap(), "10.77.0.2:53".parse().unwrap());
        let packet = error(3, &udp("10.1.2.3:4000", "10.77.0.2:53", b"x"));
        let claims = worker.program.claims();
        claims.raise(&kept);
        assert!(comes_up(&mut worker, &packet), "under a claimed tuple ({how:?})");
        claims.lower(&kept);
        assert!(!comes_up(&mut worker, &packet), "claimed no more ({how:?})");
    }
}
