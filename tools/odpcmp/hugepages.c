/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Huge pages: what is missing for a run is asked of the system, which root may
 * do, and given back at the end, also when a signal ends the program.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "odpcmp.h"

#define POOL_FILE "/proc/sys/vm/nr_hugepages"

/* A region, and copies of its pages in a forked child. */
enum { PAGES_PER_JOB = 3 * PAGES };

static long taken;

static unsigned long meminfo(const char *what)
{
	unsigned long value = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, what, strlen(what)))
			value = strtoul(line + strlen(what), NULL, 10);
	if (file)
		fclose(file);
	return value;
}

size_t huge_page_size(void)
{
	static size_t size;

	if (!size)
		size = meminfo("Hugepagesize:") << 10;
	return size ? size : 1 << 21;
}

const char *huge_lacking(const char *dir)
{
	(void)dir;
	if (!meminfo("Hugepagesize:"))
		return "the kernel has no huge pages";
	if (meminfo("HugePages_Free:") - meminfo("HugePages_Rsvd:") < PAGES_PER_JOB)
		return "too few huge pages are free (see vm.nr_hugepages)";
	return NULL;
}

/* What follows also runs in a signal handler: no stdio. */

static long pool_get(void)
{
	int fd = open(POOL_FILE, O_RDONLY | O_CLOEXEC);
	char text[24] = "";
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return len > 0 ? strtol(text, NULL, 10) : -1;
}

static void pool_set(long size)
{
	char text[24], *at = text + sizeof(text);
	int fd = open(POOL_FILE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	do {
		*--at = '0' + size % 10;
		size /= 10;
	} while (size);
	/* What came of it, the file says. */
	(void)!write(fd, at, text + sizeof(text) - at);
	close(fd);
}

/* Others may take and give back at the same time. */
static int pool_lock(void)
{
	int fd = open("/proc/sys/vm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		flock(fd, LOCK_EX);
	return fd;
}

void huge_give_back(void)
{
	int lock;
	long now;

	if (taken <= 0)
		return;
	lock = pool_lock();
	now = pool_get();
	if (now >= taken)
		pool_set(now - taken);
	taken = 0;
	if (lock >= 0)
		close(lock);
}

/* In a forked child: they are the parent's to give back. */
void huge_leave(void)
{
	taken = 0;
}

static void give_back_and_die(int sig)
{
	huge_give_back();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* SIGPIPE too: whoever reads what is printed may stop. What is ignored stays so. */
static void signals_catch(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(signals); i++)
		if (signal(signals[i], give_back_and_die) == SIG_IGN)
			signal(signals[i], SIG_IGN);
}

void huge_reserve(unsigned int jobs)
{
	long free_pages = meminfo("HugePages_Free:") - meminfo("HugePages_Rsvd:");
	long wanted = jobs * PAGES_PER_JOB, now;
	int lock;

	if (free_pages >= wanted || access(POOL_FILE, W_OK))
		return;
	signals_catch();
	lock = pool_lock();
	now = pool_get();
	if (now >= 0) {
		pool_set(now + wanted - free_pages);
		taken = pool_get() - now;
	}
	if (lock >= 0)
		close(lock);
}
