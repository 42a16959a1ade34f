/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"
#include "report.h"

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

/* What was not selected is as if never asked. */
static void matrix_select(struct matrix *matrix, const struct options *opt)
{
	struct cell_at at = CELL_START;

	while (cell_next(&at))
		if (!opt->policies[at.policy] || !opt->kinds[at.kind] || !opt->events[at.event] ||
		    !opt->mrs[at.mr] || !opt->ops[at.op])
			matrix_cell(matrix, at)->state = ANSWER_NONE;
}

static bool huge_asked(const struct options *opt)
{
	size_t i;

	for (i = 0; i < num_kinds; i++)
		if (opt->kinds[i] && kinds[i].flags & KIND_HUGE)
			return true;
	return false;
}

static bool matrix_get(struct matrix *matrix, struct options *opt)
{
	if (opt->from) {
		if (json_load(matrix, opt->from))
			return false;
		matrix_select(matrix, opt);
		return true;
	}
	if (opt->fs && !(opt->dir = fs_start(opt->dir)))
		return false;
	if (huge_asked(opt))
		huge_reserve(opt->jobs);
	if (!leave_out_lacking(opt))
		return false;
	environment_find(&matrix->env, opt);
	if (*matrix->env.error) {
		fprintf(stderr, PROGRAM ": %s\n", matrix->env.error);
		return false;
	}
	matrix_run(matrix, opt);
	matrix_select(matrix, opt);
	return true;
}

/* What a run works with; NULL: not asked for. */
struct results {
	struct matrix *matrix;
	struct matrix *theirs[MAX_COMPARED];
	size_t num_theirs;
	struct accepted *accepted;
	struct traffic *traffic;
};

static bool compare(const struct results *r, FILE *out)
{
	int ret = compare_print(out, r->matrix, r->theirs, r->num_theirs, r->accepted);

	if (ret < 0)
		fputs(PROGRAM ": the two have no cell in common\n", stderr);
	return ret == 0;
}

static bool traffic(const struct results *r, const struct options *opt, FILE *out)
{
	bool good = traffic_run(r->traffic, &r->matrix->env, opt);

	traffic_print(out, r->traffic);
	return good;
}

static void print_matrix(const struct results *r, const struct options *opt)
{
	const struct matrix *runs[1 + MAX_COMPARED] = {r->matrix};
	size_t i;

	for (i = 0; i < r->num_theirs; i++)
		runs[1 + i] = r->theirs[i];
	if (opt->beside && opt->json)
		beside_json(stdout, runs, 1 + r->num_theirs);
	else if (opt->beside)
		beside_print(stdout, runs, 1 + r->num_theirs);
	else if (opt->json)
		json_print(stdout, r->matrix);
	else
		table_print(stdout, r->matrix, opt);
}

static bool run(const struct results *r, struct options *opt)
{
	/* Standard output is for JSON alone. */
	FILE *out = opt->json ? stderr : stdout;
	bool good;

	if (!matrix_get(r->matrix, opt))
		return false;
	print_matrix(r, opt);
	good = !matrix_failed(r->matrix);
	if (r->num_theirs)
		good &= compare(r, out);
	if (r->traffic)
		good &= traffic(r, opt, out);
	if (opt->report)
		good &= report_write(opt->report, r->matrix, r->theirs[0], r->accepted, r->traffic);
	return good;
}

/* What was not selected stays out of what is shown beside each other. */
static bool load_theirs(struct results *r, const struct options *opt)
{
	struct matrix *theirs = matrix_create();

	if (!theirs) {
		fputs(PROGRAM ": out of memory\n", stderr);
		return false;
	}
	r->theirs[r->num_theirs] = theirs;
	if (json_load(theirs, opt->compare[r->num_theirs++]))
		return false;
	matrix_select(theirs, opt);
	return true;
}

/* The files first: the device takes longer. */
static bool load(struct results *r, const struct options *opt)
{
	r->matrix = matrix_create();
	r->traffic = opt->traffic ? calloc(1, sizeof(*r->traffic)) : NULL;
	if (!r->matrix || (opt->traffic && !r->traffic)) {
		fputs(PROGRAM ": out of memory\n", stderr);
		return false;
	}
	if (opt->traffic)
		r->traffic->event = opt->traffic;
	while (r->num_theirs < opt->compared)
		if (!load_theirs(r, opt))
			return false;
	r->accepted = opt->accept ? accept_load(opt->accept) : NULL;
	return !opt->accept || r->accepted;
}

static void unload(struct results *r)
{
	free(r->traffic);
	accept_free(r->accepted);
	while (r->num_theirs)
		matrix_destroy(r->theirs[--r->num_theirs]);
	matrix_destroy(r->matrix);
}

/* What was printed has arrived, or the run was for nothing. */
static int output_end(int ret)
{
	if (!fflush(stdout) && !ferror(stdout))
		return ret;
	perror(PROGRAM);
	return EXIT_BAD;
}

int main(int argc, char **argv)
{
	struct results results = {0};
	struct options opt;
	int ret;

	switch (options_parse(&opt, argc, argv)) {
	case OPTIONS_DONE:
		return output_end(EXIT_GOOD);
	case OPTIONS_BAD:
		fputs("Try '" PROGRAM " --help'.\n", stderr);
		return EXIT_USAGE;
	case OPTIONS_RUN:
		break;
	}
	if (opt.list) {
		options_list(stdout);
		return output_end(EXIT_GOOD);
	}
	ret = load(&results, &opt) && run(&results, &opt) ? EXIT_GOOD : EXIT_BAD;
	unload(&results);
	fs_stop();
	messages_forget();
	huge_give_back();
	return output_end(ret);
}
