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

static struct odp_local_file *file_watched(struct odp_local *l, const struct stat *st)
{
	struct odp_local_file *f;

	for (f = l->files; f; f = f->next)
		if (f->way != ODP_LOCAL_NONE && f->refs && !f->left && f->ino == st->st_ino &&
		    (f->dev == st->st_dev || f->st_dev == st->st_dev))
			return f;
	return NULL;
}

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
	int seals = fcntl(fd, F_GET_SEALS);
	int against = end == UINT64_MAX ? F_SEAL_SHRINK : F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;

	return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY || (seals > 0 && seals & against);
}

ODP_EXPORT int odp_own_recall_begin(struct odp_proc *proc, int fd, uint64_t start, uint64_t end,
				    struct odp_recall *rc)
{
	/* acquire: pairs with the store in local_get(). */
	struct odp_local *l = atomic_load_explicit(&proc->mem->local, memory_order_acquire);
	struct odp_local_file *f;
	struct stat st;
	int ret;

	if (!l || odp_local_stat(fd, &st) || start >= (uint64_t)st.st_size || refused(fd, end))
		return 0;
	pthread_mutex_lock(&l->lock);
	f = file_watched(l, &st);
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

ODP_EXPORT void odp_own_recall_end(struct odp_proc *proc, struct odp_recall *rc)
{
	struct odp_local *l = atomic_load_explicit(&proc->mem->local, memory_order_acquire);
	struct odp_local_file *f;

	odp_recall_end(l->watch, rc);
	pthread_mutex_lock(&l->lock);
	f = file_by_id(l, rc->ino);
	pthread_mutex_unlock(&l->lock);
	odp_local_put(f);
}
