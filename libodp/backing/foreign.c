/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory with a userfaultfd of the program's own. A device's fault on a page that is
 * missing there fails at once: the kernel asks nobody in a fault that may not wait
 * (mm/hmm.c takes none of FAULT_FLAG_ALLOW_RETRY; fs/userfaultfd.c answers SIGBUS
 * then). A system call of ours would wait, for a handler that may never answer. So
 * it is asked beforehand; a page that goes right after that is waited for.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

#define LINE_MAX_LEN 512

static int proc_open(const struct odp_peer *peer, const char *name)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)peer->pid, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Is a page of [start, end) neither in memory nor in swap? */
static bool page_missing(const struct odp_peer *peer, uint64_t start, uint64_t end)
{
	uint64_t first = start >> ODP_PAGE_SHIFT, last = (end - 1) >> ODP_PAGE_SHIFT, e;
	int fd = proc_open(peer, "pagemap");
	bool missing = false;

	if (fd < 0)
		return false;
	for (uint64_t page = first; page <= last && !missing; page++)
		missing = odp_sys_pread(fd, &e, sizeof(e), page * sizeof(e)) == sizeof(e) &&
			  !(e & ODP_PAGEMAP_THERE);
	odp_fd_close(fd);
	return missing;
}

/* The lines of a file, one after the other, each cut at the end of BUF. */
struct lines {
	int fd;
	size_t at, have;
	char buf[4096];
};

static bool line_next(struct lines *l, char *line)
{
	size_t n = 0;

	for (;;) {
		char c;

		if (l->at == l->have) {
			ssize_t got = read(l->fd, l->buf, sizeof(l->buf));

			if (got <= 0)
				return false;
			l->have = (size_t)got;
			l->at = 0;
		}
		c = l->buf[l->at++];
		if (c == '\n')
			break;
		if (n < LINE_MAX_LEN - 1)
			line[n++] = c;
	}
	line[n] = 0;
	return true;
}

/* The same of those alone whose mapping is private and watched for missing pages. */
static bool watched_missing(const struct odp_peer *peer, uint64_t addr, uint64_t addr_end)
{
	struct lines l = {.fd = proc_open(peer, "smaps")};
	char line[LINE_MAX_LEN], perms[5] = "";
	bool found = false, inside = false, past = false;
	unsigned long start, end;

	if (l.fd < 0)
		return false;
	while (!found && !past && line_next(&l, line))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) == 3) {
			inside = start < addr_end && end > addr;
			past = start >= addr_end;
		} else if (inside && !strncmp(line, "VmFlags:", 8)) {
			found = strstr(line, " um") && perms[3] == 'p' &&
				page_missing(peer, odp_max(start, addr), odp_min(end, addr_end));
		}
	odp_fd_close(l.fd);
	return found;
}

bool odp_foreign_missing(const struct odp_peer *peer, uint64_t addr, size_t n)
{
	/* The first alone is cheap. */
	return page_missing(peer, addr, addr + n) && watched_missing(peer, addr, addr + n);
}
