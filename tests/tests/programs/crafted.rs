//! Packets that nping makes, which no program's kernel would send: each has its answer, or its end under a name.

use ringway_tests::can_run;
use ringway_tests::process::run;
use ringway_tests::topology::{Bed, CLUSTER_IPS, LOAD_BALANCER_IPS, Options};
use std::time::Duration;

/// What becomes of a packet.
enum Fate {
    /// It reaches an endpoint, and an answer comes back that is shown like this.
    Answered(&'static str),
    /// It reaches an endpoint, which says nothing.
    Unanswered,
    /// The gateway answers, and the answer is shown like this.
    Told(&'static str),
    /// It ends at the gateway.
    Dropped(&'static str),
}

use Fate::{Answered, Dropped, Told, Unanswered};

/// Arguments before the address, packets that they make (each is sent twice), and what becomes of it.
const CASES: [(&str, u64, Fate); 17] = [
    ("--tcp -p 80 --flags syn", 1, Answered("VIP:80 > 192.168.0.1:PORT SA ")),
    ("--tcp -p 80 --flags syn --evil", 1, Answered("VIP:80 > 192.168.0.1:PORT SA ")),
    ("--tcp -p 80 --flags syn --ip-options R", 1, Answered("VIP:80 > 192.168.0.1:PORT SA ")),
    ("--tcp -p 80 --flags syn --badsum", 1, Unanswered),
    // Of those without a flow the endpoint's kernel answers what has an ACK alone.
    ("--tcp -p 80 --flags ack", 1, Answered("VIP:80 > 192.168.0.1:PORT R ")),
    ("--tcp -p 80 --flags fin,psh,urg", 1, Unanswered),
    ("--tcp -p 80 --flags none", 1, Unanswered),
    ("--tcp -p 80 --flags rst", 1, Dropped("rst_without_flow")),
    (
        "--tcp -p 80 --flags syn --ttl 1",
        1,
        Told("ICMP [192.168.0.2 > 192.168.0.1 TTL=0 during transit (type=11/code=0)"),
    ),
    // Eight bytes of TCP and no more, twice: both end, since a part of the header may hide in the second.
    ("--tcp -p 80 --flags syn --mtu 8", 3, Dropped("tiny_fragment")),
    ("--tcp -p 81 --flags syn", 1, Told("VIP:81 > 192.168.0.1:PORT RA ")),
    ("--udp -p 53 --data-string hello", 1, Answered("VIP:53 > 192.168.0.1:PORT ")),
    ("--udp -p 53 --data-length 200 --mtu 24", 9, Answered("VIP:53 > 192.168.0.1:PORT ")),
    ("--udp -p 54 --data-string hello", 1, Told("ICMP [VIP > 192.168.0.1 Port 54 unreachable (type=3/code=3)")),
    ("--icmp", 1, Told("ICMP [VIP > 192.168.0.1 Echo reply (type=0/code=0)")),
    ("--icmp --icmp-type time", 1, Dropped("other_protocol")),
    ("--icmp --mtu 8 --data-length 40", 6, Dropped("icmp_fragment")),
];

#[test]
fn what_nping_makes_is_answered_or_dropped_by_name() {
    if !can_run("what_nping_makes_is_answered_or_dropped_by_name", &["ip", "nginx", "nping"]) {
        return;
    }
    let mut bed = Bed::start(Options { backends: 1, ..Options::default() });
    for vip in [CLUSTER_IPS[0], LOAD_BALANCER_IPS[0]] {
        for (port, (arguments, packets, fate)) in (40_000..).zip(&CASES) {
            // What has no answer takes a second, and is not translated back.
            if vip == LOAD_BALANCER_IPS[0] && !matches!(fate, Answered(_) | Told(_)) {
                continue;
            }
            let before = bed.ledger();
            let from = if arguments.starts_with("--icmp") { String::new() } else { format!(" -g {port}") };
            let line = format!("{arguments}{from} -c 2 --delay 20ms {vip}");
            let words: Vec<&str> = line.split_whitespace().collect();
            let said = run(&bed.client, "nping", &words, Duration::from_secs(20));
            let said = said.unwrap_or_else(|error| panic!("{error}"));
            let received: Vec<&str> = said.lines().filter(|line| line.starts_with("RCVD")).collect();
            let ledger = bed.ledger().since(&before);
            let sent = 2 * packets;
            let shown = match fate {
                Answered(shown) => {
                    assert!(ledger.forwarded >= sent + 2, "{line}: {ledger:?}");
                    Some(shown)
                }
                Unanswered => {
                    assert_eq!((ledger.forwarded, ledger.rx), (sent, sent), "{line}: {ledger:?}");
                    None
                }
                Told(shown) => {
                    assert_eq!((ledger.replied, ledger.forwarded), (sent, 0), "{line}: {ledger:?}");
                    Some(shown)
                }
                Dropped(reason) => {
                    assert_eq!((ledger.drops(reason), ledger.forwarded), (sent, 0), "{line}: {ledger:?}");
                    None
                }
            };
            // On a busy machine nping may listen only after the first answer.
            assert_eq!(!received.is_empty(), shown.is_some(), "{line}: {said}");
            let shown =
                shown.map_or_else(String::new, |shown| shown.replace("VIP", vip).replace("PORT", &port.to_string()));
            assert!(received.iter().all(|line| line.contains(&shown)), "{line}: {said}");
        }
    }
}
