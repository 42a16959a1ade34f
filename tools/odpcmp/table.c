/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The table that people read: a row a kind of memory and event. */
#include <string.h>

#include "odpcmp.h"

#define MAX_FAILURES 10

static void print_environment(FILE *out, const struct environment *env)
{
	fprintf(out, "%s, port %d", env->device, env->port);
	if (env->gid_index >= 0)
		fprintf(out, ", GID %d (%s)", env->gid_index, env->gid);
	fprintf(out, "; kernel %s, libibverbs %s\n", env->kernel, env->libibverbs);
	if (*env->events)
		fprintf(out, "faults of shared memory on demand follow %s\n", env->events);
	fputc('\n', out);
}

/* ---- columns ---- */

enum { GAP = 2 };

/* Of the columns as they are printed; 0: nothing to print. */
struct widths {
	size_t kind;
	size_t event;
	size_t cell[NUM_MR_KINDS][MAX_OPS];
};

static void widen(size_t *width, const char *text)
{
	size_t len = strlen(text) + GAP;

	if (*width < len)
		*width = len;
}

static struct widths widths_find(const struct matrix *matrix)
{
	struct widths widths = {0};
	struct cell_at at = CELL_START;
	const struct answer *answer;

	widen(&widths.kind, "memory");
	widen(&widths.event, "event");
	while (cell_next(&at)) {
		answer = matrix_cell(matrix, at);
		if (answer->state == ANSWER_NONE || at.policy)
			continue;
		widen(&widths.kind, kinds[at.kind].name);
		widen(&widths.event, events[at.event].name);
		widen(&widths.cell[at.mr][at.op], operations[at.op].title);
		widen(&widths.cell[at.mr][at.op], answer->text);
	}
	return widths;
}

/* Pads before the next word, not behind the last one. */
struct line {
	FILE *out;
	int pad;
};

static void put(struct line *line, const char *text, size_t width)
{
	int len = strlen(text);

	fprintf(line->out, "%*s%s", line->pad, "", text);
	line->pad = (int)width > len ? (int)width - len : 1;
}

static void print_head(FILE *out, const struct widths *widths)
{
	struct line titles = {.out = out, .pad = 2 + widths->kind + widths->event};
	struct line head = {.out = out, .pad = 2};
	size_t mr, op, width;

	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		for (op = 0, width = 0; op < num_operations; op++)
			width += widths->cell[mr][op];
		if (width)
			put(&titles, mr_names[mr].title, width);
	}
	fputc('\n', out);
	put(&head, "memory", widths->kind);
	put(&head, "event", widths->event);
	for (mr = 0; mr < NUM_MR_KINDS; mr++)
		for (op = 0; op < num_operations; op++)
			if (widths->cell[mr][op])
				put(&head, operations[op].title, widths->cell[mr][op]);
	fputc('\n', out);
}

struct row {
	bool asked;
	bool suits;
	bool comparable; /* both kinds of region were asked, and answered */
	bool differs;
};

static struct row row_find(const struct matrix *matrix, size_t kind, size_t event)
{
	struct row row = {0};
	const struct answer *pinned, *odp;
	size_t op;

	for (op = 0; op < num_operations; op++) {
		pinned = matrix_cell(matrix, (struct cell_at){kind, event, MR_PINNED, op, 0});
		odp = matrix_cell(matrix, (struct cell_at){kind, event, MR_ODP, op, 0});
		row.asked |= pinned->state != ANSWER_NONE || odp->state != ANSWER_NONE;
		row.suits |= pinned->state > ANSWER_NA || odp->state > ANSWER_NA;
		if (pinned->state != ANSWER_GOOD || odp->state != ANSWER_GOOD)
			continue;
		row.comparable = true;
		row.differs |= strcmp(pinned->text, odp->text);
	}
	return row;
}

static void print_row(FILE *out, const struct matrix *matrix, const struct widths *widths,
		      size_t kind, size_t event, bool differs)
{
	struct line line = {.out = out};
	size_t mr, op;

	put(&line, differs ? "*" : " ", 2);
	put(&line, kinds[kind].name, widths->kind);
	put(&line, events[event].name, widths->event);
	for (mr = 0; mr < NUM_MR_KINDS; mr++)
		for (op = 0; op < num_operations; op++)
			if (widths->cell[mr][op])
				put(&line,
				    matrix_cell(matrix, (struct cell_at){kind, event, mr, op, 0})
					    ->text,
				    widths->cell[mr][op]);
	fputc('\n', out);
}

static bool occurs(const struct matrix *matrix, const char *term)
{
	struct cell_at at = CELL_START;
	const struct answer *answer;

	while (cell_next(&at)) {
		answer = matrix_cell(matrix, at);
		if (answer->state == ANSWER_GOOD && !strncmp(answer->text, term, strlen(term)))
			return true;
	}
	return false;
}

static void print_terms(FILE *out, const struct matrix *matrix)
{
	static const struct {
		const char *term;
		const char *meaning;
	} terms[] = {
		{"old", "the data from before the event"},
		{"new", "what the program wrote after the event"},
		{"moved only", "the program sees it where mremap() moved the page"},
		{"file only", "the program sees it in the file, not at the address"},
		{"no view", "it succeeded, and the program has nothing left to see it through"},
		{"zeros", "the program wrote nothing after the event, and RDMA sees zeros"},
		{"reg ", "ibv_reg_mr() refused, with this errno"},
		{"REM_ACCESS_ERR", "the peer's work completion has IBV_WC_REM_ACCESS_ERR"},
	};
	bool any = false;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(terms); i++) {
		if (!occurs(matrix, terms[i].term))
			continue;
		fprintf(out, "%-15s %s\n", terms[i].term, terms[i].meaning);
		any = true;
	}
	if (any)
		fputc('\n', out);
}

/* The first ones: when nothing works, one reason is all there is. */
static void print_failures(FILE *out, const struct matrix *matrix)
{
	size_t shown = 0, failed = matrix_failed(matrix);
	struct cell_at at = CELL_START;
	const struct answer *answer;
	struct cell_name name;

	fprintf(out, "%zu cells could not be determined:\n", failed);
	while (cell_next(&at)) {
		answer = matrix_cell(matrix, at);
		name = cell_name(at);
		if (answer->state == ANSWER_FAILED && shown++ < MAX_FAILURES)
			fprintf(out, "%s %s %s %s: %s: %s\n", name.kind, name.event, name.mr,
				name.op, answer->text, answer->note);
	}
	if (failed > MAX_FAILURES)
		fprintf(out, "and %zu more (see --verbose)\n", failed - MAX_FAILURES);
}

/* The number of rows that hold both kinds of region; *differ of them differ. */
static size_t print_rows(FILE *out, const struct matrix *matrix, const struct options *opt,
			 const struct widths *widths, size_t *differ)
{
	/* Rows without sense are worth showing only to whoever asked for them. */
	bool all_rows = opt->kinds_named && opt->events_named;
	size_t kind, event, last_kind = num_kinds, rows = 0;
	struct row row;

	for (kind = 0; kind < num_kinds; kind++) {
		for (event = 0; event < num_events; event++) {
			row = row_find(matrix, kind, event);
			if (!row.asked || (!row.suits && !all_rows))
				continue;
			if (kind != last_kind && last_kind != num_kinds)
				fputc('\n', out);
			last_kind = kind;
			print_row(out, matrix, widths, kind, event, row.differs);
			rows += row.comparable;
			*differ += row.differs;
		}
	}
	fputc('\n', out);
	return rows;
}

void table_print(FILE *out, const struct matrix *matrix, const struct options *opt)
{
	struct widths widths = widths_find(matrix);
	size_t rows, differ = 0;

	print_environment(out, &matrix->env);
	if (table_has_policies(matrix))
		table_print_policies(out, matrix);
	else
		print_head(out, &widths);
	rows = print_rows(out, matrix, opt, &widths, &differ);
	print_terms(out, matrix);
	if (matrix_failed(matrix))
		print_failures(out, matrix);
	if (rows)
		fprintf(out, "%zu of %zu rows differ between pinned and ODP%s\n", differ, rows,
			differ ? " (*)" : "");
}
