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

bool cell_next(struct cell_at *at)
{
	if (++at->op < num_operations)
		return true;
	at->op = 0;
	if (++at->mr < NUM_MR_KINDS)
		return true;
	at->mr = 0;
	if (++at->policy < NUM_POLICIES)
		return true;
	at->policy = 0;
	if (++at->event < num_events)
		return true;
	at->event = 0;
	return ++at->kind < num_kinds;
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

/* ---- groups of cells, each a process ---- */

struct running {
	struct group group;
	struct group_result result;
	struct answer *cells;
	size_t num; /* to be answered */
};

struct run {
	struct matrix *matrix;
	const struct options *opt;
	struct isolated jobs[MAX_JOBS];
	struct running running[MAX_JOBS];
	size_t num_jobs;
	struct progress progress;
};

static size_t unanswered(const struct group_result *result)
{
	size_t op, count = 0;

	for (op = 0; op < num_operations; op++)
		count += result->asked[op] && result->answers[op].state == ANSWER_NONE;
	return count;
}

static void report_cells(const struct running *running)
{
	const struct answer *answer;
	char brief[BRIEF];
	size_t op;

	for (op = 0; op < num_operations; op++) {
		answer = &running->result.answers[op];
		if (running->result.asked[op])
			fprintf(stderr, PROGRAM ": %s %s %s%s%s %s: %s%s%s%s%s\n",
				running->group.kind->name, running->group.event->name,
				policies[running->group.policy].name,
				running->group.policy ? " " : "", mr_names[running->group.mr].name,
				operations[op].name, answer_brief(answer, brief, sizeof(brief)),
				*answer->status ? ", " : "", answer->status,
				*answer->note ? ", " : "", answer->note);
	}
}

static void group_start(struct run *run, size_t slot)
{
	struct running *running = &run->running[slot];
	unsigned int timeout = run->opt->timeout * unanswered(&running->result);
	struct answer *answers = running->result.answers;
	size_t op;
	int ret;

	ret = isolate_start(&run->jobs[slot], group_body, &running->group, &running->result,
			    sizeof(running->result), timeout);
	for (op = 0; ret && op < num_operations; op++)
		if (running->result.asked[op] && answers[op].state == ANSWER_NONE)
			answer_fail(&answers[op], "failed", "cannot start a process: %s",
				    strerror(-ret));
}

static void group_finish(struct run *run, size_t slot)
{
	struct running *running = &run->running[slot];

	memcpy(running->cells, running->result.answers, num_operations * sizeof(*running->cells));
	run->progress.done += running->num;
	if (run->opt->verbose)
		report_cells(running);
	progress_show(&run->progress);
}

/* Waits for a process to end; what it left unanswered the next one is asked. */
static void group_collect(struct run *run)
{
	size_t slot = isolate_wait(run->jobs, run->num_jobs);
	struct running *running = &run->running[slot];
	size_t before = unanswered(&running->result);
	int ret, sig = 0;

	ret = isolate_end(&run->jobs[slot], &running->result, &sig);
	if (!ret && unanswered(&running->result) == before)
		ret = -ECHILD;
	group_ended(&running->group, &running->result, ret, sig);
	if (unanswered(&running->result))
		group_start(run, slot);
	if (!run->jobs[slot].pid)
		group_finish(run, slot);
}

static size_t slot_free(struct run *run)
{
	size_t slot;

	for (;;) {
		for (slot = 0; slot < run->num_jobs; slot++)
			if (!run->jobs[slot].pid)
				return slot;
		group_collect(run);
	}
}

static bool asked(const struct run *run, const struct group *group, size_t op)
{
	return run->opt->ops[op] &&
	       cell_suits(group->kind, group->event, &operations[op], group->policy);
}

static void group_ask(struct run *run, const struct group *group, struct answer *cells)
{
	size_t op, slot = slot_free(run);
	struct running *running = &run->running[slot];

	*running = (struct running){.group = *group, .cells = cells};
	for (op = 0; op < num_operations; op++)
		running->result.asked[op] = asked(run, group, op);
	running->num = unanswered(&running->result);
	if (!running->num)
		return;
	group_start(run, slot);
	if (!run->jobs[slot].pid)
		group_finish(run, slot);
}

/* ---- all of them ---- */

/* Calls visit for each selected group. */
static void walk(struct run *run,
		 void (*visit)(struct run *run, const struct group *group, struct answer *cells))
{
	struct group group = {.opt = run->opt, .env = &run->matrix->env};
	const struct options *opt = run->opt;
	struct cell_at at = CELL_START;

	while (cell_next(&at)) {
		if (at.op || !opt->policies[at.policy] || !opt->kinds[at.kind] ||
		    !opt->events[at.event] || !opt->mrs[at.mr])
			continue;
		group.kind = &kinds[at.kind];
		group.event = &events[at.event];
		group.mr = at.mr;
		group.policy = at.policy;
		visit(run, &group, matrix_cell(run->matrix, at));
	}
}

static void group_count(struct run *run, const struct group *group, struct answer *cells)
{
	size_t op;

	(void)cells;
	for (op = 0; op < num_operations; op++)
		run->progress.total += asked(run, group, op);
}

void matrix_mark_na(struct matrix *matrix, size_t policy)
{
	struct cell_at at = CELL_START;

	while (cell_next(&at))
		if (at.policy == policy &&
		    !cell_suits(&kinds[at.kind], &events[at.event], &operations[at.op], policy))
			answer_na(matrix_cell(matrix, at));
}

/* libibverbs loads its drivers once, not once in each of some hundred processes. */
static void load_drivers(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	if (list)
		ibv_free_device_list(list);
}

void matrix_run(struct matrix *matrix, const struct options *opt)
{
	struct run *run = calloc(1, sizeof(*run));
	size_t slot, policy;

	if (!run)
		return;
	run->matrix = matrix;
	run->opt = opt;
	run->num_jobs = opt->jobs;
	run->progress.start = time(NULL);
	run->progress.terminal = isatty(STDERR_FILENO) && !opt->verbose;
	load_drivers();
	walk(run, group_count);
	walk(run, group_ask);
	for (slot = 0; slot < run->num_jobs; slot++)
		while (run->jobs[slot].pid)
			group_collect(run);
	progress_end(&run->progress);
	for (policy = 0; policy < NUM_POLICIES; policy++)
		if (opt->policies[policy])
			matrix_mark_na(matrix, policy);
	free(run);
}

size_t matrix_failed(const struct matrix *matrix)
{
	struct cell_at at = CELL_START;
	size_t failed = 0;

	while (cell_next(&at))
		failed += matrix_cell(matrix, at)->state == ANSWER_FAILED;
	return failed;
}
