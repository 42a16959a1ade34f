/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Files whose blocks go away under memory regions, on a mount of odpfs. The regions are
 * other processes', and these are stopped: nothing needs them.
 * Usage: recall DIRECTORY [POLICY]; POLICY is the mount's, for regions that name none.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "recall.h"

int failures;
static enum odp_policy mount_policy;

/* ---- how blocks go: page 4 and all above ---- */

static int by_ftruncate(int fd)
{
	return ftruncate(fd, 4 * PAGE);
}

static int by_truncate(int fd)
{
	(void)fd;
	return truncate("file", 4 * PAGE);
}

static int by_punch(int fd)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE, 4 * PAGE);
}

static int by_zero(int fd)
{
	return fallocate(fd, FALLOC_FL_ZERO_RANGE, 4 * PAGE, 4 * PAGE);
}

static int by_open(int fd)
{
	int other = open("file", O_WRONLY | O_TRUNC | O_CLOEXEC);

	(void)fd;
	return other < 0 ? -1 : close(other);
}

static const struct way {
	const char *name;
	int (*take)(int fd);
	bool all; /* of the file */
} ways[] = {
	{"ftruncate", by_ftruncate, false}, {"truncate", by_truncate, false},
	{"punch", by_punch, false},         {"zero", by_zero, false},
	{"O_TRUNC", by_open, true},
};

/* ---- what the region sees afterwards ---- */

static void see_odp(struct owner *o, int fd)
{
	CHECK(!strcmp(owner_page(o, 5), "new5"));
	CHECK(!key_write(o->peer, o->key, o->addr + 5 * PAGE, "dev5", 5));
	CHECK(file_has(fd, 5, "dev5"));
}

static void see_pinned(struct owner *o, int fd)
{
	CHECK(!strcmp(owner_page(o, 5), "old5"));
	CHECK(!key_write(o->peer, o->key, o->addr + 5 * PAGE, "dev5", 5));
	CHECK(!strcmp(owner_page(o, 5), "dev5"));
	CHECK(file_has(fd, 5, "new5"));
}

static void see_scratch(struct owner *o, int fd)
{
	CHECK(!key_write(o->peer, o->key, o->addr + 5 * PAGE, "dev5", 5));
	CHECK(file_has(fd, 5, "new5"));
}

static void see_revoked(struct owner *o, int fd)
{
	CHECK(key_write(o->peer, o->key, o->addr + 5 * PAGE, "dev5", 5) < 0);
	CHECK(key_write(o->peer, o->key, o->addr, "dev0", 5) < 0);
	CHECK(!strcmp(owner_page(o, 1), "?"));
	CHECK(file_has(fd, 5, "new5"));
}

/* Its end is left for owner_end() to take. */
static bool was_killed(const struct owner *o)
{
	siginfo_t info = {0};

	return !waitid(P_PID, (id_t)o->pid, &info, WEXITED | WNOWAIT) &&
	       info.si_code == CLD_KILLED && info.si_status == SIGKILL;
}

static void see_nothing(struct owner *o, int fd)
{
	CHECK(file_has(fd, 5, "new5"));
	CHECK(was_killed(o));
}

#define LEASE_MS 150
static void (*const sees[])(struct owner *o, int fd) = {
	[ODP_POLICY_ODP] = see_odp,         [ODP_POLICY_PINNED] = see_pinned,
	[ODP_POLICY_SCRATCH] = see_scratch, [ODP_POLICY_REVOKE] = see_revoked,
	[ODP_POLICY_LEASE] = see_revoked,   [ODP_POLICY_KILL] = see_nothing,
};

static void deny_check(struct owner *o, int fd, const struct way *way)
{
	struct stat st;

	CHECK(way->take(fd) == -1 && errno == ETXTBSY);
	CHECK(!fstat(fd, &st) && st.st_size == LEN);
	CHECK(!strcmp(owner_page(o, 5), "old5") && file_has(fd, 5, "old5"));
	kill(o->pid, SIGKILL);
	CHECK(was_killed(o));
	CHECK(!way->take(fd)); /* it denies no more */
}

/* NAMED is the region's; with DEFAULT it is the mount's that counts. */
static void policy_check(enum odp_policy named, const struct way *way)
{
	enum odp_policy policy = named == ODP_POLICY_DEFAULT ? mount_policy : named;
	struct owner o;
	int before = failures, fd = file_make("file", "old");

	if (!owner_start(&o, "file", named, LEASE_MS))
		return;
	CHECK(!strcmp(owner_page(&o, 5), "old5"));
	kill(o.pid, SIGSTOP);
	if (policy == ODP_POLICY_DENY) {
		deny_check(&o, fd, way);
	} else {
		uint64_t start = odp_now();

		CHECK(!way->take(fd));
		if (policy == ODP_POLICY_LEASE || policy == ODP_POLICY_KILL)
			CHECK(odp_now() - start >= LEASE_MS * 1000000ull);
		CHECK(!file_has(fd, 5, "old5"));
		file_fill(fd, way->all ? 0 : 4, "new");
		sees[policy](&o, fd);
	}
	owner_end(&o);
	close(fd);
	printf("%s %s, %s\n", before == failures ? "ok    " : "FAILED", odp_policy_name(policy),
	       way->name);
}

/* ---- what takes nothing away is refused nothing ---- */

static void harmless(void)
{
	int before = failures, fd = file_make("file", "old");
	struct owner o;

	if (!owner_start(&o, "file", ODP_POLICY_DENY, 0))
		return;
	/* With data that the kernel has and odpfs has not, and without. */
	for (int synced = 0; synced < 2; synced++) {
		CHECK(!ftruncate(fd, LEN));
		CHECK(!ftruncate(fd, LEN + 100));
		CHECK(!ftruncate(fd, LEN + 3 * PAGE));
		CHECK(!ftruncate(fd, LEN + PAGE));
		CHECK(pwrite(fd, "x", 1, LEN + 2 * PAGE) == 1);
		CHECK(!ftruncate(fd, LEN));
		CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, LEN, PAGE));
		CHECK(!fallocate(fd, 0, 0, LEN + PAGE));
		CHECK(!ftruncate(fd, LEN));
		CHECK(!fsync(fd));
	}
	CHECK(ftruncate(fd, LEN - 1) == -1 && errno == ETXTBSY);
	CHECK(!strcmp(owner_page(&o, 7), "old7"));
	/* Another name of the file is the same file; its removal takes nothing away. */
	CHECK(!link("file", "other"));
	CHECK(truncate("other", 0) == -1 && errno == ETXTBSY);
	CHECK(!unlink("file") && !unlink("other"));
	CHECK(!strcmp(owner_page(&o, 7), "old7"));
	CHECK(ftruncate(fd, 0) == -1 && errno == ETXTBSY);
	owner_end(&o);
	CHECK(!ftruncate(fd, 0));
	close(fd);
	printf("%s harmless\n", before == failures ? "ok    " : "FAILED");
}

/* A lease that lasts a minute ends when its owner does. */
static void owner_dies(void)
{
	int before = failures, fd = file_make("file", "old");
	uint64_t start = odp_now();
	struct owner o;
	pid_t pid;

	if (!owner_start(&o, "file", ODP_POLICY_LEASE, 60000))
		return;
	kill(o.pid, SIGSTOP);
	pid = fork();
	if (!pid) {
		nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
		kill(o.pid, SIGKILL);
		_exit(0);
	}
	CHECK(!ftruncate(fd, 0));
	CHECK(odp_now() - start < 30000000000ull);
	waitpid(pid, NULL, 0);
	owner_end(&o);
	close(fd);
	printf("%s the owner dies\n", before == failures ? "ok    " : "FAILED");
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "--owner"))
		_exit(owner_main(argv + 2)); /* a sanitizer takes its time to exit */
	if (argc < 2 || argc > 3 || chdir(argv[1]) ||
	    (argc == 3 && odp_policy_parse(argv[2], &mount_policy)) || odp_proc_get(&proc)) {
		fputs("Usage: recall DIRECTORY [POLICY]\n", stderr);
		return 2;
	}
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (argc == 3) {
			policy_check(ODP_POLICY_DEFAULT, &ways[i]);
			continue;
		}
		for (enum odp_policy p = ODP_POLICY_ODP; p <= ODP_POLICY_DENY; p++)
			policy_check(p, &ways[i]);
	}
	if (argc == 2) {
		harmless();
		owner_dies();
		load_run(ODP_POLICY_PINNED);
		load_run(ODP_POLICY_SCRATCH);
		load_run(ODP_POLICY_REVOKE);
		crowd_run();
	}
	return failures ? 1 : 0;
}
