/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What this process itself does through its own descriptors to files that it watches:
 * the kernel does not break a lease for its holder, and fanotify is not told of holes
 * through descriptors that are older than the mark. So whoever stands in front of the
 * program's calls (the preloaded provider) has them recall the blocks first. Where
 * fanotify sees the call too, there are two recalls, of which the second finds nothing
 * left to do.
 */
#include "local.h"
#include "own.h"
#include "pool.h"

/* lock */
static struct odp_local_file *file_watched(struct odp_local *l, uint64_t dev, uint64_t ino)
{
	struct odp_local_file *f;

	for (f = l->files; f; f = f->next)
		if (f->way != ODP_LOCAL_NONE && f->refs && !f->left && f->ino == ino &&
		    (f->dev == dev || f->st_dev == dev))
			return f;
	return NULL;
}

/* lock */
static struct odp_local_file *file_by_id(struct odp_local *l, uint64_t id)
{
	struct odp_local_file *f = l->files;

	while (f && f->id != id)
		f = f->next;
	return f;
}

/* Does the kernel refuse it anyway? */
static bool refused(int fd, uint64_t end)
{
	int seals = odp_own_fcntl(fd, F_GET_SEALS, 0);
	int against = end == UINT64_MAX ? F_SEAL_SHRINK : F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;

	return (odp_own_fcntl(fd, F_GETFL, 0) & O_ACCMODE) == O_RDONLY ||
	       (seals > 0 && seals & against);
}

static int recall_begin(struct odp_local *l, uint64_t dev, uint64_t ino, uint64_t start,
			uint64_t end, struct odp_recall *rc)
{
	struct odp_local_file *f;
	int ret;

	pthread_mutex_lock(&l->lock);
	f = file_watched(l, dev, ino);
	if (f)
		f->refs++; /* until the end of the recall */
	pthread_mutex_unlock(&l->lock);
	if (!f)
		return 0;
	ret = odp_recall_begin(l->watch, f->id, start, end, rc);
	if (!ret)
		return 1;
	odp_local_put(f);
	return ret;
}

static struct odp_local *local_of(const struct odp_proc *proc)
{
	/* acquire: pairs with the store in local_get(). */
	return atomic_load_explicit(&proc->mem->local, memory_order_acquire);
}

ODP_EXPORT int odp_own_recall_begin(struct odp_proc *proc, int fd, uint64_t start, uint64_t end,
				    struct odp_recall *rc)
{
	struct odp_local *l = local_of(proc);
	struct stat st;

	if (!l || odp_local_stat(fd, &st) || start >= (uint64_t)st.st_size || refused(fd, end))
		return 0;
	return recall_begin(l, st.st_dev, st.st_ino, start, end, rc);
}

ODP_EXPORT int odp_own_remove_begin(struct odp_proc *proc, const void *addr, size_t *length,
				    struct odp_recall *rc)
{
	uint64_t at = (uintptr_t)addr, end = at + *length;
	struct odp_local *l = local_of(proc);
	struct odp_mem *m = proc->mem;
	struct odp_vma vma;
	bool found;

	if (!l)
		return 0;
	pthread_mutex_lock(&m->conv_lock);
	found = odp_vma_next(m, at, end, &vma);
	pthread_mutex_unlock(&m->conv_lock);
	if (!found)
		return 0;
	if (vma.start > at) {
		*length = vma.start - at;
		return 0;
	}
	end = odp_min(end, vma.end);
	*length = end - at;
	if (!vma.shared || !vma.ino || !(vma.prot & PROT_WRITE))
		return 0;
	return recall_begin(l, vma.dev, vma.ino, vma.off + (at - vma.start),
			    vma.off + (end - vma.start), rc);
}

ODP_EXPORT void odp_own_recall_end(struct odp_proc *proc, struct odp_recall *rc)
{
	struct odp_local *l = local_of(proc);
	struct odp_local_file *f;

	odp_recall_end(l->watch, rc);
	pthread_mutex_lock(&l->lock);
	f = file_by_id(l, rc->ino);
	pthread_mutex_unlock(&l->lock);
	odp_local_put(f);
}
