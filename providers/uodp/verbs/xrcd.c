/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * XRC domains. One without a file is its opener's alone. One with a file is the same in
 * all processes that open it by that file (device and inode), as long as one has it open.
 *
 * Who has it open is what O_CREAT and O_EXCL ask. A process that has one open holds a read
 * lock on a byte of the run directory's file "xrc", the byte by the domain's number; the
 * kernel drops it with the process, however that ends. Opening and closing exclude each
 * other by another byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue.h"

#define XRC_FILE "xrc"
#define TURN_BYTE ((off_t)1 << 62)
#define DOMAIN_BYTE(id) ((off_t)((id) & (((uint64_t)1 << 62) - 1)))

/* A domain with a file that this process has open, perhaps more than once. */
struct domain {
	struct domain *next;
	uint64_t id;
	unsigned opens;
};

struct uodp_xrc {
	pthread_mutex_t lock;
	int fd; /* of XRC_FILE, kept: closing any descriptor of it would drop the locks */
	struct domain *domains;
};

static uint64_t hash_add(uint64_t hash, const void *data, size_t n)
{
	const unsigned char *p = data;

	while (n--)
		hash = (hash ^ *p++) * 0x100000001b3u; /* FNV-1a */
	return hash;
}

/* ---- the file of locks ---- */

static int byte_lock(int fd, int cmd, short type, off_t byte, short *found)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	while (fcntl(fd, cmd, &fl))
		if (errno != EINTR)
			return -errno;
	if (found)
		*found = fl.l_type;
	return 0;
}

static int xrc_create(struct uodp_proc *proc, struct uodp_xrc **out)
{
	/* For as long as the process lives, as what it hangs on. */
	struct uodp_xrc *xrc = odp_priv_alloc(sizeof(*xrc));
	char path[PATH_MAX];
	int fd;

	if (!xrc)
		return -ENOMEM;
	snprintf(path, sizeof(path), "%s/" XRC_FILE, odp_proc_dir(proc->odp));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		fd = -errno;
		odp_log(ODP_LOG_ERR, "%s: %s", path, strerror(-fd));
		odp_priv_free(xrc, sizeof(*xrc));
		return fd;
	}
	xrc->fd = odp_fd_keep(fd);
	pthread_mutex_init(&xrc->lock, NULL);
	*out = xrc;
	return 0;
}

static int xrc_get(struct uodp_proc *proc, struct uodp_xrc **out)
{
	int ret = 0;

	pthread_mutex_lock(&proc->lock);
	if (!proc->xrc)
		ret = xrc_create(proc, &proc->xrc);
	*out = proc->xrc;
	pthread_mutex_unlock(&proc->lock);
	return ret;
}

static int turn_begin(struct uodp_xrc *xrc)
{
	int ret;

	pthread_mutex_lock(&xrc->lock);
	ret = byte_lock(xrc->fd, F_SETLKW, F_WRLCK, TURN_BYTE, NULL);
	if (ret)
		pthread_mutex_unlock(&xrc->lock);
	return ret;
}

static void turn_end(struct uodp_xrc *xrc)
{
	byte_lock(xrc->fd, F_SETLK, F_UNLCK, TURN_BYTE, NULL);
	pthread_mutex_unlock(&xrc->lock);
}

/* ---- domains with a file (our turn) ---- */

static struct domain **domain_at(struct uodp_xrc *xrc, uint64_t id)
{
	struct domain **at;

	for (at = &xrc->domains; *at && (*at)->id != id; at = &(*at)->next)
		;
	return at;
}

/* As drivers/infiniband/core/uverbs_cmd.c, ib_uverbs_open_xrcd(). */
static int flags_check(bool exists, int oflags)
{
	if (!exists && !(oflags & O_CREAT))
		return -EAGAIN;
	return exists && oflags & O_EXCL ? -EINVAL : 0;
}

static int domain_open(struct uodp_xrc *xrc, uint64_t id, int oflags)
{
	struct domain *d = *domain_at(xrc, id);
	short type = F_UNLCK;
	int ret = 0;

	if (!d)
		ret = byte_lock(xrc->fd, F_GETLK, F_WRLCK, DOMAIN_BYTE(id), &type);
	if (!ret)
		ret = flags_check(d || type != F_UNLCK, oflags);
	if (ret)
		return ret;
	if (!d) {
		d = calloc(1, sizeof(*d));
		if (!d)
			return -ENOMEM;
		ret = byte_lock(xrc->fd, F_SETLK, F_RDLCK, DOMAIN_BYTE(id), NULL);
		if (ret) {
			free(d);
			return ret;
		}
		d->id = id;
		d->next = xrc->domains;
		xrc->domains = d;
	}
	d->opens++;
	return 0;
}

static void domain_close(struct uodp_xrc *xrc, uint64_t id)
{
	struct domain **at = domain_at(xrc, id), *d = *at;

	if (!d || --d->opens)
		return;
	byte_lock(xrc->fd, F_SETLK, F_UNLCK, DOMAIN_BYTE(id), NULL);
	*at = d->next;
	free(d);
}

/* ---- what the program has ---- */

static int shared_open(struct uodp_xrcd *x, const struct ibv_xrcd_init_attr *attr,
		       const struct uodp_device *dev)
{
	struct uodp_xrc *xrc;
	struct stat st;
	int ret;

	if (fstat(attr->fd, &st))
		return -EBADF;
	x->shared = true;
	x->id = hash_add(0xcbf29ce484222325u, &dev->guid, sizeof(dev->guid));
	x->id = hash_add(x->id, &st.st_dev, sizeof(st.st_dev));
	x->id = hash_add(x->id, &st.st_ino, sizeof(st.st_ino)) | 1;
	ret = xrc_get(x->proc, &xrc);
	if (!ret)
		ret = turn_begin(xrc);
	if (ret)
		return ret;
	ret = domain_open(xrc, x->id, attr->oflags);
	turn_end(xrc);
	return ret;
}

static int xrcd_open(struct uodp_xrcd *x, const struct ibv_xrcd_init_attr *attr,
		     const struct uodp_device *dev)
{
	const uint32_t both = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;

	if (attr->comp_mask & ~both)
		return -EOPNOTSUPP;
	if ((attr->comp_mask & both) != both)
		return -EINVAL;
	if (attr->fd != -1)
		return shared_open(x, attr, dev);
	/* Even: no file's. */
	if (getrandom(&x->id, sizeof(x->id), 0) != sizeof(x->id))
		return -EAGAIN;
	x->id = (x->id | 2) & ~(uint64_t)1;
	return 0;
}

static void xrcd_link(struct uodp_context *ctx, struct uodp_xrcd *x)
{
	pthread_mutex_lock(&ctx->proc->lock);
	x->next = ctx->xrcds;
	if (x->next)
		x->next->at = &x->next;
	x->at = &ctx->xrcds;
	ctx->xrcds = x;
	pthread_mutex_unlock(&ctx->proc->lock);
}

struct ibv_xrcd *uodp_open_xrcd(struct ibv_context *ctx, struct ibv_xrcd_init_attr *attr)
{
	struct uodp_xrcd *x;
	int ret = uodp_context_enter(ctx);

	x = ret ? NULL : calloc(1, sizeof(*x));
	if (!ret && !x)
		ret = -ENOMEM;
	if (!ret) {
		x->proc = to_uodp_context(ctx)->proc;
		ret = xrcd_open(x, attr, to_uodp_context(ctx)->dev);
	}
	if (ret) {
		free(x);
		errno = -ret;
		return NULL;
	}
	x->ibxrcd.context = ctx;
	xrcd_link(to_uodp_context(ctx), x);
	uodp_context_hold(ctx);
	return &x->ibxrcd;
}

int uodp_xrcd_check(const struct ibv_context *ctx, const struct ibv_xrcd *ibx)
{
	const struct uodp_xrcd *x = to_uodp_xrcd((struct ibv_xrcd *)ibx);

	return ibx->context == ctx && x->proc == uodp_self && !x->ended ? 0 : -EINVAL;
}

static void xrcd_end(struct uodp_xrcd *x)
{
	struct uodp_xrc *xrc;

	pthread_mutex_lock(&x->proc->lock);
	*x->at = x->next;
	if (x->next)
		x->next->at = x->at;
	pthread_mutex_unlock(&x->proc->lock);
	x->ended = true;
	if (x->shared && !xrc_get(x->proc, &xrc) && !turn_begin(xrc)) {
		domain_close(xrc, x->id);
		turn_end(xrc);
	}
}

int uodp_close_xrcd(struct ibv_xrcd *ibx)
{
	struct uodp_xrcd *x = to_uodp_xrcd(ibx);
	struct ibv_context *ctx = ibx->context;

	if (x->proc != uodp_self)
		return uodp_fail(-EIO); /* its parent's */
	/* acquire: pairs with the release of the last user's decrement */
	if (!x->ended && atomic_load_explicit(&x->users, memory_order_acquire))
		return uodp_fail(-EBUSY);
	if (!x->ended)
		xrcd_end(x);
	free(x);
	uodp_context_drop(ctx);
	return 0;
}

void uodp_xrcd_drop_all(struct ibv_context *ctx)
{
	while (to_uodp_context(ctx)->xrcds)
		xrcd_end(to_uodp_context(ctx)->xrcds);
}
