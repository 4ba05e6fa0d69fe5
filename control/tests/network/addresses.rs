//! Which addresses are the machine's own.

use crate::bed::{Bed, ip};

#[test]
fn an_address_on_any_interface_is_the_machines_own_while_it_is_there() {
    let Some(bed) = Bed::new() else { return };
    bed.watch_pattern("eth0", async |mut watch| {
        for (address, link) in [
            ("203.0.113.9/32", "lo"),
            ("203.0.113.10/32", "eth1"),
            ("203.0.113.11/32", "eth0"),
            ("2001:db8:9::1/128", "lo"),
            ("2001:db8:9::2/128", "eth1"),
        ] {
            let bare = ip(address.split('/').next().unwrap());
            assert!(!watch.now().is_local(bare));
            bed.gateway(&format!("address add {address} dev {link} nodad"));
            watch.until(address, |network| network.is_local(bare)).await;
            bed.gateway(&format!("address del {address} dev {link}"));
            watch.until(address, |network| !network.is_local(bare)).await;
        }
        // A whole network that is local.
        bed.gateway("route add local 198.51.100.0/24 dev lo");
        watch.until("AnyIP", |network| network.is_local(ip("198.51.100.77"))).await;
        assert!(!watch.now().is_local(ip("198.51.101.77")));
    });
}
