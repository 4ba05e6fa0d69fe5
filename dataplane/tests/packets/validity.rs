//! Packets that are broken, lie about themselves, or cannot be: a drop with a reason when they are ours, else the kernel's.

use crate::bed::row::Row;
use crate::town::town;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "a frame that ends before its IPv4 packet does",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 cut=53
                -> drop truncated_ipv4
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080 cut=40
                -> drop truncated_ipv4
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080 cut=37
                -> pass
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:22 cut=53
                -> pass
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 cut=33
                -> pass",
            ledger: "rx=5 passed=3 drop:truncated_ipv4=2",
        },
        Row {
            name: "IPv4 headers that contradict themselves",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 poke=14:55 mend
                -> drop invalid_ipv4_header
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 poke=14:44
                -> drop invalid_ipv4_header
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 poke=16:0013 mend
                -> drop invalid_ipv4_header
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 opt=07ff0401
                -> drop invalid_ipv4_header
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 poke=14:4f
                -> drop truncated_ipv4
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080 poke=14:44
                -> pass",
            ledger: "rx=6 passed=1 drop:invalid_ipv4_header=4 drop:truncated_ipv4=1",
        },
        Row {
            name: "a wrong IPv4 header checksum",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 poke=24:dead
                -> drop ipv4_header_checksum
                outside udp 203.0.113.9:5000 > 192.168.0.2:30053 poke=24:dead
                -> drop ipv4_header_checksum
                outside udp 203.0.113.9:5000 > 192.168.0.2:53 poke=24:dead
                -> pass",
            ledger: "rx=3 passed=1 drop:ipv4_header_checksum=2",
        },
        Row {
            name: "a broken reply of a flow is ours, too",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.255.254:A data=answer poke=24:dead
                -> drop ipv4_header_checksum
                inside udp 10.0.1.3:5353 > 10.0.255.254:A data=answer cut=44
                -> drop truncated_ipv4
                inside udp 10.0.1.3:5353 > 10.0.255.254:A data=answer poke=38:00ff
                -> drop invalid_udp_length
                inside udp 10.0.1.4:5353 > 10.0.255.254:A data=answer poke=24:dead
                -> pass",
            ledger: "rx=5 forwarded=1 passed=1 drop:ipv4_header_checksum=1 drop:truncated_ipv4=1 \
                     drop:invalid_udp_length=1 flowsOpened=1",
        },
        Row {
            name: "a frame that ends before its IPv6 packet does",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 data=query cut=66
                -> drop truncated_ipv6
                outside udp [2001:db8:c::9]:5000 > [2001:db8::2]:30053 data=query cut=58
                -> drop truncated_ipv6
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ext=60:00010400000000 cut=58
                -> drop truncated_ipv6
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ext=60:05010400000000
                -> drop truncated_ipv6
                outside udp [2001:db8:c::9]:5000 > [2001:db8::2]:53 data=query cut=66
                -> pass
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 cut=53
                -> pass",
            ledger: "rx=6 passed=2 drop:truncated_ipv6=4",
        },
        Row {
            name: "a wrong IPv6 version, and a chain of more than eight headers",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 poke=14:50
                -> drop invalid_ipv6_header
                outside udp [2001:db8:c::9]:5000 > [2001:db8::2]:30053 poke=14:50
                -> pass
                inside udp [fd00:10::9]:5000 > [fd00:172:30::53]:53 ext=60:00010400000000 ext=60:00010400000000 \
                 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000 \
                 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000
                -> drop extension_chain_too_long",
            ledger: "rx=3 passed=1 drop:invalid_ipv6_header=1 drop:extension_chain_too_long=1",
        },
        Row {
            name: "TCP headers that are cut or lie about where the data is",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 poke=16:0027 mend
                -> drop truncated_tcp
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 poke=46:40
                -> drop invalid_tcp_header
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080 poke=46:60
                -> drop invalid_tcp_header
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 poke=66:00
                -> drop invalid_tcp_header
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:22 poke=46:60
                -> pass",
            ledger: "rx=5 passed=1 drop:truncated_tcp=1 drop:invalid_tcp_header=3",
        },
        Row {
            name: "UDP, SCTP and ICMP headers that are cut, and UDP lengths that lie",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 poke=16:001b mend
                -> drop truncated_udp
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 poke=38:0007
                -> drop invalid_udp_length
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 data=abc poke=58:000c
                -> drop invalid_udp_length
                outside sctp 203.0.113.9:5000 > 172.30.0.42:2905 poke=16:001f mend
                -> drop truncated_sctp
                outside echo 203.0.113.9 > 172.30.0.41 poke=16:001b mend
                -> drop truncated_icmp
                outside udp 203.0.113.9:5000 > 192.168.0.2:53 poke=38:0007
                -> pass
                outside echo 203.0.113.9 > 192.168.0.2 poke=16:001b mend
                -> pass",
            ledger: "rx=7 passed=2 drop:truncated_udp=1 drop:invalid_udp_length=2 drop:truncated_sctp=1 \
                     drop:truncated_icmp=1",
        },
        Row {
            name: "sources that cannot be, towards one of ours",
            bed: town(),
            script: "
                outside tcp S 0.0.0.0:40000 > 172.30.0.41:80
                -> drop impossible_source
                outside tcp S 127.0.0.1:40000 > 172.30.0.41:80
                -> drop impossible_source
                outside udp 224.0.0.1:5000 > 172.30.0.53:53
                -> drop impossible_source
                outside udp 255.255.255.255:5000 > 172.30.0.53:53
                -> drop impossible_source
                outside udp 192.168.0.255:5000 > 172.30.0.53:53
                -> drop impossible_source
                outside udp [::]:5000 > [fd00:172:30::53]:53
                -> drop impossible_source
                outside udp [::1]:5000 > [fd00:172:30::53]:53
                -> drop impossible_source
                outside udp [ff02::1]:5000 > [fd00:172:30::53]:53
                -> drop impossible_source
                outside udp [febf::9]:5000 > [fd00:172:30::53]:53
                -> drop impossible_source
                outside udp [::ffff:203.0.113.9]:5000 > [fd00:172:30::53]:53
                -> drop impossible_source
                outside echo 127.0.0.1 > 172.30.0.41
                -> drop impossible_source
                outside udp 127.0.0.1:5000 > 192.168.0.2:53
                -> pass",
            ledger: "rx=12 passed=1 drop:impossible_source=11",
        },
        Row {
            name: "nothing answers a source that cannot be",
            bed: town(),
            script: "
                outside tcp S 127.0.0.1:40000 > 172.30.0.44:80
                -> drop impossible_source
                outside tcp S 192.168.0.255:40000 > 172.30.0.44:80
                -> drop impossible_source
                outside echo 192.168.0.255 > 172.30.0.41
                -> drop impossible_source
                outside udp [ff02::1]:5000 > [fd00:172:30::44]:53
                -> drop impossible_source",
            ledger: "rx=4 drop:impossible_source=4",
        },
        Row {
            name: "land: source and destination are the same",
            bed: town(),
            script: "
                outside tcp S 172.30.0.41:80 > 172.30.0.41:80
                -> drop land
                outside udp [fd00:172:30::53]:53 > [fd00:172:30::53]:53
                -> drop land
                outside tcp S 192.168.0.2:22 > 192.168.0.2:22
                -> pass",
            ledger: "rx=3 passed=1 drop:land=2",
        },
        Row {
            name: "source routes",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 opt=830704c000020100
                -> drop source_routed
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 opt=01890704c0000201
                -> drop source_routed
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ext=43:00000000000000
                -> drop source_routed
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ext=43:00040100000000
                -> drop source_routed
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:22 opt=830704c000020100
                -> pass",
            ledger: "rx=5 passed=1 drop:source_routed=4",
        },
        Row {
            name: "a source route in the middle of a flow",
            bed: town(),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.1.9:5000 opt=830704c000020100
                -> drop source_routed",
            ledger: "rx=2 forwarded=1 drop:source_routed=1 flowsOpened=1",
        },
    ]
}
