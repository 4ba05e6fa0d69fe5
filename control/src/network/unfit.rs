//! Links that Ringway cannot be attached to, why that is, and what to do instead.
//!
//! An AF_XDP socket sends whole Ethernet frames, and the kernel knows of them nothing but their bytes. A tunnel without
//! Ethernet headers (ipip, sit, gre, wireguard) takes only packets whose protocol the kernel has noted, and drops the rest;
//! a tunnel in external mode takes only those to which a route or a BPF program has added where they go.

use std::io;

use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoGeneve, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// What to do about tunnels of pod networks.
const REMEDY: &str = "have the pod network route without a tunnel, or by VXLAN, and list that device (Calico: ipipMode Never \
                      and vxlanMode Always in the IPPool, then vxlan.calico)";

/// Whether this is an Ethernet device that sends what it is given.
pub(super) fn is_fit(message: &LinkMessage) -> bool {
    why(message).is_none()
}

/// Why Ringway cannot be attached to the link that a message describes: how its name goes on, and what to do.
fn why(message: &LinkMessage) -> Option<String> {
    let header = &message.header;
    if header.flags.contains(LinkFlags::Loopback) {
        return Some("is not an Ethernet interface, so Ringway cannot be attached to it; name another one".to_owned());
    }
    let info = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => Some(info),
        _ => None,
    });
    let (mut kind, mut external) = (None, false);
    for info in info.flatten() {
        match info {
            LinkInfo::Kind(name) => kind = Some(name.to_string()),
            LinkInfo::Data(InfoData::Vxlan(all)) => external |= all.contains(&InfoVxlan::CollectMetadata(true)),
            LinkInfo::Data(InfoData::Geneve(all)) => external |= all.contains(&InfoGeneve::CollectMetadata),
            _ => {}
        }
    }
    let kind = kind.map_or_else(String::new, |kind| format!(" of kind {kind}"));
    if header.link_layer_type != LinkLayerType::Ether {
        return Some(format!(
            "is not an Ethernet interface but one{kind}, and the kernel sends no frame of an AF_XDP socket by it; {REMEDY}"
        ));
    }
    external.then(|| {
        format!(
            "is a tunnel{kind} in external mode: where a packet goes is said by BPF programs or routes, which frames of an \
             AF_XDP socket do not pass; have the pod network route without a tunnel (Cilium: routingMode native)"
        )
    })
}

/// Why Ringway cannot be attached to the link of this name in the calling thread's network namespace; `None` where it can,
/// or there is no such link, or the kernel cannot be asked.
pub fn why_not(name: &str) -> Option<String> {
    ask(name).ok().flatten().as_ref().and_then(why)
}

/// What the kernel says about a link.
fn ask(name: &str) -> io::Result<Option<LinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // The answer is there when the call that asks is back.
    socket.set_non_blocking(true)?;
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetLink(question)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    Ok(match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Some(link),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::link::InfoKind;

    fn link(layer: LinkLayerType, kind: InfoKind, data: Option<InfoData>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.link_layer_type = layer;
        let info = [LinkInfo::Kind(kind)].into_iter().chain(data.map(LinkInfo::Data)).collect();
        message.attributes = vec![LinkAttribute::LinkInfo(info)];
        message
    }

    #[test]
    fn tunnels_that_take_no_frames_are_told_by_their_kind() {
        let ether = LinkLayerType::Ether;
        let flannel = InfoData::Vxlan(vec![InfoVxlan::Id(1), InfoVxlan::CollectMetadata(false)]);
        assert_eq!(why(&link(ether, InfoKind::Vxlan, Some(flannel))), None);
        assert_eq!(why(&link(ether, InfoKind::Veth, None)), None);
        let cilium = InfoData::Vxlan(vec![InfoVxlan::Id(0), InfoVxlan::CollectMetadata(true)]);
        let told = why(&link(ether, InfoKind::Vxlan, Some(cilium))).unwrap();
        assert!(told.starts_with("is a tunnel of kind vxlan in external mode") && told.contains("Cilium"), "{told}");
        let told = why(&link(LinkLayerType::Tunnel, InfoKind::IpIp, None)).unwrap();
        assert!(told.starts_with("is not an Ethernet interface but one of kind ipip,"), "{told}");
        assert!(told.ends_with("then vxlan.calico)"), "{told}");
        assert!(!is_fit(&link(LinkLayerType::None, InfoKind::Wireguard, None)));
    }

    #[test]
    fn the_kernel_is_asked_by_name() {
        let told = why_not("lo").unwrap();
        assert!(told.starts_with("is not an Ethernet interface"), "{told}");
        assert_eq!(why_not("rwnosuch0"), None);
    }
}
