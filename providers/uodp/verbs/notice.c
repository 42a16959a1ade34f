/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What libodp tells of regions whose blocks go away becomes async events. A region is
 * created with the number of its context's link as its cookie, so that a recall that
 * comes while it is being registered finds the way too.
 */
#include <infiniband/uodpdv.h>

#include "queue.h"

static enum ibv_event_type event_of(enum odp_notice what)
{
	switch (what) {
	case ODP_NOTICE_LEASE:
		return UODPDV_EVENT_MR_LEASE;
	case ODP_NOTICE_PARTED:
		return UODPDV_EVENT_MR_PARTED;
	case ODP_NOTICE_UNWATCHED:
		return UODPDV_EVENT_MR_UNWATCHED;
	default:
		return UODPDV_EVENT_MR_REVOKED;
	}
}

/* With the lock no event goes to a pipe that is closed already. */
static void notice(void *arg, uint32_t key, uint64_t cookie, enum odp_notice what)
{
	struct uodp_proc *proc = arg;
	const struct uodp_link *link;

	pthread_mutex_lock(&proc->pin_lock);
	for (link = proc->links; link && link->id != cookie; link = link->next)
		;
	if (link)
		uodp_async_deliver(link->async_wr, key, event_of(what));
	pthread_mutex_unlock(&proc->pin_lock);
}

void uodp_notice_init(struct uodp_proc *proc)
{
	odp_notice_set(proc->odp, notice, proc);
}
