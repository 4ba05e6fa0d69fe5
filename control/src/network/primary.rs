//! Which addresses are the node's when nothing names them: those of the interfaces that the default routes leave by.
//!
//! The first of each family is the primary one, on which NodePorts are served. It stays while the kernel has it, whatever is
//! added beside it: a VIP of keepalived or kube-vip would take the NodePorts away. None is chosen that is deprecated,
//! temporary, a second one of its network, or not yet known to be nobody else's.

use std::net::IpAddr;

use ringway_shared::Family;

use super::is_link_local;
use super::links::{LinkAddress, Standing};

/// Remembers the primary address of each family.
#[derive(Debug, Default)]
pub(super) struct PrimaryAddresses {
    chosen: [Option<IpAddr>; 2],
}

impl PrimaryAddresses {
    /// The node's addresses: all of `links`, of each family the primary one first. A family without one has none.
    pub(super) fn choose(&mut self, links: &[u32], addresses: &[LinkAddress]) -> Vec<IpAddr> {
        let mut all = Vec::new();
        for (family, chosen) in [Family::V4, Family::V6].into_iter().zip(&mut self.chosen) {
            let of = |link: &u32| {
                let link = *link;
                let own = addresses.iter().filter(move |address| address.link == link);
                own.filter(|address| Family::of(address.ip()) == family && !is_link_local(address.ip()))
            };
            let mut own: Vec<&LinkAddress> = links.iter().flat_map(of).collect();
            if family == Family::V6 {
                // The kernel lists the newest first; the oldest is the one that was there before any VIP.
                own.sort_by_key(|address| links.iter().position(|link| *link == address.link));
                own.chunk_by_mut(|one, other| one.link == other.link).for_each(<[_]>::reverse);
            }
            let known = |address: &IpAddr| own.iter().find(|own| own.ip() == *address);
            let stays = chosen.as_ref().and_then(known).filter(|own| match own.standing {
                // It was chosen before: the link went down and up.
                Standing::Preferred | Standing::Tentative => true,
                Standing::Secondary | Standing::Deprecated => false,
            });
            let best = || own.iter().find(|own| own.standing == Standing::Preferred);
            // One that was chosen and is deprecated now is better than none.
            let Some(primary) = stays.or_else(best).or_else(|| chosen.as_ref().and_then(known)) else { continue };
            let primary = primary.ip();
            *chosen = Some(primary);
            all.push(primary);
            for address in own.iter().filter(|own| own.standing != Standing::Tentative).map(|own| own.ip()) {
                if !all.contains(&address) {
                    all.push(address);
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `link address standing`, in the kernel's order.
    fn addresses(texts: &[&str]) -> Vec<LinkAddress> {
        let address = |text: &&str| {
            let mut words = text.split(' ');
            let link = words.next().unwrap().parse().unwrap();
            let address = words.next().unwrap().parse().unwrap();
            let standing = match words.next() {
                None => Standing::Preferred,
                Some("secondary" | "temporary") => Standing::Secondary,
                Some("deprecated") => Standing::Deprecated,
                Some(_) => Standing::Tentative,
            };
            LinkAddress { link, address, standing }
        };
        texts.iter().map(address).collect()
    }

    fn texts(addresses: Vec<IpAddr>) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_choice_is_the_oldest_that_is_good_for_new_connections() {
        for (kernel, expected) in [
            (&["2 10.0.0.1/24", "2 10.0.0.9/32"][..], &["10.0.0.1", "10.0.0.9"][..]),
            (&["2 10.0.0.9/24 secondary", "2 10.0.0.1/24"], &["10.0.0.1", "10.0.0.9"]),
            (&["2 fd00::9/128", "2 fd00::1/64", "2 fe80::1/64"], &["fd00::1", "fd00::9"]),
            (&["2 fd00::9/64", "2 fd00::1/64 deprecated"], &["fd00::9", "fd00::1"]),
            (&["2 fd00::9/64 temporary", "2 fd00::1/64", "2 fd00::2/64 tentative"], &["fd00::1", "fd00::9"]),
            (&["2 fd00::1/64", "2 fd00::9/64 temporary"], &["fd00::1", "fd00::9"]),
            (&["3 fd00::3/64", "2 fd00::2/64", "2 fd00::1/64"], &["fd00::1", "fd00::2", "fd00::3"]),
            (&["2 fd00::1/64 deprecated", "2 fd00::2/64 tentative", "2 10.0.0.1/24"], &["10.0.0.1"]),
            (&["9 10.0.0.1/24"], &[]),
        ] {
            let found = PrimaryAddresses::default().choose(&[2, 3], &addresses(kernel));
            assert_eq!(texts(found), expected, "{kernel:?}");
        }
    }

    #[test]
    fn the_primary_stays_while_the_kernel_has_it() {
        let mut primary = PrimaryAddresses::default();
        let mut first = |kernel: &[&str]| texts(primary.choose(&[2], &addresses(kernel))).first().cloned();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(first(&["2 fd00::1/64"]), some("fd00::1"));
        // Whatever order the kernel tells.
        assert_eq!(first(&["2 fd00::1/64", "2 fd00::9/64"]), some("fd00::1"));
        assert_eq!(first(&["2 fd00::9/64", "2 fd00::1/64"]), some("fd00::1"));
        // The link went down and up: it is looked for again whether the address is anybody else's.
        assert_eq!(first(&["2 fd00::9/64", "2 fd00::1/64 tentative"]), some("fd00::1"));
        assert_eq!(first(&[]), None);
        assert_eq!(first(&["2 fd00::1/64", "2 fd00::9/64"]), some("fd00::1"));
        assert_eq!(first(&["2 fd00::1/64 deprecated"]), some("fd00::1"));
        assert_eq!(first(&["2 fd00::9/64", "2 fd00::1/64 deprecated"]), some("fd00::9"));
        assert_eq!(first(&["2 fd00::9/64", "2 fd00::1/64"]), some("fd00::9"));
        assert_eq!(first(&["2 fd00::1/64"]), some("fd00::1"));
    }
}
