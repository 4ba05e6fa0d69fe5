//! ICMP errors about packets of flows: whom they reach, as what, and which are not believed.

use crate::bed::{Bed, Neighbors, row::Row};
use crate::town::{WEB, town};

pub(crate) fn rows() -> Vec<Row> {
    [from_the_endpoint(), from_the_client(), shapes(), limits(), unbelieved(), of_nobody()]
        .into_iter()
        .flatten()
        .collect()
}

/// Errors about what clients sent.
fn from_the_endpoint() -> Vec<Row> {
    vec![
        Row {
            name: "masquerade: whoever says it, the client hears it from the VIP, about its own packet",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 id=7 data=question
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside icmp 3/3 10.0.1.3 > 10.0.255.254 tos=192 id=99 about udp 10.0.255.254:A > 10.0.1.3:5353 id=7 ttl=63 data=question
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 id=7 ttl=63 data=question
                inside icmp 11/0 10.0.1.8 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353 ttl=1 data=question
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 ttl=1 data=question
                inside icmp 3/4 10.0.1.8 > 10.0.255.254 mtu=1280 pad=20 about udp 10.0.255.254:A > 10.0.1.3:5353 data=question df
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 data=question df
                inside icmp 12/0 10.0.1.3 > 10.0.255.254 rest=09000000 about udp 10.0.255.254:A > 10.0.1.3:5353
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53
                inside icmp 4/0 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53",
            ledger: "rx=6 forwarded=6 flowsOpened=1",
        },
        Row {
            name: "masquerade over IPv6, whose ICMP checksum covers the addresses",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 label=5 data=q
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353
                inside icmp 1/4 [fd00:10::3] > [fd00:10::fffe] about udp [fd00:10::fffe]:A > [fd00:10::3]:5353 label=5 ttl=63 data=q
                -> forward outside [fd00:172:30::53] > [2001:db8:c::9] about udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 label=5 ttl=63 data=q
                inside icmp 2/0 [fd00:10::8] > [fd00:10::fffe] mtu=1280 about udp [fd00:10::fffe]:A > [fd00:10::3]:5353 data=q
                -> forward outside [fd00:172:30::53] > [2001:db8:c::9] about udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 data=q
                inside icmp 3/0 [fd00:10::8] > [fd00:10::fffe] about udp [fd00:10::fffe]:A > [fd00:10::3]:5353 ttl=0 data=q
                -> forward outside [fd00:172:30::53] > [2001:db8:c::9] about udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ttl=0 data=q
                inside icmp 4/2 [fd00:10::3] > [fd00:10::fffe] rest=00000028 about udp [fd00:10::fffe]:A > [fd00:10::3]:5353 data=q
                -> forward outside [fd00:172:30::53] > [2001:db8:c::9] about udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 data=q
                inside icmp 100/0 [fd00:10::3] > [fd00:10::fffe] about udp [fd00:10::fffe]:A > [fd00:10::3]:5353 data=q
                -> forward outside [fd00:172:30::53] > [2001:db8:c::9] about udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 data=q",
            ledger: "rx=6 forwarded=6 flowsOpened=1",
        },
        Row {
            name: "TCP and SCTP, in both families",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside icmp 11/0 10.0.1.8 > 10.0.255.254 about tcp S 10.0.255.254:A > 10.0.1.1:8080 ttl=1
                -> forward outside 172.30.0.41 > 203.0.113.9 about tcp S 203.0.113.9:40000 > 172.30.0.41:80 ttl=1
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80
                -> forward inside [fd00:10::fffe]:B > [fd00:10::1]:8080
                inside icmp 1/3 [fd00:10::8] > [fd00:10::fffe] about tcp S [fd00:10::fffe]:B > [fd00:10::1]:8080
                -> forward outside [fd00:172:30::41] > [2001:db8:c::9] about tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80
                outside sctp 203.0.113.9:40000 > 172.30.0.42:2905 bytes=31
                -> forward inside 10.0.255.254:C > 10.0.1.4:2906
                inside icmp 3/2 10.0.1.4 > 10.0.255.254 about sctp 10.0.255.254:C > 10.0.1.4:2906 bytes=31
                -> forward outside 172.30.0.42 > 203.0.113.9 about sctp 203.0.113.9:40000 > 172.30.0.42:2905 bytes=31
                outside sctp [2001:db8:c::9]:40000 > [fd00:172:30::42]:2905 bytes=300
                -> forward inside [fd00:10::fffe]:D > [fd00:10::4]:2906
                inside icmp 2/0 [fd00:10::8] > [fd00:10::fffe] mtu=1280 about sctp [fd00:10::fffe]:D > [fd00:10::4]:2906 bytes=300
                -> forward outside [fd00:172:30::42] > [2001:db8:c::9] about sctp [2001:db8:c::9]:40000 > [fd00:172:30::42]:2905 bytes=300",
            ledger: "rx=8 forwarded=8 flowsOpened=4",
        },
        Row {
            name: "where the source is kept, of a hairpin, and to a NodePort",
            bed: town(),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                inside icmp 3/3 10.0.1.3 > 10.0.1.9 about udp 10.0.1.9:5000 > 10.0.1.3:5353
                -> forward inside 172.30.0.53 > 10.0.1.9 about udp 10.0.1.9:5000 > 172.30.0.53:53
                inside udp 10.0.1.3:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside icmp 3/3 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353
                -> forward inside 172.30.0.53 > 10.0.1.3 about udp 10.0.1.3:5000 > 172.30.0.53:53
                outside udp 203.0.113.9:5000 > 192.168.0.2:30053
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                inside icmp 3/3 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:B > 10.0.1.3:5353
                -> forward outside 192.168.0.2 > 203.0.113.9 about udp 203.0.113.9:5000 > 192.168.0.2:30053",
            ledger: "rx=6 forwarded=6 flowsOpened=3",
        },
        Row {
            name: "a direct connection with another port: who says it is seen, since the client knows the endpoint",
            bed: town(),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                inside udp 10.0.1.9:5000 > 10.0.1.3:5353
                -> forward inside 10.0.1.9:A > 10.0.1.3:5353
                inside icmp 11/0 10.0.1.8 > 10.0.1.9 about udp 10.0.1.9:A > 10.0.1.3:5353
                -> forward inside 10.0.1.8 > 10.0.1.9 about udp 10.0.1.9:5000 > 10.0.1.3:5353",
            ledger: "rx=3 forwarded=3 flowsOpened=2",
        },
    ]
}

/// Errors about replies.
fn from_the_client() -> Vec<Row> {
    vec![
        Row {
            name: "masquerade: the endpoint hears it from the SNAT address, about its own reply",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.255.254:A bytes=1000 df
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5000
                outside icmp 3/3 203.0.113.9 > 172.30.0.53 about udp 172.30.0.53:53 > 203.0.113.9:5000 bytes=1000 quote=500 df ttl=60
                -> forward inside 10.0.255.254 > 10.0.1.3 about udp 10.0.1.3:5353 > 10.0.255.254:A bytes=1000 quote=500 df ttl=60
                outside icmp 3/4 203.0.113.254 > 172.30.0.53 mtu=576 about udp 172.30.0.53:53 > 203.0.113.9:5000 bytes=1000 quote=28 df
                -> forward inside 10.0.255.254 > 10.0.1.3 about udp 10.0.1.3:5353 > 10.0.255.254:A bytes=1000 quote=28 df",
            ledger: "rx=4 forwarded=4 flowsOpened=1",
        },
        Row {
            name: "and over IPv6, of TCP and SCTP, by a NodePort",
            bed: town(),
            script: "
                outside tcp S [2001:db8:c::9]:40000 > [2001:db8::2]:30080
                -> forward inside [fd00:10::fffe]:A > [fd00:10::1]:8080
                inside tcp SA [fd00:10::1]:8080 > [fd00:10::fffe]:A seq=7000 ack=1001
                -> forward outside [2001:db8::2]:30080 > [2001:db8:c::9]:40000
                outside icmp 2/0 [2001:db8:c::1] > [2001:db8::2] mtu=1280 about tcp A [2001:db8::2]:30080 > [2001:db8:c::9]:40000 seq=8000 bytes=1400 quote=1232
                -> forward inside [fd00:10::fffe] > [fd00:10::1] about tcp A [fd00:10::1]:8080 > [fd00:10::fffe]:A seq=8000 bytes=1400 quote=1232
                outside sctp 203.0.113.9:40000 > 192.168.0.2:32905
                -> forward inside 10.0.255.254:B > 10.0.1.4:2906
                outside icmp 3/2 203.0.113.9 > 192.168.0.2 about sctp 192.168.0.2:32905 > 203.0.113.9:40000 bytes=80 quote=60
                -> forward inside 10.0.255.254 > 10.0.1.4 about sctp 10.0.1.4:2906 > 10.0.255.254:B bytes=80 quote=60",
            ledger: "rx=5 forwarded=5 flowsOpened=2",
        },
        Row {
            name: "where the source is kept the endpoint sees who says it; hairpin is masqueraded",
            bed: town(),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                inside icmp 3/3 10.0.1.9 > 172.30.0.53 about udp 172.30.0.53:53 > 10.0.1.9:5000
                -> forward inside 10.0.1.9 > 10.0.1.3 about udp 10.0.1.3:5353 > 10.0.1.9:5000
                inside icmp 11/0 10.0.1.8 > 172.30.0.53 about udp 172.30.0.53:53 > 10.0.1.9:5000 ttl=1
                -> forward inside 10.0.1.8 > 10.0.1.3 about udp 10.0.1.3:5353 > 10.0.1.9:5000 ttl=1
                inside udp 10.0.1.3:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside icmp 3/3 10.0.1.3 > 172.30.0.53 about udp 172.30.0.53:53 > 10.0.1.3:5000
                -> forward inside 10.0.255.254 > 10.0.1.3 about udp 10.0.1.3:5353 > 10.0.255.254:A",
            ledger: "rx=5 forwarded=5 flowsOpened=2",
        },
    ]
}

/// What the quote may look like.
fn shapes() -> Vec<Row> {
    vec![
        Row {
            name: "eight bytes of L4 are enough, and checksums that are cut off are let be",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside icmp 3/1 10.0.1.8 > 10.0.255.254 about tcp S 10.0.255.254:A > 10.0.1.1:8080 quote=28
                -> forward outside 172.30.0.41 > 203.0.113.9 about tcp S 203.0.113.9:40000 > 172.30.0.41:80 quote=28
                inside icmp 3/1 10.0.1.8 > 10.0.255.254 about tcp S 10.0.255.254:A > 10.0.1.1:8080 quote=38
                -> forward outside 172.30.0.41 > 203.0.113.9 about tcp S 203.0.113.9:40000 > 172.30.0.41:80 quote=38
                outside sctp 203.0.113.9:40000 > 172.30.0.42:2905 bytes=20
                -> forward inside 10.0.255.254:B > 10.0.1.4:2906
                inside icmp 3/1 10.0.1.8 > 10.0.255.254 about sctp 10.0.255.254:B > 10.0.1.4:2906 bytes=20 quote=28
                -> forward outside 172.30.0.42 > 203.0.113.9 about sctp 203.0.113.9:40000 > 172.30.0.42:2905 bytes=20 quote=28
                inside icmp 3/1 10.0.1.8 > 10.0.255.254 about sctp 10.0.255.254:B > 10.0.1.4:2906 bytes=20 quote=33
                -> forward outside 172.30.0.42 > 203.0.113.9 about sctp 203.0.113.9:40000 > 172.30.0.42:2905 bytes=20 quote=33",
            ledger: "rx=6 forwarded=6 flowsOpened=2",
        },
        Row {
            name: "IPv4 options, of the quoted packet and of the error",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 opt=94040000 data=x
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside icmp 3/3 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353 opt=94040000 data=x
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 opt=94040000 data=x
                inside icmp 3/3 10.0.1.3 > 10.0.255.254 opt=9404000001010100 about udp 10.0.255.254:A > 10.0.1.3:5353 opt=94040000 data=x
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 opt=94040000 data=x",
            ledger: "rx=3 forwarded=3 flowsOpened=1",
        },
        Row {
            name: "IPv6 extension headers, of the quoted packet and of the error",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ext=60:00010400000000 data=x
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353
                inside icmp 1/4 [fd00:10::3] > [fd00:10::fffe] about udp [fd00:10::fffe]:A > [fd00:10::3]:5353 ext=60:00010400000000 data=x
                -> forward outside [fd00:172:30::53] > [2001:db8:c::9] about udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ext=60:00010400000000 data=x
                inside icmp 1/4 [fd00:10::3] > [fd00:10::fffe] ext=0:00010400000000 about udp [fd00:10::fffe]:A > [fd00:10::3]:5353 ext=0:00010400000000 ext=60:00010400000000 data=x
                -> forward outside [fd00:172:30::53] > [2001:db8:c::9] about udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ext=0:00010400000000 ext=60:00010400000000 data=x",
            ledger: "rx=3 forwarded=3 flowsOpened=1",
        },
        Row {
            name: "extensions of RFC 4884 are carried along; their length is the receiver's",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 data=question
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside icmp 11/0 10.0.1.8 > 10.0.255.254 rest=00200000 about udp 10.0.255.254:A > 10.0.1.3:5353 data=question zeros=128 more=2000dead00080101000003ff
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 data=question zeros=128 more=2000dead00080101000003ff
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80
                -> forward inside [fd00:10::fffe]:B > [fd00:10::1]:8080
                inside icmp 3/0 [fd00:10::8] > [fd00:10::fffe] rest=10000000 about tcp S [fd00:10::fffe]:B > [fd00:10::1]:8080 zeros=128 more=2000dead00080101000003ff
                -> forward outside [fd00:172:30::41] > [2001:db8:c::9] about tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 zeros=128 more=2000dead00080101000003ff",
            ledger: "rx=4 forwarded=4 flowsOpened=2",
        },
        Row {
            name: "UDP without a checksum, and checksums that were wrong, stay so",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 sum=none data=x
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside icmp 3/3 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353 sum=none data=x
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 sum=none data=x
                inside icmp 3/3 10.0.1.3 > 10.0.255.254 sum=wrong about udp 10.0.255.254:A > 10.0.1.3:5353 sum=wrong data=x
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 sum=wrong data=x
                outside sctp [2001:db8:c::9]:40000 > [fd00:172:30::42]:2905
                -> forward inside [fd00:10::fffe]:B > [fd00:10::4]:2906
                inside icmp 1/3 [fd00:10::8] > [fd00:10::fffe] sum=wrong about sctp [fd00:10::fffe]:B > [fd00:10::4]:2906 bytes=9 sum=wrong
                -> forward outside [fd00:172:30::42] > [2001:db8:c::9] about sctp [2001:db8:c::9]:40000 > [fd00:172:30::42]:2905 bytes=9 sum=wrong",
            ledger: "rx=5 forwarded=5 flowsOpened=2",
        },
        Row {
            name: "the first fragment of a packet has its ports; nobody knows all that its CRC covers",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside icmp 11/1 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353 frag=0+ bytes=64
                -> forward outside 172.30.0.53 > 203.0.113.9 about udp 203.0.113.9:5000 > 172.30.0.53:53 frag=0+ bytes=64
                inside icmp 11/1 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353 frag=64 bytes=64
                -> pass",
            ledger: "rx=3 forwarded=2 passed=1 flowsOpened=1",
        },
    ]
}

/// A router hop for errors, too; and nothing answers them.
fn limits() -> Vec<Row> {
    vec![Row {
        name: "TTL, MTU and neighbours as with other packets",
        bed: Bed::of(&["web udp 172.30.0.41:80 -> 10.5.0.1:80"])
            .then_neighbors("flushed", Neighbors::None)
            .then_neighbors("known", Neighbors::All),
        script: "
                outside udp 203.0.113.9:5000 > 172.30.0.41:80
                -> forward narrow 10.5.0.254:A > 10.5.0.1:80
                outside icmp 3/3 203.0.113.9 > 172.30.0.41 ttl=1 about udp 172.30.0.41:80 > 203.0.113.9:5000
                -> drop ttl_expired
                outside icmp 3/3 203.0.113.9 > 172.30.0.41 ttl=2 about udp 172.30.0.41:80 > 203.0.113.9:5000
                -> forward narrow 10.5.0.254 > 10.5.0.1 about udp 10.5.0.1:80 > 10.5.0.254:A
                outside icmp 3/3 203.0.113.9 > 172.30.0.41 df about udp 172.30.0.41:80 > 203.0.113.9:5000 bytes=1300
                -> drop too_big
                use flushed
                outside icmp 3/3 203.0.113.9 > 172.30.0.41 about udp 172.30.0.41:80 > 203.0.113.9:5000
                -> held
                asked narrow 10.5.0.1
                use known
                -> forward narrow 10.5.0.254 > 10.5.0.1 about udp 10.5.0.1:80 > 10.5.0.254:A",
        ledger: "rx=5 forwarded=3 drop:ttl_expired=1 drop:too_big=1 flowsOpened=1",
    }]
}

/// What a forger does not know.
fn unbelieved() -> Vec<Row> {
    vec![
        Row {
            name: "a TCP sequence number that is not under way, and none at all",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside icmp 3/1 203.0.113.9 > 172.30.0.41 about tcp SA 172.30.0.41:80 > 203.0.113.9:40000 seq=0
                -> drop icmp_outside_window
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=900000000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=900000001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside icmp 3/4 10.0.1.8 > 10.0.255.254 mtu=600 about tcp A 10.0.255.254:A > 10.0.1.1:8080 seq=900000001
                -> drop icmp_outside_window
                inside icmp 3/4 10.0.1.8 > 10.0.255.254 mtu=600 about tcp A 10.0.255.254:A > 10.0.1.1:8080 seq=1001 quote=26
                -> drop icmp_outside_window
                outside icmp 3/4 203.0.113.254 > 172.30.0.41 mtu=600 about tcp A 172.30.0.41:80 > 203.0.113.9:40000 seq=1001
                -> drop icmp_outside_window
                inside icmp 3/4 10.0.1.8 > 10.0.255.254 mtu=600 about tcp A 10.0.255.254:A > 10.0.1.1:8080 seq=70000
                -> forward outside 172.30.0.41 > 203.0.113.9 about tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=70000
                outside icmp 3/4 203.0.113.254 > 172.30.0.41 mtu=600 about tcp A 172.30.0.41:80 > 203.0.113.9:40000 seq=900070000
                -> forward inside 10.0.255.254 > 10.0.1.1 about tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=900070000",
            ledger: "rx=9 forwarded=5 drop:icmp_outside_window=4 flowsOpened=1",
        },
        Row {
            name: "an SCTP tag that is not the receiver's; an INIT has none but its sender's",
            bed: town(),
            script: "
                outside sctp 203.0.113.9:40000 > 172.30.0.42:2905 tag=0 hex=0100001400001234
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906
                inside icmp 3/2 10.0.1.4 > 10.0.255.254 about sctp 10.0.255.254:A > 10.0.1.4:2906 tag=0 hex=0100001400001234
                -> forward outside 172.30.0.42 > 203.0.113.9 about sctp 203.0.113.9:40000 > 172.30.0.42:2905 tag=0 hex=0100001400001234
                inside icmp 3/2 10.0.1.4 > 10.0.255.254 about sctp 10.0.255.254:A > 10.0.1.4:2906 tag=0 hex=0100001400001234 quote=28
                -> forward outside 172.30.0.42 > 203.0.113.9 about sctp 203.0.113.9:40000 > 172.30.0.42:2905 tag=0 hex=0100001400001234 quote=28
                inside icmp 3/2 10.0.1.4 > 10.0.255.254 about sctp 10.0.255.254:A > 10.0.1.4:2906 tag=0 hex=0100001400001235
                -> drop icmp_outside_window
                inside icmp 3/2 10.0.1.4 > 10.0.255.254 about sctp 10.0.255.254:A > 10.0.1.4:2906 tag=0 hex=0000001400001234
                -> drop icmp_outside_window
                inside sctp 10.0.1.4:2906 > 10.0.255.254:A tag=4660 hex=0200001400005678
                -> forward outside 172.30.0.42:2905 > 203.0.113.9:40000
                inside icmp 3/2 10.0.1.4 > 10.0.255.254 about sctp 10.0.255.254:A > 10.0.1.4:2906 tag=0 hex=0100001400001234 quote=28
                -> drop icmp_outside_window
                inside icmp 3/2 10.0.1.4 > 10.0.255.254 about sctp 10.0.255.254:A > 10.0.1.4:2906 tag=4660
                -> drop icmp_outside_window
                inside icmp 3/2 10.0.1.4 > 10.0.255.254 about sctp 10.0.255.254:A > 10.0.1.4:2906 tag=22136
                -> forward outside 172.30.0.42 > 203.0.113.9 about sctp 203.0.113.9:40000 > 172.30.0.42:2905 tag=22136
                outside icmp 3/2 203.0.113.9 > 172.30.0.42 about sctp 172.30.0.42:2905 > 203.0.113.9:40000 tag=22136
                -> drop icmp_outside_window
                outside icmp 3/2 203.0.113.9 > 172.30.0.42 about sctp 172.30.0.42:2905 > 203.0.113.9:40000 tag=4660
                -> forward inside 10.0.255.254 > 10.0.1.4 about sctp 10.0.1.4:2906 > 10.0.255.254:A tag=4660",
            ledger: "rx=11 forwarded=6 drop:icmp_outside_window=5 flowsOpened=1",
        },
        Row {
            name: "by an interface that leads to no endpoint, to somebody else, from nowhere; a redirect",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside icmp 3/3 203.0.113.77 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353
                -> pass
                inside icmp 3/3 10.0.1.3 > 10.0.1.9 about udp 10.0.255.254:A > 10.0.1.3:5353
                -> pass
                inside icmp 3/3 127.0.0.1 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353
                -> drop impossible_source
                inside icmp 5/1 10.0.1.8 > 10.0.255.254 about udp 10.0.255.254:A > 10.0.1.3:5353
                -> pass
                outside icmp 3/3 203.0.113.9 > 172.30.0.41 about udp 172.30.0.53:53 > 203.0.113.9:5000
                -> drop icmp_without_flow
                outside icmp 3/3 192.168.0.2 > 172.30.0.53 about udp 172.30.0.53:53 > 203.0.113.9:5000
                -> drop impossible_source
                outside icmp 5/1 192.168.0.254 > 172.30.0.53 about udp 172.30.0.53:53 > 203.0.113.9:5000
                -> drop icmp_without_flow",
            ledger: "rx=8 forwarded=1 passed=3 drop:impossible_source=2 drop:icmp_without_flow=2 flowsOpened=1",
        },
        Row {
            name: "a flood of them ends no flow",
            bed: Bed::of(&[WEB]).flows(2).ports(2),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside icmp 3/3 10.0.1.1 > 10.0.255.254 about tcp A 10.0.255.254:A > 10.0.1.1:8080 seq=1001
                -> forward outside
                inside icmp 3/13 10.0.1.1 > 10.0.255.254 about tcp A 10.0.255.254:A > 10.0.1.1:8080 seq=1001
                -> forward outside
                outside icmp 3/1 203.0.113.9 > 172.30.0.41 about tcp A 172.30.0.41:80 > 203.0.113.9:40000 seq=5001
                -> forward inside
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001 data=on
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1003
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000",
            ledger: "rx=8 forwarded=8 flowsOpened=1",
        },
    ]
}

/// About no flow.
fn of_nobody() -> Vec<Row> {
    vec![Row {
        name: "about no flow: dropped on a VIP, the kernel's on the node's addresses and elsewhere",
        bed: town(),
        script: "
            outside icmp 3/3 203.0.113.9 > 172.30.0.53 about udp 172.30.0.53:53 > 203.0.113.9:5000
            -> drop icmp_without_flow
            outside icmp 3/3 203.0.113.9 > 172.30.0.99 about udp 172.30.0.99:53 > 203.0.113.9:5000
            -> drop unallocated_cluster_ip
            outside icmp 3/3 203.0.113.9 > 192.168.0.2 about udp 192.168.0.2:30053 > 203.0.113.9:5000
            -> pass
            inside icmp 3/3 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:61000 > 10.0.1.3:5353
            -> pass
            inside icmp 1/4 [fd00:10::3] > [fd00:10::fffe] about udp [fd00:10::fffe]:61000 > [fd00:10::3]:5353
            -> pass
            inside icmp 3/3 10.0.1.3 > 10.0.1.9 about udp 10.0.1.9:5000 > 10.0.1.3:5353
            -> pass",
        ledger: "rx=6 passed=4 drop:icmp_without_flow=1 drop:unallocated_cluster_ip=1",
    }]
}
