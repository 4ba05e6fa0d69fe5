//! Policy rules (`ip rule`): what a way can depend on besides the destination, and what of that nobody can know here.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use ringway_shared::Family;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};

/// A policy rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its place among the others.
    pub priority: u32,
    /// `None` for what is no IP.
    pub family: Option<Family>,
    /// Whom the packets come from.
    pub from: Option<IpNet>,
    /// Where they go.
    pub to: Option<IpNet>,
    /// The interface that they arrived by.
    pub input: Option<String>,
    /// The table of the device's VRF counts.
    pub vrf: bool,
    /// What it asks for that is not known of a packet here.
    pub unknown: Vec<&'static str>,
    /// As `ip rule` says it.
    pub text: String,
    // Nothing but this table.
    plain: Option<u32>,
}

impl Rule {
    /// The rule that a message describes.
    pub fn from_message(message: &RuleMessage) -> Option<Self> {
        let header = &message.header;
        let (family, unspecified): (_, IpAddr) = match header.family {
            AddressFamily::Inet => (Family::V4, Ipv4Addr::UNSPECIFIED.into()),
            AddressFamily::Inet6 => (Family::V6, Ipv6Addr::UNSPECIFIED.into()),
            _ => return None,
        };
        let mut rule = Rule { family: Some(family), ..Rule::default() };
        let (mut source, mut destination) = (unspecified, unspecified);
        let (mut table, mut words, mut suppressed) = (u32::from(header.table), String::new(), false);
        let unknown = |what, rule: &mut Rule| rule.unknown.push(what);
        if header.tos != 0 {
            unknown("its type of service", &mut rule);
            let _ = write!(words, " tos {:#x}", header.tos);
        }
        for attribute in &message.attributes {
            let _ = match attribute {
                RuleAttribute::Source(address) => {
                    source = *address;
                    Ok(())
                }
                RuleAttribute::Destination(address) => {
                    destination = *address;
                    Ok(())
                }
                RuleAttribute::Priority(priority) => {
                    rule.priority = *priority;
                    Ok(())
                }
                RuleAttribute::Table(number) => {
                    table = *number;
                    Ok(())
                }
                RuleAttribute::Iifname(name) => {
                    rule.input = Some(name.clone());
                    write!(words, " iif {name}")
                }
                RuleAttribute::Oifname(name) => write!(words, " oif {name}"),
                RuleAttribute::FwMark(mark) if *mark != 0 => {
                    unknown("a mark", &mut rule);
                    write!(words, " fwmark {mark:#x}")
                }
                RuleAttribute::TunId(id) if *id != 0 => {
                    unknown("a tunnel's number", &mut rule);
                    write!(words, " tun_id {id}")
                }
                RuleAttribute::IpProtocol(protocol) => {
                    unknown("its protocol", &mut rule);
                    write!(words, " ipproto {}", format!("{protocol:?}").to_lowercase())
                }
                RuleAttribute::SourcePortRange(ports) => {
                    unknown("its source port", &mut rule);
                    write!(words, " sport {}", range(ports))
                }
                RuleAttribute::DestinationPortRange(ports) => {
                    unknown("its destination port", &mut rule);
                    write!(words, " dport {}", range(ports))
                }
                RuleAttribute::UidRange(range) => write!(words, " uidrange {}-{}", range.start, range.end),
                RuleAttribute::L3MDev(on) => {
                    rule.vrf = *on;
                    write!(words, " l3mdev")
                }
                RuleAttribute::SuppressPrefixLen(length) if *length != u32::MAX => {
                    suppressed = true;
                    write!(words, " suppress_prefixlength {length}")
                }
                RuleAttribute::SuppressIfGroup(group) if *group != u32::MAX => {
                    suppressed = true;
                    write!(words, " suppress_ifgroup {group}")
                }
                _ => Ok(()),
            };
        }
        let net = |address, length: u8| IpNet::new(address, length).ok().filter(|_| length > 0).map(|net| net.trunc());
        (rule.from, rule.to) = (net(source, header.src_len), net(destination, header.dst_len));
        let action = match header.action {
            RuleAction::ToTable => match table {
                255 => "lookup local".to_owned(),
                254 => "lookup main".to_owned(),
                253 => "lookup default".to_owned(),
                number => format!("lookup {number}"),
            },
            other => format!("{other:?}").to_lowercase(),
        };
        let inverted = header.flags.contains(RuleFlags::Invert);
        let from = rule.from.map_or("all".to_owned(), |net| net.to_string());
        let to = rule.to.map_or(String::new(), |net| format!(" to {net}"));
        let not = if inverted { "not " } else { "" };
        let bare = words.is_empty() && !suppressed && !inverted && rule.from.is_none() && rule.to.is_none();
        rule.plain = (bare && header.action == RuleAction::ToTable).then_some(table);
        rule.text = format!("{}: {not}from {from}{to}{words} {action}", rule.priority);
        Some(rule)
    }
}

fn range(ports: &RulePortRange) -> String {
    if ports.start == ports.end { ports.start.to_string() } else { format!("{}-{}", ports.start, ports.end) }
}

/// Whether these are the rules of a machine that nobody gave any: local, main, and default, which is empty.
pub(super) fn are_standard(rules: &[&Rule], default_is_empty: bool) -> bool {
    let mut tables: Vec<(u32, Option<u32>)> = rules.iter().map(|rule| (rule.priority, rule.plain)).collect();
    tables.sort_unstable();
    let tables: Vec<Option<u32>> = tables.into_iter().map(|(_, table)| table).collect();
    tables == [Some(255), Some(254)] || default_is_empty && tables == [Some(255), Some(254), Some(253)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(priority: u32, table: u8, attributes: Vec<RuleAttribute>) -> Rule {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.action = RuleAction::ToTable;
        message.header.table = table;
        message.attributes = attributes;
        message.attributes.push(RuleAttribute::Priority(priority));
        if message.attributes.iter().any(|a| matches!(a, RuleAttribute::Source(_))) {
            message.header.src_len = 24;
        }
        Rule::from_message(&message).unwrap()
    }

    #[test]
    fn the_rules_of_a_fresh_machine_are_standard_and_no_others() {
        let [local, main, default] = [rule(0, 255, vec![]), rule(32766, 254, vec![]), rule(32767, 253, vec![])];
        assert!(are_standard(&[&local, &main, &default], true));
        assert!(are_standard(&[&main, &local], true));
        assert!(!are_standard(&[&local, &main, &default], false));
        assert!(!are_standard(&[&main], true));
        let main_first = rule(1, 254, vec![]);
        let local_last = rule(2, 255, vec![]);
        assert!(!are_standard(&[&main_first, &local_last], true));
        for attribute in [
            RuleAttribute::Source("10.0.0.0".parse().unwrap()),
            RuleAttribute::Iifname("eth0".into()),
            RuleAttribute::FwMark(1),
            RuleAttribute::SuppressPrefixLen(0),
        ] {
            let other = rule(5, 254, vec![attribute]);
            assert!(!are_standard(&[&local, &other], true), "{other:?}");
        }
    }

    #[test]
    fn a_rule_is_told_as_ip_rule_does() {
        let marked = rule(100, 7, vec![RuleAttribute::FwMark(0x10), RuleAttribute::Iifname("eth0".into())]);
        assert_eq!(
            (marked.text.as_str(), marked.unknown),
            ("100: from all fwmark 0x10 iif eth0 lookup 7", vec!["a mark"])
        );
        let from = rule(9, 254, vec![RuleAttribute::Source("10.1.2.0".parse().unwrap())]);
        assert_eq!((from.text.as_str(), from.unknown.len()), ("9: from 10.1.2.0/24 lookup main", 0));
    }
}
