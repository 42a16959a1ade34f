/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * An owner of one thread, which goes on to store to its region while a truncate waits for
 * its lease and somebody syncs the file system, and then deregisters: it is never held
 * up, nor is the sync. Usage: lease DIRECTORY
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <odp/odp.h>

#define PAGE ((size_t)4096)
#define LEN (16 * PAGE)
#define LEASE_MS 60000
#define STORES_NS 2500000000ull /* from the notice to the end of the region */

static struct odp_proc *proc;
static int failures;
/* Relaxed: a flag to wait for. */
static _Atomic bool told;

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			printf("FAILED: %s:%d: %s (errno %d)\n", __func__, __LINE__, #what,        \
			       errno);                                                             \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

static int by_ftruncate(const char *name)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);

	return ftruncate(fd, PAGE);
}

static int by_truncate(const char *name)
{
	return truncate(name, PAGE);
}

static int by_open(const char *name)
{
	return open(name, O_WRONLY | O_TRUNC | O_CLOEXEC) < 0;
}

static const struct way {
	const char *name;
	int (*take)(const char *name);
	off_t left;
} ways[] = {{"ftruncate", by_ftruncate, PAGE},
	    {"truncate", by_truncate, PAGE},
	    {"O_TRUNC", by_open, 0}};

static void notice(void *arg, uint32_t key, uint64_t cookie, enum odp_notice what)
{
	(void)arg;
	(void)key;
	(void)cookie;
	if (what == ODP_NOTICE_LEASE)
		atomic_store_explicit(&told, true, memory_order_relaxed);
}

static void nap(unsigned ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static struct odp_region *region_make(void *mem, enum odp_policy policy)
{
	struct odp_region_attr attr = {.addr = mem,
				       .length = LEN,
				       .iova = (uintptr_t)mem,
				       .access = ODP_ACCESS_LOCAL_WRITE | ODP_ACCESS_REMOTE_WRITE,
				       .kind = ODP_ON_DEMAND,
				       .policy = policy,
				       .lease_ms = LEASE_MS};
	struct odp_region *region = NULL;

	CHECK(!odp_region_create(proc, &attr, &region));
	return region;
}

/* Another process, after MS: what FN returns is its status. */
static pid_t other(unsigned ms, int (*fn)(const char *name), const char *name)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	nap(ms);
	_exit(fn(name) ? 1 : 0);
}

static int sync_file(const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	return syncfs(fd);
}

static bool ended_well(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && !status;
}

/* Store to all pages, and, if WRITES, write some bytes in the beginning: not just before
 * the truncate, see odpfs(1). The longest that took. */
static uint64_t stores(char *mem, int fd, bool writes)
{
	uint64_t end = UINT64_MAX, longest = 0, last = odp_now(), now;
	pid_t syncer = 0;

	for (unsigned i = 0; last < end; i++) {
		for (size_t at = 0; at < LEN; at += PAGE)
			mem[at] = (char)i;
		if (writes && i < 64 && i % 16 == 0)
			CHECK(pwrite(fd, "w", 1, 1) == 1);
		nap(1);
		now = odp_now();
		longest = now - last > longest ? now - last : longest;
		last = now;
		if (end == UINT64_MAX && atomic_load_explicit(&told, memory_order_relaxed)) {
			end = now + STORES_NS;
			syncer = other(200, sync_file, "file");
		}
	}
	/* The lease runs on: the sync has not waited for its end. */
	CHECK(syncer && ended_well(syncer));
	return longest;
}

static void run(enum odp_policy policy, const struct way *way, bool writes)
{
	int before = failures, fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct odp_region *region;
	uint64_t start = odp_now(), longest;
	struct stat st;
	char *mem;
	pid_t pid;

	CHECK(fd >= 0 && !ftruncate(fd, LEN) && pwrite(fd, "x", 1, LEN / 2) == 1);
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(mem != MAP_FAILED);
	region = region_make(mem, policy);
	if (!region)
		return;
	atomic_store_explicit(&told, false, memory_order_relaxed);
	pid = other(1500, way->take, "file");
	longest = stores(mem, fd, writes);
	CHECK(!odp_region_revoked(region));
	CHECK(!odp_region_destroy(region));
	CHECK(ended_well(pid));
	CHECK(!fstat(fd, &st) && st.st_size == way->left);
	/* Far from the lease's end: nothing has waited for that. */
	CHECK(odp_now() - start < LEASE_MS * 1000000ull / 2);
	munmap(mem, LEN);
	close(fd);
	printf("%s %s, %s%s: no store took longer than %llu ms\n",
	       before == failures ? "ok    " : "FAILED", odp_policy_name(policy), way->name,
	       writes ? ", after write(2)" : "", (unsigned long long)longest / 1000000);
}

int main(int argc, char **argv)
{
	if (argc != 2 || chdir(argv[1]) || odp_proc_get(&proc)) {
		fputs("Usage: lease DIRECTORY\n", stderr);
		return 2;
	}
	odp_notice_set(proc, notice, NULL);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		run(ODP_POLICY_LEASE, &ways[i], false);
		run(ODP_POLICY_KILL, &ways[i], true);
	}
	return failures ? 1 : 0;
}
