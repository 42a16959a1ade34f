/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The operations. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "churn.h"

#define PAGE ((size_t)4096)

/* splitmix64 */
static uint64_t random_next(struct worker *w)
{
	uint64_t z = w->random += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint64_t random_below(struct worker *w, uint64_t n)
{
	return n ? random_next(w) % n : 0;
}

void random_fill(struct worker *w, unsigned char *buf, size_t len)
{
	uint64_t r = random_next(w);

	/* Never zero: what is written can be told from a hole. */
	for (size_t i = 0; i < len; i++, r = r * 6364136223846793005u + 1442695040888963407u)
		buf[i] = (unsigned char)(r >> 56) | 1;
}

struct part {
	size_t off, len;
};

/* Bytes below LIMIT: often whole pages, often small, at times large. */
static struct part part_below(struct worker *w, size_t limit)
{
	static const size_t most[] = {16, PAGE, 8 * PAGE, 64 * PAGE};
	struct part p;

	p.off = random_below(w, limit);
	p.len = 1 + random_below(w, most[random_below(w, 4)]);
	if (!random_below(w, 3)) {
		p.off &= ~(PAGE - 1);
		p.len = (p.len + PAGE - 1) & ~(PAGE - 1);
	}
	if (p.len > limit - p.off)
		p.len = limit - p.off;
	return p;
}

static void op_write(struct worker *w, struct tracked *f)
{
	struct part p = part_below(w, FILE_MAX);

	worker_log(w, "%u write %#zx+%#zx", f->name, p.off, p.len);
	random_fill(w, w->buf, p.len);
	if (pwrite(f->fd, w->buf, p.len, (off_t)p.off) != (ssize_t)p.len)
		worker_fail(w, "write: %s", strerror(errno));
	model_written(f, p.off, w->buf, p.len);
}

/* Through a descriptor that can only write, at the end. */
static void op_append(struct worker *w, struct tracked *f)
{
	size_t len = 1 + random_below(w, 3 * PAGE);
	int fd;

	if (f->size + len > FILE_MAX)
		return;
	worker_log(w, "%u append %#zx", f->name, len);
	random_fill(w, w->buf, len);
	fd = open(f->path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0 || write(fd, w->buf, len) != (ssize_t)len || close(fd))
		worker_fail(w, "append: %s", strerror(errno));
	model_written(f, f->size, w->buf, len);
}

static void op_read(struct worker *w, struct tracked *f)
{
	struct part p = part_below(w, FILE_MAX);
	size_t there = p.off < f->size ? f->size - p.off : 0;
	ssize_t n;

	worker_log(w, "%u read %#zx+%#zx", f->name, p.off, p.len);
	n = pread(f->fd, w->buf, p.len, (off_t)p.off);
	if (n != (ssize_t)(there < p.len ? there : p.len))
		worker_fail(w, "read gave %zd, with %#zx bytes there: %s", n, there,
			    strerror(errno));
	bytes_check(w, f, "read", p.off, w->buf, (size_t)n);
}

static void op_map_write(struct worker *w, struct tracked *f)
{
	struct part p;

	if (!f->size)
		return;
	p = part_below(w, f->size);
	worker_log(w, "%u map write %#zx+%#zx", f->name, p.off, p.len);
	random_fill(w, w->buf, p.len);
	memcpy(f->map + p.off, w->buf, p.len);
	model_written(f, p.off, w->buf, p.len);
}

static void op_map_read(struct worker *w, struct tracked *f)
{
	struct part p;

	if (!f->size)
		return;
	p = part_below(w, f->size);
	worker_log(w, "%u map read %#zx+%#zx", f->name, p.off, p.len);
	bytes_check(w, f, "mapping", p.off, f->map + p.off, p.len);
}

static void op_truncate(struct worker *w, struct tracked *f)
{
	size_t size = random_below(w, random_below(w, 2) ? FILE_MAX : f->size + 1);
	bool by_path = random_below(w, 2);

	worker_log(w, "%u truncate%s %#zx -> %#zx", f->name, by_path ? " by path" : "", f->size,
		   size);
	if (by_path ? truncate(f->path, (off_t)size) : ftruncate(f->fd, (off_t)size))
		worker_fail(w, "truncate: %s", strerror(errno));
	model_resize(f, size);
}

static void op_open_truncate(struct worker *w, struct tracked *f)
{
	if (random_below(w, 4))
		return;
	worker_log(w, "%u reopen, O_TRUNC", f->name);
	tracked_reopen(w, f, O_TRUNC);
	model_resize(f, 0);
}

static bool allocate(struct worker *w, struct tracked *f, int mode, struct part p)
{
	if (!fallocate(f->fd, mode, (off_t)p.off, (off_t)p.len))
		return true;
	if (errno != EOPNOTSUPP)
		worker_fail(w, "fallocate(%#x): %s", mode, strerror(errno));
	w->refused++;
	return false;
}

static void model_zero(struct tracked *f, struct part p)
{
	if (p.off < f->size)
		memset(f->model + p.off, 0, p.off + p.len < f->size ? p.len : f->size - p.off);
}

static void op_punch(struct worker *w, struct tracked *f)
{
	struct part p = part_below(w, FILE_MAX);

	worker_log(w, "%u punch %#zx+%#zx", f->name, p.off, p.len);
	if (allocate(w, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, p))
		model_zero(f, p);
}

static void op_zero(struct worker *w, struct tracked *f)
{
	struct part p = part_below(w, FILE_MAX);
	int keep = random_below(w, 2) ? FALLOC_FL_KEEP_SIZE : 0;

	worker_log(w, "%u zero%s %#zx+%#zx", f->name, keep ? ", size kept" : "", p.off, p.len);
	if (!allocate(w, f, FALLOC_FL_ZERO_RANGE | keep, p))
		return;
	model_zero(f, p);
	if (!keep && p.off + p.len > f->size)
		f->size = p.off + p.len;
}

static void op_allocate(struct worker *w, struct tracked *f)
{
	struct part p = part_below(w, FILE_MAX);
	int keep = random_below(w, 2) ? FALLOC_FL_KEEP_SIZE : 0;

	worker_log(w, "%u allocate%s %#zx+%#zx", f->name, keep ? ", size kept" : "", p.off, p.len);
	if (allocate(w, f, keep, p) && !keep && p.off + p.len > f->size)
		f->size = p.off + p.len;
}

static void op_copy(struct worker *w, struct tracked *f)
{
	struct tracked *to = &w->files[random_below(w, N_FILES)];
	struct part p;
	off_t from_off, to_off;
	ssize_t n;

	if (!f->size)
		return;
	p = part_below(w, f->size);
	to_off = (off_t)random_below(w, FILE_MAX - p.len + 1);
	if (to == f && (size_t)to_off < p.off + p.len && p.off < (size_t)to_off + p.len)
		return; /* overlapping: EINVAL */
	worker_log(w, "%u copy %#zx+%#zx to %u at %#zx", f->name, p.off, p.len, to->name,
		   (size_t)to_off);
	while (p.len) {
		from_off = (off_t)p.off;
		n = copy_file_range(f->fd, &from_off, to->fd, &to_off, p.len, 0);
		if (n <= 0 || (size_t)n > p.len)
			worker_fail(w, "copy_file_range gave %zd: %s", n, strerror(errno));
		model_written(to, (size_t)(to_off - n), f->model + p.off, (size_t)n);
		p.off += (size_t)n;
		p.len -= (size_t)n;
	}
}

static void op_sync(struct worker *w, struct tracked *f)
{
	int how = (int)random_below(w, 4);

	worker_log(w, "%u sync %d", f->name, how);
	if (how == 0   ? fdatasync(f->fd)
	    : how == 1 ? msync(f->map, FILE_MAX, MS_SYNC) && errno != ENOMEM
		       : fsync(f->fd))
		worker_fail(w, "sync %d: %s", how, strerror(errno));
	/* What is clean leaves the cache: it is read from the daemon again. */
	if (how == 3)
		posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void op_forget_map(struct worker *w, struct tracked *f)
{
	worker_log(w, "%u madvise", f->name);
	if (madvise(f->map, FILE_MAX, MADV_DONTNEED))
		worker_fail(w, "madvise: %s", strerror(errno));
}

static void op_reopen(struct worker *w, struct tracked *f)
{
	worker_log(w, "%u reopen", f->name);
	tracked_reopen(w, f, 0);
}

static void op_rename(struct worker *w, struct tracked *f)
{
	char path[sizeof(f->path) + 4];

	worker_log(w, "%u rename", f->name);
	snprintf(path, sizeof(path), "%s.new", f->path);
	if (rename(f->path, path) || rename(path, f->path))
		worker_fail(w, "rename: %s", strerror(errno));
}

/* What is called a hole reads as zeros; no byte that was written is in one. */
static void op_seek(struct worker *w, struct tracked *f)
{
	off_t off = (off_t)random_below(w, f->size + 1), data, hole;
	size_t end;

	if ((size_t)off >= f->size)
		return;
	worker_log(w, "%u seek from %#zx", f->name, (size_t)off);
	data = lseek(f->fd, off, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		worker_fail(w, "SEEK_DATA: %s", strerror(errno));
	end = data < 0 ? f->size : (size_t)data;
	for (size_t i = (size_t)off; i < end; i++)
		if (f->model[i])
			worker_fail(w,
				    "SEEK_DATA from %#zx says a hole up to %#zx, but byte %#zx "
				    "was written",
				    (size_t)off, end, i);
	hole = lseek(f->fd, off, SEEK_HOLE);
	if (hole < off || (size_t)hole > f->size)
		worker_fail(w, "SEEK_HOLE from %#zx in %#zx bytes gave %lld", (size_t)off, f->size,
			    (long long)hole);
	if ((size_t)hole < f->size && f->model[hole])
		worker_fail(w, "SEEK_HOLE says a hole at %#zx, which was written", (size_t)hole);
}

static const struct operation {
	void (*run)(struct worker *w, struct tracked *f);
	unsigned weight;
} operations[] = {
	{op_write, 12},     {op_append, 4},   {op_read, 12}, {op_map_write, 12},
	{op_map_read, 8},   {op_truncate, 8}, {op_punch, 6}, {op_zero, 3},
	{op_allocate, 2},   {op_copy, 6},     {op_sync, 3},  {op_forget_map, 2},
	{op_reopen, 2},     {op_rename, 1},   {op_seek, 3},  {op_open_truncate, 1},
	{tracked_check, 3},
};

void operation_run(struct worker *w)
{
	unsigned total = 0, pick;
	size_t i;

	for (i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		total += operations[i].weight;
	pick = (unsigned)random_below(w, total);
	for (i = 0; pick >= operations[i].weight; i++)
		pick -= operations[i].weight;
	operations[i].run(w, &w->files[random_below(w, N_FILES)]);
	w->operations++;
}
