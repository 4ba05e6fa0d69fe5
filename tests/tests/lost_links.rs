//! Links to all endpoints that are lost: health and status say so.

use ringway_tests::process::{run, try_curl};
use ringway_tests::topology::{Bed, Options};
use ringway_tests::{can_run, eventually};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn when_no_endpoint_can_be_reached_for_want_of_a_link_health_and_status_say_so() {
    if !can_run("no endpoint can be reached", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    // The link itself, and its other end.
    for other_end in [false, true] {
        let set = |bed: &Bed, up| match other_end {
            false => bed.gateway.set_link("back", up).expect("ip link set"),
            true => bed.fabric.set_link("gw", up).expect("ip link set"),
        };
        set(&bed, false);
        eventually(SOON, "health and status agree", || {
            let health = health(&bed);
            let status = bed.ringway().command(&["status"]);
            let said = String::from_utf8_lossy(&status.stderr).into_owned();
            let reason = "no endpoint can be reached: back: down";
            let agree = health.ends_with(" 503") && health.contains(reason) && said.contains(reason);
            if agree && status.status.code() == Some(3) { Ok(()) } else { Err(format!("{health}\n{said}")) }
        });
        set(&bed, true);
        eventually(SOON, "both are well again", || {
            let (health, status) = (health(&bed), bed.ringway().command(&["status"]));
            if health.ends_with(" 200") && status.status.success() { Ok(()) } else { Err(health) }
        });
    }
    // One of two links is enough where an endpoint is left.
    bed.gateway.set_link("front", false).expect("ip link set");
    eventually(SOON, "the link is seen as down", || {
        let status = bed.ringway().get("/status")?;
        let down = status["interfaces"].as_array().into_iter().flatten().any(|one| one["up"] == false);
        if down { Ok(()) } else { Err(status["interfaces"].to_string()) }
    });
    assert!(health(&bed).ends_with(" 200"));
}

/// What `/healthz` says, with its code.
fn health(bed: &Bed) -> String {
    let mut curl = bed.gateway.command("curl");
    curl.args(["--silent", "--write-out", " %{http_code}", "http://127.0.0.1:10256/healthz"]);
    String::from_utf8_lossy(&curl.output().expect("curl").stdout).into_owned()
}

/// The interface `back`, as `status` shows it.
fn back(bed: &mut Bed) -> Result<Value, String> {
    let status = bed.ringway().get("/status")?;
    let all = status["interfaces"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["name"] == "back").ok_or_else(|| status["interfaces"].to_string())
}

/// The number of the kernel's link that holds the program on a device.
fn link_id(process: u32, index: u64) -> Option<String> {
    let number = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().parse::<u64>().ok()
    };
    let all = std::fs::read_dir(format!("/proc/{process}/fdinfo")).expect("fdinfo").flatten();
    let texts = all.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let ids = texts.filter(|text| number(text, "ifindex:") == Some(index)).filter_map(|text| number(&text, "link_id:"));
    ids.map(|id| id.to_string()).next()
}

/// Takes the program off the interface `back`, by what the kernel offers everybody for that.
fn take_off(bed: &mut Bed) -> String {
    let index = back(bed).expect("back")["index"].as_u64().expect("its ifindex");
    let id = link_id(bed.ringway().id(), index).expect("the link of the program");
    run(&bed.gateway, "bpftool", &["link", "detach", "id", &id], SOON).expect("bpftool link detach");
    id
}

#[test]
fn a_program_that_somebody_takes_off_is_attached_again() {
    if !can_run("a program that is taken off", &["ip", "nginx", "curl", "bpftool"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let first = take_off(&mut bed);
    eventually(SOON, "the program is there again, and told of", || {
        let (output, back) = (bed.ringway().output(), back(&mut bed)?);
        let told = output.contains("somebody took Ringway's XDP program off it: attaching anew");
        let index = back["index"].as_u64().ok_or("no ifindex")?;
        // The report of before the loss says `native` as well.
        let another = link_id(bed.ringway().id(), index).is_some_and(|id| id != first);
        if told && another && back["mode"] == "native" { Ok(()) } else { Err(format!("{back}\n{output}")) }
    });
    try_curl(&bed.client, "http://172.30.0.10/").expect("a connection");
}

#[test]
fn an_interface_that_is_up_and_not_attached_any_more_is_told_by_all_who_are_asked() {
    if !can_run("an interface that cannot be attached any more", &["ip", "nginx", "curl", "bpftool"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    // Too long for the frames: it goes on, and cannot be attached again.
    bed.gateway.ip(&["link", "set", "back", "mtu", "9000"]).expect("ip link set");
    take_off(&mut bed);
    eventually(SOON, "status says why it is not attached, and when it is tried again", || {
        let back = back(&mut bed)?;
        let told = back["problem"].as_str().is_some_and(|why| why.contains("back has MTU 9000"));
        let tried = back["nextTrySeconds"].is_u64();
        if back["up"] == true && back["mode"].is_null() && told && tried { Ok(()) } else { Err(back.to_string()) }
    });
    let reason = "no endpoint can be reached: back: not attached";
    let way = "to which Ringway is not attached";
    eventually(SOON, "health, status and trace agree", || {
        let (health, status) = (health(&bed), bed.ringway().command(&["status"]));
        let said = String::from_utf8_lossy(&status.stderr).into_owned();
        if !(health.ends_with(" 503") && health.contains(reason) && said.contains(reason)) {
            return Err(format!("{health}\n{said}"));
        }
        let unreachable = bed.ringway().get("/status")?["unreachable"].clone();
        if unreachable[0]["text"] != format!("its route leaves by back, {way}") {
            return Err(unreachable.to_string());
        }
        let trace = bed.ringway().command(&["trace", "tcp:192.168.0.1->172.30.0.10:80"]);
        let said = String::from_utf8_lossy(&trace.stdout).into_owned();
        if said.contains("interface_down") && said.contains(way) { Ok(()) } else { Err(said) }
    });
    bed.gateway.ip(&["link", "set", "back", "mtu", "1500"]).expect("ip link set");
    eventually(SOON, "it is attached again", || {
        let (health, unreachable) = (health(&bed), bed.ringway().get("/status")?["unreachable"].clone());
        let well = health.ends_with(" 200") && unreachable == serde_json::json!([]);
        if well { Ok(()) } else { Err(format!("{health} {unreachable}")) }
    });
    try_curl(&bed.client, "http://172.30.0.10/").expect("a connection");
}
