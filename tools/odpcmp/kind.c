/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The kinds of memory that can be registered. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "odpcmp.h"

#define SHM_DIR "/dev/shm"

static bool is_tmpfs(const char *dir)
{
	struct statfs fs;

	return !statfs(dir, &fs) && fs.f_type == TMPFS_MAGIC;
}

static const char *shm_lacking(const char *dir)
{
	(void)dir;
	if (!is_tmpfs(SHM_DIR))
		return SHM_DIR " is not a tmpfs";
	return access(SHM_DIR, W_OK) ? SHM_DIR " is not writable" : NULL;
}

static const char *disk_lacking(const char *dir)
{
	if (access(dir, W_OK))
		return "the directory for files is not writable (see --dir)";
	return is_tmpfs(dir) ? "the directory for files is a tmpfs (see --dir)" : NULL;
}

static int sized(int fd, size_t length)
{
	int err;

	if (!ftruncate(fd, length))
		return fd;
	err = errno;
	close(fd);
	return -err;
}

static int memfd_open(const char *dir, size_t length)
{
	int fd = memfd_create(PROGRAM, MFD_CLOEXEC);

	(void)dir;
	return fd < 0 ? -errno : sized(fd, length);
}

/* A file without a name, also where the file system knows no O_TMPFILE. */
static int file_open(const char *dir, size_t length)
{
	char *path;
	int fd;

	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return sized(fd, length);
	if (asprintf(&path, "%s/" PROGRAM ".XXXXXX", dir) < 0)
		return -ENOMEM;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	free(path);
	return fd < 0 ? -errno : sized(fd, length);
}

static int shm_open_file(const char *dir, size_t length)
{
	(void)dir;
	return file_open(SHM_DIR, length);
}

const struct kind kinds[] = {
	{
		.name = "anon",
		.help = "private anonymous memory, as malloc gives",
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
	},
	{
		.name = "shared-anon",
		.help = "anonymous memory mapped MAP_SHARED",
		.flags = KIND_SHARED,
		.map_flags = MAP_SHARED | MAP_ANONYMOUS,
	},
	{
		.name = "memfd",
		.help = "a memfd mapped MAP_SHARED",
		.flags = KIND_FILE | KIND_SHARED,
		.open = memfd_open,
		.map_flags = MAP_SHARED,
	},
	{
		.name = "tmpfs",
		.help = "a file in " SHM_DIR " mapped MAP_SHARED",
		.flags = KIND_FILE | KIND_SHARED,
		.lacking = shm_lacking,
		.open = shm_open_file,
		.map_flags = MAP_SHARED,
	},
	{
		.name = "file",
		.help = "a file in --dir (a disk, say) mapped MAP_SHARED",
		.flags = KIND_FILE | KIND_SHARED,
		.lacking = disk_lacking,
		.open = file_open,
		.map_flags = MAP_SHARED,
	},
	{
		.name = "file-private",
		.help = "a file in --dir mapped MAP_PRIVATE and written to",
		.flags = KIND_FILE,
		.lacking = disk_lacking,
		.open = file_open,
		.map_flags = MAP_PRIVATE,
	},
};

const size_t num_kinds = ARRAY_SIZE(kinds);
_Static_assert(ARRAY_SIZE(kinds) <= MAX_KINDS, "raise MAX_KINDS");
