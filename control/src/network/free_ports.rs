//! The SNAT ports that are taken when the configuration names none: the widest range of which no port is anybody else's.
//!
//! Two flows to one endpoint must not look alike to it, and the kernel knows nothing of Ringway's: so the range has none of
//! the ports that the kernel gives to the node's own connections (`ip_local_port_range`; kubelet's probes come from there).
//! The steering program sends everything up that comes to a port of the range, and what belongs to no flow then takes the
//! way back through the TAP: so it has no NodePort, no port reserved for somebody (`ip_local_reserved_ports`), and none that
//! a socket of this machine is open for now. One that opens later works, by that detour.

use std::ops::RangeInclusive;

/// What Kubernetes takes NodePorts from unless told otherwise.
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// The kernel's own default.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

/// Ports below are for privileged services.
const FIRST: u16 = 1024;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const SOCKETS: [&str; 4] = ["/proc/self/net/tcp", "/proc/self/net/tcp6", "/proc/self/net/udp", "/proc/self/net/udp6"];

/// Sockets that wait for anybody: TCP that listens, UDP that is not connected.
const WAITING: [&str; 2] = ["0A", "07"];

/// The widest range of ports from 1024 on that are nobody's, as this network namespace is now. `None` when there is none.
pub fn widest() -> Option<RangeInclusive<u16>> {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let sockets: Vec<String> = SOCKETS.into_iter().map(text).collect();
    widest_of(&text(RANGE), &text(RESERVED), sockets.iter().flat_map(|table| waiting(table)))
}

fn widest_of(ephemeral: &str, reserved: &str, sockets: impl Iterator<Item = u16>) -> Option<RangeInclusive<u16>> {
    let mut numbers = ephemeral.split_whitespace().map_while(|number| number.parse::<u16>().ok());
    let ephemeral = numbers.next().zip(numbers.next()).map_or(EPHEMERAL, |(first, last)| first..=last);
    let mut taken = vec![false; usize::from(u16::MAX) + 1];
    let singles = sockets.map(|port| port..=port);
    let low = 0..=FIRST - 1;
    for range in [low, NODE_PORTS, ephemeral].into_iter().chain(ranges(reserved)).chain(singles) {
        range.for_each(|port| {
            if let Some(taken) = taken.get_mut(usize::from(port)) {
                *taken = true;
            }
        });
    }
    let mut widest: Option<RangeInclusive<u16>> = None;
    let mut from = None;
    for port in 0..=u16::MAX {
        if taken.get(usize::from(port)).copied().unwrap_or(true) {
            from = None;
            continue;
        }
        let run = *from.get_or_insert(port)..=port;
        // Of equals the one nearest to the usual places of source ports.
        if widest.as_ref().is_none_or(|widest| run.len() >= widest.len()) {
            widest = Some(run);
        }
    }
    widest
}

/// `1-5,7`, as the kernel writes lists of ports.
fn ranges(list: &str) -> impl Iterator<Item = RangeInclusive<u16>> {
    list.trim().split(',').filter_map(|item| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        Some(first.parse().ok()?..=last.parse().ok()?)
    })
}

/// The ports of waiting sockets in a table of /proc/net.
fn waiting(table: &str) -> impl Iterator<Item = u16> {
    table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, port) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        WAITING.contains(&state).then(|| u16::from_str_radix(port, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:280A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:6D60 0100007F:280A 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
";
    const UDP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue
  17: 00000000000000000000000000000000:2118 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000
";

    fn of(ephemeral: &str, reserved: &str, sockets: &[u16]) -> Option<RangeInclusive<u16>> {
        widest_of(ephemeral, reserved, sockets.iter().copied())
    }

    #[test]
    fn the_widest_range_is_nobodys() {
        assert_eq!(of("32768\t60999\n", "\n", &[22, 443]), Some(1024..=29_999));
        assert_eq!(of("", "", &[]), Some(1024..=29_999), "what the kernel does unless told otherwise");
        assert_eq!(of("32768 60999", "", &[2379, 6443, 10_250, 10_256]), Some(10_257..=29_999));
        assert_eq!(of("32768 60999", "9000-20000,25000\n", &[]), Some(1024..=8999));
        assert_eq!(of("15000 40000", "", &[]), Some(40_001..=65_535));
        assert_eq!(of("1024 65535", "", &[]), None);
    }

    #[test]
    fn sockets_that_wait_are_found() {
        assert_eq!(waiting(TCP).collect::<Vec<_>>(), [0x280a], "a connection has no port of its own");
        assert_eq!(waiting(UDP6).collect::<Vec<_>>(), [0x2118]);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        assert!(waiting(&table).any(|found| found == port), "{port} is missing:\n{table}");
    }
}
