/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What an attached process shares, read through /proc. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "odpctl.h"

/* What is of interest here, without the tables that follow. */
#define HEAD_SIZE offsetof(struct odp_seg, mrs)
#define ROOT_SIZE offsetof(struct uodp_root, block_ord)

bool process_read(const struct process *p, uint64_t off, void *buf, size_t len)
{
	return p->seg_fd >= 0 && off <= ODP_SEG_SIZE && len <= ODP_SEG_SIZE - off &&
	       pread(p->seg_fd, buf, len, (off_t)off) == (ssize_t)len;
}

/* Field 22 of the stat file of what proc_fd stands for, 0: it has ended. The
 * directory's descriptor never comes to mean another process. */
static uint64_t start_time(int proc_fd)
{
	char buf[1024], *at;
	unsigned field;
	ssize_t n;
	int fd = openat(proc_fd, "stat", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	at = strrchr(buf, ')'); /* a name may hold anything, but the last is its end */
	/* A zombie holds no memory and no locks. */
	if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
		return 0;
	for (field = 2; field < 22 && at; field++) {
		/* Nor has one that is about to end, perhaps: PF_EXITING. */
		if (field == 9 && strtoull(at + 1, NULL, 10) & 4)
			return 0;
		at = strchr(at + 1, ' ');
	}
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

bool process_lives(const struct process *p)
{
	return p->proc_fd < 0 || start_time(p->proc_fd) == p->start;
}

/* Descriptor NR of the process, for reading, if it is a memfd: to open anything
 * else might have effects. */
static int memfd_open(const struct process *p, int nr)
{
	char path[32], target[16];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "fd/%d", nr);
	n = readlinkat(p->proc_fd, path, target, sizeof(target));
	if (n < 0)
		return -errno;
	if (n < 7 || memcmp(target, "/memfd:", 7))
		return -EPROTO;
	fd = openat(p->proc_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_GET_SEALS) < 0) {
		close(fd);
		return -EPROTO;
	}
	return fd;
}

static bool head_ok(const struct process *p, const struct odp_seg *seg)
{
	return seg->magic == ODP_SEG_MAGIC && seg->version == ODP_LAYOUT_VERSION &&
	       seg->slot == p->slot && seg->gen == p->gen && seg->pid == p->own_pid &&
	       seg->size == ODP_SEG_SIZE && seg->arena == ODP_ARENA_OFF;
}

static int segment_check(struct process *p)
{
	struct odp_seg *seg;
	struct stat st;
	int ret = -EPROTO;

	if (fstat(p->seg_fd, &st))
		return -errno;
	if (st.st_size != (off_t)ODP_SEG_SIZE)
		return -EPROTO;
	seg = ctl_realloc(NULL, HEAD_SIZE);
	if (process_read(p, 0, seg, HEAD_SIZE) && head_ok(p, seg)) {
		p->regions =
			seg->regions_high < ODP_MAX_REGIONS ? seg->regions_high : ODP_MAX_REGIONS;
		p->root_off = seg->root;
		ret = 0;
	}
	free(seg);
	return ret;
}

static bool table_inside(uint64_t off, size_t size)
{
	return off >= ODP_ARENA_OFF && off <= ODP_SEG_SIZE && size <= ODP_SEG_SIZE - off;
}

static bool root_ok(const struct uodp_root *root)
{
	return root->magic == UODP_ROOT_MAGIC && root->version == UODP_SHM_VERSION &&
	       root->num_devices <= sizeof(root->devices) / sizeof(root->devices[0]) &&
	       root->qp_high <= UODP_MAX_QP && root->cq_high <= UODP_MAX_CQ &&
	       root->srq_high <= UODP_MAX_SRQ &&
	       table_inside(root->qps, UODP_MAX_QP * sizeof(struct uodp_qp_shm)) &&
	       table_inside(root->cqs, UODP_MAX_CQ * sizeof(struct uodp_cq_shm)) &&
	       table_inside(root->srqs, UODP_MAX_SRQ * sizeof(struct uodp_srq_shm));
}

/* The verbs objects; a process that uses libodp alone has none. */
static int root_read(struct process *p)
{
	struct uodp_root *root;

	if (!p->root_off)
		return 0;
	root = ctl_realloc(NULL, ROOT_SIZE);
	if (!table_inside(p->root_off, sizeof(*root)) ||
	    !process_read(p, p->root_off, root, ROOT_SIZE) || !root_ok(root)) {
		free(root);
		return -EPROTO;
	}
	p->root = root;
	return 0;
}

static int segment_open(struct process *p, int nr)
{
	int ret;

	p->seg_fd = memfd_open(p, nr);
	if (p->seg_fd < 0) {
		ret = p->seg_fd;
		p->seg_fd = -1;
		return ret;
	}
	ret = segment_check(p);
	if (ret) {
		close(p->seg_fd);
		p->seg_fd = -1;
	}
	return ret;
}

static const char *reason(int err)
{
	return err == -EPROTO ? "corrupt, or of another version" : strerror(-err);
}

static bool gone(struct ctl *ctl, const struct process *p)
{
	ctl_note(ctl, "process %d (slot %u) has just ended", p->own_pid, p->slot);
	return false;
}

bool process_open(struct ctl *ctl, struct process *p, const struct odp_slot *slot)
{
	char path[32];
	int ret;

	p->proc_fd = p->seg_fd = -1;
	p->start = slot->start_time;
	p->pool_fd = slot->pool_fd;
	text_clean(p->comm, sizeof(p->comm), slot->comm, sizeof(slot->comm));
	if (!p->pid) {
		ctl_incomplete(ctl,
			       "process %d (slot %u) is in another PID namespace: its memory is "
			       "out of reach",
			       p->own_pid, p->slot);
		return true;
	}
	snprintf(path, sizeof(path), "/proc/%d", p->pid);
	p->proc_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->proc_fd < 0 || !process_lives(p))
		return gone(ctl, p);
	ret = segment_open(p, slot->seg_fd);
	if (ret) {
		if (!process_lives(p))
			return gone(ctl, p);
		ctl_incomplete(ctl, "process %d (slot %u): its memory cannot be read: %s", p->pid,
			       p->slot, reason(ret));
		return true;
	}
	ret = root_read(p);
	if (ret)
		ctl_incomplete(ctl, "process %d (slot %u): its queue pairs cannot be read: %s",
			       p->pid, p->slot, reason(ret));
	return true;
}

void process_close(struct process *p)
{
	if (p->seg_fd >= 0)
		close(p->seg_fd);
	if (p->proc_fd >= 0)
		close(p->proc_fd);
	free(p->root);
}

bool process_pool(const struct process *p, uint64_t *bytes)
{
	struct stat st;
	int fd, ret;

	*bytes = 0;
	if (p->seg_fd < 0)
		return false;
	if (p->pool_fd < 0)
		return true;
	fd = memfd_open(p, p->pool_fd);
	if (fd < 0)
		return false;
	ret = fstat(fd, &st);
	close(fd);
	if (ret)
		return false;
	*bytes = (uint64_t)st.st_blocks * 512;
	return true;
}

bool process_uptime(const struct process *p, uint64_t *seconds)
{
	const long hz = sysconf(_SC_CLK_TCK);
	char buf[64];
	uint64_t up, started;
	ssize_t n;
	int fd;

	fd = open("/proc/uptime", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	up = strtoull(buf, NULL, 10);
	started = p->start / (uint64_t)(hz > 0 ? hz : 100);
	*seconds = up > started ? up - started : 0;
	return n > 0 && p->proc_fd >= 0;
}

/* ---- Tables of records ---- */

void scan_begin(struct scan *s, const struct process *p, uint64_t base, size_t size, uint32_t count,
		size_t gen_off)
{
	s->p = p;
	s->base = base;
	s->size = (uint32_t)size;
	s->count = count;
	s->gen_off = gen_off;
	s->next = s->first = s->filled = 0;
}

static bool scan_fill(struct scan *s)
{
	uint32_t n = (uint32_t)sizeof(s->buf) / s->size;

	if (n > s->count - s->next)
		n = s->count - s->next;
	if (!process_read(s->p, s->base + (uint64_t)s->next * s->size, s->buf, (size_t)n * s->size))
		return false;
	s->first = s->next;
	s->filled = n;
	return true;
}

static uint32_t record_gen(const struct scan *s, const char *record)
{
	uint32_t gen;

	memcpy(&gen, record + s->gen_off, sizeof(gen));
	return gen;
}

/* A record that changed hands while it was read is read again, a few times. */
static bool record_settle(struct scan *s, uint32_t index, char *record)
{
	const uint64_t off = s->base + (uint64_t)index * s->size;
	uint32_t gen;
	int tries;

	for (tries = 0; tries < 4; tries++) {
		if (!process_read(s->p, off + s->gen_off, &gen, sizeof(gen)))
			return false;
		if (gen == record_gen(s, record))
			return true;
		if (!process_read(s->p, off, record, s->size))
			return false;
	}
	return false;
}

const void *scan_next(struct scan *s)
{
	while (s->next < s->count) {
		char *record;

		if (s->next >= s->first + s->filled && !scan_fill(s))
			break;
		record = s->buf + (size_t)(s->next - s->first) * s->size;
		s->next++;
		/* 0: never used */
		if (record_gen(s, record) && record_settle(s, s->next - 1, record))
			return record;
	}
	return NULL;
}

const struct odp_mr_shm *scan_next_mr(struct scan *s)
{
	const struct odp_mr_shm *mr;

	do
		mr = scan_next(s);
	while (mr && mr->kind == ODP_KIND_WINDOW);
	return mr;
}
