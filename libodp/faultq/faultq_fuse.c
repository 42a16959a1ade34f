/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A fault queue's descriptor as a file of FUSE, so that write() can refuse. One
 * thread answers; it waits for requests and for WAKE alone, so that a read that
 * waits holds nothing up.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base.h"
#include "faultq.h"

#define WRITE_MAX 32768u
#define READ_MAX 32768u /* so that the kernel does not ask for a second part */
#define READERS 1024u
#define POLLERS 64u
#define ATTR_SECONDS 1000000u
#define SIZE ((uint64_t)1 << 31) /* no read is beyond the end */

struct reader {
	uint64_t unique;
	uint32_t size;
};

struct fuse_queue {
	struct odp_fq_server server;
	struct odp_fault_queue *q;
	int dev, wake;
	bool own; /* the thread has closed DEV in its table; ours is closed by us */
	pthread_t thread;
	_Atomic bool stop;
	/* the thread's */
	bool gone; /* no request will come */
	unsigned opens, nreaders, npollers;
	struct reader readers[READERS];
	uint64_t pollers[POLLERS]; /* kernel handles of open files that were polled */
	union {
		struct fuse_in_header head;
		char in[WRITE_MAX + 4096];
	};
	_Alignas(8) char out[READ_MAX];
};

static void reply(struct fuse_queue *f, uint64_t unique, int err, const void *data, size_t n)
{
	struct fuse_out_header head = {
		.len = (uint32_t)(sizeof(head) + n), .error = err, .unique = unique};
	struct iovec v[2] = {{&head, sizeof(head)}, {(void *)(uintptr_t)data, n}};

	/* ENOENT: its request was interrupted, or the connection is gone. */
	odp_sys(SYS_writev, f->dev, v, n ? 2 : 1);
}

static void reply_size(struct fuse_queue *f, uint64_t unique, ssize_t n)
{
	struct fuse_write_out out = {.size = (uint32_t)n};

	reply(f, unique, n < 0 ? (int)n : 0, &out, n < 0 ? 0 : sizeof(out));
}

/* ---- read ---- */

/* False: there is nothing for it yet. */
static bool reader_serve(struct fuse_queue *f, const struct reader *r)
{
	ssize_t n = odp_faultq_pull(f->q, f->out, odp_min(r->size, READ_MAX), UINT32_MAX);

	if (n == -EAGAIN)
		return false;
	if (n < 0) {
		reply(f, r->unique, (int)n, NULL, 0);
		return true;
	}
	reply(f, r->unique, 0, f->out, (size_t)n);
	return true;
}

static void readers_serve(struct fuse_queue *f)
{
	unsigned n = 0;

	while (n < f->nreaders && reader_serve(f, &f->readers[n]))
		n++;
	f->nreaders -= n;
	memmove(f->readers, f->readers + n, f->nreaders * sizeof(f->readers[0]));
}

static void do_read(struct fuse_queue *f, const struct fuse_read_in *in)
{
	struct reader r = {f->head.unique, in->size};

	/* Those who came first are served first. */
	if (!f->nreaders && reader_serve(f, &r))
		return;
	if (in->flags & O_NONBLOCK)
		reply(f, r.unique, -EAGAIN, NULL, 0);
	else if (f->nreaders == READERS)
		reply(f, r.unique, -ENOBUFS, NULL, 0);
	else
		f->readers[f->nreaders++] = r;
}

static void do_interrupt(struct fuse_queue *f, const struct fuse_interrupt_in *in)
{
	for (unsigned i = 0; i < f->nreaders; i++) {
		if (f->readers[i].unique != in->unique)
			continue;
		reply(f, in->unique, -EINTR, NULL, 0);
		f->nreaders--;
		memmove(f->readers + i, f->readers + i + 1,
			(f->nreaders - i) * sizeof(f->readers[0]));
		return;
	}
}

/* ---- poll ---- */

static void poller_add(struct fuse_queue *f, uint64_t kh)
{
	for (unsigned i = 0; i < f->npollers; i++)
		if (f->pollers[i] == kh)
			return;
	if (f->npollers < POLLERS)
		f->pollers[f->npollers++] = kh;
}

static void do_poll(struct fuse_queue *f, const struct fuse_poll_in *in)
{
	bool readable = odp_faultq_readable(f->q);
	struct fuse_poll_out out = {.revents = POLLOUT | POLLWRNORM |
					       (readable ? POLLIN | POLLRDNORM : 0)};

	if (in->flags & FUSE_POLL_SCHEDULE_NOTIFY)
		poller_add(f, in->kh);
	reply(f, f->head.unique, 0, &out, sizeof(out));
}

static void pollers_wake(struct fuse_queue *f)
{
	struct fuse_notify_poll_wakeup_out out;

	for (unsigned i = 0; i < f->npollers; i++) {
		out.kh = f->pollers[i];
		reply(f, 0, FUSE_NOTIFY_POLL, &out, sizeof(out));
	}
}

/* ---- the rest ---- */

static void do_init(struct fuse_queue *f, const struct fuse_init_in *in)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = (uint32_t)odp_min(in->minor, FUSE_KERNEL_MINOR_VERSION),
		.max_write = WRITE_MAX,
		.flags = in->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_ASYNC_DIO),
		.max_background = READERS,
		.congestion_threshold = READERS,
		.max_pages = WRITE_MAX / ODP_PAGE_SIZE + 1,
	};

	reply(f, f->head.unique, in->major == FUSE_KERNEL_VERSION ? 0 : -EPROTO, &out, sizeof(out));
}

static void do_getattr(struct fuse_queue *f)
{
	struct fuse_attr_out out = {
		.attr_valid = ATTR_SECONDS,
		.attr = {.ino = FUSE_ROOT_ID,
			 .size = SIZE,
			 .mode = S_IFREG | 0600,
			 .nlink = 1,
			 .blksize = ODP_PAGE_SIZE},
	};

	reply(f, f->head.unique, 0, &out, sizeof(out));
}

/* STREAM: a read that waits does not hold the file's position. */
static void do_open(struct fuse_queue *f)
{
	struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO | FOPEN_STREAM};

	f->opens++;
	reply(f, f->head.unique, 0, &out, sizeof(out));
}

/* The last one: nobody will answer. */
static void do_release(struct fuse_queue *f)
{
	if (!--f->opens)
		odp_faultq_deafen(f->q);
	reply(f, f->head.unique, 0, NULL, 0);
}

static void serve(struct fuse_queue *f)
{
	const void *arg = &f->head + 1;
	const struct fuse_write_in *write_in = arg;

	switch (f->head.opcode) {
	case FUSE_INIT:
		do_init(f, arg);
		break;
	case FUSE_GETATTR:
		do_getattr(f);
		break;
	case FUSE_OPEN:
		do_open(f);
		break;
	case FUSE_RELEASE:
		do_release(f);
		break;
	case FUSE_READ:
		do_read(f, arg);
		break;
	case FUSE_WRITE:
		reply_size(f, f->head.unique, odp_faultq_push(f->q, write_in + 1, write_in->size));
		break;
	case FUSE_POLL:
		do_poll(f, arg);
		break;
	case FUSE_INTERRUPT:
		do_interrupt(f, arg);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		break; /* no answer is expected */
	default:
		/* FLUSH too: the kernel then asks no more, and close() waits for nobody. */
		reply(f, f->head.unique, -ENOSYS, NULL, 0);
	}
}

static void requests_serve(struct fuse_queue *f)
{
	long n;

	while ((n = odp_sys(SYS_read, f->dev, f->in, sizeof(f->in))) > 0)
		if ((size_t)n >= sizeof(f->head))
			serve(f);
	if (n == -EAGAIN || n == -EINTR || n == -ENOENT)
		return;
	/* With the last file the file system goes, and may take its RELEASE along. */
	f->gone = true;
	odp_faultq_deafen(f->q);
}

static void woken(struct fuse_queue *f)
{
	uint64_t n;

	odp_sys(SYS_read, f->wake, &n, sizeof(n));
	readers_serve(f);
	pollers_wake(f);
}

static void fuse_main(void *arg)
{
	struct fuse_queue *f = arg;

	/* acquire: pairs with the release in fuse_close(). */
	while (!atomic_load_explicit(&f->stop, memory_order_acquire)) {
		struct pollfd p[2] = {{f->gone ? -1 : f->dev, POLLIN, 0}, {f->wake, POLLIN, 0}};

		if (odp_sys6(SYS_ppoll, (long)p, 2, 0, 0, 0, 0) < 0)
			continue;
		if (p[1].revents)
			woken(f);
		if (p[0].revents)
			requests_serve(f);
	}
	for (unsigned i = 0; i < f->nreaders; i++)
		reply(f, f->readers[i].unique, 0, NULL, 0);
	pollers_wake(f);
	/* Its last copy: whoever waits for an answer is told that there is none. */
	odp_sys(SYS_close, f->dev, 0, 0);
	if (f->own)
		odp_sys(SYS_close, f->wake, 0, 0);
	else
		odp_fd_release(f->dev);
}

static void fuse_close(struct odp_fq_server *server)
{
	struct fuse_queue *f = (struct fuse_queue *)server;
	const uint64_t one = 1;

	atomic_store_explicit(&f->stop, true, memory_order_release);
	odp_sys(SYS_write, f->wake, &one, sizeof(one));
	pthread_join(f->thread, NULL);
	odp_priv_free(f, sizeof(*f));
}

/*
 * O_DIRECT, with FUSE_ASYNC_DIO, is for io_uring: its reads are then requests that
 * wait here, not in the thread that submits them, and end when they got less than
 * they had room for. fstat() has the kernel ask for the size.
 */
static int file_open(int root)
{
	char path[64];
	struct stat st;
	int fd, ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", root);
	fd = odp_own_open(path, O_RDWR | O_CLOEXEC | O_DIRECT);
	if (fd < 0)
		return -errno;
	if (!odp_own_fstat(fd, &st))
		return fd;
	ret = -errno;
	odp_fd_close(fd);
	return ret;
}

static bool fuse_wanted(void)
{
	const char *env = getenv("UODP_NO_FUSE");

	return !env || strcmp(env, "1");
}

int odp_faultq_fuse(struct odp_fault_queue *q, int wake)
{
	struct fuse_queue *f;
	int ret, root;

	if (!fuse_wanted())
		return -ECANCELED;
	f = odp_priv_alloc(sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->server.close = fuse_close;
	f->q = q;
	f->wake = wake;
	ret = odp_faultq_mount(&f->dev, &root);
	if (ret)
		goto err_free;
	ret = odp_faultq_thread(&f->thread, fuse_main, f, f->dev, wake, &f->own);
	if (ret) {
		odp_fd_close(f->dev);
		goto err_close_root;
	}
	if (f->own)
		odp_fd_close(f->dev);
	ret = file_open(root);
	odp_fd_close(root);
	if (ret < 0) {
		fuse_close(&f->server);
		return ret;
	}
	q->fd = ret;
	q->checked = true;
	q->server = &f->server;
	return 0;

err_close_root:
	odp_fd_close(root);
err_free:
	odp_priv_free(f, sizeof(*f));
	return ret;
}
