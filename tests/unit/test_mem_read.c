/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Memory that is reached by descriptors: pipes that hold what may only be read, files
 * mapped read-only, shared and private; and what is given by its descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "memkit.h"
#include "pool.h"
#include "suite.h"

#define PAGES (2 * ODP_PIPE_PAGES + 5) /* more than two pipes hold */
#define LEN (PAGES * PAGE)

static unsigned char byte_at(size_t pos)
{
	return (unsigned char)(pos * 7 + pos / 251 + pos / PAGE);
}

/* ---- another process, which reads through the region ---- */

static int role_reader(void)
{
	static char buf[LEN];
	struct odp_peer *peer;
	long at;

	if (kit_start() || odp_peer_get(kit_proc, (unsigned)parent_get(), &peer))
		return 2;
	parent_put(1);
	while ((at = parent_get()) > 0) {
		uint32_t key = (uint32_t)parent_get();
		size_t pos = (size_t)parent_get(), n = (size_t)parent_get(), bad = 0;
		long ret = kit_peer_read(peer, key, (uint64_t)at + pos, buf, n);

		for (size_t i = 0; i < n; i++)
			bad += (unsigned char)buf[i] != byte_at(pos + i);
		parent_put(ret ? ret : (long)bad);
	}
	return 0;
}

/* ---- this one ---- */

struct file {
	int fd;
	char *mem;
	struct odp_region *r;
};

/* A file on a disk that has no name, with bytes as byte_at() says; -1: none. */
static int file_open(void)
{
	char path[] = "/var/tmp/uodp-test-XXXXXX";
	static unsigned char buf[LEN];
	int fd = mkstemp(path);

	unlink(path);
	for (size_t i = 0; i < LEN; i++)
		buf[i] = byte_at(i);
	return pwrite(fd, buf, LEN, 0) == (ssize_t)LEN ? fd : -1;
}

/* Neither end of the region is a page's. */
#define FIRST 100
#define REACH (LEN - 300)

static void file_make(struct file *f, int flags)
{
	f->fd = file_open();
	CU_ASSERT_FATAL(f->fd >= 0);
	f->mem = mmap(NULL, LEN, PROT_READ, flags, f->fd, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(f->mem, MAP_FAILED);
	f->r = kit_reg_access(f->mem + FIRST, REACH, ODP_PINNED, ODP_ACCESS_REMOTE_READ);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f->r);
	CU_ASSERT_EQUAL(f->r->mr->backing, ODP_BACKING_PIN);
}

static void file_end(struct file *f)
{
	CU_ASSERT_EQUAL(odp_region_destroy(f->r), 0);
	munmap(f->mem, LEN);
	close(f->fd);
}

/* How many bytes of [pos, pos+n) the device does not find as they were written. */
static size_t wrong(const struct file *f, size_t pos, size_t n)
{
	static char buf[LEN];
	size_t bad = 0;

	CU_ASSERT_EQUAL(kit_read(f->r, f->mem + pos, buf, n), 0);
	for (size_t i = 0; i < n; i++)
		bad += (unsigned char)buf[i] != byte_at(pos + i);
	return bad;
}

static void test_all_of_it(void)
{
	size_t group = ODP_PIPE_PAGES * PAGE;
	struct file f;

	file_make(&f, MAP_SHARED);
	CU_ASSERT_EQUAL(wrong(&f, FIRST, REACH), 0);
	CU_ASSERT_EQUAL(wrong(&f, FIRST, 1), 0);
	CU_ASSERT_EQUAL(wrong(&f, FIRST + REACH - 1, 1), 0);
	for (size_t i = 1; i < 40; i++) {
		CU_ASSERT_EQUAL(wrong(&f, group - i, 2 * i), 0);
		CU_ASSERT_EQUAL(wrong(&f, i * 3 * PAGE - 5, 10), 0);
	}
	CU_ASSERT_EQUAL(kit_write(f.r, f.mem + PAGE, "x", 1), -EACCES);
	/* The file's page, not a copy of it. */
	CU_ASSERT_EQUAL(pwrite(f.fd, "written", 8, 3 * PAGE), 8);
	CU_ASSERT_STRING_EQUAL(kit_see(f.r, f.mem + 3 * PAGE), "written");
	file_end(&f);
}

static void test_truncated(void)
{
	struct file f;

	file_make(&f, MAP_SHARED);
	CU_ASSERT_EQUAL(ftruncate(f.fd, 0), 0);
	CU_ASSERT_EQUAL(wrong(&f, FIRST, REACH), 0);
	CU_ASSERT_EQUAL(ftruncate(f.fd, LEN), 0);
	CU_ASSERT_EQUAL(pwrite(f.fd, "new", 4, 4 * PAGE), 4);
	CU_ASSERT_EQUAL(wrong(&f, FIRST, REACH), 0);
	CU_ASSERT_STRING_EQUAL(f.mem + 4 * PAGE, "new");
	munmap(f.mem, LEN);
	CU_ASSERT_EQUAL(wrong(&f, FIRST, REACH), 0);
	file_end(&f);
}

/* A private page is the mapping's own from then on, for the program too. */
static void test_private(void)
{
	struct iovec iov = {(void *)"x", 1}, at;
	struct file f;

	file_make(&f, MAP_PRIVATE);
	CU_ASSERT_EQUAL(wrong(&f, FIRST, REACH), 0);
	CU_ASSERT_EQUAL(pwrite(f.fd, "written", 8, 3 * PAGE), 8);
	CU_ASSERT_EQUAL((unsigned char)f.mem[3 * PAGE], byte_at(3 * PAGE));
	CU_ASSERT_EQUAL(wrong(&f, FIRST, REACH), 0);
	at = (struct iovec){f.mem + PAGE, 1};
	CU_ASSERT_EQUAL(process_vm_writev(getpid(), &iov, 1, &at, 1, 0), -1); /* still read-only */
	CU_ASSERT_EQUAL(mprotect(f.mem, LEN, PROT_READ | PROT_WRITE), 0);
	strcpy(f.mem + 5 * PAGE, "own");
	CU_ASSERT_STRING_EQUAL(kit_see(f.r, f.mem + 5 * PAGE), "own");
	CU_ASSERT_EQUAL(ftruncate(f.fd, 0), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(f.r, f.mem + 5 * PAGE), "own");
	file_end(&f);
}

/* Shared, private and anonymous memory in one. That which may be written is the
 * program's page still when it is written first, or after a fork. */
static void test_mixed(void)
{
	struct file f;
	int status;
	pid_t pid;

	f.fd = file_open();
	CU_ASSERT_FATAL(f.fd >= 0);
	f.mem = mmap(NULL, LEN, PROT_READ, MAP_SHARED, f.fd, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(f.mem, MAP_FAILED);
	CU_ASSERT_PTR_EQUAL(mmap(f.mem + 10 * PAGE, 10 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED,
				 f.fd, 10 * PAGE),
			    f.mem + 10 * PAGE);
	CU_ASSERT_PTR_EQUAL(mmap(f.mem + 30 * PAGE, 10 * PAGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			    f.mem + 30 * PAGE);
	for (size_t i = 30 * PAGE; i < 39 * PAGE; i++)
		f.mem[i] = (char)byte_at(i);
	f.r = kit_reg_access(f.mem + FIRST, REACH, ODP_PINNED, ODP_ACCESS_REMOTE_READ);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f.r);
	for (size_t i = 39 * PAGE; i < 40 * PAGE; i++)
		f.mem[i] = (char)byte_at(i);
	CU_ASSERT_EQUAL(wrong(&f, FIRST, REACH), 0);
	pid = fork();
	if (!pid) /* it has the pages, too, until it is killed */
		while (true)
			pause();
	strcpy(f.mem + 33 * PAGE, "stored");
	kill(pid, SIGKILL);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_STRING_EQUAL(kit_see(f.r, f.mem + 33 * PAGE), "stored");
	/* Where such memory cannot be in the pool, all of it follows the mapping. */
	CU_ASSERT_EQUAL(f.r->mr->backing, kit_events() ? ODP_BACKING_PIN : ODP_BACKING_VA);
	CU_ASSERT_EQUAL(ftruncate(f.fd, 0), 0);
	if (kit_events()) {
		CU_ASSERT_EQUAL(wrong(&f, FIRST, 33 * PAGE - FIRST), 0);
		CU_ASSERT_EQUAL(wrong(&f, 34 * PAGE, REACH - 34 * PAGE), 0);
	}
	file_end(&f);
}

static long reader_get(struct child *c, const struct file *f, size_t pos, size_t n)
{
	child_put(c, (long)(uintptr_t)f->mem);
	child_put(c, (long)odp_region_key(f->r));
	child_put(c, (long)pos);
	child_put(c, (long)n);
	return child_get(c);
}

static void test_peer(void)
{
	struct child c;
	struct file f;

	file_make(&f, MAP_SHARED);
	CU_ASSERT_TRUE_FATAL(child_start(&c, "reader"));
	child_put(&c, (long)odp_proc_slot(kit_proc));
	CU_ASSERT_EQUAL_FATAL(child_get(&c), 1);
	CU_ASSERT_EQUAL(reader_get(&c, &f, FIRST, REACH), 0);
	CU_ASSERT_EQUAL(ftruncate(f.fd, 0), 0);
	CU_ASSERT_EQUAL(reader_get(&c, &f, FIRST, REACH), 0);
	CU_ASSERT_EQUAL(reader_get(&c, &f, 70 * PAGE - 3, 9), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(f.r), 0);
	CU_ASSERT_NOT_EQUAL(reader_get(&c, &f, FIRST, 8), 0);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	munmap(f.mem, LEN);
	close(f.fd);
}

/* A forked child keeps none of the pages. */
static void test_forked(void)
{
	struct file f;
	int status, fd;
	pid_t pid;

	file_make(&f, MAP_SHARED);
	fd = (int)(odp_pin_entry(f.r, 0) >> ODP_PAGE_SHIFT) - 1;
	CU_ASSERT_NOT_EQUAL(fcntl(fd, F_GETFD), -1);
	pid = fork();
	if (!pid)
		_exit(fcntl(fd, F_GETFD) != -1);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_EQUAL(wrong(&f, FIRST, REACH), 0);
	file_end(&f);
	CU_ASSERT_EQUAL(fcntl(fd, F_GETFD), -1);
}

/* Without descriptors for that, the region follows its mapping. In a process of its
 * own, which may not raise its limit again. */
static int role_few(void)
{
	struct odp_region *r;
	struct rlimit low;
	int fd = file_open();
	char *mem = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);

	if (kit_start())
		return 2;
	low.rlim_cur = low.rlim_max = (rlim_t)dup(fd) + 2; /* not enough for three pipes */
	close((int)low.rlim_cur - 2);
	if (setrlimit(RLIMIT_NOFILE, &low))
		return 2;
	r = kit_reg_access(mem, LEN, ODP_PINNED, ODP_ACCESS_REMOTE_READ);
	if (!r || r->mr->backing != ODP_BACKING_VA || *kit_see(r, mem + PAGE) == '?')
		return 3;
	return ftruncate(fd, 0) || strcmp(kit_see(r, mem + PAGE), "?14") ? 4 : 0;
}

static void test_few_fds(void)
{
	struct child c;

	CU_ASSERT_TRUE_FATAL(child_start(&c, "few"));
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

/* ---- what is given by its descriptor ---- */

static int fd_reg(struct file *f, uint64_t offset, size_t len, enum odp_kind kind)
{
	struct odp_region_attr a = {.addr = f->mem + offset + FIRST,
				    .length = len,
				    .iova = (uintptr_t)f->mem + offset + FIRST,
				    .pd = PD,
				    .access = ALL,
				    .kind = kind,
				    .backing = ODP_BACKING_FD,
				    .fd = f->fd,
				    .fd_offset = offset};

	return odp_region_create(kit_proc, &a, &f->r);
}

static void test_descriptor(void)
{
	static char buf[LEN];
	struct child c;
	struct file f;
	int fd;

	f.fd = fd = file_open();
	CU_ASSERT_FATAL(f.fd >= 0);
	f.mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(f.mem, MAP_FAILED);
	CU_ASSERT_EQUAL(fd_reg(&f, 100, PAGE, ODP_ON_DEMAND), -EINVAL);
	CU_ASSERT_EQUAL(fd_reg(&f, PAGE, PAGE, ODP_PINNED), -EINVAL);
	f.fd = -1;
	CU_ASSERT_EQUAL(fd_reg(&f, PAGE, PAGE, ODP_ON_DEMAND), -EINVAL);
	f.fd = fd;
	CU_ASSERT_EQUAL_FATAL(fd_reg(&f, 2 * PAGE, LEN - 3 * PAGE, ODP_ON_DEMAND), 0);
	CU_ASSERT_EQUAL(odp_region_backing(f.r), ODP_BACKING_FD);
	f.fd = dup(fd);
	close(fd);
	CU_ASSERT_EQUAL(wrong(&f, 2 * PAGE + FIRST, LEN - 3 * PAGE), 0);
	for (size_t i = 0; i < LEN; i++)
		buf[i] = (char)(byte_at(i) ^ 0x55);
	CU_ASSERT_EQUAL(kit_write(f.r, f.mem + 3 * PAGE + 7, buf + 3 * PAGE + 7, 40 * PAGE), 0);
	CU_ASSERT_EQUAL(memcmp(f.mem + 3 * PAGE + 7, buf + 3 * PAGE + 7, 40 * PAGE), 0);
	CU_ASSERT_EQUAL((unsigned char)f.mem[3 * PAGE + 6], byte_at(3 * PAGE + 6));
	CU_ASSERT_EQUAL((unsigned char)f.mem[43 * PAGE + 7], byte_at(43 * PAGE + 7));
	CU_ASSERT_TRUE_FATAL(child_start(&c, "reader"));
	child_put(&c, (long)odp_proc_slot(kit_proc));
	CU_ASSERT_EQUAL_FATAL(child_get(&c), 1);
	CU_ASSERT_EQUAL(reader_get(&c, &f, 60 * PAGE + 5, 30 * PAGE), 0);
	/* What lies past the end of it is an error, no signal. */
	CU_ASSERT_EQUAL(ftruncate(f.fd, 50 * PAGE), 0);
	CU_ASSERT_EQUAL(reader_get(&c, &f, 60 * PAGE + 5, 8), -EFAULT);
	CU_ASSERT_STRING_EQUAL(kit_see(f.r, f.mem + 60 * PAGE), "?14");
	CU_ASSERT_EQUAL(kit_write(f.r, f.mem + 60 * PAGE, "x", 1), -EFAULT);
	CU_ASSERT_EQUAL(wrong(&f, 49 * PAGE, PAGE), 0);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	file_end(&f);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {
		{"reader", role_reader}, {"few", role_few}, {NULL, NULL}};
	CU_TestInfo tests[] = {
		{"every byte of several pipes", test_all_of_it},
		{"truncated and unmapped", test_truncated},
		{"a private mapping", test_private},
		{"a range of several mappings", test_mixed},
		{"another process reads", test_peer},
		{"a forked child", test_forked},
		{"too few descriptors", test_few_fds},
		{"given by a descriptor", test_descriptor},
		CU_TEST_INFO_NULL,
	};

	child_main(argc, argv, roles);
	return kit_suite("mem_read", tests);
}
