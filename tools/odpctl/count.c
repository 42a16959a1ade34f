/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* How much of everything a process has. */
#include <infiniband/verbs.h>

#include "odpctl.h"

static void count_qps(struct counts *c, const struct process *p, struct scan *s)
{
	const struct uodp_qp_shm *qp;

	scan_begin(s, p, p->root->qps, sizeof(*qp), p->root->qp_high,
		   offsetof(struct uodp_qp_shm, gen));
	while ((qp = scan_next(s))) {
		if (!(qp->gen & 1))
			continue;
		c->qps++;
		c->qps_rts += qp->state == IBV_QPS_RTS;
	}
}

static uint64_t count_used(const struct process *p, struct scan *s, uint64_t base, size_t size,
			   uint32_t high, size_t gen_off)
{
	const char *record;
	uint64_t count = 0;

	scan_begin(s, p, base, size, high, gen_off);
	while ((record = scan_next(s)))
		count += *(const uint32_t *)(record + gen_off) & 1;
	return count;
}

static void count_mrs(struct counts *c, const struct process *p, struct scan *s)
{
	const struct odp_mr_shm *mr;

	scan_begin(s, p, offsetof(struct odp_seg, mrs), sizeof(*mr), p->regions,
		   offsetof(struct odp_mr_shm, key));
	while ((mr = scan_next_mr(s))) {
		const uint64_t bytes = mr->npages << ODP_PAGE_SHIFT;

		c->mrs++;
		c->page_faults += mr->page_faults;
		c->page_invalidations += mr->page_invalidations;
		if (mr->kind == ODP_ON_DEMAND) {
			c->mrs_odp++;
			c->odp += bytes;
		} else if (mr->kind == ODP_PINNED) {
			c->pinned += bytes;
		}
	}
}

void counts_add(struct counts *c, const struct process *p)
{
	struct scan s;
	uint64_t pool;

	if (p->root) {
		count_qps(c, p, &s);
		c->cqs += count_used(p, &s, p->root->cqs, sizeof(struct uodp_cq_shm),
				     p->root->cq_high, offsetof(struct uodp_cq_shm, gen));
		c->srqs += count_used(p, &s, p->root->srqs, sizeof(struct uodp_srq_shm),
				      p->root->srq_high, offsetof(struct uodp_srq_shm, gen));
	}
	count_mrs(c, p, &s);
	if (process_pool(p, &pool))
		c->pool += pool;
}
