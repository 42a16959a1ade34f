/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Faults that a pager of the program resolves. Whoever runs a transfer and finds
 * a page missing leaves a group in a table of the memory's owner (faultq_ask.c),
 * and comes back later. A thread of the owner's hands the groups out through a
 * descriptor and takes the answers (faultq_serve.c, faultq_fuse.c). At SUCCESS it
 * makes the pages valid itself, so that the transfer finds no fault any more; at
 * INVALID the group stays as a mark, which the transfer takes away as it fails.
 *
 * A group is changed by compare-and-swap of its word alone; nobody waits for
 * anybody. Locks of the owner's: proc->faultq_lock (which MR has which queue),
 * then queue->lock (what is handed out). Neither by the service thread.
 */
#ifndef ODP_FAULTQ_H
#define ODP_FAULTQ_H

#include "faultq_ask.h"
#include "region.h"

/* ---- faultq.c ---- */
/* What the owner knows of an MR that has a queue. */
struct odp_fq_attach {
	struct odp_region *region; /* NULL: none */
	struct odp_fault_queue *queue;
	uint64_t context;
	uint32_t dev_id;
};

struct odp_faultqs {
	struct odp_region_observer observer;
	struct odp_fq_shared *shared;
	struct odp_fq_attach *attached; /* by key index; faultq_lock and queue->lock */
	unsigned next;
	struct odp_fault_queue *queues[ODP_FQ_QUEUES]; /* faultq_lock */
	_Atomic int wake_fd[ODP_FQ_QUEUES];            /* eventfds, kept for the next queue */
};

struct odp_fq_server;

struct odp_fault_queue {
	struct odp_proc *proc;
	struct odp_faultqs *all;
	struct odp_fq_table *table;
	unsigned index;
	int fd; /* the program's */
	bool checked;
	pthread_mutex_t lock;
	struct odp_fq_server *server;
};

/* Nobody reads Q any more: all its faults fail. By its thread. */
void odp_faultq_deafen(struct odp_fault_queue *q);

/* ---- faultq_serve.c: what read() and write() do ---- */
bool odp_faultq_readable(struct odp_fault_queue *q);
/* Whole groups as far as they fit, at most GROUPS: bytes, -EAGAIN when there is none, -EINVAL when
 * the first does not fit. */
ssize_t odp_faultq_pull(struct odp_fault_queue *q, void *buf, size_t size, unsigned groups);
/* Responses up to the first bad one: bytes, or -EINVAL. */
ssize_t odp_faultq_push(struct odp_fault_queue *q, const void *buf, size_t size);
/* Answer what is open, of the MR with key index INDEX or of all (UINT32_MAX), with
 * INVALID; DROP: as if it had never been asked. */
void odp_faultq_sweep(struct odp_fault_queue *q, uint32_t index, bool drop);

/* ---- the descriptor: faultq_fuse.c; faultq_pair.c where there is no FUSE ---- */
struct odp_fq_server {
	void (*close)(struct odp_fq_server *server);
};
/* A thread that answers read and write on a new descriptor, q->fd, until close();
 * WAKE, an eventfd, tells it that there is something to read. */
int odp_faultq_fuse(struct odp_fault_queue *q, int wake);
int odp_faultq_pair(struct odp_fault_queue *q, int wake);

/* ---- faultq_mount.c ---- */
/* A file system of one regular file: its device in *DEV, the file's place, to be
 * opened once requests are answered, in *ROOT. */
int odp_faultq_mount(int *dev, int *root);

/* ---- faultq_thread.c ---- */
/* Start FN(ARG) with no signals and, where the kernel can do it, a table of open
 * files of its own, with A and B in it alone. *OWN: it has one. */
int odp_faultq_thread(pthread_t *thread, void (*fn)(void *), void *arg, int a, int b, bool *own);

#endif
