/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What becomes of memory regions when odpfs is killed, under traffic: regions of every
 * policy, each in a process of its own, half of which are stopped.
 * Usage: died DIRECTORY PID-OF-ODPFS
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "recall.h"

#define PATIENCE_NS 20000000000ull

int failures;

/* What an owner says on its stdout: who it is, then each notice that it gets. */
struct word {
	int err;
	unsigned slot;
	uint32_t key;
	uint64_t addr;
};

struct owner_of {
	enum odp_policy policy;
	enum odp_kind kind;
	bool stopped;
	pid_t pid;
	int in, out;
	struct odp_peer *peer;
	struct word hello;
};

/* ---- an owner ---- */

static void notice(void *arg, uint32_t key, uint64_t cookie, enum odp_notice what)
{
	struct word word = {.err = (int)what, .key = key};

	(void)arg;
	(void)cookie;
	(void)!write(1, &word, sizeof(word));
}

static struct odp_region *region_of(void *mem, enum odp_policy policy, enum odp_kind kind, int *err)
{
	struct odp_region_attr attr = {.addr = mem,
				       .length = LEN,
				       .iova = (uintptr_t)mem,
				       .pd = PD,
				       .access = ODP_ACCESS_LOCAL_WRITE | ODP_ACCESS_REMOTE_WRITE |
						 ODP_ACCESS_REMOTE_READ,
				       .kind = kind,
				       .policy = policy};
	struct odp_region *region = NULL;

	*err = odp_region_create(proc, &attr, &region);
	return region;
}

/* All of the file, in memory. */
static void *file_map(const char *name)
{
	int fd = file_make(name, "old");
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(mem != MAP_FAILED);
	for (size_t at = 0; at < LEN; at += PAGE)
		mem[at + PAGE - 1] = 1;
	return mem;
}

static int owner_run(const char *name, const char *policy, const char *kind)
{
	void *mem = file_map(name);
	struct word hello = {.addr = (uintptr_t)mem};
	struct odp_region *region;
	enum odp_policy named;
	char c;

	if (odp_policy_parse(policy, &named) || odp_proc_get(&proc))
		return 2;
	odp_notice_set(proc, notice, NULL);
	region = region_of(mem, named, atoi(kind) ? ODP_PINNED : ODP_ON_DEMAND, &hello.err);
	hello.slot = odp_proc_slot(proc);
	hello.key = region ? odp_region_key(region) : 0;
	if (write(1, &hello, sizeof(hello)) != sizeof(hello))
		return 1;
	while (read(0, &c, 1) > 0)
		;
	return region && !odp_region_destroy(region) ? 0 : 1;
}

/* ---- the test ---- */

static bool word_get(const struct owner_of *o, struct word *word)
{
	struct timespec patience = {.tv_sec = PATIENCE_NS / 1000000000};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(o->out, &set);
	return pselect(o->out + 1, &set, NULL, NULL, &patience, NULL) == 1 &&
	       read(o->out, word, sizeof(*word)) == sizeof(*word);
}

static void owner_begin(struct owner_of *o, unsigned nr)
{
	int to[2], from[2];
	char name[16];

	CHECK(!pipe2(to, O_CLOEXEC) && !pipe2(from, O_CLOEXEC));
	snprintf(name, sizeof(name), "file%u", nr);
	fflush(stdout);
	o->pid = fork();
	if (!o->pid) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		execl("/proc/self/exe", "died", "--owner", name, odp_policy_name(o->policy),
		      o->kind == ODP_PINNED ? "1" : "0", NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	o->in = to[1];
	o->out = from[0];
	CHECK(word_get(o, &o->hello));
	errno = -o->hello.err;
	CHECK(!o->hello.err);
	CHECK(!odp_peer_get(proc, o->hello.slot, &o->peer));
	if (o->stopped)
		CHECK(!kill(o->pid, SIGSTOP));
}

static bool owner_strict(const struct owner_of *o)
{
	return o->policy >= ODP_POLICY_REVOKE;
}

static bool owner_reached(struct owner_of *o, unsigned page)
{
	return !key_write(o->peer, o->hello.key, o->hello.addr + page * PAGE, "dev", 4);
}

/* Write to all of them, over and over, until the strict ones are out of reach. */
static uint64_t traffic(struct owner_of *owners, unsigned n, pid_t odpfs)
{
	uint64_t killed = 0, limit = UINT64_MAX;
	bool any = true;

	for (unsigned round = 0; any && odp_now() < limit; round++) {
		if (round == 50) {
			CHECK(!kill(odpfs, SIGKILL));
			killed = odp_now();
			limit = killed + PATIENCE_NS;
		}
		any = false;
		for (unsigned i = 0; i < n; i++) {
			bool reached = owner_reached(&owners[i], round % PAGES);

			CHECK(reached || (killed && owner_strict(&owners[i])));
			any |= reached && owner_strict(&owners[i]);
		}
	}
	CHECK(!any);
	return odp_now() - killed;
}

static void owner_finish(struct owner_of *o)
{
	int status, before = failures;
	struct word word = {.err = -1};

	/* Its transfers go on as they did. */
	for (unsigned page = 0; page < PAGES; page++)
		CHECK(owner_reached(o, page) == !owner_strict(o));
	if (o->stopped)
		CHECK(!kill(o->pid, SIGCONT));
	CHECK(word_get(o, &word));
	CHECK(word.key == o->hello.key);
	CHECK(word.err == (int)(owner_strict(o) ? ODP_NOTICE_REVOKED : ODP_NOTICE_UNWATCHED));
	for (unsigned page = 0; page < PAGES; page++)
		CHECK(owner_reached(o, page) == !owner_strict(o));
	close(o->in);
	CHECK(waitpid(o->pid, &status, 0) == o->pid && !status);
	CHECK(read(o->out, &word, sizeof(word)) == 0); /* told once */
	printf("%s %s %s, %s\n", before == failures ? "ok    " : "FAILED",
	       o->kind == ODP_PINNED ? "pinned" : "on demand", odp_policy_name(o->policy),
	       o->stopped ? "stopped" : "running");
}

/* What is registered after that is as on any file system that nobody watches. */
static void afterwards(void *mem)
{
	struct odp_region *region;
	int err;

	region = region_of(mem, ODP_POLICY_DENY, ODP_ON_DEMAND, &err);
	errno = -err;
	CHECK(!region && err == -EOPNOTSUPP);
	region = region_of(mem, ODP_POLICY_DEFAULT, ODP_ON_DEMAND, &err);
	CHECK(region && odp_region_policy(region) == ODP_POLICY_DEFAULT);
	if (region)
		CHECK(!odp_region_destroy(region));
}

static struct owner_of owners[4 * (ODP_POLICY_DENY + 1)];

int main(int argc, char **argv)
{
	unsigned n = 0;
	void *mem;

	if (argc == 5 && !strcmp(argv[1], "--owner"))
		return owner_run(argv[2], argv[3], argv[4]);
	if (argc != 3 || chdir(argv[1]) || odp_proc_get(&proc)) {
		fputs("Usage: died DIRECTORY PID-OF-ODPFS\n", stderr);
		return 2;
	}
	for (unsigned i = 0; i < 4; i++) {
		for (enum odp_policy p = ODP_POLICY_ODP; p <= ODP_POLICY_DENY; p++) {
			owners[n].policy = p;
			owners[n].kind = i & 1 ? ODP_PINNED : ODP_ON_DEMAND;
			owners[n].stopped = i & 2;
			owner_begin(&owners[n], n);
			n++;
		}
	}
	mem = file_map("file");
	if (!failures)
		printf("out of reach after %.3f ms\n",
		       (double)traffic(owners, n, (pid_t)atoi(argv[2])) / 1e6);
	for (unsigned i = 0; i < n && !failures; i++)
		owner_finish(&owners[i]);
	for (unsigned i = 0; i < n && failures; i++)
		kill(owners[i].pid, SIGKILL);
	if (!failures)
		afterwards(mem);
	return failures ? 1 : 0;
}
