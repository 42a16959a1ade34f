/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Registration: what the memory is, where it can live, and the shared record. */
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/resource.h>

#include "backing.h"
#include "base.h"
#include "domain.h"
#include "pool.h"
#include "region.h"

#define ACCESS_ALL                                                                                 \
	(ODP_ACCESS_LOCAL_WRITE | ODP_ACCESS_REMOTE_WRITE | ODP_ACCESS_REMOTE_READ |               \
	 ODP_ACCESS_REMOTE_ATOMIC | ODP_ACCESS_BIND)

#define TRIES 8

static int access_check(uint32_t access)
{
	if (access & ~(uint32_t)ACCESS_ALL)
		return -EINVAL;
	if ((access & (ODP_ACCESS_REMOTE_WRITE | ODP_ACCESS_REMOTE_ATOMIC)) &&
	    !(access & ODP_ACCESS_LOCAL_WRITE))
		return -EINVAL;
	return 0;
}

static bool attr_implicit(const struct odp_region_attr *a)
{
	return !a->addr && a->length == SIZE_MAX && a->kind == ODP_ON_DEMAND;
}

static int attr_check_null(const struct odp_region_attr *a)
{
	return a->addr || a->length != SIZE_MAX || a->iova || a->huge ||
			       a->backing != ODP_BACKING_AUTO || a->policy != ODP_POLICY_DEFAULT ||
			       (a->access & ~(uint32_t)ODP_ACCESS_LOCAL_WRITE)
		       ? -EINVAL
		       : 0;
}

static int attr_check(const struct odp_region_attr *a)
{
	uint64_t end;

	if (a->kind == ODP_NULL)
		return attr_check_null(a);

	/* What lies under one of those is not known when it is made. */
	if (attr_implicit(a) && a->policy > ODP_POLICY_ODP)
		return a->policy > ODP_POLICY_DENY ? -EINVAL : -EOPNOTSUPP;
	if (attr_implicit(a))
		return a->iova || a->huge ||
				       (a->backing != ODP_BACKING_AUTO &&
					a->backing != ODP_BACKING_VA)
			       ? -EINVAL
			       : access_check(a->access);
	/*
	 * A region of no bytes has the page that its address is in, and no access to it
	 * succeeds; at the start of a page there is none, which ib_umem_get() refuses
	 * (drivers/infiniband/core/umem.c), for all drivers.
	 * The last page must end below 2^64 too.
	 */
	if ((!a->length && !((uintptr_t)a->addr & ODP_PAGE_MASK)) ||
	    __builtin_add_overflow((uintptr_t)a->addr, a->length, &end) ||
	    end > UINT64_MAX - ODP_PAGE_SIZE)
		return -EINVAL;
	if (__builtin_add_overflow(a->iova, a->length ? a->length - 1 : 0, &end))
		return -EINVAL;
	if (a->backing == ODP_BACKING_FD &&
	    (a->kind != ODP_ON_DEMAND || a->huge || a->fd < 0 || a->fd_offset & ODP_PAGE_MASK ||
	     a->fd_offset >> ODP_PAGE_SHIFT > UINT32_MAX))
		return -EINVAL;
	if ((unsigned)a->kind > ODP_ON_DEMAND || (unsigned)a->backing > ODP_BACKING_FD ||
	    (unsigned)a->policy > ODP_POLICY_DENY ||
	    (a->kind == ODP_ON_DEMAND && a->backing == ODP_BACKING_PIN))
		return -EINVAL;
	return access_check(a->access);
}

/* ---- RLIMIT_MEMLOCK, which counts pinned memory only ---- */

bool odp_lock_exempt(void)
{
	struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	if (odp_sys(SYS_capget, &hdr, data, 0))
		return false;
	return data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK);
}

static int lock_charge(struct odp_region *r)
{
	uint64_t len = r->npages << ODP_PAGE_SHIFT;
	struct rlimit lim;

	if (r->kind != ODP_PINNED)
		return 0;
	/* relaxed: a count that orders nothing. */
	len += atomic_fetch_add_explicit(&r->mem->locked, len, memory_order_relaxed);
	r->locked = r->npages << ODP_PAGE_SHIFT;
	if (getrlimit(RLIMIT_MEMLOCK, &lim) || lim.rlim_cur == RLIM_INFINITY ||
	    len <= lim.rlim_cur || odp_lock_exempt())
		return 0;
	odp_log(ODP_LOG_WARN,
		"RLIMIT_MEMLOCK: %lu KiB would be pinned, %lu KiB are allowed: raise it (ulimit "
		"-l), "
		"or register on demand (IBV_ACCESS_ON_DEMAND)",
		(long)(len >> 10), (long)(lim.rlim_cur >> 10));
	return -ENOMEM;
}

static void lock_uncharge(struct odp_region *r)
{
	atomic_fetch_sub_explicit(&r->mem->locked, r->locked, memory_order_relaxed);
	r->locked = 0;
}

/* ---- the region and its record ---- */

static struct odp_region *region_alloc(struct odp_mem *m, const struct odp_region_attr *a)
{
	struct odp_region *r = odp_priv_alloc(sizeof(*r));

	if (!r)
		return NULL;
	r->mem = m;
	r->kind = a->kind;
	r->policy = a->policy;
	r->lease_ms = a->lease_ms;
	r->cookie = a->cookie;
	r->notify = a->notify;
	r->fd = -1;
	if (a->kind == ODP_NULL) {
		r->xlat_size = ODP_PAGE_SIZE; /* of which nothing is used */
		return r;
	}
	if (attr_implicit(a)) {
		r->it.last = (ODP_IMPLICIT_PAGES << ODP_PAGE_SHIFT) - 1;
		r->npages = ODP_IMPLICIT_PAGES;
		r->xlat_size = odp_implicit_size();
		return r;
	}
	r->it.start = odp_page_down((uintptr_t)a->addr);
	r->it.last = odp_page_up((uintptr_t)a->addr + a->length) - 1;
	r->npages = (r->it.last + 1 - r->it.start) >> ODP_PAGE_SHIFT;
	r->xlat_size = r->npages > ODP_SEG_SIZE / sizeof(odp_entry_t)
			       ? SIZE_MAX
			       : r->npages * sizeof(odp_entry_t);
	return r;
}

static int record_alloc(struct odp_region *r, bool implicit)
{
	struct odp_mem *m = r->mem;
	struct odp_seg *seg = m->proc->self->seg;
	size_t size = r->xlat_size;
	uint64_t off;
	int ret;

	off = odp_arena_alloc(m->proc, size);
	if (!off)
		return -ENOMEM;
	odp_mem_lock(m);
	ret = odp_key_alloc(m, &r->key);
	odp_mem_unlock(m);
	if (ret) {
		odp_arena_free(m->proc, off, size);
		return ret;
	}
	r->mr = &seg->mrs[r->key >> 8];
	memset((char *)r->mr + sizeof(r->mr->key), 0, sizeof(*r->mr) - sizeof(r->mr->key));
	r->mr->xlat = off;
	if (implicit) {
		odp_implicit_init(r);
		return 0;
	}
	r->mr->npages = r->npages;
	r->xlat = odp_peer_ptr(m->proc->self, off, size);
	return r->xlat ? 0 : -ENOMEM;
}

static void record_free(struct odp_region *r)
{
	if (!r->mr)
		return;
	odp_arena_free(r->mem->proc, r->mr->xlat, r->xlat_size);
	odp_mem_lock(r->mem);
	odp_key_free(r->mem, r->key);
	odp_mem_unlock(r->mem);
}

static void record_fill(struct odp_region *r, const struct odp_region_attr *a,
			enum odp_backing backing)
{
	struct odp_mr_shm *mr = r->mr;

	mr->pd = a->pd;
	mr->access = a->access;
	mr->kind = (uint8_t)a->kind;
	mr->backing = (uint8_t)backing;
	mr->writable = !!(a->access & ODP_ACCESS_LOCAL_WRITE);
	mr->addr = (uintptr_t)a->addr;
	mr->iova = a->iova;
	mr->length = a->length;
	mr->tag = a->tag;
	if (r->fd >= 0)
		mr->pin_first = r->fd_page;
	atomic_fetch_or_explicit(&mr->flags, (uint8_t)(a->huge ? ODP_MR_HUGE : 0),
				 memory_order_relaxed);
}

/* Pinned in the pool: frames of the pages counted once more (mem_lock). */
static void frames_release(struct odp_region *r)
{
	uint64_t i, n;

	if (r->kind != ODP_PINNED)
		return;
	for (i = 0; i < r->npages; i += n) {
		odp_entry_t e = atomic_load_explicit(&r->xlat[i], memory_order_relaxed);
		const struct odp_extent *ext;

		n = 1;
		if ((e & ODP_E_WHERE) != ODP_E_POOL || (e & ODP_E_ORPHAN))
			continue;
		/* Peers can write to entries: it need not be a frame. */
		ext = odp_extent_find(r->mem, e & ODP_E_FRAME);
		if (!ext)
			continue;
		while (i + n < r->npages &&
		       (atomic_load_explicit(&r->xlat[i + n], memory_order_relaxed) &
			(ODP_E_FRAME | ODP_E_WHERE | ODP_E_ORPHAN)) ==
			       ((e & (ODP_E_FRAME | ODP_E_WHERE)) + (n << ODP_PAGE_SHIFT)) &&
		       (e & ODP_E_FRAME) + (n << ODP_PAGE_SHIFT) <= ext->it.last)
			n++;
		odp_frames_put(r->mem, e & ODP_E_FRAME, n, true);
	}
}

static void region_release(struct odp_region *r)
{
	struct odp_mem *m = r->mem;

	odp_mem_lock(m);
	if (r->in_tree) {
		odp_itree_remove(&m->regions, &r->it);
		odp_unfollow(r);
		frames_release(r);
	}
	if (r->spares)
		odp_extent_drop(m, r->spares, true);
	odp_mem_unlock(m);
	if (r->mr && odp_mr_pinned(r->mr))
		odp_pin_unregister(r);
	if (r->fd >= 0)
		odp_fd_close(r->fd);
	odp_files_drop(r);
	record_free(r);
	lock_uncharge(r);
	odp_priv_free(r, sizeof(*r));
}

/* mem_lock */
static unsigned region_hears(const struct odp_region *r, enum odp_backing backing)
{
	if (r->kind == ODP_PINNED || backing == ODP_BACKING_FD)
		return 0;
	if (!r->followed)
		return ODP_SEEN_KERNEL;
	return ODP_SEEN_ACCESS | (odp_changes_are_told() ? ODP_SEEN_CALLS : 0u);
}

/* Enter R into the trees with its entries filled; from here on events find it. */
static int region_insert(struct odp_region *r, enum odp_backing backing)
{
	struct odp_mem *m = r->mem;
	odp_entry_t where = backing == ODP_BACKING_PIN ? ODP_E_PIN : ODP_E_VA;
	int ret = 0;

	odp_mem_lock(m);
	/* Unmapped by another thread since it was looked at? */
	if (r->kind == ODP_PINNED && backing == ODP_BACKING_POOL &&
	    !odp_umem_covers(m, r->it.start, r->it.last + 1)) {
		ret = -EFAULT;
	} else {
		if (r->xlat)
			odp_xlat_fill(r, where);
		odp_itree_insert(&m->regions, &r->it);
		if (!r->xlat) {
			odp_xlat_adopt(m, 0, r->it.last + 1);
			odp_follow(r);
		}
		r->in_tree = true;
		r->mr->seen = (uint8_t)region_hears(r, backing) & 0xf;
	}
	odp_mem_unlock(m);
	return ret;
}

static int region_back(struct odp_region *r, const struct odp_region_attr *a)
{
	enum odp_backing backing = a->backing;
	int ret;

	pthread_mutex_lock(&r->mem->conv_lock);
	if (!odp_files_same(r)) {
		pthread_mutex_unlock(&r->mem->conv_lock);
		return -ESTALE;
	}
	if (!r->xlat || (a->huge && r->kind == ODP_ON_DEMAND))
		backing = ODP_BACKING_VA;
	ret = r->xlat && r->fd < 0 ? odp_place(r, a->access & ODP_ACCESS_LOCAL_WRITE, &backing) : 0;
	if (!ret) {
		record_fill(r, a, backing);
		ret = region_insert(r, backing);
	}
	if (!ret && (r->mr->flags & ODP_MR_HUGE) && r->kind == ODP_ON_DEMAND)
		ret = odp_huge_check(r);
	pthread_mutex_unlock(&r->mem->conv_lock);
	return ret;
}

/* Mappings that change meanwhile are the program's own race: but not ours to lose. */
static int region_place(struct odp_region *r, const struct odp_region_attr *a)
{
	int ret = -ESTALE;

	if (r->kind == ODP_NULL) {
		record_fill(r, a, ODP_BACKING_AUTO);
		return 0;
	}
	for (unsigned i = 0; i < TRIES && ret == -ESTALE; i++) {
		odp_files_drop(r);
		ret = r->fd < 0 ? odp_files_ask(r) : 0;
		if (!ret)
			ret = region_back(r, a);
	}
	return ret == -ESTALE ? -EFAULT : ret;
}

/* A descriptor of its own: that of a region that ends stays open until nobody who was
 * inside can take another file for it. */
static int region_fd(struct odp_region *r, const struct odp_region_attr *a)
{
	if (a->backing != ODP_BACKING_FD)
		return 0;
	r->fd = odp_own_fcntl(a->fd, F_DUPFD_CLOEXEC, 0);
	if (r->fd < 0)
		return -errno;
	r->fd = odp_fd_high(r->fd);
	r->fd_page = (uint32_t)(a->fd_offset >> ODP_PAGE_SHIFT);
	return 0;
}

static int region_make(struct odp_proc *proc, const struct odp_region_attr *a,
		       struct odp_region **region)
{
	struct odp_region *r = region_alloc(proc->mem, a);
	int ret;

	if (!r)
		return -ENOMEM;
	ret = region_fd(r, a);
	if (!ret)
		ret = lock_charge(r);
	if (!ret)
		ret = record_alloc(r, attr_implicit(a));
	if (!ret)
		ret = region_place(r, a);
	if (ret) {
		region_release(r);
		return ret;
	}
	if (r->npages && r->xlat && r->fd < 0 && a->access & ODP_ACCESS_LOCAL_WRITE)
		odp_valgrind_defined(a->addr, a->length);
	odp_mem_lock(r->mem);
	r->mem->regions_at[r->key >> 8] = r;
	/* release: pairs with the acquire in odp_span_region(). */
	atomic_store_explicit(&r->mr->key, r->key, memory_order_release);
	odp_mem_unlock(r->mem);
	if (odp_files_lost(r)) {
		odp_region_destroy(r);
		return -ESTALE;
	}
	*region = r;
	return 0;
}

ODP_EXPORT int odp_region_create(struct odp_proc *proc, const struct odp_region_attr *attr,
				 struct odp_region **region)
{
	/* A copy: the caller's may lie in the range and move under our feet. */
	struct odp_region_attr a = *attr;
	int ret = attr_check(&a);

	if (ret)
		return ret;
	odp_region_reap(proc->mem);
	ret = -ESTALE;
	for (unsigned i = 0; i < TRIES && ret == -ESTALE; i++)
		ret = region_make(proc, &a, region);
	return ret == -ESTALE ? -EAGAIN : ret;
}

void odp_region_observe(struct odp_mem *m, struct odp_region_observer *o)
{
	o->next = atomic_load_explicit(&m->observers, memory_order_relaxed);
	/* release: complete before it is found. */
	while (!atomic_compare_exchange_weak_explicit(&m->observers, &o->next, o,
						      memory_order_release, memory_order_relaxed))
		;
}

static void observers_end(struct odp_region *r)
{
	/* acquire: pairs with odp_region_observe(). */
	const struct odp_region_observer *o =
		atomic_load_explicit(&r->mem->observers, memory_order_acquire);

	for (; o; o = o->next)
		o->end(r);
}

/* From here on no window is bound to R: 0, or -EBUSY. */
static int region_leave(struct odp_region *r)
{
	bool bound;

	odp_mem_lock(r->mem);
	bound = odp_windows_bound(r);
	if (!bound)
		r->mem->regions_at[r->key >> 8] = NULL;
	odp_mem_unlock(r->mem);
	return bound ? -EBUSY : 0;
}

ODP_EXPORT int odp_region_destroy(struct odp_region *r)
{
	struct odp_mem *m = r->mem;
	bool fenced;

	if (region_leave(r))
		return -EBUSY;
	/* Before the fence: whoever enters a lane after it sees no key. */
	atomic_store_explicit(&r->mr->key, 0, memory_order_seq_cst);
	odp_freeze(m->proc);
	fenced = odp_fence(m->proc, true);
	odp_thaw(m->proc);
	observers_end(r);
	if (fenced) {
		region_release(r);
	} else {
		/* A stopped process may go on with a copy when it is continued. */
		odp_mem_lock(m);
		r->next = m->zombies;
		m->zombies = r;
		odp_mem_unlock(m);
	}
	odp_pool_reap(m);
	return 0;
}

/* Try again for those whose destruction a stopped process held up. */
void odp_region_reap(struct odp_mem *m)
{
	struct odp_region *list, *next;
	bool fenced;

	odp_mem_lock(m);
	list = m->zombies;
	m->zombies = NULL;
	odp_mem_unlock(m);
	if (!list)
		return;
	odp_freeze(m->proc);
	fenced = odp_fence(m->proc, true);
	odp_thaw(m->proc);
	for (; list; list = next) {
		next = list->next;
		if (fenced) {
			region_release(list);
			continue;
		}
		odp_mem_lock(m);
		list->next = m->zombies;
		m->zombies = list;
		odp_mem_unlock(m);
	}
}

ODP_EXPORT uint32_t odp_region_key(const struct odp_region *region)
{
	return region->key;
}

ODP_EXPORT enum odp_kind odp_region_kind(const struct odp_region *region)
{
	return region->kind;
}

ODP_EXPORT enum odp_backing odp_region_backing(const struct odp_region *region)
{
	return (enum odp_backing)region->mr->backing;
}

ODP_EXPORT unsigned odp_region_seen(const struct odp_region *region)
{
	return region->mr->seen;
}

ODP_EXPORT int odp_region_modify(struct odp_region *r, uint32_t pd, uint32_t access)
{
	int ret = access_check(access);

	if (ret)
		return ret;
	odp_mem_lock(r->mem);
	if (odp_windows_bound(r)) {
		ret = -EBUSY;
	} else {
		r->mr->pd = pd;
		r->mr->access = access;
		r->mr->writable = !!(access & ODP_ACCESS_LOCAL_WRITE);
	}
	odp_mem_unlock(r->mem);
	return ret;
}

ODP_EXPORT void odp_region_revoke(struct odp_region *r)
{
	odp_freeze(r->mem->proc);
	odp_fence(r->mem->proc, true);
	odp_mr_revoke(r->mr);
	odp_thaw(r->mem->proc);
}

ODP_EXPORT bool odp_region_revoked(const struct odp_region *r)
{
	return odp_mr_flags(r->mr) & ODP_MR_REVOKED;
}

ODP_EXPORT enum odp_policy odp_region_policy(const struct odp_region *r)
{
	return (enum odp_policy)(odp_mr_flags(r->mr) >> ODP_MR_POLICY);
}

ODP_EXPORT void odp_quiesce(struct odp_proc *proc)
{
	odp_freeze(proc);
	odp_fence(proc, true);
	odp_thaw(proc);
}

ODP_EXPORT void odp_settle(struct odp_proc *proc)
{
	odp_freeze(proc);
	odp_fence(proc, false);
	odp_thaw(proc);
}
