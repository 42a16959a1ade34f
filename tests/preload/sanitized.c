/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A program for sanitizers: it ends with pages of registered memory missing, and, when
 * told to, with one block lost.
 *
 *   sanitized untouched|discarded kept|deregistered|closed [lost]
 */
#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LEN ((size_t)4 << 20)
#define LOST 77

/* What a leak checker may start from. */
static struct {
	struct ibv_device **list;
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	char *mem;
	void *block;
} all;

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	_Exit(9);
}

static void open_all(void)
{
	all.list = ibv_get_device_list(NULL);
	need(all.list && all.list[0], "ibv_get_device_list");
	all.ctx = ibv_open_device(all.list[0]);
	need(all.ctx, "ibv_open_device");
	all.pd = ibv_alloc_pd(all.ctx);
	need(all.pd, "ibv_alloc_pd");
}

/* Half of a block of malloc(): the other half is its neighbour, missing too. */
static void reg(bool discard)
{
	char *page;

	all.mem = malloc(LEN);
	need(all.mem, "malloc");
	page = (char *)(((uintptr_t)all.mem + 4095) & ~(uintptr_t)4095);
	if (discard)
		memset(all.mem, 1, LEN);
	all.mr =
		ibv_reg_mr(all.pd, all.mem, LEN / 2, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
	need(all.mr, "ibv_reg_mr");
	if (discard)
		need(!madvise(page, LEN / 4, MADV_DONTNEED), "madvise");
}

int main(int argc, char **argv)
{
	const char *state = argc > 2 ? argv[2] : "";

	open_all();
	reg(argc > 1 && !strcmp(argv[1], "discarded"));
	if (strcmp(state, "kept"))
		need(!ibv_dereg_mr(all.mr), "ibv_dereg_mr");
	if (!strcmp(state, "closed")) {
		ibv_dealloc_pd(all.pd);
		ibv_close_device(all.ctx);
		ibv_free_device_list(all.list);
	}
	if (argc > 3) {
		all.block = malloc(LOST);
		need(all.block, "malloc");
		all.block = NULL;
	}
	return 0;
}
