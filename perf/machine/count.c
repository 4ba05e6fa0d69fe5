/* Counts the instructions that the guest executes in user space: for QEMU's -plugin. The sum stands in the file that `out=` names. */
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

static volatile uint64_t *counts; /* a cache line for each CPU */

static void count(unsigned int vcpu, void *instructions) { counts[(vcpu & 7) * 8] += (uintptr_t)instructions; }

static void watch(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    if (qemu_plugin_tb_vaddr(tb) >> 47 == 0)
        qemu_plugin_register_vcpu_tb_exec_cb(tb, count, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    for (int n = 0; n < argc; n++)
        if (strncmp(argv[n], "out=", 4) == 0) {
            int file = open(argv[n] + 4, O_RDWR | O_CREAT | O_TRUNC, 0644);
            if (file < 0 || ftruncate(file, 4096) != 0) return -1;
            counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            if (counts == MAP_FAILED) return -1;
        }
    if (!counts) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, watch);
    return 0;
}
