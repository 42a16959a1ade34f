/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * fanotify pre-content events (Linux 6.14): the kernel asks before somebody reads,
 * writes, maps or cuts a file. What it asks about is told from the system call that
 * the asker is in. What is not known to leave the blocks where they are counts as
 * taking them.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>

#include "local.h"
#include "own.h"

/* Younger than the headers of the systems that this is built on. */
#define PRE_ACCESS 0x00100000ull
#define REPORT_TID 0x00000100u
#define REPORT_FID 0x00000200u
#define INFO_RANGE 6
#define DENY_WITH(err) (FAN_DENY | (uint32_t)(err) << 24)

#define MARK_MASK (PRE_ACCESS | FAN_OPEN_PERM)
#define PASS_LIMIT_NS 30000000000ull
#define ASLEEP_NAP_NS 20000
#define ASLEEP_LIMIT_NS 10000000000ull

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif
/* Punch, collapse, zero, insert, unshare, write zeroes: other blocks, or none, after it. */
#define FALLOC_TAKES                                                                               \
	(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_ZERO_RANGE |                  \
	 FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_WRITE_ZEROES)

struct info_range {
	uint8_t type, pad;
	uint16_t len;
	uint32_t pad2;
	uint64_t offset, count;
};

struct extent {
	uint64_t start, end; /* none when equal */
};

static const struct extent nothing = {0, 0}, everything = {0, UINT64_MAX};

/* ---- what the asker is doing ---- */

struct call {
	long nr; /* -1: none, a page fault */
	unsigned long arg[6], sp, pc;
};

static bool call_read(pid_t tid, char *buf, size_t size)
{
	char path[40];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	fd = (int)odp_sys(SYS_openat, AT_FDCWD, path, O_RDONLY);
	if (fd < 0)
		return false;
	n = odp_sys(SYS_read, fd, buf, size - 1);
	odp_sys(SYS_close, fd, 0, 0);
	buf[n > 0 ? n : 0] = 0;
	return n > 0;
}

static bool call_parse(const char *s, struct call *c)
{
	memset(c, 0, sizeof(*c));
	if (sscanf(s, "%ld 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx", &c->nr, &c->arg[0],
		   &c->arg[1], &c->arg[2], &c->arg[3], &c->arg[4], &c->arg[5], &c->sp, &c->pc) == 9)
		return c->pc; /* a kernel's thread has none */
	return sscanf(s, "%ld 0x%lx 0x%lx", &c->nr, &c->sp, &c->pc) == 3 && c->nr == -1 && c->pc;
}

/* Those that leave the blocks where they are. */
static bool call_harmless(long nr)
{
	static const long known[] = {
		-1,         SYS_read,   SYS_write,   SYS_pread64,  SYS_pwrite64,  SYS_readv,
		SYS_writev, SYS_preadv, SYS_pwritev, SYS_preadv2,  SYS_pwritev2,  SYS_sendfile,
		SYS_splice, SYS_mmap,   SYS_execve,  SYS_execveat, SYS_readahead, SYS_fadvise64,
	};

	for (unsigned i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (known[i] == nr)
			return true;
	return false;
}

static struct extent cut_at(uint64_t size, int fd)
{
	struct stat st;

	/* Growing takes nothing. */
	if (!odp_local_stat(fd, &st) && size >= (uint64_t)st.st_size)
		return nothing;
	return (struct extent){size, UINT64_MAX};
}

static struct extent fallocate_takes(const struct call *c)
{
	struct extent x = {c->arg[2], UINT64_MAX};

	if (!(c->arg[1] & FALLOC_TAKES))
		return nothing;
	if (!(c->arg[1] & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)))
		__builtin_add_overflow(c->arg[2], c->arg[3], &x.end);
	return x;
}

static struct extent asked_about(const struct info_range *range)
{
	if (!range || !range->count)
		return everything;
	return (struct extent){range->offset, range->offset + range->count};
}

static struct extent access_takes(const struct call *c, const struct info_range *range, int fd)
{
	switch (c->nr) {
	case SYS_truncate:
#ifdef SYS_truncate64
	case SYS_truncate64:
#endif
	case SYS_ftruncate:
		return cut_at(c->arg[1], fd);
	case SYS_fallocate:
		return fallocate_takes(c);
	default:
		return call_harmless(c->nr) ? nothing : asked_about(range);
	}
}

/* The first 8 bytes of struct open_how are its flags. */
static uint64_t how_flags(pid_t tid, uint64_t addr)
{
	uint64_t flags;
	struct iovec l = {&flags, sizeof(flags)}, r = {(void *)(uintptr_t)addr, sizeof(flags)};

	return process_vm_readv(tid, &l, 1, &r, 1, 0) == (ssize_t)sizeof(flags) ? flags : O_TRUNC;
}

static struct extent open_takes(const struct call *c, pid_t tid)
{
	uint64_t flags = O_TRUNC;

	switch (c->nr) {
	case SYS_openat:
		flags = c->arg[2];
		break;
	case SYS_openat2:
		flags = how_flags(tid, c->arg[2]);
		break;
#ifdef SYS_open
	case SYS_open:
		flags = c->arg[1];
		break;
#endif
	case SYS_execve:
	case SYS_execveat:
	case SYS_open_by_handle_at:
		flags = c->nr == SYS_open_by_handle_at ? c->arg[2] : 0;
		break;
	default:
		break;
	}
	return flags & O_TRUNC ? everything : nothing;
}

static const struct info_range *range_of(const struct fanotify_event_metadata *m)
{
	const char *p = (const char *)m + m->metadata_len, *end = (const char *)m + m->event_len;

	while (end - p >= (long)sizeof(struct info_range)) {
		const struct info_range *r = (const struct info_range *)p;

		if (r->type == INFO_RANGE)
			return r;
		if (!r->len)
			break;
		p += r->len;
	}
	return NULL;
}

/* The event is there a moment before the asker sleeps, or longer if it wants a CPU. */
static bool call_wait(pid_t tid, char *buf, size_t size)
{
	const struct timespec nap = {.tv_nsec = ASLEEP_NAP_NS};
	uint64_t limit = odp_now() + ASLEEP_LIMIT_NS;

	while (call_read(tid, buf, size)) {
		if (strncmp(buf, "running", 7))
			return true;
		if (odp_now() > limit)
			break;
		nanosleep(&nap, NULL);
	}
	return false;
}

static struct extent event_takes(const struct fanotify_event_metadata *m, char *text, size_t size)
{
	const struct info_range *range = range_of(m);
	struct call c;

	if (!call_wait(m->pid, text, size) || !call_parse(text, &c))
		return m->mask & PRE_ACCESS ? asked_about(range) : everything;
	return m->mask & PRE_ACCESS ? access_takes(&c, range, m->fd) : open_takes(&c, m->pid);
}

/* ---- events ---- */

static void respond(struct odp_local *l, int fd, uint32_t response)
{
	struct fanotify_response r = {.fd = fd, .response = response};

	/* An error that the kernel does not pass on becomes EPERM. */
	if (odp_sys(SYS_write, l->fan_fd, &r, sizeof(r)) < 0 && response != FAN_ALLOW) {
		r.response = FAN_DENY;
		odp_sys(SYS_write, l->fan_fd, &r, sizeof(r));
	}
	odp_sys(SYS_close, fd, 0, 0);
}

/* lock */
/* Room for one event: in what read(2) gives they need not be aligned. */
union event {
	struct fanotify_event_metadata m;
	char bytes[512];
};

/* The event at *P, of *N bytes that are left; *P and *N are moved behind it. */
static const struct fanotify_event_metadata *event_next(const char **p, long *n, union event *room)
{
	const char *at = *p;
	uint32_t len;

	if (*n < (long)sizeof(room->m))
		return NULL;
	memcpy(&room->m, at, sizeof(room->m));
	len = room->m.event_len;
	if (len < sizeof(room->m) || len > *n)
		return NULL;
	*p += len;
	*n -= len;
	if (len > sizeof(*room))
		room->m.event_len = len = sizeof(*room);
	memcpy(room->bytes + sizeof(room->m), at + sizeof(room->m), len - sizeof(room->m));
	return &room->m;
}

static struct odp_local_file *file_of(struct odp_local *l, int fd)
{
	struct odp_local_file *f;
	struct stat st;

	if (odp_local_stat(fd, &st))
		return NULL;
	for (f = l->files; f; f = f->next)
		if (f->way == ODP_LOCAL_FAN && !f->left && f->st_dev == st.st_dev &&
		    f->ino == st.st_ino)
			return f;
	return NULL;
}

/* Who asks again has come to the end of what he asked before. (lock) */
static void asker_back(struct odp_local *l, pid_t tid)
{
	for (struct odp_local_file *f = l->files; f; f = f->next)
		if (f->n && f->events[f->first].tid == tid &&
		    f->events[f->first].state == ODP_LE_PASSING)
			f->events[f->first].modified = true;
}

static void event_take(struct odp_local *l, const struct fanotify_event_metadata *m)
{
	struct odp_local_file *f;
	struct odp_local_event *e;
	char text[sizeof(e->call)];
	struct extent x;

	if (m->fd < 0)
		return;
	if (!(m->mask & MARK_MASK)) {
		odp_sys(SYS_close, m->fd, 0, 0);
		return;
	}
	x = event_takes(m, text, sizeof(text));
	pthread_mutex_lock(&l->lock);
	asker_back(l, m->pid);
	f = x.start < x.end ? file_of(l, m->fd) : NULL;
	e = f ? odp_local_event_add(f, x.start, x.end) : NULL;
	if (e) {
		e->fd = m->fd;
		e->tid = m->pid;
		memcpy(e->call, text, sizeof(e->call));
	}
	pthread_mutex_unlock(&l->lock);
	if (!e)
		respond(l, m->fd, f ? DENY_WITH(EBUSY) : FAN_ALLOW);
}

void odp_fan_read(struct odp_local *l)
{
	const struct fanotify_event_metadata *m;
	char buf[4096];
	const char *p = buf;
	union event room;
	long n = odp_sys(SYS_read, l->fan_fd, buf, sizeof(buf));

	while ((m = event_next(&p, &n, &room)))
		event_take(l, m);
}

/* ---- letting it go, and hearing that it is over ---- */

static void fd_path(char *path, size_t size, int fd)
{
	snprintf(path, size, "/proc/thread-self/fd/%d", fd);
}

static int modify_mark(struct odp_local *l, const struct odp_local_file *f, unsigned how)
{
	char path[48];

	fd_path(path, sizeof(path), f->fd);
	return fanotify_mark(l->modify_fd, how, FAN_MODIFY, AT_FDCWD, path);
}

/* Who has changed files since this was last read: told to FN, if there is one. */
static void modified_read(struct odp_local *l, void (*fn)(struct odp_local *l, pid_t tid))
{
	const struct fanotify_event_metadata *m;
	char buf[4096];
	union event room;
	long n;

	while (l->modify_fd >= 0 && (n = odp_sys(SYS_read, l->modify_fd, buf, sizeof(buf))) > 0) {
		const char *p = buf;

		while (fn && (m = event_next(&p, &n, &room)))
			fn(l, m->pid);
	}
}

/* lock */
void odp_fan_answer(struct odp_local *l, struct odp_local_file *f, struct odp_local_event *e)
{
	if (e->ret) {
		respond(l, e->fd, DENY_WITH(-e->ret));
		e->fd = -1;
		e->state = ODP_LE_DONE;
		return;
	}
	/* What it changed before is no sign. */
	modify_mark(l, f, FAN_MARK_ADD);
	modified_read(l, asker_back);
	e->limit = odp_now() + PASS_LIMIT_NS;
	e->modified = false;
	e->state = ODP_LE_PASSING;
	respond(l, e->fd, FAN_ALLOW);
	e->fd = -1;
}

static void modified_by(struct odp_local *l, pid_t tid)
{
	pthread_mutex_lock(&l->lock);
	asker_back(l, tid);
	pthread_mutex_unlock(&l->lock);
}

void odp_fan_modified(struct odp_local *l)
{
	modified_read(l, modified_by);
}

/* It has changed the file, or is in another call, or no more; or it computes, for so
 * long that the call must have failed. */
bool odp_fan_passed(struct odp_local *l, struct odp_local_file *f, struct odp_local_event *e)
{
	char text[sizeof(e->call)];
	bool over = e->modified;

	if (!over && !call_read(e->tid, text, sizeof(text)))
		over = true;
	if (!over && strncmp(text, "running", 7))
		over = strcmp(text, e->call) != 0;
	else if (!over)
		over = odp_now() > e->limit;
	if (over)
		modify_mark(l, f, FAN_MARK_REMOVE);
	return over;
}

/* ---- marks ---- */

static int group_open(void)
{
	return fanotify_init(FAN_CLASS_PRE_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK |
				     FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS | REPORT_TID,
			     O_RDONLY | O_LARGEFILE | O_CLOEXEC);
}

int odp_fan_probe(const char *dir)
{
	int fan = group_open(), fd, ret;
	char path[48];

	if (fan < 0)
		return -errno;
	fd = (int)odp_sys6(SYS_openat, AT_FDCWD, (long)dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600, 0,
			   0);
	ret = fd < 0 ? fd : 0;
	if (!ret) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (fanotify_mark(fan, FAN_MARK_ADD, MARK_MASK, AT_FDCWD, path))
			ret = -errno;
		odp_sys(SYS_close, fd, 0, 0);
	}
	odp_sys(SYS_close, fan, 0, 0);
	return ret;
}

void odp_fan_open(struct odp_local *l)
{
	l->fan_fd = group_open();
	if (l->fan_fd < 0) {
		l->fan_err = -errno;
		return;
	}
	l->modify_fd =
		fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE |
				      FAN_UNLIMITED_MARKS | REPORT_TID | REPORT_FID,
			      0);
	if (l->modify_fd >= 0)
		return;
	l->fan_err = -errno;
	odp_sys(SYS_close, l->fan_fd, 0, 0);
	l->fan_fd = -1;
}

/* Whoever has opened the file to write before the mark was there, and is not this
 * process, could punch a hole unseen. */
static bool fd_is(int dir, const char *fd, const struct stat *file)
{
	struct statx st, link;

	/* Not to wait for whoever serves some other file. */
	return !odp_own_statx(dir, fd, AT_STATX_DONT_SYNC, STATX_INO, &st) &&
	       st.stx_ino == file->st_ino &&
	       makedev(st.stx_dev_major, st.stx_dev_minor) == file->st_dev &&
	       !odp_own_statx(dir, fd, AT_SYMLINK_NOFOLLOW, STATX_MODE, &link) &&
	       (link.stx_mode & S_IWUSR);
}

static bool pid_holds(const char *pid, const struct stat *file)
{
	char path[64];
	bool found = false;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	dir = odp_own_opendir(path);
	while (dir && !found && (d = readdir(dir)))
		found = d->d_name[0] != '.' && fd_is(dirfd(dir), d->d_name, file);
	if (dir)
		closedir(dir);
	return found;
}

static bool others_hold(const struct stat *file)
{
	bool found = false;
	struct dirent *d;
	DIR *dir = odp_own_opendir("/proc");

	while (dir && !found && (d = readdir(dir)))
		found = d->d_name[0] >= '1' && d->d_name[0] <= '9' && atoi(d->d_name) != getpid() &&
			pid_holds(d->d_name, file);
	if (dir)
		closedir(dir);
	return found;
}

static int mapped_open(const struct odp_local_file *f)
{
	char path[80];

	snprintf(path, sizeof(path), "/proc/self/map_files/%llx-%llx",
		 (unsigned long long)f->map_start, (unsigned long long)f->map_end);
	return (int)odp_sys(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC);
}

static int mark(struct odp_local *l, const struct odp_local_file *f, unsigned how)
{
	char path[48];

	fd_path(path, sizeof(path), f->fd);
	return fanotify_mark(l->fan_fd, how, MARK_MASK, AT_FDCWD, path) ? -errno : 0;
}

int odp_fan_mark(struct odp_local *l, struct odp_local_file *f)
{
	struct stat st;
	int ret;

	if (l->fan_fd < 0)
		return l->fan_err;
	f->fd = mapped_open(f);
	if (f->fd < 0)
		return f->fd;
	ret = odp_local_stat(f->fd, &st) || st.st_ino != f->ino ? -ESTALE
								: mark(l, f, FAN_MARK_ADD);
	if (ret)
		goto err_close;
	if (others_hold(&st)) {
		ret = -ETXTBSY;
		goto err_unmark;
	}
	f->st_dev = st.st_dev;
	f->way = ODP_LOCAL_FAN;
	return 0;

err_unmark:
	mark(l, f, FAN_MARK_REMOVE);
err_close:
	odp_sys(SYS_close, f->fd, 0, 0);
	f->fd = -1;
	return ret;
}

void odp_fan_unmark(struct odp_local *l, struct odp_local_file *f)
{
	mark(l, f, FAN_MARK_REMOVE);
	odp_sys(SYS_close, f->fd, 0, 0);
	f->fd = -1;
	f->way = ODP_LOCAL_NONE;
}
