//! What the kernel's settings ask of sources is followed.

use ringway_shared::InterfaceId;
use ringway_shared::network::ReversePath;

use crate::bed::Bed;

#[test]
fn the_larger_of_the_settings_for_all_and_for_the_interface_counts_as_it_changes() {
    let Some(bed) = Bed::new() else { return };
    let set = |interface: &str, value: &str| {
        bed.gateway.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), value).unwrap();
    };
    set("all", "0");
    set("eth0", "0");
    set("eth1", "1");
    bed.watch(async |mut watch| {
        use ReversePath::{Loose, Off, Strict};
        for (interface, value, expected) in [
            ("eth0", "0", [Off, Strict]),
            ("eth0", "2", [Loose, Strict]),
            ("all", "1", [Loose, Strict]),
            ("eth0", "0", [Strict, Strict]),
            ("all", "2", [Loose, Loose]),
            ("all", "0", [Off, Strict]),
            ("eth1", "0", [Off, Off]),
        ] {
            set(interface, value);
            watch
                .until(&format!("{interface} {value}"), |network| {
                    [0, 1].map(|id| network.reverse_path(InterfaceId(id))) == expected
                })
                .await;
        }
    });
}
