/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "odpcmp.h"

enum { EXIT_GOOD = 0, EXIT_BAD = 1, EXIT_USAGE = 2 };

/* Kinds that this system lacks: left out when all were meant, else an error. */
static bool leave_out_lacking(struct options *opt)
{
	const char *why;
	size_t i;
	bool good = true;

	for (i = 0; i < num_kinds; i++) {
		why = opt->kinds[i] && kinds[i].lacking ? kinds[i].lacking(opt->dir) : NULL;
		if (!why)
			continue;
		fprintf(stderr, PROGRAM ": no memory of kind %s here: %s\n", kinds[i].name, why);
		opt->kinds[i] = false;
		good &= !opt->kinds_named;
	}
	return good;
}

/* From a file: what was not selected is as if never asked. */
static void matrix_select(struct matrix *matrix, const struct options *opt)
{
	size_t kind, event, mr, op;

	for (kind = 0; kind < num_kinds; kind++)
	for (event = 0; event < num_events; event++)
	for (mr = 0; mr < NUM_MR_KINDS; mr++)
	for (op = 0; op < num_operations; op++)
		if (!opt->kinds[kind] || !opt->events[event] || !opt->mrs[mr] || !opt->ops[op])
			matrix->cells[kind][event][mr][op].state = ANSWER_NONE;
}

static bool matrix_get(struct matrix *matrix, struct options *opt)
{
	if (opt->from) {
		if (json_load(matrix, opt->from))
			return false;
		matrix_select(matrix, opt);
		return true;
	}
	if (!leave_out_lacking(opt))
		return false;
	environment_find(&matrix->env, opt);
	if (*matrix->env.error) {
		fprintf(stderr, PROGRAM ": %s\n", matrix->env.error);
		return false;
	}
	matrix_run(matrix, opt);
	return true;
}

static bool compare(const struct matrix *matrix, const struct matrix *theirs, FILE *out)
{
	int ret = compare_print(out, matrix, theirs);

	if (ret < 0)
		fputs(PROGRAM ": the two have no cell in common\n", stderr);
	return ret == 0;
}

static int run(struct matrix *matrix, struct matrix *theirs, struct options *opt)
{
	bool good;

	/* Before the device is asked, which takes longer. */
	if (opt->compare && json_load(theirs, opt->compare))
		return EXIT_BAD;
	if (!matrix_get(matrix, opt))
		return EXIT_BAD;
	if (opt->json)
		json_print(stdout, matrix);
	else
		table_print(stdout, matrix, opt);
	good = !matrix_failed(matrix);
	if (opt->compare)
		good &= compare(matrix, theirs, opt->json ? stderr : stdout);
	return good ? EXIT_GOOD : EXIT_BAD;
}

int main(int argc, char **argv)
{
	struct options opt;
	struct matrix *matrix, *theirs;
	int ret = EXIT_BAD;

	switch (options_parse(&opt, argc, argv)) {
	case OPTIONS_DONE:
		return EXIT_GOOD;
	case OPTIONS_BAD:
		fputs("Try '" PROGRAM " --help'.\n", stderr);
		return EXIT_USAGE;
	case OPTIONS_RUN:
		break;
	}
	if (opt.list) {
		options_list(stdout);
		return EXIT_GOOD;
	}
	matrix = matrix_create();
	theirs = matrix_create();
	if (matrix && theirs)
		ret = run(matrix, theirs, &opt);
	else
		fputs(PROGRAM ": out of memory\n", stderr);
	matrix_destroy(theirs);
	matrix_destroy(matrix);
	messages_forget();
	if (fflush(stdout) || ferror(stdout)) {
		perror(PROGRAM);
		ret = EXIT_BAD;
	}
	return ret;
}
