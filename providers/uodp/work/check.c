/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What is wrong with a work request, as far as its own process can tell. */
#include "exec.h"

static bool is_atomic(const struct uodp_swqe *w)
{
	return w->opcode == IBV_WR_ATOMIC_CMP_AND_SWP || w->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
}

bool uodp_own_sges_ok(const struct uodp_qp *qp, const struct uodp_swqe *w, uint32_t access)
{
	struct odp_span span;

	for (uint32_t i = 0; i < w->num_sge; i++)
		if (odp_span_region(&span, qp->proc->self, w->sge[i].lkey, qp->pd->num,
				    w->sge[i].addr, w->sge[i].length, access))
			return false;
	return true;
}

enum ibv_wc_status uodp_own_check_rest(const struct uodp_qp *qp, const struct uodp_swqe *w)
{
	if (w->opcode == IBV_WR_BIND_MW || w->opcode == IBV_WR_LOCAL_INV)
		return UODP_WC_OURS;
	/* An atomic's result has one length. */
	if (is_atomic(w))
		return w->length == sizeof(uint64_t) ? IBV_WC_SUCCESS : IBV_WC_LOC_LEN_ERR;
	return uodp_own_sges_ok(qp, w, 0) ? IBV_WC_SUCCESS : IBV_WC_LOC_PROT_ERR;
}
