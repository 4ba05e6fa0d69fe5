// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What the steering program reads of a packet: addresses, protocol and ports, and the same of one that an ICMP error quotes.
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SCTP 132
// Types of ICMPv6: router solicitation to redirect.
#define ND_FIRST 133
#define ND_LAST 137
#define EXTENSIONS 8
// Errors that say that a packet does not arrive, and where the packet stands that they quote.
#define IPV4_UNREACHABLE 3
#define IPV6_UNREACHABLE 1
#define ICMP_HEADER 8
// More fragments, or an offset.
#define IPV4_FRAGMENT 0x3fff
#define IPV4_OFFSET 0x1fff
#define IPV6_FRAGMENT 0xfff9

struct address {
	__u32 word[4];
};

// What the headers say, as far as the decision needs it.
struct packet {
	struct address source;
	struct address destination;
	__u8 protocol;
	__u8 has_ports;
	__u16 source_port;
	__u16 destination_port;
};

// Ports, when there are some and they can be read.
static __always_inline void read_ports(struct packet *packet, void *l4, void *end)
{
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP && packet->protocol != SCTP)
		return;
	__u16 *ports = l4;
	if ((void *)(ports + 2) > end)
		return;
	packet->source_port = ports[0];
	packet->destination_port = ports[1];
	packet->has_ports = 1;
}

// The packet that an IPv4 error quotes; without ports when it is none of use. One without options is what we send.
static __always_inline void quote_ipv4(struct packet *quoted, void *l4, void *end)
{
	__u8 *type = l4;
	struct iphdr *ip = l4 + ICMP_HEADER;
	if ((void *)(ip + 1) > end || *type != IPV4_UNREACHABLE)
		return;
	if (ip->version != 4 || ip->ihl != 5 || (ip->frag_off & bpf_htons(IPV4_OFFSET)))
		return;
	quoted->source.word[2] = quoted->destination.word[2] = bpf_htonl(0xffff);
	quoted->source.word[3] = ip->saddr;
	quoted->destination.word[3] = ip->daddr;
	quoted->protocol = ip->protocol;
	read_ports(quoted, ip + 1, end);
}

// The same of IPv6, without extension headers.
static __always_inline void quote_ipv6(struct packet *quoted, void *l4, void *end)
{
	__u8 *type = l4;
	struct ipv6hdr *ip = l4 + ICMP_HEADER;
	if ((void *)(ip + 1) > end || *type != IPV6_UNREACHABLE)
		return;
	__builtin_memcpy(&quoted->source, &ip->saddr, sizeof(quoted->source));
	__builtin_memcpy(&quoted->destination, &ip->daddr, sizeof(quoted->destination));
	quoted->protocol = ip->nexthdr;
	read_ports(quoted, ip + 1, end);
}

static __always_inline int read_ipv4(struct packet *packet, struct packet *quoted, void *l3, void *end)
{
	struct iphdr *ip = l3;
	if ((void *)(ip + 1) > end)
		return 0;
	packet->source.word[2] = packet->destination.word[2] = bpf_htonl(0xffff);
	packet->source.word[3] = ip->saddr;
	packet->destination.word[3] = ip->daddr;
	packet->protocol = ip->protocol;
	__u32 length = ip->ihl * 4;
	// A broken header has no ports to trust; by its VIP the packet may still be ours to drop.
	if (length < sizeof(*ip) || (ip->frag_off & bpf_htons(IPV4_FRAGMENT)))
		return 1;
	if (ip->protocol == IPPROTO_ICMP)
		quote_ipv4(quoted, l3 + length, end);
	else
		read_ports(packet, l3 + length, end);
	return 1;
}

static __always_inline int is_mapped(const struct address *address)
{
	return !address->word[0] && !address->word[1] && address->word[2] == bpf_htonl(0xffff);
}

static __always_inline int read_ipv6(struct packet *packet, struct packet *quoted, void *l3, void *end)
{
	struct ipv6hdr *ip = l3;
	if ((void *)(ip + 1) > end)
		return 0;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
	if (is_mapped(&packet->source) || is_mapped(&packet->destination))
		return 0;
	__u8 next = ip->nexthdr;
	void *at = ip + 1;
#pragma unroll
	for (int i = 0; i <= EXTENSIONS; i++) {
		packet->protocol = next;
		__u8 *header = at;
		if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS) {
			if ((void *)(header + 8) > end)
				return 1;
			next = header[0];
			at += (header[1] + 1) * 8;
		} else if (next == IPPROTO_FRAGMENT) {
			if ((void *)(header + 8) > end)
				return 1;
			// A fragment header on a whole packet is legal.
			if (*(__u16 *)(header + 2) & bpf_htons(IPV6_FRAGMENT))
				return 1;
			next = header[0];
			at += 8;
		} else {
			if (next == IPPROTO_ICMPV6 && (void *)(header + 1) <= end &&
			    header[0] >= ND_FIRST && header[0] <= ND_LAST)
				return 0;
			break;
		}
	}
	if (packet->protocol == IPPROTO_ICMPV6)
		quote_ipv6(quoted, at, end);
	else
		read_ports(packet, at, end);
	return 1;
}
