/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Truncates under transfers, and more truncates at once than odpfs has workers. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "recall.h"

/* ---- no byte of a transfer gets into what the file has after a truncate ---- */

struct load {
	uint32_t key;
	uint64_t addr;
	_Atomic bool stop;
	_Atomic unsigned long written; /* transfers that succeeded */
};

static void *load_thread(void *arg)
{
	struct load *load = arg;
	char data[2 * PAGE];

	memset(data, 'T', sizeof(data));
	/* Relaxed: the flag is all that is told. */
	while (!atomic_load_explicit(&load->stop, memory_order_relaxed)) {
		if (!key_write(odp_proc_self(proc), load->key, load->addr + 5 * PAGE, data,
			       sizeof(data)))
			atomic_fetch_add_explicit(&load->written, 1, memory_order_relaxed);
	}
	return NULL;
}

static bool no_transfer_in(int fd)
{
	char data[4 * PAGE];
	ssize_t n = pread(fd, data, sizeof(data), 4 * PAGE);

	return n == (ssize_t)sizeof(data) && !memchr(data, 'T', sizeof(data));
}

static void load_round(int fd, char *mem, enum odp_policy policy, unsigned round)
{
	struct odp_region *region = region_make(mem, LEN, policy, 0);
	struct load load = {.addr = (uintptr_t)mem};
	pthread_t thread;

	CHECK(region);
	if (!region)
		return;
	load.key = odp_region_key(region);
	CHECK(!pthread_create(&thread, NULL, load_thread, &load));
	/* Relaxed, here and below: a count to wait for. */
	while (atomic_load_explicit(&load.written, memory_order_relaxed) < 3)
		usleep(10);
	if (round & 1) {
		CHECK(!ftruncate(fd, 4 * PAGE) && !ftruncate(fd, LEN));
	} else {
		CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE,
				 4 * PAGE));
	}
	CHECK(no_transfer_in(fd));
	/* Neither what is in the cache, nor what is written back and read again. */
	CHECK(!fsync(fd) && !posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	CHECK(no_transfer_in(fd));
	atomic_store_explicit(&load.stop, true, memory_order_relaxed);
	pthread_join(thread, NULL);
	CHECK(no_transfer_in(fd));
	CHECK(!odp_region_destroy(region));
}

void load_run(enum odp_policy policy)
{
	int before = failures, fd = file_make("file", "old");
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(mem != MAP_FAILED);
	for (unsigned round = 0; round < 40 && failures == before; round++)
		load_round(fd, mem, policy, round);
	munmap(mem, LEN);
	close(fd);
	printf("%s %s under load\n", before == failures ? "ok    " : "FAILED",
	       odp_policy_name(policy));
}

/* ---- each truncate waits for a lease, and has pages to be read through odpfs ---- */

#define CROWD 100

struct one {
	char name[32];
	int fd;
	void *mem;
	struct odp_region *region;
	pthread_t thread;
};

static void *crowd_thread(void *arg)
{
	struct one *one = arg;

	CHECK(!ftruncate(one->fd, 0));
	return NULL;
}

static void crowd_join(struct one *one, unsigned i)
{
	snprintf(one->name, sizeof(one->name), "crowd-%u", i);
	one->fd = file_make(one->name, "old");
	one->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, one->fd, 0);
	CHECK(one->mem != MAP_FAILED);
	one->region = region_make(one->mem, LEN, i & 1 ? ODP_POLICY_LEASE : ODP_POLICY_PINNED, 300);
	CHECK(one->region);
	/* Out of the cache: the copies that pinning makes are read from odpfs. */
	CHECK(!fsync(one->fd) && !posix_fadvise(one->fd, 0, 0, POSIX_FADV_DONTNEED));
}

void crowd_run(void)
{
	static struct one ones[CROWD];
	int before = failures;

	for (unsigned i = 0; i < CROWD; i++)
		crowd_join(&ones[i], i);
	for (unsigned i = 0; i < CROWD; i++)
		CHECK(!pthread_create(&ones[i].thread, NULL, crowd_thread, &ones[i]));
	for (unsigned i = 0; i < CROWD; i++) {
		pthread_join(ones[i].thread, NULL);
		if (ones[i].region) {
			CHECK(odp_region_revoked(ones[i].region) == (i & 1));
			CHECK(!odp_region_destroy(ones[i].region));
		}
		munmap(ones[i].mem, LEN);
		close(ones[i].fd);
		CHECK(!unlink(ones[i].name));
	}
	printf("%s %d truncates at once\n", before == failures ? "ok    " : "FAILED", CROWD);
}
