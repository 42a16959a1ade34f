/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* One page of HTML that needs nothing from elsewhere. */
#ifndef ODPCMP_REPORT_H
#define ODPCMP_REPORT_H

#include "traffic.h"

/* theirs, accepted and traffic may be NULL. Complains itself. */
bool report_write(const char *path, const struct matrix *matrix, const struct matrix *theirs,
		  struct accepted *accepted, const struct traffic *traffic);

struct report {
	FILE *out;
	const struct matrix *matrix;
	const struct matrix *theirs;
	struct accepted *accepted;
	const struct traffic *traffic;
};

/* Text that is data; report_style.c, report_matrix.c, report_traffic.c below. */
void report_text(FILE *out, const char *text);
void report_style(FILE *out);
void report_legend(const struct report *r);
void report_matrix(const struct report *r);
void report_differences(const struct report *r);
void report_traffic(const struct report *r);
/* The cells with a policy (report_policy.c), and one cell of either table. */
void report_policies(const struct report *r);
void report_cell(const struct report *r, struct cell_at at);

/* What the page sums up. */
struct report_tally {
	size_t determined;
	size_t failed;
	size_t rows; /* with both kinds of region */
	size_t rows_differ;
	size_t same; /* as the other device */
	size_t differ;
	size_t accepted;
};

struct report_tally report_count(const struct report *r);
/* The reason why a cell that differs may, or NULL. */
const char *report_reason(const struct report *r, struct cell_at at);

#endif
