/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Registration, invalidation and deregistration while other threads go on. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memkit.h"
#include "suite.h"

#define LEN (64 * PAGE)
#define CELLS (LEN / 512)

static _Atomic bool stop;

/* ---- Conversion under a writer ---- */

struct writer {
	char *mem;
	uint64_t rounds;
	unsigned lost;
};

static uint64_t *cell(char *mem, size_t i)
{
	return (uint64_t *)(mem + i * 512);
}

/* Each cell counts the rounds; a store that is lost shows in the next round. */
static void *writer_run(void *arg)
{
	struct writer *w = arg;

	while (!atomic_load(&stop)) {
		for (size_t i = 0; i < CELLS; i++) {
			uint64_t *c = cell(w->mem, i);

			if (__atomic_load_n(c, __ATOMIC_RELAXED) != w->rounds)
				w->lost++;
			__atomic_store_n(c, w->rounds + 1, __ATOMIC_RELAXED);
		}
		w->rounds++;
	}
	return NULL;
}

static void convert_once(enum odp_kind kind)
{
	struct writer w = {.mem = kit_private(LEN, NULL)};
	struct odp_region *r;
	pthread_t thread;

	atomic_store(&stop, false);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, writer_run, &w), 0);
	sched_yield();
	r = kit_reg(w.mem, LEN, kind, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(w.lost, 0);
	for (size_t i = 0; i < CELLS; i++) {
		uint64_t seen = 0;

		CU_ASSERT_EQUAL(kit_read(r, cell(w.mem, i), &seen, 8), 0);
		CU_ASSERT_EQUAL(seen, w.rounds);
	}
	odp_region_destroy(r);
	munmap(w.mem, LEN);
}

static void test_convert(void)
{
	for (int i = 0; i < 300; i++)
		convert_once(i & 1 ? ODP_PINNED : ODP_ON_DEMAND);
}

/* ---- A copier that never stops ---- */

struct copier {
	char *mem;
	struct odp_region *r;
	uint32_t key;
	uint64_t copies;
	int ended; /* the error that ended it */
	unsigned torn;
};

/* Write a page full of one number, read it back: all of it one number, or zeros. */
static void *copier_run(void *arg)
{
	struct odp_peer *self = odp_proc_self(kit_proc);
	struct copier *c = arg;
	uint64_t page[PAGE / 8];

	while (!atomic_load(&stop)) {
		int ret;

		for (size_t i = 0; i < PAGE / 8; i++)
			page[i] = c->copies + 1;
		ret = kit_peer_write(self, c->key, (uintptr_t)c->mem, page, PAGE);
		if (!ret)
			ret = kit_peer_read(self, c->key, (uintptr_t)c->mem, page, PAGE);
		if (ret) {
			__atomic_store_n(&c->ended, ret, __ATOMIC_RELEASE);
			break;
		}
		if (page[0] != page[PAGE / 8 - 1] || (page[0] && page[0] != c->copies + 1))
			c->torn++;
		__atomic_store_n(&c->copies, c->copies + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void copier_wait(struct copier *c, uint64_t more)
{
	uint64_t until = __atomic_load_n(&c->copies, __ATOMIC_ACQUIRE) + more;

	while (__atomic_load_n(&c->copies, __ATOMIC_ACQUIRE) < until)
		sched_yield();
}

static void copier_start(struct copier *c, pthread_t *thread, enum odp_kind kind, bool shared)
{
	memset(c, 0, sizeof(*c));
	c->mem = shared ? kit_shared(LEN, NULL) : kit_private(LEN, NULL);
	c->r = kit_reg(c->mem, LEN, kind, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c->r);
	c->key = odp_region_key(c->r);
	atomic_store(&stop, false);
	CU_ASSERT_EQUAL_FATAL(pthread_create(thread, NULL, copier_run, c), 0);
	copier_wait(c, 1);
}

static void test_dereg(void)
{
	for (int i = 0; i < 40; i++) {
		struct copier c;
		pthread_t thread;

		copier_start(&c, &thread, i & 1 ? ODP_PINNED : ODP_ON_DEMAND, i & 2);
		copier_wait(&c, 3);
		CU_ASSERT_EQUAL(odp_region_destroy(c.r), 0);
		/* From here on no transfer may touch it. */
		memset(c.mem, 0x5a, PAGE);
		pthread_join(thread, NULL);
		CU_ASSERT(c.ended == -ENOENT || c.ended == -EKEYREVOKED);
		CU_ASSERT_EQUAL(c.torn, 0);
		for (size_t k = 0; k < PAGE; k++)
			CU_ASSERT_EQUAL_FATAL(c.mem[k], 0x5a);
		munmap(c.mem, LEN);
	}
}

static void test_invalidate(void)
{
	struct odp_region_stats st;
	struct copier c;
	pthread_t thread;

	copier_start(&c, &thread, ODP_ON_DEMAND, false);
	for (int i = 0; i < 300; i++) {
		CU_ASSERT_EQUAL(odp_invalidate(kit_proc, c.mem, PAGE), 0);
		if (i % 3 == 0)
			CU_ASSERT_EQUAL(madvise(c.mem, PAGE, MADV_DONTNEED), 0);
		sched_yield();
	}
	copier_wait(&c, 3);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(c.ended, 0);
	CU_ASSERT_EQUAL(c.torn, 0);
	odp_region_stats(c.r, &st);
	/* Without userfaultfd the copier finds the page gone, unless it is invalid then. */
	if (kit_events())
		CU_ASSERT_EQUAL(st.page_invalidations, 400);
	CU_ASSERT(st.page_invalidations >= 300 && st.page_invalidations <= 400);
	CU_ASSERT(st.page_faults > 1 && st.page_faults == st.page_faults_handled);
	odp_region_destroy(c.r);
	munmap(c.mem, LEN);
}

static bool copier_ended(const struct copier *c)
{
	for (int ms = 0; ms < 30000; ms++) {
		if (__atomic_load_n(&c->ended, __ATOMIC_ACQUIRE))
			return true;
		usleep(1000);
	}
	return false;
}

/* What the program unmaps is gone for an on-demand region, by itself. */
static void test_unmap(void)
{
	for (int i = 0; i < 40; i++) {
		struct copier c;
		pthread_t thread;

		copier_start(&c, &thread, ODP_ON_DEMAND, false);
		copier_wait(&c, 2);
		munmap(c.mem, LEN);
		CU_ASSERT_TRUE(copier_ended(&c));
		atomic_store(&stop, true);
		pthread_join(thread, NULL);
		CU_ASSERT_EQUAL(c.ended, -EFAULT);
		CU_ASSERT_EQUAL(c.torn, 0);
		odp_region_destroy(c.r);
	}
}

/* A pinned one goes on with its frames, while the next owner of the address, in the pool
 * as well, keeps what it stores. */
static void test_unmap_pinned(void)
{
	for (int i = 0; i < 40; i++) {
		struct odp_region *next;
		struct copier c;
		pthread_t thread;
		char *at;

		copier_start(&c, &thread, ODP_PINNED, false);
		copier_wait(&c, 2);
		munmap(c.mem, LEN);
		at = mmap(c.mem, LEN, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		CU_ASSERT_PTR_EQUAL_FATAL(at, c.mem);
		next = kit_reg(at, LEN, i & 1 ? ODP_PINNED : ODP_ON_DEMAND, ODP_BACKING_AUTO);
		CU_ASSERT_PTR_NOT_NULL_FATAL(next);
		memset(at, 0x5a, LEN);
		copier_wait(&c, 3);
		for (size_t k = 0; k < LEN; k++)
			CU_ASSERT_EQUAL_FATAL(at[k], 0x5a);
		atomic_store(&stop, true);
		pthread_join(thread, NULL);
		CU_ASSERT_EQUAL(c.ended, 0);
		CU_ASSERT_EQUAL(c.torn, 0);
		odp_region_destroy(c.r);
		odp_region_destroy(next);
		munmap(at, LEN);
	}
}

/* ---- Threads that touch pages that are missing ---- */

static void *toucher_run(void *arg)
{
	char *mem = arg;
	long sum = 0;

	for (size_t i = 0; i < LEN; i += 64)
		sum += __atomic_load_n(&mem[i], __ATOMIC_RELAXED);
	return (void *)sum;
}

static void test_touch(void)
{
	char *mem = kit_private(LEN, NULL);
	struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);

	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	for (int i = 0; i < 50; i++) {
		pthread_t t[3];
		void *sum;

		madvise(mem, LEN, MADV_DONTNEED);
		for (int k = 0; k < 3; k++)
			pthread_create(&t[k], NULL, toucher_run, mem);
		CU_ASSERT_EQUAL(kit_write(r, mem + i * PAGE, "\1", 1), 0);
		for (int k = 0; k < 3; k++) {
			pthread_join(t[k], &sum);
			CU_ASSERT((long)sum == 0 || (long)sum == 1);
		}
		CU_ASSERT_EQUAL(mem[i * (int)PAGE], 1);
	}
	odp_region_destroy(r);
	munmap(mem, LEN);
}

/* Many registrations and unmappings of the same addresses from two threads. */
static void *churn_run(void *arg)
{
	unsigned *bad = arg;

	for (int i = 0; i < 200; i++) {
		char *mem = kit_private(8 * PAGE, "churn");
		struct odp_region *r = kit_reg(mem, 8 * PAGE, i & 1 ? ODP_PINNED : ODP_ON_DEMAND,
					       ODP_BACKING_AUTO);
		char buf[8] = "";

		if (!r || kit_read(r, mem + 3 * PAGE, buf, 7) || strcmp(buf, "churn3"))
			__atomic_fetch_add(bad, 1, __ATOMIC_RELAXED);
		if (i % 3)
			munmap(mem, 8 * PAGE);
		if (r)
			odp_region_destroy(r);
		if (i % 3 == 0)
			munmap(mem, 8 * PAGE);
	}
	return NULL;
}

static void test_churn(void)
{
	pthread_t t[3];
	unsigned bad = 0;

	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, churn_run, &bad);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	CU_ASSERT_EQUAL(bad, 0);
}

/* ---- Moved along with a neighbour, and unmapped meanwhile ---- */

#define MANY 1100 /* from so many small regions on, neighbours move too (place.c) */
#define BLOCK ((size_t)256 << 10)
#define BLOCKS 200
#define HERE (40 * PAGE) /* the page of a block that changes hands */

struct mapper {
	char *_Atomic block; /* NULL: none */
	int fd;
	unsigned replaced; /* mappings of ours, by somebody else's */
};

/* What is mapped between the mover's look and its next system call is replaced, and the
 * mover may lose its CPU just then: so one or two in a run need not be a defect. Without
 * the look it is up to nine. */
#define REPLACED_MAX 2

static char *mapper_map(char *at, int flags, int fd)
{
	/* Somebody else may have got the address in between. */
	char *p = mmap(at, PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* In turns, the page is part of the mapping around it, and one of a file of ours. */
static void *mapper_run(void *arg)
{
	const int plain = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	struct mapper *m = arg;
	char *lost = NULL; /* where the page is not ours any more */
	uint64_t n = 0, got;

	while (!atomic_load(&stop)) {
		char *block = atomic_load(&m->block), *p;

		if (!block || block == lost || munmap(block + HERE, PAGE)) {
			sched_yield();
			continue;
		}
		p = mapper_map(block + HERE, MAP_SHARED, m->fd);
		bool bad = false;

		for (int i = 0; p && i < 10; i++) {
			__atomic_store_n((uint64_t *)p, ++n, __ATOMIC_RELAXED);
			bad |= pread(m->fd, &got, sizeof(got), 0) != sizeof(got) || got != n;
		}
		m->replaced += bad;
		if (p)
			munmap(p, PAGE);
		if (!p || !mapper_map(block + HERE, plain, -1))
			lost = block;
		for (uint64_t i = 0; i < n % 7 * 1000; i++)
			atomic_load(&stop);
	}
	return NULL;
}

static void test_neighbour(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	char *many = mmap(NULL, 2 * MANY * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
	char *area = mmap(NULL, (BLOCKS + 1) * BLOCK, PROT_READ | PROT_WRITE, flags, -1, 0);
	static struct odp_region *small[MANY];
	struct mapper m = {.fd = memfd_create("test", MFD_CLOEXEC)};
	pthread_t thread;

	CU_ASSERT_EQUAL(ftruncate(m.fd, PAGE), 0);
	for (size_t i = 0; i < MANY; i++)
		small[i] = kit_reg(many + 2 * i * PAGE, PAGE, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	atomic_store(&stop, false);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, mapper_run, &m), 0);
	for (size_t i = 0; i < BLOCKS; i++) {
		char *block = (char *)(((uintptr_t)area + (i + 1) * BLOCK) & ~(BLOCK - 1));
		struct odp_region *r;

		memset(block, 1, BLOCK);
		atomic_store(&m.block, block);
		usleep(100);
		r = kit_reg(block + 8 * PAGE, PAGE, ODP_ON_DEMAND, ODP_BACKING_AUTO);
		atomic_store(&m.block, NULL);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		CU_ASSERT_EQUAL(block[8 * PAGE], 1);
		CU_ASSERT_EQUAL(block[20 * PAGE], 1);
		odp_region_destroy(r);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	CU_ASSERT(m.replaced <= REPLACED_MAX);
	if (m.replaced)
		printf("(%u replaced) ", m.replaced);
	for (size_t i = 0; i < MANY; i++)
		odp_region_destroy(small[i]);
	munmap(many, 2 * MANY * PAGE);
	munmap(area, (BLOCKS + 1) * BLOCK);
	close(m.fd);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"registration under a writer loses no store", test_convert},
		{"deregistration under a copier", test_dereg},
		{"invalidation under a copier", test_invalidate},
		{"munmap under a copier", test_unmap},
		{"munmap under a pinned region", test_unmap_pinned},
		{"threads touch missing pages at once", test_touch},
		{"registrations and unmappings at once", test_churn},
		{"a neighbour is unmapped while it moves along", test_neighbour},
		CU_TEST_INFO_NULL,
	};

	return kit_suite("mem_race", tests);
}
