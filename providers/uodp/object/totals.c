/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Sums of what queue pairs have counted: those that are, in all processes, and those that were. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <layout.h>

#include "totals.h"

#define LOCK_TRIES 200 /* of a millisecond: the holder may be stopped */
#define QPS_AT_ONCE 64u

/* The totals of the device NAME, locked; -1: there are none, and none are to be made. Without the lock after a while: a number that
 * is a little off is better than none. */
static int totals_open(const char *name, bool make)
{
	char run[IBV_SYSFS_PATH_MAX], path[IBV_SYSFS_PATH_MAX + 80];
	int fd;

	if (odp_dir_find(run, sizeof(run)))
		return -1;
	snprintf(path, sizeof(path), "%s/" UODP_TOTALS_DIR, run);
	if (make && mkdir(path, 0700) && errno != EEXIST)
		return -1;
	snprintf(path, sizeof(path), "%s/" UODP_TOTALS_DIR "/%s", run, name);
	fd = open(path, (make ? O_RDWR | O_CREAT : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK,
		  0600);
	for (int i = 0; fd >= 0 && i < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB); i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return fd;
}

static void totals_read(int fd, struct uodp_totals *t)
{
	if (pread(fd, t, sizeof(*t), 0) != sizeof(*t) || t->magic != UODP_TOTALS_MAGIC)
		*t = (struct uodp_totals){.magic = UODP_TOTALS_MAGIC};
}

static void sums_add(struct uodp_sums *s, const struct uodp_qp_shm *qp)
{
	/* relaxed: numbers that nothing hangs on. */
#define ADD(name) s->name += atomic_load_explicit(&qp->name, memory_order_relaxed)
	ADD(tx_msgs);
	ADD(tx_bytes);
	ADD(rx_msgs);
	ADD(rx_bytes);
	ADD(faults);
	ADD(rnr);
#undef ADD
}

static void clear(struct uodp_qp_shm *qp)
{
	atomic_store_explicit(&qp->tx_msgs, 0, memory_order_relaxed);
	atomic_store_explicit(&qp->tx_bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&qp->rx_msgs, 0, memory_order_relaxed);
	atomic_store_explicit(&qp->rx_bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&qp->faults, 0, memory_order_relaxed);
	atomic_store_explicit(&qp->rnr, 0, memory_order_relaxed);
}

static bool counted(const struct uodp_qp_shm *qp)
{
	struct uodp_sums s = {0};

	sums_add(&s, qp);
	return s.tx_msgs || s.tx_bytes || s.rx_msgs || s.rx_bytes || s.faults || s.rnr;
}

void uodp_totals_add(const char *name, struct uodp_qp_shm *qp)
{
	struct uodp_totals t;
	int err = errno, fd;

	if (!counted(qp))
		return;
	fd = totals_open(name, true);
	if (fd >= 0) {
		totals_read(fd, &t);
		sums_add(&t.sums, qp);
		if (pwrite(fd, &t, sizeof(t), 0) == sizeof(t))
			clear(qp);
		close(fd);
	}
	errno = err;
}

/* ---- those that are ---- */

/* A process's segment, opened for reading in the way of another process; -1. */
static int segment_open(const struct odp_slot *slot, pid_t pid)
{
	char path[48], target[16];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, slot->seg_fd);
	n = readlink(path, target, sizeof(target));
	/* To open anything but a memfd might have effects. */
	if (n < 7 || memcmp(target, "/memfd:", 7))
		return -1;
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

static bool seg_read(int fd, uint64_t off, void *buf, size_t len)
{
	return off <= ODP_SEG_SIZE && len <= ODP_SEG_SIZE - off &&
	       pread(fd, buf, len, (off_t)off) == (ssize_t)len;
}

/* How struct uodp_root begins. */
struct root_head {
	uint64_t magic;
	uint32_t version, num_devices;
	char devices[16][64];
	uint64_t qps, cqs, srqs, dms;
	uint32_t qp_high;
};
static_assert(offsetof(struct root_head, devices) == offsetof(struct uodp_root, devices) &&
		      offsetof(struct root_head, qps) == offsetof(struct uodp_root, qps) &&
		      offsetof(struct root_head, qp_high) == offsetof(struct uodp_root, qp_high),
	      "the same places");

/* The index of the device NAME in ROOT, or -1. */
static int device_find(const struct root_head *root, const char *name)
{
	for (uint32_t i = 0; i < root->num_devices && i < 16; i++)
		if (!strncmp(root->devices[i], name, sizeof(root->devices[i])))
			return (int)i;
	return -1;
}

/* Numbers written by others: all that counts is that nothing is read past its end. */
static void segment_add(int fd, const char *name, struct uodp_sums *s)
{
	struct uodp_qp_shm qps[QPS_AT_ONCE];
	struct root_head head, *root = &head;
	uint32_t high;
	uint64_t off;
	int device;

	if (!seg_read(fd, offsetof(struct odp_seg, root), &off, sizeof(off)) || !off ||
	    !seg_read(fd, off, &head, sizeof(head)) || root->magic != UODP_ROOT_MAGIC ||
	    root->version != UODP_SHM_VERSION)
		return;
	device = device_find(root, name);
	high = root->qp_high < UODP_MAX_QP ? root->qp_high : UODP_MAX_QP;
	for (uint32_t i = 0; device >= 0 && i < high; i += QPS_AT_ONCE) {
		uint32_t n = high - i < QPS_AT_ONCE ? high - i : QPS_AT_ONCE;

		if (!seg_read(fd, root->qps + (uint64_t)i * sizeof(qps[0]), qps,
			      n * sizeof(qps[0])))
			return;
		for (uint32_t k = 0; k < n; k++)
			if (qps[k].device == (uint32_t)device)
				sums_add(s, &qps[k]);
	}
}

/*
 * The domain file. It is never closed: the lock by which this process is known to live,
 * should it be attached, would go with any descriptor of that file.
 */
static int domain_open(void)
{
	static _Atomic int kept = -1;
	char run[IBV_SYSFS_PATH_MAX], path[IBV_SYSFS_PATH_MAX + 8];
	/* acquire, release: the descriptor is what it names. */
	int fd = atomic_load_explicit(&kept, memory_order_acquire);

	if (fd >= 0 || odp_dir_find(run, sizeof(run)))
		return fd;
	snprintf(path, sizeof(path), "%s/domain", run);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0) {
		fd = odp_fd_keep(fd);
		atomic_store_explicit(&kept, fd, memory_order_release);
	}
	return fd;
}

/* The process that holds slot NR, as it is known here; 0: none that can be read. */
static pid_t slot_holder(int domain, unsigned nr, const struct odp_slot *slot)
{
	struct flock fl = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = ODP_LIVE_BYTE + (off_t)nr,
		.l_len = 1,
	};

	if (slot->state != ODP_SLOT_LIVE)
		return 0;
	/* One's own lock is none that would be in the way. */
	if (slot->pid == getpid())
		return slot->pid;
	return !fcntl(domain, F_GETLK, &fl) && fl.l_type != F_UNLCK && fl.l_pid > 0 ? fl.l_pid : 0;
}

void uodp_sums_read(const char *name, struct uodp_sums *s)
{
	struct uodp_totals t = {.magic = UODP_TOTALS_MAGIC};
	int domain = domain_open(), fd = totals_open(name, false);
	struct odp_slot slot;

	if (fd >= 0)
		totals_read(fd, &t);
	for (unsigned nr = 0; domain >= 0 && nr < ODP_MAX_PROCS; nr++) {
		pid_t pid;
		int seg;

		if (pread(domain, &slot, sizeof(slot),
			  (off_t)(offsetof(struct odp_domain, slots) + nr * sizeof(slot))) !=
		    sizeof(slot))
			break;
		pid = slot_holder(domain, nr, &slot);
		seg = pid ? segment_open(&slot, pid) : -1;
		if (seg < 0)
			continue;
		segment_add(seg, name, &t.sums);
		close(seg);
	}
	if (fd >= 0)
		close(fd);
	*s = t.sums;
}
