# What the kernel complained about, what waits in it without an end, and what its CPUs do: for a command that a driver does not come
# back from. To be run in a machine.
dmesg | grep -A 15 -E 'BUG: |WARNING: .* at |Oops|blocked for more' | head -n 60
for process in /proc/[0-9]*; do
    grep -q '^State:.D' "$process/status" 2>/dev/null || continue
    echo "waits in the kernel: $(tr '\0' ' ' <"$process/cmdline")"
    head -n 12 "$process/stack"
done
dmesg -c >/dev/null
echo l >/proc/sysrq-trigger
sleep 1
dmesg | grep -vE ' (RAX|RBX|RCX|RDX|RSP|RBP|R08|R11|R14|FS|CS|CR2|DR0|DR3|Code)' | head -n 60
