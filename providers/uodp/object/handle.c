/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Descriptors of device files: by number, what write() and ioctl() on them do.
 *
 * A slot is set by whoever has just got the number from the kernel, and emptied before
 * the number goes back: no two threads use it at once unless the program uses a
 * descriptor that it is closing.
 */
#include <stddef.h>

#include "handle.h"
#include "uodp.h"

#define HANDLES (1u << 20) /* as the kernel's default of fs.nr_open; pages on use */

static struct uodp_handle *_Atomic handles[HANDLES];
static _Atomic bool any; /* there has been one */

bool uodp_handle_set(int fd, struct uodp_handle *h)
{
	if (fd < 0 || (unsigned)fd >= HANDLES)
		return false;
	atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
	/* release: pairs with the acquire in uodp_handle_get(); H is complete. */
	atomic_store_explicit(&handles[fd], h, memory_order_release);
	atomic_store_explicit(&any, true, memory_order_relaxed);
	return true;
}

struct uodp_handle *uodp_handle_get(int fd)
{
	if (uodp_likely(!atomic_load_explicit(&any, memory_order_relaxed)) || fd < 0 ||
	    (unsigned)fd >= HANDLES)
		return NULL;
	return atomic_load_explicit(&handles[fd], memory_order_acquire);
}

void uodp_handle_drop(int fd)
{
	struct uodp_handle *h = uodp_handle_get(fd);

	if (!h)
		return;
	h = atomic_exchange_explicit(&handles[fd], NULL, memory_order_acq_rel);
	/* acq_rel: what others did with it comes before the release. */
	if (h && atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) == 1 &&
	    h->ops->release)
		h->ops->release(h);
}

void uodp_handle_drop_range(unsigned first, unsigned last)
{
	if (!atomic_load_explicit(&any, memory_order_relaxed))
		return;
	for (unsigned fd = first; fd <= last && fd < HANDLES; fd++)
		uodp_handle_drop((int)fd);
}
