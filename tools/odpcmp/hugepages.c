/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Huge pages: what is missing for a run is asked of the system, which root may
 * do, and given back at the end, also when a signal ends the program.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "odpcmp.h"

#define POOL_FILE "/proc/sys/vm/nr_hugepages"

/* A region, and copies of its pages in a forked child. */
enum { PAGES_PER_JOB = 3 * PAGES };

static char before[24]; /* the pool's size, as its file says it; empty: not changed */

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

static void put(const char *text)
{
	int fd = open(POOL_FILE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	/* What came of it, /proc/meminfo says. */
	(void)!write(fd, text, strlen(text));
	close(fd);
}

void huge_give_back(void)
{
	if (*before)
		put(before);
	before[0] = '\0';
}

static void give_back_and_die(int sig)
{
	huge_give_back();
	signal(sig, SIG_DFL);
	raise(sig);
}

void huge_reserve(unsigned int jobs)
{
	unsigned long free_pages = meminfo("HugePages_Free:") - meminfo("HugePages_Rsvd:");
	unsigned long wanted = jobs * PAGES_PER_JOB, total = meminfo("HugePages_Total:");
	char text[24];

	if (free_pages >= wanted || access(POOL_FILE, W_OK))
		return;
	snprintf(before, sizeof(before), "%lu", total);
	snprintf(text, sizeof(text), "%lu", total + wanted - free_pages);
	signal(SIGINT, give_back_and_die);
	signal(SIGTERM, give_back_and_die);
	signal(SIGHUP, give_back_and_die);
	put(text);
}
