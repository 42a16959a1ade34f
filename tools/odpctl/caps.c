/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What the host allows. */
#include <stdio.h>

#include "odpctl.h"

#define CAPS_MAX 64

enum { K_NAME, K_PRESENT, K_DETAIL, K_COST, K_REMEDY, K_COLUMNS };

static const struct column columns[K_COLUMNS] = {
	[K_NAME] = {"name", "NAME", COLUMN_TEXT, 0},
	[K_PRESENT] = {"present", "PRESENT", COLUMN_TEXT, 0},
	[K_DETAIL] = {"detail", "DETAIL", COLUMN_TEXT, 40},
	[K_COST] = {"cost", "WITHOUT IT", COLUMN_TEXT, 46},
	[K_REMEDY] = {"remedy", NULL, COLUMN_TEXT, 0},
};

void caps_show(struct ctl *ctl)
{
	struct odp_cap caps[CAPS_MAX] = {0};
	struct table t;
	int i, n = odp_caps(caps, CAPS_MAX);

	table_begin(&t, ctl, columns, K_COLUMNS);
	for (i = 0; i < n && i < CAPS_MAX; i++) {
		table_text(&t, K_NAME, caps[i].name);
		table_bool(&t, K_PRESENT, caps[i].present);
		table_text(&t, K_DETAIL, caps[i].detail);
		table_text(&t, K_COST, caps[i].cost);
		if (*caps[i].remedy)
			table_text(&t, K_REMEDY, caps[i].remedy);
		table_row(&t);
		if (!caps[i].present)
			ctl->status = CTL_FAILED;
	}
	table_end(&t);
	for (i = 0; !ctl->json && i < n && i < CAPS_MAX; i++)
		if (*caps[i].remedy)
			printf("\nTo allow %s: %s\n", caps[i].name, caps[i].remedy);
}
