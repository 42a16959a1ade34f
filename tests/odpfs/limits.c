/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * On an odpfs with few descriptors: as many files open as it allows, and everything else
 * goes on. Usage: limits DIRECTORY; the directory is empty.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 400, LEAST = 64 };

static int failures;

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			printf("FAILED: %s:%d: %s (errno: %s)\n", __func__, __LINE__, #what,       \
			       strerror(errno));                                                   \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

static const char *name_of(int i)
{
	static char name[32];

	snprintf(name, sizeof(name), "../file-%d", i);
	return name;
}

static void files_make(void)
{
	for (int i = 0; i < FILES; i++) {
		int fd = open(name_of(i), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

		CHECK(fd >= 0);
		close(fd);
	}
}

/* All that may be; how many. */
static int files_open(int *fds)
{
	int n = 0;

	while (n < FILES && (fds[n] = open(name_of(n), O_RDWR | O_CLOEXEC)) >= 0)
		n++;
	CHECK(n >= LEAST && n < FILES && errno == ENFILE);
	return n;
}

static void others_are_there(void)
{
	struct stat st;
	int missing = 0;

	for (int i = 0; i < FILES; i++)
		if (stat(name_of(i), &st) || st.st_size)
			missing++;
	if (missing) {
		printf("FAILED: %d of %d files cannot be asked about\n", missing, FILES);
		failures++;
	}
}

static void others_change(void)
{
	struct stat st;

	CHECK(!chmod(name_of(FILES - 1), 0640) && !truncate(name_of(FILES - 1), 0));
	CHECK(!rename(name_of(FILES - 1), "../other") && !link("../other", "../again"));
	CHECK(!mkdir("../new", 0700) && !rmdir("../new"));
	CHECK(!symlink("x", "../soft") && !unlink("../soft") && !unlink("../again"));
	CHECK(!rename("../other", name_of(FILES - 1)) && !stat(name_of(FILES - 1), &st));
}

/* The kernel asks about the directory that we are in when it has not for a second. */
static void we_are_here(const char *wanted)
{
	const struct timespec nap = {.tv_sec = 1, .tv_nsec = 200000000};
	struct stat st;
	char *here;

	nanosleep(&nap, NULL);
	CHECK(!stat(wanted, &st));
	here = getcwd(NULL, 0);
	CHECK(here && !strcmp(here, wanted));
	free(here);
}

static void files_work(const int *fds, int n)
{
	char c = 0;

	for (int i = 0; i < n; i++)
		CHECK(pwrite(fds[i], "x", 1, 0) == 1 && pread(fds[i], &c, 1, 0) == 1 && c == 'x' &&
		      !ftruncate(fds[i], 0));
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	static int fds[FILES];
	char *here;
	int n;

	if (argc != 2 || chdir(argv[1]) || mkdir("here", 0700) || chdir("here")) {
		fprintf(stderr, "Usage: limits DIRECTORY\n");
		return 2;
	}
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < FILES + 16) {
		limit.rlim_cur = limit.rlim_max;
		CHECK(!setrlimit(RLIMIT_NOFILE, &limit));
	}
	here = getcwd(NULL, 0);
	CHECK(here);
	files_make();
	n = files_open(fds);
	files_work(fds, n);
	others_are_there();
	we_are_here(here);
	others_are_there();
	others_change();
	for (int i = 0; i < n; i++)
		close(fds[i]);
	CHECK(files_open(fds) >= LEAST);
	free(here);
	return failures ? 1 : 0;
}
