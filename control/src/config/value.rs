//! The values that configuration keys take, each with its parser. A parser's error continues the sentence that begins
//! with the value: `"60" needs a unit, …`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use ringway_shared::{MacAddress, PortSet};

/// The longest name that Linux gives an interface.
const MAX_INTERFACE_NAME: usize = 15;

/// The name of an interface, or a glob (`*`, `?`, `[abc]`, `[a-z]`) that names several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePattern(String);

impl InterfacePattern {
    /// Reads a name or a glob.
    pub fn parse(text: &str) -> Result<Self, String> {
        let odd = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '/';
        let open = text.matches('[').count() != text.matches(']').count();
        let pattern = InterfacePattern(text.to_owned());
        if text.is_empty() || text.contains(odd) || open || matches!(text, "." | "..") || text.starts_with(':') {
            Err("is neither an interface name nor a glob; write eth0 or eth*".into())
        } else if let Some((interface, _)) = text.split_once(':') {
            Err(format!(
                "is a label of addresses of {interface}, not an interface; write {interface}, whose addresses are all served"
            ))
        } else if !pattern.is_glob() && text.len() > MAX_INTERFACE_NAME {
            Err(format!("is too long: interface names have at most {MAX_INTERFACE_NAME} characters"))
        } else {
            Ok(pattern)
        }
    }

    /// Whether it may name several interfaces.
    pub fn is_glob(&self) -> bool {
        self.0.contains(['*', '?', '['])
    }

    /// The text as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names `interface`.
    pub fn matches(&self, interface: &str) -> bool {
        glob(self.0.as_bytes(), interface.as_bytes())
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A Service's namespace and name, or globs of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePattern(String);

impl ServicePattern {
    /// Reads `NAMESPACE/NAME`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.*?[]!^".contains(&byte);
        let is_part = |part: &str| {
            let closed = part.matches('[').count() == part.matches(']').count();
            (1..=253).contains(&part.len()) && closed && part.bytes().all(allowed)
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_part(namespace) && is_part(name) => Ok(ServicePattern(text.to_owned())),
            _ => Err("is neither NAMESPACE/NAME nor a glob of it; write shop/web, shop/* or */web".into()),
        }
    }

    /// Whether it may name several Services.
    pub fn is_glob(&self) -> bool {
        self.0.contains(['*', '?', '['])
    }

    /// The text as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names this Service.
    pub fn matches(&self, namespace: &str, name: &str) -> bool {
        let parts = self.0.split_once('/');
        parts.is_some_and(|(in_, named)| {
            glob(in_.as_bytes(), namespace.as_bytes()) && glob(named.as_bytes(), name.as_bytes())
        })
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In time that grows with the product of both lengths at most, however many stars there are: a star takes one letter more
/// when what follows it does not match, and those before it never have to be asked again.
fn glob(mut pattern: &[u8], mut name: &[u8]) -> bool {
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            (star, pattern) = (Some((rest, name)), rest);
            continue;
        }
        let Some((letter, others)) = name.split_first() else { return pattern.is_empty() };
        if let Some(rest) = after(pattern, *letter) {
            (pattern, name) = (rest, others);
            continue;
        }
        let Some((behind, [_, left @ ..])) = star else { return false };
        (star, pattern, name) = (Some((behind, left)), behind, left);
    }
}

/// What is left of a pattern when its first part, which is no star, matches `letter`.
fn after(pattern: &[u8], letter: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b']')?;
            one_of(&rest[..end], letter).then_some(&rest[end + 1..])
        }
        [first, rest @ ..] if *first == letter => Some(rest),
        _ => None,
    }
}

fn one_of(class: &[u8], letter: u8) -> bool {
    let (class, negated) = match class {
        [b'!' | b'^', class @ ..] => (class, true),
        class => (class, false),
    };
    let listed = class.contains(&letter);
    let ranged = class.windows(3).any(|range| range[1] == b'-' && (range[0]..=range[2]).contains(&letter));
    (listed || ranged) != negated
}

/// One of some words.
pub(super) fn word<T: Copy>(allowed: &'static [(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        allowed.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = allowed.iter().map(|(word, _)| *word).collect();
            format!("is not allowed; write {}", or(&words))
        })
    }
}

/// `a, b or c`.
fn or(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    word(&[("true", true), ("false", false)])(text)
}

/// A whole number in a range.
pub(super) fn number(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let digits = text.replace('_', "");
        digits
            .parse::<u64>()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("is not allowed; write a whole number from {} to {}", range.start(), range.end()))
    }
}

/// An IP address.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| match text.parse::<IpNet>() {
        Ok(net) => format!("has a prefix length, where an address alone is expected; write {}", net.addr()),
        Err(_) => "is not an IP address; write 192.168.0.2 or 2001:db8::2".into(),
    })
}

/// An IP address that can be a packet's source or destination.
pub(super) fn unicast(text: &str) -> Result<IpAddr, String> {
    let address = address(text)?;
    if address.is_unspecified() || address.is_multicast() {
        return Err("is not the address of one host".into());
    }
    Ok(address)
}

/// An address that flows may get as their source: replies must find back to this node.
pub(super) fn snat_address(text: &str) -> Result<IpAddr, String> {
    let address = unicast(text)?;
    if address.is_loopback() {
        return Err("is a loopback address, to which no endpoint can reply; write an address of this node".into());
    }
    Ok(address)
}

/// A network; bits behind the prefix are cleared.
pub(super) fn cidr(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| match text.parse::<IpAddr>() {
        Ok(address) => format!("has no prefix length; write {}", IpNet::from(address)),
        Err(_) => "is not a CIDR; write 10.0.0.0/16 or fd00::/64".into(),
    })
}

/// An address with the prefix length of its network.
pub(super) fn address_in_network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>().map_err(|_| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => format!("has no prefix length; write {address}/24"),
        Ok(IpAddr::V6(address)) => format!("has no prefix length; write {address}/64"),
        Err(_) => "is not an address with a prefix length; write 192.168.0.2/24 or fd00::2/64".into(),
    })
}

/// A MAC address of one station.
pub(super) fn mac(text: &str) -> Result<MacAddress, String> {
    let wrong = || "is not a MAC address; write six hexadecimal bytes in quotes, as \"02:00:00:00:00:01\"".to_owned();
    let mac: MacAddress = text.parse().map_err(|_| wrong())?;
    if mac.is_group() {
        return Err("is a multicast or broadcast address, where that of one interface is expected".into());
    }
    Ok(mac)
}

/// `ADDRESS:PORT` to listen on; `off` for nowhere.
pub(super) fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "is not ADDRESS:PORT; write 127.0.0.1:9098 or [::1]:9098, or off".into())
}

/// The word for a value that Ringway finds by itself.
pub(super) const AUTO: &str = "auto";

/// Ranges of ports, as `1024-29999,61000-65535`; `None` for `auto`.
pub(super) fn snat_ports(text: &str) -> Result<Option<PortSet>, String> {
    if text.trim() == AUTO {
        return Ok(None);
    }
    let ranges = text.split(',').map(|range| ports(range.trim())).collect::<Result<Vec<_>, _>>()?;
    let most = PortSet::MOST_RANGES;
    let too_many = || format!("has more than {most} ranges of ports; leave the smallest ones out");
    PortSet::of(ranges).map(Some).ok_or_else(too_many)
}

/// A range of ports.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || {
        let examples = "61000-65535, or 1024-29999,61000-65535";
        format!(
            "is no list of port ranges; write auto, or FIRST-LAST from 1 to 65535 with commas between, as {examples}"
        )
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("has an empty port range; write {last}-{first}"));
    }
    Ok(first..=last)
}

/// A duration as Kubernetes writes it: `2h`, `1h30m`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a duration; write numbers with units (h, m, s, ms), as 2h, 1m30s or 500ms".to_owned();
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Err(format!("needs a unit; write {text}s, or another of h, m, s, ms"));
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits =
            rest.find(|letter: char| !letter.is_ascii_digit()).filter(|digits| *digits > 0).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(wrong()),
        };
        let part = Duration::from_millis(number.checked_mul(millis).ok_or_else(wrong)?);
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if sum.is_zero() { Err(wrong()) } else { Ok(sum) }
}

/// The words of a log filter, from quiet to loud.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A log filter: a level, or `TARGET=LEVEL` for a part, separated by commas.
pub(super) fn log(text: &str) -> Result<String, String> {
    let known = |part: &str| LEVELS.contains(&part.rsplit('=').next().unwrap_or(part).trim());
    if text.split(',').all(known) {
        return Ok(text.to_owned());
    }
    Err(format!("is not a log level; write {}, or TARGET=LEVEL,… for parts", or(&LEVELS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        for (text, millis) in
            [("2h", 7_200_000), ("1h30m", 5_400_000), ("30s", 30_000), ("500ms", 500), ("2h0m0s", 7_200_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "0s", "1d", "-1s", "1.5h", "1h 2m", "99999999999999999999h", "9999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("60"), Err("needs a unit; write 60s, or another of h, m, s, ms".into()));
    }

    #[test]
    fn globs_match_as_in_a_shell() {
        let cases = [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth", true),
            ("eth*", "eth0.5", true),
            ("e*0", "eth10", true),
            ("eth?", "eth", false),
            ("eth[0-2]", "eth1", true),
            ("eth[0-2]", "eth3", false),
            ("eth[!0]", "eth1", true),
            ("*", "", true),
            ("e**h*0", "eth0h10", true),
            ("e*h?0*", "eth0h", false),
            ("*a*a*a*a*a*a*a*a*a*a*a*a*b", &"a".repeat(250), false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(InterfacePattern::parse(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
        for wrong in ["", "a b", "a/b", "eth[0", "averyverylongname", ":1"] {
            assert!(InterfacePattern::parse(wrong).is_err(), "{wrong}");
        }
        let label = InterfacePattern::parse("eth0:1").unwrap_err();
        assert!(label.starts_with("is a label of addresses of eth0, not an interface; write eth0,"), "{label}");
    }

    #[test]
    fn services_are_named_with_their_namespace() {
        let named = |pattern: &str, namespace: &str, name: &str| {
            ServicePattern::parse(pattern).map(|pattern| (pattern.is_glob(), pattern.matches(namespace, name)))
        };
        assert_eq!(named("shop/web", "shop", "web"), Ok((false, true)));
        assert_eq!(named("shop/web", "shop", "web2"), Ok((false, false)));
        assert_eq!(named("*/web", "shop", "web"), Ok((true, true)));
        assert_eq!(named("shop/*", "shop", "web.v2"), Ok((true, true)));
        assert_eq!(named("sh[a-o]p/we?", "shop", "web"), Ok((true, true)));
        for wrong in ["", "web", "/", "shop/", "/web", "shop/web/http", "shop/Web", "shop/[w", "shop/we b"] {
            assert!(ServicePattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_and_networks_say_what_to_write() {
        assert_eq!(snat_ports("61000-65535"), Ok(Some((61000..=65535).into())));
        assert_eq!(snat_ports("7"), Ok(Some((7..=7).into())));
        assert_eq!(snat_ports("61000-65535, 1024-29999,7").unwrap().unwrap().to_string(), "7,1024-29999,61000-65535");
        assert_eq!(snat_ports("auto"), Ok(None));
        assert!(snat_address("10.0.0.1").is_ok() && snat_address("fd00::1").is_ok());
        for wrong in ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1"] {
            assert!(snat_address(wrong).is_err(), "{wrong}");
        }
        assert_eq!(snat_ports("20,9-7"), Err("has an empty port range; write 7-9".into()));
        for wrong in ["0-7", "1-65536", "a-b", "1-2,", "", "auto,7", "1-2-3"] {
            assert!(snat_ports(wrong).is_err(), "{wrong}");
        }
        let many = (1..=17).map(|port| (2 * port).to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(snat_ports(&many), Err("has more than 16 ranges of ports; leave the smallest ones out".into()));
        assert_eq!(cidr("10.0.0.7/16"), Ok("10.0.0.0/16".parse().unwrap()));
        assert_eq!(cidr("10.0.0.7"), Err("has no prefix length; write 10.0.0.7/32".into()));
    }
}
