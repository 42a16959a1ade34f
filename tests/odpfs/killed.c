/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What goes on at a mount of odpfs when it is killed: a memory region, stores to it all
 * the time, holes punched under it, and all that makes odpfs ask the kernel for its dirty
 * pages. Says one byte on stdout when that is under way. Usage: killed FILE
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <odp/odp.h>

#define LEN (64 * (size_t)4096)

static char *mem;
static int fd;

static void *store_thread(void *arg)
{
	for (size_t i = (size_t)arg;; i += 4096)
		mem[i % LEN] = (char)i; /* SIGBUS in the end */
	return NULL;
}

static void *punch_thread(void *arg)
{
	(void)arg;
	while (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)LEN))
		;
	return NULL;
}

static void *seek_thread(void *arg)
{
	(void)arg;
	while (lseek(fd, 0, SEEK_HOLE) >= 0)
		;
	return NULL;
}

static void *truncate_thread(void *arg)
{
	while (!ftruncate(fd, (off_t)LEN + 4096) && !truncate(arg, (off_t)LEN))
		;
	return NULL;
}

static int region_make(void)
{
	struct odp_region_attr attr = {.addr = mem,
				       .length = LEN,
				       .iova = (uintptr_t)mem,
				       .access = ODP_ACCESS_LOCAL_WRITE | ODP_ACCESS_REMOTE_WRITE,
				       .kind = ODP_ON_DEMAND,
				       .policy = ODP_POLICY_ODP};
	struct odp_region *region;
	struct odp_proc *proc;
	int err = odp_proc_get(&proc);

	return err ? err : odp_region_create(proc, &attr, &region);
}

int main(int argc, char **argv)
{
	pthread_t threads[5];

	if (argc != 2)
		return 2;
	fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)LEN))
		return 1;
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED || region_make())
		return 1;
	pthread_create(&threads[0], NULL, store_thread, NULL);
	pthread_create(&threads[1], NULL, store_thread, (void *)1);
	pthread_create(&threads[2], NULL, punch_thread, NULL);
	pthread_create(&threads[3], NULL, seek_thread, NULL);
	pthread_create(&threads[4], NULL, truncate_thread, argv[1]);
	if (write(1, "!", 1) != 1)
		return 1;
	for (int i = 0; i < 5; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
