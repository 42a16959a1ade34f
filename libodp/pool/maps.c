/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What is mapped where: PROCMAP_QUERY (Linux 6.11), else /proc/self/maps. */
#include <fcntl.h>
#include <linux/types.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "base.h"
#include "pool.h"

#define MAPS_BUF 8192

/* The kernel's struct procmap_query, for headers that lack it. */
struct maps_query {
	uint64_t size, flags, addr;
	uint64_t start, end, vma_flags, page_size, offset, inode;
	uint32_t major, minor;
	uint32_t name_size, build_id_size;
	uint64_t name, build_id;
};
#define MAPS_QUERY _IOWR('f', 17, struct maps_query)
#define QUERY_COVERING_OR_NEXT 0x10
#define QUERY_SHARED 0x8

/* One mapping, as either source tells it. */
struct maps_line {
	uint64_t start, end, off, inode, dev;
	uint64_t page_size; /* 0: not told */
	uint32_t prot;
	bool shared;
	char name[64];
};

int odp_maps_open(struct odp_mem *m)
{
	struct maps_query q = {.size = sizeof(q), .flags = QUERY_COVERING_OR_NEXT};
	int err;

	m->maps_buf = odp_priv_alloc(MAPS_BUF);
	m->look_buf = odp_priv_alloc(MAPS_BUF);
	m->maps_fd = odp_fd_high(odp_own_open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
	m->pagemap_fd = odp_fd_high(odp_own_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	if (m->maps_buf && m->look_buf && m->maps_fd >= 0 && m->pagemap_fd >= 0) {
		m->query_maps = odp_sys_ioctl(m->maps_fd, MAPS_QUERY, &q) == 0;
		return 0;
	}
	err = m->maps_buf && m->look_buf ? -errno : -ENOMEM;
	if (m->maps_fd >= 0)
		odp_fd_close(m->maps_fd);
	if (m->pagemap_fd >= 0)
		odp_fd_close(m->pagemap_fd);
	if (m->maps_buf)
		odp_priv_free(m->maps_buf, MAPS_BUF);
	if (m->look_buf)
		odp_priv_free(m->look_buf, MAPS_BUF);
	return err;
}

static bool line_query(struct odp_mem *m, uint64_t at, struct maps_line *line)
{
	struct maps_query q = {
		.size = sizeof(q),
		.flags = QUERY_COVERING_OR_NEXT,
		.addr = at,
		.name_size = sizeof(line->name) - 1,
		.name = (uintptr_t)line->name,
	};
	long ret = odp_sys_ioctl(m->maps_fd, MAPS_QUERY, &q);

	if (ret == -ENAMETOOLONG) { /* a file with a long path */
		q.name_size = 0;
		q.name = 0;
		ret = odp_sys_ioctl(m->maps_fd, MAPS_QUERY, &q);
	}
	if (ret)
		return false;
	odp_valgrind_defined(line->name, q.name_size);
	if (!q.name_size)
		line->name[0] = 0;
	line->start = q.start;
	line->end = q.end;
	line->off = q.offset;
	line->inode = q.inode;
	line->dev = makedev(q.major, q.minor);
	line->page_size = q.page_size;
	line->prot = (uint32_t)(q.vma_flags & (PROT_READ | PROT_WRITE | PROT_EXEC));
	line->shared = q.vma_flags & QUERY_SHARED;
	return true;
}

static const char *hex(const char *s, uint64_t *v)
{
	for (*v = 0;; s++) {
		if (*s >= '0' && *s <= '9')
			*v = *v << 4 | (uint64_t)(*s - '0');
		else if (*s >= 'a' && *s <= 'f')
			*v = *v << 4 | (uint64_t)(*s - 'a' + 10);
		else
			return s;
	}
}

/* "start-end rwxp offset major:minor inode   name" */
static void line_parse(const char *s, struct maps_line *line)
{
	uint64_t major, minor;

	s = hex(s, &line->start);
	s = hex(s + 1, &line->end);
	line->prot = (s[1] == 'r' ? PROT_READ : 0) | (s[2] == 'w' ? PROT_WRITE : 0) |
		     (s[3] == 'x' ? PROT_EXEC : 0);
	line->shared = s[4] == 's';
	s = hex(s + 6, &line->off);
	s = hex(s + 1, &major);
	s = hex(s + 1, &minor);
	line->dev = makedev(major, minor);
	line->page_size = 0;
	for (line->inode = 0, s++; *s >= '0' && *s <= '9'; s++)
		line->inode = line->inode * 10 + (uint64_t)(*s - '0');
	while (*s == ' ')
		s++;
	strncpy(line->name, s, sizeof(line->name) - 1);
	line->name[sizeof(line->name) - 1] = 0;
}

static bool line_read(struct odp_mem *m, char *buf, uint64_t at, struct maps_line *line)
{
	size_t have = 0;
	uint64_t pos = 0;

	for (;;) {
		char *s = buf, *nl;
		long n = odp_sys_pread(m->maps_fd, s + have, MAPS_BUF - 1 - have, pos);

		if (n <= 0)
			return false;
		pos += (uint64_t)n;
		have += (size_t)n;
		s[have] = 0;
		while ((nl = strchr(s, '\n'))) {
			*nl = 0;
			line_parse(s, line);
			if (line->end > at)
				return true;
			s = nl + 1;
		}
		have -= (size_t)(s - buf);
		memmove(buf, s, have);
	}
}

/* Stacks that grow and the kernel's own pages cannot move. */
static bool name_fixed(const char *name)
{
	return !strncmp(name, "[stack", 6) || !strncmp(name, "[v", 2) ||
	       !strncmp(name, "[uprobes", 8);
}

/* Shared memory without a name by which anybody could truncate it. */
static bool name_memory(const char *name)
{
	return !strncmp(name, "/dev/zero", 9) || !strncmp(name, "/SYSV", 5);
}

static bool vma_find(struct odp_mem *m, char *buf, uint64_t at, uint64_t end, struct odp_vma *vma)
{
	struct maps_line line;

	if (!(m->query_maps ? line_query(m, at, &line) : line_read(m, buf, at, &line)))
		return false;
	if (line.start >= end)
		return false;
	vma->start = line.start;
	vma->end = line.end;
	vma->off = line.off;
	vma->page_size = line.page_size;
	vma->prot = line.prot;
	vma->shared = line.shared;
	vma->dev = line.dev;
	vma->ino = name_memory(line.name) ? 0 : line.inode;
	vma->kind = ODP_VMA_OTHER;
	if (line.shared && line.inode == m->pool_ino && line.dev == m->pool_dev)
		vma->kind = ODP_VMA_POOL;
	else if (!line.shared && !line.inode && !name_fixed(line.name))
		vma->kind = ODP_VMA_ANON;
	return true;
}

bool odp_vma_next(struct odp_mem *m, uint64_t at, uint64_t end, struct odp_vma *vma)
{
	return vma_find(m, m->maps_buf, at, end, vma);
}

bool odp_vma_from(struct odp_mem *m, uint64_t at, uint64_t end, struct odp_vma *vma)
{
	return vma_find(m, m->look_buf, at, end, vma);
}

bool odp_vma_at(struct odp_mem *m, uint64_t at, struct odp_vma *vma)
{
	return vma_find(m, m->look_buf, at, at + 1, vma);
}
