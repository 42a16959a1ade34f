/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What a program has said of private memory, before it was registered, while it is, or
 * afterwards, stays as the kernel has it for private memory.
 */
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

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

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"pinned", c_pinned, HERE},
		{"on demand", c_odp, HERE},
	};

	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
