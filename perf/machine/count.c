/* Counts the instructions that the guest executes: for QEMU's -plugin. The file that `out=` names begins with 64 bytes for each of 8
 * CPUs: how many in user space, then how many in the kernel, 8 bytes each. From byte 4,096 on it tells which of CPU 1 in the kernel:
 * 16 bytes a block of instructions, its address in 48 bits and how many they are in 16, then how often it was executed. */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is used of qemu-plugin.h, which distributions do not ship. */
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed)(unsigned int vcpu, void *data);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed, int flags, void *data);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
__attribute__((visibility("default"))) int qemu_plugin_version = 2;

#define BLOCKS (1 << 20)
struct block {
    uint64_t what, times;
};
static volatile uint64_t *counts; /* a cache line for each CPU */
static struct block *blocks;

static void count(unsigned int vcpu, void *instructions) { counts[(vcpu & 7) * 8] += (uintptr_t)instructions; }
static void count_kernel(unsigned int vcpu, void *instructions) { counts[(vcpu & 7) * 8 + 1] += (uintptr_t)instructions; }

static void count_block(unsigned int vcpu, void *data) {
    struct block *block = data;
    counts[(vcpu & 7) * 8 + 1] += block->what >> 48;
    if (vcpu == 1) block->times++;
}

/* Where a block is counted; nowhere when there is no room near its place. */
static struct block *place(uint64_t what) {
    uint64_t hash = what * 0x9e3779b97f4a7c15u >> 44;
    for (int tries = 0; tries < 64; tries++, hash++) {
        struct block *block = &blocks[hash % BLOCKS];
        uint64_t old = 0;
        if (__atomic_compare_exchange_n(&block->what, &old, what, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED) || old == what) return block;
    }
    return NULL;
}

static void watch(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    uint64_t address = qemu_plugin_tb_vaddr(tb), instructions = qemu_plugin_tb_n_insns(tb);
    int is_user = address >> 47 == 0;
    struct block *block = is_user ? NULL : place(instructions << 48 | (address & ((UINT64_C(1) << 48) - 1)));
    if (block)
        qemu_plugin_register_vcpu_tb_exec_cb(tb, count_block, 0, block);
    else
        qemu_plugin_register_vcpu_tb_exec_cb(tb, is_user ? count : count_kernel, 0, (void *)(uintptr_t)instructions);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    const size_t size = 4096 + BLOCKS * sizeof(struct block);
    for (int n = 0; n < argc; n++)
        if (strncmp(argv[n], "out=", 4) == 0) {
            int file = open(argv[n] + 4, O_RDWR | O_CREAT | O_TRUNC, 0644);
            if (file < 0 || ftruncate(file, size) != 0) return -1;
            counts = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            if (counts == MAP_FAILED) return -1;
            blocks = (struct block *)((char *)counts + 4096);
        }
    if (!counts) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, watch);
    return 0;
}
