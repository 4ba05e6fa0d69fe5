//! Addresses and ranges as Kubernetes reads them.
//!
//! Kubernetes keeps accepting what Go accepted before 2021: IPv4 octets and prefix lengths with leading zeros, which are
//! decimal (`172.30.0.041/025` is `172.30.0.41/25`); and an IPv4-mapped IPv6 address is the IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The address that `text` means, if it means one. Nothing around it is tolerated, not even a space.
pub fn address(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        return ipv4(text).map(IpAddr::V4);
    }
    let v6 = ipv6(text)?;
    Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4))
}

/// The range that `text` means, host bits cleared.
pub fn range(text: &str) -> Option<IpNet> {
    let (network, length) = text.split_once('/')?;
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let length = decimal(length, 128)? as u8;
    if !network.contains(':') {
        return Some(Ipv4Net::new(ipv4(network)?, length).ok()?.trunc().into());
    }
    let v6 = ipv6(network)?;
    match (v6.to_ipv4_mapped(), length.checked_sub(96)) {
        (Some(v4), Some(length)) => Some(Ipv4Net::new(v4, length).ok()?.trunc().into()),
        _ => Some(Ipv6Net::new(v6, length).ok()?.trunc().into()),
    }
}

/// Why nobody can be behind `address`: it names no single host of the network. `None` for every other address.
pub fn nobody_behind(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("the broadcast address")
    } else {
        None
    }
}

fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?, 255)? as u8;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    // The dotted tail of `::ffff:010.0.0.1` may have leading zeros, too.
    match text.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => format!("{head}:{}", ipv4(tail)?).parse().ok(),
        _ => text.parse().ok(),
    }
}

fn decimal(digits: &str, most: u32) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.bytes().try_fold(0, |number: u32, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        Some(number * 10 + digit).filter(|number| *number <= most)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("172.30.0.041", Some("172.30.0.41")),
            ("010.000.000.0000255", Some("10.0.0.255")),
            ("fd00:0:0::A", Some("fd00::a")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("::ffff:010.0.0.08", Some("10.0.0.8")),
            ("::ffff:0a00:1", Some("10.0.0.1")),
            ("1.2.3.256", None),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("1.2.3.", None),
            ("1.2.3.0x4", None),
            ("+1.2.3.4", None),
            (" 1.2.3.4", None),
            ("1.2.3.4/32", None),
            ("fe80::1%eth0", None),
            ("::1.2.3", None),
            ("None", None),
            ("", None),
            ("１.2.3.4", None),
        ] {
            assert_eq!(address(text), expected.map(|expected| expected.parse().unwrap()), "{text:?}");
        }
    }

    #[test]
    fn ranges_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("172.30.0.041/025", Some("172.30.0.0/25")),
            ("10.0.0.1/32", Some("10.0.0.1/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::1/064", Some("2001:db8::/64")),
            ("::/0", Some("::/0")),
            ("::ffff:10.1.2.3/104", Some("10.0.0.0/8")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/-1", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/", None),
            ("10.0.0.0", None),
            ("10.0.0.0/255.0.0.0", None),
            ("fd00::/129", None),
            ("10.0.0.0/99999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(range(text), expected.map(|expected| expected.parse().unwrap()), "{text:?}");
        }
    }
}
