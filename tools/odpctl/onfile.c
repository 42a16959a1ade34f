/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory regions over a part of a file, whoever owns them: those at whose addresses the
 * owner maps it now. What a pinned region has kept of a mapping that is gone is not the
 * program's, nor the file's, to be found.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "odpctl.h"

void file_set(struct ctl *ctl, const char *path)
{
	struct stat st;

	if (stat(path, &st))
		ctl_die(ctl, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		ctl_die(ctl, "%s is no regular file", path);
	ctl->file = (struct file_part){
		.path = path, .dev = st.st_dev, .ino = st.st_ino, .end = UINT64_MAX};
}

bool range_set(struct file_part *file, const char *text)
{
	char *end;
	uint64_t length;

	errno = 0;
	file->start = strtoull(text, &end, 0);
	if (errno || end == text || *text == '-' || (*end && *end != ':'))
		return false;
	if (!*end)
		return true;
	text = end + 1;
	length = strtoull(text, &end, 0);
	if (errno || end == text || *text == '-' || *end || !length)
		return false;
	if (__builtin_add_overflow(file->start, length, &file->end))
		file->end = UINT64_MAX;
	return true;
}

static void mapping_add(struct mappings *m, uint64_t start, uint64_t end)
{
	if (m->n == m->room) {
		m->room = m->room ? 2 * m->room : 64;
		m->at = ctl_realloc(m->at, m->room * sizeof(*m->at));
	}
	m->at[m->n][0] = start;
	m->at[m->n++][1] = end;
}

/* A line of /proc/PID/maps. File systems without a device of their own show one for a
 * mapping and another for a path: there the inode decides. */
static void line_look(struct mappings *m, const struct file_part *file, const char *line)
{
	unsigned long start, end, off, ino;
	unsigned maj, min;
	uint64_t from, to;

	if (sscanf(line, "%lx-%lx %*s %lx %x:%x %lu", &start, &end, &off, &maj, &min, &ino) != 6 ||
	    ino != file->ino)
		return;
	if (makedev(maj, min) != file->dev && (maj || major(file->dev)))
		return;
	from = file->start > off ? file->start : off;
	to = file->end < off + (end - start) ? file->end : off + (end - start);
	if (from < to)
		mapping_add(m, start + (from - off), start + (to - off));
}

void mappings_find(struct ctl *ctl, const struct process *p, struct mappings *m)
{
	int fd = openat(p->proc_fd, "maps", O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;

	m->n = 0;
	if (!f) {
		ctl_incomplete(ctl, "process %d: its mappings: %s", (int)p->pid, strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	while (getline(&line, &size, f) > 0)
		line_look(m, &ctl->file, line);
	free(line);
	fclose(f);
}

bool mappings_hold(const struct mappings *m, uint64_t addr, uint64_t length)
{
	for (size_t i = 0; i < m->n; i++)
		if (addr < m->at[i][1] && (m->at[i][0] <= addr || m->at[i][0] - addr < length))
			return true;
	return false;
}

void mappings_free(struct mappings *m)
{
	free(m->at);
	*m = (struct mappings){0};
}
