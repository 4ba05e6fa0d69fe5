//! A broken file in the watched folder of a running instance: its objects keep their last good state, `status` and the
//! log say so, all else takes effect.

use ringway_tests::objects::{self, Addresses};
use ringway_tests::process::{ask, try_ask};
use ringway_tests::topology::{Bed, CLUSTER_IPS, HTTP, Options, at};
use ringway_tests::{can_run, eventually};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

#[test]
fn the_last_good_state_is_kept_and_the_rest_goes_on() {
    if !can_run("the_last_good_state_is_kept_and_the_rest_goes_on", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options::default());
    bed.write_manifest("web-service.json", "{\"apiVersion\": \"v1\", \"kind\": \"Serv");
    eventually(SOON, "status names the broken file", || {
        let status = bed.ringway().ask("/status").to_string();
        if status.contains("web-service.json") { Ok(()) } else { Err(status) }
    });
    for ip in CLUSTER_IPS {
        ask(&bed.client, at(ip, HTTP.port));
    }
    // Another Service, added meanwhile, takes effect.
    let addresses = Addresses { cluster: vec!["172.30.0.99".to_owned()], ..Addresses::default() };
    let endpoint = bed.backend_ip(0, false).to_string();
    bed.write_object(
        "other.json",
        &objects::list(&[
            objects::service("other", &addresses, &[HTTP]),
            objects::slice("other", "IPv4", &[endpoint], &[HTTP]),
        ]),
    );
    eventually(SOON, "the other Service serves", || try_ask(&bed.client, at("172.30.0.99", HTTP.port)).map(|_| ()));
    let log = bed.ringway().output();
    assert_eq!(log.matches("web-service.json").count(), 1, "logged once:\n{log}");

    bed.write_web(&[0]);
    eventually(SOON, "status forgets the file once it is good again", || {
        let status = bed.ringway().ask("/status").to_string();
        if status.contains("web-service.json") { Err(status) } else { Ok(()) }
    });
    assert_eq!(ask(&bed.client, at(CLUSTER_IPS[1], HTTP.port)).backend, "backend0");
    let ledger = bed.ledger();
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
}
