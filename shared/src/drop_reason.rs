//! The one list of drop reasons: variant, label (metric, trace, ledger) and the sentence of docs/drop-reasons.md.
//!
//! A reason is a fact about a packet, never about code.

/// Makes the enum and its tables from the one list.
macro_rules! drop_reasons {
    ($($variant:ident, $label:literal, $sentence:literal;)*) => {
        /// Why a packet was dropped, or why Ringway answered it itself instead of forwarding it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $sentence] $variant,)* }

        impl DropReason {
            /// Every reason, in the order of the list.
            pub const ALL: [DropReason; [$($label),*].len()] = [$(DropReason::$variant),*];

            /// The label in metrics, traces and ledgers.
            pub const fn label(self) -> &'static str {
                match self { $(DropReason::$variant => $label,)* }
            }

            /// One sentence for a person.
            pub const fn sentence(self) -> &'static str {
                match self { $(DropReason::$variant => $sentence,)* }
            }
        }
    };
}

drop_reasons! {
    NoEndpoint, "no_endpoint", "The Service port has no ready and no serving endpoint on any node; the client is told (TCP RST or ICMP port unreachable).";
    NoServicePort, "no_service_port", "The destination is a VIP, but no Service has this port on it; the client is told.";
    OtherProtocol, "other_protocol", "The destination is a VIP, but no Service can have the packet's protocol (it is none of TCP, UDP and SCTP, nor a ping or an ICMP error); unless it is ICMP, the sender is told (ICMP protocol unreachable).";
    NoLocalEndpoint, "no_local_endpoint", "The traffic policy is Local and no endpoint of the Service is on this node.";
    UnallocatedClusterIp, "unallocated_cluster_ip", "The destination lies in a service CIDR, but no Service has this address.";
    SourceNotAllowed, "source_not_allowed", "The client is outside the Service's loadBalancerSourceRanges.";
    EndpointDeleted, "endpoint_deleted", "The flow's endpoint or Service is gone; a TCP client gets a RST so that it reconnects at once.";
    EndpointRefused, "endpoint_refused", "The chosen endpoint has one of the node's own addresses, which Ringway does not forward to.";
    EndpointOffLink, "endpoint_off_link", "The Service's forwarding is dsr-l2, and the chosen endpoint is not on a link of this node but behind a router.";
    EndpointWayNarrow, "endpoint_way_narrow", "The Service's forwarding is dsr-ipip over IPv6, and the way to the chosen endpoint carries less than 1,320 bytes, so not every packet that a client may send (1,280) with its outer header.";
    FlowTableFull, "flow_table_full", "The worker's flow table is full of established flows, and replies to this new one would not find back.";
    SnatPortsExhausted, "snat_ports_exhausted", "No SNAT port is left towards this endpoint: each has a flow that both sides take part in, or, over UDP, one that may be answered yet.";
    NoSourceAddress, "no_source_address", "Masquerade is needed, but no attached interface has an address of this family to use as source.";
    NoRoute, "no_route", "The node has no route to the endpoint or to the client.";
    NoInterface, "no_interface", "The route to the endpoint or to the client leaves by an interface that the configuration does not list.";
    InterfaceDown, "interface_down", "The interface that the packet must leave by is down, gone, or up and not attached.";
    NeighborUnresolved, "neighbor_unresolved", "The next hop did not answer ARP or neighbour discovery within a second, or too many packets waited for it.";
    TooBig, "too_big", "The packet is larger than the MTU of the way out and must not be fragmented (IPv6, or IPv4 with DF; the sender is told), or larger than a frame holds.";
    NoFreeFrame, "no_free_frame", "The packet is larger than the MTU of the way out and may be fragmented, but the worker's packet memory had no frame free for each fragment.";
    TxRingFull, "tx_ring_full", "The transmit ring of the way out was full.";
    HandoverQueueFull, "handover_queue_full", "The packet belongs to a flow of another worker, and that worker's handover queue was full.";
    TtlExpired, "ttl_expired", "TTL or hop limit ran out here; the sender is told (time exceeded) unless it was 0 on arrival.";
    TruncatedIpv4, "truncated_ipv4", "The frame ends before the IPv4 total length, or before the end of the header.";
    InvalidIpv4Header, "invalid_ipv4_header", "The IPv4 version or header length is wrong, the total length is shorter than the header, or an option is malformed.";
    Ipv4HeaderChecksum, "ipv4_header_checksum", "The IPv4 header checksum is wrong.";
    TruncatedIpv6, "truncated_ipv6", "The frame ends before the IPv6 payload length, or inside an extension header.";
    InvalidIpv6Header, "invalid_ipv6_header", "The IPv6 version is wrong, or an extension header is malformed.";
    ExtensionChainTooLong, "extension_chain_too_long", "More than 8 IPv6 extension headers.";
    TruncatedTcp, "truncated_tcp", "The packet ends inside the TCP header.";
    InvalidTcpHeader, "invalid_tcp_header", "The TCP data offset is below 5 words or points past the end of the packet.";
    TruncatedUdp, "truncated_udp", "The packet ends inside the UDP header.";
    InvalidUdpLength, "invalid_udp_length", "The UDP length is below 8 or larger than the packet.";
    TruncatedSctp, "truncated_sctp", "The packet ends inside the SCTP common header.";
    TruncatedIcmp, "truncated_icmp", "The packet ends inside the ICMP header.";
    ImpossibleSource, "impossible_source", "The source is unspecified, loopback, multicast, broadcast, an IPv4-mapped or link-local IPv6 address, or one of the node's own addresses.";
    ReversePath, "reverse_path", "The answer would not leave by the interface that the packet came on, or there is no route for it, and the interface's rp_filter refuses such a source.";
    StrayLimited, "stray_limited", "The packet is none of ours, packets to its source leave by another interface than it came on, and as many such have passed to the kernel in this moment as may: 6,710 in 134 ms, of one source a quarter.";
    Land, "land", "Source and destination are the same address and port.";
    SourceRouted, "source_routed", "The packet carries a source route (IPv4 LSRR or SSRR, IPv6 routing type 0, or another type with segments left).";
    KernelUnreachable, "kernel_unreachable", "The packet is none of ours, but the way back to the kernel was missing or full.";
    FragmentWithoutFirst, "fragment_without_first", "A fragment for a VIP whose first fragment, the one with the ports, did not come within a second, or that others needed the room of.";
    TinyFragment, "tiny_fragment", "A first fragment that ends inside its L4 header, or a TCP fragment that begins there; all of the datagram is dropped.";
    FragmentOverlap, "fragment_overlap", "A fragment with bytes that another fragment of its datagram has; all of the datagram is dropped from then on.";
    InvalidFragment, "invalid_fragment", "A fragment beyond 65,535 bytes or beyond its datagram's end, without data, or not a multiple of 8 bytes long although others follow; all of the datagram is dropped from then on.";
    SctpFragment, "sctp_fragment", "A fragment of an SCTP packet whose ports must change: its CRC32c depends on a length that the chunks in the first fragment do not tell.";
    IcmpFragment, "icmp_fragment", "A fragment of an ICMP message to a VIP.";
    HeartbeatWithoutFlow, "heartbeat_without_flow", "An SCTP heartbeat that belongs to no flow: it tries another path of an association, whose endpoint nobody could tell from others, and any other would end the association.";
    RstWithoutFlow, "rst_without_flow", "A TCP RST that belongs to no flow.";
    IcmpWithoutFlow, "icmp_without_flow", "An ICMP error to a VIP that quotes no packet of a flow of ours, or a redirect; or one to the node about no flow of ours, and 4 of the same share (by what they quote) have passed within the last 0.1 s.";
    IcmpOutsideWindow, "icmp_outside_window", "An ICMP error about a flow of ours that quotes a TCP sequence number or an SCTP verification tag which the flow has not used lately, or none: forged, or much too late.";
    IcmpHandoverLimited, "icmp_handover_limited", "An ICMP error about another worker's flow, and this worker has handed over 4 of the same share (by what they quote) within the last 0.1 s.";
    EchoRequest, "echo_request", "An ICMP echo request to a VIP, which Ringway answers in the VIP's name.";
    EchoWithoutEndpoint, "echo_without_endpoint", "An ICMP echo request to a VIP whose Services have no endpoint or do not admit the sender.";
}

/// How many reasons there are.
pub const DROP_REASONS: usize = DropReason::ALL.len();

impl DropReason {
    /// The reason with this label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.label() == label)
    }

    /// The reason's place in [`DropReason::ALL`], for arrays of counters.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_unique_snake_case_and_sentences_end_with_a_stop() {
        let labels: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), DROP_REASONS);
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(DropReason::from_label(reason.label()), Some(reason));
            assert!(
                reason.label().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
            assert!(reason.sentence().ends_with('.'), "{}", reason.label());
        }
    }
}
