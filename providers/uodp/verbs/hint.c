/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Refusals whose errno alone leaves a newcomer at a loss: one line says what to do. Once:
 * programs that try what a device can do go on without it.
 */
#include "uodp.h"

static const char *const lines[UODP_NUM_HINTS] = {
	[UODP_HINT_GRH] = "a path without a GRH: the port is RoCE, give the index of a GID "
			  "(ibv_rc_pingpong -g 1, perftest -x 1; in programs ah_attr.is_global and "
			  "ah_attr.grh), or make it InfiniBand (UODP_LINK_LAYER=infiniband)",
	[UODP_HINT_QP_TYPE] =
		"there is no queue pair of type %u (enum ibv_qp_type): RC (2), UC (3), UD (4) "
		"and XRC (9, 10) are there; see LIMITS and NOTES in uodp(7)",
	[UODP_HINT_QP_EX] =
		"ibv_create_qp_ex: of comp_mask and create_flags, %#x is not there; see "
		"NOTES in uodp(7)",
};

void uodp_hint(enum uodp_hint hint, unsigned value)
{
	static _Atomic uint32_t said;

	/* relaxed: a bit that orders nothing */
	if (atomic_fetch_or_explicit(&said, 1u << hint, memory_order_relaxed) & 1u << hint)
		return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
	odp_log(ODP_LOG_WARN, lines[hint], value);
#pragma GCC diagnostic pop
}
