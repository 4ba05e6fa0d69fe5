//! Links to all endpoints that are lost: health and status say so.

use ringway_tests::topology::{Bed, Options};
use ringway_tests::{can_run, eventually};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn when_no_endpoint_can_be_reached_for_want_of_a_link_health_and_status_say_so() {
    if !can_run("no endpoint can be reached", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    let health = |bed: &Bed| {
        let mut curl = bed.gateway.command("curl");
        curl.args(["--silent", "--write-out", " %{http_code}", "http://127.0.0.1:10256/healthz"]);
        String::from_utf8_lossy(&curl.output().expect("curl").stdout).into_owned()
    };
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
