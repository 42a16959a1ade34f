/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The kinds of memory that can be registered. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
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

static const char *thp_lacking(const char *dir)
{
	char text[64] = "";
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");

	(void)dir;
	if (!file)
		return "the kernel has no transparent huge pages";
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	return strstr(text, "[never]") ? "transparent huge pages are switched off" : NULL;
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

static int huge_memfd_open(const char *dir, size_t length)
{
	int fd = memfd_create(PROGRAM, MFD_CLOEXEC | MFD_HUGETLB);

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

/* What any mapping of one's own can undergo. */
#define EVERY                                                                                      \
	(CLASS_NONE | CLASS_ADVISE | CLASS_RECLAIM | CLASS_UNMAP | CLASS_MOVE | CLASS_RESIZE |     \
	 CLASS_PROTECT | CLASS_FORK | CLASS_FORKS)

const struct kind kinds[] = {
	{
		.name = "anon",
		.help = "private anonymous memory",
		.classes = EVERY | CLASS_FREE | CLASS_END,
		.usual = true,
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
	},
	{
		.name = "heap",
		.help = "memory from malloc()",
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_FORK | CLASS_TRIM,
		.place = place_heap,
	},
	{
		.name = "brk",
		.help = "memory from sbrk()",
		.flags = KIND_ONCE,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_BRK | CLASS_FORK,
		.place = place_brk,
	},
	{
		.name = "bss",
		.help = "variables without initial values",
		.flags = KIND_ONCE,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_MOVE | CLASS_PROTECT |
			   CLASS_FORK,
		.place = place_bss,
	},
	{
		.name = "stack",
		.help = "the stack of the main thread",
		.flags = KIND_ONCE,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_PROTECT | CLASS_FORK,
		.place = place_stack,
	},
	{
		.name = "noreserve",
		.help = "private anonymous memory mapped MAP_NORESERVE",
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_MOVE | CLASS_FORK,
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	},
	{
		.name = "overcommit",
		.help = "more than the system has, hardly touched; all of it registered for ODP",
		.flags = KIND_UNTOUCHED | KIND_LARGE_ODP,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_FORK,
		.place = place_overcommit,
	},
	{
		.name = "thp",
		.help = "private anonymous memory in a transparent huge page",
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_FREE | CLASS_RECLAIM | CLASS_UNMAP |
			   CLASS_MOVE | CLASS_PROTECT | CLASS_FORK,
		.lacking = thp_lacking,
		.place = place_thp,
	},
	{
		.name = "hugetlb",
		.help = "private anonymous memory mapped MAP_HUGETLB",
		.flags = KIND_HUGE,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_MOVE | CLASS_PROTECT |
			   CLASS_FORK,
		.lacking = huge_lacking,
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
	},
	{
		.name = "hugetlb-memfd",
		.help = "a memfd of huge pages mapped MAP_SHARED",
		.flags = KIND_HUGE | KIND_FILE | KIND_SHARED,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_REMOVE | CLASS_UNMAP | CLASS_MOVE |
			   CLASS_PROTECT | CLASS_FORK | CLASS_FILE,
		.lacking = huge_lacking,
		.open = huge_memfd_open,
		.map_flags = MAP_SHARED,
	},
	{
		.name = "shared-anon",
		.help = "anonymous memory mapped MAP_SHARED",
		.flags = KIND_SHARED,
		.classes = EVERY | CLASS_REMOVE,
		.usual = true,
		.map_flags = MAP_SHARED | MAP_ANONYMOUS,
	},
	{
		.name = "memfd",
		.help = "a memfd mapped MAP_SHARED",
		.flags = KIND_FILE | KIND_SHARED,
		.classes = EVERY | CLASS_REMOVE | CLASS_FILE,
		.usual = true,
		.open = memfd_open,
		.map_flags = MAP_SHARED,
	},
	{
		.name = "tmpfs",
		.help = "a file in " SHM_DIR " mapped MAP_SHARED",
		.flags = KIND_FILE | KIND_SHARED,
		.classes = EVERY | CLASS_REMOVE | CLASS_FILE,
		.usual = true,
		.lacking = shm_lacking,
		.open = shm_open_file,
		.map_flags = MAP_SHARED,
	},
	{
		.name = "file",
		.help = "a file in --dir (a disk, say) mapped MAP_SHARED",
		.flags = KIND_FILE | KIND_SHARED | KIND_DISK,
		.classes = EVERY | CLASS_REMOVE | CLASS_FILE | CLASS_SPACE,
		.usual = true,
		.lacking = disk_lacking,
		.open = file_open,
		.map_flags = MAP_SHARED,
	},
	{
		.name = "file-private",
		.help = "a file in --dir mapped MAP_PRIVATE and written to",
		.flags = KIND_FILE | KIND_DISK,
		.classes = EVERY | CLASS_FILE | CLASS_SPACE,
		.usual = true,
		.lacking = disk_lacking,
		.open = file_open,
		.map_flags = MAP_PRIVATE,
	},
	{
		.name = "readonly",
		.help = "private anonymous memory made read-only",
		.flags = KIND_READ_ONLY,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_PROTECT,
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
		.finish = finish_read_only,
	},
	{
		.name = "readonly-mr",
		.help = "the same, registered for reading alone",
		.flags = KIND_READ_ONLY | KIND_READ_RIGHTS,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_PROTECT,
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
		.finish = finish_read_only,
	},
	{
		.name = "readonly-file",
		.help = "a file in --dir mapped shared, read-only, registered for reading alone",
		.flags = KIND_READ_ONLY | KIND_READ_RIGHTS | KIND_FILE | KIND_SHARED | KIND_DISK,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_FILE | CLASS_SPACE,
		.lacking = disk_lacking,
		.open = file_open,
		.place = place_read_only,
	},
	{
		.name = "no-access",
		.help = "private anonymous memory made PROT_NONE",
		.flags = KIND_READ_ONLY | KIND_NO_ACCESS,
		.classes = CLASS_NONE | CLASS_UNMAP | CLASS_PROTECT,
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
		.finish = finish_no_access,
	},
	{
		.name = "uffd",
		.help = "private anonymous memory with a userfaultfd of the program's own on it",
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_MOVE | CLASS_FORK,
		.lacking = uffd_lacking,
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
		.finish = finish_uffd,
	},
	{
		.name = "unaligned",
		.help = "private anonymous memory, registered from and to the middle of pages",
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_MOVE | CLASS_FORK,
		.place = place_unaligned,
	},
	{
		.name = "mixed",
		.help = "a region over private, shared and memfd mappings",
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_PROTECT | CLASS_FORK,
		.place = place_mixed,
	},
	{
		.name = "iova",
		.help = "private anonymous memory, registered with another iova",
		.flags = KIND_IOVA,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_MOVE,
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
	},
	{
		.name = "twice",
		.help = "private anonymous memory with a second region of the other kind and PD",
		.flags = KIND_TWICE,
		.classes = CLASS_NONE | CLASS_ADVISE | CLASS_UNMAP | CLASS_MOVE | CLASS_PROTECT |
			   CLASS_FORK,
		.map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
	},
};

const size_t num_kinds = ARRAY_SIZE(kinds);
_Static_assert(ARRAY_SIZE(kinds) <= MAX_KINDS, "raise MAX_KINDS");
