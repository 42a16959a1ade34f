/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Registers memory, some of it left out of core dumps, and aborts, or waits for gcore. */
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEN ((size_t)1 << 20)

static char *volatile kept, *volatile left_out, *volatile untouched; /* for gdb */

static char *reg(struct ibv_pd *pd, char fill, int flags)
{
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		exit(9);
	if (fill == 'o')
		madvise(mem, LEN, MADV_DONTDUMP);
	if (fill)
		memset(mem, fill, LEN / 2);
	if (!ibv_reg_mr(pd, mem, LEN, IBV_ACCESS_LOCAL_WRITE | flags))
		exit(9);
	if (fill)
		mem[5000] = 'w';
	return mem;
}

int main(int argc, char **argv)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *ctx = list && list[0] ? ibv_open_device(list[0]) : NULL;
	struct ibv_pd *pd = ctx ? ibv_alloc_pd(ctx) : NULL;
	int flags = argc > 2 && !strcmp(argv[2], "odp") ? IBV_ACCESS_ON_DEMAND : 0;

	if (!pd || argc < 2)
		return 9;
	kept = reg(pd, 'k', flags);
	left_out = reg(pd, 'o', flags);
	untouched = reg(pd, 0, flags);
	puts("ready");
	fflush(stdout);
	if (!strcmp(argv[1], "abort"))
		abort();
	pause();
	return 0;
}
