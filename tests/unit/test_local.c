/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Files that no file system watches for us: a memfd, a file of tmpfs, a file on a
 * disk; under every policy, with their blocks taken by this process and by others.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "memkit.h"
#include "suite.h"

#define PAGES 8
#define LEN (PAGES * PAGE)

enum kind { MEMFD, SHM, DISK, KINDS };
static const char *const kinds[] = {"memfd", "tmpfs", "disk"};

struct file {
	enum kind kind;
	int fd;
	char path[128]; /* as another process may open it */
	char *mem;
};

static char disk_dir[] = "/var/tmp/uodp-local-XXXXXX";
static bool disk_made;

/* ---- files ---- */

static bool file_make(struct file *f, enum kind kind, bool sealable)
{
	static unsigned serial;

	f->kind = kind;
	if (kind == MEMFD) {
		f->fd = memfd_create("local", MFD_CLOEXEC | (sealable ? MFD_ALLOW_SEALING : 0));
		snprintf(f->path, sizeof(f->path), "/proc/%d/fd/%d", getpid(), f->fd);
	} else {
		snprintf(f->path, sizeof(f->path), "%s/uodp-local-%d-%u",
			 kind == SHM ? "/dev/shm" : disk_dir, getpid(), serial++);
		f->fd = open(f->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	}
	if (f->fd < 0 || ftruncate(f->fd, LEN))
		return false;
	f->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	if (f->mem == MAP_FAILED)
		return false;
	kit_fill(f->mem, LEN, "old");
	return true;
}

static void file_open(struct file *f, enum kind kind, bool sealable)
{
	CU_ASSERT_TRUE_FATAL(file_make(f, kind, sealable));
}

static void file_close(struct file *f)
{
	munmap(f->mem, LEN);
	close(f->fd);
	if (f->kind != MEMFD)
		unlink(f->path);
}

static void file_grow(struct file *f)
{
	CU_ASSERT_EQUAL(ftruncate(f->fd, LEN), 0);
	kit_fill(f->mem, LEN, "new");
}

static struct odp_region *reg(struct file *f, enum odp_kind kind, enum odp_policy policy,
			      uint32_t lease_ms)
{
	struct odp_region_attr attr = {.addr = f->mem,
				       .length = LEN,
				       .iova = (uintptr_t)f->mem,
				       .pd = PD,
				       .access = ALL,
				       .kind = kind,
				       .policy = policy,
				       .lease_ms = lease_ms};
	struct odp_region *r = NULL;

	kit_err = odp_region_create(kit_proc, &attr, &r);
	return kit_err ? NULL : r;
}

/* A pinned region over a shared mapping of a disk's file is refused without a watch;
 * deny on one that may not be sealed is refused without fanotify. */
static bool asked_first(enum kind kind)
{
	static int known[KINDS] = {-1, -1, -1};

	if (known[kind] < 0) {
		struct odp_region *r;
		struct file f;

		file_open(&f, kind, false);
		r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_DENY, 0);
		known[kind] = !!r;
		if (r)
			odp_region_destroy(r);
		file_close(&f);
		if (!known[kind])
			printf("(%s: no fanotify here: leases) ", kinds[kind]);
	}
	return known[kind];
}

/* ---- who takes blocks ---- */

enum act { TRUNCATE, FTRUNCATE, O_TRUNC_OPEN, PUNCH, COLLAPSE, ACTS, LOOK, WRITE };

static int act_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int act_fd(int fd, enum act act)
{
	char buf[64] = "look";
	char *m;
	int ret = 0;

	switch (act) {
	case FTRUNCATE:
		ret = ftruncate(fd, 4 * PAGE);
		break;
	case PUNCH:
		ret = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE, 4 * PAGE);
		break;
	case COLLAPSE:
		ret = fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 4 * PAGE, 2 * PAGE);
		break;
	case WRITE:
		ret = pwrite(fd, buf, sizeof(buf), PAGE) == (ssize_t)sizeof(buf) ? 0 : -1;
		if (!ret)
			ret = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LEN + PAGE);
		if (!ret)
			ret = ftruncate(fd, LEN + PAGE); /* takes nothing */
		m = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (!ret && m != MAP_FAILED)
			m[2 * PAGE + 64] = 'w';
		munmap(m, LEN);
		break;
	default:
		ret = pread(fd, buf, sizeof(buf), 0) == (ssize_t)sizeof(buf) ? 0 : -1;
	}
	return ret ? -errno : 0;
}

static int act_run(const char *path, enum act act)
{
	int fd, ret;

	if (act == TRUNCATE)
		return truncate(path, 4 * PAGE) ? -errno : 0;
	if (act == O_TRUNC_OPEN) {
		fd = act_open(path, O_RDWR | O_TRUNC);
		if (fd < 0)
			return fd;
		close(fd);
		return 0;
	}
	fd = act_open(path, act == LOOK ? O_RDONLY : O_RDWR);
	if (fd < 0)
		return fd;
	ret = act_fd(fd, act);
	close(fd);
	return ret;
}

static void line_get(char *buf, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		buf[i] = (char)parent_get();
		if (!buf[i])
			return;
	}
}

/* Another process, told what to do with which file. */
static int role_cutter(void)
{
	char path[128];
	long act;

	while ((act = parent_get()) >= 0) {
		line_get(path, sizeof(path));

		uint64_t began = now_ms();

		parent_put(act_run(path, (enum act)act));
		parent_put((long)(now_ms() - began));
	}
	return 0;
}

static void cutter_start(struct child *c)
{
	CU_ASSERT_TRUE_FATAL(child_start(c, "cutter"));
}

static void cutter_ask(struct child *c, const struct file *f, enum act act)
{
	child_put(c, act);
	for (unsigned i = 0; i <= strlen(f->path); i++)
		child_put(c, f->path[i]);
}

struct cut {
	long ret, waited_ms;
};

static struct cut cut_by(struct child *c, const struct file *f, enum act act)
{
	struct cut cut;

	cutter_ask(c, f, act);
	cut.ret = child_get(c);
	cut.waited_ms = child_get(c);
	return cut;
}

/* ---- each kind with each policy, by each way to take blocks ---- */

static enum odp_kind kind_for(enum odp_policy policy)
{
	return policy == ODP_POLICY_PINNED ? ODP_ON_DEMAND : ODP_PINNED;
}

static bool whole(enum kind kind, enum act act)
{
	return !asked_first(kind) || act == O_TRUNC_OPEN;
}

static void region_check(struct odp_region *r, struct file *f, enum odp_policy policy, enum act act)
{
	CU_ASSERT_EQUAL(odp_region_revoked(r), policy >= ODP_POLICY_REVOKE);
	switch (policy) {
	case ODP_POLICY_ODP:
		CU_ASSERT_STRING_EQUAL(kit_see(r, f->mem + 5 * PAGE), "new5");
		break;
	case ODP_POLICY_PINNED:
		CU_ASSERT_STRING_EQUAL(kit_see(r, f->mem + 5 * PAGE), "old5");
		CU_ASSERT_STRING_EQUAL(kit_see(r, f->mem + PAGE),
				       whole(f->kind, act) ? "old1" : "new1");
		break;
	case ODP_POLICY_SCRATCH:
		CU_ASSERT_EQUAL(kit_write(r, f->mem + 5 * PAGE, "lost", 5), 0);
		CU_ASSERT_STRING_EQUAL(f->mem + 5 * PAGE, "new5");
		CU_ASSERT_STRING_EQUAL(kit_see(r, f->mem + 5 * PAGE), "lost");
		break;
	default:
		CU_ASSERT_STRING_EQUAL(kit_see(r, f->mem), "?14");
		CU_ASSERT_EQUAL(kit_write(r, f->mem + 5 * PAGE, "x", 1), -EFAULT);
		CU_ASSERT_STRING_EQUAL(f->mem + 5 * PAGE, "new5");
	}
}

static void one_cut(struct child *c, enum kind kind, enum odp_policy policy, enum act act)
{
	struct odp_region *r;
	struct cut cut;
	struct file f;

	file_open(&f, kind, true);
	r = reg(&f, kind_for(policy), policy, 100);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	cut = cut_by(c, &f, act);
	CU_ASSERT_EQUAL(cut.ret, 0);
	if (policy == ODP_POLICY_LEASE)
		CU_ASSERT_TRUE(cut.waited_ms >= 100);
	file_grow(&f);
	region_check(r, &f, policy, act);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

static bool act_possible(enum kind kind, enum act act)
{
	return act != COLLAPSE || kind == DISK;
}

static void cuts(enum kind kind)
{
	static const enum odp_policy policies[] = {ODP_POLICY_ODP, ODP_POLICY_PINNED,
						   ODP_POLICY_SCRATCH, ODP_POLICY_REVOKE,
						   ODP_POLICY_LEASE};
	struct child c;

	cutter_start(&c);
	for (unsigned i = 0; i < sizeof(policies) / sizeof(*policies); i++)
		for (int act = 0; act < ACTS; act++)
			if (act_possible(kind, (enum act)act))
				one_cut(&c, kind, policies[i], (enum act)act);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

static void test_memfd(void)
{
	cuts(MEMFD);
}

static void test_tmpfs(void)
{
	cuts(SHM);
}

static bool disk_there(void)
{
	static const unsigned long magics[] = {0xef53, 0x58465342, 0x9123683e};
	struct statfs st;

	if (disk_made && !statfs(disk_dir, &st))
		for (unsigned i = 0; i < sizeof(magics) / sizeof(*magics); i++)
			if ((unsigned long)st.f_type == magics[i])
				return true;
	printf("(/var/tmp is not on ext4, xfs or btrfs: skipped) ");
	return false;
}

static void test_disk(void)
{
	if (disk_there())
		cuts(DISK);
}

/* ---- by this process ---- */

static void own_cut(enum kind kind, enum act act)
{
	struct odp_region *r;
	struct file f;

	file_open(&f, kind, false);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(act_run(f.path, act), 0);
	CU_ASSERT_TRUE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

/* The same description: fanotify sees it cut the file; nothing sees it punch a hole. */
static void own_descriptor(void)
{
	struct odp_region *r;
	struct file f;

	file_open(&f, DISK, false);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(ftruncate(f.fd, LEN + PAGE), 0);
	CU_ASSERT_FALSE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(ftruncate(f.fd, LEN), 0);
	CU_ASSERT_FALSE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(ftruncate(f.fd, 4 * PAGE), 0);
	CU_ASSERT_TRUE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

/* Through the leased description itself, by way of who stands in front of the calls. */
static void own_called(enum kind kind, enum act act)
{
	uint64_t end = act == FTRUNCATE ? UINT64_MAX : 8 * PAGE;
	struct odp_recall rc;
	struct odp_region *r;
	struct file f;
	int fd;

	file_open(&f, kind, true);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	/* What takes nothing, or will be refused. */
	fd = open("/dev/null", O_RDWR);
	CU_ASSERT_EQUAL(odp_own_recall_begin(kit_proc, -1, 0, end, &rc), 0);
	CU_ASSERT_EQUAL(odp_own_recall_begin(kit_proc, fd, 0, end, &rc), 0);
	CU_ASSERT_EQUAL(odp_own_recall_begin(kit_proc, f.fd, LEN, UINT64_MAX, &rc), 0);
	close(fd);
	CU_ASSERT_FALSE(odp_region_revoked(r));
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "old5");
	CU_ASSERT_EQUAL_FATAL(odp_own_recall_begin(kit_proc, f.fd, 4 * PAGE, end, &rc), 1);
	CU_ASSERT_TRUE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(rc.revoked, 1);
	CU_ASSERT_STRING_EQUAL(f.mem + 5 * PAGE, "old5");
	CU_ASSERT_EQUAL(act_fd(f.fd, act), 0);
	odp_own_recall_end(kit_proc, &rc);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	/* The file is watched no more, or soon; and may be again. */
	CU_ASSERT_EQUAL(ftruncate(f.fd, LEN), 0);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_FALSE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

static void test_own_called(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int act = FTRUNCATE; act <= PUNCH; act++)
			if (act != O_TRUNC_OPEN && (kind != DISK || disk_there()))
				own_called((enum kind)kind, (enum act)act);
}

static void test_own(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int act = 0; act < ACTS; act++)
			if ((kind != DISK || disk_there()) &&
			    act_possible((enum kind)kind, (enum act)act))
				own_cut((enum kind)kind, (enum act)act);
	if (disk_there() && asked_first(DISK))
		own_descriptor();
}

/* ---- what takes nothing ---- */

static void test_access(void)
{
	struct odp_region *r;
	struct child c;
	struct file f;

	if (!disk_there() || !asked_first(DISK))
		return;
	file_open(&f, DISK, false);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	cutter_start(&c);
	for (int i = 0; i < 20; i++) {
		CU_ASSERT_EQUAL(cut_by(&c, &f, LOOK).ret, 0);
		CU_ASSERT_EQUAL(cut_by(&c, &f, WRITE).ret, 0);
		CU_ASSERT_EQUAL(act_run(f.path, WRITE), 0);
	}
	CU_ASSERT_FALSE(odp_region_revoked(r));
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + PAGE), "look");
	CU_ASSERT_EQUAL(cut_by(&c, &f, PUNCH).ret, 0);
	CU_ASSERT_TRUE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(child_end(&c), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

/* ---- deny ---- */

static void deny_disk(void)
{
	struct odp_region *r;
	struct child c;
	struct file f;

	file_open(&f, DISK, false);
	r = reg(&f, ODP_PINNED, ODP_POLICY_DENY, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	cutter_start(&c);
	for (int act = 0; act < ACTS; act++) {
		CU_ASSERT_EQUAL(cut_by(&c, &f, (enum act)act).ret, -ETXTBSY);
		CU_ASSERT_EQUAL(act_run(f.path, (enum act)act), -ETXTBSY);
	}
	CU_ASSERT_EQUAL(cut_by(&c, &f, WRITE).ret, 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "old5");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	CU_ASSERT_EQUAL(cut_by(&c, &f, TRUNCATE).ret, 0);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	file_close(&f);
}

/* A seal: EPERM, for everybody, for ever, and no word about holes. */
static void deny_memfd(void)
{
	struct odp_region *r;
	struct child c;
	struct file f;

	file_open(&f, MEMFD, true);
	r = reg(&f, ODP_PINNED, ODP_POLICY_DENY, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	cutter_start(&c);
	CU_ASSERT_EQUAL(cut_by(&c, &f, TRUNCATE).ret, -EPERM);
	CU_ASSERT_EQUAL(cut_by(&c, &f, FTRUNCATE).ret, -EPERM);
	CU_ASSERT_EQUAL(cut_by(&c, &f, O_TRUNC_OPEN).ret, -EPERM);
	CU_ASSERT_EQUAL(ftruncate(f.fd, PAGE), -1);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "old5");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	CU_ASSERT_EQUAL(cut_by(&c, &f, TRUNCATE).ret, -EPERM);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	file_close(&f);
}

static void refused(void *arg)
{
	CU_ASSERT_PTR_NULL(reg(arg, ODP_ON_DEMAND, ODP_POLICY_DENY, 0));
	CU_ASSERT_EQUAL(kit_err, -EOPNOTSUPP);
}

static void test_deny(void)
{
	char line[512];
	struct file f;

	if (disk_there() && asked_first(DISK))
		deny_disk();
	deny_memfd();
	for (int kind = MEMFD; kind <= SHM; kind++) {
		file_open(&f, (enum kind)kind, false);
		CU_ASSERT_EQUAL(stderr_lines(refused, &f, line, sizeof(line)), 1);
		CU_ASSERT_PTR_NOT_NULL(strstr(line, "seal"));
		file_close(&f);
	}
}

/* ---- leases that are kept, and owners that are killed ---- */

static _Atomic int leases;

static void notice(void *arg, uint32_t key, uint64_t cookie, enum odp_notice what)
{
	(void)arg;
	(void)key;
	(void)cookie;
	atomic_fetch_add(&leases, what == ODP_NOTICE_LEASE);
}

static bool told(void *arg)
{
	return atomic_load(&leases) > *(int *)arg;
}

/* The owner deregisters in time and registers anew: the file after the cut. */
static void lease_kept(enum kind kind)
{
	int before = atomic_load(&leases);
	struct odp_region *r;
	struct child c;
	struct file f;

	file_open(&f, kind, false);
	r = reg(&f, ODP_PINNED, ODP_POLICY_LEASE, 30000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	cutter_start(&c);
	cutter_ask(&c, &f, TRUNCATE);
	CU_ASSERT_TRUE(wait_for(told, &before));
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "old5");
	CU_ASSERT_FALSE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_LEASE, 100);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "?14");
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 3 * PAGE), "old3");
	CU_ASSERT_EQUAL(child_get(&c), 0);
	CU_ASSERT_TRUE(child_get(&c) < 20000);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	CU_ASSERT_FALSE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

static void test_lease_kept(void)
{
	odp_notice_set(kit_proc, notice, NULL);
	for (int kind = 0; kind < KINDS; kind++)
		if (kind != DISK || disk_there())
			lease_kept((enum kind)kind);
	odp_notice_set(kit_proc, NULL, NULL);
}

/* A process with a region of policy kill on a file of its own kind. */
static int role_owner(void)
{
	enum odp_policy policy;
	struct file f;

	if (kit_start())
		return 2;
	strcpy(disk_dir, "/var/tmp");
	if (!file_make(&f, (enum kind)parent_get(), false))
		return 3;
	policy = (enum odp_policy)parent_get();
	parent_put(reg(&f, ODP_PINNED, policy, 100) ? 0 : kit_err);
	for (unsigned i = 0; i <= strlen(f.path); i++)
		parent_put(f.path[i]);
	parent_get();
	file_close(&f);
	return 0;
}

static void owner_start(struct child *c, enum kind kind, enum odp_policy policy, char *path)
{
	CU_ASSERT_TRUE_FATAL(child_start(c, "owner"));
	child_put(c, kind);
	child_put(c, policy);
	CU_ASSERT_EQUAL_FATAL(child_get(c), 0);
	while ((*path++ = (char)child_get(c)))
		;
}

static void test_kill(void)
{
	struct child c;
	char path[128];

	for (int kind = 0; kind < KINDS; kind++) {
		if (kind == DISK && !disk_there())
			continue;
		owner_start(&c, (enum kind)kind, ODP_POLICY_KILL, path);
		CU_ASSERT_EQUAL(act_run(path, TRUNCATE), 0);
		CU_ASSERT_EQUAL(child_end(&c), 128 + SIGKILL);
		if (kind != MEMFD)
			unlink(path);
	}
}

static void test_owner_killed(void)
{
	struct child c;
	char path[128];

	if (!disk_there() || !asked_first(DISK))
		return;
	owner_start(&c, DISK, ODP_POLICY_DENY, path);
	CU_ASSERT_EQUAL(act_run(path, TRUNCATE), -ETXTBSY);
	child_kill(&c);
	CU_ASSERT_EQUAL(act_run(path, TRUNCATE), 0);
	unlink(path);
}

/* ---- what cannot be watched ---- */

static void refused_lease(void *arg)
{
	CU_ASSERT_PTR_NULL(reg(arg, ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0));
	CU_ASSERT_EQUAL(kit_err, -EOPNOTSUPP);
}

static void test_refused(void)
{
	char line[512];
	struct odp_region *r;
	struct child c;
	struct file f;
	int fd;

	/* Open twice: no lease can be had. */
	file_open(&f, SHM, false);
	fd = open(f.path, O_RDONLY);
	CU_ASSERT_EQUAL(stderr_lines(refused_lease, &f, line, sizeof(line)), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, "open more than once"));
	close(fd);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(fcntl(f.fd, F_GETLEASE), F_WRLCK);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	for (int i = 0; i < 1000 && fcntl(f.fd, F_GETLEASE) != F_UNLCK; i++)
		sleep_ms(5);
	CU_ASSERT_EQUAL(fcntl(f.fd, F_GETLEASE), F_UNLCK);
	CU_ASSERT_EQUAL(fcntl(f.fd, F_GETSIG), 0);
	/* A lease of the program's own stays its own. */
	CU_ASSERT_EQUAL(fcntl(f.fd, F_SETLEASE, F_WRLCK), 0);
	CU_ASSERT_EQUAL(stderr_lines(refused_lease, &f, line, sizeof(line)), 1);
	CU_ASSERT_EQUAL(fcntl(f.fd, F_GETLEASE), F_WRLCK);
	CU_ASSERT_EQUAL(fcntl(f.fd, F_SETLEASE, F_UNLCK), 0);
	/* No descriptor: none that a lease could be on. */
	close(f.fd);
	CU_ASSERT_EQUAL(stderr_lines(refused_lease, &f, line, sizeof(line)), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, "no descriptor"));
	f.fd = -1;
	file_close(&f);
	if (!disk_there() || !asked_first(DISK))
		return;
	/* Who had it open to write before could punch a hole unseen. */
	file_open(&f, DISK, false);
	CU_ASSERT_TRUE_FATAL(child_start(&c, "holder"));
	for (unsigned i = 0; i <= strlen(f.path); i++)
		child_put(&c, f.path[i]);
	CU_ASSERT_EQUAL(child_get(&c), 1);
	CU_ASSERT_EQUAL(stderr_lines(refused_lease, &f, line, sizeof(line)), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, "another process"));
	CU_ASSERT_EQUAL(child_end(&c), 0);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

static int role_holder(void)
{
	char path[128];
	int fd;

	line_get(path, sizeof(path));
	fd = open(path, O_RDWR);
	parent_put(fd >= 0);
	parent_get();
	return 0;
}

/* The program's own locks on a file survive what is done for its regions. */
static void test_locks(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	struct odp_region *r;
	struct file f;
	pid_t pid;
	int status;

	file_open(&f, SHM, false);
	CU_ASSERT_EQUAL(fcntl(f.fd, F_SETLK, &lock), 0);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	for (int i = 0; i < 1000 && fcntl(f.fd, F_GETLEASE) != F_UNLCK; i++)
		sleep_ms(5);
	pid = fork();
	if (!pid) {
		lock.l_type = F_WRLCK;
		_exit(fcntl(f.fd, F_GETLK, &lock) || lock.l_type != F_WRLCK);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	file_close(&f);
}

/* ---- many, and as an ordinary user ---- */

static void test_many(void)
{
	enum { N = 100 };
	struct odp_region *r[N];
	struct file f[N];

	for (int i = 0; i < N; i++) {
		file_open(&f[i], i % 2 && disk_there() ? DISK : SHM, false);
		r[i] = reg(&f[i], ODP_ON_DEMAND, ODP_POLICY_REVOKE, 0);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r[i]);
	}
	for (int i = 0; i < N; i += 3)
		CU_ASSERT_EQUAL(act_run(f[i].path, TRUNCATE), 0);
	for (int i = 0; i < N; i++) {
		CU_ASSERT_EQUAL(odp_region_revoked(r[i]), i % 3 == 0);
		CU_ASSERT_EQUAL(odp_region_destroy(r[i]), 0);
		file_close(&f[i]);
	}
}

/* What the host is said to allow is what it allowed. */
static void test_caps(void)
{
	struct odp_cap caps[64];
	int n = odp_caps(caps, 64), found = 0;

	for (int i = 0; i < n; i++) {
		if (!strcmp(caps[i].name, "leases"))
			found += caps[i].present;
		if (!strcmp(caps[i].name, "fanotify-pre-content")) {
			found += 2;
			if (disk_there())
				CU_ASSERT_EQUAL(caps[i].present, asked_first(DISK));
		}
	}
	CU_ASSERT_EQUAL(found, 3);
}

static void dir_make(void)
{
	if (mkdtemp(disk_dir))
		disk_made = !chmod(disk_dir, 0777);
}

/* The same tests, run by root as nobody too, in a run directory of its own. */
static void test_nobody(void)
{
	char dir[] = "/tmp/uodp-nobody-XXXXXX", domain[64];
	int status;
	pid_t pid;

	if (getuid() || getenv("UODP_TEST_NOBODY"))
		return;
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	CU_ASSERT_EQUAL(chown(dir, 65534, 65534), 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		int self = open("/proc/self/exe", O_RDONLY);

		if (setgid(65534) || setuid(65534) || setenv("UODP_DIR", dir, 1) ||
		    setenv("UODP_TEST_NOBODY", "1", 1))
			_exit(1);
		fexecve(self, (char *[]){(char *)"local", NULL}, environ);
		_exit(2);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	snprintf(domain, sizeof(domain), "%s/domain", dir);
	unlink(domain);
	CU_ASSERT_EQUAL(rmdir(dir), 0);
	printf("\n");
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {{"cutter", role_cutter},
						  {"owner", role_owner},
						  {"holder", role_holder},
						  {NULL, NULL}};
	CU_TestInfo tests[] = {
		{"memfd", test_memfd},
		{"tmpfs", test_tmpfs},
		{"disk", test_disk},
		{"by this process", test_own},
		{"by this process, through its descriptor", test_own_called},
		{"access takes nothing", test_access},
		{"deny", test_deny},
		{"lease kept", test_lease_kept},
		{"kill", test_kill},
		{"owner killed", test_owner_killed},
		{"refused", test_refused},
		{"locks", test_locks},
		{"many", test_many},
		{"caps", test_caps},
		{"as nobody", test_nobody},
		CU_TEST_INFO_NULL,
	};
	int ret;

	child_main(argc, argv, roles);
	dir_make();
	ret = kit_start();
	if (ret)
		return 1;
	ret = suite_run("local", tests);
	rmdir(disk_dir);
	return ret;
}
