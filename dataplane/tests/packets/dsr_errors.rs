//! Direct server return: ICMP errors about packets that went to their endpoint inside others.

use ringway_dataplane::trace::{Question, TraceVerdict, View, explain_with};

use super::dsr::{IPIP, IPIP_DNS, IPIP6, L2};
use crate::bed::row::Row;
use crate::bed::text::frame;
use crate::bed::{Bed, OUTSIDE, ms, worker};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "dsr-ipip: whose packet is too large for a router on the way is told what is left, whatever else about the outer one is a host out of reach",
            bed: Bed::of(&[IPIP_DNS, IPIP, IPIP6]),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1400 df id=9
                -> forward inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3 within=10.0.255.254>10.0.1.3
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1400 df id=9 ttl=63 within=10.0.255.254>10.0.1.3 quote=548
                -> error outside icmp 3/4 192.168.0.2 > 203.0.113.9 mtu=1380 id=9 about udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1400 df id=9 ttl=63 quote=528
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1400 df id=9 ttl=63 within=10.0.255.254>10.0.1.3 quote=48 zeros=128
                -> error outside icmp 3/4 192.168.0.2 > 203.0.113.9 mtu=1380 id=9 about udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1400 df id=9 ttl=63 quote=28 zeros=108
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 about udp 203.0.113.9:5000 > 172.30.0.53:53 df id=9 ttl=63 within=10.0.255.254>10.0.1.3 quote=48
                -> error outside icmp 3/4 192.168.0.2 > 203.0.113.9 id=9 about udp 203.0.113.9:5000 > 172.30.0.53:53 df id=9 ttl=63 quote=28
                inside icmp 3/2 10.0.1.3 > 10.0.255.254 about udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=30 ttl=63 within=10.0.255.254>10.0.1.3
                -> error outside icmp 3/1 192.168.0.2 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=30 ttl=63
                inside icmp 11/0 10.0.1.254 > 10.0.255.254 about udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=30 ttl=63 within=10.0.255.254>10.0.1.3
                -> error outside icmp 3/1 192.168.0.2 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=30 ttl=63
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80
                -> forward inside [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 by=fd00:10::1 within=fd00:10::fffe>fd00:10::1
                outside tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 bytes=1340
                -> forward inside [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 by=fd00:10::1 within=fd00:10::fffe>fd00:10::1
                inside icmp 2/0 [fd00:10::fe] > [fd00:10::fffe] mtu=1400 about tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 bytes=1340 ttl=63 within=fd00:10::fffe>fd00:10::1 quote=1232
                -> error outside icmp 2/0 [2001:db8::2] > [2001:db8:c::9] mtu=1360 about tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 bytes=1340 ttl=63 quote=1192
                inside icmp 2/0 [fd00:10::fe] > [fd00:10::fffe] mtu=1300 about tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 bytes=1340 ttl=63 within=fd00:10::fffe>fd00:10::1 quote=1232
                -> error outside icmp 2/0 [2001:db8::2] > [2001:db8:c::9] mtu=1280 about tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 bytes=1340 ttl=63 quote=1192
                inside icmp 4/1 [fd00:10::1] > [fd00:10::fffe] about tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 ttl=63 within=fd00:10::fffe>fd00:10::1
                -> error outside icmp 1/3 [2001:db8::2] > [2001:db8:c::9] about tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 ttl=63",
            ledger: "rx=11 forwarded=11 flowsOpened=2",
        },
        Row {
            name: "dsr-ipip: an error about an outer packet that no flow sent tells nobody anything, and one about another's tunnel is the kernel's",
            bed: Bed::of(&[IPIP, IPIP_DNS, "l2 tcp 172.30.0.44:80 dsr=l2 -> 10.0.1.1:80"]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside
                outside tcp S 203.0.113.9:40000 > 172.30.0.44:80
                -> forward inside
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1400 df
                -> forward inside
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=900001000 ttl=63 within=10.0.255.254>10.0.1.1
                -> drop icmp_outside_window
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about tcp S 203.0.113.9:40000 > 172.30.0.41:80 ttl=63 within=10.0.255.254>10.0.1.1 quote=46
                -> drop icmp_outside_window
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about tcp S 203.0.113.9:40000 > 172.30.0.41:80 ttl=63 within=10.0.255.254>10.0.1.2
                -> pass
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about tcp S 203.0.113.9:40000 > 172.30.0.44:80 ttl=63 within=10.0.255.254>10.0.1.1
                -> pass
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about udp 203.0.113.9:5001 > 172.30.0.53:53 ttl=63 within=10.0.255.254>10.0.1.3
                -> pass
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about udp 203.0.113.9:5000 > 172.30.0.53:53 ttl=63 within=10.0.1.9>10.0.1.3
                -> pass
                @102
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about udp 203.0.113.9:5000 > 172.30.0.53:53 ttl=63 within=10.0.255.254>10.0.1.3 quote=36
                -> pass
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about udp 203.0.113.9:5000 > 172.30.0.53:53 ttl=63 within=10.0.255.254>10.0.1.3 quote=46
                -> pass
                inside icmp 3/5 10.0.1.254 > 10.0.255.254 about udp 203.0.113.9:5000 > 172.30.0.53:53 ttl=63 within=10.0.255.254>10.0.1.3
                -> pass
                inside icmp 12/0 10.0.1.254 > 10.0.255.254 about udp 203.0.113.9:5000 > 172.30.0.53:53 ttl=63 within=10.0.255.254>10.0.1.3
                -> pass
                @204
                inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 sum=wrong about udp 203.0.113.9:5000 > 172.30.0.53:53 ttl=63 within=10.0.255.254>10.0.1.3
                -> pass
                outside icmp 3/4 127.0.0.1 > 10.0.255.254 mtu=1400 about udp 203.0.113.9:5000 > 172.30.0.53:53 ttl=63 within=10.0.255.254>10.0.1.3
                -> drop impossible_source",
            ledger: "rx=15 forwarded=3 passed=9 drop:icmp_outside_window=2 drop:impossible_source=1 flowsOpened=3",
        },
    ]
}

#[test]
fn trace_says_whom_an_error_goes_to() {
    let bed = Bed::of(&[
        L2,
        "nat tcp 172.30.0.42:80 -> 10.0.1.2:8080",
        "tunnelled tcp 172.30.0.43:80 dsr=ipip -> 10.0.1.3:80",
    ]);
    let mut worker = worker(&bed.settings);
    for (tag, vip) in [(0, "172.30.0.41"), (1, "172.30.0.42"), (2, "172.30.0.43")] {
        let syn = frame(OUTSIDE, &format!("tcp S 203.0.113.9:40000 > {vip}:80"));
        assert!(worker.run(&syn, OUTSIDE, tag, bed.first(), ms(1)));
    }
    let services = &bed.first().services;
    let view = View { services, network: None, snat_addresses: &[], affinities: None, rescue: true, suspects: None };
    let flows = worker.pipeline.flows();
    for (text, verdict, said) in [
        (
            "icmp:192.0.2.1->172.30.0.41 about tcp:172.30.0.41:80->203.0.113.9:40000",
            TraceVerdict::Forward,
            "it goes to 10.0.1.1 as it is, by dsr-l2",
        ),
        (
            "icmp:192.0.2.1->172.30.0.42 about tcp:172.30.0.42:80->203.0.113.9:40000",
            TraceVerdict::Forward,
            "it goes to 10.0.1.2, about the packet that it sent",
        ),
        (
            "icmp:192.0.2.1->172.30.0.42 about tcp:172.30.0.42:80->203.0.113.9:40001",
            TraceVerdict::Drop,
            "No flow is known",
        ),
        (
            "icmp:192.0.2.1->172.30.0.41 about tcp:172.30.0.42:80->203.0.113.9:40000",
            TraceVerdict::Drop,
            "an error goes to whoever sent that",
        ),
        (
            "icmp:10.0.1.254->10.0.255.254 about tcp:203.0.113.9:40000->172.30.0.43:80",
            TraceVerdict::Forward,
            "So the client 203.0.113.9 is told about the packet that it sent: how large one may be",
        ),
        // What went to the endpoint by itself comes back from it alone.
        (
            "icmp:10.0.1.254->10.0.255.254 about tcp:203.0.113.9:40000->172.30.0.41:80",
            TraceVerdict::Pass,
            "No flow is known",
        ),
        (
            "icmp:10.0.1.254->10.0.255.254 about tcp:203.0.113.9:40001->172.30.0.43:80",
            TraceVerdict::Pass,
            "No flow is known",
        ),
    ] {
        let question: Question = text.parse().unwrap();
        let found = question.flow_tuple().and_then(|tuple| flows.lookup(&tuple, ms(2)));
        let trace = explain_with(&view, &question, found.map(|(id, _)| flows.flow(id)));
        assert_eq!(trace.verdict, verdict, "{trace}");
        assert!(trace.steps.iter().any(|step| step.contains(said)), "{trace}");
    }
    // To the node, and not to somebody else whose packets it routes.
    let network = &bed.first().network;
    let view = View { network: Some(network), ..view };
    for (to, verdict) in [("10.0.255.254", TraceVerdict::Forward), ("10.0.255.9", TraceVerdict::Pass)] {
        let text = format!("icmp:10.0.1.254->{to} about tcp:203.0.113.9:40000->172.30.0.43:80");
        let question: Question = text.parse().unwrap();
        let found = question.flow_tuple().and_then(|tuple| flows.lookup(&tuple, ms(2)));
        let trace = explain_with(&view, &question, found.map(|(id, _)| flows.flow(id)));
        assert_eq!(trace.verdict, verdict, "{trace}");
    }
    let (id, _) =
        flows.lookup(&"tcp:203.0.113.9:40000->172.30.0.42:80".parse::<Question>().unwrap().tuple, ms(2)).unwrap();
    let source = flows.flow(id).reply().reversed();
    let text = format!("icmp:10.0.1.2->{} about {source}", source.source_address());
    let question: Question = text.parse().unwrap();
    let found = question.flow_tuple().and_then(|tuple| flows.lookup(&tuple, ms(2)));
    let trace = explain_with(&view, &question, found.map(|(id, _)| flows.flow(id)));
    assert!(trace.steps.iter().any(|step| step.contains("it goes to the client 203.0.113.9,")), "{trace}");
}
