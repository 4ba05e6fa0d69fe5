//! What the kernel tells of a NIC, told and followed, on a veth device.

use std::time::Duration;

use ringway_control::network::nic::{self, Changes, HashFields, Hashed, Nic, NicError};

use crate::bed::Bed;

#[test]
fn a_device_tells_its_driver_queues_and_features_and_takes_another_setting() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway
        .enter(|| {
            let mut nic = Nic::open().unwrap();
            assert_eq!(nic::driver("eth0").unwrap().name, "veth");
            let channels = nic.channels("eth0").unwrap();
            assert_eq!((channels.receive(), channels.transmit()), (1, 1), "{channels:?}");
            assert!(channels.receive_max() >= 1 && channels.transmit_max() >= 1, "{channels:?}");
            assert_eq!(nic.link_speed("eth0").unwrap(), Some(10_000));
            assert!(nic::interrupts("eth0").is_empty());
            assert_eq!(nic::numa_node("eth0"), None);

            let vlan = "rx-vlan-hw-parse";
            let before = nic.features("eth0").unwrap().get(vlan).unwrap();
            assert!(before.on && before.wanted && !before.fixed, "{before:?}");
            assert!(nic.set_feature("eth0", vlan, false).unwrap());
            assert!(!nic.features("eth0").unwrap().is_on(vlan));
            assert!(!nic.set_feature("eth0", vlan, false).unwrap(), "nothing to change");
            assert!(nic.set_feature("eth0", vlan, true).unwrap());
            assert!(nic.features("eth0").unwrap().is_on(vlan));
            assert!(nic.features("eth1").unwrap().is_on(vlan));
        })
        .unwrap();
}

#[test]
fn what_a_driver_does_not_have_is_told_as_that() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway
        .enter(|| {
            let mut nic = Nic::open().unwrap();
            let unsupported = [
                nic.rings("eth0").map(|_| ()),
                nic.rss("eth0").map(|_| ()),
                nic::flow_hash("eth0", Hashed::Udp4).map(|_| ()),
                nic::set_flow_hash("eth0", Hashed::Udp4, HashFields::ADDRESSES_AND_PORTS),
            ];
            for told in unsupported {
                let error = told.unwrap_err();
                assert!(matches!(error, NicError::Unsupported { .. }) && error.is_lasting(), "{error:?}");
            }
            let missing = nic.features("eth7").unwrap_err();
            assert_eq!(missing.to_string(), "there is no interface eth7; `ip link` lists those there are");
            assert!(matches!(nic::driver("eth7").unwrap_err(), NicError::Missing { .. }));
            // Kernels before 6.3 do not know the question.
            let error = nic.xdp_features(1_000_000, "eth7").unwrap_err();
            assert!(matches!(error, NicError::Missing { .. } | NicError::TooOld { .. }), "{error:?}");
        })
        .unwrap();
}

#[test]
fn a_device_tells_its_xdp_features_and_that_it_copies() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway
        .enter(|| {
            let index = ringway_dataplane::af_xdp::Device::by_name("eth0").unwrap().index;
            match Nic::open().unwrap().xdp_features(index, "eth0") {
                Ok(features) => assert!(features.basic && features.redirect && !features.zero_copy, "{features:?}"),
                Err(NicError::TooOld { since, .. }) => assert_eq!(since, "6.3"),
                Err(error) => panic!("{error}"),
            }
        })
        .unwrap();
}

#[test]
fn changes_are_heard_of() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway
        .enter(|| {
            let index = ringway_dataplane::af_xdp::Device::by_name("eth1").unwrap().index;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut changes = Changes::listen().unwrap();
                assert!(Nic::open().unwrap().set_feature("eth1", "rx-vlan-hw-parse", false).unwrap());
                let heard = async { while changes.next().await != Some(index) {} };
                tokio::time::timeout(Duration::from_secs(20), heard).await.expect("nothing was heard");
                // With nothing to hear of everything is looked at after a while.
                let look = async { while changes.next().await.is_some() {} };
                tokio::time::timeout(Duration::from_secs(20), look).await.expect("nobody looked");
            });
        })
        .unwrap();
}
