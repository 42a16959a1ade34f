/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* One device's answers against another's. */
#include <errno.h>
#include <string.h>

#include "odpcmp.h"

struct tally {
	int same;
	int differ;
	int missing;	/* in the file */
};

static void compare_cell(FILE *out, struct tally *tally, const struct answer *ours,
			 const struct matrix *their_matrix, size_t kind, size_t event, size_t mr,
			 size_t op)
{
	const struct answer *theirs = matrix_cell(their_matrix, kind, event, mr, op);

	if (ours->state == ANSWER_NONE || ours->state == ANSWER_NA)
		return;
	if (theirs->state == ANSWER_NONE) {
		tally->missing++;
		return;
	}
	if (!strcmp(ours->text, theirs->text)) {
		tally->same++;
		return;
	}
	tally->differ++;
	fprintf(out, "differs: %s %s %s %s: %s here, %s on %s\n", kinds[kind].name,
		events[event].name, mr_names[mr].name, operations[op].name, ours->text,
		theirs->text, their_matrix->env.device);
}

static void print_tally(FILE *out, const struct tally *tally, const struct matrix *matrix,
			const struct environment *env)
{
	fprintf(out, "%d cells of %s compared with %s (kernel %s, %s): %d differ\n",
		tally->same + tally->differ, matrix->env.device, env->device, env->kernel,
		env->date, tally->differ);
	if (tally->missing)
		fprintf(out, "%d cells are not in the file\n", tally->missing);
}

int compare_print(FILE *out, const struct matrix *matrix, const struct matrix *theirs)
{
	struct tally tally = { 0 };
	size_t kind, event, mr, op;

	for (kind = 0; kind < num_kinds; kind++)
	for (event = 0; event < num_events; event++)
	for (mr = 0; mr < NUM_MR_KINDS; mr++)
	for (op = 0; op < num_operations; op++)
		compare_cell(out, &tally, matrix_cell(matrix, kind, event, mr, op), theirs, kind,
			     event, mr, op);
	print_tally(out, &tally, matrix, &theirs->env);
	return tally.same || tally.differ ? tally.differ : -ENOENT;
}
