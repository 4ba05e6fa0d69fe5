# Sums instructions by part of the kernel. Lines in order of addresses: `ADDRESS 0 FUNCTION` where a function begins, and
# `ADDRESS 1 INSTRUCTIONS` of what was executed after it.
# More lines, `  FUNCTION INSTRUCTIONS`, for those of a part that take most.
$2 == 0 { name = $3; next }
{ by[name] += $3 }
function part(name) {
    if (name ~ /\[bpf\]|^_*(bpf|htab|trie|longest_prefix|array_map|percpu_array|dev_map|lookup_nulls|xsk_map|memcmp)/) return "steering program and its maps"
    if (name ~ /\[virtio|^_*(virtqueue|vring|virtnet|virtio|vp_|detach_buf|vm_|skb|page_pool|dma_|napi|net_rx|xdp_convert|sg_|kmalloc|kfree|slab|allocate_slab|setup_object|memset)/) return "driver and what it allocates"
    if (name ~ /^_*(xsk|xp_|xdp|xskq)/) return "AF_XDP"
    if (name ~ /^_*(entry_SYSCALL|do_syscall|syscall|x64_sys|do_sys_poll|do_poll|poll|sys_(poll|sendto)|sock|datagram_poll|security_socket|aa_sk|apparmor_socket|tomoyo_socket|fdget$|fput)/) return "system calls"
    return "scheduler, timers, idling"
}
END {
    for (name in by) all[part(name)] += by[name]
    for (one in all) {
        printf "%s %.0f\n", one, all[one]
        for (name in by)
            if (part(name) == one && by[name] >= 2) printf "  %s %.0f\n", name, by[name] | "sort -k 2,2nr | head -n 30"
        close("sort -k 2,2nr | head -n 30")
    }
}
