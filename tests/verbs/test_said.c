/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What a program has said of private memory, before it was registered, while it is, or
 * afterwards, stays as the kernel has it for private memory.
 */
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define LEN ((size_t)64 << 10)

enum when { BEFORE, WHILE, AFTER };

static const char *const whens[] = {"before", "while", "after"};

static int advise(void *p, int advice)
{
	return madvise(p, LEN, advice);
}
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static int lock(void *p, int arg)
{
	(void)arg;
	return mlock(p, LEN);
}
#endif
static int bind_nodes(void *p, int mode)
{
	unsigned long mask = 1;

	return (int)syscall(SYS_mbind, p, LEN, mode, &mask, 64, 0);
}

/* ---- what shows of it ---- */

static bool smaps_flag(const char *p, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end, at = (uintptr_t)p;
	bool here = false, found = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %*4s", &start, &end) == 2)
			here = start <= at && at < end;
		if (here && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, flag);
	}
	if (f)
		fclose(f);
	return found;
}

/* What a child sees of the first byte; -1: it has no such memory. */
static int child_sees(const char *p)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		unsigned char vec;

		_exit(mincore((void *)(uintptr_t)p, 1, &vec) ? 200 : *(volatile const char *)p);
	}
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status))
		return -2;
	return WEXITSTATUS(status) == 200 ? -1 : WEXITSTATUS(status);
}

static int shows_flag(const char *p, const char *flag)
{
	return smaps_flag(p, flag);
}
static int shows_child(const char *p, const char *flag)
{
	(void)flag;
	return child_sees(p);
}
static int shows_nodes(const char *p, const char *flag)
{
	int mode = -1;

	(void)flag;
	syscall(SYS_get_mempolicy, &mode, NULL, 0, p, MPOL_F_ADDR);
	return mode;
}

static const struct said {
	const char *name;
	int (*say)(void *p, int arg);
	int arg;
	int (*shows)(const char *p, const char *flag);
	const char *flag;
	int want;
} table[] = {
	{"nothing", NULL, 0, shows_child, NULL, 7},
	{"MADV_WIPEONFORK", advise, MADV_WIPEONFORK, shows_child, NULL, 0},
	{"MADV_KEEPONFORK", advise, MADV_KEEPONFORK, shows_child, NULL, 7},
	{"MADV_DONTFORK", advise, MADV_DONTFORK, shows_child, NULL, -1},
	{"MADV_DOFORK", advise, MADV_DOFORK, shows_child, NULL, 7},
	{"MADV_DONTDUMP", advise, MADV_DONTDUMP, shows_flag, " dd", 1},
	{"MADV_NOHUGEPAGE", advise, MADV_NOHUGEPAGE, shows_flag, " nh", 1},
	{"MADV_HUGEPAGE", advise, MADV_HUGEPAGE, shows_flag, " hg", 1},
	{"MADV_RANDOM", advise, MADV_RANDOM, shows_flag, " rr", 1},
	{"MADV_SEQUENTIAL", advise, MADV_SEQUENTIAL, shows_flag, " sr", 1},
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they lock nothing */
	{"mlock", lock, 0, shows_flag, " lo", 1},
#endif
	{"mbind", bind_nodes, MPOL_BIND, shows_nodes, NULL, MPOL_BIND},
};

static void say(const struct said *s, void *p)
{
	if (s->say)
		CHECK_ERRNO(s->say(p, s->arg) ? errno : 0, 0);
}

static void said_once(struct pair *p, const struct said *s, enum when when, int access)
{
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr;

	REQUIRE(mem != MAP_FAILED);
	t_note("%s, said %s", s->name, whens[when]);
	memset(mem, 7, LEN / 2);
	if (when == BEFORE)
		say(s, mem);
	mr = ibv_reg_mr(p->a.pd, mem, LEN, access);
	REQUIRE(mr);
	if (when == WHILE)
		say(s, mem);
	if (when != AFTER)
		CHECK_INT(s->shows(mem, s->flag), s->want);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	if (when == AFTER)
		say(s, mem);
	CHECK_INT(s->shows(mem, s->flag), s->want);
	CHECK_INT(mem[0], 7);
	munmap(mem, LEN);
}

static void said_all(struct pair *p, int access)
{
	struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
		for (int when = BEFORE; when <= AFTER; when++)
			said_once(p, &table[i], (enum when)when, access);
	pair_down(p);
}

static void c_pinned(struct pair *p)
{
	said_all(p, IBV_ACCESS_LOCAL_WRITE);
}

static void c_odp(struct pair *p)
{
	said_all(p, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
}

/* ---- calls that tell shared mappings from private ones ---- */

/* Each on LEN bytes of 7s: -errno, or what the program sees then. */

static int result(int ret, const char *p)
{
	return ret ? -errno : *(const volatile char *)p;
}
static int act_remove(char *p)
{
	return result(madvise(p, LEN, MADV_REMOVE), p);
}
static int act_remove_part(char *p)
{
	return result(madvise(p + LEN / 2, 4096, MADV_REMOVE), p);
}
static int act_guard(char *p)
{
	if (madvise(p, 4096, MADV_GUARD_INSTALL) || madvise(p, 4096, MADV_GUARD_REMOVE))
		return -errno;
	return p[0] * 10 + p[4096];
}
static int act_dontneed(char *p)
{
	return result(madvise(p, LEN, MADV_DONTNEED), p);
}
static int act_locked(char *p)
{
	return result(madvise(p, LEN, MADV_DONTNEED_LOCKED), p);
}
static int act_cold(char *p)
{
	return result(madvise(p, LEN, MADV_COLD), p);
}
static int act_pageout(char *p)
{
	return result(madvise(p, LEN, MADV_PAGEOUT), p);
}
static int act_willneed(char *p)
{
	return result(madvise(p, LEN, MADV_WILLNEED), p);
}
static int act_collapse(char *p)
{
	return result(madvise(p, LEN, MADV_COLLAPSE), p);
}
static int act_mergeable(char *p)
{
	return result(madvise(p, LEN, MADV_MERGEABLE), p);
}
static int act_populate(char *p)
{
	return result(madvise(p, LEN, MADV_POPULATE_WRITE), p);
}
static int act_unknown(char *p)
{
	return result(madvise(p, LEN, 9999), p);
}
static int act_process(char *p, int advice)
{
	struct iovec iov = {p, LEN};
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	long ret = syscall(SYS_process_madvise, fd, &iov, 1, advice, 0);
	int err = errno;

	close(fd);
	return ret < 0 ? -err : (ret == (long)LEN) * 10 + *(volatile char *)p;
}
static int act_process_cold(char *p)
{
	return act_process(p, MADV_COLD);
}
static int act_process_pageout(char *p)
{
	return act_process(p, MADV_PAGEOUT);
}
static int act_process_dontneed(char *p)
{
	return act_process(p, MADV_DONTNEED);
}
static int act_msync(char *p)
{
	return result(msync(p, LEN, MS_SYNC | MS_INVALIDATE), p);
}
static int act_exec(char *p)
{
	return result(mprotect(p, LEN, PROT_READ | PROT_EXEC), p);
}
static int act_growsdown(char *p)
{
	return result(mprotect(p, LEN, PROT_READ | PROT_GROWSDOWN), p);
}
static int act_mincore(char *p)
{
	unsigned char vec[LEN / 4096];

	return mincore(p, LEN, vec) ? -errno : vec[0] & 1;
}
static int moved(const char *q)
{
	return q == MAP_FAILED ? -errno : *(const volatile char *)q;
}
static int act_twice(char *p)
{
	return moved(mremap(p, 0, LEN, MREMAP_MAYMOVE));
}
static int act_grow(char *p)
{
	char *q = mremap(p, LEN, 2 * LEN, MREMAP_MAYMOVE);

	return q == MAP_FAILED ? -errno : q[LEN - 1] * 10 + q[LEN];
}
static int act_shrink(char *p)
{
	return moved(mremap(p, LEN, LEN / 2, 0));
}
static int act_dontunmap(char *p)
{
	char *q = mremap(p, LEN, LEN, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);

	return q == MAP_FAILED ? -errno : q[0] * 10 + p[0];
}

static int act_fixed(char *p)
{
	char *to = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *q = mremap(p, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	return q == MAP_FAILED ? -errno : (q == to) * 100 + q[LEN / 2] * 10 + q[LEN - 1];
}
static int act_hole(char *p)
{
	munmap(p + LEN / 2, 4096);
	return moved(mremap(p, LEN, 2 * LEN, MREMAP_MAYMOVE));
}

static const struct act {
	const char *name;
	int (*act)(char *p);
} acts[] = {
	{"MADV_REMOVE", act_remove},
	{"MADV_REMOVE of a part", act_remove_part},
	{"MADV_GUARD_INSTALL and _REMOVE", act_guard},
	{"MADV_DONTNEED", act_dontneed},
	{"MADV_DONTNEED_LOCKED", act_locked},
	{"MADV_COLD", act_cold},
	{"MADV_PAGEOUT", act_pageout},
	{"MADV_WILLNEED", act_willneed},
	{"MADV_COLLAPSE", act_collapse},
	{"MADV_MERGEABLE", act_mergeable},
	{"MADV_POPULATE_WRITE", act_populate},
	{"an unknown advice", act_unknown},
	{"process_madvise MADV_COLD", act_process_cold},
	{"process_madvise MADV_PAGEOUT", act_process_pageout},
	{"process_madvise MADV_DONTNEED", act_process_dontneed},
	{"msync", act_msync},
	{"mprotect PROT_EXEC", act_exec},
	{"mprotect PROT_GROWSDOWN", act_growsdown},
	{"mincore", act_mincore},
	{"mremap of length 0", act_twice},
	{"mremap, growing", act_grow},
	{"mremap, shrinking", act_shrink},
	{"mremap to an address", act_fixed},
	{"mremap over a hole", act_hole},
	{"mremap MREMAP_DONTUNMAP", act_dontunmap},
};

enum how { UNREGISTERED, REGISTERED, REGISTERED_PART, ONCE_REGISTERED };
static const char *const hows[] = {"not registered", "registered", "registered in the middle",
				   "registered once"};

static int act_once(struct pair *p, const struct act *a, enum how how, int access)
{
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t from = how == REGISTERED_PART ? LEN / 4 : 0;
	struct ibv_mr *mr = NULL;
	int ret;

	if (!CHECK(mem != MAP_FAILED))
		return 0;
	memset(mem, 7, LEN);
	if (how != UNREGISTERED)
		mr = ibv_reg_mr(p->a.pd, mem + from, LEN - 2 * from, access);
	CHECK(how == UNREGISTERED || mr);
	if (mr && how == ONCE_REGISTERED) {
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		mr = NULL;
	}
	ret = a->act(mem);
	if (mr)
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	/* What a call has moved is left where it is. */
	return ret;
}

static void acts_all(struct pair *p, int access)
{
	struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	for (unsigned i = 0; i < ARRAY_SIZE(acts); i++) {
		int want = act_once(p, &acts[i], UNREGISTERED, access);

		for (int how = REGISTERED; how <= ONCE_REGISTERED; how++) {
			t_note("%s, %s", acts[i].name, hows[how]);
			CHECK_INT(act_once(p, &acts[i], (enum how)how, access), want);
		}
	}
	pair_down(p);
}

static void c_calls_pinned(struct pair *p)
{
	acts_all(p, IBV_ACCESS_LOCAL_WRITE);
}

static void c_calls_odp(struct pair *p)
{
	acts_all(p, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"pinned", c_pinned, HERE},
		{"on demand", c_odp, HERE},
		{"calls, pinned", c_calls_pinned, HERE},
		{"calls, on demand", c_calls_odp, HERE},
	};

	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
