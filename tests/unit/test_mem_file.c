/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Memory that stays where it is: memfds, files, shared and mixed ranges. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backing.h"
#include "memkit.h"
#include "pool.h"
#include "suite.h"

#define LEN (16 * PAGE)

struct file {
	int fd;
	char *mem;
	struct odp_region *pinned, *demand;
};

static void file_make(struct file *f)
{
	f->fd = memfd_create("test", MFD_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(ftruncate(f->fd, LEN), 0);
	f->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(f->mem, MAP_FAILED);
	kit_fill(f->mem, LEN, "old");
	f->pinned = kit_reg(f->mem, LEN, ODP_PINNED, ODP_BACKING_AUTO);
	f->demand = kit_reg(f->mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f->pinned);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f->demand);
}

static void file_end(struct file *f)
{
	CU_ASSERT_EQUAL(odp_region_destroy(f->pinned), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(f->demand), 0);
	munmap(f->mem, LEN);
	close(f->fd);
}

static bool pins(void)
{
	if (odp_pin_usable(kit_proc->mem))
		return true;
	printf("(no io_uring: pinned shared memory is not tested) ");
	return false;
}

static void test_coherent(void)
{
	struct file f;

	file_make(&f);
	CU_ASSERT_EQUAL(kit_write(f.pinned, f.mem + PAGE - 2, "across", 7), 0);
	CU_ASSERT_STRING_EQUAL(f.mem + PAGE - 2, "across");
	CU_ASSERT_STRING_EQUAL(kit_see(f.demand, f.mem + PAGE - 2), "across");
	CU_ASSERT_EQUAL(kit_write(f.demand, f.mem + 2 * PAGE - 2, "demand", 7), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(f.pinned, f.mem + 2 * PAGE - 2), "demand");
	/* madvise takes nothing from shared memory. */
	CU_ASSERT_EQUAL(madvise(f.mem, LEN, MADV_DONTNEED), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(f.demand, f.mem + 3 * PAGE), "old3");
	CU_ASSERT_EQUAL(kit_write(f.pinned, f.mem + 3 * PAGE, "pin", 4), 0);
	CU_ASSERT_STRING_EQUAL(f.mem + 3 * PAGE, "pin");
	file_end(&f);
}

static void test_truncate(void)
{
	struct file f;

	file_make(&f);
	CU_ASSERT_EQUAL(ftruncate(f.fd, 4 * PAGE), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(f.demand, f.mem + 4 * PAGE), "?14");
	CU_ASSERT_EQUAL(kit_write(f.demand, f.mem + 4 * PAGE, "x", 1), -EFAULT);
	CU_ASSERT_STRING_EQUAL(kit_see(f.demand, f.mem + 3 * PAGE), "old3");
	if (pins()) {
		CU_ASSERT_STRING_EQUAL(kit_see(f.pinned, f.mem + 4 * PAGE), "old4");
		CU_ASSERT_EQUAL(kit_write(f.pinned, f.mem + 4 * PAGE, "orphan", 7), 0);
		CU_ASSERT_STRING_EQUAL(kit_see(f.pinned, f.mem + 4 * PAGE), "orphan");
	}
	CU_ASSERT_EQUAL(ftruncate(f.fd, LEN), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(f.demand, f.mem + 4 * PAGE), "");
	CU_ASSERT_EQUAL(kit_write(f.demand, f.mem + 4 * PAGE, "new", 4), 0);
	CU_ASSERT_STRING_EQUAL(f.mem + 4 * PAGE, "new");
	if (odp_pin_usable(kit_proc->mem))
		CU_ASSERT_STRING_EQUAL(kit_see(f.pinned, f.mem + 4 * PAGE), "orphan");
	file_end(&f);
}

static void test_punch(void)
{
	struct file f;

	file_make(&f);
	CU_ASSERT_EQUAL(
		fallocate(f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, 3 * PAGE), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(f.demand, f.mem + 2 * PAGE), "");
	CU_ASSERT_STRING_EQUAL(kit_see(f.demand, f.mem + 5 * PAGE), "old5");
	CU_ASSERT_EQUAL(kit_write(f.demand, f.mem + 2 * PAGE, "new", 4), 0);
	CU_ASSERT_STRING_EQUAL(f.mem + 2 * PAGE, "new");
	if (pins()) {
		CU_ASSERT_STRING_EQUAL(kit_see(f.pinned, f.mem + 2 * PAGE), "old2");
		CU_ASSERT_EQUAL(kit_write(f.pinned, f.mem + 2 * PAGE, "lost", 5), 0);
		CU_ASSERT_STRING_EQUAL(f.mem + 2 * PAGE, "new");
	}
	file_end(&f);
}

static void test_unmapped(void)
{
	struct file f;

	file_make(&f);
	CU_ASSERT_EQUAL(munmap(f.mem, LEN), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(f.demand, f.mem), "?14");
	if (pins())
		CU_ASSERT_STRING_EQUAL(kit_see(f.pinned, f.mem + 5 * PAGE), "old5");
	file_end(&f);
}

/* Private, shared, private again in one range, read and written across. */
static void test_mixed(void)
{
	char *mem = kit_private(LEN, "priv"), *at, buf[LEN], back[LEN];
	struct odp_region *r[2];

	at = mmap(mem + 5 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CU_ASSERT_PTR_EQUAL_FATAL(at, mem + 5 * PAGE);
	kit_fill(at, 4 * PAGE, "shared");
	r[0] = kit_reg(mem + 100, LEN - 200, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	r[1] = kit_reg(mem + 100, LEN - 200, ODP_PINNED, ODP_BACKING_AUTO);
	for (int i = 0; i < 2; i++) {
		CU_ASSERT_PTR_NOT_NULL_FATAL(r[i]);
		for (size_t k = 0; k < LEN; k++)
			buf[k] = (char)(k * 7 + k / 251 + (size_t)i);
		CU_ASSERT_EQUAL(kit_write(r[i], mem + 100, buf, LEN - 200), 0);
		CU_ASSERT_EQUAL(memcmp(mem + 100, buf, LEN - 200), 0);
		CU_ASSERT_EQUAL(kit_read(r[i], mem + 100, back, LEN - 200), 0);
		CU_ASSERT_EQUAL(memcmp(back, buf, LEN - 200), 0);
		odp_region_destroy(r[i]);
	}
	munmap(mem, LEN);
}

/* Each backing as source and as target, no end on a page border. */
static void test_pairs(void)
{
	static const struct {
		bool shared;
		enum odp_kind kind;
		enum odp_backing want;
	} sorts[] = {
		{false, ODP_PINNED, ODP_BACKING_POOL},
		{false, ODP_ON_DEMAND, ODP_BACKING_POOL},
		{true, ODP_ON_DEMAND, ODP_BACKING_VA},
		{true, ODP_PINNED, ODP_BACKING_PIN},
	};
	static const size_t sizes[] = {1, 3, 8, 9, 64, 4095, 4096, 5000, 100000, 400001};
	const size_t len = 128 * PAGE;

	for (unsigned a = 0; a < 4; a++) {
		for (unsigned b = 0; b < 4; b++) {
			char *x = sorts[a].shared ? kit_shared(len, NULL) : kit_private(len, NULL);
			char *y = sorts[b].shared ? kit_shared(len, NULL) : kit_private(len, NULL);
			struct odp_region *rx, *ry;

			for (size_t i = 0; i < len; i++)
				x[i] = (char)(i * 31 + i / 4093);
			rx = kit_reg(x, len, sorts[a].kind, ODP_BACKING_AUTO);
			ry = kit_reg(y, len, sorts[b].kind, ODP_BACKING_AUTO);
			CU_ASSERT_PTR_NOT_NULL_FATAL(rx);
			CU_ASSERT_PTR_NOT_NULL_FATAL(ry);
			if (kit_events() && odp_pin_usable(kit_proc->mem))
				CU_ASSERT_EQUAL(rx->mr->backing, sorts[a].want);
			for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
				size_t from = 4000 + 13 * i, to = 4091 + 3 * i, n = sizes[i];
				struct odp_peer *self = odp_proc_self(kit_proc);
				struct odp_span s, d;

				memset(y, 0x55, len);
				CU_ASSERT_EQUAL(odp_span_region(&s, self, odp_region_key(rx), PD,
								(uintptr_t)x + from, n, 0),
						0);
				CU_ASSERT_EQUAL(odp_span_region(&d, self, odp_region_key(ry), PD,
								(uintptr_t)y + to, n, 0),
						0);
				CU_ASSERT_EQUAL(kit_copy(&d, &s, n), 0);
				CU_ASSERT_EQUAL(s.addr, (uintptr_t)x + from + n);
				CU_ASSERT_EQUAL(d.addr, (uintptr_t)y + to + n);
				CU_ASSERT_EQUAL(memcmp(y + to, x + from, n), 0);
				CU_ASSERT_EQUAL(y[to - 1], 0x55);
				CU_ASSERT_EQUAL(y[to + n], 0x55);
			}
			odp_region_destroy(rx);
			odp_region_destroy(ry);
			munmap(x, len);
			munmap(y, len);
		}
	}
}

static void test_atomics(void)
{
	for (int kind = 0; kind < 2; kind++) {
		for (int shared = 0; shared < 2; shared++) {
			char *mem = shared ? kit_shared(LEN, NULL) : kit_private(LEN, NULL);
			uint64_t *v = (uint64_t *)(mem + 3 * PAGE + 8), old = 0;
			struct odp_region *r =
				kit_reg(mem, LEN, (enum odp_kind)kind, ODP_BACKING_AUTO);
			struct odp_span s;

			CU_ASSERT_PTR_NOT_NULL_FATAL(r);
			CU_ASSERT_EQUAL(odp_span_region(&s, odp_proc_self(kit_proc),
							odp_region_key(r), PD, (uintptr_t)v, 8,
							ODP_ACCESS_REMOTE_ATOMIC),
					0);
			*v = 40;
			CU_ASSERT_EQUAL(odp_atomic(&s, ODP_FETCH_ADD, 2, 0, &old), 0);
			CU_ASSERT_EQUAL(old, 40);
			CU_ASSERT_EQUAL(*v, 42);
			CU_ASSERT_EQUAL(odp_atomic(&s, ODP_CMP_SWAP, 41, 7, &old), 0);
			CU_ASSERT_EQUAL(old, 42);
			CU_ASSERT_EQUAL(*v, 42);
			CU_ASSERT_EQUAL(odp_atomic(&s, ODP_CMP_SWAP, 42, 7, &old), 0);
			CU_ASSERT_EQUAL(old, 42);
			CU_ASSERT_EQUAL(*v, 7);
			odp_region_destroy(r);
			munmap(mem, LEN);
		}
	}
}

/* A file on a disk: on demand yes; pinned for writing no, as the kernel says. */
static void test_disk(void)
{
	char path[] = "/var/tmp/uodp-test-XXXXXX", *mem;
	int fd = mkstemp(path);
	struct odp_region *r;

	CU_ASSERT_FATAL(fd >= 0);
	unlink(path);
	CU_ASSERT_EQUAL_FATAL(ftruncate(fd, LEN), 0);
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	kit_fill(mem, LEN, "disk");
	r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + PAGE), "disk1");
	CU_ASSERT_EQUAL(kit_write(r, mem + PAGE, "written", 8), 0);
	CU_ASSERT_STRING_EQUAL(mem + PAGE, "written");
	odp_region_destroy(r);
	munmap(mem, LEN);
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	r = kit_reg(mem, LEN, ODP_PINNED, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + PAGE), "written");
	CU_ASSERT_EQUAL(kit_write(r, mem + PAGE, "private", 8), 0);
	CU_ASSERT_STRING_EQUAL(mem + PAGE, "private");
	odp_region_destroy(r);
	munmap(mem, LEN);
	close(fd);
}

static void test_forced(void)
{
	char *mem = kit_private(LEN, "va");
	struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_VA);

	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL(r->mr->backing, ODP_BACKING_VA);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + PAGE), "va1");
	/* The pages move to the pool; the older region follows. */
	odp_region_destroy(kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO));
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + PAGE), "va1");
	CU_ASSERT_EQUAL(kit_write(r, mem + PAGE, "both", 5), 0);
	CU_ASSERT_STRING_EQUAL(mem + PAGE, "both");
	odp_region_destroy(r);
	munmap(mem, LEN);
	mem = kit_shared(LEN, "no");
	CU_ASSERT_PTR_NULL(kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_POOL));
	CU_ASSERT_EQUAL(kit_err, -EOPNOTSUPP);
	CU_ASSERT_PTR_NULL(kit_reg(mem, LEN, ODP_PINNED, ODP_BACKING_POOL));
	CU_ASSERT_EQUAL(kit_err, -EOPNOTSUPP);
	munmap(mem, LEN);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a memfd is coherent with both kinds", test_coherent},
		{"truncate, then grow", test_truncate},
		{"hole punch", test_punch},
		{"munmap of shared memory", test_unmapped},
		{"a range of several mappings", test_mixed},
		{"copies between all backings, unaligned", test_pairs},
		{"atomics on all backings", test_atomics},
		{"a file on disk", test_disk},
		{"a backing that is asked for", test_forced},
		CU_TEST_INFO_NULL,
	};

	return kit_suite("mem_file", tests);
}
