/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The process whose regions they are: it answers to what it is told of them. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "checker.h"

struct owner {
	uint8_t *mem;
	struct ibv_mr *mr[REGIONS];
	struct ibv_qp *qp[MAX_THREADS];
	struct ibv_cq *cq;
	uint64_t rng;
};

static void region_end(struct owner *o, unsigned int i)
{
	if (!o->mr[i])
		return;
	/* First: so that a transfer that fails after this knows why. */
	atomic_store(&ctl->region[i].nr, 0);
	errno = ibv_dereg_mr(o->mr[i]);
	if (errno)
		die("ibv_dereg_mr");
	o->mr[i] = NULL;
}

/* While the file is short, a pinned region cannot be had: later, then. */
static void region_begin(struct owner *o, unsigned int i)
{
	struct uodpdv_mr_init_attr attr = {
		.comp_mask = UODPDV_MR_INIT_ATTR_POLICY | UODPDV_MR_INIT_ATTR_LEASE,
		.policy = ctl->policy,
		.lease_ms = ctl->lease_ms,
	};
	int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     (i & 1 ? IBV_ACCESS_ON_DEMAND : 0);
	struct region_ctl *c = &ctl->region[i];
	uint32_t nr, phase = atomic_load(&ctl->phase);

	if (o->mr[i])
		return;
	errno = 0;
	o->mr[i] = uodpdv_reg_mr(dev.pd, o->mem, FILE_LEN, access, &attr, sizeof(attr));
	if (!o->mr[i] && errno != EFAULT && errno != EAGAIN)
		die("uodpdv_reg_mr");
	if (!o->mr[i]) {
		atomic_fetch_add(&ctl->refused, 1);
		return;
	}
	nr = atomic_fetch_add(&ctl->registrations, 1) + 1;
	if (nr >= MAX_REGISTRATIONS)
		die("too many registrations");
	atomic_store(&ctl->reg_phase[nr], atomic_load(&ctl->phase));
	atomic_store(&c->clean, !(phase & 1) && phase == atomic_load(&ctl->phase));
	atomic_store(&c->rkey, o->mr[i]->rkey);
	atomic_store(&c->addr, (uintptr_t)o->mem);
	atomic_store(&c->nr, nr);
}

static void region_again(struct owner *o, unsigned int i)
{
	region_end(o, i);
	region_begin(o, i);
}

/* It lets go of a lease in time, or does not, half of the time each. */
static void event_take(struct owner *o)
{
	struct ibv_async_event ev;
	bool lease;

	if (ibv_get_async_event(dev.ctx, &ev))
		die("ibv_get_async_event");
	lease = ev.event_type == UODPDV_EVENT_MR_LEASE;
	if (!lease && ev.event_type == UODPDV_EVENT_MR_REVOKED)
		atomic_fetch_add(&ctl->revocations, 1);
	for (unsigned int i = 0; i < REGIONS; i++) {
		if (!o->mr[i] || o->mr[i]->lkey != (uint32_t)ev.element.port_num)
			continue;
		if (!lease && ev.event_type == UODPDV_EVENT_MR_REVOKED)
			region_again(o, i);
		if (lease && rng_below(&o->rng, 2)) {
			atomic_fetch_add(&ctl->leases_kept, 1);
			region_again(o, i);
		}
	}
	ibv_ack_async_event(&ev);
}

static void events_take(struct owner *o, int ms)
{
	struct pollfd pfd = {.fd = dev.ctx->async_fd, .events = POLLIN};

	while (poll(&pfd, 1, ms) > 0) {
		event_take(o);
		ms = 0;
	}
}

static void links_serve(struct owner *o)
{
	for (unsigned int i = 0; i < ctl->threads; i++) {
		struct link_ctl *c = &ctl->link[i];
		uint32_t want = atomic_load(&c->want);

		if (want == atomic_load(&c->done))
			continue;
		conn_reset(o->qp[i]);
		conn_connect(o->qp[i], atomic_load(&c->req_qpn));
		atomic_store(&c->own_qpn, o->qp[i]->qp_num);
		atomic_store(&c->done, want);
	}
}

static void owner_open(struct owner *o, int fd)
{
	device_open();
	o->mem = mmap(NULL, FILE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (o->mem == MAP_FAILED)
		die("mmap");
	o->cq = ibv_create_cq(dev.ctx, 64, NULL, NULL, 0);
	if (!o->cq)
		die("ibv_create_cq");
	for (unsigned int i = 0; i < ctl->threads; i++)
		o->qp[i] = conn_qp(o->cq);
}

void owner_run(int fd)
{
	struct owner o = {.rng = ctl->seed ^ (uint64_t)getpid()};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	owner_open(&o, fd);
	while (!over()) {
		for (unsigned int i = 0; i < REGIONS; i++)
			region_begin(&o, i);
		links_serve(&o);
		events_take(&o, 1);
		/* Under deny the first one stays: else the truncate could succeed. */
		if (!rng_below(&o.rng, 16))
			region_again(&o, ctl->policy == UODPDV_POLICY_DENY
						 ? 1 + rng_below(&o.rng, REGIONS - 1)
						 : rng_below(&o.rng, REGIONS));
	}
	for (unsigned int i = 0; i < REGIONS; i++)
		region_end(&o, i);
	_exit(0);
}
