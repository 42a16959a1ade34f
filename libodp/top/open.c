/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Sets the memory side up: the pool, the userfaultfds, the pin ring. */
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backing.h"
#include "base.h"
#include "pool.h"
#include "region.h"
#include "top.h"
#include "transfer.h"
#include "watch.h"

static enum odp_backing backing_from_env(void)
{
	const char *s = getenv("UODP_BACKING");

	if (!s || !*s || !strcmp(s, "auto"))
		return ODP_BACKING_AUTO;
	if (!strcmp(s, "pool"))
		return ODP_BACKING_POOL;
	if (!strcmp(s, "va"))
		return ODP_BACKING_VA;
	odp_log(ODP_LOG_ERR, "UODP_BACKING=%s is none of auto, pool, va: taken as auto", s);
	return ODP_BACKING_AUTO;
}

static int pool_open(struct odp_mem *m)
{
	struct stat st;
	int fd = memfd_create("uodp-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	fd = odp_fd_high(fd);
	/* Sealed in size: a peer that maps it cannot be given SIGBUS by a truncate. */
	if (odp_own_ftruncate(fd, ODP_POOL_SIZE) || odp_own_fstat(fd, &st) ||
	    odp_own_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		int err = -errno;

		odp_fd_close(fd);
		return err;
	}
	m->pool_fd = fd;
	m->pool_dev = st.st_dev;
	m->pool_ino = st.st_ino;
	return 0;
}

static void locks_init(struct odp_mem *m)
{
	pthread_mutexattr_t attr;

	/* It knows its owner: fork.c. */
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&m->conv_lock, &attr);
	pthread_mutexattr_destroy(&attr);
	pthread_mutex_init(&m->mem_lock, NULL);
	pthread_mutex_init(&m->pin_slots, NULL);
	pthread_mutex_init(&m->pin_pipe, NULL);
}

/* Sparse and large: in a memfd, of which only what is touched counts, even where
 * the kernel commits no more than it has (vm.overcommit_memory=2). */
static void *table_map(size_t size)
{
	int fd = memfd_create("uodp-table", MFD_CLOEXEC);
	void *p = NULL;

	if (fd < 0)
		return NULL;
	if (!odp_own_ftruncate(fd, (off_t)size))
		p = odp_map_shared(fd, 0, size);
	odp_fd_close(fd);
	return p;
}

static int tables_map(struct odp_mem *m)
{
	m->refs = table_map((ODP_POOL_SIZE >> ODP_PAGE_SHIFT) * sizeof(*m->refs));
	m->free_keys = table_map(ODP_MAX_REGIONS * sizeof(*m->free_keys));
	m->variants = table_map(ODP_MAX_REGIONS);
	m->regions_at = table_map(ODP_MAX_REGIONS * sizeof(*m->regions_at));
	m->windows_at = table_map(ODP_MAX_REGIONS * sizeof(*m->windows_at));
	m->bounces = odp_mem_map(ODP_BOUNCES * ODP_BOUNCE_SIZE);
	return m->refs && m->free_keys && m->variants && m->regions_at && m->windows_at &&
			       m->bounces
		       ? 0
		       : -ENOMEM;
}

static void tables_unmap(struct odp_mem *m)
{
	if (m->refs)
		odp_own_munmap(m->refs, (ODP_POOL_SIZE >> ODP_PAGE_SHIFT) * sizeof(*m->refs));
	if (m->free_keys)
		odp_own_munmap(m->free_keys, ODP_MAX_REGIONS * sizeof(*m->free_keys));
	if (m->variants)
		odp_own_munmap(m->variants, ODP_MAX_REGIONS);
	if (m->regions_at)
		odp_own_munmap(m->regions_at, ODP_MAX_REGIONS * sizeof(*m->regions_at));
	if (m->windows_at)
		odp_own_munmap(m->windows_at, ODP_MAX_REGIONS * sizeof(*m->windows_at));
	if (m->bounces)
		odp_own_munmap(m->bounces, ODP_BOUNCES * ODP_BOUNCE_SIZE);
}

/* Said aloud only when it was not asked for, and by the first process of a run directory. */
static void no_uffd_say(struct odp_mem *m, int err)
{
	enum odp_log_level level = ODP_LOG_DEBUG;
	char remedy[96];

	/* relaxed: nothing but who is first depends on it. */
	if (err != -ECANCELED &&
	    !(atomic_fetch_or_explicit(&m->proc->domain->said, ODP_SAID_NO_UFFD,
				       memory_order_relaxed) &
	      ODP_SAID_NO_UFFD))
		level = ODP_LOG_WARN;
	odp_uffd_remedy(remedy, sizeof(remedy));
	if (err == -EPERM || err == -EACCES)
		odp_log(level,
			"no userfaultfd (%s): transfers are right, but about 10 times slower; "
			"to allow it: %s",
			strerrordesc_np(-err), remedy);
	else
		odp_log(level, "no userfaultfd (%s): transfers are right, but slower",
			strerrordesc_np(-err));
}

static void optional_open(struct odp_mem *m)
{
	int ret = odp_uffd_init(m);

	if (ret)
		no_uffd_say(m, ret);
	ret = odp_pin_open(m);
	if (ret)
		odp_log(ODP_LOG_DEBUG, "no io_uring (%s): shared memory cannot be pinned",
			strerrordesc_np(-ret));
}

int odp_mem_open(struct odp_proc *proc)
{
	struct odp_mem *m = odp_priv_alloc(sizeof(*m));
	int ret;

	if (!m)
		return -ENOMEM;
	m->proc = proc;
	m->uffd = m->conv_uffd = m->fdinfo_fd = m->pagemap_fd = m->maps_fd = m->mounts_fd = -1;
	m->pipe_rd = m->pipe_wr = m->null_fd = m->fork_pipe[0] = m->fork_pipe[1] = -1;
	m->backing = backing_from_env();
	locks_init(m);
	ret = tables_map(m);
	if (ret)
		goto err_unmap_tables;
	ret = pool_open(m);
	if (ret)
		goto err_unmap_tables;
	ret = odp_maps_open(m);
	if (ret)
		goto err_close_pool;
	proc->mem = m;
	proc->self->pool_fd = m->pool_fd;
	optional_open(m);
	proc->self->slot->pool_fd = m->pool_fd;
	proc->self->slot->uffd_fd = m->uffd;
	proc->self->uffd = m->uffd;
	odp_inject_env(proc);
	odp_source_add(proc, &odp_uffd_source);
	odp_source_add(proc, &odp_unwatched_source); /* it gives notices */
	odp_source_add(proc, &odp_notices_source);
	return 0;

err_close_pool:
	odp_fd_close(m->pool_fd);
err_unmap_tables:
	tables_unmap(m);
	odp_priv_free(m, sizeof(*m));
	odp_log(ODP_LOG_ERR, "cannot set up the memory pool: %s", strerrordesc_np(-ret));
	return ret;
}
