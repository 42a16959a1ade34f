/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The service thread's own: what it waits for, and with what. */
#ifndef ODP_SERVICE_PRIV_H
#define ODP_SERVICE_PRIV_H

#include <liburing.h>
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>

#include "service.h"

/* What a wait may bring. */
enum {
	ODP_EV_BELL = 1 << 0,
	ODP_EV_PEER = 1 << 1,   /* one ended, or has to be watched */
	ODP_EV_SOURCE = 1 << 2, /* the first source's descriptor; and so on */
	ODP_EV_END = ODP_EV_SOURCE << ODP_SOURCES,
};

#define ODP_WAIT_FOREVER UINT64_MAX
#define ODP_DEAF_NS 5000000u /* between looks of a thread that nothing wakes */

struct odp_service;

/* A way to wait. Used by the service thread alone; allocates in open() only. */
struct odp_poller {
	const char *name;
	int (*open)(struct odp_service *svc);
	/* ODP_EV_* bits; returns after TIMEOUT ns at the latest. */
	unsigned (*wait)(struct odp_service *svc, uint64_t timeout);
	/* Mark the peer dead when its pidfd says so; false: no room, ask again. */
	bool (*watch)(struct odp_service *svc, struct odp_peer *peer);
	/* In a child after fork, and at the end. */
	void (*close)(struct odp_service *svc);
};
extern const struct odp_poller odp_poller_uring;
extern const struct odp_poller odp_poller_poll;

#define ODP_POLL_PEERS (2 * ODP_MAX_PROCS)

struct odp_service {
	struct odp_proc *proc;
	const struct odp_poller *poller;
	pthread_t thread, worker;
	_Atomic uint32_t calls;         /* of the worker, so far; also its futex */
	struct robust_list_head robust; /* of the thread, for slot->life */
	struct robust_list robust_entry;
	sem_t opened, go;
	_Atomic bool stop;        /* written before CALLS, GO and the bell say so */
	int fds[ODP_SOURCES];     /* of the sources, or -1 */
	struct odp_peer *waiting; /* taken from proc->incoming, not watched yet */
	unsigned broken;          /* ODP_EV_* that can no longer be polled */
	/* io_uring */
	struct io_uring ring;
	unsigned armed; /* ODP_EV_* polled for now */
	/* ppoll */
	unsigned npeers;
	struct odp_peer *peers[ODP_POLL_PEERS];
	struct pollfd pollfds[1 + ODP_SOURCES + ODP_POLL_PEERS];
};

/* The poll result EVENTS (or negative) of the bell or of a source: what to report. */
unsigned odp_service_polled(struct odp_service *svc, unsigned what, int events);
void odp_service_peer_ended(struct odp_peer *peer);

/* ---- worker.c ---- */
/* The worker's whole life; ARG is the struct odp_service. */
void *odp_worker_main(void *arg);
/* Have the worker call the handler soon; never waits. */
void odp_worker_call(struct odp_service *svc);

#endif
