//! Sources that the kernel would refuse open nothing: the gateway's own addresses, and what rp_filter does not let in.

use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, NODE_IPS, Options, at};
use ringway_tests::{can_run, eventually};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// The gateway's own, one of the backends' network, one that nobody has a route to, and the first two again over IPv6, which
/// has no such setting.
const SOURCES: [&str; 5] = ["10.180.0.1", "10.180.0.99", "203.0.113.77", "fd00:180::1", "fd00:180::99"];

/// What becomes of a datagram of the client from `source` to the VIP.
fn fate(bed: &mut Bed, source: &str) -> &'static str {
    let before = bed.ledger();
    let source: IpAddr = source.parse().unwrap();
    let vip = at(CLUSTER_IPS[usize::from(source.is_ipv6())], ECHO.port);
    let sent = bed.client.enter(|| UdpSocket::bind(SocketAddr::new(source, 0))?.send_to(b"?", vip));
    sent.and_then(|sent| sent).unwrap_or_else(|error| panic!("{source}: {error}"));
    eventually(Duration::from_secs(5), "the datagram arrives", || {
        let since = bed.ledger().since(&before);
        let counts = [since.drops("impossible_source"), since.drops("reverse_path"), since.forwarded];
        let fate = counts.iter().position(|count| *count > 0).ok_or_else(|| format!("{source}: {since:?}"))?;
        Ok(["impossible", "refused", "forwarded"][fate])
    })
}

fn filter(bed: &Bed, value: &str) {
    bed.gateway.sysctl("net/ipv4/conf/front/rp_filter", value).unwrap();
}

#[test]
fn forged_sources_are_refused_as_the_interface_says() {
    if !can_run("forged_sources_are_refused_as_the_interface_says", &["ip", "nginx"]) {
        return;
    }
    let mut bed = Bed::prepare(Options::default());
    for source in SOURCES {
        let length = if source.contains(':') { 128 } else { 32 };
        bed.client.address("eth0", &format!("{source}/{length}")).unwrap();
    }
    bed.gateway.sysctl("net/ipv4/conf/all/rp_filter", "0").unwrap();
    filter(&bed, "1");
    bed.serve();
    bed.start_ringway();
    // Nobody tells a forger the gateway's MAC address.
    for (own, gateway) in ["192.168.0.1", "fd00:168::1"].into_iter().zip(NODE_IPS) {
        assert_eq!(fate(&mut bed, own), "forwarded");
        bed.client.ip(&["neigh", "change", gateway, "dev", "eth0", "nud", "permanent"]).unwrap();
    }
    let strict = SOURCES.map(|source| fate(&mut bed, source));
    assert_eq!(strict, ["impossible", "refused", "refused", "impossible", "forwarded"]);
    for (value, expected) in [
        ("2", ["impossible", "forwarded", "refused", "impossible", "forwarded"]),
        ("0", ["impossible", "forwarded", "forwarded", "impossible", "forwarded"]),
    ] {
        filter(&bed, value);
        eventually(Duration::from_secs(10), "the setting is followed", || {
            let fates = SOURCES.map(|source| fate(&mut bed, source));
            if fates == expected { Ok(()) } else { Err(format!("rp_filter {value}: {fates:?}")) }
        });
    }
}
