//! Packets that go to an endpoint and back.

use crate::bed::Bed;
use crate::bed::row::Row;

const WEB: &str = "web tcp 172.30.0.41:80 node=30080 external=198.51.100.1 -> 10.0.1.1:8080";
const WEB6: &str = "web tcp [fd00:172:30::41]:80 node=30080 -> [fd00:10::1]:8080";
const DNS: &str = "dns udp 172.30.0.53:53 -> 10.0.1.3:5353";
const DNS6: &str = "dns udp [fd00:172:30::53]:53 -> [fd00:10::3]:5353";

fn town() -> Bed {
    Bed::of(&[WEB, WEB6, DNS, DNS6, "sig sctp 172.30.0.42:2905 node=32905 -> 10.0.1.4:2905"])
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "TCP to a NodePort is masqueraded and answered",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080 tos=184 id=77 df
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A ack=1001
                -> forward outside 192.168.0.2:30080 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 192.168.0.2:30080 seq=1001 data=hello
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=3 forwarded=3 flowsOpened=1",
        },
        Row {
            name: "TCP over IPv6 to a NodePort is masqueraded and answered",
            bed: town(),
            script: "
                outside tcp S [2001:db8:c::9]:40000 > [2001:db8::2]:30080 tos=3 label=70001
                -> forward inside [fd00:10::fffe]:A > [fd00:10::1]:8080
                inside tcp SA [fd00:10::1]:8080 > [fd00:10::fffe]:A ack=1001
                -> forward outside [2001:db8::2]:30080 > [2001:db8:c::9]:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a pod's TCP to a ClusterIP keeps its source, and leaves by the interface it came on",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
    ]
}
