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
// From this type on ICMPv6 messages are no errors; where the packet stands that an error quotes.
#define IPV6_INFORMATION 128
#define ICMP_HEADER 8
// More fragments, or an offset.
#define IPV4_FRAGMENT 0x3fff
#define IPV4_OFFSET 0x1fff
#define IPV6_FRAGMENT 0xfff9
#define IPV6_OFFSET 0xfff8
// How far into a frame an extension header is looked for: more than a frame holds.
#define FARTHEST 0x3fff

struct address {
	__u32 word[4];
};

// What the headers say, as far as the decision needs it.
struct packet {
	struct address source;
	struct address destination;
	__u8 protocol;
	__u8 has_ports;
	// Of a packet that has ports, which only the first fragment shows.
	__u8 is_fragment;
	// Of a quoted one: it is inside another one, which is what was quoted first. Then its destination alone is known.
	__u8 is_inside;
	__u16 source_port;
	__u16 destination_port;
};

static __always_inline int protocol_has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == SCTP;
}

// Ports, when there are some and they can be read.
static __always_inline void read_ports(struct packet *packet, void *l4, void *end)
{
	if (!protocol_has_ports(packet->protocol))
		return;
	__u16 *ports = l4;
	if ((void *)(ports + 2) > end)
		return;
	packet->source_port = ports[0];
	packet->destination_port = ports[1];
	packet->has_ports = 1;
}

// Whether a message is an error, which quotes a packet. A redirect is for the kernel.
static __always_inline int is_error_ipv4(__u8 type)
{
	return type == 3 || type == 4 || type == 11 || type == 12;
}

// Neighbours' messages have types of their own, far above.
static __always_inline int is_error_ipv6(__u8 type)
{
	return type < IPV6_INFORMATION;
}

// The destination of a packet that is the payload of a quoted one; each is of either family.
static __always_inline void quote_inside(struct packet *quoted, void *at, void *end)
{
	if (quoted->protocol == IPPROTO_IPIP) {
		struct iphdr *ip = at;
		if ((void *)(ip + 1) > end)
			return;
		quoted->destination.word[0] = quoted->destination.word[1] = 0;
		quoted->destination.word[2] = bpf_htonl(0xffff);
		quoted->destination.word[3] = ip->daddr;
		quoted->is_inside = 1;
	} else if (quoted->protocol == IPPROTO_IPV6) {
		struct ipv6hdr *ip = at;
		if ((void *)(ip + 1) > end)
			return;
		__builtin_memcpy(&quoted->destination, &ip->daddr, sizeof(quoted->destination));
		quoted->is_inside = 1;
	}
}

// The packet that an IPv4 error quotes; without ports when it is none of use.
static __always_inline void quote_ipv4(struct packet *quoted, void *l4, void *end)
{
	__u8 *type = l4;
	struct iphdr *ip = l4 + ICMP_HEADER;
	if ((void *)(ip + 1) > end || !is_error_ipv4(*type))
		return;
	__u32 length = ip->ihl * 4;
	if (ip->version != 4 || length < sizeof(*ip) || (ip->frag_off & bpf_htons(IPV4_OFFSET)))
		return;
	quoted->source.word[2] = quoted->destination.word[2] = bpf_htonl(0xffff);
	quoted->source.word[3] = ip->saddr;
	quoted->destination.word[3] = ip->daddr;
	quoted->protocol = ip->protocol;
	read_ports(quoted, (void *)ip + length, end);
	quote_inside(quoted, (void *)ip + length, end);
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
	if (length < sizeof(*ip))
		return 1;
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT)) {
		packet->is_fragment = protocol_has_ports(ip->protocol);
		return 1;
	}
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

// Follows the extension headers that begin at `at`: where L4 begins, and its protocol. Nothing, with the number of the
// extension header that is there, when the packet ends before, has too many, or a second fragment header (RFC 8200 4.1). Nothing,
// with the number that stands in the fragment header, when it is a fragment (with `first` a later one only).
static __always_inline void *follow(__u8 *protocol, void *at, void *start, void *end, int first)
{
	__u8 next = *protocol;
	int seen = 0;
#pragma unroll
	for (int i = 0; i <= EXTENSIONS; i++) {
		*protocol = next;
		__u8 *header = at;
		if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS) {
			if ((void *)(header + 8) > end)
				return 0;
			next = header[0];
			at += (header[1] + 1) * 8;
		} else if (next == IPPROTO_FRAGMENT) {
			if ((void *)(header + 8) > end || seen)
				return 0;
			seen = 1;
			// A fragment header on a whole packet is legal.
			if (*(__u16 *)(header + 2) & bpf_htons(first ? IPV6_OFFSET : IPV6_FRAGMENT)) {
				*protocol = header[0];
				return 0;
			}
			next = header[0];
			at += 8;
		} else {
			return at;
		}
		// However the headers were, the verifier goes on with an offset that it knows nothing of but this, so it does not
		// look at every chain.
		asm volatile("" : "+r"(at));
		__u64 offset = at - start;
		if (offset > FARTHEST)
			return 0;
		at = start + offset;
	}
	return 0;
}

// The packet that an IPv6 error quotes.
static __always_inline void quote_ipv6(struct packet *quoted, void *l4, void *start, void *end)
{
	__u8 *type = l4;
	struct ipv6hdr *ip = l4 + ICMP_HEADER;
	if ((void *)(ip + 1) > end || !is_error_ipv6(*type))
		return;
	__builtin_memcpy(&quoted->source, &ip->saddr, sizeof(quoted->source));
	__builtin_memcpy(&quoted->destination, &ip->daddr, sizeof(quoted->destination));
	if (ip->version != 6 || is_mapped(&quoted->source) || is_mapped(&quoted->destination))
		return;
	quoted->protocol = ip->nexthdr;
	void *at = follow(&quoted->protocol, ip + 1, start, end, 1);
	if (!at)
		return;
	read_ports(quoted, at, end);
	quote_inside(quoted, at, end);
}

static __always_inline int read_ipv6(struct packet *packet, struct packet *quoted, void *l3, void *start, void *end)
{
	struct ipv6hdr *ip = l3;
	if ((void *)(ip + 1) > end)
		return 0;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
	if (is_mapped(&packet->source) || is_mapped(&packet->destination))
		return 0;
	packet->protocol = ip->nexthdr;
	__u8 *l4 = follow(&packet->protocol, ip + 1, start, end, 0);
	// By its VIP the packet may still be ours to drop.
	if (!l4) {
		packet->is_fragment = protocol_has_ports(packet->protocol);
		return 1;
	}
	if (packet->protocol != IPPROTO_ICMPV6) {
		read_ports(packet, l4, end);
		return 1;
	}
	if ((void *)(l4 + 1) <= end && l4[0] >= ND_FIRST && l4[0] <= ND_LAST)
		return 0;
	quote_ipv6(quoted, l4, start, end);
	return 1;
}
