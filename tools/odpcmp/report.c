/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <errno.h>
#include <string.h>

#include "report.h"

void report_text(FILE *out, const char *text)
{
	for (; *text; text++)
		switch (*text) {
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '&':
			fputs("&amp;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fputc(*text, out);
		}
}

static void tile(FILE *out, const char *class, size_t number, const char *text)
{
	fprintf(out, "<div class=\"tile %s\"><b>%zu</b><span>", class, number);
	report_text(out, text);
	fputs("</span></div>\n", out);
}

static void print_tiles(const struct report *r)
{
	struct report_tally tally = report_count(r);
	char text[160];

	fputs("<section class=tiles>\n", r->out);
	tile(r->out, "", tally.determined, "cells determined");
	if (tally.failed)
		tile(r->out, "bad", tally.failed, "cells could not be determined");
	snprintf(text, sizeof(text), "of %zu rows differ between pinned and on demand", tally.rows);
	if (tally.rows)
		tile(r->out, "", tally.rows_differ, text);
	if (r->theirs) {
		snprintf(text, sizeof(text), "cells as on %s", r->theirs->env.device);
		tile(r->out, "good", tally.same, text);
		snprintf(text, sizeof(text), "cells unlike %s", r->theirs->env.device);
		tile(r->out, tally.differ ? "bad" : "good", tally.differ, text);
		if (tally.accepted)
			tile(r->out, "", tally.accepted, "more, accepted with a reason");
	}
	fputs("</section>\n", r->out);
}

static void environment_row(FILE *out, const char *name, const char *ours, const char *theirs)
{
	fprintf(out, "<tr><th>%s<td>", name);
	report_text(out, ours);
	if (theirs) {
		fputs("<td>", out);
		report_text(out, theirs);
	}
	fputs("</tr>\n", out);
}

static void print_environment(const struct report *r)
{
	const struct environment *a = &r->matrix->env, *b = r->theirs ? &r->theirs->env : NULL;

	fputs("<section><h2>Environment</h2>\n<div class=scroll><table class=plain>\n", r->out);
	fprintf(r->out, "<tr><td><th>this run%s</tr>\n", b ? "<th>compared with" : "");
	environment_row(r->out, "device", a->device, b ? b->device : NULL);
	environment_row(r->out, "firmware", a->fw_ver, b ? b->fw_ver : NULL);
	environment_row(r->out, "link layer", a->link_layer, b ? b->link_layer : NULL);
	environment_row(r->out, "GID", a->gid, b ? b->gid : NULL);
	environment_row(r->out, "says it can ODP", a->odp ? "yes" : "no",
			b ? b->odp ? "yes" : "no" : NULL);
	environment_row(r->out, "kernel", a->kernel, b ? b->kernel : NULL);
	environment_row(r->out, "machine", a->machine, b ? b->machine : NULL);
	environment_row(r->out, "libibverbs", a->libibverbs, b ? b->libibverbs : NULL);
	environment_row(r->out, "files on", a->file_system, b ? b->file_system : NULL);
	environment_row(r->out, "date", a->date, b ? b->date : NULL);
	fputs("</table></div></section>\n", r->out);
}

static void print_page(const struct report *r)
{
	fputs("<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
	      "<meta name=viewport "
	      "content=\"width=device-width,initial-scale=1\">\n<title>odpcmp: ",
	      r->out);
	report_text(r->out, r->matrix->env.device);
	fputs("</title>\n", r->out);
	report_style(r->out);
	fputs("</head>\n<body>\n<header><h1>", r->out);
	report_text(r->out, r->matrix->env.device);
	if (r->theirs) {
		fputs(" <small>against</small> ", r->out);
		report_text(r->out, r->theirs->env.device);
	}
	fputs("</h1>\n<p>What RDMA sees after memory changes, through pinned and through "
	      "on-demand-paging memory regions (odpcmp)</header>\n<main>\n",
	      r->out);
	print_tiles(r);
	if (r->traffic)
		report_traffic(r);
	if (r->theirs)
		report_differences(r);
	if (table_has_policies(r->matrix))
		report_policies(r);
	report_legend(r);
	report_matrix(r);
	print_environment(r);
	fputs("</main>\n</body>\n</html>\n", r->out);
}

bool report_write(const char *path, const struct matrix *matrix, const struct matrix *theirs,
		  struct accepted *accepted, const struct traffic *traffic)
{
	struct report r = {
		.out = fopen(path, "we"),
		.matrix = matrix,
		.theirs = theirs,
		.accepted = accepted,
		.traffic = traffic,
	};
	bool good = r.out;

	if (good) {
		print_page(&r);
		good = !ferror(r.out);
		good &= !fclose(r.out);
	}
	if (!good)
		fprintf(stderr, PROGRAM ": %s: %s\n", path, strerror(errno));
	return good;
}
