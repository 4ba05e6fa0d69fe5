// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Ringway's steering program: frames that are ours go to the queue's AF_XDP socket, all else to the kernel untouched.
//
// Ours are, in this order: packets to a VIP or into a service CIDR; packets to a frontend on one of the node's own
// addresses (NodePort); packets from an endpoint's address and port: where flows keep their source, all of them, else those
// to a SNAT address and port; packets to an endpoint under a tuple that a flow which keeps its source has there; and ICMP
// errors about a packet that a flow may have sent, to its endpoint or from a NodePort to its client, or about one with a packet
// to a VIP inside. Only frames for the MAC address of an interface that
// this device carries are looked at, untagged, with a priority's tag, which comes off, or with the one tag of a VLAN that it
// carries, and never neighbour discovery: the kernel knows its answers by the interface. The worker has the last word: what it finds to be nobody's goes back to the
// kernel.
//
// IPv4 addresses stand in the maps in their IPv4-mapped form, so an IPv6 packet with such an address passes. Ports are in
// network byte order. Of fragments only the first has them, and it may come last, so the addresses decide about all of them:
// ours are those of an address with an endpoint of their protocol, to wherever its replies are ours, and those to an address
// with a frontend of it. The latter may be the kernel's, which costs the worker a system call each, so only so many go up in
// a moment; the others pass. None that is to a VIP is among these.
//
// Sizes: 10,000 Services of 12 ports and two families fit `frontends`, 150,000 pods of 3 ports `endpoints`, and the
// addresses of both `portless`. Entries take memory when they are added; the empty tables take 18 MiB.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "packet.h"

// The bits of a tag that name the VLAN.
#define VLAN_ID 0x0fff
// Which packets of an endpoint are ours: all, or those to a SNAT address and port.
#define ALL 1
#define TO_SNAT 2
// Beside those, of an address: that it has a frontend. Each protocol has three bits.
#define FRONTEND 4
#define BITS 3
// Counters of `claims` are two a value.
#define CLAIMS_BITS 20
// A moment in which so many fragments go up: 2^24 ns, which are 17 ms.
#define WINDOW_BITS 24

// An (address, protocol, port) of either end.
struct socket_key {
	struct address address;
	__u16 port;
	__u8 protocol;
	__u8 zero;
};

struct cidr_key {
	__u32 prefix_length;
	struct address address;
};

struct queue_key {
	__u32 interface;
	__u32 queue;
};

// What carries an interface: a device, and the VLAN there; 0 where frames are untagged.
struct link_key {
	__u32 device;
	__u16 vlan; // host byte order
	__u16 zero;
};

struct tag {
	__be16 control;
	__be16 protocol;
};

struct mac {
	__u8 byte[6];
	__u16 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// (interface, queue) to index in `sockets`.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct queue_key);
	__type(value, __u32);
} queues SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct link_key);
	__type(value, struct mac);
} links SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct address);
	__type(value, __u8);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct cidr_key);
	__type(value, __u8);
} cidrs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct socket_key);
	__type(value, __u8);
} frontends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct address);
	__type(value, __u8);
} snat SEC(".maps");

// The ports of the SNAT addresses, a bit each, in host byte order.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} snat_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 524288);
	__type(key, struct socket_key);
	__type(value, __u8); // ALL or TO_SNAT
} endpoints SEC(".maps");

// What the fragments from and to an address are, by protocol.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct address);
	__type(value, __u16); // ALL, TO_SNAT, FRONTEND
} portless SEC(".maps");

struct claim_pair {
	__u32 count[2];
};

// How many flows whose source is kept have a tuple towards their endpoint, by the tuple's hash. Workers write here.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << (CLAIMS_BITS - 1));
	__type(key, __u32);
	__type(value, struct claim_pair);
} claims SEC(".maps");

// What becomes of our packets on a queue without a socket: XDP_PASS or XDP_DROP.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} without_socket SEC(".maps");

// The place of a tuple in `claims`: what `Claims::place` says in Rust.
static __always_inline __u32 claim_of(const struct packet *packet)
{
	__u64 word[5];
	__builtin_memcpy(&word[0], &packet->source, 16);
	__builtin_memcpy(&word[2], &packet->destination, 16);
	word[4] = (__u64)packet->protocol << 32 | (__u32)packet->destination_port << 16 | packet->source_port;
	__u64 hash = 0;
#pragma unroll
	for (int i = 0; i < 5; i++) {
		hash = (hash ^ word[i]) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 32;
	}
	return hash >> (64 - CLAIMS_BITS);
}

static __always_inline int is_claimed(const struct packet *packet)
{
	__u32 claim = claim_of(packet);
	__u32 place = claim >> 1;
	struct claim_pair *pair = bpf_map_lookup_elem(&claims, &place);
	return pair && pair->count[claim & 1];
}

// Whether flows get this address and port when their source is rewritten.
static __always_inline int is_snat(const struct address *address, __u16 port)
{
	__u32 host = bpf_ntohs(port);
	__u32 place = host / 64;
	__u64 *ports = bpf_map_lookup_elem(&snat_ports, &place);
	return ports && (*ports >> (host % 64) & 1) && bpf_map_lookup_elem(&snat, address);
}

// Whether a packet may be one that a flow sent: to its endpoint, also inside another one, or from a frontend to its client.
static __always_inline int is_of_flow(const struct packet *packet)
{
	if (packet->is_inside)
		return !!bpf_map_lookup_elem(&vips, &packet->destination);
	if (!packet->has_ports)
		return 0;
	struct socket_key source = {
		.address = packet->source,
		.port = packet->source_port,
		.protocol = packet->protocol,
	};
	if (bpf_map_lookup_elem(&frontends, &source))
		return 1;
	struct socket_key key = {
		.address = packet->destination,
		.port = packet->destination_port,
		.protocol = packet->protocol,
	};
	int is_from_snat = is_snat(&packet->source, packet->source_port);
	return (is_from_snat || is_claimed(packet)) && bpf_map_lookup_elem(&endpoints, &key);
}

// Sources of fragments are told apart by so many shares.
#define SHARES 64

// Fragments to the node's own addresses on one CPU. Userspace sets `most` and reads `left`.
struct budget {
	__u64 window;
	__u64 used;
	__u64 left; // to the kernel
	__u64 most;
	__u64 secret; // 0: not thrown yet
	__u16 of[SHARES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} fragments SEC(".maps");

// Whether one more fragment from this source to the node's own addresses goes up in this moment. Half of the room is anybody's,
// the other half is divided into shares by a hash of the source under a secret: who sends from few addresses takes half at most.
// Of IPv6 the hash has the network alone: a host has as many addresses as it wants.
static __always_inline int has_budget(const struct address *source)
{
	__u32 zero = 0;
	struct budget *budget = bpf_map_lookup_elem(&fragments, &zero);
	if (!budget)
		return 0;
	__u64 window = bpf_ktime_get_ns() >> WINDOW_BITS;
	if (budget->window != window) {
		budget->window = window;
		budget->used = 0;
		__builtin_memset(budget->of, 0, sizeof(budget->of));
	}
	if (!budget->secret)
		budget->secret = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32() | 1;
	__u64 hash = ((__u64)source->word[0] << 32 | source->word[1]) ^ budget->secret;
	hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL;
	if (!(source->word[0] | source->word[1])) {
		hash ^= ((__u64)source->word[2] << 32 | source->word[3]) + (budget->secret >> 7);
		hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL;
	}
	__u16 *of = &budget->of[hash >> 58];
	__u64 half = budget->most / 2;
	if (budget->used >= budget->most || (budget->used >= half && *of >= (half + SHARES - 1) / SHARES)) {
		budget->left++;
		return 0;
	}
	budget->used++;
	if (*of < 0xffff)
		(*of)++;
	return 1;
}

// Whether a fragment may be of a packet that is ours, and goes up.
static __always_inline int may_be_ours(const struct packet *packet)
{
	__u32 shift = packet->protocol == IPPROTO_TCP ? 0 : packet->protocol == IPPROTO_UDP ? BITS : 2 * BITS;
	__u16 *from = bpf_map_lookup_elem(&portless, &packet->source);
	__u32 which = from ? *from >> shift : 0;
	if ((which & ALL) || ((which & TO_SNAT) && bpf_map_lookup_elem(&snat, &packet->destination)))
		return 1;
	__u16 *to = bpf_map_lookup_elem(&portless, &packet->destination);
	return to && (*to >> shift & FRONTEND) && has_budget(&packet->source);
}

static __always_inline int is_ours(const struct packet *packet)
{
	if (bpf_map_lookup_elem(&vips, &packet->destination))
		return 1;
	struct cidr_key cidr = { .prefix_length = 128, .address = packet->destination };
	if (bpf_map_lookup_elem(&cidrs, &cidr))
		return 1;
	if (packet->is_fragment)
		return may_be_ours(packet);
	if (!packet->has_ports)
		return 0;
	struct socket_key key = {
		.address = packet->destination,
		.port = packet->destination_port,
		.protocol = packet->protocol,
	};
	if (bpf_map_lookup_elem(&frontends, &key))
		return 1;
	// Few packets of those that get here are under a claimed tuple, so that is asked first.
	if (is_claimed(packet) && bpf_map_lookup_elem(&endpoints, &key))
		return 1;
	key.address = packet->source;
	key.port = packet->source_port;
	__u8 *which = bpf_map_lookup_elem(&endpoints, &key);
	return which && (*which == ALL || is_snat(&packet->destination, packet->destination_port));
}

// Takes the tag off a frame; nothing that was known of where it lies is so afterwards.
static __always_inline int without_tag(struct xdp_md *context)
{
	__u8 *data = (__u8 *)(long)context->data;
	__u8 *end = (__u8 *)(long)context->data_end;
	if (data + sizeof(struct ethhdr) + sizeof(struct tag) > end)
		return 0;
	__u8 addresses[2 * ETH_ALEN];
	__builtin_memcpy(addresses, data, sizeof(addresses));
	__builtin_memcpy(data + sizeof(struct tag), addresses, sizeof(addresses));
	return !bpf_xdp_adjust_head(context, sizeof(struct tag));
}

SEC("xdp")
int steer(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = data;
	if ((void *)(ethernet + 1) > end)
		return XDP_PASS;
	__u32 interface = context->ingress_ifindex;
	struct link_key link = { .device = interface };
	__be16 protocol = ethernet->h_proto;
	void *l3 = ethernet + 1;
	int is_priority = 0;
	if (protocol == bpf_htons(ETH_P_8021Q)) {
		struct tag *tag = l3;
		if ((void *)(tag + 1) > end)
			return XDP_PASS;
		link.vlan = bpf_ntohs(tag->control) & VLAN_ID;
		// Only a priority: the frame is as good as untagged, as the kernel takes it.
		is_priority = !link.vlan;
		// A second tag is no IP, so such a frame passes below.
		protocol = tag->protocol;
		l3 = tag + 1;
	}
	struct mac *mac = bpf_map_lookup_elem(&links, &link);
	if (!mac)
		return XDP_PASS;
#pragma unroll
	for (int i = 0; i < 6; i++)
		if (ethernet->h_dest[i] != mac->byte[i])
			return XDP_PASS;
	struct packet packet = {}, quoted = {};
	int is_ip = 0;
	if (protocol == bpf_htons(ETH_P_IP))
		is_ip = read_ipv4(&packet, &quoted, l3, end);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		is_ip = read_ipv6(&packet, &quoted, l3, data, end);
	if (!is_ip || !(is_ours(&packet) || is_of_flow(&quoted)))
		return XDP_PASS;
	__u32 zero = 0;
	__u32 *fallback = bpf_map_lookup_elem(&without_socket, &zero);
	__u32 action = fallback && *fallback == XDP_DROP ? XDP_DROP : XDP_PASS;
	struct queue_key queue = { .interface = interface, .queue = context->rx_queue_index };
	__u32 *socket = bpf_map_lookup_elem(&queues, &queue);
	if (!socket)
		return action;
	if (is_priority && !without_tag(context))
		return XDP_PASS;
	return bpf_redirect_map(&sockets, *socket, action);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
