# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""The mutations: each breaks one thing, and each of its tests must fail for it.

An edit names a file and replaces a text that stands there exactly once; one that no
longer does is an error, so that a mutation cannot fall silent when its code moves on.
"""


class Mutant:
    def __init__(self, name, breaks, edits, tests):
        self.name = name
        self.breaks = breaks  # what the mutation does, for people
        self.edits = edits  # (file, old, new)
        self.tests = tests  # names of ctest; each is to fail


MUTANTS = [
    Mutant(
        "recall-forget",
        "a recall leaves the entries of on-demand regions as they are",
        [("libodp/watch/recall_act.c",
          "\t\treturn act_forget(a);\n",
          "\t\treturn 0 * act_forget(&(struct act){.node = a->node, .mr = a->mr});\n")],
        ["unit/recall"]),
    Mutant(
        "recall-fence",
        "a recall waits for no transfer that is under way",
        [("libodp/watch/recall.c",
          "rc->stuck += !odp_fence_peer(w->proc, peer->slot, true);",
          "")],
        ["unit/recall"]),
    Mutant(
        "guard",
        "between the look at the gate and the system call a thread may be stopped",
        [("libodp/base/guard.h", "#define ODP_HAVE_GUARD 1", "#undef ODP_HAVE_GUARD"),
         ("libodp/base/guard.h", "\treturn false;\n", "\treturn true;\n")],
        ["unit/guard"]),
    Mutant(
        "unmap-odp",
        "munmap leaves the entries of on-demand regions valid",
        [("libodp/pool/invalidate.c",
          "void odp_inv_unmap(struct odp_mem *m, uint64_t start, uint64_t end, bool fenced)\n{\n",
          "void odp_inv_unmap(struct odp_mem *m, uint64_t start, uint64_t end, bool fenced)\n{\n"
          "\tif (m)\n\t\treturn;\n")],
        ["unit/mem_race"]),
    Mutant(
        "peer-alive",
        "the death of a peer goes unnoticed",
        [("libodp/peer/peer.c",
          "\treturn !atomic_load_explicit(&peer->dead, memory_order_acquire) &&\n",
          "\treturn slot || !atomic_load_explicit(&peer->dead, memory_order_acquire) &&\n")],
        ["verbs/kill"]),
    Mutant(
        "revoke-fast",
        "a revoked region in the pool says so, and stays usable on the short way",
        [("libodp/pool/pool.h",
          "\t__atomic_store_n(&mr->npages, 0, __ATOMIC_RELAXED);\n",
          "")],
        ["unit/mem_limits"]),
    Mutant(
        "revoke-slow",
        "a revoked region says so, and stays usable",
        [("libodp/pool/pool.h",
          "\t__atomic_store_n(&mr->npages, 0, __ATOMIC_RELAXED);\n",
          ""),
         ("libodp/pool/entry.c",
          "odp_mr_flags(mr) & (ODP_MR_IMPLICIT | ODP_MR_REVOKED)",
          "odp_mr_flags(mr) & ODP_MR_IMPLICIT")],
        ["unit/recall", "dv/policy"]),
    Mutant(
        "revoke-peer",
        "who revokes regions of another process says how many, and does not",
        [("libodp/region/revoke.c",
          "\t\todp_mr_revoke(mr);\n",
          "")],
        ["unit/mem_limits", "dv/unplug"]),
    Mutant(
        "revoke-dmabuf",
        "a dma-buf that its exporter has revoked stays where it is",
        [("providers/uodp/verbs/dm_export.c",
          "\t\tret = ftruncate(ret, 0) ? -errno : 0;\n",
          "\t\tret = 0;\n")],
        ["dv/dmabuf"]),
    Mutant(
        "foreign-wait",
        "a page of the program's own userfaultfd is a failed fault",
        [("libodp/backing/foreign.c",
          "\tif (!page_put(shm, page, key, now))\n",
          "\tif (page)\n\t\treturn -EFAULT;\n\tif (!page_put(shm, page, key, now))\n")],
        ["unit/foreign"]),
    Mutant(
        "foreign-order",
        "one thread asks the program's userfaultfd, page after page",
        [("libodp/backing/foreign.c",
          "\t\t\tfollower_start(m);\n",
          "\t\t\tif (!m)\n\t\t\t\tfollower_start(m);\n")],
        ["unit/foreign"]),
    Mutant(
        "faultq-invalid",
        "the end of a fault queue leaves its faults open",
        [("libodp/faultq/faultq.c",
          "\t\tqueue_detach_all(q);\n\t\tq->server->close(q->server);\n",
          "\t\tq->server->close(q->server);\n")],
        ["unit/faultq"]),
    Mutant(
        "unmapped-crash",
        "a program ends by a signal that no fault of its own explains",
        [("tests/abuse/abuse.c",
          "\town_fault_from_here();\n\twhile (n--)",
          "\tabort();\n\town_fault_from_here();\n\twhile (n--)")],
        ["abuse"]),
    Mutant(
        "fork-ranges",
        "a child has no copy of registered memory",
        [("libodp/top/fork.c",
          "\tfor (size_t i = 0; i < ranges_count; i++) {\n",
          "\tfor (size_t i = 0; i < 0 * ranges_count; i++) {\n")],
        ["verbs/children", "verbs/fork"]),
    Mutant(
        "fork-handler",
        "_Fork() in a signal handler waits for the lock of the thread below it",
        [("libodp/top/open.c", "PTHREAD_MUTEX_ERRORCHECK", "PTHREAD_MUTEX_NORMAL")],
        ["verbs/children"]),
    Mutant(
        "mremap-pieces",
        "a mapping of which a part was registered cannot be moved",
        [("providers/uodp/preload/change.c",
          "\tif (msync(p.old, p.old_len, MS_ASYNC)) {\n",
          "\tif (p.old) {\n")],
        ["verbs/said"]),
    Mutant(
        "remove-pool",
        "MADV_REMOVE takes registered private memory for shared memory",
        [("providers/uodp/preload/protect.c",
          "\t\treturn remove_parts(proc, addr, pages);\n",
          "\t\treturn proc ? uodp_madvise_remove(proc, addr, pages, madvise_next)\n"
          "\t\t\t    : remove_parts(proc, addr, pages);\n")],
        ["verbs/said"]),
    Mutant(
        "lock-patience",
        "work requests wait for the lock of a stopped process as long as it takes",
        [("providers/uodp/queue.h",
          "#define UODP_PATIENCE_NS 1000000u",
          "#define UODP_PATIENCE_NS UINT64_MAX")],
        ["unit/stuck"]),
    Mutant(
        "entry-scribbled",
        "what an entry names is taken for a frame of the pool",
        [("libodp/region/region.c",
          "\t\tif (!ext)\n\t\t\tcontinue;\n",
          "")],
        ["unit/part"]),
]
