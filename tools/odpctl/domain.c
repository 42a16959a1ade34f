/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The run directory's domain file: is it one, and who lives in it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "odpctl.h"

static void dir_open(struct ctl *ctl)
{
	char dir[sizeof(ctl->dir)], text[sizeof(dir) + 64];
	int ret = odp_dir_find(ctl->dir, sizeof(ctl->dir));

	if (ret == -ENOENT)
		return;
	if (ret) { /* libodp has said on stderr what to do about it */
		text_clean(dir, sizeof(dir), ctl->dir, sizeof(ctl->dir));
		snprintf(text, sizeof(text), "%s: %s", dir, strerror(-ret));
		ctl_fail(ctl, text);
	}
	ctl->dir_fd = open(ctl->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (ctl->dir_fd < 0 && errno != ENOENT)
		ctl_die(ctl, "%s: %s", ctl->dir, strerror(errno));
}

struct domain_head {
	uint64_t magic;
	uint32_t version;
	uint32_t size_check;
};

/* Why FD is no domain; NULL when it is one, or will be: ctl->attached tells. */
static const char *domain_check(struct ctl *ctl, int fd)
{
	struct domain_head head = {0};
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st))
		return strerror(errno);
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return "not a file of yours";
	n = pread(fd, &head, sizeof(head), 0);
	if (n < 0)
		return strerror(errno);
	/* Its creator writes the size first and the magic last. */
	if (!st.st_size || (st.st_size == (off_t)sizeof(struct odp_domain) && !head.magic))
		return NULL;
	if (n != (ssize_t)sizeof(head) || head.magic != ODP_DOMAIN_MAGIC)
		return "not a uodp domain, or corrupt";
	if (head.version != ODP_LAYOUT_VERSION)
		return "made by another version of uodp";
	if (head.size_check != sizeof(struct odp_domain) ||
	    st.st_size != (off_t)sizeof(struct odp_domain))
		return "of the wrong size, or corrupt";
	ctl->attached = true;
	return NULL;
}

void domain_open(struct ctl *ctl)
{
	const char *why;

	dir_open(ctl);
	if (ctl->dir_fd < 0)
		return;
	ctl->domain_fd = openat(ctl->dir_fd, "domain",
				O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (ctl->domain_fd < 0 && errno == ENOENT)
		return;
	why = ctl->domain_fd < 0 ? strerror(errno) : domain_check(ctl, ctl->domain_fd);
	if (why)
		ctl_die(ctl, "%s/domain: %s", ctl->dir, why);
}

/* Does someone hold the slot's live byte? PID is who, 0 when it is in another
 * PID namespace. A question only: it takes no lock, and waits for none. */
static bool slot_lives(struct ctl *ctl, unsigned nr, pid_t *pid)
{
	struct flock fl = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = ODP_LIVE_BYTE + (off_t)nr,
		.l_len = 1,
	};

	if (fcntl(ctl->domain_fd, F_GETLK, &fl)) {
		ctl_incomplete(ctl, "slot %u: its lock cannot be read: %s", nr, strerror(errno));
		return false;
	}
	*pid = fl.l_pid > 0 ? fl.l_pid : 0;
	return fl.l_type != F_UNLCK;
}

static unsigned lanes_count(const struct ctl *ctl, unsigned nr, uint32_t high)
{
	const size_t size = sizeof(struct odp_lane);
	struct odp_lane lanes[ODP_MAX_LANES];
	unsigned i, count = 0;
	ssize_t n;

	/* The shared lane lies above the others, which fill from below. */
	if (high > ODP_MAX_LANES)
		high = ODP_MAX_LANES;
	n = pread(ctl->domain_fd, lanes, high * size,
		  (off_t)offsetof(struct odp_domain, lanes) + (off_t)(nr * ODP_MAX_LANES * size));
	for (i = 0; n > 0 && i < (size_t)n / size; i++)
		count += lanes[i].tid != 0;
	return count;
}

static void slot_visit(struct ctl *ctl, unsigned nr, const struct odp_slot *slot, process_fn fn,
		       void *arg)
{
	struct process p = {.slot = nr, .gen = slot->gen, .own_pid = slot->pid};

	if (!slot_lives(ctl, nr, &p.pid) || (ctl->pid && p.pid != ctl->pid))
		return;
	p.lanes = lanes_count(ctl, nr, slot->lane_high);
	if (process_open(ctl, &p, slot))
		fn(ctl, &p, arg);
	process_close(&p);
}

void domain_each(struct ctl *ctl, process_fn fn, void *arg)
{
	const size_t size = ODP_MAX_PROCS * sizeof(struct odp_slot);
	struct odp_slot *slots;
	unsigned nr;
	ssize_t n;

	if (!ctl->attached)
		return;
	slots = ctl_realloc(NULL, size);
	n = pread(ctl->domain_fd, slots, size, offsetof(struct odp_domain, slots));
	if (n != (ssize_t)size)
		ctl_incomplete(ctl, "the domain file cannot be read: %s",
			       n < 0 ? strerror(errno) : "it has shrunk");
	for (nr = 0; n == (ssize_t)size && nr < ODP_MAX_PROCS; nr++)
		if (slots[nr].state == ODP_SLOT_LIVE)
			slot_visit(ctl, nr, &slots[nr], fn, arg);
	free(slots);
}
