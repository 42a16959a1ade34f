/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* One device's answers against those of other runs. */
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
	struct matrix *const *theirs;
	size_t num;
	struct accepted *accepted;
	size_t same;
	size_t older; /* of these: not as the first run, but as another */
	size_t differ;
	size_t accepted_cells;
	size_t missing; /* in all files */
};

static enum comparison best(const struct comparing *c, struct cell_at at, size_t *which)
{
	enum comparison all = COMPARE_NOTHING, one;
	size_t i;

	*which = 0;
	for (i = 0; i < c->num; i++) {
		one = compare_cell(matrix_cell(c->matrix, at), matrix_cell(c->theirs[i], at));
		if (one == COMPARE_SAME) {
			*which = i;
			return one;
		}
		if (one > all) {
			all = one;
			*which = i;
		}
	}
	return all;
}

/* The device of run I, and its kernel where there are several. */
static void print_there(const struct comparing *c, size_t i)
{
	const struct environment *env = &c->theirs[i]->env;

	fprintf(c->out, " on %s", env->device);
	if (c->num > 1)
		fprintf(c->out, " (kernel %s)", env->kernel);
}

static void print_difference(const struct comparing *c, struct cell_at at, const char *what)
{
	const struct answer *theirs;
	struct cell_name name = cell_name(at);
	char text[BRIEF];
	size_t i;

	fprintf(c->out, "%s: %s %s %s%s%s %s: %s here", what, name.kind, name.event, name.policy,
		*name.policy ? " " : "", name.mr, name.op,
		answer_brief(matrix_cell(c->matrix, at), text, sizeof(text)));
	for (i = 0; i < c->num; i++) {
		theirs = matrix_cell(c->theirs[i], at);
		if (theirs->state <= ANSWER_NA)
			continue;
		fprintf(c->out, ", %s", answer_brief(theirs, text, sizeof(text)));
		print_there(c, i);
	}
	fputc('\n', c->out);
}

static bool accepted(const struct comparing *c, struct cell_at at)
{
	struct cell_name name = cell_name(at);
	char a[BRIEF], b[BRIEF];
	const char *here = answer_brief(matrix_cell(c->matrix, at), a, sizeof(a));
	const struct answer *theirs;
	size_t i;

	for (i = 0; i < c->num; i++) {
		theirs = matrix_cell(c->theirs[i], at);
		if (theirs->state > ANSWER_NA &&
		    accept_reason(c->accepted, &name, here, answer_brief(theirs, b, sizeof(b))))
			return true;
	}
	return false;
}

static void compare_one(struct comparing *c, struct cell_at at)
{
	struct cell_name name = cell_name(at);
	size_t which;
	enum comparison all = best(c, at, &which);

	if (all >= COMPARE_SAME)
		accept_asked(c->accepted, &name);
	switch (all) {
	case COMPARE_NOTHING:
		return;
	case COMPARE_MISSING:
		c->missing++;
		return;
	case COMPARE_SAME:
		c->same++;
		/* Only the first is to be followed; what it has no answer for is its matter. */
		if (which && compare_cell(matrix_cell(c->matrix, at),
					  matrix_cell(c->theirs[0], at)) == COMPARE_DIFFERS) {
			c->older++;
			print_difference(c, at, "agrees with a later file");
		}
		return;
	case COMPARE_DIFFERS:
		break;
	}
	if (accepted(c, at)) {
		c->accepted_cells++;
		return;
	}
	c->differ++;
	print_difference(c, at, "differs");
}

static void print_tally(const struct comparing *c)
{
	const struct environment *env;
	size_t i;

	fprintf(c->out, "%zu cells of %s compared with ", c->same + c->differ + c->accepted_cells,
		c->matrix->env.device);
	for (i = 0; i < c->num; i++) {
		env = &c->theirs[i]->env;
		fprintf(c->out, "%s%s (kernel %s, %s)", i ? " and " : "", env->device, env->kernel,
			env->date);
	}
	fprintf(c->out, ": %zu differ", c->differ);
	if (c->accepted_cells)
		fprintf(c->out, ", %zu more as accepted", c->accepted_cells);
	if (c->older)
		fprintf(c->out, ", %zu agree with a later file alone", c->older);
	fputc('\n', c->out);
	if (c->missing)
		fprintf(c->out, "%zu cells are not in the file%s\n", c->missing,
			c->num > 1 ? "s" : "");
}

int compare_print(FILE *out, const struct matrix *matrix, struct matrix *const *theirs, size_t num,
		  struct accepted *accepted)
{
	struct comparing c = {
		.out = out,
		.matrix = matrix,
		.theirs = theirs,
		.num = num,
		.accepted = accepted,
	};
	struct cell_at at = CELL_START;

	while (cell_next(&at))
		compare_one(&c, at);
	accept_print(out, accepted);
	print_tally(&c);
	return c.same || c.differ || c.accepted_cells ? (int)c.differ : -ENOENT;
}
