/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The provider's private objects. One file an object; verbs conventions
 * (positive errno, or NULL and errno) at the entry points, -errno below them.
 */
#ifndef UODP_H
#define UODP_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <infiniband/verbs.h>
#include <odp/odp.h>

#include "abi/verbs_abi.h" /* struct verbs_device, verbs_context_ops, ... */
#include "handle.h"
#include "shm.h"

#define uodp_likely(x) __builtin_expect(!!(x), 1)
#define uodp_unlikely(x) __builtin_expect(!!(x), 0)
#define uodp_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define UODP_MAX_DEVICES 16
#define UODP_NUM_GIDS 2 /* 0: link-local, 1: IPv4-mapped; both RoCE v2, or 0 alone InfiniBand */
#define UODP_PORT 1
#define UODP_MTU 4096u
#define UODP_MAX_MSG (1u << 30)
#define UODP_MAX_PD 65536u
#define UODP_MAX_MW (1u << 20) /* keys, which MRs have too */
#define UODP_MAX_AH 1000000u
#define UODP_MAX_RD_ATOMIC 128

struct uodp_table;
struct uodp_channels;
struct odp_watch;

/* A device of $UODP_DEVICES; never freed. */
struct uodp_device {
	char name[IBV_SYSFS_NAME_MAX];
	char path[IBV_SYSFS_PATH_MAX]; /* its directory in the run directory (sysfs.c) */
	char ndev[16];                 /* the network interface of its port */
	bool infiniband;               /* its link layer, with LIDs; else Ethernet, RoCE v2 */
	uint16_t lid;                  /* of its port; of meaning on InfiniBand alone */
	unsigned index;
	unsigned uverbs; /* the N of uverbs<N> */
	dev_t rdev;      /* of that device file */
	union ibv_gid gids[UODP_NUM_GIDS];
	__be64 guid;
};

/* A device as libibverbs has listed it, until no list and no context names it. */
struct uodp_listed {
	struct verbs_device vdev; /* first */
	struct uodp_device *dev;
};

/* The provider's part of the process; made by uodp_proc_get(). */
struct uodp_proc {
	struct odp_proc *odp;
	uint32_t lock_tag; /* odp_lock_tag() */
	struct odp_peer *self;
	struct uodp_root *root; /* ours, in our segment */
	struct uodp_qp_shm *qps_shm;
	struct uodp_cq_shm *cqs_shm;
	struct uodp_srq_shm *srqs_shm;
	struct uodp_dm_shm *dms_shm;
	struct uodp_mcast_shm *mcasts_shm; /* changed under lock */
	pthread_mutex_t lock;              /* contexts, next_pd */
	struct uodp_table *qps, *cqs, *srqs, *dms;
	uint16_t *ord_block;           /* QPN block of each 256 QPs of the table */
	struct uodp_context *contexts; /* open ones, linked by .next */
	uint32_t next_pd;
	/* QPs whose send queue waits, a bit each (progress.c) */
	_Atomic uint64_t pending[UODP_MAX_QP / 64];
	_Atomic uint32_t npending;
	_Atomic uint32_t moderated;    /* CQs whose events may wait (cq_mod.c) */
	_Atomic uint64_t service_next; /* ns, when the service thread looks again */
	pthread_t service;             /* that thread, once it has run */
	_Atomic uint32_t service_known;
	pthread_mutex_t pin_lock; /* the tables, links, live[]; held for look-ups only */
	struct uodp_link *links;
	uint64_t last_link;
	struct uodp_qp **live; /* by index: QPs that may be referred to */

	/* Here, and not by file, so that a child of fork begins without them. */
	pthread_mutex_t grow_lock; /* growth of qps (qp.c) */
	pthread_mutex_t mrs_lock;
	struct uodp_mr ***mrs; /* by the index in their keys, in leaves (mr.c) */
	struct uodp_channels *channels;
	struct uodp_xrc *xrc; /* domains with a file; under its lock (xrcd.c) */
	_Atomic uint64_t dm_used[UODP_MAX_DEVICES]; /* bytes */
};

/* What the service thread knows of an open context; from odp_priv_alloc(). */
struct uodp_link {
	uint64_t id;     /* unique in the process */
	uint32_t device; /* index */
	uint32_t plug;   /* the device's, when it was opened */
	int async_wr;    /* as the context's */
	int cmd_fd;      /* the context's */
	bool told;       /* that the device is gone; service thread */
	struct uodp_link *next;
};

/* Our ends of a pipe from which the program reads events. */
struct uodp_pipe {
	int rd; /* the program's may be closed, and its number another file's */
	int wr; /* peers open it too */
};
#define UODP_PIPE_NONE ((struct uodp_pipe){.rd = -1, .wr = -1})

struct uodp_context {
	struct verbs_context vctx;
	struct uodp_proc *proc;
	struct uodp_device *dev;
	struct uodp_link *link;
	struct uodp_pipe async;        /* behind async_fd */
	struct uodp_pd *pds;           /* under proc->lock */
	struct uodp_channel *channels; /* as well */
	struct uodp_xrcd *xrcds;       /* as well */
	struct uodp_mw *mws;           /* as well */
	struct uodp_context *next;
	_Atomic uint32_t refs; /* one while it is open, one for each object's memory */
	bool closed;           /* its objects that are left have only their memory */
};

struct uodp_pd {
	struct ibv_pd ibpd;
	struct uodp_proc *proc;
	uint32_t num;               /* unique in the process, never 0 */
	_Atomic uint32_t users;     /* MRs, MWs, QPs, SRQs, AHs: dealloc gives EBUSY */
	struct uodp_pd *of;         /* a parent domain: what it stands for; else NULL */
	struct uodp_td *td;         /* as well; may be NULL */
	struct uodp_pd *next, **at; /* in the context's list */
};

/* A thread domain: a promise of the program's that nothing here needs. */
struct uodp_td {
	struct ibv_td ibtd;
	struct uodp_proc *proc;
	_Atomic uint32_t users; /* parent domains */
};

/* What can be asked for beyond ibv_reg_mr(); all 0: nothing. */
struct uodp_mr_wish {
	enum odp_backing backing;
	enum odp_policy policy;
	uint32_t lease_ms;
	bool notify;
};

struct uodp_mr {
	struct verbs_mr vmr;
	struct uodp_proc *proc;
	struct odp_region *region; /* NULL: its context is closed */
	uint32_t handle;           /* as it was given out */
	uint64_t iova;
	struct uodp_mr_wish wish;
	struct uodp_dm *dm; /* whose memory it is; NULL: the program's */
	void *map;          /* of a dma-buf, and MAP_LEN bytes of it; else NULL */
	size_t map_len;
	int map_fd; /* a dma-buf of the kernel's; -1 */
};

struct uodp_mw {
	struct ibv_mw ibmw;
	struct uodp_proc *proc;
	struct odp_window *window; /* NULL: its context is closed */
	uint64_t serial;
	uint32_t handle;            /* as it was given out: its key's index */
	struct uodp_mw *next, **at; /* in the context's list, under proc->lock */
};

/* Device memory, allocated here. */
struct uodp_dm {
	struct verbs_dm vdm; /* first */
	struct uodp_proc *proc;
	struct uodp_dm_shm *shm;
	uint32_t index;
	int fd; /* kept; used after a look whether it still is that file (uodp_dm_fd()) */
	dev_t dev;
	ino_t ino;
	char *map;              /* as the device sees it */
	size_t length, size;    /* asked for; in pages */
	_Atomic uint32_t users; /* MRs: free gives EBUSY */
	_Atomic bool revoked;
	pthread_mutex_t lock;    /* the rest */
	struct odp_watch *watch; /* NULL: not exported */
	struct odp_recall recall;
};

struct uodp_ah {
	struct ibv_ah ibah;
	struct uodp_proc *proc;
	uint32_t num; /* its handle */
	struct ibv_ah_attr attr;
};

/* An XRC domain that the program has open. */
struct uodp_xrcd {
	struct ibv_xrcd ibxrcd; /* first */
	struct uodp_proc *proc;
	uint64_t id;                  /* the same in all processes, never 0 */
	bool shared;                  /* by a file */
	bool ended;                   /* its context is closed */
	_Atomic uint32_t users;       /* SRQs, QPs: close gives EBUSY */
	struct uodp_xrcd *next, **at; /* in the context's list, under proc->lock */
};

/* A completion channel: a pipe whose read end the program has. */
struct uodp_channel {
	struct uodp_handle handle; /* first */
	struct uodp_proc *proc;
	struct ibv_context *ctx;
	struct uodp_pipe pipe;
	_Atomic uint32_t refs;           /* the program's descriptor, and CQs */
	bool ended;                      /* CTX is closed */
	uint32_t id;                     /* unique in the process: descriptor numbers are reused */
	struct uodp_channel *next, **at; /* in the context's list, under proc->lock */
};

static inline struct uodp_device *to_uodp_device(struct ibv_device *d)
{
	return uodp_container_of(d, struct uodp_listed, vdev.device)->dev;
}
static inline struct uodp_context *to_uodp_context(struct ibv_context *c)
{
	return uodp_container_of(c, struct uodp_context, vctx.context);
}
static inline struct uodp_pd *to_uodp_pd(struct ibv_pd *pd)
{
	return uodp_container_of(pd, struct uodp_pd, ibpd);
}
static inline struct uodp_td *to_uodp_td(struct ibv_td *td)
{
	return uodp_container_of(td, struct uodp_td, ibtd);
}
static inline struct uodp_mr *to_uodp_mr(struct ibv_mr *mr)
{
	return uodp_container_of(mr, struct uodp_mr, vmr.ibv_mr);
}
static inline struct uodp_mw *to_uodp_mw(struct ibv_mw *mw)
{
	return uodp_container_of(mw, struct uodp_mw, ibmw);
}
static inline struct uodp_ah *to_uodp_ah(struct ibv_ah *ah)
{
	return uodp_container_of(ah, struct uodp_ah, ibah);
}

static inline struct uodp_xrcd *to_uodp_xrcd(struct ibv_xrcd *xrcd)
{
	return uodp_container_of(xrcd, struct uodp_xrcd, ibxrcd);
}

static inline struct uodp_dm *to_uodp_dm(struct ibv_dm *dm)
{
	return uodp_container_of(dm, struct uodp_dm, vdm.dm);
}

/* libodp can no longer follow memory (odp_proc_lost()): no device of this process's
 * is of use (unplug.c). */
void uodp_lost(struct uodp_proc *proc);

static inline bool uodp_link_gone(const struct uodp_proc *proc, const struct uodp_link *link)
{
	/* acquire: pairs with the change in plug.c */
	return atomic_load_explicit(&proc->root->plug[link->device], memory_order_acquire) !=
	       link->plug;
}

/* The verbs' two ways to say no: the errno returned is in errno as well. */
static inline int uodp_fail(int ret)
{
	if (uodp_unlikely(ret))
		errno = -ret;
	return -ret;
}

/* ---- hint.c: what to do about a refusal that newcomers meet ---- */
enum uodp_hint {
	UODP_HINT_GRH,     /* a path without a GID */
	UODP_HINT_QP_TYPE, /* IBV_QPT_* that is not there; or what else of a QP, */
	UODP_HINT_QP_EX,
	UODP_NUM_HINTS,
};
/* One line on stderr, once for each process and HINT; VALUE is what was asked for. Keeps
 * errno. From any thread. */
void uodp_hint(enum uodp_hint hint, unsigned value);

/* ---- life.c: objects that have lost their device (see there) ---- */
/* The process's part, once it has one; NULL in a child of fork that has opened no
 * device. What belongs to another value is the parent's. */
extern struct uodp_proc *uodp_self;

/* May a verb use the object of PROC in CTX that has HANDLE and was given GIVEN? 0;
 * -EIO: it is its parent's, or its context closed; -ENOENT: the handle is garbled. */
int uodp_object_check(const struct ibv_context *ctx, const struct uodp_proc *proc, uint32_t handle,
		      uint32_t given);
/* The same for a verb that destroys: 1 when nothing but its memory is left. */
int uodp_destroy_check(const struct ibv_context *ctx, const struct uodp_proc *proc, uint32_t handle,
		       uint32_t given);
/* May a verb of CTX make something of PD? 0, -EIO, -EINVAL. Unplugged counts. */
int uodp_pd_check(const struct ibv_pd *pd);
/* May direct verbs use MR? 0, -EOPNOTSUPP: not ours, -EIO, -ENOENT. */
int uodp_mr_check(const struct ibv_mr *mr);
/* The verbs of the data path fail from now on with EIO for what is not of this process
 * and alive: in CTX, and in QP, those of ibv_wr_post(3). */
void uodp_ops_end(struct uodp_context *ctx);
void uodp_wr_ops_end(struct ibv_qp_ex *qp);

/* 0; -EIO when the device has been unplugged since CTX was opened, or CTX is closed, or
 * the parent's of this child of fork: what they share is not in the child. */
int uodp_context_check(const struct ibv_context *ctx);
/* As that; but a child opens the context that it has inherited anew, in its place. */
int uodp_context_enter(struct ibv_context *ctx);
/* The same, after something was published that who unplugs looks for: one of the
 * two sees the other. */
int uodp_context_recheck(const struct ibv_context *ctx);

/* ---- proc.c: the per-process part (data plane) ---- */
/* Attach (odp_proc_get) and publish the root object; 0 or -errno. */
int uodp_proc_get(struct uodp_proc **proc);
/* In a child of fork: what it has of its parent's is the parent's. Async-signal-safe, as
 * uodp_adopt_child() (context.c). */
void uodp_proc_child(void);
void uodp_adopt_child(void);

/* ---- device.c, sysfs.c (control plane) ---- */
/* The devices of $UODP_DEVICES, made on the first call; they are never freed.
 * The number of them, 0 after a line on stderr that says why. */
unsigned uodp_devices(struct uodp_device **devs);
/* errno of the run directory that could not be had, 0 otherwise. */
int uodp_devices_errno(void);
bool uodp_is_device(const struct ibv_device *dev);
/* Write the directories below RUN_DIR that programs take for DEV's in sysfs and its
 * device file, or repair them, and set dev->uverbs; 0, or -errno after a line on stderr. */
#define UODP_SYSFS_DIR "sys/class/infiniband"
/* The same of devices whose link layer is InfiniBand in the process that looks: others may
 * have the same device as one of Ethernet's. */
#define UODP_SYSFS_IB_DIR "sys-ib/class/infiniband"
#define UODP_NODE_DIR "dev/nodes"
#define UODP_NODE_MODE 01700 /* of what stands for a device file */
int uodp_sysfs_write(struct uodp_device *dev, const char *run_dir);
/* The GID at INDEX of the device, or -EINVAL. */
int uodp_device_gid(const struct uodp_device *dev, unsigned index, union ibv_gid *gid);
/* What its port can do: enum ibv_port_cap_flags. */
uint32_t uodp_device_port_caps(const struct uodp_device *dev);
/* How many of them its port shows. */
unsigned uodp_device_num_gids(const struct uodp_device *dev);

/* ---- path.c ---- */
/* The LID of the port with this IPv4-mapped GID, 1 to 0xbfff. */
uint16_t uodp_lid(const uint8_t gid[16]);
/* Can a QP or an address handle of DEV have this path? */
bool uodp_path_valid(const struct uodp_device *dev, const struct ibv_ah_attr *attr);
/*
 * Where a path leads, as a GID: the destination's, or, where a path of InfiniBand has no
 * GRH, one that no port has and that stands for the LID.
 */
void uodp_path_dgid(const struct ibv_ah_attr *attr, uint8_t dgid[16]);
/* The LID that DGID stands for; 0: it is a GID. */
uint16_t uodp_dgid_lid(const uint8_t dgid[16]);

/* ---- view.c (control plane) ---- */
/* More than 0 while the calling thread reads the host's own files. */
extern __thread unsigned uodp_files_raw __attribute__((tls_model("initial-exec")));
/* The directory below which sys/class/infiniband*, dev/infiniband are as this process
 * is to see them: its own devices and the host's. Made on the first call; NULL where
 * there is nothing to add to the host's. Keeps errno. */
const char *uodp_view_root(void);
/* The device whose file is uverbs<N>, or NULL. */
const struct uodp_device *uodp_view_device(unsigned n);
/* The device of which ST is the directory that stands for its file, or NULL. */
struct stat;
const struct uodp_device *uodp_view_node(const struct stat *st);
/* The number of the connection manager's file. */
dev_t uodp_view_rdma_cm(void);

/* ---- context.c, channel.c (control plane) ---- */
struct verbs_context *uodp_alloc_context(struct ibv_device *dev, int cmd_fd, void *priv);
void uodp_free_context(struct ibv_context *ctx);
/* An object's hold on CTX's memory, which stays when CTX is closed. */
void uodp_context_hold(struct ibv_context *ctx);
void uodp_context_drop(struct ibv_context *ctx);
/* The same for a channel: libibverbs closes its descriptor under a lock in CTX, so that
 * CTX's memory is freed when the next such comes. */
void uodp_context_drop_late(struct ibv_context *ctx);
/* A pipe: *RD is the program's end. Ours are kept (odp_fd_keep()), and the write end is
 * nonblocking. 0 or -errno. */
int uodp_pipe(int *rd, struct uodp_pipe *p);
void uodp_pipe_close(struct uodp_pipe *p);
/* A new completion channel of CTX: its descriptor, or -errno. It lasts until that is
 * closed. */
int uodp_channel_create(struct ibv_context *ctx);
/* That of CH, NULL if its descriptor is none of ours (any more). */
struct uodp_channel *uodp_channel_get(const struct ibv_comp_channel *ch);
/* A CQ's hold on its pipe. */
void uodp_channel_hold(struct uodp_channel *channel);
void uodp_channel_drop(struct uodp_channel *channel);
/* End what CTX's program has left, but for its memory. */
void uodp_mw_drop_all(struct ibv_context *ctx);
void uodp_mr_drop_all(struct ibv_context *ctx);
void uodp_pd_drop_all(struct ibv_context *ctx);
void uodp_channel_drop_all(struct ibv_context *ctx);
void uodp_xrcd_drop_all(struct ibv_context *ctx);

/* ---- mr.c ---- */
/* Room for the process's MRs; 0 or -ENOMEM. */
int uodp_mrs_init(struct uodp_proc *proc);

/* ---- event.c (data plane) ---- */
/* Where channels of other processes are kept; 0 or -ENOMEM. */
int uodp_channels_init(struct uodp_proc *proc);
/* Context ops: count what the program has read, so that destroy can wait for
 * its acknowledgement (ibv_ack_cq_events(3), ibv_ack_async_event(3)). */
void uodp_cq_event(struct ibv_cq *cq);
void uodp_async_event(struct ibv_context *ctx, struct ibv_async_event *event);
/* Raise an async event on object INDEX (QP, CQ or SRQ) of PEER; delivered by
 * that process's service thread into the context's async_fd.
 * The bell that brings it there is rung by uodp_wakes_pass(). */
void uodp_event_raise(struct uodp_proc *proc, struct odp_peer *peer, enum ibv_event_type type,
		      uint32_t index);

/* ---- change.c ---- */
/* Find out whether the program's calls come by here, before it has a region. */
void uodp_changes_init(void);
/* On-demand regions over pages that a call, which has succeeded, has taken away from
 * under them: [ADDR, ADDR+LEN), or [START, END) of the file FD (INT64_MAX: to its end).
 * Both keep errno. */
void uodp_range_changed(const void *addr, size_t len, enum odp_change change);
void uodp_file_changed(int fd, off_t start, off_t end);

/* ---- shrink.c ---- */
/* MADV_REMOVE, with the blocks recalled first where this process watches the file;
 * MADVISE_NEXT is the call itself. As madvise(2). */
int uodp_madvise_remove(struct odp_proc *proc, char *addr, size_t len,
			int (*madvise_next)(void *addr, size_t len, int advice));

/* ---- notice.c (control plane) ---- */
/* A region's owner is told of recalls by events of the context whose link's id is the
 * region's cookie; once for each attachment. */
void uodp_notice_init(struct uodp_proc *proc);

/* ---- plug.c (control plane) ---- */
/* Enter CTX among those that end when its device is unplugged: 0, or -ENODEV, after
 * a line on stderr, when it is unplugged now. */
int uodp_link_open(struct uodp_context *ctx);
void uodp_link_close(struct uodp_context *ctx);
/* Is DEV to be listed? */
bool uodp_device_plugged(const struct uodp_device *dev);
/* The file in DEV's directory, below UODP_SYSFS_DIR, that says it is unplugged. */
#define UODP_UNPLUGGED "unplugged"

/* ---- verbs, data plane ---- */
struct ibv_cq *uodp_create_cq(struct ibv_context *ctx, int cqe, struct ibv_comp_channel *channel,
			      int comp_vector);
struct ibv_cq_ex *uodp_create_cq_ex(struct ibv_context *ctx, struct ibv_cq_init_attr_ex *attr);
int uodp_modify_cq(struct ibv_cq *cq, struct ibv_modify_cq_attr *attr);
int uodp_query_rt_values(struct ibv_context *ctx, struct ibv_values_ex *values);
int uodp_resize_cq(struct ibv_cq *cq, int cqe);
int uodp_destroy_cq(struct ibv_cq *cq);
int uodp_poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc);
int uodp_req_notify_cq(struct ibv_cq *cq, int solicited_only);
struct ibv_srq *uodp_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *attr);
struct ibv_srq *uodp_create_srq_ex(struct ibv_context *ctx, struct ibv_srq_init_attr_ex *attr);
int uodp_get_srq_num(struct ibv_srq *srq, uint32_t *num);
struct ibv_xrcd *uodp_open_xrcd(struct ibv_context *ctx, struct ibv_xrcd_init_attr *attr);
int uodp_close_xrcd(struct ibv_xrcd *xrcd);
struct ibv_qp *uodp_open_qp(struct ibv_context *ctx, struct ibv_qp_open_attr *attr);
int uodp_modify_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr, int mask);
int uodp_query_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr);
int uodp_destroy_srq(struct ibv_srq *srq);
int uodp_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
struct ibv_qp *uodp_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
struct ibv_qp *uodp_create_qp_ex(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *attr);
int uodp_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
int uodp_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
		  struct ibv_qp_init_attr *init);
int uodp_destroy_qp(struct ibv_qp *qp);
int uodp_attach_mcast(struct ibv_qp *qp, const union ibv_gid *gid, uint16_t lid);
int uodp_detach_mcast(struct ibv_qp *qp, const union ibv_gid *gid, uint16_t lid);
int uodp_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
/* A send flag of our own: IBV_WR_BIND_MW of a window of type 1, by ibv_bind_mw(). */
#define UODP_SEND_BIND_1 (1u << 31)
int uodp_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);

/* ---- verbs, control plane (context.c, device.c, pd.c, mr.c, ah.c) ---- */
int uodp_query_device_ex(struct ibv_context *ctx, const struct ibv_query_device_ex_input *in,
			 struct ibv_device_attr_ex *attr, size_t size);
int uodp_query_port(struct ibv_context *ctx, uint8_t port, struct ibv_port_attr *attr);
struct ibv_pd *uodp_alloc_pd(struct ibv_context *ctx);
int uodp_dealloc_pd(struct ibv_pd *pd);
struct ibv_td *uodp_alloc_td(struct ibv_context *ctx, struct ibv_td_init_attr *attr);
int uodp_dealloc_td(struct ibv_td *td);
struct ibv_pd *uodp_alloc_parent_domain(struct ibv_context *ctx,
					struct ibv_parent_domain_init_attr *attr);
struct ibv_mr *uodp_reg_mr(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, int access);
struct ibv_mr *uodp_reg_mr_wish(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				int access, const struct uodp_mr_wish *wish);
/* Register as ATTR says, whose pd, access, tag are filled in here; *MR is complete
 * but for addr and length. 0 or -errno. */
int uodp_mr_create(struct ibv_pd *pd, struct odp_region_attr *attr, int access,
		   struct uodp_mr **mr);
int uodp_dereg_mr(struct verbs_mr *vmr);
int uodp_rereg_mr(struct verbs_mr *vmr, int flags, struct ibv_pd *pd, void *addr, size_t length,
		  int access);
/* It has the length SIZE_MAX, no address and no rkey. */
struct ibv_mr *uodp_alloc_null_mr(struct ibv_pd *pd);
struct ibv_mw *uodp_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type);
int uodp_dealloc_mw(struct ibv_mw *mw);
int uodp_bind_mw(struct ibv_qp *qp, struct ibv_mw *mw, struct ibv_mw_bind *bind);
int uodp_advise_mr(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, uint32_t flags,
		   struct ibv_sge *sg, uint32_t n);
struct ibv_dm *uodp_alloc_dm(struct ibv_context *ctx, struct ibv_alloc_dm_attr *attr);
int uodp_free_dm(struct ibv_dm *dm);
/* May it be used? 0, -EIO, -ENOENT. */
int uodp_dm_check(const struct ibv_dm *dm);
/* Its descriptor; -EBADF: the program has closed it, and the number may be any file's. */
int uodp_dm_fd(const struct uodp_dm *dm);
/* End all of it but its memory. */
void uodp_dm_drop(struct uodp_dm *dm);
struct ibv_mr *uodp_reg_dm_mr(struct ibv_pd *pd, struct ibv_dm *dm, uint64_t offset, size_t length,
			      unsigned int access);
/* A new descriptor of it (dmabuf.c), or -1 with errno. */
int uodp_dm_export_fd(struct ibv_dm *dm);
/* Does this process hold memory of that inode number? A registration would wait for
 * the release, which may be the caller's to do. */
bool uodp_dm_held(const struct uodp_proc *proc, uint64_t ino);
/* Nobody is held off from it, nor told of any more. */
void uodp_dm_unexport(struct uodp_dm *dm);
/* What a process may allocate on a device ($UODP_DM_SIZE). */
uint64_t uodp_dm_limit(void);
struct ibv_mr *uodp_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t length, uint64_t iova,
				  int fd, int access);
/* Undo what a dma-buf's MR has beyond its region. */
void uodp_dmabuf_unmap(struct uodp_mr *mr);
struct ibv_ah *uodp_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr);
int uodp_destroy_ah(struct ibv_ah *ah);

/* ---- dv.c ---- */
/* IN, of INLEN bytes as the caller knows the structure, as ATTR of SIZE: 0 or errno. */
int uodp_attr_get(void *attr, size_t size, const void *in, uint32_t inlen);

#endif
