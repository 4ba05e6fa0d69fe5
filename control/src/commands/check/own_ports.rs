//! What `check` says of SNAT ports that the node's own connections may have as well.

use ringway_shared::PortSet;

/// Where Linux says which source ports it gives to the node's own connections.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What to know of these SNAT ports on this machine.
pub(super) fn overlap(snat: &PortSet) -> Option<String> {
    ephemeral_overlap(snat, &std::fs::read_to_string(EPHEMERAL).unwrap_or_default())
}

/// What to know when SNAT ports are also source ports of the node's own connections.
fn ephemeral_overlap(snat: &PortSet, own: &str) -> Option<String> {
    let mut numbers = own.split_whitespace().map_while(|number| number.parse::<u16>().ok());
    let (first, last) = (numbers.next()?, numbers.next()?);
    snat.ranges().any(|range| *range.start() <= last && first <= *range.end()).then(|| {
        format!(
            "snat.ports {snat} and this node's own source ports {first}-{last} (net.ipv4.ip_local_port_range) overlap: \
             answers to the node's own connections to endpoints could be taken for replies; keep them apart"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snat_ports_that_the_node_itself_uses_are_told() {
        assert_eq!(ephemeral_overlap(&PortSet::from(61_000..=65_535), "32768\t60999\n"), None);
        assert_eq!(ephemeral_overlap(&PortSet::from(61_000..=65_535), ""), None);
        let told = ephemeral_overlap(&PortSet::from(60_000..=65_535), "32768\t60999\n").unwrap();
        assert!(told.starts_with("snat.ports 60000-65535 and this node's own source ports 32768-60999"), "{told}");
    }
}
