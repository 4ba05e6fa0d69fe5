//! The beds themselves: without Ringway, the gateway's kernel routes between client and backends. A failure here is one
//! of the bed, not of the load balancer.

use ringway_tests::can_run;
use ringway_tests::echo::EchoClient;
use ringway_tests::process::{ask, ping};
use ringway_tests::topology::{Bed, ECHO, HTTP, Options};
use std::net::SocketAddr;

fn carries_traffic(options: Options) {
    if !can_run("beds_carry_traffic", &["ip", "nginx", "curl", "ping"]) {
        return;
    }
    let mut bed = Bed::prepare(options);
    bed.serve();
    for v6 in [false, true] {
        for index in 0..bed.backends.len() {
            let ip = bed.backend_ip(index, v6);
            ping(&bed.client, ip, 1).unwrap_or_else(|error| panic!("{error}"));
            let web = ask(&bed.client, SocketAddr::new(ip, HTTP.target));
            assert_eq!(web.backend, format!("backend{index}"));
            let echo = EchoClient::new(&bed.client, SocketAddr::new(ip, ECHO.target)).ask(b"hello");
            let echo = echo.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((echo.backend.as_str(), echo.payload.as_str()), (web.backend.as_str(), "hello"));
            assert_eq!(echo.client, if v6 { "fd00:168::1" } else { "192.168.0.1" });
        }
    }
}

#[test]
fn two_arms_carry_traffic_by_kernel_routing() {
    carries_traffic(Options { queues: 2, ..Options::default() });
}

#[test]
fn one_arm_carries_traffic_by_bridging() {
    carries_traffic(Options { one_arm: true, ..Options::default() });
}
