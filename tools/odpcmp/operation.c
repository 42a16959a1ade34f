/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The kinds of regions, the RDMA operations, and how each is judged. */
#include <infiniband/verbs.h>
#include <string.h>

#include "odpcmp.h"

const struct mr_name mr_names[NUM_MR_KINDS] = {
	[MR_PINNED] = {
		.name = "pinned",
		.help = "registered without IBV_ACCESS_ON_DEMAND",
		.title = "pinned",
	},
	[MR_ODP] = {
		.name = "odp",
		.help = "registered with IBV_ACCESS_ON_DEMAND",
		.title = "on demand",
		.access = IBV_ACCESS_ON_DEMAND,
	},
};

/* True if the transfer succeeded; if not, the answer is given. */
static bool transfer(struct rdma *rdma, struct memory *m, int opcode, struct answer *answer)
{
	char name[24];
	int status = rdma_transfer(rdma, opcode, memory_window(m), m->window, m->page);

	if (status < 0) {
		answer_fail(answer, "failed", "cannot transfer: %s",
			    errno_name(-status, name, sizeof(name)));
		return false;
	}
	answer_wc(answer, status);
	return status == IBV_WC_SUCCESS;
}

static const char *data_text(enum tag tag)
{
	switch (tag) {
	case TAG_OLD:
		return "old";
	case TAG_NEW:
		return "new";
	case TAG_CHILD:
		return "child's";
	case TAG_ZERO:
		return "zeros";
	case TAG_MIXED:
		return "mixed";
	case TAG_REMOTE:
	case TAG_ALIEN:
	case TAG_NOTHING:
		break;
	}
	return "alien";
}

static void read_run(struct rdma *rdma, struct memory *m, struct answer *answer)
{
	/* Data that no event leaves behind: what stays of it was not read. */
	memset(rdma->buf, 0xee, rdma->len);
	if (transfer(rdma, m, IBV_WR_RDMA_READ, answer))
		answer_set(answer, data_text(pattern_find(rdma->buf, m->window, m->page)));
}

/* The child of a fork has its own copy of private memory, and shares the rest. */
static const char *child_text(struct memory *m)
{
	bool shared = m->kind->flags & KIND_SHARED;
	bool sees = fork_child_sees(m) == TAG_REMOTE;

	if (sees == shared)
		return "visible";
	return sees ? "leaks to child" : "not in child";
}

static const char *landing_text(struct memory *m)
{
	enum tag here = memory_see(m, memory_window(m));
	enum tag moved = m->moved ? memory_see(m, m->moved) : TAG_NOTHING;
	enum tag file = TAG_NOTHING;

	if ((m->kind->flags & (KIND_FILE | KIND_SHARED)) == (KIND_FILE | KIND_SHARED))
		file = memory_see_file(m);

	if (here == TAG_REMOTE)
		return m->child ? child_text(m) : "visible";
	if (here == TAG_MIXED)
		return "mixed";
	if (moved == TAG_REMOTE)
		return "moved only";
	if (file == TAG_REMOTE)
		return "file only";
	if (here == TAG_NOTHING && moved == TAG_NOTHING && file == TAG_NOTHING)
		return "no view";
	return "not visible";
}

static void write_run(struct rdma *rdma, struct memory *m, struct answer *answer)
{
	pattern_fill(rdma->buf, m->window, m->page, TAG_REMOTE);
	if (transfer(rdma, m, IBV_WR_RDMA_WRITE, answer))
		answer_set(answer, landing_text(m));
}

const struct operation operations[] = {
	{
		.name = "read",
		.help = "RDMA READ: what the peer reads",
		.title = "READ sees",
		.run = read_run,
	},
	{
		.name = "write",
		.help = "RDMA WRITE: whether the program sees it",
		.title = "WRITE is",
		.run = write_run,
	},
};

const size_t num_operations = ARRAY_SIZE(operations);
_Static_assert(ARRAY_SIZE(operations) <= MAX_OPS, "raise MAX_OPS");
