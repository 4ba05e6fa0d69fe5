//! Packets that are none of ours: the kernel gets them byte for byte.

use crate::bed::row::Row;
use crate::town::town;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "ARP, LLDP, VLAN, QinQ, unknown EtherTypes, frames too short for one",
            bed: town(),
            script: "
                outside raw 0806 0001 0800 0604 0001 020001000001 cb007109 000000000000 c0a80002
                -> pass
                outside raw 88cc 0207 04 0200 0100 0001
                -> pass
                outside raw 8100 0064 0800 4500 0028 0000 0000 4006 0000 cb007109 ac1e0029
                -> pass
                outside raw 88a8 0064 8100 0064 0800 4500 0028
                -> pass
                outside raw cafe 00
                -> pass
                outside raw 0800
                -> pass
                outside raw 86dd 6000
                -> pass
                outside raw 0026 4242 03
                -> pass",
            ledger: "rx=8 passed=8",
        },
        Row {
            name: "a neighbour solicitation and its advertisement",
            bed: town(),
            script: "
                outside icmp 135/0 [2001:db8::77] > [ff02::1:ff00:2] to=33:33:ff:00:00:02 ttl=255 bytes=24
                -> pass
                outside icmp 136/0 [2001:db8::77] > [2001:db8::2] ttl=255 bytes=24
                -> pass",
            ledger: "rx=2 passed=2",
        },
        Row {
            name: "the node's own traffic: SSH, pings, ESP, NodePorts that no Service has, ICMP errors",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:22
                -> pass
                outside tcp A 203.0.113.9:40000 > 192.168.0.2:22
                -> pass
                outside tcp R 203.0.113.9:40000 > 192.168.0.2:22
                -> pass
                outside echo 203.0.113.9 > 192.168.0.2
                -> pass
                outside proto 50 203.0.113.9 > 192.168.0.2 bytes=60
                -> pass
                outside proto 50 [2001:db8:c::9] > [2001:db8::2] bytes=60
                -> pass
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30081
                -> pass
                outside udp 203.0.113.9:5000 > 192.168.0.2:30080
                -> pass
                outside icmp 3/4 203.0.113.9 > 192.168.0.2 bytes=28
                -> pass",
            ledger: "rx=9 passed=9",
        },
        Row {
            name: "of ICMP errors about no flow that repeat themselves a few pass, and others go on to",
            bed: town(),
            script: "
                outside icmp 3/3 203.0.113.9 > 192.168.0.2 about udp 192.168.0.2:30053 > 203.0.113.9:5000
                -> pass
                outside icmp 3/3 203.0.113.9 > 192.168.0.2 about udp 192.168.0.2:30053 > 203.0.113.9:5000
                -> pass
                outside icmp 3/3 203.0.113.9 > 192.168.0.2 about udp 192.168.0.2:30053 > 203.0.113.9:5000
                -> pass
                outside icmp 3/3 203.0.113.9 > 192.168.0.2 about udp 192.168.0.2:30053 > 203.0.113.9:5000
                -> pass
                outside icmp 3/3 203.0.113.9 > 192.168.0.2 about udp 192.168.0.2:30053 > 203.0.113.9:5000
                -> drop icmp_without_flow
                outside icmp 3/3 203.0.113.9 > 192.168.0.2 about udp 192.168.0.2:123 > 203.0.113.9:5000
                -> pass
                @102
                outside icmp 3/3 203.0.113.9 > 192.168.0.2 about udp 192.168.0.2:30053 > 203.0.113.9:5000
                -> pass",
            ledger: "rx=7 passed=6 drop:icmp_without_flow=1",
        },
        Row {
            name: "packets between others, with TTL 1 and 0 too",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 10.0.1.1:8080
                -> pass
                inside udp 10.0.1.9:5000 > 203.0.113.9:53 ttl=1
                -> pass
                inside udp 10.0.1.9:5000 > 203.0.113.9:53 ttl=0
                -> pass",
            ledger: "rx=3 passed=3",
        },
        Row {
            name: "frames for another MAC, for all and for many, even to a VIP",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 to=02:00:00:00:00:77
                -> pass
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 to=ff:ff:ff:ff:ff:ff
                -> pass
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 to=01:00:5e:00:00:01
                -> pass
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 to=02:00:00:00:00:77 cut=50
                -> pass
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 to=02:00:00:00:00:02
                -> pass
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 to=ff:ff:ff:ff:ff:ff frag=0+
                -> pass",
            ledger: "rx=6 passed=6",
        },
        Row {
            name: "anything else to a flow's SNAT port, and replies of no flow",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside udp 10.0.1.4:5353 > 10.0.255.254:A
                -> pass
                inside udp 10.0.1.3:5354 > 10.0.255.254:A
                -> pass
                inside tcp SA 10.0.1.3:5353 > 10.0.255.254:A
                -> pass
                inside udp 10.0.1.3:5353 > 10.0.255.254:61000
                -> pass
                inside udp 10.0.1.3:5353 > 10.0.255.254:A
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5000",
            ledger: "rx=6 forwarded=2 passed=4 flowsOpened=1",
        },
        Row {
            name: "an IPv6 packet from a mapped address is no reply of an IPv4 flow",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside udp [::ffff:10.0.1.3]:5353 > [::ffff:10.0.255.254]:A
                -> pass",
            ledger: "rx=2 forwarded=1 passed=1 flowsOpened=1",
        },
        Row {
            name: "partial checksums of passed packets are completed",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 192.168.0.2:22 sum=partial
                -> pass
                inside udp 10.0.1.9:5000 > 203.0.113.9:53 data=odd sum=partial
                -> pass
                inside tcp AP [fd00:10::9]:40000 > [2001:db8::2]:22 sum=partial data=hello pad=4
                -> pass
                inside udp [fd00:10::9]:5000 > [2001:db8:c::9]:53 sum=partial bytes=999
                -> pass
                inside sctp 10.0.1.9:5000 > 203.0.113.9:53 sum=partial bytes=12
                -> pass
                inside udp 10.0.1.9:5000 > 203.0.113.9:53 data=odd sum=wrong
                -> pass
                inside udp 10.0.1.9:5000 > 203.0.113.9:53 data=odd sum=none
                -> pass",
            ledger: "rx=7 passed=7",
        },
    ]
}
