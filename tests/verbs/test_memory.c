/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Every kind of memory that a program may register, pinned and on demand: the
 * device and the CPU see each other's stores, and the neighbours stay as they are.
 */
#include <alloca.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

#define PAGE 4096u
#define LEN 20000u
#define EDGE 300u

struct mem {
	uint8_t *p; /* EDGE bytes before and after it are the program's, too */
	size_t len;
	bool read_only;
	void *map;
	size_t map_len;
	int fd;
};

static bool on_demand(void)
{
	return !tdev()->rxe && (tdev()->odp.general_caps & IBV_ODP_SUPPORT);
}

/* READ, WRITE and an atomic by the other side on MEM, which A registered. */
static void exercise(struct pair *p, const struct mem *m, bool odp)
{
	int access = m->read_only ? IBV_ACCESS_REMOTE_READ : ALL_ACCESS, round;
	struct twr s = {.id = 1, .flags = IBV_SEND_SIGNALED, .len = (uint32_t)m->len};
	uint64_t before, after;
	struct ibv_wc wc;
	struct ibv_mr *mr;

	before = sum_bytes(m->p - EDGE, EDGE);
	after = sum_bytes(m->p + m->len, EDGE);
	mr = ibv_reg_mr(p->a.pd, m->p, m->len, access | (odp ? IBV_ACCESS_ON_DEMAND : 0));
	if (!mr) {
		CHECK_ERRNO(errno, 0);
		return;
	}
	s.rkey = mr->rkey;
	s.raddr = (uintptr_t)m->p;
	for (round = 0; round < 3; round++) {
		if (!m->read_only)
			fill_bytes(m->p, m->len, 70 + (uint64_t)round);
		s.op = IBV_WR_RDMA_READ;
		CHECK_ERRNO(side_send(&p->b, &s), 0);
		REQUIRE(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(side_sum(&p->b, 0, m->len), sum_bytes(m->p, m->len));
		if (m->read_only)
			continue;
		side_fill(&p->b, 0, m->len, 80 + (uint64_t)round);
		s.op = IBV_WR_RDMA_WRITE;
		CHECK_ERRNO(side_send(&p->b, &s), 0);
		REQUIRE(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(side_sum(&p->b, 0, m->len), sum_bytes(m->p, m->len));
	}
	if (!m->read_only) {
		uint64_t *word = (uint64_t *)(void *)(((uintptr_t)m->p + 63) & ~7ul);

		*word = 41;
		s.op = IBV_WR_ATOMIC_FETCH_AND_ADD;
		s.raddr = (uintptr_t)word;
		s.len = 8;
		s.compare_add = 1;
		CHECK_ERRNO(side_send(&p->b, &s), 0);
		REQUIRE(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(*(volatile uint64_t *)word, 42);
	}
	CHECK_INT(sum_bytes(m->p - EDGE, EDGE), before);
	CHECK_INT(sum_bytes(m->p + m->len, EDGE), after);
	after = sum_bytes(m->p, m->len);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	/* the program keeps what was there */
	CHECK_INT(sum_bytes(m->p, m->len), after);
	CHECK_INT(sum_bytes(m->p - EDGE, EDGE), before);
	if (!m->read_only) {
		memset(m->p, 1, m->len);
		CHECK(m->p[0] == 1 && m->p[m->len - 1] == 1);
	}
}

static void with(struct pair *p, const struct mem *m)
{
	struct ep_conf c = RC_CONF;
	int odp;

	c.timeout = 18;
	for (odp = 0; odp < 1 + on_demand() && !t_failures(); odp++) {
		t_note(odp ? "on demand" : "pinned");
		REQUIRE(pair_up(p, &c, &c));
		exercise(p, m, odp);
		pair_down(p);
	}
}

static void inside(struct mem *m, void *area, size_t offset)
{
	m->p = (uint8_t *)area + offset;
	m->len = LEN;
}

static void c_malloc(struct pair *p)
{
	struct mem m = {.len = 0};
	uint8_t *heap = malloc(LEN + 2 * EDGE + 7);

	fill_bytes(heap, LEN + 2 * EDGE, 3);
	inside(&m, heap, EDGE + 3);
	with(p, &m);
	free(heap);
}

/* A few bytes in a page with much else. */
static void c_malloc_small(struct pair *p)
{
	struct mem m = {.len = 200};
	uint8_t *heap = malloc(200 + 2 * EDGE);

	fill_bytes(heap, 200 + 2 * EDGE, 3);
	m.p = heap + EDGE;
	with(p, &m);
	free(heap);
}

static void c_stack(struct pair *p)
{
	uint8_t area[LEN + 2 * EDGE + 11];
	struct mem m = {.len = 0};

	fill_bytes(area, sizeof(area), 4);
	inside(&m, area, EDGE + 5);
	with(p, &m);
}

static void *on_thread(void *arg)
{
	c_stack(arg);
	return NULL;
}

static void c_thread_stack(struct pair *p)
{
	pthread_t t;

	REQUIRE(!pthread_create(&t, NULL, on_thread, p));
	pthread_join(t, NULL);
}

static uint8_t bss[LEN + 2 * EDGE + 100];
static uint8_t data[LEN + 2 * EDGE + 100] = {1, 2, 3};
static const uint8_t rodata[LEN + 2 * EDGE + 100] = {9, 8, 7};

static void c_bss(struct pair *p)
{
	struct mem m = {.len = 0};

	inside(&m, bss, EDGE + 50);
	with(p, &m);
}

static void c_data(struct pair *p)
{
	struct mem m = {.len = 0};

	inside(&m, data, EDGE + 50);
	with(p, &m);
}

static void c_rodata(struct pair *p)
{
	struct mem m = {.read_only = true};

	inside(&m, (void *)(uintptr_t)rodata, EDGE);
	with(p, &m);
}

static void mapped(struct pair *p, int prot, int flags, int fd, bool touch)
{
	struct mem m = {.len = 0, .read_only = !(prot & PROT_WRITE)};
	size_t len = 8 * PAGE;
	uint8_t *map = mmap(NULL, len, prot, flags, fd, 0);

	if (map == MAP_FAILED)
		return t_skip("mmap: %s", strerror(errno));
	if (touch)
		fill_bytes(map, len, 5);
	inside(&m, map, EDGE + 33);
	with(p, &m);
	munmap(map, len);
}

static void c_anon(struct pair *p)
{
	mapped(p, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, true);
}

static void c_anon_fresh(struct pair *p)
{
	mapped(p, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, false);
}

static void c_anon_shared(struct pair *p)
{
	mapped(p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, true);
}

static void c_anon_read_only(struct pair *p)
{
	mapped(p, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, false);
}

static void memfd_mapped(struct pair *p, int prot, int flags, bool touch)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	uint8_t byte = 7;

	REQUIRE(fd >= 0 && !ftruncate(fd, 8 * PAGE));
	REQUIRE(pwrite(fd, &byte, 1, 6000) == 1);
	mapped(p, prot, flags, fd, touch);
	close(fd);
}

static void c_memfd(struct pair *p)
{
	memfd_mapped(p, PROT_READ | PROT_WRITE, MAP_SHARED, true);
}

static void c_memfd_private(struct pair *p)
{
	memfd_mapped(p, PROT_READ | PROT_WRITE, MAP_PRIVATE, true);
}

static void c_memfd_private_fresh(struct pair *p)
{
	memfd_mapped(p, PROT_READ | PROT_WRITE, MAP_PRIVATE, false);
}

static void c_memfd_read_only(struct pair *p)
{
	memfd_mapped(p, PROT_READ, MAP_SHARED, false);
}

/* A file of the program itself, as libraries are mapped. */
static void c_file_private(struct pair *p)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	REQUIRE(fd >= 0);
	mapped(p, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, false);
	close(fd);
}

static void c_file_read_only(struct pair *p)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	REQUIRE(fd >= 0);
	mapped(p, PROT_READ, MAP_PRIVATE, fd, false);
	close(fd);
}

static void c_hugetlb(struct pair *p)
{
	size_t huge = 2 << 20;
	struct mem m = {.len = 0};
	uint8_t *map = mmap(NULL, huge, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (map == MAP_FAILED)
		return t_skip("no huge pages: %s", strerror(errno));
	fill_bytes(map, 64 * PAGE, 6);
	inside(&m, map, 3 * PAGE + EDGE);
	with(p, &m);
	munmap(map, huge);
}

static void c_transparent_huge(struct pair *p)
{
	size_t huge = 2 << 20;
	struct mem m = {.len = 0};
	uint8_t *map = mmap(NULL, 3 * huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0),
		*aligned;

	REQUIRE(map != MAP_FAILED);
	aligned = (uint8_t *)(((uintptr_t)map + huge - 1) & ~(huge - 1));
	madvise(aligned, huge, MADV_HUGEPAGE);
	memset(aligned, 3, huge);
	inside(&m, aligned, 100 * PAGE + 77);
	with(p, &m);
	munmap(map, 3 * huge);
}

/* Mappings side by side, of different kinds, under one region. */
static void c_patchwork(struct pair *p)
{
	struct mem m = {.len = 0};
	int fd = memfd_create("test", MFD_CLOEXEC);
	uint8_t *map =
		mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(fd >= 0 && !ftruncate(fd, 8 * PAGE) && map != MAP_FAILED);
	REQUIRE(mmap(map + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
		MAP_FAILED);
	REQUIRE(mmap(map + 3 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	fill_bytes(map, 8 * PAGE, 6);
	inside(&m, map, EDGE);
	with(p, &m);
	munmap(map, 8 * PAGE);
	close(fd);
}

/* Regions that overlap, of both kinds, made and dropped in every order. */
static void c_overlap(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 1, .flags = IBV_SEND_SIGNALED, .op = IBV_WR_RDMA_WRITE};
	struct ibv_mr *mr[4] = {NULL};
	struct ibv_wc wc;
	uint8_t *map;
	int round, i, k, kind;

	REQUIRE(pair_up(p, &c, &c));
	map = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(map != MAP_FAILED);
	for (round = 0; round < 24 && !t_failures(); round++) {
		t_note("round %d", round);
		fill_bytes(map, 16 * PAGE, (uint64_t)round);
		for (i = 0; i < 4; i++) {
			kind = on_demand() && (round >> i & 1) ? IBV_ACCESS_ON_DEMAND : 0;
			mr[i] = ibv_reg_mr(p->a.pd, map + i * 2 * PAGE + 100, 5 * PAGE,
					   ALL_ACCESS | kind);
			REQUIRE(mr[i]);
		}
		for (i = 0; i < 4; i++) {
			k = (i * 3 + round) % 4; /* drop one, use the others */
			CHECK_ERRNO(ibv_dereg_mr(mr[k]), 0);
			mr[k] = NULL;
			for (k = 0; k < 4; k++) {
				if (!mr[k])
					continue;
				side_fill(&p->b, 0, 5 * PAGE, (uint64_t)(round * 16 + i * 4 + k));
				s.raddr = (uintptr_t)map + (unsigned int)k * 2 * PAGE + 100;
				s.rkey = mr[k]->rkey;
				s.len = 5 * PAGE;
				CHECK_ERRNO(side_send(&p->b, &s), 0);
				REQUIRE(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS) == 1);
				CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
				CHECK_INT(side_sum(&p->b, 0, 5 * PAGE),
					  sum_bytes(map + k * 2 * PAGE + 100, 5 * PAGE));
			}
		}
	}
	munmap(map, 16 * PAGE);
	pair_down(p);
}

static const struct tcase cases[] = {
	{"malloc", c_malloc, BOTH},
	{"malloc, few bytes", c_malloc_small, BOTH},
	{"stack", c_stack, BOTH},
	{"a thread's stack", c_thread_stack, BOTH},
	{"uninitialised data", c_bss, BOTH},
	{"initialised data", c_data, BOTH},
	{"constants", c_rodata, BOTH},
	{"anonymous", c_anon, BOTH},
	{"anonymous, never touched", c_anon_fresh, BOTH},
	{"anonymous, shared", c_anon_shared, BOTH},
	{"anonymous, read-only", c_anon_read_only, BOTH},
	{"memfd", c_memfd, BOTH},
	{"memfd, private", c_memfd_private, BOTH},
	{"memfd, private, never touched", c_memfd_private_fresh, BOTH},
	{"memfd, read-only", c_memfd_read_only, BOTH},
	{"file, private", c_file_private, BOTH},
	{"file, read-only", c_file_read_only, BOTH},
	{"huge pages", c_hugetlb, BOTH},
	{"transparent huge pages", c_transparent_huge, BOTH},
	{"several mappings", c_patchwork, BOTH},
	{"overlapping regions", c_overlap, BOTH},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
