/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A file and what should be in it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "churn.h"

static void tracked_map(struct worker *w, struct tracked *f)
{
	f->map = mmap(NULL, FILE_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	if (f->map == MAP_FAILED)
		worker_fail(w, "mmap: %s", strerror(errno));
}

void tracked_open(struct worker *w, struct tracked *f, unsigned index)
{
	f->name = index;
	snprintf(f->path, sizeof(f->path), "%s/churn-%u-%u", w->dir, w->number, index);
	f->model = calloc(1, FILE_MAX);
	f->fd = open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (f->fd < 0 || !f->model)
		worker_fail(w, "%s: %s", f->path, strerror(errno));
	tracked_map(w, f);
}

void tracked_close(struct tracked *f)
{
	munmap(f->map, FILE_MAX);
	close(f->fd);
}

void tracked_reopen(struct worker *w, struct tracked *f, int flags)
{
	tracked_close(f);
	f->fd = open(f->path, O_RDWR | O_CLOEXEC | flags);
	if (f->fd < 0)
		worker_fail(w, "%s cannot be opened again: %s", f->path, strerror(errno));
	tracked_map(w, f);
}

void model_resize(struct tracked *f, size_t size)
{
	if (size < f->size)
		memset(f->model + size, 0, f->size - size);
	f->size = size;
}

void model_written(struct tracked *f, size_t off, const void *data, size_t len)
{
	memmove(f->model + off, data, len);
	if (len && off + len > f->size)
		f->size = off + len;
}

void bytes_check(struct worker *w, struct tracked *f, const char *how, size_t off,
		 const unsigned char *got, size_t len)
{
	size_t i, n = 0;

	if (!memcmp(f->model + off, got, len))
		return;
	for (i = 0; got[i] == f->model[off + i]; i++)
		;
	for (size_t j = i; j < len; j++)
		n += got[j] != f->model[off + j];
	worker_fail(w,
		    "%s, %s: byte %#zx is %#x and should be %#x; %zu of the %zu from there differ",
		    f->path, how, off + i, got[i], f->model[off + i], n, len - i);
}

void tracked_check(struct worker *w, struct tracked *f)
{
	struct stat st;
	ssize_t n;

	if (fstat(f->fd, &st))
		worker_fail(w, "fstat: %s", strerror(errno));
	if ((size_t)st.st_size != f->size)
		worker_fail(w, "%s has %lld bytes, not %zu", f->path, (long long)st.st_size,
			    f->size);
	n = pread(f->fd, w->buf, FILE_MAX, 0);
	if (n != (ssize_t)f->size)
		worker_fail(w, "%s: read gave %zd, not %zu", f->path, n, f->size);
	bytes_check(w, f, "all read", 0, w->buf, f->size);
}
