/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Usage: checker [--seconds N] [--policy NAME,...] [--threads N] [--seed N] [--torment N]
 *                BACKING MNT
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checker.h"

struct ctl *ctl;

const char *const policy_names[UODPDV_POLICY_DENY + 1] = {"default", "odp",   "pinned", "scratch",
							  "revoke",  "lease", "kill",   "deny"};

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void nap_us(unsigned int us)
{
	nanosleep(&(struct timespec){.tv_nsec = us * 1000l}, NULL);
}

/* splitmix64 */
uint64_t rng(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

uint32_t rng_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)(rng(state) % n);
}

bool over(void)
{
	return atomic_load_explicit(&ctl->stop, memory_order_relaxed);
}

void fail(const char *fmt, ...)
{
	char text[512];
	va_list args;

	if (atomic_exchange(&ctl->failed, 1))
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	dprintf(1, "FAILED: %s\n", text);
	atomic_store(&ctl->stop, 1);
}

void die(const char *what)
{
	fail("%s: %s", what, strerror(errno));
	_exit(1);
}

/* ---- processes: all are forked from here, which opens no device ---- */

static pid_t owner_start(int fd)
{
	pid_t pid;

	for (unsigned int i = 0; i < REGIONS; i++)
		atomic_store(&ctl->region[i].nr, 0);
	pid = fork();
	if (!pid)
		owner_run(fd);
	return pid;
}

static pid_t requester_start(void)
{
	pid_t pid = fork();

	if (!pid)
		requester_run();
	return pid;
}

enum { OWNER, REQUESTER };
static const char *const who_names[] = {"owner", "requester"};

/* Has it been killed, and was it to be: by us, or by a policy? */
static bool killed_rightly(struct rounds *r, int who, int status)
{
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		return false;
	if (r->killed[who])
		return true;
	return who == OWNER && ctl->policy == UODPDV_POLICY_KILL;
}

/* Where regions deny, somebody has to have them. */
static void owner_await(void)
{
	while (!over() && ctl->policy == UODPDV_POLICY_DENY && !atomic_load(&ctl->region[0].nr))
		nap_us(1000);
}

/* Both must end by themselves, or be killed rightly, and then come again. */
static void process_look(struct rounds *r, int who)
{
	bool wait = over() || r->killed[who];
	int status;

	if (!r->pids[who] || waitpid(r->pids[who], &status, wait ? 0 : WNOHANG) != r->pids[who])
		return;
	r->pids[who] = 0;
	if (killed_rightly(r, who, status)) {
		r->killed[who] = false;
		if (over())
			return;
		r->pids[who] = who == OWNER ? owner_start(r->fd) : requester_start();
		if (who == OWNER)
			owner_await();
	} else if (WIFSIGNALED(status) || WEXITSTATUS(status)) {
		fail("the %s ended with status %#x", who_names[who], status);
	} else if (!over()) {
		fail("the %s ended", who_names[who]);
	}
}

/* ---- a policy ---- */

static bool file_make(struct rounds *r, const char *back, const char *mnt, char **paths)
{
	if (asprintf(&paths[0], "%s/checker", mnt) < 0 ||
	    asprintf(&paths[1], "%s/checker", back) < 0)
		return false;
	r->path = paths[0];
	r->back = paths[1];
	r->fd = open(r->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (r->fd < 0) {
		fail("%s: %s", r->path, strerror(errno));
		return false;
	}
	return round_begin_content(r);
}

static void policy_run(uint32_t policy, const char *back, const char *mnt, unsigned int ms,
		       unsigned int torment)
{
	struct rounds r = {.rng = ctl->seed + policy, .torment = torment};
	uint64_t end;
	char *paths[2] = {NULL, NULL};
	uint64_t seed = ctl->seed;
	uint32_t threads = ctl->threads;

	memset(ctl, 0, sizeof(*ctl));
	ctl->seed = seed;
	ctl->threads = threads;
	ctl->policy = policy;
	ctl->lease_ms = policy == UODPDV_POLICY_KILL ? 10 : 30;
	if (!file_make(&r, back, mnt, paths))
		return;
	r.pids[OWNER] = owner_start(r.fd);
	r.pids[REQUESTER] = requester_start();
	/* Under way first: nobody denies before there is a region. */
	while (!over() && !atomic_load(&ctl->link[0].writes)) {
		process_look(&r, OWNER);
		process_look(&r, REQUESTER);
		nap_us(1000);
	}
	for (end = now_ns() + ms * 1000000ull; !over() && now_ns() < end;) {
		round_run(&r);
		process_look(&r, OWNER);
		process_look(&r, REQUESTER);
	}
	for (int i = 0; i < 2; i++)
		if (r.pids[i])
			kill(r.pids[i], SIGCONT);
	atomic_store(&ctl->stop, 1);
	process_look(&r, REQUESTER);
	process_look(&r, OWNER);
	rounds_print(&r);
	close(r.fd);
	unlink(paths[0]);
	free(paths[0]);
	free(paths[1]);
}

/* ---- options ---- */

static uint32_t policies_parse(const char *list)
{
	char *copy = strdup(list), *rest = copy, *word;
	uint32_t bits = 0, bit;

	while ((word = strsep(&rest, ","))) {
		for (bit = 1; bit <= UODPDV_POLICY_DENY; bit++)
			if (!strcmp(word, policy_names[bit]))
				break;
		if (bit > UODPDV_POLICY_DENY) {
			fprintf(stderr, "checker: there is no policy %s\n", word);
			exit(2);
		}
		bits |= 1u << bit;
	}
	free(copy);
	return bits;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
						{"policy", required_argument, NULL, 'p'},
						{"threads", required_argument, NULL, 't'},
						{"torment", required_argument, NULL, 'o'},
						{"seed", required_argument, NULL, 'x'},
						{0}};
	uint32_t policies = policies_parse("odp,pinned,scratch,revoke,lease,kill,deny"), left;
	unsigned int seconds = 10, threads = 3, torment = 8;
	uint64_t seed = now_ns();
	bool failed = false;
	int c;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			seconds = (unsigned int)atoi(optarg);
		else if (c == 'p')
			policies = policies_parse(optarg);
		else if (c == 't')
			threads = (unsigned int)atoi(optarg);
		else if (c == 'o')
			torment = (unsigned int)atoi(optarg);
		else if (c == 'x')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	if (argc - optind != 2 || !seconds || !threads || threads > MAX_THREADS) {
		fprintf(stderr, "Usage: checker [--seconds N] [--policy NAME,...] [--threads N] "
				"[--seed N] [--torment N] BACKING MNT\n");
		return 2;
	}
	ctl = mmap(NULL, sizeof(*ctl), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ctl == MAP_FAILED)
		return 1;
	printf("seed %llu\n", (unsigned long long)seed);
	left = (uint32_t)__builtin_popcount(policies);
	for (uint32_t p = 1; p <= UODPDV_POLICY_DENY && !failed; p++) {
		if (!(policies >> p & 1))
			continue;
		ctl->seed = seed;
		ctl->threads = threads;
		policy_run(p, argv[optind], argv[optind + 1], seconds * 1000 / left, torment);
		failed = atomic_load(&ctl->failed);
	}
	return failed;
}
