//! Frontends that came to ports which masqueraded flows had already. No new flow gets such a port, but what an endpoint of an older
//! one sends there from its own port is a reply first. Who is affected cannot see why, so `services` and `trace` say it.

use std::net::{IpAddr, SocketAddr};

use ringway_shared::{Family, Network, PortSet, Protocol};

/// What masqueraded flows come from.
#[derive(Clone, Copy, Debug)]
pub struct SnatSources<'a> {
    /// `snat.ports`.
    pub ports: &'a PortSet,
    /// `snat.addresses`.
    pub addresses: &'a [IpAddr],
    /// Whose interfaces have the addresses that are taken where none is configured.
    pub network: &'a Network,
}

impl SnatSources<'_> {
    /// Whether masqueraded flows may come from there.
    pub fn include(&self, at: SocketAddr) -> bool {
        let family = Family::of(at.ip());
        let is_source = match self.addresses.iter().any(|address| Family::of(*address) == family) {
            true => self.addresses.contains(&at.ip()),
            false => {
                let mut own = self.network.interfaces().iter().flat_map(|interface| &interface.addresses);
                own.any(|net| net.addr() == at.ip())
            }
        };
        is_source && self.ports.contains(at.port())
    }
}

/// What is to be said of a frontend whose port flows have. `endpoints`: those of these flows.
pub fn sentence(protocol: Protocol, at: SocketAddr, endpoints: &[SocketAddr]) -> Option<String> {
    const FEW: usize = 3;
    let listed: Vec<String> = endpoints.iter().take(FEW).map(ToString::to_string).collect();
    let more = endpoints.len().saturating_sub(FEW);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!endpoints.is_empty()).then(|| {
        format!(
            "Masqueraded flows to {}{more} have had the SNAT port {protocol} {at} since before it was a Service's: what comes from there \
             is taken for their replies, and gets to no Service until they end (ringway flows); new UDP flows do not get it.",
            listed.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_shared::InterfaceId;
    use ringway_shared::network::Interface;

    #[test]
    fn frontends_that_flows_come_from_are_told() {
        let addresses = ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"].map(|text| text.parse().unwrap());
        let interface = Interface {
            id: InterfaceId(0),
            name: "eth0".into(),
            index: 2,
            mac: Default::default(),
            mtu: 1500,
            addresses: addresses.to_vec(),
            up: true,
            lowers: Default::default(),
        };
        let network = Network::new(1, vec![interface], [], []);
        let (ports, addresses) = (PortSet::from(1024..=30_100), ["192.0.2.2".parse().unwrap()]);
        let sources = SnatSources { ports: &ports, addresses: &addresses, network: &network };
        let is = |at: &str| sources.include(at.parse().unwrap());
        assert!(is("192.0.2.2:30080") && is("[2001:db8::1]:30080"));
        assert!(!is("192.0.2.1:30080"), "another address is configured");
        assert!(!is("192.0.2.2:30101") && !is("198.51.100.1:30080"));
    }

    #[test]
    fn who_has_the_port_now_is_named() {
        let (at, endpoints) = ("192.0.2.1:5353".parse().unwrap(), ["10.0.0.1:53"; 5].map(|text| text.parse().unwrap()));
        let told = |few: usize| sentence(Protocol::Udp, at, &endpoints[..few]);
        assert_eq!(told(0), None);
        let said = told(5).unwrap();
        let start = "Masqueraded flows to 10.0.0.1:53, 10.0.0.1:53, 10.0.0.1:53 and 2 more have had the SNAT port udp 192.0.2.1:5353";
        assert!(said.starts_with(start), "{said}");
    }
}
