/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The answers of several runs beside each other, of two kernels say: a line a cell. */
#include <json.h>
#include <string.h>

#include "odpcmp.h"

enum { MAX_RUNS = 1 + MAX_COMPARED };

struct beside {
	const struct matrix *const *runs;
	size_t num;
	char text[MAX_RUNS][BRIEF]; /* of the cell at hand; "-": it has none */
	bool differs;               /* two have answers, and not the same */
};

/* False: no run has the cell. */
static bool cell_load(struct beside *b, struct cell_at at)
{
	const struct answer *answer;
	const char *first = NULL;
	char text[BRIEF];
	size_t i;

	b->differs = false;
	for (i = 0; i < b->num; i++) {
		answer = matrix_cell(b->runs[i], at);
		snprintf(b->text[i], BRIEF, "%s",
			 answer->state <= ANSWER_NA ? "-" : answer_brief(answer, text, BRIEF));
		if (answer->state <= ANSWER_NA)
			continue;
		if (first)
			b->differs |= strcmp(first, b->text[i]);
		else
			first = b->text[i];
	}
	return first;
}

static size_t width_of(const char *text, size_t width)
{
	size_t len = strlen(text);

	return len > width ? len : width;
}

/* ---- the table ---- */

enum { KIND, EVENT, POLICY, MR, OP, NUM_NAMES };

static void names_of(struct cell_at at, const char *names[NUM_NAMES])
{
	struct cell_name name = cell_name(at);

	names[KIND] = name.kind;
	names[EVENT] = name.event;
	names[POLICY] = name.policy;
	names[MR] = name.mr;
	names[OP] = name.op;
}

struct columns {
	size_t name[NUM_NAMES];
	size_t run[MAX_RUNS];
};

static const char *const name_titles[] = {"memory", "event", "", "region", "op"};

static void run_title(const struct matrix *run, char *title, size_t len)
{
	snprintf(title, len, "%s, %s", run->env.device, run->env.kernel);
}

static struct columns columns_find(struct beside *b)
{
	struct columns c = {0};
	const char *names[NUM_NAMES];
	struct cell_at at = CELL_START;
	char title[256];
	size_t i;

	for (i = 0; i < NUM_NAMES; i++)
		c.name[i] = strlen(name_titles[i]);
	for (i = 0; i < b->num; i++) {
		run_title(b->runs[i], title, sizeof(title));
		c.run[i] = strlen(title);
	}
	while (cell_next(&at)) {
		if (!cell_load(b, at))
			continue;
		names_of(at, names);
		for (i = 0; i < NUM_NAMES; i++)
			c.name[i] = width_of(names[i], c.name[i]);
		for (i = 0; i < b->num; i++)
			c.run[i] = width_of(b->text[i], c.run[i]);
	}
	return c;
}

static void print_names(FILE *out, const struct columns *c, const char *const *names)
{
	size_t i;

	for (i = 0; i < NUM_NAMES; i++)
		if (c->name[i])
			fprintf(out, "%-*s  ", (int)c->name[i], names[i]);
}

static void print_head(FILE *out, const struct beside *b, const struct columns *c)
{
	char title[256];
	size_t i;

	fputs("  ", out);
	print_names(out, c, name_titles);
	for (i = 0; i < b->num; i++) {
		run_title(b->runs[i], title, sizeof(title));
		fprintf(out, "%-*s%s", i + 1 < b->num ? (int)c->run[i] : 0, title,
			i + 1 < b->num ? "  " : "\n");
	}
}

void beside_print(FILE *out, const struct matrix *const *runs, size_t num)
{
	struct beside b = {.runs = runs, .num = num};
	struct columns c = columns_find(&b);
	size_t i, cells = 0, differ = 0;
	struct cell_at at = CELL_START;
	const char *names[NUM_NAMES];

	print_head(out, &b, &c);
	while (cell_next(&at)) {
		if (!cell_load(&b, at))
			continue;
		cells++;
		differ += b.differs;
		names_of(at, names);
		fputs(b.differs ? "* " : "  ", out);
		print_names(out, &c, names);
		for (i = 0; i < num; i++)
			fprintf(out, "%-*s%s", i + 1 < num ? (int)c.run[i] : 0, b.text[i],
				i + 1 < num ? "  " : "\n");
	}
	fprintf(out, "\n%zu of %zu cells differ between these runs%s\n", differ, cells,
		differ ? " (*)" : "");
}

/* ---- JSON ---- */

static void add_string(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

static void put_json(FILE *out, const char *before, struct json_object *object)
{
	fprintf(out, "%s%s", before,
		json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE |
							       JSON_C_TO_STRING_SPACED));
	json_object_put(object);
}

static struct json_object *cell_json(const struct beside *b, struct cell_at at)
{
	struct json_object *object = json_object_new_object(), *list = json_object_new_array();
	struct cell_name name = cell_name(at);
	size_t i;

	add_string(object, "kind", name.kind);
	add_string(object, "event", name.event);
	if (*name.policy)
		add_string(object, "policy", name.policy);
	add_string(object, "mr", name.mr);
	add_string(object, "op", name.op);
	for (i = 0; i < b->num; i++)
		json_object_array_add(list, matrix_cell(b->runs[i], at)->state <= ANSWER_NA
						    ? NULL
						    : json_object_new_string(b->text[i]));
	json_object_object_add(object, "answers", list);
	json_object_object_add(object, "differs", json_object_new_boolean(b->differs));
	return object;
}

void beside_json(FILE *out, const struct matrix *const *runs, size_t num)
{
	struct beside b = {.runs = runs, .num = num};
	struct cell_at at = CELL_START;
	const char *before = "\n    ";
	size_t i;

	fputs("{\n  \"format\": 1,\n  \"runs\": [", out);
	for (i = 0; i < num; i++)
		put_json(out, i ? ",\n    " : "\n    ", environment_json(&runs[i]->env));
	fputs("\n  ],\n  \"cells\": [", out);
	while (cell_next(&at)) {
		if (!cell_load(&b, at))
			continue;
		put_json(out, before, cell_json(&b, at));
		before = ",\n    ";
	}
	fputs("\n  ]\n}\n", out);
}
