/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* One device's answers against another's. */
#include <errno.h>
#include <string.h>

#include "odpcmp.h"

enum comparison compare_cell(const struct answer *ours, const struct answer *theirs)
{
	char a[BRIEF], b[BRIEF];

	if (ours->state <= ANSWER_NA)
		return COMPARE_NOTHING;
	if (theirs->state <= ANSWER_NA)
		return COMPARE_MISSING;
	return strcmp(answer_brief(ours, a, sizeof(a)), answer_brief(theirs, b, sizeof(b)))
		       ? COMPARE_DIFFERS
		       : COMPARE_SAME;
}

struct comparing {
	FILE *out;
	const struct matrix *matrix;
	const struct matrix *theirs;
	struct accepted *accepted;
	size_t same;
	size_t differ;
	size_t accepted_cells;
	size_t missing; /* in the file */
};

static void compare_one(struct comparing *c, struct cell_at at)
{
	const struct answer *ours = matrix_cell(c->matrix, at);
	const struct answer *theirs = matrix_cell(c->theirs, at);
	struct cell_name name = cell_name(at);
	char a[BRIEF], b[BRIEF];

	if (compare_cell(ours, theirs) >= COMPARE_SAME)
		accept_asked(c->accepted, &name);
	switch (compare_cell(ours, theirs)) {
	case COMPARE_NOTHING:
		return;
	case COMPARE_MISSING:
		c->missing++;
		return;
	case COMPARE_SAME:
		c->same++;
		return;
	case COMPARE_DIFFERS:
		break;
	}
	if (accept_reason(c->accepted, &name, answer_brief(ours, a, sizeof(a)),
			  answer_brief(theirs, b, sizeof(b)))) {
		c->accepted_cells++;
		return;
	}
	c->differ++;
	fprintf(c->out, "differs: %s %s %s%s%s %s: %s here, %s on %s\n", name.kind, name.event,
		name.policy, *name.policy ? " " : "", name.mr, name.op,
		answer_brief(ours, a, sizeof(a)), answer_brief(theirs, b, sizeof(b)),
		c->theirs->env.device);
}

static void print_tally(const struct comparing *c)
{
	const struct environment *env = &c->theirs->env;

	fprintf(c->out, "%zu cells of %s compared with %s (kernel %s, %s): %zu differ",
		c->same + c->differ + c->accepted_cells, c->matrix->env.device, env->device,
		env->kernel, env->date, c->differ);
	if (c->accepted_cells)
		fprintf(c->out, ", %zu more as accepted", c->accepted_cells);
	fputc('\n', c->out);
	if (c->missing)
		fprintf(c->out, "%zu cells are not in the file\n", c->missing);
}

int compare_print(FILE *out, const struct matrix *matrix, const struct matrix *theirs,
		  struct accepted *accepted)
{
	struct comparing c = {
		.out = out,
		.matrix = matrix,
		.theirs = theirs,
		.accepted = accepted,
	};
	struct cell_at at = CELL_START;

	while (cell_next(&at))
		compare_one(&c, at);
	accept_print(out, accepted);
	print_tally(&c);
	return c.same || c.differ || c.accepted_cells ? (int)c.differ : -ENOENT;
}
