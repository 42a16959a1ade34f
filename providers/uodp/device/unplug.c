/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Taking a device away from the processes that have it open, and giving it back.
 *
 * Nothing here needs their help: they may be stopped. For each, in this order:
 * the device's number in its root object grows, so that its contexts are gone; queue
 * pairs are in error, and receive nothing; regions are revoked, and transfers under
 * way have left; the pages of device memory are taken from every mapping. The rest
 * (flushed work requests, the event) follows in the owner's service thread: plug.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "queue.h"

#define MAX_SLOTS 1024u /* of a run directory */

struct target {
	struct uodp_proc *proc;
	struct odp_peer *peer;
	struct uodp_root *root;
	uint32_t device; /* its index there */
};

/* ---- the mark in the run directory, for those who come later ---- */

static int mark_path(char *path, size_t size, const char *dir, const char *name, const char *file)
{
	int n = snprintf(path, size, "%s/" UODP_SYSFS_DIR "/%s/%s", dir, name, file);

	return n < (int)size ? 0 : -ENAMETOOLONG;
}

static bool name_valid(const char *name)
{
	size_t len =
		strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");

	return len && !name[len] && len < IBV_SYSFS_NAME_MAX && *name != '.';
}

/* Has anybody listed or opened it here? */
static int device_check(const char *dir, const char *name)
{
	char path[512];

	if (!name_valid(name))
		return -EINVAL;
	if (mark_path(path, sizeof(path), dir, name, "node_guid"))
		return -ENAMETOOLONG;
	return access(path, F_OK) ? -ENODEV : 0;
}

static int mark_set(const char *dir, const char *name)
{
	char path[512];
	int fd;

	if (mark_path(path, sizeof(path), dir, name, UODP_UNPLUGGED))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int mark_clear(const char *dir, const char *name)
{
	char path[512];

	if (mark_path(path, sizeof(path), dir, name, UODP_UNPLUGGED))
		return -ENAMETOOLONG;
	return unlink(path) && errno != ENOENT ? -errno : 0;
}

/* ---- one process ---- */

/* What PEER has of the device NAME; false: it does not know it. */
static bool target_find(struct target *t, const char *name)
{
	struct uodp_root *root = odp_peer_ptr(t->peer, odp_peer_root(t->peer), sizeof(*root));
	uint32_t n;

	if (!root || root->magic != UODP_ROOT_MAGIC || root->version != UODP_SHM_VERSION)
		return false;
	t->root = root;
	n = __atomic_load_n(&root->num_devices, __ATOMIC_ACQUIRE);
	for (t->device = 0; t->device < n && t->device < UODP_MAX_DEVICES; t->device++)
		if (!strncmp(root->devices[t->device], name, sizeof(root->devices[0])))
			return true;
	return false;
}

/* Its number becomes odd, or even. */
static void number_set(const struct target *t, uint32_t odd)
{
	_Atomic uint32_t *plug = &t->root->plug[t->device];
	uint32_t old = atomic_load_explicit(plug, memory_order_relaxed);

	/* seq_cst: after the mark, before the look for what there is (recheck). */
	while ((old & 1) != odd &&
	       !atomic_compare_exchange_weak_explicit(plug, &old, old + 1, memory_order_seq_cst,
						      memory_order_relaxed))
		;
	atomic_thread_fence(memory_order_seq_cst);
}

/* Without its lock, whose holder may be stopped: a message that is being completed
 * came before. The owner flushes what is posted. */
static bool qp_stop(struct uodp_qp_shm *qp, uint32_t device)
{
	uint32_t state = atomic_load_explicit(&qp->state, memory_order_acquire);

	if (!(atomic_load_explicit(&qp->gen, memory_order_acquire) & 1) || qp->device != device)
		return false;
	while (state != IBV_QPS_RESET && state != IBV_QPS_ERR &&
	       !atomic_compare_exchange_weak_explicit(&qp->state, &state, IBV_QPS_ERR,
						      memory_order_release, memory_order_relaxed))
		;
	/* seq_cst: before the fence's loads of the lanes; pairs with odp_copy(). */
	atomic_fetch_add_explicit(&qp->epoch, 1, memory_order_seq_cst);
	return true;
}

static uint32_t qps_stop(const struct target *t)
{
	uint32_t high = atomic_load_explicit(&t->root->qp_high, memory_order_acquire), count = 0;

	for (uint32_t i = 0; i < high && i < UODP_MAX_QP; i++) {
		struct uodp_qp_shm *qp = uodp_qp_shm(t->peer, i);

		count += qp && qp_stop(qp, t->device);
	}
	return count;
}

/* The number of a descriptor may be anything by now, or a lie: only the file that
 * the record names, and that is device memory, may be cut off. */
static bool dm_is(int fd, uint64_t ino)
{
	char path[32], target[64];
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) || (uint64_t)st.st_ino != ino || !st.st_size)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return !strncmp(target, "/memfd:" UODP_DM_NAME " ", sizeof("/memfd:" UODP_DM_NAME));
}

static int dm_take(const struct target *t, const struct uodp_dm_shm *dm)
{
	int fd = odp_peer_fd(t->peer, dm->fd, O_RDWR), ret = 0;

	if (fd < 0)
		return fd;
	if (!dm_is(fd, dm->ino))
		ret = -ENOENT; /* freed meanwhile, or taken before */
	else if (ftruncate(fd, 0))
		ret = -errno;
	close(fd);
	return ret;
}

static uint32_t dms_take(const struct target *t)
{
	uint32_t high = atomic_load_explicit(&t->root->dm_high, memory_order_acquire), count = 0;
	uint64_t base = t->root->dms;

	for (uint32_t i = 0; i < high && i < UODP_MAX_DM; i++) {
		struct uodp_dm_shm *dm = odp_peer_ptr(t->peer, base + i * sizeof(*dm), sizeof(*dm));
		int ret;

		/* acquire: pairs with the release that completed it */
		if (!dm || !(atomic_load_explicit(&dm->gen, memory_order_acquire) & 1) ||
		    dm->device != t->device)
			continue;
		ret = dm_take(t, dm);
		count += !ret;
		if (ret && ret != -ENOENT && ret != -EBADF && ret != -ESRCH)
			odp_log(ODP_LOG_WARN, "device memory of process %d stays: %s",
				(int)odp_peer_pid(t->peer), strerror(-ret));
	}
	return count;
}

static void target_unplug(const struct target *t, struct uodpdv_unplug_info *info)
{
	number_set(t, 1);
	info->qps += qps_stop(t);
	/* With the fence: what was under way on queue pairs has left too. */
	info->mrs += odp_peer_revoke(t->proc->odp, t->peer, UODP_TAG(t->device));
	info->dms += dms_take(t);
	info->processes++;
	odp_bell_ring(t->peer);
}

static void target_plug(const struct target *t, struct uodpdv_unplug_info *info)
{
	number_set(t, 0);
	info->processes++;
}

/* Not again: a number that is odd stays so. */
void uodp_lost(struct uodp_proc *proc)
{
	struct target t = {.proc = proc, .peer = odp_proc_self(proc->odp), .root = proc->root};
	uint32_t n = __atomic_load_n(&proc->root->num_devices, __ATOMIC_ACQUIRE);

	for (t.device = 0; t.device < n; t.device++) {
		if (atomic_load_explicit(&proc->root->plug[t.device], memory_order_relaxed) & 1)
			continue;
		number_set(&t, 1);
		qps_stop(&t);
	}
}

/* ---- all of them, or one ---- */

typedef void (*target_fn)(const struct target *t, struct uodpdv_unplug_info *info);

static int targets_each(struct uodp_proc *proc, const char *name, pid_t pid, target_fn fn,
			struct uodpdv_unplug_info *info)
{
	struct target t = {.proc = proc};
	bool found = false;
	int ret, err = 0;

	for (unsigned slot = 0; slot < MAX_SLOTS; slot++) {
		ret = odp_peer_get(proc->odp, slot, &t.peer);
		if (ret == -ENOENT)
			continue;
		if (ret) {
			err = ret; /* libodp has said why */
			continue;
		}
		if ((pid && odp_peer_pid(t.peer) != pid) || !odp_peer_check(t.peer))
			continue;
		found = true;
		if (target_find(&t, name))
			fn(&t, info);
	}
	return pid && !found && !err ? -ESRCH : err;
}

static int info_put(struct uodpdv_unplug_info *out, uint32_t len,
		    const struct uodpdv_unplug_info *info)
{
	if (!out)
		return 0;
	memset(out, 0, len);
	memcpy(out, info, len < sizeof(*info) ? len : sizeof(*info));
	return 0;
}

int uodpdv_unplug(const char *name, pid_t pid, struct uodpdv_unplug_info *info, uint32_t inlen)
{
	struct uodpdv_unplug_info sum = {0};
	struct uodp_proc *proc;
	int ret;

	if (pid < 0 || (info && inlen < sizeof(uint64_t)))
		return EINVAL;
	ret = uodp_proc_get(&proc);
	if (!ret)
		ret = device_check(odp_proc_dir(proc->odp), name);
	if (!ret && !pid)
		ret = mark_set(odp_proc_dir(proc->odp), name);
	if (!ret)
		ret = targets_each(proc, name, pid, target_unplug, &sum);
	info_put(info, inlen, &sum);
	return -ret;
}

int uodpdv_plug(const char *name, pid_t pid)
{
	struct uodpdv_unplug_info sum = {0};
	struct uodp_proc *proc;
	int ret;

	if (pid < 0)
		return EINVAL;
	ret = uodp_proc_get(&proc);
	if (!ret)
		ret = device_check(odp_proc_dir(proc->odp), name);
	if (!ret)
		ret = targets_each(proc, name, pid, target_plug, &sum);
	/* Last: who opens it now finds an even number. */
	if (!ret && !pid)
		ret = mark_clear(odp_proc_dir(proc->odp), name);
	return -ret;
}
