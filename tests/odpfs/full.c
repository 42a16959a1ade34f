/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * On a file system that is soon full. Usage: full DIRECTORY ENOSPC|EDQUOT: the directory is
 * empty, and nobody else writes. EDQUOT is for each file alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MIB (1ll << 20)

static int failures, full_errno;
/* More than the file system has, and than the kernel holds back of one mount's data: by
 * default one in a hundred of the fifth of the memory that may be dirty. */
static long long bound;
static char block[1 << 20];

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			printf("FAILED: %s:%d: %s (errno: %s)\n", __func__, __LINE__, #what,       \
			       strerror(errno));                                                   \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

static int file_open(const char *name, int flags)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0644);

	CHECK(fd >= 0);
	return fd;
}

/* What has been removed is given back as soon as the kernel forgets it, and ext4 has
 * written it down. */
static void room_await(void)
{
	struct statvfs st;
	int tries = 0;

	do {
		sync();
		CHECK(!usleep(10000) && !statvfs(".", &st));
	} while ((long long)(st.f_bavail * st.f_frsize) < 4 * MIB && ++tries < 1000);
	CHECK(tries < 1000);
}

/* Append SIZE bytes at a time, until it fails as it has to. */
static void fill(int fd, size_t size)
{
	long long done = 0;
	ssize_t n;

	while ((n = write(fd, block, size)) > 0 && done < bound)
		done += n;
	CHECK(n == -1 && errno == full_errno);
}

/* What stat shows, and what is there, once all is written. */
static void size_is_stored(const char *name)
{
	struct stat before, after;

	CHECK(!stat(name, &before));
	sync();
	CHECK(!stat(name, &after) && before.st_size == after.st_size);
	CHECK(after.st_size < bound);
}

static void appends(void)
{
	static const size_t sizes[] = {512, 4096, 100000, sizeof(block)};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = file_open("file", O_TRUNC);

		fill(fd, sizes[i]);
		fill(fd, sizes[i]); /* again */
		size_is_stored("file");
		close(fd);
		CHECK(!unlink("file"));
	}
}

/* The file is good for all but writing, others for that too; and so is it, with room. */
static void goes_on(void)
{
	int ballast = file_open("ballast", 0), other = file_open("other", 0), fd;
	char c = 0;

	for (int i = 0; i < 8; i++)
		CHECK(write(ballast, block, sizeof(block)) == sizeof(block));
	CHECK(pwrite(other, "other", 5, 0) == 5 && !fsync(ballast) && !fsync(other));
	close(ballast);
	fd = file_open("file", 0);
	fill(fd, 4096);
	for (int i = 0; i < 3; i++) {
		CHECK(pread(fd, &c, 1, 0) == 1 && lseek(fd, 0, SEEK_END) > 0);
		fill(fd, 4096);
	}
	CHECK(pwrite(other, "OTHER", 5, 0) == 5 && !fsync(other));
	CHECK(!unlink("ballast"));
	if (full_errno == EDQUOT)
		CHECK(!ftruncate(fd, 4096));
	room_await();
	CHECK(lseek(fd, 0, SEEK_END) > 0 && write(fd, "again", 5) == 5);
	fsync(fd); /* has failed once, for what was lost */
	CHECK(pwrite(fd, "b", 1, 0) == 1 && !fsync(fd));
	close(fd);
	close(other);
	CHECK(!unlink("file") && !unlink("other"));
}

/* Who does not write again is told at the end. */
static void one_write(void)
{
	size_t size = 96 * MIB;
	char *much = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = file_open("file", 0);
	ssize_t n = write(fd, much, size);
	int synced = fsync(fd);

	CHECK(much != MAP_FAILED);
	CHECK(n < (ssize_t)size || (synced == -1 && errno == full_errno));
	close(fd);
	fd = file_open("file", 0);
	n = write(fd, much, size);
	/* The kernel remembers a quota as EIO for close(2), and for fsync(2) as it is. */
	CHECK((close(fd) == -1 && errno == (full_errno == EDQUOT ? EIO : full_errno)) ||
	      n < (ssize_t)size);
	munmap(much, size);
	CHECK(!unlink("file"));
}

static void sparse(void)
{
	int fd = file_open("file", 0), i = 0;
	ssize_t n = 0;

	CHECK(!ftruncate(fd, 4096 * MIB));
	while (i < 65536 && (n = pwrite(fd, block, 65536, i * 65536ll * 3 % (4096 * MIB))) == 65536)
		i++;
	CHECK(n == -1 && errno == full_errno && i < 65536);
	close(fd);
	CHECK(!unlink("file"));
}

/* Where the backing file system may have no data; tmpfs may. */
static void too_far(void)
{
	int fd = file_open("file", 0), n;
	struct stat st;

	CHECK(write(fd, "x", 1) == 1);
	n = (int)pwrite(fd, "x", 1, 1ll << 50);
	if (n == 1 && fsync(fd) && full_errno != EDQUOT) {
		CHECK(errno == EFBIG);
		n = -1;
		for (int i = 0; i < 100 && n != 0; i++)
			n = usleep(50000) || stat("file", &st) || st.st_size > 4096; /* a page */
		CHECK(n == 0);
		/* Told, and then it goes on; odpfs and the kernel may speak of it still. */
		for (n = 0; n < 100 && write(fd, "y", 1) == -1 && errno == EFBIG; n++)
			usleep(50000);
		CHECK(n < 100);
	}
	close(fd);
	CHECK(!unlink("file"));
}

static void mapped(void)
{
	size_t size = 96 * MIB;
	int fd = file_open("file", 0);
	char *p;

	CHECK(!ftruncate(fd, (off_t)size));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	if (p == MAP_FAILED)
		return;
	/* With room or without, all of it can be stored to: the kernel asks nobody. */
	memset(p, 'm', size);
	CHECK(msync(p, size, MS_SYNC) == -1 && errno == full_errno);
	CHECK(p[0] == 'm');
	munmap(p, size);
	close(fd);
	CHECK(!unlink("file"));
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"appends", appends},     {"a full file goes on", goes_on},
	{"one write", one_write}, {"sparse writes", sparse},
	{"too far", too_far},     {"mapped", mapped},
};

int main(int argc, char **argv)
{
	if (argc != 3 || chdir(argv[1])) {
		fprintf(stderr, "Usage: full DIRECTORY ENOSPC|EDQUOT\n");
		return 2;
	}
	full_errno = strcmp(argv[2], "EDQUOT") ? ENOSPC : EDQUOT;
	bound = 256 * MIB + sysconf(_SC_PHYS_PAGES) / 100 * sysconf(_SC_PAGESIZE);
	memset(block, 'x', sizeof(block));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int before = failures;

		room_await();
		cases[i].run();
		printf("%s %s\n", failures == before ? "ok    " : "FAILED", cases[i].name);
		fflush(stdout);
	}
	return failures ? 1 : 0;
}
