/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The matrix in colour, and what differs from another device. */
#include <string.h>

#include "report.h"

/* ---- classes of answers: one colour each ---- */

static bool is_among(const char *text, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(text, *list))
			return true;
	return false;
}

/*
 * Old data is stale if what RDMA writes there does not reach the program either;
 * else the program has simply written nothing since.
 */
static bool is_stale(const struct matrix *matrix, struct cell_at at)
{
	static const char *const apart[] = {"not visible", "moved only", "file only", "no view",
					    NULL};
	const struct answer *answer;
	bool asked = false;

	for (at.op = 0; at.op < num_operations; at.op++) {
		answer = matrix_cell(matrix, at);
		asked |= answer->state == ANSWER_GOOD && strcmp(operations[at.op].name, "read");
		if (answer->state == ANSWER_GOOD && is_among(answer->text, apart))
			return true;
	}
	return !asked;
}

static const char *answer_class(const struct matrix *matrix, struct cell_at at)
{
	static const char *const follow[] = {
		"new",          "zeros",        "child's",        "visible",
		"new, visible", "old, visible", "zeros, visible", NULL};
	static const char *const odd[] = {"mixed",        "alien",           "leaks to child",
					  "not in child", "partly in child", NULL};
	const struct answer *answer = matrix_cell(matrix, at);

	switch (answer->state) {
	case ANSWER_NONE:
	case ANSWER_NA:
		return "none";
	case ANSWER_FAILED:
		return "failed";
	case ANSWER_GOOD:
		break;
	}
	if (!strncmp(answer->text, "reg ", 4))
		return "refused";
	if (*answer->status && strcmp(answer->status, "IBV_WC_SUCCESS"))
		return "error";
	/* Memory outside the file, as it was at first. */
	if (at.policy && !strcmp(answer->text, "zeros") && is_stale(matrix, at))
		return "stale";
	if (is_among(answer->text, follow))
		return "follow";
	if (is_among(answer->text, odd) || strstr(answer->text, "mixed"))
		return "odd";
	return strcmp(answer->text, "old") || is_stale(matrix, at) ? "stale" : "follow";
}

void report_legend(const struct report *r)
{
	static const struct {
		const char *class;
		const char *sample;
		const char *meaning;
	} entries[] = {
		{"follow", "new, visible, zeros", "RDMA and the program see the same memory"},
		{"stale", "old, not visible", "RDMA has the pages from before the event"},
		{"error", "…_ERR", "status of the work completion; after a / the responder's"},
		{"refused", "reg …", "ibv_reg_mr() refused, with this errno"},
		{"odd", "mixed, alien", "pages differ, or hold what nobody here wrote"},
		{"failed", "failed, timeout", "could not be determined"},
	};
	size_t i;

	fputs("<section><h2>Legend</h2>\n<ul class=legend>\n", r->out);
	for (i = 0; i < ARRAY_SIZE(entries); i++)
		fprintf(r->out, "<li><span class=%s>%s</span>%s</li>\n", entries[i].class,
			entries[i].sample, entries[i].meaning);
	fputs("<li><span>moved only</span>seen where mremap() moved the page</li>\n"
	      "<li><span>file only</span>seen in the file, not at the address</li>\n"
	      "<li><span>no view</span>succeeded; the program has nothing to see it through</li>\n"
	      "<li><span>old, visible</span>FETCH_ADD: what it fetched, where the sum is</li>\n",
	      r->out);
	if (r->theirs)
		fputs("<li><span class=unlike>answer</span>unlike the other device</li>\n"
		      "<li><span class=accepted>answer</span>unlike it, accepted with a "
		      "reason</li>\n",
		      r->out);
	fputs("<li><span>≠</span>pinned and on-demand regions differ</li>\n</ul></section>\n",
	      r->out);
}

/* ---- what is there to show ---- */

static bool op_asked(const struct matrix *matrix, size_t mr, size_t op)
{
	size_t kind, event;

	for (kind = 0; kind < num_kinds; kind++)
		for (event = 0; event < num_events; event++)
			if (matrix_cell(matrix, (struct cell_at){kind, event, mr, op, 0})->state >
			    ANSWER_NA)
				return true;
	return false;
}

static bool row_asked(const struct matrix *matrix, size_t kind, size_t event)
{
	size_t mr, op;

	for (mr = 0; mr < NUM_MR_KINDS; mr++)
		for (op = 0; op < num_operations; op++)
			if (matrix_cell(matrix, (struct cell_at){kind, event, mr, op, 0})->state >
			    ANSWER_NA)
				return true;
	return false;
}

/* Both kinds of region answered, or not; *differs: differently. */
static bool row_comparable(const struct matrix *matrix, size_t kind, size_t event, bool *differs)
{
	const struct answer *pinned, *odp;
	bool comparable = false;
	size_t op;

	*differs = false;
	for (op = 0; op < num_operations; op++) {
		pinned = matrix_cell(matrix, (struct cell_at){kind, event, MR_PINNED, op, 0});
		odp = matrix_cell(matrix, (struct cell_at){kind, event, MR_ODP, op, 0});
		if (pinned->state != ANSWER_GOOD || odp->state != ANSWER_GOOD)
			continue;
		comparable = true;
		*differs |= strcmp(pinned->text, odp->text);
	}
	return comparable;
}

/* ---- the table ---- */

static void print_head(const struct report *r, bool asked[NUM_MR_KINDS][MAX_OPS])
{
	size_t mr, op, columns;

	fputs("<thead><tr><th>", r->out);
	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		for (op = 0, columns = 0; op < num_operations; op++)
			columns += asked[mr][op];
		if (columns)
			fprintf(r->out, "<td class=gap><th class=of colspan=%zu>%s", columns,
				mr_names[mr].title);
	}
	fputs("</tr>\n<tr><th>event", r->out);
	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		for (op = 0, columns = 0; op < num_operations; op++)
			if (asked[mr][op])
				fprintf(r->out, "%s<th>%s", columns++ ? "" : "<td class=gap>",
					operations[op].title);
	}
	fputs("</tr></thead>\n", r->out);
}

const char *report_reason(const struct report *r, struct cell_at at)
{
	struct cell_name name = cell_name(at);

	char a[BRIEF], b[BRIEF];

	return accept_reason(r->accepted, &name,
			     answer_brief(matrix_cell(r->matrix, at), a, sizeof(a)),
			     answer_brief(matrix_cell(r->theirs, at), b, sizeof(b)));
}

/* Two statuses may stand on two lines. */
static void print_breakable(FILE *out, const char *text)
{
	const char *slash = strchr(text, '/');

	if (slash)
		fprintf(out, "%.*s/<wbr>", (int)(slash - text), text);
	report_text(out, slash ? slash + 1 : text);
}

void report_cell(const struct report *r, struct cell_at at)
{
	const struct answer *answer = matrix_cell(r->matrix, at), *theirs = NULL;

	if (r->theirs)
		theirs = matrix_cell(r->theirs, at);
	if (theirs && compare_cell(answer, theirs) != COMPARE_DIFFERS)
		theirs = NULL;
	fprintf(r->out, "<td class=\"%s%s\"", answer_class(r->matrix, at),
		!theirs                ? ""
		: report_reason(r, at) ? " accepted"
				       : " unlike");
	if (theirs || *answer->note) {
		fputs(" title=\"", r->out);
		if (theirs) {
			report_text(r->out, r->theirs->env.device);
			fputs(": ", r->out);
			report_text(r->out, theirs->text);
		}
		report_text(r->out, *answer->note && theirs ? "; " : "");
		report_text(r->out, answer->note);
		fputc('"', r->out);
	}
	fputc('>', r->out);
	if (answer->state > ANSWER_NA)
		print_breakable(r->out, answer->text);
}

static void print_row(const struct report *r, bool asked[NUM_MR_KINDS][MAX_OPS], size_t kind,
		      size_t event)
{
	size_t mr, op, columns;
	bool differs;

	row_comparable(r->matrix, kind, event, &differs);
	fprintf(r->out, "<tr class=%s><th title=\"%s\">%s", differs ? "differs" : "same",
		events[event].help, events[event].name);
	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		for (op = 0, columns = 0; op < num_operations; op++) {
			if (!asked[mr][op])
				continue;
			if (!columns++)
				fputs("<td class=gap>", r->out);
			report_cell(r, (struct cell_at){kind, event, mr, op, 0});
		}
	}
	fputs("</tr>\n", r->out);
}

/* With policies alone there is no other table. */
static bool any_asked(bool asked[NUM_MR_KINDS][MAX_OPS])
{
	size_t mr, op;

	for (mr = 0; mr < NUM_MR_KINDS; mr++)
		for (op = 0; op < num_operations; op++)
			if (asked[mr][op])
				return true;
	return false;
}

void report_matrix(const struct report *r)
{
	bool asked[NUM_MR_KINDS][MAX_OPS];
	size_t kind, event, mr, op, columns = 1, rows;

	for (mr = 0; mr < NUM_MR_KINDS; mr++)
		for (op = 0; op < num_operations; op++)
			columns += asked[mr][op] = op_asked(r->matrix, mr, op);
	if (!any_asked(asked))
		return;
	fputs("<section><h2>Matrix</h2>\n<p class=note>Each cell: register, let the event happen, "
	      "transfer, look. Hover over an event for what it is.\n"
	      "<div class=scroll><table class=matrix>\n",
	      r->out);
	print_head(r, asked);
	for (kind = 0; kind < num_kinds; kind++) {
		for (event = 0, rows = 0; event < num_events; event++) {
			if (!row_asked(r->matrix, kind, event))
				continue;
			if (!rows++)
				fprintf(r->out,
					"<tbody><tr><th class=kind colspan=%zu><b>%s</b>"
					"<span class=note>%s</span></tr>\n",
					columns + NUM_MR_KINDS, kinds[kind].name, kinds[kind].help);
			print_row(r, asked, kind, event);
		}
		if (rows)
			fputs("</tbody>\n", r->out);
	}
	fputs("</table></div></section>\n", r->out);
}

/* ---- against the other device ---- */

static void print_difference(const struct report *r, struct cell_at at)
{
	struct cell_name name = cell_name(at);
	const struct answer *ours = matrix_cell(r->matrix, at);
	const struct answer *theirs = matrix_cell(r->theirs, at);
	const char *reason = report_reason(r, at);
	char brief[BRIEF];

	fprintf(r->out, "<tr><td>%s<td>%s%s%s<td>%s<td>%s<td>", name.kind, name.event,
		*name.policy ? ", " : "", name.policy, name.mr, name.op);
	report_text(r->out, answer_brief(ours, brief, sizeof(brief)));
	fputs("<td>", r->out);
	report_text(r->out, answer_brief(theirs, brief, sizeof(brief)));
	fputs("<td>", r->out);
	report_text(r->out, reason ? reason : "not accepted");
	fputs("</tr>\n", r->out);
}

static void print_difference_table(const struct report *r)
{
	struct cell_at at = CELL_START;

	fputs("<div class=scroll><table class=plain>\n<tr><th>memory<th>event<th>region"
	      "<th>operation<th>",
	      r->out);
	report_text(r->out, r->matrix->env.device);
	fputs("<th>", r->out);
	report_text(r->out, r->theirs->env.device);
	fputs("<th>reason</tr>\n", r->out);
	while (cell_next(&at))
		if (compare_cell(matrix_cell(r->matrix, at), matrix_cell(r->theirs, at)) ==
		    COMPARE_DIFFERS)
			print_difference(r, at);
	fputs("</table></div>\n", r->out);
}

void report_differences(const struct report *r)
{
	struct report_tally tally = report_count(r);

	fputs("<section><h2>Against ", r->out);
	report_text(r->out, r->theirs->env.device);
	fprintf(r->out, "</h2>\n<p>%zu cells compared; %zu differ",
		tally.same + tally.differ + tally.accepted, tally.differ);
	if (tally.accepted)
		fprintf(r->out, ", and %zu more differ as accepted", tally.accepted);
	fputs(".\n", r->out);
	if (tally.differ + tally.accepted) {
		if (!tally.differ)
			fputs("<details><summary>The accepted ones</summary>\n", r->out);
		print_difference_table(r);
		if (!tally.differ)
			fputs("</details>\n", r->out);
	}
	fputs("</section>\n", r->out);
}

static void count_cell(const struct report *r, struct report_tally *tally, struct cell_at at)
{
	const struct answer *answer = matrix_cell(r->matrix, at);

	tally->determined += answer->state == ANSWER_GOOD;
	tally->failed += answer->state == ANSWER_FAILED;
	if (!r->theirs)
		return;
	switch (compare_cell(answer, matrix_cell(r->theirs, at))) {
	case COMPARE_SAME:
		tally->same++;
		break;
	case COMPARE_DIFFERS:
		if (report_reason(r, at))
			tally->accepted++;
		else
			tally->differ++;
		break;
	case COMPARE_NOTHING:
	case COMPARE_MISSING:
		break;
	}
}

struct report_tally report_count(const struct report *r)
{
	struct report_tally tally = {0};
	struct cell_at at = CELL_START;
	bool differs;

	while (cell_next(&at)) {
		count_cell(r, &tally, at);
		if (at.mr || at.op || at.policy)
			continue;
		tally.rows += row_comparable(r->matrix, at.kind, at.event, &differs);
		tally.rows_differ += differs;
	}
	return tally;
}
