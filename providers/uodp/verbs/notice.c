/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What libodp tells of regions whose blocks go away becomes async events. */
#include <errno.h>

#include <infiniband/uodpdv.h>

#include "queue.h"

/*
 * By a key's index: its key, and the pipe of the context. Under the process's
 * pin_lock, which the service thread may take: so no event goes to a pipe that is
 * closed already.
 */
struct route {
	uint32_t key;
	int fd;
};
#define ROUTES (1u << 20) /* as many as libodp has keys */

static struct uodp_proc *owner;
static struct route *routes; /* sparse */

static void notice(void *arg, uint32_t key, enum odp_notice what)
{
	struct uodp_proc *proc = arg;
	const struct route *r = &routes[key >> 8 & (ROUTES - 1)];

	pthread_mutex_lock(&proc->pin_lock);
	if (r->key == key)
		uodp_async_deliver(r->fd, key,
				   what == ODP_NOTICE_LEASE ? UODPDV_EVENT_MR_LEASE
							    : UODPDV_EVENT_MR_REVOKED);
	pthread_mutex_unlock(&proc->pin_lock);
}

int uodp_notice_init(struct uodp_proc *proc)
{
	routes = odp_priv_alloc(ROUTES * sizeof(*routes));
	if (!routes)
		return -ENOMEM;
	owner = proc;
	odp_notice_set(proc->odp, notice, proc);
	return 0;
}

void uodp_notice_route(uint32_t key, int fd)
{
	struct route *r = &routes[key >> 8 & (ROUTES - 1)];

	pthread_mutex_lock(&owner->pin_lock);
	*r = fd < 0 ? (struct route){0} : (struct route){.key = key, .fd = fd};
	pthread_mutex_unlock(&owner->pin_lock);
}
