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

#[test]
fn the_command_tells_of_a_device_of_all_of_those_listed_and_of_what_is_below() {
    let Some(bed) = Bed::new() else { return };
    bed.gateway("link add br0 type bridge");
    bed.gateway("link set eth0 master br0");
    let told = |arguments: &[&str]| {
        let output = bed.gateway.command(env!("CARGO_BIN_EXE_ringway")).arg("nic").args(arguments).output().unwrap();
        let [out, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), out, said)
    };
    let (status, out, said) = told(&["eth0"]);
    assert_eq!((status, &*said), (Some(0), ""), "{out}");
    for part in [
        "eth0        veth 1.0, 10000 Mbit/s, MTU 1500\n",
        "queues      1 of ",
        "zero-copy   no: ",
        "NOTE   no zero-copy",
    ] {
        assert!(out.contains(part), "{part:?}:\n{out}");
    }
    let (_, out, _) = told(&["lo"]);
    assert!(out.contains("\nWRONG  it ") && !out.contains("SLOW"), "{out}");
    let (_, out, _) = told(&["br0"]);
    assert!(out.contains("below       eth0\n") && out.contains("ringway nic eth0\n"), "{out}");

    let (status, out, said) = told(&["--output", "json"]);
    assert_eq!((status, &*said), (Some(0), ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let names: Vec<_> = report["nics"].as_array().unwrap().iter().map(|nic| nic["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["eth0", "eth1", "br0"]);
    assert_eq!((&report["nics"][0]["driver"], &report["nics"][0]["queues"]["receive"]), (&"veth".into(), &1.into()));

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "nodeName: a\nsource: {files: x}\ninterfaces: [{name: eth1}]\nworkers: {cpus: [0, 1]}\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let (_, out, _) = told(&["--config", path]);
    assert!(out.starts_with("eth1 ") && out.contains("WRONG  1 queue for 2 workers"), "{out}");
    let check = bed.gateway.command(env!("CARGO_BIN_EXE_ringway")).args(["check", "--config", path]).output().unwrap();
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(said.contains("note: eth1: 1 queue for 2 workers: Ringway does not start"), "{said}");

    let (status, out, said) = told(&["eth9"]);
    assert_eq!((status, &*out), (Some(1), ""));
    assert_eq!(said, "error: there is no interface eth9; `ip link` lists those there are\n");
}
