/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Files whose blocks are taken back, under every policy. A memfd stands for a file
 * system's file: the test itself watches it and takes its blocks away.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backing.h"
#include "child.h"
#include "memkit.h"
#include "pool.h"
#include "suite.h"
#include "watch.h"

#define PAGES 8
#define LEN (PAGES * PAGE)

struct file {
	int fd;
	uint64_t dev, ino;
	char *mem;
	struct odp_watch *watch;
};

static void file_open(struct file *f, enum odp_policy policy)
{
	struct stat st;
	struct odp_watch_attr attr = {.policy = policy, .lease_ms = 200};

	f->fd = memfd_create("recall", MFD_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(ftruncate(f->fd, LEN), 0);
	CU_ASSERT_EQUAL_FATAL(fstat(f->fd, &st), 0);
	f->dev = attr.dev = st.st_dev;
	f->ino = attr.ino = st.st_ino;
	f->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(f->mem, MAP_FAILED);
	kit_fill(f->mem, LEN, "old");
	CU_ASSERT_EQUAL_FATAL(odp_watch_create(kit_proc, &attr, &f->watch), 0);
}

static void file_close(struct file *f)
{
	odp_watch_destroy(f->watch);
	munmap(f->mem, LEN);
	close(f->fd);
}

static struct odp_region *reg(struct file *f, enum odp_kind kind, enum odp_policy policy)
{
	struct odp_region_attr attr = {.addr = f->mem,
				       .length = LEN,
				       .iova = (uintptr_t)f->mem,
				       .pd = PD,
				       .access = ALL,
				       .kind = kind,
				       .policy = policy};
	struct odp_region *r = NULL;

	kit_err = odp_region_create(kit_proc, &attr, &r);
	return kit_err ? NULL : r;
}

/* Cut the file at page N and let it grow again, with "new" in what comes. */
static int cut(struct file *f, unsigned n, struct odp_recall *rc)
{
	int ret = odp_recall_begin(f->watch, f->ino, n * PAGE, UINT64_MAX, rc);

	if (ret)
		return ret;
	CU_ASSERT_EQUAL(ftruncate(f->fd, (off_t)(n * PAGE)), 0);
	CU_ASSERT_EQUAL(ftruncate(f->fd, LEN), 0);
	odp_recall_end(f->watch, rc);
	for (; n < PAGES; n++)
		sprintf(f->mem + n * PAGE, "new%u", n);
	return 0;
}

static void policy_odp(enum odp_kind kind)
{
	struct odp_region_stats before, after;
	struct odp_recall rc;
	struct odp_region *r;
	struct file f;

	file_open(&f, ODP_POLICY_ODP);
	r = reg(&f, kind, ODP_POLICY_DEFAULT);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "old5");
	CU_ASSERT_EQUAL(odp_watch_policy(f.watch, f.ino, 0, 1), ODP_POLICY_ODP);
	/* The entries themselves, before an access could find the pages gone. */
	odp_region_stats(r, &before);
	CU_ASSERT(before.pages_valid > 0);
	CU_ASSERT_EQUAL(odp_recall_begin(f.watch, f.ino, 0, UINT64_MAX, &rc), 0);
	odp_region_stats(r, &after);
	CU_ASSERT_EQUAL(rc.pages, before.pages_valid);
	CU_ASSERT_EQUAL(after.pages_valid, 0);
	CU_ASSERT_EQUAL(after.page_invalidations, before.page_invalidations + PAGES);
	CU_ASSERT_EQUAL(after.page_invalidations_handled,
			before.page_invalidations_handled + before.pages_valid);
	odp_recall_end(f.watch, &rc);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "old5");
	odp_region_stats(r, &before);
	CU_ASSERT(before.page_faults_handled > after.page_faults_handled);
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
	CU_ASSERT_EQUAL(rc.regions, 1);
	CU_ASSERT_EQUAL(rc.strictest, ODP_POLICY_ODP);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 3 * PAGE), "old3");
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "new5");
	CU_ASSERT_EQUAL(kit_write(r, f.mem + 5 * PAGE, "dev", 4), 0);
	CU_ASSERT_STRING_EQUAL(f.mem + 5 * PAGE, "dev");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

static void test_odp(void)
{
	policy_odp(ODP_ON_DEMAND);
	policy_odp(ODP_PINNED);
}

static void policy_pinned(enum odp_kind kind, enum odp_policy policy)
{
	struct odp_recall rc;
	struct odp_region *r;
	struct file f;

	file_open(&f, ODP_POLICY_DEFAULT);
	r = reg(&f, kind, policy);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	strcpy(f.mem + 5 * PAGE, "dirty");
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
	CU_ASSERT_EQUAL(rc.strictest, ODP_POLICY_PINNED);
	CU_ASSERT_EQUAL(rc.pages, 4);
	/* The page below the cut is the file's still, those above nobody else's. */
	CU_ASSERT_EQUAL(kit_write(r, f.mem + 3 * PAGE, "dev3", 5), 0);
	CU_ASSERT_STRING_EQUAL(f.mem + 3 * PAGE, "dev3");
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "dirty");
	CU_ASSERT_EQUAL(kit_write(r, f.mem + 5 * PAGE, "dev5", 5), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "dev5");
	CU_ASSERT_STRING_EQUAL(f.mem + 5 * PAGE, "new5");
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 6 * PAGE), "old6");
	/* Twice is once. */
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
	CU_ASSERT_EQUAL(rc.pages, 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "dev5");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

static void test_pinned(void)
{
	policy_pinned(ODP_PINNED, ODP_POLICY_DEFAULT);
	policy_pinned(ODP_ON_DEMAND, ODP_POLICY_PINNED);
}

/* A pinned region does not care what becomes of the mapping. */
static void test_pinned_unmap(void)
{
	struct odp_recall rc;
	struct odp_region *r;
	struct file f;
	char page[PAGE];

	file_open(&f, ODP_POLICY_DEFAULT);
	r = reg(&f, ODP_PINNED, ODP_POLICY_DEFAULT);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(mprotect(f.mem, LEN, PROT_NONE), 0);
	CU_ASSERT_EQUAL(kit_write(r, f.mem, "none", 5), 0);
	munmap(f.mem, LEN);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + PAGE), "old1");
	CU_ASSERT_EQUAL(pread(f.fd, page, PAGE, 0), (ssize_t)PAGE);
	CU_ASSERT_STRING_EQUAL(page, "none");
	CU_ASSERT_EQUAL(odp_recall_begin(f.watch, f.ino, 0, PAGE, &rc), 0);
	CU_ASSERT_EQUAL(fallocate(f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), 0);
	odp_recall_end(f.watch, &rc);
	CU_ASSERT_EQUAL(rc.pages, 1);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem), "none");
	CU_ASSERT_EQUAL(pread(f.fd, page, PAGE, 0), (ssize_t)PAGE);
	CU_ASSERT_STRING_EQUAL(page, "");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
}

/* What nobody has touched through the region is mapped all the same: a recall that had to
 * fault it in could wait for the truncate that waits for it. */
static void test_pinned_present(void)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct odp_region *r;
	uint64_t e;
	struct file f;

	file_open(&f, ODP_POLICY_DEFAULT);
	if (madvise(f.mem, LEN, MADV_POPULATE_READ)) {
		printf("(no MADV_POPULATE_READ: skipped) ");
	} else {
		r = reg(&f, ODP_PINNED, ODP_POLICY_DEFAULT);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		for (unsigned n = 0; n < PAGES; n++) {
			off_t at = (off_t)((r->mr->shadow / PAGE + n) * sizeof(e));

			CU_ASSERT_EQUAL(pread(pagemap, &e, sizeof(e), at), sizeof(e));
			CU_ASSERT_TRUE(e >> 63);
		}
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	}
	close(pagemap);
	file_close(&f);
}

static void test_scratch(void)
{
	struct odp_recall rc;
	struct odp_region *r;
	struct file f;

	file_open(&f, ODP_POLICY_SCRATCH);
	for (int kind = ODP_PINNED; kind <= ODP_ON_DEMAND; kind++) {
		r = reg(&f, (enum odp_kind)kind, ODP_POLICY_DEFAULT);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
		CU_ASSERT_EQUAL(rc.pages, 4);
		CU_ASSERT_EQUAL(kit_write(r, f.mem + 5 * PAGE, "lost", 5), 0);
		CU_ASSERT_STRING_EQUAL(f.mem + 5 * PAGE, "new5");
		CU_ASSERT_EQUAL(kit_write(r, f.mem + 3 * PAGE, "kept", 5), 0);
		CU_ASSERT_STRING_EQUAL(f.mem + 3 * PAGE, "kept");
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	}
	file_close(&f);
}

static void revoked_check(struct odp_region *r, struct file *f)
{
	CU_ASSERT_TRUE(odp_region_revoked(r));
	CU_ASSERT_STRING_EQUAL(kit_see(r, f->mem), "?14");
	CU_ASSERT_EQUAL(kit_write(r, f->mem + 5 * PAGE, "x", 1), -EFAULT);
	CU_ASSERT_STRING_EQUAL(f->mem + 5 * PAGE, "new5");
}

static void test_revoke(void)
{
	struct odp_region *r, *other;
	struct odp_recall rc;
	struct file f;

	file_open(&f, ODP_POLICY_DEFAULT);
	for (int kind = ODP_PINNED; kind <= ODP_ON_DEMAND; kind++) {
		r = reg(&f, (enum odp_kind)kind, ODP_POLICY_REVOKE);
		other = reg(&f, (enum odp_kind)kind, ODP_POLICY_DEFAULT);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		CU_ASSERT_PTR_NOT_NULL_FATAL(other);
		/* The blocks below stay: nothing is revoked. */
		CU_ASSERT_EQUAL(odp_recall_begin(f.watch, f.ino, LEN, UINT64_MAX, &rc), 0);
		odp_recall_end(f.watch, &rc);
		CU_ASSERT_FALSE(odp_region_revoked(r));
		CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
		CU_ASSERT_EQUAL(rc.revoked, 1);
		CU_ASSERT_EQUAL(rc.regions, 2);
		revoked_check(r, &f);
		CU_ASSERT_FALSE(odp_region_revoked(other));
		CU_ASSERT_STRING_EQUAL(kit_see(other, f.mem + 5 * PAGE),
				       kind == ODP_PINNED ? "old5" : "new5");
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
		CU_ASSERT_EQUAL(odp_region_destroy(other), 0);
		kit_fill(f.mem, LEN, "old");
	}
	file_close(&f);
}

static void test_deny(void)
{
	struct odp_region *r;
	struct odp_recall rc;
	struct file f;

	file_open(&f, ODP_POLICY_DEFAULT);
	r = reg(&f, ODP_PINNED, ODP_POLICY_DENY);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(odp_watch_policy(f.watch, f.ino, 0, UINT64_MAX), ODP_POLICY_DENY);
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), -ETXTBSY);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "old5");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
	file_close(&f);
}

/* ---- leases ---- */

struct told {
	_Atomic uint32_t key;
	_Atomic uint64_t cookie;
	_Atomic int leases, revocations;
};

static void notice(void *arg, uint32_t key, uint64_t cookie, enum odp_notice what)
{
	struct told *t = arg;

	atomic_store(&t->cookie, cookie);
	atomic_store(&t->key, key);
	atomic_fetch_add(what == ODP_NOTICE_LEASE ? &t->leases : &t->revocations, 1);
}

static bool told_lease(void *arg)
{
	return atomic_load(&((struct told *)arg)->leases);
}

static bool told_revoked(void *arg)
{
	return atomic_load(&((struct told *)arg)->revocations);
}

struct cutter {
	struct file *f;
	struct odp_recall rc;
	_Atomic int done;
	int ret;
};

static void *cut_run(void *arg)
{
	struct cutter *c = arg;

	c->ret = cut(c->f, 4, &c->rc);
	atomic_store(&c->done, 1);
	return NULL;
}

/* The owner lets go in time, and registers anew without a race: the new region is
 * of the file after the cut. */
static void test_lease_kept(void)
{
	struct told told = {0};
	struct odp_region *r;
	struct cutter c;
	struct file f;
	pthread_t th;

	file_open(&f, ODP_POLICY_DEFAULT);
	odp_notice_set(kit_proc, notice, &told);
	c = (struct cutter){.f = &f};
	{
		struct odp_region_attr attr = {.addr = f.mem,
					       .length = LEN,
					       .iova = (uintptr_t)f.mem,
					       .pd = PD,
					       .access = ALL,
					       .kind = ODP_PINNED,
					       .policy = ODP_POLICY_LEASE,
					       .lease_ms = 60000,
					       .cookie = 0x123456789abcdefull};

		CU_ASSERT_EQUAL_FATAL(odp_region_create(kit_proc, &attr, &r), 0);
	}
	CU_ASSERT_EQUAL_FATAL(pthread_create(&th, NULL, cut_run, &c), 0);
	CU_ASSERT_TRUE(wait_for(told_lease, &told));
	CU_ASSERT_EQUAL(atomic_load(&told.key), odp_region_key(r));
	CU_ASSERT_EQUAL(atomic_load(&told.cookie), 0x123456789abcdefull);
	sleep_ms(20);
	CU_ASSERT_FALSE(atomic_load(&c.done));
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "old5");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	r = reg(&f, ODP_PINNED, ODP_POLICY_DEFAULT);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	pthread_join(th, NULL);
	CU_ASSERT_EQUAL(c.ret, 0);
	CU_ASSERT_EQUAL(c.rc.revoked, 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "new5");
	CU_ASSERT_EQUAL(atomic_load(&told.revocations), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	odp_notice_set(kit_proc, NULL, NULL);
	file_close(&f);
}

/* It does not: the watch's 200 ms pass, and it is revoked. */
static void test_lease_broken(void)
{
	struct told told = {0};
	struct odp_recall rc;
	struct odp_region *r;
	struct file f;

	file_open(&f, ODP_POLICY_LEASE);
	odp_notice_set(kit_proc, notice, &told);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_DEFAULT);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
	CU_ASSERT_TRUE(rc.waited_ns >= 200000000);
	CU_ASSERT_EQUAL(rc.revoked, 1);
	revoked_check(r, &f);
	CU_ASSERT_TRUE(wait_for(told_revoked, &told));
	CU_ASSERT_EQUAL(atomic_load(&told.leases), 1);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	odp_notice_set(kit_proc, NULL, NULL);
	file_close(&f);
}

/* ---- other processes ---- */

/* Maps the test's file, registers it as it is told, answers with the key. */
static int role_owner(void)
{
	int pid = (int)parent_get(), fd = (int)parent_get();
	enum odp_policy policy = (enum odp_policy)parent_get();
	struct odp_region *r;
	char path[64];
	struct file f;
	long cmd;

	if (kit_start())
		return 2;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	f.fd = open(path, O_RDWR);
	f.mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
	if (f.fd < 0 || f.mem == MAP_FAILED)
		return 3;
	r = reg(&f, ODP_PINNED, policy);
	parent_put(r ? (long)odp_region_key(r) : kit_err);
	parent_put((long)(uintptr_t)f.mem);
	parent_put((long)odp_proc_slot(kit_proc));
	while ((cmd = parent_get()) >= 0)
		parent_put(r && odp_region_revoked(r));
	return 0;
}

struct owner {
	struct child c;
	uint32_t key;
	uint64_t addr;
	struct odp_peer *peer;
};

static void owner_start(struct owner *o, struct file *f, enum odp_policy policy)
{
	CU_ASSERT_TRUE_FATAL(child_start(&o->c, "owner"));
	child_put(&o->c, getpid());
	child_put(&o->c, f->fd);
	child_put(&o->c, policy);
	o->key = (uint32_t)child_get(&o->c);
	o->addr = (uint64_t)child_get(&o->c);
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(kit_proc, (unsigned)child_get(&o->c), &o->peer), 0);
}

/* Nothing of it needs the owner to run. */
static void test_owner_stopped(void)
{
	static const enum odp_policy policies[] = {ODP_POLICY_ODP, ODP_POLICY_PINNED,
						   ODP_POLICY_SCRATCH, ODP_POLICY_REVOKE,
						   ODP_POLICY_LEASE};
	struct odp_recall rc;
	struct owner o;
	struct file f;
	char buf[16];

	for (unsigned i = 0; i < sizeof(policies) / sizeof(*policies); i++) {
		file_open(&f, ODP_POLICY_DEFAULT);
		owner_start(&o, &f, policies[i]);
		kill(o.c.pid, SIGSTOP);
		CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
		CU_ASSERT_EQUAL(rc.regions, 1);
		CU_ASSERT_EQUAL(kit_peer_read(o.peer, o.key, o.addr + 5 * PAGE, buf, 8),
				policies[i] >= ODP_POLICY_REVOKE ? -EFAULT : 0);
		if (policies[i] == ODP_POLICY_PINNED)
			CU_ASSERT_STRING_EQUAL(buf, "old5");
		if (policies[i] == ODP_POLICY_ODP)
			CU_ASSERT_STRING_EQUAL(buf, "new5");
		kill(o.c.pid, SIGCONT);
		child_put(&o.c, 0);
		CU_ASSERT_EQUAL(child_get(&o.c), policies[i] >= ODP_POLICY_REVOKE);
		CU_ASSERT_EQUAL(child_end(&o.c), 0);
		file_close(&f);
	}
}

static void test_owner_killed(void)
{
	struct odp_recall rc;
	struct owner o;
	struct file f;

	file_open(&f, ODP_POLICY_DEFAULT);
	owner_start(&o, &f, ODP_POLICY_KILL);
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
	CU_ASSERT_EQUAL(rc.killed, 1);
	CU_ASSERT_TRUE(rc.waited_ns >= 200000000);
	CU_ASSERT_EQUAL(child_end(&o.c), 128 + SIGKILL);
	/* One that died by itself holds nothing up, not even with deny. */
	owner_start(&o, &f, ODP_POLICY_DENY);
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), -ETXTBSY);
	child_kill(&o.c);
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
	CU_ASSERT_EQUAL(rc.regions, 0);
	file_close(&f);
}

/* Watches the test's file, begins a recall, shuts the test's gate and stops there. */
static int role_watcher(void)
{
	struct odp_watch_attr attr = {.dev = (uint64_t)parent_get(), .ino = (uint64_t)parent_get()};
	struct odp_watch *watch;
	struct odp_recall rc;

	if (kit_start() || odp_watch_create(kit_proc, &attr, &watch))
		return 2;
	parent_put((long)odp_proc_slot(kit_proc));
	while (parent_get() >= 0) {
		int ret = odp_recall_begin(watch, attr.ino, 0, UINT64_MAX, &rc);

		parent_put(ret ? ret : (long)rc.regions);
	}
	return 0;
}

/* The file system dies between the beginning and the end of a recall. */
static void test_watcher_killed(void)
{
	struct odp_watch_attr attr = {0};
	struct odp_region *r, *late;
	struct child c;
	struct file f;

	file_open(&f, ODP_POLICY_DEFAULT);
	odp_watch_destroy(f.watch);
	CU_ASSERT_TRUE_FATAL(child_start(&c, "watcher"));
	child_put(&c, (long)f.dev);
	child_put(&c, (long)f.ino);
	CU_ASSERT_TRUE(child_get(&c) >= 0);
	attr.dev = f.dev;
	attr.ino = f.ino;
	CU_ASSERT_EQUAL(odp_watch_create(kit_proc, &attr, &f.watch), -EEXIST);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_REVOKE);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	child_put(&c, 0);
	CU_ASSERT_EQUAL(child_get(&c), 1);
	CU_ASSERT_TRUE(odp_region_revoked(r));
	child_kill(&c);
	/* Neither what is there nor what comes waits for the dead. */
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	late = reg(&f, ODP_ON_DEMAND, ODP_POLICY_DEFAULT);
	CU_ASSERT_PTR_NOT_NULL_FATAL(late);
	CU_ASSERT_STRING_EQUAL(kit_see(late, f.mem), "old0");
	CU_ASSERT_PTR_NULL(reg(&f, ODP_ON_DEMAND, ODP_POLICY_DENY));
	CU_ASSERT_EQUAL(kit_err, -EOPNOTSUPP);
	CU_ASSERT_EQUAL(odp_region_destroy(late), 0);
	CU_ASSERT_EQUAL_FATAL(odp_watch_create(kit_proc, &attr, &f.watch), 0);
	file_close(&f);
}

static bool record_known(void *arg)
{
	return atomic_load(&((struct odp_file_shm *)arg)->state) == ODP_FILE_KNOWN;
}

/* A record of far more pages than the region has, of whoever wrote it: a recall takes no
 * longer for it. */
static void test_liar(void)
{
	struct odp_seg *seg = odp_proc_self(kit_proc)->seg;
	unsigned nr = odp_proc_slot(kit_proc);
	const uint32_t i = ODP_MAX_FILES - 1;
	struct odp_recall rc;
	struct odp_region *r;
	uint32_t head;
	struct file f;

	file_open(&f, ODP_POLICY_DEFAULT);
	r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_ODP);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	seg->files[i] = (struct odp_file_shm){.watch = f.watch->serial,
					      .key = odp_region_key(r),
					      .ino = f.ino,
					      .npages = ((uint64_t)1 << 40) - 1,
					      .policy = ODP_POLICY_ODP};
	atomic_store(&seg->files[i].state, ODP_FILE_ASKED);
	head = atomic_load(&seg->files_head);
	atomic_store(&seg->files_ring[head % ODP_MAX_FILES], i);
	atomic_store(&seg->files_head, head + 1);
	atomic_fetch_or(&f.watch->shm->news[nr / 64], 1ull << nr % 64);
	odp_watch_ring(f.watch);
	CU_ASSERT_TRUE(wait_for(record_known, &seg->files[i]));
	CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
	CU_ASSERT_EQUAL(rc.regions, 2);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE), "new5");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	file_close(&f);
	atomic_store(&seg->files[i].state, ODP_FILE_FREE);
}

/* ---- many ---- */

static void test_many(void)
{
	enum { N = 500 };
	struct odp_region *r[N];
	struct odp_recall rc;
	struct file f;
	unsigned revoked = 0;

	file_open(&f, ODP_POLICY_DEFAULT);
	for (unsigned i = 0; i < N; i++) {
		struct odp_region_attr attr = {.addr = f.mem + i % PAGES * PAGE,
					       .length = PAGE,
					       .iova = (uintptr_t)f.mem,
					       .access = ALL,
					       .kind = i % 2 ? ODP_PINNED : ODP_ON_DEMAND,
					       .policy = ODP_POLICY_REVOKE};

		CU_ASSERT_EQUAL_FATAL(odp_region_create(kit_proc, &attr, &r[i]), 0);
	}
	CU_ASSERT_EQUAL(odp_recall_begin(f.watch, f.ino, 2 * PAGE, 3 * PAGE, &rc), 0);
	odp_recall_end(f.watch, &rc);
	for (unsigned i = 0; i < N; i++) {
		CU_ASSERT_EQUAL(odp_region_revoked(r[i]), i % PAGES == 2);
		revoked += odp_region_revoked(r[i]);
		CU_ASSERT_EQUAL(odp_region_destroy(r[i]), 0);
	}
	CU_ASSERT_EQUAL(rc.revoked, revoked);
	file_close(&f);
}

/* A private mapping: pinned, its pages are really pinned; on demand it follows. */
static void test_private(void)
{
	struct odp_recall rc;
	struct odp_region *r;
	struct file f;

	file_open(&f, ODP_POLICY_DEFAULT);
	munmap(f.mem, LEN);
	f.mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, f.fd, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(f.mem, MAP_FAILED);
	for (int kind = ODP_PINNED; kind <= ODP_ON_DEMAND; kind++) {
		if (kind == ODP_PINNED && !odp_pin_usable(kit_proc->mem))
			continue;
		kit_fill(f.mem, LEN, "own");
		r = reg(&f, (enum odp_kind)kind, ODP_POLICY_DEFAULT);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
		CU_ASSERT_EQUAL(rc.regions, 1);
		CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 3 * PAGE), "own3");
		CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + 5 * PAGE),
				       kind == ODP_PINNED ? "own5" : "new5");
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
		r = reg(&f, (enum odp_kind)kind, ODP_POLICY_REVOKE);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		CU_ASSERT_EQUAL(cut(&f, 4, &rc), 0);
		CU_ASSERT_EQUAL(rc.revoked, 1);
		CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem), "?14");
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	}
	file_close(&f);
}

/* One region over parts of three files, out of order, and anonymous memory. */
static void test_files(void)
{
	enum { PART = 2 * PAGE };
	static const enum odp_policy policies[] = {ODP_POLICY_PINNED, ODP_POLICY_ODP,
						   ODP_POLICY_DEFAULT};
	struct odp_recall rc;
	struct odp_region *r;
	struct file f[3];
	char *mem =
		mmap(NULL, 4 * PART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CU_ASSERT_PTR_NOT_EQUAL_FATAL(mem, MAP_FAILED);
	for (int i = 0; i < 3; i++) {
		file_open(&f[i], policies[i]);
		CU_ASSERT_EQUAL_FATAL(mmap(mem + i * PART, PART, PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_FIXED, f[i].fd,
					   (off_t)((2 - i) * PART)),
				      mem + i * PART);
	}
	strcpy(mem + 3 * PART, "anonymous");
	{
		struct odp_region_attr attr = {.addr = mem,
					       .length = 4 * PART,
					       .iova = (uintptr_t)mem,
					       .pd = PD,
					       .access = ALL,
					       .kind = ODP_PINNED};

		kit_err = odp_region_create(kit_proc, &attr, &r);
		CU_ASSERT_EQUAL_FATAL(kit_err, kit_events() ? 0 : -EOPNOTSUPP);
	}
	for (int i = 0; kit_err == 0 && i < 3; i++) {
		char *at = mem + i * PART + PAGE, want[16];

		snprintf(want, sizeof(want), "old%d", (2 - i) * 2 + 1);
		CU_ASSERT_STRING_EQUAL(kit_see(r, at), want);
		/* Of another file's blocks, and of blocks that it does not map: nothing. */
		CU_ASSERT_EQUAL(odp_recall_begin(f[i].watch, f[i].ino, 6 * PAGE, LEN, &rc), 0);
		odp_recall_end(f[i].watch, &rc);
		CU_ASSERT_EQUAL(rc.regions, 0);
		CU_ASSERT_EQUAL(cut(&f[i], 0, &rc), 0);
		CU_ASSERT_EQUAL(rc.regions, 1);
		if (policies[i] == ODP_POLICY_ODP)
			memcpy(want, "new", 3);
		CU_ASSERT_STRING_EQUAL(kit_see(r, at), want);
		CU_ASSERT_STRING_EQUAL(kit_see(r, mem + 3 * PART), "anonymous");
	}
	if (!kit_err)
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	for (int i = 0; i < 3; i++)
		file_close(&f[i]);
	munmap(mem, 4 * PART);
}

static void test_names(void)
{
	enum odp_policy p;

	CU_ASSERT_EQUAL(odp_policy_parse("revoke", &p), 0);
	CU_ASSERT_EQUAL(p, ODP_POLICY_REVOKE);
	CU_ASSERT_EQUAL(odp_policy_parse("Revoke", &p), -EINVAL);
	CU_ASSERT_EQUAL(odp_policy_parse("", &p), -EINVAL);
	for (int i = 0; i <= ODP_POLICY_DENY; i++) {
		CU_ASSERT_EQUAL(odp_policy_parse(odp_policy_name((enum odp_policy)i), &p), 0);
		CU_ASSERT_EQUAL(p, (enum odp_policy)i);
	}
}

/* Memory that no file lies under has nothing to lose; a file that nobody watches, nor
 * can, without a descriptor, can only be what it is. */
static void test_unwatched(void)
{
	struct file f = {.fd = memfd_create("unwatched", MFD_CLOEXEC)};
	struct odp_region *r;
	char *anon = kit_private(LEN, "anon");

	CU_ASSERT_EQUAL_FATAL(ftruncate(f.fd, LEN), 0);
	f.mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
	close(f.fd);
	for (int p = ODP_POLICY_ODP; p <= ODP_POLICY_DENY; p++) {
		r = reg(&f, ODP_ON_DEMAND, (enum odp_policy)p);
		CU_ASSERT_EQUAL(kit_err, p == ODP_POLICY_ODP ? 0 : -EOPNOTSUPP);
		if (r)
			odp_region_destroy(r);
		struct file a = {.mem = anon};

		r = reg(&a, ODP_PINNED, (enum odp_policy)p);
		CU_ASSERT_EQUAL(kit_err, 0);
		if (r)
			odp_region_destroy(r);
	}
	munmap(f.mem, LEN);
}

/* Reads and writes go on while blocks come and go: no error but where the policy
 * says so, and never a byte of before in what came after. */
struct traffic {
	struct odp_region *r;
	char *at;
	_Atomic int stop, ops, failed;
};

static void *traffic_run(void *arg)
{
	struct traffic *t = arg;
	char buf[64];

	while (!atomic_load(&t->stop)) {
		int ret = kit_read(t->r, t->at + PAGE - 32, buf, sizeof(buf));

		if (!ret)
			ret = kit_write(t->r, t->at + PAGE - 32, buf, sizeof(buf));
		atomic_fetch_add(ret ? &t->failed : &t->ops, 1);
	}
	return NULL;
}

static bool traffic_runs(void *arg)
{
	return atomic_load(&((struct traffic *)arg)->ops) > 0;
}

static void test_traffic(void)
{
	static const enum odp_policy policies[] = {ODP_POLICY_ODP, ODP_POLICY_PINNED,
						   ODP_POLICY_SCRATCH};
	struct odp_recall rc;
	struct traffic t;
	struct file f;
	pthread_t th;

	for (unsigned i = 0; i < sizeof(policies) / sizeof(*policies); i++) {
		file_open(&f, ODP_POLICY_DEFAULT);
		t = (struct traffic){.r = reg(&f, ODP_PINNED, policies[i]), .at = f.mem + 4 * PAGE};
		CU_ASSERT_PTR_NOT_NULL_FATAL(t.r);
		CU_ASSERT_EQUAL_FATAL(pthread_create(&th, NULL, traffic_run, &t), 0);
		CU_ASSERT_TRUE(wait_for(traffic_runs, &t));
		for (unsigned n = 0; n < 50; n++) {
			CU_ASSERT_EQUAL(odp_recall_begin(f.watch, f.ino, 4 * PAGE, UINT64_MAX, &rc),
					0);
			/* Not through the mapping any more: the file is cut here. */
			CU_ASSERT_EQUAL(fallocate(f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						  4 * PAGE, 4 * PAGE),
					0);
			odp_recall_end(f.watch, &rc);
		}
		atomic_store(&t.stop, 1);
		pthread_join(th, NULL);
		CU_ASSERT_EQUAL(atomic_load(&t.failed), 0);
		CU_ASSERT_EQUAL(odp_region_destroy(t.r), 0);
		file_close(&f);
	}
}

/* ---- a transfer in the middle of its system call ---- */

struct held {
	struct odp_region *r;
	char *to, *from;
	int uffd, ret;
};

static void *held_run(void *arg)
{
	struct held *h = arg;

	h->ret = kit_write(h->r, h->to, h->from, 8);
	return NULL;
}

/* A page at h->from that is missing until held_go(). */
static bool held_open(struct held *h)
{
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	struct uffdio_api api = {.api = UFFD_API};

	h->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (h->uffd < 0)
		return false;
	h->from = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range = (struct uffdio_range){(uintptr_t)h->from, PAGE};
	CU_ASSERT_EQUAL_FATAL(ioctl(h->uffd, UFFDIO_API, &api), 0);
	CU_ASSERT_EQUAL_FATAL(ioctl(h->uffd, UFFDIO_REGISTER, &reg), 0);
	return true;
}

/* The kernel reads the bytes that it is to write: it has the region's page by then. */
static bool held_inside(const struct held *h)
{
	struct pollfd p = {.fd = h->uffd, .events = POLLIN};

	return poll(&p, 1, 30000) == 1;
}

static void held_go(const struct held *h)
{
	struct uffdio_zeropage zero = {.range = {(uintptr_t)h->from, PAGE}};

	CU_ASSERT_EQUAL(ioctl(h->uffd, UFFDIO_ZEROPAGE, &zero), 0);
}

/* A recall waits for transfers that are under way, and says when one would not end. */
static void test_fence(void)
{
	static const enum odp_policy policies[] = {ODP_POLICY_ODP, ODP_POLICY_PINNED,
						   ODP_POLICY_REVOKE};
	struct odp_recall rc;
	pthread_t th;
	struct held h;
	struct file f;

	for (unsigned i = 0; i < sizeof(policies) / sizeof(*policies); i++) {
		if (!held_open(&h)) {
			printf("(no userfaultfd) ");
			return;
		}
		file_open(&f, ODP_POLICY_DEFAULT);
		h.r = reg(&f, ODP_ON_DEMAND, policies[i]);
		CU_ASSERT_PTR_NOT_NULL_FATAL(h.r);
		h.to = f.mem + 5 * PAGE;
		CU_ASSERT_EQUAL(odp_recall_begin(f.watch, f.ino, 0, PAGE, &rc), 0);
		CU_ASSERT_EQUAL(rc.stuck, 0);
		odp_recall_end(f.watch, &rc);
		if (policies[i] == ODP_POLICY_REVOKE) {
			odp_region_destroy(h.r);
			h.r = reg(&f, ODP_ON_DEMAND, policies[i]);
		}
		CU_ASSERT_EQUAL_FATAL(pthread_create(&th, NULL, held_run, &h), 0);
		CU_ASSERT_TRUE(held_inside(&h));
		CU_ASSERT_EQUAL(odp_recall_begin(f.watch, f.ino, 4 * PAGE, UINT64_MAX, &rc), 0);
		CU_ASSERT_EQUAL(rc.stuck, 1);
		held_go(&h);
		pthread_join(th, NULL);
		odp_recall_end(f.watch, &rc);
		CU_ASSERT_EQUAL(odp_region_destroy(h.r), 0);
		file_close(&f);
		munmap(h.from, PAGE);
		close(h.uffd);
	}
}

/* A region that was being made during a recall has either been found by it, or is of
 * the file after it; the next recall finds it in any case. */
struct recaller {
	struct file *f;
	_Atomic int stop, done;
};

static void *recaller_run(void *arg)
{
	struct recaller *c = arg;
	struct odp_recall rc;

	while (!atomic_load(&c->stop)) {
		CU_ASSERT_EQUAL(odp_recall_begin(c->f->watch, c->f->ino, 0, UINT64_MAX, &rc), 0);
		odp_recall_end(c->f->watch, &rc);
		atomic_fetch_add(&c->done, 1);
	}
	return NULL;
}

static bool recaller_runs(void *arg)
{
	return atomic_load(&((struct recaller *)arg)->done) > 0;
}

static void test_amid(void)
{
	struct recaller c = {0};
	struct odp_recall rc;
	struct odp_region *r;
	pthread_t th;
	struct file f;

	file_open(&f, ODP_POLICY_REVOKE);
	c.f = &f;
	CU_ASSERT_EQUAL_FATAL(pthread_create(&th, NULL, recaller_run, &c), 0);
	CU_ASSERT_TRUE(wait_for(recaller_runs, &c));
	for (int i = 0; i < 400; i++) {
		r = reg(&f, ODP_ON_DEMAND, ODP_POLICY_DEFAULT);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		CU_ASSERT_EQUAL(odp_recall_begin(f.watch, f.ino, 0, UINT64_MAX, &rc), 0);
		odp_recall_end(f.watch, &rc);
		CU_ASSERT_TRUE(odp_region_revoked(r));
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	}
	atomic_store(&c.stop, 1);
	pthread_join(th, NULL);
	file_close(&f);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {
		{"owner", role_owner}, {"watcher", role_watcher}, {NULL, NULL}};
	CU_TestInfo tests[] = {
		{"names", test_names},
		{"unwatched", test_unwatched},
		{"odp", test_odp},
		{"fence", test_fence},
		{"pinned", test_pinned},
		{"pinned, unmapped", test_pinned_unmap},
		{"pinned, present", test_pinned_present},
		{"scratch", test_scratch},
		{"revoke", test_revoke},
		{"deny", test_deny},
		{"lease kept", test_lease_kept},
		{"lease broken", test_lease_broken},
		{"owner stopped", test_owner_stopped},
		{"owner killed", test_owner_killed},
		{"watcher killed", test_watcher_killed},
		{"private", test_private},
		{"files", test_files},
		{"a liar", test_liar},
		{"many", test_many},
		{"traffic", test_traffic},
		{"amid recalls", test_amid},
		CU_TEST_INFO_NULL,
	};

	child_main(argc, argv, roles);
	return kit_suite("recall", tests);
}
