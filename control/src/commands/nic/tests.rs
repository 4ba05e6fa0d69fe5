//! What is printed of NICs as machines have them.

use super::*;
use crate::network::nic::judge;
use crate::report::nic::{
    HashReport, InterruptReport, Offload, Queues, RingSizes, RssReport, Severity, ZeroCopyVerdict,
};

fn offload(name: &str, on: bool, fixed: bool) -> Offload {
    Offload { name: name.into(), on, fixed }
}

/// An igb of two queues, as it comes.
fn igb() -> NicReport {
    let hash = |packets: &str, ports| HashReport {
        packets: packets.into(),
        fields: if ports { "addresses and ports" } else { "addresses" }.into(),
        ports,
    };
    let interrupt =
        |number, name: &str, cpu, queue| InterruptReport { number, name: name.into(), cpus: vec![cpu], queue };
    NicReport {
        name: "eth0".into(),
        index: 2,
        up: true,
        mtu: 1500,
        speed_mbit: Some(1000),
        driver: Some("igb".into()),
        driver_version: Some("6.18.15".into()),
        firmware: Some("3.25".into()),
        bus: Some("0000:01:00.0".into()),
        numa_node: Some(0),
        queues: Some(Queues { receive: 2, receive_max: 8, transmit: 2, transmit_max: 8, combined: true }),
        rings: Some(RingSizes { receive: 256, receive_max: 4096, transmit: 256, transmit_max: 4096 }),
        xdp_features: Some(["basic", "redirect", "ndo-xmit", "xsk-zerocopy"].map(str::to_owned).into()),
        zero_copy: ZeroCopyVerdict { possible: Some(true), reason: "igb announces it".into() },
        offloads: vec![offload("rx-vlan-hw-parse", true, false), offload("rx-lro", false, true)],
        rss: Some(RssReport { function: "toeplitz".into(), key_bytes: 0, entries: vec![64, 64], symmetric: false }),
        hashes: vec![hash("tcp4", true), hash("udp4", false), hash("tcp6", true), hash("udp6", false)],
        interrupts: vec![
            interrupt(25, "eth0", 0, false),
            interrupt(26, "eth0-rx-0", 0, true),
            interrupt(27, "eth0-rx-1", 0, true),
        ],
        cpus: vec![1, 2],
        ..NicReport::default()
    }
}

#[test]
fn what_others_have_of_a_nic_keeps_ringway_away() {
    let told = |running: &Running, mode: Option<&str>, held: &[u32]| {
        let nic = NicReport { xdp_attached: mode.map(str::to_owned), held_queues: Some(held.to_vec()), ..igb() };
        let wish = Wish { running: running.clone(), ..Wish::default() };
        let findings = judge(&nic, &wish, "6.18.15", &[1, 2]);
        let told = findings.into_iter().filter(|one| one.text.contains("XDP program") || one.text.contains("held"));
        told.map(|one| (one.severity, one.text, one.command.unwrap_or_default())).collect::<Vec<_>>()
    };
    let attached = |name: &str| Running::Attached(vec!["eth1".to_owned(), name.to_owned()]);
    for running in [Running::Nobody, attached("eth2")] {
        let [(Severity::Wrong, program, command), (Severity::Wrong, queues, _)] =
            &told(&running, Some("generic"), &[0, 1])[..]
        else {
            panic!("two are wrong")
        };
        assert!(program.starts_with("an XDP program is attached (generic) that is not this instance's"), "{program}");
        assert!(
            program.contains("`bpftool net`") && command == "ip link set eth0 xdpgeneric off",
            "{program} {command}"
        );
        assert!(queues.starts_with("queues 0, 1 are held by AF_XDP sockets of another process"), "{queues}");
        let [(Severity::Wrong, _, command)] = &told(&running, Some("native"), &[])[..] else { panic!("one is wrong") };
        assert_eq!(command, "ip link set eth0 xdp off");
        assert_eq!(told(&running, None, &[]), []);
    }
    // Its own are in nobody's way.
    assert_eq!(told(&attached("eth0"), Some("native"), &[0, 1]), []);
    let denied: Vec<Severity> =
        told(&Running::Denied, Some("native"), &[0]).into_iter().map(|(severity, ..)| severity).collect();
    assert_eq!(denied, [Severity::Note, Severity::Note]);
}

#[test]
fn what_ringway_changed_is_told_apart_from_what_is_now() {
    let mut nic = igb();
    // The offload is on again, the hash as it was set.
    nic.hashes[1].ports = true;
    nic.note_changed("rx-vlan-hw-parse", "on");
    nic.note_changed("udp4", "addresses");
    nic.note_changed("udp9", "addresses");
    let text = printed(nic, &Wish::default(), "6.18.15");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "by Ringway rx-vlan-hw-parse was on, was set to off, but somebody has changed it back since",
        "udp4 was addresses, was set to addresses and ports, and is so now",
        "udp9 was addresses, was set to addresses and ports, and what it is now could not be read",
        "it takes VLAN tags off now (rx-vlan-hw-parse): Ringway switches that off when it attaches",
    ] {
        assert!(words.contains(said), "{said}: {text}");
    }
}

fn printed(nic: NicReport, wish: &Wish, release: &str) -> String {
    let mut nic = nic;
    nic.findings = judge(&nic, wish, release, &[0, 1, 2, 3]);
    let text = text::of(&[nic]);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text
}

#[test]
fn a_nic_as_it_comes_is_told_with_all_that_is_to_be_changed() {
    insta::assert_snapshot!(printed(igb(), &Wish::default(), "6.18.15"));
}

#[test]
fn a_virtual_nic_of_a_hypervisor_that_offers_little_is_told_what_to_ask_of_it() {
    let nic = NicReport {
        driver: Some("virtio_net".into()),
        driver_version: Some("1.0.0".into()),
        firmware: None,
        mtu: 9000,
        queues: Some(Queues { receive: 1, receive_max: 1, transmit: 1, transmit_max: 1, combined: true }),
        offloads: vec![offload("rx-gro-hw", true, true), offload("rx-vlan-hw-parse", false, true)],
        rss: None,
        hashes: Vec::new(),
        zero_copy: ZeroCopyVerdict {
            possible: Some(false),
            reason: "the hypervisor does not offer iommu_platform".into(),
        },
        unread: vec!["this kernel does not tell the XDP features of a driver: that takes Linux 6.3".into()],
        xdp_features: None,
        cpus: vec![1],
        ..igb()
    };
    insta::assert_snapshot!(printed(nic, &Wish { workers: Some(4), ..Wish::default() }, "6.1.0"));
}

#[test]
fn what_a_configuration_asks_for_and_a_nic_cannot_do_is_wrong() {
    use crate::config::{XdpMode, ZeroCopy};
    let texts = |nic: &NicReport, wish: &Wish, release: &str| {
        let wrong = judge(nic, wish, release, &[0, 1, 2, 3]).into_iter();
        let wrong = wrong.filter(|finding| finding.severity == Severity::Wrong);
        wrong.map(|finding| format!("{} > {}", finding.text, finding.command.unwrap_or_default())).collect::<Vec<_>>()
    };
    assert_eq!(texts(&igb(), &Wish::default(), "6.18.15"), [""; 0]);
    let no_xdp = NicReport { xdp_features: Some(Vec::new()), driver: Some("e1000e".into()), ..igb() };
    let native = Wish { xdp: XdpMode::Native, ..Wish::default() };
    let told = texts(&no_xdp, &native, "6.18.15");
    assert_eq!(told, ["e1000e has no native XDP, and xdp: native asks for it; write xdp: auto > "]);
    let copies = ZeroCopyVerdict { possible: Some(false), reason: "so".into() };
    let on = Wish { zero_copy: ZeroCopy::On, ..Wish::default() };
    let told = texts(&NicReport { zero_copy: copies, ..igb() }, &on, "6.18.15");
    assert_eq!(told, ["no zero-copy: so; zeroCopy: on does not start with it, write zeroCopy: auto > "]);
    let six = Wish { workers: Some(6), ..Wish::default() };
    let told = texts(&igb(), &six, "6.18.15");
    assert_eq!(told, ["2 queues for 6 workers: Ringway does not start > ethtool -L eth0 combined 6"]);
    let told = texts(&igb(), &Wish { workers: Some(9), ..Wish::default() }, "6.18.15");
    assert_eq!(told, ["2 queues for 9 workers: Ringway does not start; name at most 8 CPUs in workers.cpus > "]);
    let azure = NicReport { driver: Some("hv_netvsc".into()), ..igb() };
    assert!(texts(&azure, &native, "6.18.15")[0].starts_with("hv_netvsc with xdp: native: what its virtual function"));
    assert_eq!(texts(&azure, &Wish::default(), "6.18.15"), [""; 0]);
    let ena = Queues { receive: 8, receive_max: 8, transmit: 8, transmit_max: 8, combined: true };
    let ena = NicReport { driver: Some("ena".into()), queues: Some(ena), ..igb() };
    let told = texts(&ena, &Wish::default(), "6.18.15");
    assert_eq!(
        told,
        ["ena has native XDP only with half of its queues in use: 8 of 8 are > ethtool -L eth0 combined 4"]
    );
    let generic = Wish { xdp: XdpMode::Generic, ..Wish::default() };
    let merges = NicReport { offloads: vec![offload("rx-gro", true, false)], mtu: 3822, ..igb() };
    let told = texts(&merges, &generic, "6.1.0");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("> ethtool -K eth0 gro off lro off rx-gro-hw off"), "{told:?}");
    assert_eq!(texts(&merges, &generic, "6.6.0"), [""; 0]);
    let strips = vec![offload("rx-vlan-hw-parse", true, true)];
    let below = NicReport { vlans: vec!["eth0.100".into()], offloads: strips, ..igb() };
    let told = texts(&below, &Wish::default(), "6.18.15");
    assert!(told[0].ends_with("cannot be told not to, and eth0.100 is above > "), "{told:?}");
    let may = NicReport { vlans: vec!["eth0.100".into()], ..igb() };
    assert_eq!(texts(&may, &Wish::default(), "6.18.15"), [""; 0], "Ringway switches it off");
    // One number, by how packets come.
    let mtu = |mtu, wish: &Wish| {
        let findings = judge(&NicReport { mtu, ..igb() }, wish, "6.18.15", &[0, 1]);
        let told: Vec<_> = findings.into_iter().filter(|finding| finding.text.starts_with("MTU")).collect();
        assert!(told.len() < 2, "{told:?}");
        told.into_iter().next().map(|finding| format!("{:?} {}", finding.severity, finding.text)).unwrap_or_default()
    };
    let why = "that frames hold without a copy, where drivers count their room in whole KiB";
    assert_eq!(mtu(3400, &Wish::default()), format!("Slow MTU 3400 is more than the 3054 {why}"));
    assert_eq!(mtu(9000, &Wish::default()), format!("Wrong MTU 9000 is more than the 3054 {why}"));
    let off = Wish { zero_copy: ZeroCopy::Off, ..Wish::default() };
    assert_eq!((mtu(3054, &Wish::default()), mtu(3400, &off), mtu(3822, &generic)), Default::default());
    let told = mtu(3499, &off);
    assert_eq!(told, "Wrong MTU 3499 is more than the 3498 that native XDP takes, where a packet is one buffer");
    assert_eq!(mtu(3823, &generic), "Wrong MTU 3823 is more than the 3822 that a frame of Ringway holds");
    let left = Wish { rss: crate::config::RssMode::Leave, ..Wish::default() };
    let left = judge(&igb(), &left, "6.18.15", &[0, 1]);
    assert!(
        left.iter().any(|one| one.command.as_deref() == Some("ethtool -N eth0 rx-flow-hash udp6 sdfn")),
        "{left:?}"
    );
    let down = NicReport { up: false, ..igb() };
    assert_eq!(texts(&down, &Wish::default(), "6.18.15"), ["it is down > ip link set eth0 up"]);
    let unplugged = NicReport { enabled: true, ..down };
    let told = texts(&unplugged, &Wish::default(), "6.18.15");
    assert!(told[0].starts_with("it is up, but has no carrier") && !told[0].contains("ip link"), "{told:?}");
    // What stands on others can be down by itself.
    let vlan = |up, enabled| NicReport { name: "eth0.7".into(), up, enabled, lowers: vec!["eth0".into()], ..igb() };
    let told = |nic: NicReport| texts(&nic, &Wish::default(), "6.18.15");
    assert_eq!(told(vlan(false, false)), ["it is down > ip link set eth0.7 up"]);
    // Without a carrier it is as what is below it, which says so.
    assert!(told(vlan(true, true)).is_empty() && told(vlan(false, true)).is_empty());
}

/// A device whose queues a program makes by opening it.
#[test]
fn nobody_is_told_to_give_a_tap_queues_from_outside() {
    let queues = |now| Queues { receive: now, receive_max: 256, transmit: now, transmit_max: 256, combined: true };
    let tap = |now| NicReport { driver: Some("tun".into()), queues: Some(queues(now)), ..igb() };
    let mut nics = [tap(0), tap(1), NicReport { name: "eth1".into(), ..igb() }];
    for nic in &mut nics {
        nic.findings = judge(nic, &Wish::default(), "6.18.15", &[0, 1]);
    }
    together(&mut nics);
    let said = |nic: &NicReport, part: &str| nic.findings.iter().any(|finding| finding.text.contains(part));
    assert!(said(&nics[0], "no program holds it open") && !said(&nics[0], "one worker a queue"), "{nics:?}");
    assert!(said(&nics[1], "1 queue for 2 CPUs") && said(&nics[1], "the fewest make the workers"), "{nics:?}");
    let mut commands = nics.iter().flat_map(|nic| &nic.findings).filter_map(|finding| finding.command.as_deref());
    assert!(!commands.any(|command| command.starts_with("ethtool -L")), "{nics:?}");
}

#[test]
fn several_nics_are_an_overview_with_what_is_to_be_changed_at_each() {
    let bond = NicReport {
        name: "bond0".into(),
        kind: Some("bond".into()),
        lowers: vec!["eth0".into(), "eth1".into()],
        driver: Some("bonding".into()),
        queues: None,
        zero_copy: ZeroCopyVerdict { possible: None, reason: "that is for the devices below to say".into() },
        ..igb()
    };
    let mut one = NicReport { name: "eth1".into(), ..igb() };
    one.queues = Some(Queues { receive: 1, ..one.queues.unwrap() });
    let mut nics = vec![igb(), one, bond];
    for nic in &mut nics {
        nic.findings = judge(nic, &Wish { workers: Some(1), ..Wish::default() }, "6.18.15", &[0, 1]);
    }
    together(&mut nics);
    let text = text::of(&nics);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text);
}
