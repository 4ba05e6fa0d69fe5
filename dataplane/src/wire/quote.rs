//! The packet that an ICMP error quotes: its first bytes, as they were when it met its end.

use ringway_shared::{Family, FiveTuple, Protocol};

use super::{icmp, ipv4, ipv6, ports, tuple};

/// Where in an IPv4 header flags and fragment offset stand, and the protocol.
const IPV4_FRAGMENT: usize = 6;
const IPV4_PROTOCOL: usize = 9;
/// Where in an IPv6 header the next header stands.
const IPV6_NEXT_HEADER: usize = 6;

/// Whether an error of this type says that a packet does not arrive: nobody listens, no way leads there, or somebody forbids
/// it. Not that it is too large.
pub(crate) fn is_unreachable(icmp_type: u8, code: u8, family: Family) -> bool {
    match family {
        Family::V4 => icmp_type == 3 && code != 4,
        Family::V6 => icmp_type == 1,
    }
}

/// The tuple of the packet that `message`, an ICMP error from its header on, quotes. Nothing when that has no ports: a later
/// fragment, another protocol, extension headers, or too few bytes.
pub(crate) fn quoted_tuple(message: &[u8], family: Family) -> Option<FiveTuple> {
    let quote = message.get(icmp::HEADER..)?;
    let byte = |at: usize| quote.get(at).copied();
    let version_and_length = byte(0)?;
    let ([source, destination], protocol, l4) = match (family, version_and_length >> 4) {
        (Family::V4, 4) => {
            let length = usize::from(version_and_length & 0xf) * 4;
            let fragment = u16::from_be_bytes([byte(IPV4_FRAGMENT)?, byte(IPV4_FRAGMENT + 1)?]);
            if length < ipv4::HEADER || fragment & 0x1fff != 0 {
                return None;
            }
            (ipv4::addresses(quote, 0)?, byte(IPV4_PROTOCOL)?, length)
        }
        (Family::V6, 6) => (ipv6::addresses(quote, 0)?, byte(IPV6_NEXT_HEADER)?, ipv6::HEADER),
        _ => return None,
    };
    Protocol::from_number(protocol)?;
    Some(tuple(source, destination, family, protocol, ports(quote.get(l4..)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(v6: bool, protocol: u8) -> Vec<u8> {
        let mut message = vec![0; icmp::HEADER];
        if v6 {
            message.extend([0x60, 0, 0, 0, 0, 9, protocol, 64]);
            message.extend((1..=32).collect::<Vec<u8>>());
        } else {
            message.extend([0x46, 0, 0, 40, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0]);
        }
        message.extend([0x9c, 0x40, 0, 53]);
        message
    }

    #[test]
    fn ports_and_addresses_are_those_of_the_packet_that_died() {
        let tuple = quoted_tuple(&quote(false, 17), Family::V4).unwrap();
        let expected = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:53".parse().unwrap());
        assert_eq!(tuple, FiveTuple::new(Protocol::Udp, expected.0, expected.1));
        let tuple = quoted_tuple(&quote(true, 132), Family::V6).unwrap();
        assert_eq!((tuple.protocol(), tuple.source_port(), tuple.destination_port()), (Protocol::Sctp, 40000, 53));
        assert_eq!(tuple.source_address(), "102:304:506:708:90a:b0c:d0e:f10".parse::<std::net::IpAddr>().unwrap());
    }

    #[test]
    fn what_has_no_ports_has_no_tuple() {
        for v6 in [false, true] {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let whole = quote(v6, 17);
            assert!((0..whole.len()).all(|length| quoted_tuple(&whole[..length], family).is_none()));
            assert_eq!(quoted_tuple(&quote(v6, 47), family), None);
            assert_eq!(quoted_tuple(&quote(!v6, 17), family), None);
        }
        let mut fragment = quote(false, 17);
        fragment[icmp::HEADER + 7] = 1;
        assert_eq!(quoted_tuple(&fragment, Family::V4), None);
    }
}
