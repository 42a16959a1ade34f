/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* All cells: which are asked, in which order, and how far that is. */
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "odpcmp.h"

struct matrix *matrix_create(void)
{
	return calloc(1, sizeof(struct matrix));
}

void matrix_destroy(struct matrix *matrix)
{
	free(matrix);
}

const struct answer *matrix_cell(const struct matrix *matrix, size_t kind, size_t event,
				 size_t mr, size_t op)
{
	return &matrix->cells[kind][event][mr][op];
}

struct progress {
	size_t done;
	size_t total;
	time_t start;
	bool terminal;
	bool shown;
};

static void progress_show(struct progress *p)
{
	if (!p->terminal || (!p->shown && time(NULL) - p->start < 2))
		return;
	fprintf(stderr, "\r%zu of %zu cells ", p->done, p->total);
	fflush(stderr);
	p->shown = true;
}

static void progress_end(struct progress *p)
{
	if (p->shown)
		fprintf(stderr, "\r%*s\r", 40, "");
}

/* Calls visit for each selected cell; NULL counts them. */
static size_t walk(struct matrix *matrix, const struct options *opt, struct progress *progress,
		   void (*visit)(const struct cell *cell, struct answer *answer))
{
	struct cell cell = { .opt = opt, .env = &matrix->env };
	size_t kind, event, mr, op, count = 0;

	for (kind = 0; kind < num_kinds; kind++)
	for (event = 0; event < num_events; event++)
	for (mr = 0; mr < NUM_MR_KINDS; mr++)
	for (op = 0; op < num_operations; op++) {
		if (!opt->kinds[kind] || !opt->events[event] || !opt->mrs[mr] || !opt->ops[op])
			continue;
		count++;
		if (!visit)
			continue;
		cell.kind = &kinds[kind];
		cell.event = &events[event];
		cell.mr = mr;
		cell.op = &operations[op];
		visit(&cell, &matrix->cells[kind][event][mr][op]);
		progress->done++;
		progress_show(progress);
	}
	return count;
}

static void visit_cell(const struct cell *cell, struct answer *answer)
{
	if (!event_suits(cell->event, cell->kind)) {
		answer_set(answer, "n/a");
		answer->state = ANSWER_NA;
		return;
	}
	cell_find(cell, answer);
	if (cell->opt->verbose)
		fprintf(stderr, PROGRAM ": %s %s %s %s: %s%s%s%s%s\n", cell->kind->name,
			cell->event->name, mr_names[cell->mr].name, cell->op->name, answer->text,
			*answer->status ? ", " : "", answer->status,
			*answer->note ? ", " : "", answer->note);
}

void matrix_run(struct matrix *matrix, const struct options *opt)
{
	struct progress progress = {
		.start = time(NULL),
		.terminal = isatty(STDERR_FILENO) && !opt->verbose,
	};

	progress.total = walk(matrix, opt, &progress, NULL);
	walk(matrix, opt, &progress, visit_cell);
	progress_end(&progress);
}

size_t matrix_failed(const struct matrix *matrix)
{
	const struct answer *answer = &matrix->cells[0][0][0][0];
	size_t i, failed = 0;

	for (i = 0; i < sizeof(matrix->cells) / sizeof(*answer); i++)
		failed += answer[i].state == ANSWER_FAILED;
	return failed;
}
