/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Policies for files whose blocks go away, each with its row. */
#include <string.h>

#include "report.h"

static const char intro[] =
	"<p>What should happen when a file is truncated while RDMA is mapped to it? These are "
	"the answers that were proposed, each asked as a policy of a region over a file on "
	"odpfs, a file system that recalls regions before it gives blocks away: "
	"<b>retarget</b> the device, to the file&rsquo;s new pages, to orphans of the old ones or "
	"to scratch memory; <b>revoke</b> the region; break a <b>lease</b> first, so that its "
	"owner has time to let go; <b>kill</b> who does not; or <b>deny</b> the truncate.\n";

static const char notes[] =
	"<p class=note>Truncater: what the one who took the blocks away got, and how long it "
	"waited. Told: asynchronous events and signals that the owner of the region got. Lost: "
	"bytes that RDMA had written, acknowledged, before the event, and that were afterwards "
	"neither in the file, nor where the program sees them, nor where the region reads "
	"them.\n";

static void print_terms(const struct report *r)
{
	size_t i;

	fputs("<div class=scroll><table class=plain>\n<tr><th>policy<th>the discussion&rsquo;s "
	      "term<th>meaning</tr>\n",
	      r->out);
	for (i = 1; i < NUM_POLICIES; i++)
		fprintf(r->out, "<tr><td><b>%s</b><td>%s<td>%s</tr>\n", policies[i].name,
			policies[i].term, policies[i].help);
	fputs("</table></div>\n", r->out);
}

/* ---- the table ---- */

enum { AFTER_COLUMNS = 3 };

struct columns {
	bool ops[NUM_MR_KINDS][MAX_OPS];
	size_t of[NUM_MR_KINDS];
	size_t all;
};

static struct columns columns_find(const struct matrix *matrix)
{
	struct columns c = {.all = 1};
	struct cell_at at = CELL_START;

	while (cell_next(&at)) {
		if (!at.policy || matrix_cell(matrix, at)->state <= ANSWER_NA ||
		    c.ops[at.mr][at.op])
			continue;
		c.ops[at.mr][at.op] = true;
		if (!c.of[at.mr]) {
			c.of[at.mr] = AFTER_COLUMNS;
			c.all += 1 + AFTER_COLUMNS;
		}
		c.of[at.mr]++;
		c.all++;
	}
	return c;
}

static void print_head(const struct report *r, const struct columns *c)
{
	size_t mr, op;

	fputs("<thead><tr><th>", r->out);
	for (mr = 0; mr < NUM_MR_KINDS; mr++)
		if (c->of[mr])
			fprintf(r->out, "<td class=gap><th class=of colspan=%zu>%s", c->of[mr],
				mr_names[mr].title);
	fputs("</tr>\n<tr><th>policy", r->out);
	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		if (!c->of[mr])
			continue;
		fputs("<td class=gap>", r->out);
		for (op = 0; op < num_operations; op++)
			if (c->ops[mr][op])
				fprintf(r->out, "<th>%s", operations[op].title);
		fputs("<th>truncater<th>told<th>lost", r->out);
	}
	fputs("</tr></thead>\n", r->out);
}

/* The colour says what the column means for the one whose it is. */
static void print_aftermath(const struct report *r, const struct aftermath *after)
{
	if (!after->known) {
		fputs("<td><td><td>", r->out);
		return;
	}
	fprintf(r->out, "<td class=\"num %s\">",
		strcmp(after->truncater, "ok") ? "error"
		: after->waited_ms >= 20       ? "stale"
					       : "calm");
	if (strcmp(after->truncater, "ok"))
		fprintf(r->out, "%s, ", after->truncater);
	fprintf(r->out, "%u ms<td class=%s>", after->waited_ms,
		strstr(after->told, "SIGKILL") ? "error"
		: strcmp(after->told, "-")     ? "stale"
					       : "calm");
	report_text(r->out, strcmp(after->told, "-") ? after->told : "\u2013");
	if (after->lost < 0)
		fputs("<td>", r->out);
	else
		fprintf(r->out, "<td class=\"num %s\">%d B", after->lost ? "error" : "calm",
			after->lost);
}

static bool row_asked(const struct matrix *matrix, struct cell_at at)
{
	for (at.mr = 0; at.mr < NUM_MR_KINDS; at.mr++)
		for (at.op = 0; at.op < num_operations; at.op++)
			if (matrix_cell(matrix, at)->state > ANSWER_NA)
				return true;
	return false;
}

static void print_row(const struct report *r, const struct columns *c, struct cell_at at)
{
	struct aftermath after;

	fprintf(r->out, "<tr><th title=\"%s: %s\">%s", policies[at.policy].term,
		policies[at.policy].help, policies[at.policy].name);
	for (at.mr = 0; at.mr < NUM_MR_KINDS; at.mr++) {
		if (!c->of[at.mr])
			continue;
		fputs("<td class=gap>", r->out);
		for (at.op = 0; at.op < num_operations; at.op++)
			if (c->ops[at.mr][at.op])
				report_cell(r, at);
		at.op = 0;
		after = aftermath_join(r->matrix, at);
		print_aftermath(r, &after);
	}
	fputs("</tr>\n", r->out);
}

static void print_event(const struct report *r, const struct columns *c, struct cell_at at)
{
	bool any = false;

	for (at.policy = 1; at.policy < NUM_POLICIES; at.policy++) {
		if (!row_asked(r->matrix, at))
			continue;
		if (!any)
			fprintf(r->out,
				"<tbody><tr><th class=kind colspan=%zu><b>%s</b> on <b>%s</b>"
				"<span class=note>%s; %s</span></tr>\n",
				c->all, events[at.event].name, kinds[at.kind].name,
				events[at.event].help, kinds[at.kind].help);
		any = true;
		print_row(r, c, at);
	}
	if (any)
		fputs("</tbody>\n", r->out);
}

void report_policies(const struct report *r)
{
	struct columns c = columns_find(r->matrix);
	struct cell_at at = {0};

	fprintf(r->out, "<section><h2>Policies</h2>\n%s", intro);
	print_terms(r);
	fputs(notes, r->out);
	fputs("<div class=scroll><table class=matrix>\n", r->out);
	print_head(r, &c);
	for (at.kind = 0; at.kind < num_kinds; at.kind++)
		for (at.event = 0; at.event < num_events; at.event++)
			print_event(r, &c, at);
	fputs("</table></div></section>\n", r->out);
}
