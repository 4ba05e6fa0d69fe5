//! The labels of IPv6 prefixes (`ip addrlabel`), by which the kernel chooses source addresses (RFC 6724).
//!
//! Only the prefixes are read: where a label begins or ends, the kernel may choose another address. Which one, it is asked.

use std::io;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::questions::{Asker, word};

const RTM_GETADDRLABEL: u16 = 74;
const AF_INET6: u8 = 10;
const IFAL_ADDRESS: u16 = 1;
/// The netlink header and `struct ifaddrlblmsg`.
const BODY: usize = 16 + 12;
/// Where the length of the prefix stands.
const PREFIX_LENGTH: usize = 16 + 2;

/// The prefixes that have a label, in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(pub(super) Vec<Ipv6Net>);

impl Labels {
    /// Those that the kernel has now: none if it was built without IPv6.
    pub(super) fn read(asker: &mut Asker) -> io::Result<Self> {
        let mut question = [0; BODY - 16];
        question[0] = AF_INET6;
        let mut prefixes: Vec<Ipv6Net> =
            asker.dump(RTM_GETADDRLABEL, &question)?.iter().filter_map(|message| parse(message)).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        Ok(Labels(prefixes))
    }
}

fn parse(message: &[u8]) -> Option<Ipv6Net> {
    let length = *message.get(PREFIX_LENGTH)?;
    let mut rest = message.get(BODY..)?;
    while let (Some(size), Some(kind)) = (word(rest, 0), word(rest, 2)) {
        if kind == IFAL_ADDRESS {
            let octets: [u8; 16] = rest.get(4..20)?.try_into().ok()?;
            return Ipv6Net::new(Ipv6Addr::from(octets), length).ok().map(|net| net.trunc());
        }
        rest = rest.get(usize::from(size).next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_message_or_a_prefix_too_long_is_none() {
        let mut message = vec![0; BODY];
        message[PREFIX_LENGTH] = 32;
        message.extend([8, 0, 2, 0, 7, 0, 0, 0]);
        message.extend([20, 0, 1, 0]);
        message.extend("2001:db8:1::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(parse(&message), Some("2001:db8::/32".parse().unwrap()));
        for length in 0..message.len() {
            assert_eq!(parse(&message[..length]), None, "{length}");
        }
        message[PREFIX_LENGTH] = 129;
        assert_eq!(parse(&message), None);
    }
}
