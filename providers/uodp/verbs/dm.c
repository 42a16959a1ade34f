/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Device memory: a memfd for each allocation, mapped once where the device reaches
 * it. Its pages can be taken away from every mapping in every process at once, by
 * truncation: what touches them then gets SIGBUS, and a transfer, which the kernel
 * does for the device, an error. The seals see to it that no page comes back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "queue.h"

#define PAGE ((size_t)4096)
#define WORD 4           /* of copies by the program */
#define LOG_ALIGN_MAX 12 /* of a page: that is how allocations lie */
#define LIMIT_DEFAULT ((uint64_t)64 << 20)
#define LIMIT_MAX ((uint64_t)1 << 40)
#define ACCESS_ALLOWED                                                                             \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |               \
	 IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_ZERO_BASED | IBV_ACCESS_OPTIONAL_RANGE)

/* ---- how much there is ---- */

static pthread_once_t limit_once = PTHREAD_ONCE_INIT;
static uint64_t limit = LIMIT_DEFAULT;

/* Bytes, or with K, M or G; 0 when TEXT is no such number. */
static uint64_t size_parse(const char *text)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || end == text || *text < '0' || *text > '9')
		return UINT64_MAX;
	if (*end && strchr("kK", *end))
		n = n > LIMIT_MAX ? n : n << 10, end++;
	else if (*end && strchr("mM", *end))
		n = n > LIMIT_MAX ? n : n << 20, end++;
	else if (*end && strchr("gG", *end))
		n = n > LIMIT_MAX ? n : n << 30, end++;
	return *end || n > LIMIT_MAX ? UINT64_MAX : n;
}

static void limit_init(void)
{
	const char *env = getenv("UODP_DM_SIZE");
	uint64_t n;

	if (!env || !*env)
		return;
	n = size_parse(env);
	if (n == UINT64_MAX)
		odp_log(ODP_LOG_ERR,
			"UODP_DM_SIZE=%s is no number of bytes (up to 1024G; K, M, G): taken as "
			"64M",
			env);
	else
		limit = n & ~(uint64_t)(PAGE - 1);
}

uint64_t uodp_dm_limit(void)
{
	pthread_once(&limit_once, limit_init);
	return limit;
}

static int size_charge(const struct uodp_context *ctx, size_t size)
{
	_Atomic uint64_t *sum = &ctx->proc->dm_used[ctx->dev->index];

	/* relaxed: a count that orders nothing */
	if (atomic_fetch_add_explicit(sum, size, memory_order_relaxed) + size <= uodp_dm_limit())
		return 0;
	atomic_fetch_sub_explicit(sum, size, memory_order_relaxed);
	return -ENOMEM;
}

static void size_uncharge(const struct uodp_context *ctx, size_t size)
{
	atomic_fetch_sub_explicit(&ctx->proc->dm_used[ctx->dev->index], size, memory_order_relaxed);
}

/* ---- the pages ---- */

/* SIZE bytes of zeros that are there; neither growth nor another seal is possible. */
static int pages_create(size_t size)
{
	int fd = memfd_create(UODP_DM_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING), ret;

	if (fd < 0)
		return -errno;
	fd = odp_fd_keep(fd);
	/* Not posix_fallocate(), which would write to each page where this fails. */
	if (ftruncate(fd, (off_t)size) || fallocate(fd, 0, 0, (off_t)size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SEAL)) {
		ret = errno == ENOSPC ? -ENOMEM : -errno;
		odp_fd_close(fd);
		return ret;
	}
	return fd;
}

static int pages_map(struct uodp_dm *dm)
{
	struct stat st;
	void *map = mmap(NULL, dm->size, PROT_READ | PROT_WRITE, MAP_SHARED, dm->fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	/* A child has no device. Present pages count as no fault; either may fail. */
	madvise(map, dm->size, MADV_DONTFORK);
	madvise(map, dm->size, MADV_POPULATE_WRITE);
	dm->map = map;
	if (fstat(dm->fd, &st)) {
		munmap(map, dm->size);
		return -errno;
	}
	dm->dev = st.st_dev;
	dm->ino = st.st_ino;
	return 0;
}

int uodp_dm_fd(const struct uodp_dm *dm)
{
	struct stat st;

	/* The mapping keeps the inode, so that no other has its number. */
	if (!fstat(dm->fd, &st) && st.st_dev == dm->dev && st.st_ino == dm->ino)
		return dm->fd;
	return -EBADF;
}

/* The memory is the device's again, whoever maps it still. */
static void pages_take(const struct uodp_dm *dm)
{
	int fd = uodp_dm_fd(dm);

	if (fd >= 0 && !ftruncate(fd, 0))
		return;
	odp_log(ODP_LOG_WARN,
		"the program has closed descriptor %d, which is of device memory: who maps it "
		"keeps "
		"zeros; see odp_fd_kept(3)",
		dm->fd);
	madvise(dm->map, dm->size, MADV_REMOVE);
}

/* ---- copies by the program ---- */

/*
 * By the kernel, which reports what a plain copy would die of: pages that are taken
 * away meanwhile.
 */
static ssize_t copy_once(char *at, char *host, size_t length, bool write)
{
	struct iovec local = {host, length}, remote = {at, length};
	ssize_t n = write ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
			  : process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

	if (n >= 0 || (errno != ENOSYS && errno != EPERM))
		return n;
	memcpy(write ? at : host, write ? host : at, length);
	return (ssize_t)length;
}

int uodp_dm_check(const struct ibv_dm *ibdm)
{
	const struct uodp_dm *dm = to_uodp_dm((struct ibv_dm *)ibdm);
	int ret = uodp_object_check(ibdm->context, dm->proc, ibdm->handle, dm->index);

	return ret ? ret : uodp_context_check(ibdm->context);
}

static int copy(struct uodp_dm *dm, uint64_t offset, char *host, size_t length, bool write)
{
	int ret = uodp_dm_check(&dm->vdm.dm);

	if (!ret && (offset > dm->length || length > dm->length - offset))
		ret = -EFAULT;
	/* As devices have it that copy in words: a program must not get used to more. */
	if (!ret && (offset % WORD || length % WORD))
		ret = -EINVAL;
	if (ret)
		return uodp_fail(ret);
	while (length) {
		ssize_t n = copy_once(dm->map + offset, host, length, write);

		if (uodp_context_check(dm->vdm.dm.context) ||
		    atomic_load_explicit(&dm->revoked, memory_order_relaxed))
			return uodp_fail(-EIO);
		if (n <= 0)
			return uodp_fail(-EFAULT);
		offset += (uint64_t)n;
		host += n;
		length -= (size_t)n;
	}
	return uodp_fail(uodp_context_check(dm->vdm.dm.context));
}

static int memcpy_to(struct ibv_dm *dm, uint64_t offset, const void *host, size_t length)
{
	return copy(to_uodp_dm(dm), offset, (char *)host, length, true);
}

static int memcpy_from(void *host, struct ibv_dm *dm, uint64_t offset, size_t length)
{
	return copy(to_uodp_dm(dm), offset, host, length, false);
}

/* ---- allocation ---- */

static void publish(struct uodp_dm *dm)
{
	struct uodp_dm_shm *shm = dm->shm = &dm->proc->dms_shm[dm->index];

	shm->ino = dm->ino;
	shm->fd = dm->fd;
	atomic_store_explicit(&shm->held, 0, memory_order_relaxed);
	shm->size = dm->size;
	shm->device = to_uodp_context(dm->vdm.dm.context)->dev->index;
	/* release: an odd generation shows a record that is complete */
	atomic_fetch_add_explicit(&shm->gen, 1, memory_order_release);
}

static int dm_create(struct uodp_context *ctx, size_t length, struct uodp_dm **out)
{
	struct uodp_dm *dm = calloc(1, sizeof(*dm));
	int ret;

	if (!dm)
		return -ENOMEM;
	dm->proc = ctx->proc;
	dm->length = length;
	dm->size = (length + PAGE - 1) & ~(PAGE - 1);
	dm->vdm.dm.context = &ctx->vctx.context;
	dm->vdm.dm.memcpy_to_dm = memcpy_to;
	dm->vdm.dm.memcpy_from_dm = memcpy_from;
	pthread_mutex_init(&dm->lock, NULL);
	ret = size_charge(ctx, dm->size);
	if (ret)
		goto err_free;
	ret = dm->fd = pages_create(dm->size);
	if (ret < 0)
		goto err_size;
	ret = pages_map(dm);
	if (ret)
		goto err_fd;
	ret = uodp_table_claim(dm->proc, dm->proc->dms, dm, &ctx->vctx.context);
	if (ret < 0)
		goto err_map;
	dm->index = (uint32_t)ret;
	dm->vdm.handle = dm->vdm.dm.handle = dm->index;
	publish(dm);
	uodp_context_hold(&ctx->vctx.context);
	*out = dm;
	return 0;

err_map:
	munmap(dm->map, dm->size);
err_fd:
	odp_fd_close(dm->fd);
err_size:
	size_uncharge(ctx, dm->size);
err_free:
	free(dm);
	return ret;
}

static int attr_check(const struct ibv_alloc_dm_attr *attr)
{
	if (attr->comp_mask || !attr->length || attr->log_align_req > LOG_ALIGN_MAX ||
	    attr->length > uodp_dm_limit())
		return -EINVAL;
	return 0;
}

struct ibv_dm *uodp_alloc_dm(struct ibv_context *ctx, struct ibv_alloc_dm_attr *attr)
{
	struct uodp_dm *dm;
	int ret = uodp_context_enter(ctx);

	if (!ret)
		ret = attr_check(attr);
	if (!ret)
		ret = dm_create(to_uodp_context(ctx), attr->length, &dm);
	if (!ret && uodp_context_recheck(ctx)) {
		uodp_free_dm(&dm->vdm.dm);
		ret = -EIO;
	}
	if (ret) {
		errno = -ret;
		return NULL;
	}
	return &dm->vdm.dm;
}

void uodp_dm_drop(struct uodp_dm *dm)
{
	uodp_dm_unexport(dm);
	atomic_fetch_add_explicit(&dm->shm->gen, 1, memory_order_release);
	pages_take(dm);
	if (uodp_dm_fd(dm) >= 0)
		odp_fd_close(dm->fd);
	munmap(dm->map, dm->size);
	size_uncharge(to_uodp_context(dm->vdm.dm.context), dm->size);
	uodp_table_release(dm->proc, dm->proc->dms, dm->index);
}

int uodp_free_dm(struct ibv_dm *ibdm)
{
	struct uodp_dm *dm = to_uodp_dm(ibdm);
	struct ibv_context *ctx = ibdm->context;
	int ret = uodp_destroy_check(ctx, dm->proc, ibdm->handle, dm->index);

	/* acquire: pairs with the release of the last MR's decrement */
	if (!ret && atomic_load_explicit(&dm->users, memory_order_acquire))
		ret = -EBUSY;
	if (ret < 0)
		return uodp_fail(ret);
	if (!ret)
		uodp_dm_drop(dm);
	pthread_mutex_destroy(&dm->lock);
	free(dm);
	uodp_context_drop(ctx);
	return 0;
}

/* ---- registration ---- */

struct ibv_mr *uodp_reg_dm_mr(struct ibv_pd *pd, struct ibv_dm *ibdm, uint64_t offset,
			      size_t length, unsigned int access)
{
	struct uodp_dm *dm = to_uodp_dm(ibdm);
	struct odp_region_attr attr = {
		/* The kernel has MRs of no bytes: revoked below, one is good for none. */
		.addr = dm->map + (length ? offset : 0),
		.length = length ? length : 1,
		.kind = ODP_ON_DEMAND, /* that is, by its mapping, which can be taken away */
		.backing = ODP_BACKING_VA,
	};
	struct uodp_mr *mr;
	int ret = -EINVAL;

	if (pd->context != ibdm->context || access & ~(unsigned)ACCESS_ALLOWED ||
	    !(access & IBV_ACCESS_ZERO_BASED) || offset > dm->length ||
	    length > dm->length - offset)
		goto err;
	ret = uodp_dm_check(ibdm);
	if (!ret && atomic_load_explicit(&dm->revoked, memory_order_relaxed))
		ret = -EIO;
	if (ret)
		goto err;
	ret = -EBUSY;
	if (uodp_dm_held(dm->proc, dm->shm->ino))
		goto err;
	/* Before there is a region that would keep it from being freed. */
	atomic_fetch_add_explicit(&dm->users, 1, memory_order_relaxed);
	ret = uodp_mr_create(pd, &attr, (int)access, &mr);
	if (ret)
		goto err_user;
	if (!length)
		odp_region_revoke(mr->region);
	mr->dm = dm;
	mr->vmr.ibv_mr.length = length;
	return &mr->vmr.ibv_mr;

err_user:
	atomic_fetch_sub_explicit(&dm->users, 1, memory_order_release);
err:
	errno = -ret;
	return NULL;
}
