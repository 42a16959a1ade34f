/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The domain file: created once a run directory, mapped by every process in it.
 *
 * POSIX locks on it say who lives. They belong to the process and vanish when
 * it closes any descriptor of the file: so the file is opened once, here, and
 * by nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "domain.h"
#include "own.h"

#define DOMAIN_FILE "domain"

/* The lock byte excludes processes, this the threads of one. */
static pthread_mutex_t domain_mutex = PTHREAD_MUTEX_INITIALIZER;

static int domain_lock_byte(int fd, short type)
{
	struct flock fl = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = ODP_LOCK_BYTE,
		.l_len = 1,
	};

	while (odp_own_fcntl(fd, F_SETLKW, ODP_SYS_ARG(&fl))) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int odp_domain_lock(struct odp_proc *proc)
{
	int ret;

	pthread_mutex_lock(&domain_mutex);
	ret = domain_lock_byte(proc->domain_fd, F_WRLCK);
	if (ret) {
		pthread_mutex_unlock(&domain_mutex);
		odp_log(ODP_LOG_ERR, "%s/" DOMAIN_FILE ": cannot be locked: %s", proc->dir,
			strerror(-ret));
	}
	return ret;
}

void odp_domain_unlock(struct odp_proc *proc)
{
	domain_lock_byte(proc->domain_fd, F_UNLCK);
	pthread_mutex_unlock(&domain_mutex);
}

void odp_domain_child(void)
{
	pthread_mutex_init(&domain_mutex, NULL);
}

struct domain_head {
	uint64_t magic;
	uint32_t version;
	uint32_t size_check;
};
static_assert(offsetof(struct odp_domain, version) == offsetof(struct domain_head, version) &&
		      offsetof(struct odp_domain, size_check) ==
			      offsetof(struct domain_head, size_check),
	      "the head that every version shares");

/*
 * Allocate what is always used, so that a full file system is an error here and
 * not a SIGBUS later. Where fallocate is not supported there is no such check.
 */
static int domain_reserve(int fd, off_t off, size_t len)
{
	if (odp_own_fallocate(fd, 0, off, (off_t)len) && errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	return 0;
}

int odp_domain_reserve_lanes(struct odp_proc *proc, unsigned nr)
{
	return domain_reserve(proc->domain_fd, (off_t)offsetof(struct odp_domain, lanes[nr]),
			      sizeof(proc->domain->lanes[nr]));
}

/* Under the lock, before anybody can have attached. The magic comes last: a
 * creator that dies before it leaves a file that the next one makes anew. */
static int domain_create(int fd)
{
	const struct domain_head head = {
		.magic = ODP_DOMAIN_MAGIC,
		.version = ODP_LAYOUT_VERSION,
		.size_check = sizeof(struct odp_domain),
	};
	const size_t magic_size = sizeof(head.magic);
	int ret;

	if (odp_own_ftruncate(fd, 0) || odp_own_ftruncate(fd, sizeof(struct odp_domain)))
		return -errno;
	ret = domain_reserve(fd, 0, offsetof(struct odp_domain, lanes));
	if (ret)
		return ret;
	if (pwrite(fd, (const char *)&head + magic_size, sizeof(head) - magic_size,
		   (off_t)magic_size) != (ssize_t)(sizeof(head) - magic_size) ||
	    pwrite(fd, &head, magic_size, 0) != (ssize_t)magic_size)
		return errno ? -errno : -EIO;
	return 0;
}

/* Does any process, of whatever version, live in the file? */
static bool domain_in_use(int fd)
{
	struct flock fl = {.l_type = F_WRLCK,
			   .l_whence = SEEK_SET,
			   .l_start = ODP_LIVE_BYTE,
			   .l_len = ODP_MAX_PROCS};

	return odp_own_fcntl(fd, F_GETLK, ODP_SYS_ARG(&fl)) || fl.l_type != F_UNLCK;
}

/* Read, not mapped: the file may be shorter than it should be. What another
 * version has left gives way when nobody uses it: -ESTALE, and a new one is made. */
static int domain_check(struct odp_proc *proc, const struct stat *st)
{
	struct domain_head head;
	const char *why;

	if (!S_ISREG(st->st_mode) || st->st_uid != geteuid()) {
		why = "not a file of yours";
	} else if (pread(proc->domain_fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
		   head.magic != ODP_DOMAIN_MAGIC) {
		why = "not a uodp domain, or corrupt";
	} else if (head.version != ODP_LAYOUT_VERSION) {
		if (!domain_in_use(proc->domain_fd) && !unlinkat(proc->dir_fd, DOMAIN_FILE, 0))
			return -ESTALE;
		why = "in use by another version of uodp";
	} else if (head.size_check != sizeof(struct odp_domain) ||
		   st->st_size != (off_t)sizeof(struct odp_domain)) {
		why = "of the wrong size, or corrupt";
	} else {
		return 0;
	}
	odp_log(ODP_LOG_ERR,
		"%s/" DOMAIN_FILE
		": %s: remove the directory when no program uses it, or set UODP_DIR",
		proc->dir, why);
	return -EPROTO;
}

/* Never completed by its creator: nobody can be attached. */
static bool domain_unborn(int fd, const struct stat *st)
{
	uint64_t magic = 1;

	if (!S_ISREG(st->st_mode))
		return false;
	return !st->st_size || (st->st_size == (off_t)sizeof(struct odp_domain) &&
				pread(fd, &magic, sizeof(magic), 0) == sizeof(magic) && !magic);
}

/* Locked; -ESTALE: the file was removed meanwhile. */
static int domain_prepare(struct odp_proc *proc)
{
	struct stat st;
	int ret;

	if (odp_own_fstat(proc->domain_fd, &st))
		return -errno;
	if (!st.st_nlink)
		return -ESTALE;
	if (domain_unborn(proc->domain_fd, &st)) {
		ret = domain_create(proc->domain_fd);
		if (ret) {
			odp_log(ODP_LOG_ERR,
				"%s/" DOMAIN_FILE
				": cannot be made: %s: free some space, or set UODP_DIR",
				proc->dir, strerror(-ret));
			return ret;
		}
		if (odp_own_fstat(proc->domain_fd, &st))
			return -errno;
	}
	return domain_check(proc, &st);
}

static int domain_open_file(struct odp_proc *proc)
{
	int fd = odp_own_openat(proc->dir_fd, DOMAIN_FILE,
				O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int ret;

	if (fd < 0) {
		ret = -errno;
		if (ret == -ENOENT) /* the directory was removed */
			return -ESTALE;
		odp_log(ODP_LOG_ERR,
			"%s/" DOMAIN_FILE ": cannot be opened: %s: remove it, or set UODP_DIR",
			proc->dir, strerror(-ret));
		return ret == -ELOOP || ret == -EISDIR ? -EPROTO : ret;
	}
	/* Before any lock is held: moving closes a descriptor of the file. */
	proc->domain_fd = odp_fd_high(fd);
	return 0;
}

static int domain_open_once(struct odp_proc *proc)
{
	int ret;

	ret = odp_rundir_open(proc->dir, sizeof(proc->dir));
	if (ret < 0)
		return ret;
	proc->dir_fd = ret;
	ret = domain_open_file(proc);
	if (ret)
		goto err_close_dir;
	ret = odp_domain_lock(proc);
	if (ret)
		goto err_close_file;
	ret = domain_prepare(proc);
	odp_domain_unlock(proc);
	if (ret)
		goto err_close_file;
	proc->domain = odp_map_shared(proc->domain_fd, 0, sizeof(*proc->domain));
	if (!proc->domain) {
		odp_log(ODP_LOG_ERR, "%s/" DOMAIN_FILE ": cannot be mapped: no memory", proc->dir);
		ret = -ENOMEM;
		goto err_close_file;
	}
	return 0;

err_close_file:
	odp_fd_close(proc->domain_fd);
	proc->domain_fd = -1;
err_close_dir:
	odp_fd_close(proc->dir_fd);
	proc->dir_fd = -1;
	return ret;
}

int odp_domain_open(struct odp_proc *proc)
{
	int tries, ret = -ESTALE;

	/* Somebody who removes the directory again and again is refused in the end. */
	for (tries = 0; tries < 16 && ret == -ESTALE; tries++)
		ret = domain_open_once(proc);
	if (ret == -ESTALE)
		odp_log(ODP_LOG_ERR, "%s: is removed as fast as it is made", proc->dir);
	return ret;
}

void odp_domain_close(struct odp_proc *proc)
{
	odp_own_munmap(proc->domain, sizeof(*proc->domain));
	odp_fd_close(proc->domain_fd); /* drops the slot's lock too: the slot is dead */
	odp_fd_close(proc->dir_fd);
}
