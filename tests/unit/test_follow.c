/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory that stays where the program has it: pages of it that go are invalidations, told
 * of by whoever made the call, or found at the next access.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "faultq.h"
#include "memkit.h"
#include "peer.h"
#include "pool.h"
#include "region.h"
#include "suite.h"
#include "top.h"
#include "transfer.h"

#define PAGES 16u
#define LEN (PAGES * PAGE)
#define LONG_LEN ((size_t)4 << 20)

/* A memfd, all of it mapped and there, and an on-demand region over it. */
struct file {
	int fd;
	char *mem;
	size_t len;
	struct odp_region *r;
	dev_t dev;
	ino_t ino;
};

static bool file_make(struct file *f, size_t len)
{
	struct stat st;

	f->len = len;
	f->fd = memfd_create("test-follow", MFD_CLOEXEC);
	if (ftruncate(f->fd, (off_t)len) || fstat(f->fd, &st))
		return false;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	if (f->mem == MAP_FAILED)
		return false;
	kit_fill(f->mem, len, "a");
	f->r = kit_reg(f->mem, len, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	return f->r;
}

static void file_open(struct file *f, size_t len)
{
	CU_ASSERT_TRUE_FATAL(file_make(f, len));
}

static void file_close(struct file *f)
{
	odp_region_destroy(f->r);
	munmap(f->mem, f->len);
	close(f->fd);
}

/* For longer than a look holds. */
static void later(void)
{
	usleep(2000);
}

/* By bare system calls, which nobody stands in front of. */
static void empty(struct file *f)
{
	CU_ASSERT_EQUAL(syscall(SYS_ftruncate, f->fd, 0), 0);
	CU_ASSERT_EQUAL(syscall(SYS_ftruncate, f->fd, f->len), 0);
	later();
}

static void punch(struct file *f, size_t off, size_t len)
{
	CU_ASSERT_EQUAL(
		syscall(SYS_fallocate, f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len),
		0);
	later();
}

static void advise(void *addr, size_t len, int advice)
{
	CU_ASSERT_EQUAL(syscall(SYS_madvise, addr, len, advice), 0);
	later();
}

static void changed(struct file *f, uint64_t start, uint64_t end)
{
	odp_file_changed(kit_proc, f->dev, f->ino, start, end);
}

static struct odp_region_stats stats(const struct file *f)
{
	struct odp_region_stats s;

	odp_region_stats(f->r, &s);
	return s;
}

static void counted(const struct file *f, uint64_t invalidations, uint64_t faults, uint64_t valid)
{
	CU_ASSERT_EQUAL(stats(f).page_invalidations, invalidations);
	CU_ASSERT_EQUAL(stats(f).page_invalidations_handled, invalidations);
	CU_ASSERT_EQUAL(stats(f).page_faults, faults);
	CU_ASSERT_EQUAL(stats(f).page_faults_handled, faults);
	CU_ASSERT_EQUAL(stats(f).pages_valid, valid);
}

static void read_all(const struct file *f)
{
	char byte;

	for (size_t i = 0; i < f->len; i += PAGE)
		CU_ASSERT_EQUAL(kit_read(f->r, f->mem + i, &byte, 1), 0);
}

/* ---- found at the access ---- */

static void test_access(void)
{
	struct file f;

	file_open(&f, LEN);
	CU_ASSERT(odp_region_seen(f.r) & ODP_SEEN_ACCESS);
	read_all(&f);
	counted(&f, 0, 0, PAGES);
	empty(&f);
	read_all(&f);
	counted(&f, PAGES, PAGES, PAGES);
	punch(&f, 4 * PAGE, 3 * PAGE);
	read_all(&f);
	counted(&f, PAGES + 3, PAGES + 3, PAGES);
	advise(f.mem + PAGE, 2 * PAGE, MADV_DONTNEED);
	read_all(&f);
	counted(&f, PAGES + 5, PAGES + 5, PAGES);
	read_all(&f);
	counted(&f, PAGES + 5, PAGES + 5, PAGES);
	file_close(&f);
}

/* One look serves many pages; none is missed, none taken twice. */
static void test_access_long(void)
{
	static char buf[LONG_LEN];
	struct file f;

	file_open(&f, LONG_LEN);
	for (size_t at = 0; at < LONG_LEN; at += 96 * PAGE)
		punch(&f, at, 2 * PAGE);
	CU_ASSERT_EQUAL(kit_read(f.r, f.mem, buf, LONG_LEN), 0);
	counted(&f, 22, 22, LONG_LEN / PAGE);
	CU_ASSERT_EQUAL(kit_write(f.r, f.mem, buf, LONG_LEN), 0);
	counted(&f, 22, 22, LONG_LEN / PAGE);
	/* At an odd place, over the end of what one look serves. */
	empty(&f);
	CU_ASSERT_EQUAL(kit_read(f.r, f.mem + 100, buf, LONG_LEN - 200), 0);
	counted(&f, 22 + LONG_LEN / PAGE, 22 + LONG_LEN / PAGE, LONG_LEN / PAGE);
	file_close(&f);
}

/* ---- told ---- */

/* The program has touched the pages since: only who is told knows. */
static void test_told(void)
{
	struct file f;

	file_open(&f, LEN);
	empty(&f);
	changed(&f, 0, UINT64_MAX);
	counted(&f, PAGES, 0, 0);
	kit_fill(f.mem, LEN, "b");
	CU_ASSERT_STRING_EQUAL(kit_see(f.r, f.mem + PAGE), "b1");
	read_all(&f);
	counted(&f, PAGES, PAGES, PAGES);
	/* Whole pages alone; and once, however often it is told. */
	changed(&f, 1, 3 * PAGE - 1);
	changed(&f, 1, 3 * PAGE - 1);
	counted(&f, PAGES + 1, PAGES, PAGES - 1);
	changed(&f, LEN - 1, UINT64_MAX);
	odp_file_changed(kit_proc, f.dev, f.ino + 1, 0, UINT64_MAX);
	counted(&f, PAGES + 1, PAGES, PAGES - 1);
	odp_range_changed(kit_proc, f.mem + 4 * PAGE + 5, PAGE, ODP_CHANGE_REPLACED);
	counted(&f, PAGES + 3, PAGES, PAGES - 3);
	odp_range_changed(kit_proc, f.mem - 4 * PAGE, 4 * PAGE, ODP_CHANGE_REPLACED);
	odp_range_changed(kit_proc, f.mem, 0, ODP_CHANGE_REPLACED);
	counted(&f, PAGES + 3, PAGES, PAGES - 3);
	odp_range_changed(kit_proc, NULL, SIZE_MAX, ODP_CHANGE_REPLACED);
	counted(&f, 2 * PAGES, PAGES, 0);
	file_close(&f);
}

/* A second mapping of the file, at another offset, and a region that begins in it. */
static void test_mappings(void)
{
	struct odp_region *part;
	struct odp_region_stats s;
	uint64_t valid;
	struct file f;
	char *p;

	file_open(&f, LEN);
	p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 8 * PAGE);
	CU_ASSERT_FATAL(p != MAP_FAILED);
	CU_ASSERT_EQUAL(p[0], 'a');
	CU_ASSERT_EQUAL(p[PAGE], 'a');
	part = kit_reg(p + PAGE, 2 * PAGE, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(part);
	odp_region_stats(part, &s);
	valid = s.pages_valid;
	changed(&f, 8 * PAGE, 10 * PAGE);
	counted(&f, 2, 0, PAGES - 2);
	odp_region_stats(part, &s);
	CU_ASSERT_EQUAL(s.page_invalidations, 1);
	CU_ASSERT_EQUAL(s.pages_valid, valid - 1);
	/* MADV_REMOVE takes it from all mappings, DONTNEED from one. */
	read_all(&f);
	advise(p, 2 * PAGE, MADV_REMOVE);
	odp_range_removed(kit_proc, p, 2 * PAGE);
	counted(&f, 4, 2, PAGES - 2);
	odp_region_destroy(part);
	munmap(p, 4 * PAGE);
	file_close(&f);
}

/* Memory that has left the pool is followed as well. */
static void test_left_pool(void)
{
	char *mem = kit_private(LEN, "p"), *p;
	struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	struct odp_region_stats s;
	char byte;

	CU_ASSERT_EQUAL(odp_region_seen(r) == ODP_SEEN_KERNEL, kit_events());
	p = mmap(mem, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0);
	CU_ASSERT_FATAL(p == mem);
	odp_range_changed(kit_proc, mem, 4 * PAGE, ODP_CHANGE_REPLACED);
	kit_fill(mem, 4 * PAGE, "q");
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem), "q0");
	CU_ASSERT_EQUAL(kit_read(r, mem + PAGE, &byte, 1), 0);
	odp_region_stats(r, &s);
	CU_ASSERT_EQUAL(s.page_invalidations, 4);
	CU_ASSERT_EQUAL(s.page_faults, 2);
	advise(mem, PAGE, MADV_DONTNEED);
	CU_ASSERT_EQUAL(kit_read(r, mem, &byte, 1), 0);
	odp_region_stats(r, &s);
	CU_ASSERT_EQUAL(s.page_invalidations, 5);
	CU_ASSERT_EQUAL(s.page_faults, 3);
	odp_region_destroy(r);
	munmap(mem, LEN);
}

static void test_protect(void)
{
	struct file f;
	char byte = 0;

	file_open(&f, LEN);
	CU_ASSERT_EQUAL(syscall(SYS_mprotect, f.mem, 4 * PAGE, PROT_READ), 0);
	CU_ASSERT_EQUAL(odp_protect(kit_proc, f.mem, 4 * PAGE, PROT_READ), 0);
	counted(&f, 4, 0, PAGES - 4);
	CU_ASSERT_EQUAL(kit_write(f.r, f.mem, &byte, 1), -EFAULT);
	CU_ASSERT_EQUAL(kit_read(f.r, f.mem, &byte, 1), 0);
	CU_ASSERT_EQUAL(stats(&f).page_faults, 2);
	CU_ASSERT_EQUAL(stats(&f).page_faults_handled, 1);
	file_close(&f);
}

/* ---- what hangs on faults ---- */

static void test_fails(void)
{
	const struct odp_fault_policy all = {.fail_nth = 1};
	struct file f;
	char byte = 0;

	file_open(&f, LEN);
	CU_ASSERT_EQUAL(odp_region_fault_policy(f.r, &all), 0);
	CU_ASSERT_EQUAL(kit_read(f.r, f.mem, &byte, 1), 0);
	empty(&f);
	CU_ASSERT_EQUAL(kit_read(f.r, f.mem, &byte, 1), -EFAULT);
	CU_ASSERT_EQUAL(kit_write(f.r, f.mem + PAGE, &byte, 1), -EFAULT);
	f.mem[2 * PAGE] = 'c';
	changed(&f, 0, UINT64_MAX);
	CU_ASSERT_EQUAL(kit_read(f.r, f.mem + 2 * PAGE, &byte, 1), -EFAULT);
	CU_ASSERT_EQUAL(odp_region_fault_policy(f.r, NULL), 0);
	CU_ASSERT_EQUAL(kit_read(f.r, f.mem + 2 * PAGE, &byte, 1), 0);
	CU_ASSERT_EQUAL(byte, 'c');
	file_close(&f);
}

/* A pager that fills the file without a look at the mapping: its word is enough. */
static void test_pager(void)
{
	const struct odp_fault_queue_attr attr = {0};
	struct odp_fault_response answer = {0};
	struct odp_fault_queue *q;
	struct odp_fault_msg m;
	struct odp_span span, mine;
	struct file f;
	char byte = 0;
	size_t n = 1;

	file_open(&f, LEN);
	CU_ASSERT_EQUAL_FATAL(odp_fault_queue_create(kit_proc, &attr, &q), 0);
	CU_ASSERT_EQUAL(odp_fault_queue_attach(q, f.r, 0, 0), 0);
	CU_ASSERT_EQUAL(kit_read(f.r, f.mem, &byte, 1), 0);
	for (char round = 'x'; round <= 'z'; round++) {
		empty(&f);
		CU_ASSERT_EQUAL(odp_span_region(&span, odp_proc_self(kit_proc), odp_region_key(f.r),
						PD, (uintptr_t)f.mem, 1, ODP_ACCESS_REMOTE_READ),
				0);
		odp_span_private(&mine, &byte);
		CU_ASSERT_EQUAL(odp_copy(&mine, &span, &n), -EAGAIN);
		CU_ASSERT_EQUAL(read(odp_fault_queue_fd(q), &m, sizeof(m)), sizeof(m));
		CU_ASSERT_EQUAL(pwrite(f.fd, &round, 1, 0), 1);
		answer.cookie = m.cookie;
		CU_ASSERT_EQUAL(write(odp_fault_queue_fd(q), &answer, sizeof(answer)),
				sizeof(answer));
		n = 1;
		for (int i = 0; i < 1000 && odp_copy(&mine, &span, &n) == -EAGAIN; i++, n = 1)
			usleep(1000);
		CU_ASSERT_EQUAL(byte, round);
		n = 1;
	}
	/* A look takes those around with it, as far as they are of the same fault. */
	CU_ASSERT(stats(&f).page_invalidations >= 3);
	CU_ASSERT_EQUAL(stats(&f).page_faults, 3);
	odp_fault_queue_destroy(q, false);
	file_close(&f);
}

/* ---- another process's memory ---- */

static int role_owner(void)
{
	struct file f;

	if (kit_start() || !file_make(&f, LEN))
		return 1;
	parent_put(odp_proc_slot(kit_proc));
	parent_put(odp_region_key(f.r));
	parent_put((long)(uintptr_t)f.mem);
	while (parent_get() > 0) {
		if (syscall(SYS_ftruncate, f.fd, 0) || syscall(SYS_ftruncate, f.fd, LEN))
			return 1;
		later();
		parent_put((long)stats(&f).page_invalidations);
	}
	return 0;
}

static void test_peer(void)
{
	struct odp_peer *peer;
	struct child c;
	uint64_t mem;
	uint32_t key;
	char byte;

	CU_ASSERT_TRUE_FATAL(child_start(&c, "owner"));
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(kit_proc, (unsigned)child_get(&c), &peer), 0);
	key = (uint32_t)child_get(&c);
	mem = (uint64_t)child_get(&c);
	for (long round = 0; round < 3; round++) {
		child_put(&c, 1);
		CU_ASSERT_EQUAL(child_get(&c), round * PAGES);
		for (unsigned i = 0; i < PAGES; i++)
			CU_ASSERT_EQUAL(kit_peer_read(peer, key, mem + i * PAGE, &byte, 1), 0);
	}
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

static CU_TestInfo tests[] = {
	{"pages that an access finds gone", test_access},
	{"of a long transfer", test_access_long},
	{"pages that the program tells of", test_told},
	{"several mappings of a file", test_mappings},
	{"memory that has left the pool", test_left_pool},
	{"mprotect", test_protect},
	{"faults that fail, after an event", test_fails},
	{"a pager is asked again", test_pager},
	{"another process's memory", test_peer},
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {{"owner", role_owner}, {NULL, NULL}};

	child_main(argc, argv, roles);
	return kit_suite("follow", tests);
}
