//! One client who asks without end, and another one.

use ringway_shared::counters::Counter;

use crate::bed::{INSIDE, Settings, ms, snapshot, text, worker};

/// Clients that a worker moves within a second, whoever they are, and how many more of one address.
const MOVED: u64 = 10_000;
const OWN: u64 = 4;

/// Nobody answers anybody.
#[test]
fn who_has_himself_moved_without_end_takes_nothing_from_others() {
    let services = snapshot(&[
        "web tcp 172.30.0.41:80 -> 10.0.1.1:8080 10.0.1.2:8080",
        "web tcp [fd00:172:30::41]:80 -> [fd00:10::1]:8080 [fd00:10::2]:8080",
    ]);
    for (vip, endless, other) in [
        ("172.30.0.41", "10.0.1.8", ["10.0.1.9", "10.0.1.10"]),
        // Whoever has one address of a network has all of them.
        ("[fd00:172:30::41]", "[fd00:10::HOST]", ["[fd00:20::9]", "[fd00:21::9]"]),
    ] {
        let mut worker = worker(&Settings { flows: 1 << 15, ..Settings::default() });
        let mut rescued = 0;
        let mut ask = |client: &str, port: u16, at: u64| {
            let syn = text::frame(INSIDE, &format!("tcp S {client}:{port} > {vip}:80"));
            assert!(worker.run(&syn, INSIDE, 1, &services, ms(at)));
            worker.collector.sent.clear();
            worker.collector.fates.clear();
            let sum = worker.tally().get(Counter::FlowsRescued);
            std::mem::replace(&mut rescued, sum) < sum
        };
        let ports = 1_000..1_000 + (MOVED + 100) as u16;
        let client = |port: u16| endless.replace("HOST", &format!("{:x}", 0x100 + port % 50));
        ports.clone().for_each(|port| assert!(!ask(&client(port), port, 1)));
        other.iter().for_each(|client| assert!(!ask(client, 1_000, 1)));
        let moved = ports.filter(|port| ask(&client(*port), *port, 1_001)).count() as u64;
        assert_eq!(moved, MOVED + OWN);
        for client in other {
            assert!(ask(client, 1_000, 1_001), "{client}");
        }
    }
}
