/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What may become of a region when the blocks of its file go away: uodp(7). */
#include "odpcmp.h"

const struct policy policies[NUM_POLICIES] = {
	{.name = "", .help = "none is named", .term = ""},
	{
		.name = "odp",
		.help = "the region follows the file: to its new pages, or to an error",
		.term = "retarget to the file (on-demand paging)",
	},
	{
		.name = "pinned",
		.help = "it goes on with copies of the old pages",
		.term = "retarget to orphans (what a long-term pin means)",
	},
	{
		.name = "scratch",
		.help = "it goes on outside the file, and what is written is lost",
		.term = "retarget to scratch memory",
	},
	{
		.name = "revoke",
		.help = "its accesses fail until it is deregistered",
		.term = "revoke",
	},
	{
		.name = "lease",
		.help = "its owner is told and has time to deregister it; then as revoke",
		.term = "lease, then revoke",
	},
	{
		.name = "kill",
		.help = "as lease, and at the end the owner is killed",
		.term = "lease, then SIGKILL",
	},
	{
		.name = "deny",
		.help = "the truncate fails with ETXTBSY",
		.term = "deny (the file is busy)",
	},
};
