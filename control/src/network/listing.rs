//! The links of this network namespace at one moment, for those who ask before anything runs: which of them can be listed
//! as interfaces, what a glob means, and what would carry them.

use std::io;

use ringway_shared::network::Lowers;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::links::Link;
use super::lowers;
use super::questions::Asker;
use crate::config::InterfacePattern;

const RTM_GETLINK: u16 = 18;
/// `struct ifinfomsg`, all zero: every link.
const EVERY: [u8; 16] = [0; 16];

/// Every link there is.
#[derive(Debug, Default)]
pub struct Listing(Vec<Link>);

impl Listing {
    /// Those of the calling thread's network namespace. Does not wait.
    pub fn read() -> io::Result<Self> {
        let messages = Asker::open()?.dump(RTM_GETLINK, &EVERY)?;
        let link = |bytes: &Vec<u8>| {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).ok()?;
            let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) = message.payload else {
                return None;
            };
            Link::from_message(&message)
        };
        Ok(Listing(messages.iter().filter_map(link).collect()))
    }

    fn find(&self, name: &str) -> Option<&Link> {
        self.0.iter().find(|link| &*link.name == name)
    }

    /// Why Ringway cannot be attached to the link of this name; `None` where it can, or there is no such link.
    pub fn why_not(&self, name: &str) -> Option<String> {
        self.find(name).and_then(|link| lowers::of(link, &self.0).err())
    }

    /// Whether an entry of the configuration means this link: a plain name is taken at its word, of a glob not all that it
    /// matches is meant.
    pub fn is_meant(&self, pattern: &InterfacePattern, name: &str) -> bool {
        let meant = |link| lowers::is_meant(link, &self.0, |name| pattern.matches(name));
        pattern.matches(name) && (!pattern.is_glob() || self.find(name).is_some_and(meant))
    }

    /// What carries the link of this name, or would.
    pub fn lowers(&self, name: &str) -> Option<Lowers> {
        self.find(name).and_then(|link| lowers::of(link, &self.0).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_for_every_link() {
        let listing = Listing::read().unwrap();
        let told = listing.why_not("lo").unwrap();
        assert!(told.starts_with("is not an Ethernet interface"), "{told}");
        assert_eq!(listing.why_not("rwnosuch0"), None);
        assert!(!listing.is_meant(&InterfacePattern::parse("l*").unwrap(), "lo"));
        assert!(listing.is_meant(&InterfacePattern::parse("lo").unwrap(), "lo"), "it is told why that cannot be");
    }
}
