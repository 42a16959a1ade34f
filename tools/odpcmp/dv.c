/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The direct verbs of uodp, if they are loaded: odpcmp is linked with none. Without
 * them the policy is what $UODP_POLICY says.
 */
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/uodpdv.h>

#include "odpcmp.h"

_Static_assert(NUM_POLICIES == UODPDV_POLICY_DENY + 1, "policies have uodpdv's numbers");

typedef struct ibv_mr *(*reg_fn)(struct ibv_pd *pd, void *addr, size_t length, int access,
				 const struct uodpdv_mr_init_attr *attr, uint32_t inlen);
typedef int (*query_fn)(struct ibv_mr *mr, struct uodpdv_mr_attr *attr, uint32_t inlen);

bool dv_has_policies(void)
{
	return dlsym(RTLD_DEFAULT, "uodpdv_reg_mr");
}

struct ibv_mr *dv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access, size_t policy,
			 unsigned int lease_ms)
{
	struct uodpdv_mr_init_attr attr = {
		.comp_mask = UODPDV_MR_INIT_ATTR_POLICY | UODPDV_MR_INIT_ATTR_LEASE,
		.policy = policy,
		.lease_ms = lease_ms,
	};
	reg_fn reg = (reg_fn)dlsym(RTLD_DEFAULT, "uodpdv_reg_mr");

	if (!reg)
		return ibv_reg_mr(pd, addr, length, access);
	return reg(pd, addr, length, access, &attr, sizeof(attr));
}

bool dv_is_revoked(struct ibv_mr *mr)
{
	query_fn query = (query_fn)dlsym(RTLD_DEFAULT, "uodpdv_query_mr");
	struct uodpdv_mr_attr attr = {.comp_mask = 0};

	return mr && query && !query(mr, &attr, sizeof(attr)) && attr.revoked;
}

void dv_events(struct ibv_mr *mr, char *buf, size_t len)
{
	query_fn query = (query_fn)dlsym(RTLD_DEFAULT, "uodpdv_query_mr");
	struct uodpdv_mr_attr attr = {.comp_mask = 0};

	*buf = 0;
	if (!query || query(mr, &attr, sizeof(attr)) || !attr.seen)
		return;
	snprintf(buf, len, "%s",
		 attr.seen & UODPDV_SEEN_KERNEL ? "every event"
		 : attr.seen & UODPDV_SEEN_CALLS
			 ? "the program's own calls, and pages that an access finds gone"
			 : "pages that an access finds gone");
}
