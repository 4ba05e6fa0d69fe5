//! The SNAT ports that are taken when the configuration names none: all from 1024 on that are nobody else's.
//!
//! Two flows to one endpoint must not look alike to it, and the kernel knows nothing of Ringway's: so there are none of the
//! ports that the kernel gives to the node's own connections (`ip_local_port_range`; kubelet's probes come from there), and
//! none that are reserved for somebody (`ip_local_reserved_ports`). NodePorts are left to the Services. What the node listens
//! on is not in the way: only packets of endpoints are taken for replies.

use std::ops::RangeInclusive;

use ringway_shared::PortSet;

/// What Kubernetes takes NodePorts from unless told otherwise.
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// The kernel's own default.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

/// Ports below are for privileged services.
const FIRST: u16 = 1024;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// All ports from 1024 on that are nobody's, as this network namespace is now. Of very many ranges the widest.
pub fn all() -> PortSet {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    all_of(&text(RANGE), &text(RESERVED))
}

fn all_of(ephemeral: &str, reserved: &str) -> PortSet {
    let mut numbers = ephemeral.split_whitespace().map_while(|number| number.parse::<u16>().ok());
    let ephemeral = numbers.next().zip(numbers.next()).map_or(EPHEMERAL, |(first, last)| first..=last);
    let mut taken: Vec<_> = [0..=FIRST - 1, NODE_PORTS, ephemeral].into_iter().chain(ranges(reserved)).collect();
    taken.sort_by_key(|range| *range.start());
    let mut free = Vec::new();
    let mut next = 0u32;
    for range in taken {
        let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
        if first > next {
            free.push(next as u16..=(first - 1) as u16);
        }
        next = next.max(last + 1);
    }
    if let Ok(next) = u16::try_from(next) {
        free.push(next..=u16::MAX);
    }
    PortSet::widest_of(free)
}

/// `1-5,7`, as the kernel writes lists of ports.
fn ranges(list: &str) -> impl Iterator<Item = RangeInclusive<u16>> {
    list.trim().split(',').filter_map(|item| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        Some(first.parse().ok()?..=last.parse().ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_nobodys_is_free() {
        let of = |ephemeral: &str, reserved: &str| all_of(ephemeral, reserved).to_string();
        assert_eq!(of("32768\t60999\n", "\n"), "1024-29999,61000-65535");
        assert_eq!(of("", ""), "1024-29999,61000-65535", "what the kernel does unless told otherwise");
        assert_eq!(of("32768 60999", "9000-20000,25000\n"), "1024-8999,20001-24999,25001-29999,61000-65535");
        assert_eq!(of("15000 40000", "80,65535"), "1024-14999,40001-65534");
        assert_eq!(of("1024 65535", ""), "");
        assert_eq!(of("40000 50000", ""), "1024-29999,32768-39999,50001-65535");
    }

    #[test]
    fn of_very_many_ranges_the_widest_are_taken() {
        let reserved: Vec<String> = (1..=20).map(|number| (2000 + 10 * number).to_string()).collect();
        let free = all_of("32768 60999", &reserved.join(","));
        assert_eq!(free.ranges().len(), PortSet::MOST_RANGES);
        let widest: Vec<_> = free.ranges().filter(|range| range.len() > 9).collect();
        assert_eq!(widest, [1024..=2009, 2201..=29_999, 61_000..=65_535]);
    }
}
