/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Shared memory of the arena, and private memory. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "child.h"
#include "peer.h"
#include "suite.h"
#include "top.h"

static struct odp_proc *self;

static void *at(uint64_t off, size_t size)
{
	return odp_peer_ptr(odp_proc_self(self), off, size);
}

static bool all(const void *p, size_t size, unsigned char value)
{
	const unsigned char *b = p;

	return !size || (b[0] == value && !memcmp(b, b + 1, size - 1));
}

static uint64_t kib_used(void)
{
	struct stat st;

	return fstat(self->seg_fd, &st) ? 0 : (uint64_t)st.st_blocks / 2;
}

static const size_t sizes[] = {1,    8,    63,   64,   65,   128,   200,    512,     1000,
			       2048, 2049, 4096, 4097, 8192, 65536, 100000, 1 << 20, 5 << 20};
#define NSIZES (sizeof(sizes) / sizeof(sizes[0]))

static void test_zeroed(void)
{
	uint64_t off[NSIZES];
	unsigned i, round;

	CU_ASSERT_EQUAL_FATAL(odp_proc_get(&self), 0);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < NSIZES; i++) {
			off[i] = odp_arena_alloc(self, sizes[i]);
			CU_ASSERT_NOT_EQUAL_FATAL(off[i], 0);
			CU_ASSERT_EQUAL(off[i] % (sizes[i] < 4096 ? 64 : 4096), 0);
			CU_ASSERT_TRUE(all(at(off[i], sizes[i]), sizes[i], 0));
			memset(at(off[i], sizes[i]), 0xa5, sizes[i]);
		}
		for (i = 0; i < NSIZES; i++) {
			CU_ASSERT_TRUE(all(at(off[i], sizes[i]), sizes[i], 0xa5));
			odp_arena_free(self, off[i], sizes[i]);
		}
	}
}

static void test_memory_returns(void)
{
	const size_t size = 32 << 20;
	uint64_t before = kib_used(), off = odp_arena_alloc(self, size);

	CU_ASSERT_NOT_EQUAL_FATAL(off, 0);
	CU_ASSERT(kib_used() <= before + 64);
	memset(at(off, size), 1, size);
	CU_ASSERT(kib_used() >= before + (32 << 10));
	odp_arena_free(self, off, size);
	CU_ASSERT(kib_used() <= before + 64);
}

#define LIVE 512

struct block {
	uint64_t off;
	size_t size;
	unsigned char fill;
};

static size_t random_size(unsigned *seed)
{
	unsigned shift = (unsigned)rand_r(seed) % 18;

	return 1 + (size_t)rand_r(seed) % ((size_t)1 << shift);
}

static void block_renew(struct block *b, unsigned *seed)
{
	if (b->off) {
		CU_ASSERT_TRUE(all(at(b->off, b->size), b->size, b->fill));
		odp_arena_free(self, b->off, b->size);
	}
	b->size = random_size(seed);
	b->fill = (unsigned char)(1 + rand_r(seed) % 255);
	b->off = odp_arena_alloc(self, b->size);
	CU_ASSERT_NOT_EQUAL_FATAL(b->off, 0);
	CU_ASSERT_TRUE(all(at(b->off, b->size), b->size, 0));
	memset(at(b->off, b->size), b->fill, b->size);
}

static void *random_thread(void *arg)
{
	struct block *blocks = calloc(LIVE, sizeof(*blocks));
	unsigned seed = (unsigned)(uintptr_t)arg, i;

	for (i = 0; i < 6000; i++)
		block_renew(&blocks[(unsigned)rand_r(&seed) % LIVE], &seed);
	for (i = 0; i < LIVE; i++)
		odp_arena_free(self, blocks[i].off, blocks[i].size);
	free(blocks);
	return NULL;
}

static void test_random(void)
{
	pthread_t threads[3];
	uintptr_t i;

	for (i = 0; i < 3; i++)
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&threads[i], NULL, random_thread, (void *)(i + 1)), 0);
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

/* test_full() has split every large block. */
static void test_merged(void)
{
	uint64_t big = odp_arena_alloc(self, (size_t)8 << 30);
	uint64_t rest = odp_arena_alloc(self, (size_t)4 << 30);

	CU_ASSERT_NOT_EQUAL(big, 0);
	CU_ASSERT_NOT_EQUAL(rest, 0);
	odp_arena_free(self, big, (size_t)8 << 30);
	odp_arena_free(self, rest, (size_t)4 << 30);
}

static void test_full(void)
{
	uint64_t off[64];
	unsigned n = 0;

	CU_ASSERT_EQUAL(odp_arena_alloc(self, 0), 0);
	CU_ASSERT_EQUAL(odp_arena_alloc(self, SIZE_MAX), 0);
	CU_ASSERT_EQUAL(odp_arena_alloc(self, ODP_SEG_SIZE), 0);
	while (n < 64 && (off[n] = odp_arena_alloc(self, (size_t)1 << 30)))
		n++;
	CU_ASSERT_EQUAL(n, (ODP_SEG_SIZE >> 30) - 1); /* the first has the records */
	while (n)
		odp_arena_free(self, off[--n], (size_t)1 << 30);
}

static struct block wrong;

static void free_wrong(void *arg)
{
	(void)arg;
	odp_arena_free(self, wrong.off, wrong.size);
}

static int wrong_lines(uint64_t off, size_t size)
{
	char text[1024];

	wrong.off = off;
	wrong.size = size;
	return stderr_lines(free_wrong, NULL, text, sizeof(text));
}

static void test_wrong_free(void)
{
	uint64_t small = odp_arena_alloc(self, 64), page = odp_arena_alloc(self, 4096);

	memset(at(small, 64), 7, 64);
	CU_ASSERT_EQUAL(wrong_lines(small, 128), 1);
	CU_ASSERT_EQUAL(wrong_lines(small, 4096), 1);
	CU_ASSERT_EQUAL(wrong_lines(page, 64), 1);
	CU_ASSERT_EQUAL(wrong_lines(page, 8192), 1);
	CU_ASSERT_EQUAL(wrong_lines(page + 64, 4096), 1);
	CU_ASSERT_EQUAL(wrong_lines(8, 8), 1);
	CU_ASSERT_EQUAL(wrong_lines(UINT64_MAX, 8), 1);
	CU_ASSERT_EQUAL(wrong_lines(0, 8), 0); /* as free(NULL) */
	CU_ASSERT_TRUE(all(at(small, 64), 64, 7));
	CU_ASSERT_EQUAL(wrong_lines(page, 4096), 0);
	CU_ASSERT_EQUAL(wrong_lines(page, 4096), 1);
	CU_ASSERT_EQUAL(wrong_lines(small, 64), 0);
	CU_ASSERT_EQUAL(wrong_lines(small, 64), 1);
}

static void test_private(void)
{
	unsigned char *p[NSIZES];
	unsigned i, round;

	CU_ASSERT_PTR_NULL(odp_priv_alloc(0));
	CU_ASSERT_PTR_NULL(odp_priv_alloc(SIZE_MAX));
	for (round = 0; round < 3; round++) {
		for (i = 0; i < NSIZES; i++) {
			p[i] = odp_priv_alloc(sizes[i]);
			CU_ASSERT_PTR_NOT_NULL_FATAL(p[i]);
			CU_ASSERT_EQUAL((uintptr_t)p[i] % (sizes[i] < 4096 ? 64 : 4096), 0);
			CU_ASSERT_TRUE(all(p[i], sizes[i], 0));
			memset(p[i], 0x5a, sizes[i]);
		}
		for (i = 0; i < NSIZES; i++) {
			CU_ASSERT_TRUE(all(p[i], sizes[i], 0x5a));
			odp_priv_free(p[i], sizes[i]);
		}
	}
	odp_priv_free(NULL, 64);
}

int main(void)
{
	static CU_TestInfo tests[] = {
		{"memory comes zeroed and aligned, again and again", test_zeroed},
		{"freed memory goes back to the kernel", test_memory_returns},
		{"random sizes in several threads", test_random},
		{"a full arena says so", test_full},
		{"freed blocks merge", test_merged},
		{"what was not allocated is not freed", test_wrong_free},
		{"private memory comes zeroed and aligned", test_private},
		CU_TEST_INFO_NULL,
	};

	return suite_run("arena", tests);
}
