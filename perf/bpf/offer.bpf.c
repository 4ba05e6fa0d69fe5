// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The load generator's program: makes one frame of a mix each time it runs, and sends it by an interface. BPF_PROG_RUN
// with live frames runs it, once for each frame of a pool that the kernel recycles; so every header is written anew.
//
// A frame is what `Mix::write` of traffic.rs writes for the same flow, size and stamp, byte for byte; a test compares
// them. Behind the stamp all is 0, which the kernel's pool was filled with and nobody changes.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETHERNET 14
// As in traffic.rs.
#define PORTS_A_CLIENT 16384
#define FIRST_PORT 16384
#define STAMP 16
#define MAGIC 0x5257ULL
#define SYN 0x02
#define PSH_ACK 0x18
// A generator that is later than this does not catch up: it would send a burst.
#define LATE (1000000ULL << 8)

// What to send and what was sent. The same layout as in live_frames.rs.
struct plan {
	__u64 packets;
	__u64 bytes;
	__u64 stamped;
	__u64 first; // nanoseconds of the first frame, and of the last
	__u64 last;
	__u64 end; // no frame from then on
	__u64 next; // no frame before, in 1/256 ns
	__u64 interval; // between frames, in 1/256 ns; 0 for none
	__u32 flows; // 0: send probes
	__u32 sizes_used;
	__u32 out;
	__u32 is_v6;
	__u32 is_tcp;
	__u32 client; // the last 32 bits of the first client's address, host byte order
	__u32 ip_sum; // of the IPv4 header, without length and source
	__u32 l4_sum; // of pseudo-header and header, without lengths, source and TCP flags
	__u32 sizes[16];
	__u8 header[80];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} plans SEC(".maps");

// Which TCP flows have sent their SYN.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8);
} opened SEC(".maps");

static __always_inline __u32 below(__u32 bound)
{
	return ((__u64)bpf_get_prandom_u32() * bound) >> 32;
}

static __always_inline __u64 words(__u64 value)
{
	return (value >> 48) + (value >> 32 & 0xffff) + (value >> 16 & 0xffff) + (value & 0xffff);
}

static __always_inline __u16 checksum(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return bpf_htons(~sum);
}

static __always_inline int fill(struct xdp_md *ctx, struct plan *plan, __u32 flow, __u32 size, __u64 now, int is_v6,
				int is_tcp)
{
	const int ip = ETHERNET, l4 = ip + (is_v6 ? 40 : 20), payload = l4 + (is_tcp ? 20 : 8);
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + payload > end)
		return XDP_ABORTED;
	__builtin_memcpy(data, plan->header, payload);

	__u32 client = plan->client + flow / PORTS_A_CLIENT;
	__u16 port = FIRST_PORT + flow % PORTS_A_CLIENT;
	__u32 length = size - l4;
	__u64 sum = (__u64)plan->l4_sum + (client >> 16) + (client & 0xffff) + port + length;

	*(__be32 *)(data + ip + (is_v6 ? 20 : 12)) = bpf_htonl(client);
	if (is_v6) {
		*(__be16 *)(data + ip + 4) = bpf_htons(length);
	} else {
		__u64 ip_sum = (__u64)plan->ip_sum + (client >> 16) + (client & 0xffff) + (size - ip);

		*(__be16 *)(data + ip + 2) = bpf_htons(size - ip);
		*(__be16 *)(data + ip + 10) = checksum(ip_sum);
	}

	*(__be16 *)(data + l4) = bpf_htons(port);
	if (is_tcp) {
		__u8 *seen = bpf_map_lookup_elem(&opened, &flow);
		__u8 flags = seen && !*seen ? SYN : PSH_ACK;

		if (seen)
			*seen = 1;
		*(__u8 *)(data + l4 + 13) = flags;
		sum += flags;
	} else {
		*(__be16 *)(data + l4 + 4) = bpf_htons(length);
		sum += length;
	}

	if (data + payload + STAMP <= end) {
		__u64 number = MAGIC << 48 | (plan->stamped & 0xffffffffffffULL);
		__be64 *stamp = data + payload;

		// Halves are 2-byte aligned only; XDP programs may write so.
		stamp[0] = bpf_cpu_to_be64(number);
		stamp[1] = bpf_cpu_to_be64(now);
		sum += words(number) + words(now);
		plan->stamped++;
	} else {
		// Part of an earlier stamp.
#pragma unroll
		for (int place = payload; place < payload + STAMP - 1; place++)
			if (data + place + 1 <= end)
				*(__u8 *)(data + place) = 0;
	}

	if (is_tcp) {
		*(__be16 *)(data + l4 + 16) = checksum(sum);
	} else if (is_v6) {
		__be16 value = checksum(sum);

		*(__be16 *)(data + l4 + 6) = value ? value : 0xffff;
	}
	plan->packets++;
	plan->bytes += size;
	if (!plan->first)
		plan->first = now;
	plan->last = now;
	return bpf_redirect(plan->out, 0);
}

SEC("xdp")
int offer(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct plan *plan = bpf_map_lookup_elem(&plans, &zero);

	if (!plan)
		return XDP_ABORTED;

	if (!plan->flows)
		return bpf_redirect(plan->out, 0); // a probe, sent as it is

	__u64 now = bpf_ktime_get_ns();

	if (now >= plan->end)
		return XDP_DROP;
	if (plan->interval) {
		__u64 at = now << 8;

		if (at < plan->next)
			return XDP_DROP;
		plan->next = (at - plan->next > LATE ? at : plan->next) + plan->interval;
	}

	__u32 flow = below(plan->flows);
	__u32 size = plan->sizes[below(plan->sizes_used) & 15];
	int more = (int)size - (int)(ctx->data_end - ctx->data);

	if (more && bpf_xdp_adjust_tail(ctx, more))
		return XDP_ABORTED;
	if (plan->is_v6)
		return plan->is_tcp ? fill(ctx, plan, flow, size, now, 1, 1) : fill(ctx, plan, flow, size, now, 1, 0);
	return plan->is_tcp ? fill(ctx, plan, flow, size, now, 0, 1) : fill(ctx, plan, flow, size, now, 0, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
