//! The Services that most rows use.

use crate::bed::Bed;

pub(crate) const WEB: &str = "web tcp 172.30.0.41:80 node=30080 external=198.51.100.1 -> 10.0.1.1:8080";
pub(crate) const WEB6: &str = "web tcp [fd00:172:30::41]:80 node=30080 -> [fd00:10::1]:8080";
pub(crate) const DNS: &str = "dns udp 172.30.0.53:53 node=30053 -> 10.0.1.3:5353";
pub(crate) const DNS6: &str = "dns udp [fd00:172:30::53]:53 node=30053 -> [fd00:10::3]:5353";
pub(crate) const SIG: &str = "sig sctp 172.30.0.42:2905 node=32905 -> 10.0.1.4:2906";
pub(crate) const SIG6: &str = "sig sctp [fd00:172:30::42]:2905 node=32905 -> [fd00:10::4]:2906";
pub(crate) const EMPTY: &str = "empty tcp 172.30.0.44:80 node=30044 ->";
pub(crate) const EMPTY_DNS: &str = "empty udp 172.30.0.44:53 ->";
pub(crate) const EMPTY6: &str = "empty tcp [fd00:172:30::44]:80 ->";
pub(crate) const EMPTY_DNS6: &str = "empty udp [fd00:172:30::44]:53 ->";

/// TCP, UDP and SCTP Services in both families, some of them without endpoints.
pub(crate) fn town() -> Bed {
    Bed::of(&[WEB, WEB6, DNS, DNS6, SIG, SIG6, EMPTY, EMPTY_DNS, EMPTY6, EMPTY_DNS6])
}
