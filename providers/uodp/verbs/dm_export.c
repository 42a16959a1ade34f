/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Device memory in the hands of others: mappings, descriptors, and MRs of those
 * (dmabuf.c). From its first export on it is watched: registrations of it are known,
 * wherever they are made, and can be held off while it moves. Those made before
 * could not, so there must be none.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "uodp.h"

static int dm_check(struct ibv_dm *ibdm)
{
	int ret;

	if (!uodp_is_device(ibdm->context->device))
		return -EOPNOTSUPP;
	ret = uodp_dm_check(ibdm);
	if (!ret && atomic_load_explicit(&to_uodp_dm(ibdm)->revoked, memory_order_relaxed))
		ret = -EIO;
	return ret;
}

/* ---- mappings ---- */

void *uodpdv_dm_map(struct ibv_dm *ibdm)
{
	struct uodp_dm *dm;
	int ret = dm_check(ibdm);
	void *map;

	if (ret) {
		errno = -ret;
		return NULL;
	}
	dm = to_uodp_dm(ibdm);
	ret = uodp_dm_fd(dm);
	if (ret < 0) {
		errno = -ret;
		return NULL;
	}
	map = mmap(NULL, dm->size, PROT_READ | PROT_WRITE, MAP_SHARED, ret, 0);
	return map == MAP_FAILED ? NULL : map;
}

int uodpdv_dm_unmap(struct ibv_dm *ibdm, void *addr)
{
	if (!uodp_is_device(ibdm->context->device))
		return EOPNOTSUPP;
	return munmap(addr, to_uodp_dm(ibdm)->size) ? errno : 0;
}

/* ---- export ---- */

/* dm->lock */
static int watch_create(struct uodp_dm *dm)
{
	struct odp_watch_attr attr = {.policy = ODP_POLICY_DEFAULT, .dev = dm->dev, .ino = dm->ino};

	if (dm->watch)
		return 0;
	/* acquire: pairs with the release of an MR's end */
	if (atomic_load_explicit(&dm->users, memory_order_acquire))
		return -EBUSY;
	return odp_watch_create(dm->proc->odp, &attr, &dm->watch);
}

int uodp_dm_export_fd(struct ibv_dm *ibdm)
{
	struct uodp_dm *dm = to_uodp_dm(ibdm);
	int ret = dm_check(ibdm);

	if (!ret) {
		pthread_mutex_lock(&dm->lock);
		ret = watch_create(dm);
		pthread_mutex_unlock(&dm->lock);
	}
	if (!ret)
		ret = uodp_dm_fd(dm);
	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return fcntl(ret, F_DUPFD_CLOEXEC, 0);
}

int uodpdv_dmabuf_export(struct ibv_dm *dm)
{
	if (uodp_is_device(dm->context->device))
		return uodp_dm_export_fd(dm);
	errno = EOPNOTSUPP;
	return -1;
}

/* ---- what the exporter does with it: dm->lock ---- */

static bool held(const struct uodp_dm *dm)
{
	return atomic_load_explicit(&dm->shm->held, memory_order_relaxed);
}

static void held_set(struct uodp_dm *dm, bool yes)
{
	atomic_store_explicit(&dm->shm->held, yes, memory_order_relaxed);
}

bool uodp_dm_held(const struct uodp_proc *proc, uint64_t ino)
{
	uint32_t high = atomic_load_explicit(&proc->root->dm_high, memory_order_relaxed);

	for (uint32_t i = 0; i < high; i++) {
		const struct uodp_dm_shm *shm = &proc->dms_shm[i];

		/* acquire: pairs with the release that completed it */
		if (atomic_load_explicit(&shm->gen, memory_order_acquire) & 1 && shm->ino == ino &&
		    atomic_load_explicit(&shm->held, memory_order_relaxed))
			return true;
	}
	return false;
}

static int hold(struct uodp_dm *dm)
{
	if (!dm->watch)
		return -EINVAL;
	if (held(dm))
		return -EBUSY;
	return odp_recall_hold(dm->watch, dm->ino, 0, UINT64_MAX, &dm->recall);
}

static void release(struct uodp_dm *dm)
{
	odp_recall_end(dm->watch, &dm->recall);
	held_set(dm, false);
}

void uodp_dm_unexport(struct uodp_dm *dm)
{
	pthread_mutex_lock(&dm->lock);
	if (held(dm))
		release(dm);
	if (dm->watch)
		odp_watch_destroy(dm->watch);
	dm->watch = NULL;
	pthread_mutex_unlock(&dm->lock);
}

int uodpdv_dmabuf_hold(struct ibv_dm *ibdm)
{
	struct uodp_dm *dm = to_uodp_dm(ibdm);
	int ret = dm_check(ibdm);

	if (ret)
		return -ret;
	pthread_mutex_lock(&dm->lock);
	ret = hold(dm);
	/* By the program, which may be long about it: see uodp_dm_held(). */
	if (!ret)
		held_set(dm, true);
	pthread_mutex_unlock(&dm->lock);
	return -ret;
}

int uodpdv_dmabuf_release(struct ibv_dm *ibdm)
{
	struct uodp_dm *dm = to_uodp_dm(ibdm);
	int ret;

	if (!uodp_is_device(ibdm->context->device))
		return EOPNOTSUPP;
	/* That it is unplugged keeps nobody held. */
	ret = uodp_object_check(ibdm->context, dm->proc, ibdm->handle, dm->index);
	if (ret)
		return -ret;
	ret = EINVAL;
	pthread_mutex_lock(&dm->lock);
	if (held(dm)) {
		release(dm);
		ret = 0;
	}
	pthread_mutex_unlock(&dm->lock);
	return ret;
}

/*
 * The content goes to other pages under the same offsets: those who map it fault
 * them in. The old ones go back to the kernel in between.
 */
static int pages_replace(struct uodp_dm *dm)
{
	char *copy =
		mmap(NULL, dm->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret = 0, fd = uodp_dm_fd(dm);
	ssize_t n = 0;
	size_t at;

	if (copy == MAP_FAILED)
		return -ENOMEM;
	if (fd < 0)
		ret = fd;
	for (at = 0; at < dm->size && !ret; at += n > 0 ? (size_t)n : 0) {
		n = pread(fd, copy + at, dm->size - at, (off_t)at);
		ret = n > 0 ? 0 : -EIO; /* cut off meanwhile */
	}
	if (!ret && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)dm->size))
		ret = -errno;
	for (at = 0; at < dm->size && !ret; at += n > 0 ? (size_t)n : 0) {
		n = pwrite(fd, copy + at, dm->size - at, (off_t)at);
		ret = n > 0 ? 0 : errno == EPERM ? -EIO : -errno;
	}
	munmap(copy, dm->size);
	return ret;
}

int uodpdv_dmabuf_move(struct ibv_dm *ibdm)
{
	struct uodp_dm *dm = to_uodp_dm(ibdm);
	int ret = dm_check(ibdm);

	if (ret)
		return -ret;
	pthread_mutex_lock(&dm->lock);
	ret = hold(dm);
	if (!ret) {
		ret = pages_replace(dm);
		release(dm);
	}
	pthread_mutex_unlock(&dm->lock);
	return -ret;
}

/*
 * Held, so that who is inside has left when the pages go. Should somebody's policy
 * forbid it (DENY), they go nevertheless: it is the exporter's memory.
 */
int uodpdv_dmabuf_revoke(struct ibv_dm *ibdm)
{
	struct uodp_dm *dm = to_uodp_dm(ibdm);
	int ret = dm_check(ibdm);
	bool mine = false;

	if (ret)
		return -ret;
	pthread_mutex_lock(&dm->lock);
	if (dm->watch && !held(dm))
		mine = !hold(dm);
	atomic_store_explicit(&dm->revoked, true, memory_order_relaxed);
	ret = uodp_dm_fd(dm);
	if (ret >= 0)
		ret = ftruncate(ret, 0) ? -errno : 0;
	if (mine)
		release(dm);
	pthread_mutex_unlock(&dm->lock);
	return -ret;
}
