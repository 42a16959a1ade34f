/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Direct verbs of uodp: what its devices can do that the verbs have no words for.
 *
 * Link with -luodp (pkg-config libuodp), or look the functions up with dlsym()
 * under uodprun; it is the same library either way. Functions that return int
 * give 0 or a positive errno; EOPNOTSUPP for objects of other devices. INLEN is
 * sizeof() of the structure that ATTR points to, as the caller knows it.
 */
#ifndef INFINIBAND_UODPDV_H
#define INFINIBAND_UODPDV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/types.h>

#include <infiniband/verbs.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Is DEVICE one of uodp's? */
bool uodpdv_is_supported(struct ibv_device *device);

/* ---- Memory regions ---- */

/* Where the bytes of a region are kept; AUTO is what $UODP_BACKING says. */
enum uodpdv_backing {
	UODPDV_BACKING_AUTO,
	UODPDV_BACKING_POOL, /* frames that every process maps */
	UODPDV_BACKING_VA,   /* the owner's address space */
	UODPDV_BACKING_PIN,  /* pages pinned through io_uring, or held by pipes */
	UODPDV_BACKING_FD,   /* what a dma-buf's descriptor maps; told, not asked for */
};

/*
 * What becomes of a region when the blocks of a file under it go away, in order of
 * strictness (uodp(7), "Files that shrink"). The strictest of those that are named
 * for a region counts: here, in $UODP_POLICY, by the file system.
 */
enum uodpdv_policy {
	UODPDV_POLICY_DEFAULT, /* names none: ODP or PINNED, by the kind of the region */
	UODPDV_POLICY_ODP,     /* follows the file */
	UODPDV_POLICY_PINNED,  /* goes on with copies of the old pages */
	UODPDV_POLICY_SCRATCH, /* goes on outside the file; what is written is lost */
	UODPDV_POLICY_REVOKE,  /* accesses fail until it is deregistered */
	UODPDV_POLICY_LEASE,   /* its owner is told and has time to deregister; then REVOKE */
	UODPDV_POLICY_KILL,    /* as LEASE, with SIGKILL at the end */
	UODPDV_POLICY_DENY,    /* the truncate fails with ETXTBSY */
};

enum uodpdv_mr_init_attr_mask {
	UODPDV_MR_INIT_ATTR_IOVA = 1 << 0,
	UODPDV_MR_INIT_ATTR_POLICY = 1 << 1,
	UODPDV_MR_INIT_ATTR_LEASE = 1 << 2,
	UODPDV_MR_INIT_ATTR_NOTIFY = 1 << 3, /* no field: UODPDV_EVENT_MR_PARTED is wanted */
};

struct uodpdv_mr_init_attr {
	uint64_t comp_mask; /* enum uodpdv_mr_init_attr_mask */
	uint32_t backing;   /* enum uodpdv_backing */
	uint32_t reserved;  /* 0 */
	uint64_t iova;      /* else ADDR */
	uint32_t policy;    /* enum uodpdv_policy */
	uint32_t lease_ms;  /* the lease-break time in milliseconds, else $UODP_LEASE_MS, the
			     * file system's, /proc/sys/fs/lease-break-time */
};

/* As ibv_reg_mr(3), with a choice of the backing and the policy. NULL with errno,
 * which is EOPNOTSUPP too when the memory cannot have that backing, or when nobody
 * can hold a truncate of the file up as the policy needs it. */
struct ibv_mr *uodpdv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access,
			     const struct uodpdv_mr_init_attr *attr, uint32_t inlen);

/*
 * How an on-demand MR hears that pages of it go, for what hangs on faults: statistics,
 * latency, failure, fault queues (uodp(7), "What an MR sees"). 0: pinned, or of a dma-buf.
 */
enum uodpdv_seen {
	UODPDV_SEEN_KERNEL = 1 << 0, /* the kernel tells, whoever does it */
	UODPDV_SEEN_CALLS = 1 << 1,  /* the program's calls through the C library tell */
	UODPDV_SEEN_ACCESS = 1 << 2, /* the next access finds it, if the program has not
				      * touched the page meanwhile */
};

struct uodpdv_mr_attr {
	uint64_t comp_mask;   /* set to 0: no further fields are defined */
	uint32_t on_demand;   /* 0: pinned */
	uint32_t backing;     /* enum uodpdv_backing, of most of its pages */
	uint64_t pages;       /* that it spans; 0: implicit */
	uint64_t pages_valid; /* that the device needs no fault for now */
	uint32_t policy;      /* enum uodpdv_policy, the strictest of its files; DEFAULT:
			       * no file lies under it whose blocks anybody recalls */
	uint32_t revoked;     /* by a recall, or with its device: every access fails */
	uint32_t seen;        /* enum uodpdv_seen */
	uint32_t reserved;    /* set to 0 */
};
int uodpdv_query_mr(struct ibv_mr *mr, struct uodpdv_mr_attr *attr, uint32_t inlen);

/*
 * Types of events beyond enum ibv_event_type, read with ibv_get_async_event(3) and
 * acknowledged as all are; element.port_num is the lkey of the MR.
 */
#define UODPDV_EVENT_MR_LEASE ((enum ibv_event_type)0x10001) /* deregister it in time */
#define UODPDV_EVENT_MR_REVOKED ((enum ibv_event_type)0x10002)
/* A pinned MR has lost coherence: pages of it are no longer what the program has at their
 * addresses. For MRs with UODPDV_MR_INIT_ATTR_NOTIFY; page_invalidations says how many. */
#define UODPDV_EVENT_MR_PARTED ((enum ibv_event_type)0x10003)
/* The file system under the MR has ended: no recall will come, and what is written to the
 * file's mapping is lost. MRs whose policy cannot be kept without it get MR_REVOKED. */
#define UODPDV_EVENT_MR_UNWATCHED ((enum ibv_event_type)0x10004)

/* ---- Statistics, under the kernel's names (rdma-statistic(8)) ---- */

struct uodpdv_odp_stats {
	uint64_t page_faults;                /* pages that a transfer found missing */
	uint64_t page_faults_handled;        /* of these, resolved */
	uint64_t page_invalidations;         /* pages that an invalidation covered */
	uint64_t page_invalidations_handled; /* of these, valid before */
	uint64_t page_prefetch;              /* pages brought in by ibv_advise_mr(3) */
};
int uodpdv_query_mr_stats(struct ibv_mr *mr, struct uodpdv_odp_stats *stats, uint32_t inlen);
/* The sums over all regions that this process has, or had, on CONTEXT's device. */
int uodpdv_query_device_stats(struct ibv_context *context, struct uodpdv_odp_stats *stats,
			      uint32_t inlen);

/* ---- Invalidation ---- */

/*
 * Make the device forget the pages of [IOVA, IOVA+LENGTH) of an on-demand MR, and
 * of others over the same memory, as an MMU notifier does: the next access
 * faults. The memory itself does not change. EINVAL: not inside the MR, or MR is
 * not on demand.
 */
int uodpdv_invalidate_range(struct ibv_mr *mr, uint64_t iova, size_t length);
int uodpdv_invalidate_mr(struct ibv_mr *mr);

/* ---- Faults that take their time, or fail ---- */

struct uodpdv_fault_attr {
	uint64_t comp_mask;       /* 0 */
	uint32_t latency_us;      /* how long a fault takes at least, up to 10^9 */
	uint32_t latency_percent; /* of so many of them; 0: of all */
	uint32_t fail_percent;    /* so many fail as if there were no page ... */
	uint32_t fail_nth;        /* ... and every Nth, up to 65535; 0: none */
};
/* For all transfers that reach MR, whoever runs them; ATTR NULL: as
 * $UODP_FAULT_LATENCY and $UODP_FAULT_FAIL say again. EINVAL, ENOMEM. */
int uodpdv_set_fault(struct ibv_mr *mr, const struct uodpdv_fault_attr *attr, uint32_t inlen);

/* ---- Device memory that others reach, and that can be taken away ---- */

/*
 * Map all of DM: the address, or NULL with errno. Undone with uodpdv_dm_unmap().
 * Once DM is freed or revoked, or its device unplugged, touching it gives SIGBUS.
 */
void *uodpdv_dm_map(struct ibv_dm *dm);
int uodpdv_dm_unmap(struct ibv_dm *dm, void *addr);

/*
 * A new descriptor of DM, or -1 with errno. Whoever has it, in any process, may
 * mmap(2) it, or register it with ibv_reg_dmabuf_mr(3). EBUSY: DM has MRs from
 * before its first export; ENOSPC: too many are exported in the run directory.
 */
int uodpdv_dmabuf_export(struct ibv_dm *dm);

/*
 * From hold to release transfers that reach DM, through whosoever's MRs, wait, so
 * that none sees anything half done; as do others of the processes that have such
 * MRs. EBUSY: held already; EINVAL: not exported, or not held; ETXTBSY: an MR's
 * policy forbids it.
 */
int uodpdv_dmabuf_hold(struct ibv_dm *dm);
int uodpdv_dmabuf_release(struct ibv_dm *dm);
/* Move DM to other pages: held, copied, released. Everybody faults the new ones in. */
int uodpdv_dmabuf_move(struct ibv_dm *dm);
/* Take DM's pages away for good: transfers through any MR of it fail from then on. */
int uodpdv_dmabuf_revoke(struct ibv_dm *dm);

/* ---- Unplugging ---- */

/* What an unplug came upon. */
struct uodpdv_unplug_info {
	uint64_t comp_mask; /* set to 0 */
	uint32_t processes; /* that know the device; */
	uint32_t qps;       /* their queue pairs on it, */
	uint32_t mrs;       /* memory regions, */
	uint32_t dms;       /* and device memories */
};
/*
 * Take the device NAME away from all processes of the run directory and from those
 * to come, or from process PID alone. INFO may be NULL. See odpctl(1) for what they
 * see of it. ENODEV: nobody has had such a device here; ESRCH: no such process.
 */
int uodpdv_unplug(const char *name, pid_t pid, struct uodpdv_unplug_info *info, uint32_t inlen);
/* Give it back: what is opened from now on works. */
int uodpdv_plug(const char *name, pid_t pid);

/* ---- Faults that a pager of the program resolves ---- */

/*
 * A fault queue hands the faults that transfers have on MRs to the program, through
 * one descriptor, in the manner of iommufd; the transfers wait for the answers as for
 * a slow fault. uodpdv_create_fault_queue(3) has the details.
 */
struct uodpdv_fault_queue {
	struct ibv_context *context;
	int fd;           /* -1 when the program has closed it itself */
	uint32_t checked; /* 0: write() cannot refuse here: no FUSE */
};

struct uodpdv_fault_queue_attr {
	uint64_t comp_mask;   /* 0 */
	uint32_t depth;       /* groups open at once, up to 1024; 0: 64. Further faults wait */
	uint32_t group_pages; /* messages in a group, up to 64; 0: 16 */
};

enum uodpdv_fault_flags {
	UODPDV_FAULT_LAST = 1 << 0, /* of its group */
};

enum uodpdv_fault_perm {
	UODPDV_FAULT_READ = 1 << 0,
	UODPDV_FAULT_WRITE = 1 << 1,
};

/* What read() gives: a missing page. 64 bytes. Those that one access found are one
 * group, which is read as a whole and answered once. */
struct uodpdv_fault_msg {
	uint32_t flags;   /* enum uodpdv_fault_flags */
	uint32_t dev_id;  /* as attached */
	uint32_t lkey;    /* of the MR */
	uint32_t group;   /* counts the queue's groups */
	uint32_t perm;    /* enum uodpdv_fault_perm */
	uint32_t length;  /* hint: bytes that the access wants from here on */
	uint64_t iova;    /* where the page begins, as work requests have it ... */
	uint64_t addr;    /* ... and the program */
	uint64_t context; /* as attached */
	uint32_t cookie;  /* for the response; the same in all of a group */
	uint32_t reserved[3];
};

enum uodpdv_fault_code {
	UODPDV_FAULT_SUCCESS, /* the pages are there, as the program's mapping has them */
	UODPDV_FAULT_INVALID, /* there are none: the access fails */
};

/* What write() takes. 8 bytes. */
struct uodpdv_fault_response {
	uint32_t cookie;
	uint32_t code; /* enum uodpdv_fault_code */
};

/* NULL with errno: EINVAL, EOPNOTSUPP, ENOSPC (16 queues in a process), ENOMEM, EMFILE. */
struct uodpdv_fault_queue *uodpdv_create_fault_queue(struct ibv_context *context,
						     const struct uodpdv_fault_queue_attr *attr,
						     uint32_t inlen);
/* What is open is answered with INVALID; closes FD unless it is -1. Before the
 * context is closed. */
int uodpdv_destroy_fault_queue(struct uodpdv_fault_queue *queue);

struct uodpdv_fault_attach_attr {
	uint64_t comp_mask; /* 0 */
	uint64_t context;   /* goes into each message */
	uint32_t dev_id;    /* as well */
	uint32_t reserved;  /* 0 */
};
/* From here on faults on MR go to QUEUE, until it is detached, deregistered, or
 * given other memory by ibv_rereg_mr(3). EINVAL: not on demand; EBUSY: has a queue. */
int uodpdv_attach_fault_queue(struct ibv_mr *mr, struct uodpdv_fault_queue *queue,
			      const struct uodpdv_fault_attach_attr *attr, uint32_t inlen);
/* What is open is answered with INVALID. EINVAL: it has no queue. */
int uodpdv_detach_fault_queue(struct ibv_mr *mr);

#ifdef __cplusplus
}
#endif

#endif
