/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Many watches: as many as there may be, several that share a bit of the gate, and
 * registrations that do not wait for a watch's thread.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "domain.h"
#include "memkit.h"
#include "peer.h"
#include "suite.h"
#include "watch.h"

#define LEN (8 * PAGE)
#define NO_DEV 0x7f00000000ull /* that no file is on */

struct file {
	int fd;
	uint64_t dev, ino;
	char *mem;
};

static void file_open(struct file *f)
{
	struct stat st;

	f->fd = memfd_create("watches", MFD_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(ftruncate(f->fd, LEN), 0);
	CU_ASSERT_EQUAL_FATAL(fstat(f->fd, &st), 0);
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(f->mem, MAP_FAILED);
	kit_fill(f->mem, LEN, "old");
}

static void file_close(struct file *f)
{
	munmap(f->mem, LEN);
	close(f->fd);
}

static int watch_on(uint64_t dev, uint64_t ino, struct odp_watch **watch)
{
	const struct odp_watch_attr attr = {.dev = dev, .ino = ino, .policy = ODP_POLICY_REVOKE};

	return odp_watch_create(kit_proc, &attr, watch);
}

static struct odp_region *reg(struct file *f, enum odp_policy policy)
{
	struct odp_region_attr attr = {.addr = f->mem,
				       .length = LEN,
				       .iova = (uintptr_t)f->mem,
				       .pd = PD,
				       .access = ALL,
				       .kind = ODP_ON_DEMAND,
				       .policy = policy};
	struct odp_region *r = NULL;

	kit_err = odp_region_create(kit_proc, &attr, &r);
	return kit_err ? NULL : r;
}

static bool gate_shut(void)
{
	return atomic_load(&kit_proc->self->slot->gate) & ODP_GATE_FROZEN;
}

/* ---- as many as there may be ---- */

static struct odp_watch *watches[ODP_MAX_WATCHES];

static void test_limit(void)
{
	struct odp_watch *more;
	struct odp_recall rc;
	struct odp_region *r;
	struct file f;
	unsigned n;

	file_open(&f);
	for (n = 0; n < ODP_MAX_WATCHES - 1; n++)
		CU_ASSERT_EQUAL_FATAL(watch_on(NO_DEV, n + 1, &watches[n]), 0);
	CU_ASSERT_EQUAL_FATAL(watch_on(f.dev, f.ino, &watches[n]), 0);
	CU_ASSERT_EQUAL(watch_on(NO_DEV, n + 1, &more), -ENOSPC);
	CU_ASSERT_EQUAL(watch_on(NO_DEV, 1, &more), -EEXIST);
	r = reg(&f, ODP_POLICY_DEFAULT);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(odp_region_policy(r), ODP_POLICY_REVOKE);
	CU_ASSERT_STRING_EQUAL(kit_see(r, f.mem + PAGE), "old1");
	CU_ASSERT_EQUAL(odp_recall_begin(watches[n], f.ino, 0, UINT64_MAX, &rc), 0);
	CU_ASSERT_EQUAL(rc.revoked, 1);
	odp_recall_end(watches[n], &rc);
	CU_ASSERT_TRUE(odp_region_revoked(r));
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	for (n = 0; n < ODP_MAX_WATCHES; n++)
		odp_watch_destroy(watches[n]);
	CU_ASSERT_EQUAL_FATAL(watch_on(f.dev, f.ino, &more), 0);
	odp_watch_destroy(more);
	file_close(&f);
}

/* ---- a bit of the gate ---- */

/* N watches, the first of FIRST, the last of LAST (NULL: of nothing). */
static void watches_make(unsigned n, const struct file *first, const struct file *last)
{
	for (unsigned i = 0; i < n; i++) {
		const struct file *f = !i ? first : i == n - 1 ? last : NULL;

		CU_ASSERT_EQUAL_FATAL(
			watch_on(f ? f->dev : NO_DEV, f ? f->ino : i + 1, &watches[i]), 0);
		CU_ASSERT_EQUAL(watches[i]->index, i);
	}
}

static void watches_end(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		odp_watch_destroy(watches[i]);
}

static void test_shared_bit(void)
{
	struct odp_watch **w = watches;
	struct odp_region *r, *s;
	struct odp_recall one, two;
	struct file f, g;
	uint64_t gate;

	file_open(&f);
	file_open(&g);
	watches_make(17, &f, &g);
	r = reg(&f, ODP_POLICY_REVOKE);
	s = reg(&g, ODP_POLICY_REVOKE);
	CU_ASSERT_FATAL(r && s);
	CU_ASSERT_EQUAL(odp_recall_hold(w[0], f.ino, 0, UINT64_MAX, &one), 0);
	gate = atomic_load(&kit_proc->self->slot->gate);
	CU_ASSERT_EQUAL(odp_recall_hold(w[16], g.ino, 0, UINT64_MAX, &two), 0);
	CU_ASSERT_TRUE(gate_shut());
	/* Who had just found the bit nobody's would not clear it now. */
	CU_ASSERT_NOT_EQUAL(atomic_load(&kit_proc->self->slot->gate), gate);
	odp_recall_end(w[0], &one);
	CU_ASSERT_TRUE(gate_shut());
	odp_gate_heal(kit_proc, kit_proc->self->slot);
	CU_ASSERT_TRUE(gate_shut());
	odp_recall_end(w[16], &two);
	CU_ASSERT_FALSE(gate_shut());
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(s), 0);
	watches_end(17);
	file_close(&f);
	file_close(&g);
}

/* Neither opens it for the other. */
struct shutter {
	unsigned watch;
	unsigned rounds, opened;
};

static void *shutter_run(void *arg)
{
	struct odp_slot *slot = kit_proc->self->slot;
	struct shutter *s = arg;

	for (unsigned i = 0; i < s->rounds; i++) {
		odp_freeze_peer(kit_proc, slot, s->watch);
		for (unsigned look = 0; look < i % 256; look++)
			s->opened += !(atomic_load(&slot->gate) & ODP_GATE_WATCH(s->watch));
		odp_thaw_peer(kit_proc, slot, s->watch);
	}
	return NULL;
}

static void test_shutters(void)
{
	struct shutter s[2] = {{0, 200000, 0}, {1008, 200000, 0}};
	struct file f, g;
	pthread_t th[2];

	file_open(&f);
	file_open(&g);
	watches_make(1009, &f, &g);
	for (int i = 0; i < 2; i++) {
		s[i].watch = watches[s[i].watch]->index;
		CU_ASSERT_EQUAL_FATAL(pthread_create(&th[i], NULL, shutter_run, &s[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(th[i], NULL);
		CU_ASSERT_EQUAL(s[i].opened, 0);
	}
	CU_ASSERT_FALSE(gate_shut());
	watches_end(1009);
	file_close(&f);
	file_close(&g);
}

/* A process with a watch. Asked for something other than 0 it holds a recall. */
static int role_watcher(void)
{
	struct odp_watch_attr attr = {.dev = (uint64_t)parent_get(),
				      .ino = (uint64_t)parent_get(),
				      .policy = ODP_POLICY_REVOKE};
	struct odp_watch *watch;
	struct odp_recall rc;
	long hold;

	if (kit_start() || odp_watch_create(kit_proc, &attr, &watch))
		return 2;
	parent_put(watch->index);
	while ((hold = parent_get()) >= 0) {
		if (hold) {
			parent_put(odp_recall_hold(watch, attr.ino, 0, UINT64_MAX, &rc));
			continue;
		}
		parent_put(odp_recall_begin(watch, attr.ino, 0, UINT64_MAX, &rc));
		odp_recall_end(watch, &rc);
		parent_put((long)rc.regions);
	}
	return 0;
}

static long watcher_start(struct child *c, const struct file *f)
{
	CU_ASSERT_FATAL(child_start(c, "watcher"));
	child_put(c, (long)f->dev);
	child_put(c, (long)f->ino);
	return child_get(c);
}

/* Of two that share a bit, and keep the gate shut, one is killed. */
static void test_dead_holder(void)
{
	struct odp_recall rc;
	struct odp_region *r, *s;
	struct file f, g;
	struct child c;

	file_open(&f);
	file_open(&g);
	watches_make(16, &f, NULL);
	CU_ASSERT_EQUAL(watcher_start(&c, &g), 16);
	r = reg(&f, ODP_POLICY_REVOKE);
	s = reg(&g, ODP_POLICY_REVOKE);
	CU_ASSERT_FATAL(r && s);
	child_put(&c, 1);
	CU_ASSERT_EQUAL(child_get(&c), 0);
	CU_ASSERT_EQUAL(odp_recall_hold(watches[0], f.ino, 0, UINT64_MAX, &rc), 0);
	child_kill(&c);
	odp_gate_heal(kit_proc, kit_proc->self->slot);
	CU_ASSERT_TRUE(gate_shut());
	odp_recall_end(watches[0], &rc);
	CU_ASSERT_FALSE(gate_shut());
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(s), 0);
	/* The next one alone, and killed too. */
	CU_ASSERT_EQUAL(watcher_start(&c, &g), 16);
	s = reg(&g, ODP_POLICY_REVOKE);
	child_put(&c, 1);
	CU_ASSERT_EQUAL(child_get(&c), 0);
	CU_ASSERT_TRUE(gate_shut());
	child_kill(&c);
	odp_gate_heal(kit_proc, kit_proc->self->slot);
	CU_ASSERT_FALSE(gate_shut());
	CU_ASSERT_EQUAL(odp_region_destroy(s), 0);
	watches_end(16);
	file_close(&f);
	file_close(&g);
}

/* ---- registrations while the watch's process does not run ---- */

#define MANY 1000

static struct odp_region *regions[MANY];

static unsigned many_register(struct file *f)
{
	unsigned n = 0;

	while (n < MANY && (regions[n] = reg(f, ODP_POLICY_DEFAULT)))
		n++;
	return n;
}

static void test_stopped_watch(void)
{
	struct odp_region *first;
	unsigned revoked = 0;
	struct file f;
	struct child c;

	file_open(&f);
	watcher_start(&c, &f);
	first = reg(&f, ODP_POLICY_DEFAULT); /* it attaches this process */
	CU_ASSERT_PTR_NOT_NULL_FATAL(first);
	CU_ASSERT_EQUAL(kill(c.pid, SIGSTOP), 0);
	CU_ASSERT_EQUAL_FATAL(many_register(&f), MANY);
	for (unsigned i = 0; i < MANY / 2; i++) /* these it never hears of */
		CU_ASSERT_EQUAL(odp_region_destroy(regions[i]), 0);
	CU_ASSERT_EQUAL(kill(c.pid, SIGCONT), 0);
	child_put(&c, 0);
	CU_ASSERT_EQUAL(child_get(&c), 0);
	CU_ASSERT_EQUAL(child_get(&c), MANY / 2 + 1);
	for (unsigned i = MANY / 2; i < MANY; i++) {
		revoked += odp_region_revoked(regions[i]);
		CU_ASSERT_EQUAL(odp_region_destroy(regions[i]), 0);
	}
	CU_ASSERT_EQUAL(revoked, MANY / 2);
	CU_ASSERT_TRUE(odp_region_revoked(first));
	CU_ASSERT_EQUAL(odp_region_destroy(first), 0);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	file_close(&f);
}

/* One that comes while a recall is under way waits for its end. */
struct late {
	struct file *f;
	_Atomic bool done;
	struct odp_region *r;
};

static void *late_run(void *arg)
{
	struct late *l = arg;

	l->r = reg(l->f, ODP_POLICY_DEFAULT);
	atomic_store(&l->done, true);
	return NULL;
}

static void test_late(void)
{
	struct odp_region *first;
	struct odp_watch *watch;
	struct odp_recall rc;
	struct late l = {0};
	struct file f;
	pthread_t th;

	file_open(&f);
	l.f = &f;
	CU_ASSERT_EQUAL_FATAL(watch_on(f.dev, f.ino, &watch), 0);
	first = reg(&f, ODP_POLICY_DEFAULT);
	CU_ASSERT_EQUAL(odp_recall_begin(watch, f.ino, 0, UINT64_MAX, &rc), 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&th, NULL, late_run, &l), 0);
	sleep_ms(100);
	CU_ASSERT_FALSE(atomic_load(&l.done));
	odp_recall_end(watch, &rc);
	pthread_join(th, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(l.r);
	CU_ASSERT_FALSE(odp_region_revoked(l.r));
	CU_ASSERT_EQUAL(odp_recall_begin(watch, f.ino, 0, UINT64_MAX, &rc), 0);
	odp_recall_end(watch, &rc);
	CU_ASSERT_TRUE(odp_region_revoked(l.r));
	CU_ASSERT_EQUAL(odp_region_destroy(first), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(l.r), 0);
	odp_watch_destroy(watch);
	file_close(&f);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {{"watcher", role_watcher}, {NULL, NULL}};
	CU_TestInfo tests[] = {
		{"as many as there may be", test_limit},
		{"a shared bit", test_shared_bit},
		{"a shared bit, raced for", test_shutters},
		{"a holder that is killed", test_dead_holder},
		{"a watch that is stopped", test_stopped_watch},
		{"amid a recall", test_late},
		CU_TEST_INFO_NULL,
	};

	child_main(argc, argv, roles);
	return kit_suite("watches", tests);
}
