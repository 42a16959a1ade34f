/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The answers as JSON, one cell a line, and back. What makes no sense is left
 * out: that is known without asking.
 */
#include <errno.h>
#include <json.h>
#include <string.h>

#include "odpcmp.h"

#ifndef UODP_VERSION
#define UODP_VERSION "unknown"
#endif

/* Raised when a field changes its meaning; new fields do not raise it. */
#define FORMAT 1

static void add_string(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

struct json_object *environment_json(const struct environment *env)
{
	struct json_object *object = json_object_new_object();

	add_string(object, "device", env->device);
	add_string(object, "fw_ver", env->fw_ver);
	add_string(object, "link_layer", env->link_layer);
	json_object_object_add(object, "port", json_object_new_int(env->port));
	json_object_object_add(object, "gid_index", json_object_new_int(env->gid_index));
	add_string(object, "gid", env->gid);
	json_object_object_add(object, "odp", json_object_new_boolean(env->odp));
	if (*env->events)
		add_string(object, "events", env->events);
	add_string(object, "kernel", env->kernel);
	add_string(object, "machine", env->machine);
	add_string(object, "libibverbs", env->libibverbs);
	add_string(object, "file_system", env->file_system);
	add_string(object, "date", env->date);
	return object;
}

static const char *const state_names[] = {
	[ANSWER_NA] = "n/a",
	[ANSWER_FAILED] = "failed",
	[ANSWER_GOOD] = "ok",
};

static void add_aftermath(struct json_object *object, const struct aftermath *after)
{
	add_string(object, "truncater", after->truncater);
	json_object_object_add(object, "waited_ms", json_object_new_int64(after->waited_ms));
	add_string(object, "told", after->told);
	if (after->lost >= 0)
		json_object_object_add(object, "bytes_lost", json_object_new_int(after->lost));
}

static struct json_object *answer_json(const struct answer *answer)
{
	struct json_object *object = json_object_new_object();

	add_string(object, "answer", answer->text);
	add_string(object, "state", state_names[answer->state]);
	/* Success needs no name in each of some thousand lines. */
	if (*answer->status && strcmp(answer->status, "IBV_WC_SUCCESS"))
		add_string(object, "status", answer->status);
	if (*answer->error)
		add_string(object, "errno", answer->error);
	if (*answer->note)
		add_string(object, "note", answer->note);
	if (answer->after.known)
		add_aftermath(object, &answer->after);
	return object;
}

static void print_cell(FILE *out, const struct answer *answer, struct cell_at at,
		       const char *separator)
{
	struct cell_name name = cell_name(at);
	struct json_object *object = json_object_new_object();
	struct json_object *fields = answer_json(answer);

	add_string(object, "kind", name.kind);
	add_string(object, "event", name.event);
	if (*name.policy)
		add_string(object, "policy", name.policy);
	add_string(object, "mr", name.mr);
	add_string(object, "op", name.op);
	json_object_object_foreach(fields, key, value)
		json_object_object_add(object, key, json_object_get(value));
	fprintf(out, "%s    %s", separator,
		json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE |
							       JSON_C_TO_STRING_SPACED));
	json_object_put(fields);
	json_object_put(object);
}

void json_print(FILE *out, const struct matrix *matrix)
{
	struct json_object *env = environment_json(&matrix->env);
	const char *separator = "";
	const struct answer *answer;
	struct cell_at at = CELL_START;

	fprintf(out,
		"{\n  \"format\": %d,\n  \"odpcmp\": \"%s\",\n  \"environment\": %s,\n"
		"  \"cells\": [\n",
		FORMAT, UODP_VERSION,
		json_object_to_json_string_ext(env, JSON_C_TO_STRING_NOSLASHESCAPE |
							    JSON_C_TO_STRING_SPACED));
	while (cell_next(&at)) {
		answer = matrix_cell(matrix, at);
		if (answer->state <= ANSWER_NA)
			continue;
		print_cell(out, answer, at, separator);
		separator = ",\n";
	}
	fprintf(out, "\n  ]\n}\n");
	json_object_put(env);
}

/* ---- loading ---- */

static struct json_object *get_typed(struct json_object *object, const char *key,
				     enum json_type type)
{
	struct json_object *value;

	if (!json_object_is_type(object, json_type_object) ||
	    !json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

static const char *get_string(struct json_object *object, const char *key)
{
	struct json_object *value = get_typed(object, key, json_type_string);

	return value ? json_object_get_string(value) : "";
}

static int get_int(struct json_object *object, const char *key)
{
	struct json_object *value = get_typed(object, key, json_type_int);

	return value ? json_object_get_int(value) : -1;
}

#define LOAD_STRING(object, key, field)                                                            \
	snprintf(field, sizeof(field), "%s", get_string(object, key))

static void load_environment(struct environment *env, struct json_object *object)
{
	struct json_object *odp = get_typed(object, "odp", json_type_boolean);

	LOAD_STRING(object, "device", env->device);
	LOAD_STRING(object, "fw_ver", env->fw_ver);
	LOAD_STRING(object, "link_layer", env->link_layer);
	env->port = get_int(object, "port");
	env->gid_index = get_int(object, "gid_index");
	LOAD_STRING(object, "gid", env->gid);
	env->odp = odp && json_object_get_boolean(odp);
	LOAD_STRING(object, "events", env->events);
	LOAD_STRING(object, "kernel", env->kernel);
	LOAD_STRING(object, "machine", env->machine);
	LOAD_STRING(object, "libibverbs", env->libibverbs);
	LOAD_STRING(object, "file_system", env->file_system);
	LOAD_STRING(object, "date", env->date);
}

#define FIND_NAME(table, num, wanted, index)                                                       \
	do {                                                                                       \
		for (index = 0; index < (num); index++)                                            \
			if (!strcmp((table)[index].name, wanted))                                  \
				break;                                                             \
	} while (0)

static struct answer *find_cell(struct matrix *matrix, struct json_object *object)
{
	const char *kind_name = get_string(object, "kind"),
		   *event_name = get_string(object, "event");
	const char *mr_name = get_string(object, "mr"), *op_name = get_string(object, "op");
	const char *policy_name = get_string(object, "policy");
	struct cell_at at;

	FIND_NAME(policies, (size_t)NUM_POLICIES, policy_name, at.policy);
	FIND_NAME(kinds, num_kinds, kind_name, at.kind);
	FIND_NAME(events, num_events, event_name, at.event);
	FIND_NAME(mr_names, (size_t)NUM_MR_KINDS, mr_name, at.mr);
	FIND_NAME(operations, num_operations, op_name, at.op);
	if (at.kind == num_kinds || at.event == num_events || at.mr == NUM_MR_KINDS ||
	    at.op == num_operations || at.policy == NUM_POLICIES)
		return NULL;
	return matrix_cell(matrix, at);
}

static void load_aftermath(struct aftermath *after, struct json_object *object)
{
	int waited = get_int(object, "waited_ms");

	LOAD_STRING(object, "truncater", after->truncater);
	LOAD_STRING(object, "told", after->told);
	after->waited_ms = waited > 0 ? waited : 0;
	after->lost = get_int(object, "bytes_lost");
	after->known = *after->truncater;
}

static bool load_cell(struct matrix *matrix, struct json_object *object)
{
	struct answer *answer = find_cell(matrix, object);
	const char *state = get_string(object, "state");
	size_t i;

	if (!answer)
		return false;
	for (i = ANSWER_NA; i < ARRAY_SIZE(state_names); i++)
		if (!strcmp(state_names[i], state))
			answer->state = i;
	LOAD_STRING(object, "answer", answer->text);
	LOAD_STRING(object, "status", answer->status);
	LOAD_STRING(object, "errno", answer->error);
	LOAD_STRING(object, "note", answer->note);
	load_aftermath(&answer->after, object);
	return answer->state != ANSWER_NONE;
}

/* Complains itself. Cells that this program does not know are passed over. */
int json_load(struct matrix *matrix, const char *path)
{
	struct json_object *root = (errno = 0, json_object_from_file(path));
	struct json_object *env = get_typed(root, "environment", json_type_object);
	struct json_object *cells = get_typed(root, "cells", json_type_array);
	size_t i, num = cells ? json_object_array_length(cells) : 0, known = 0;

	if (!root) {
		fprintf(stderr, PROGRAM ": %s: %s\n", path, errno ? strerror(errno) : "not JSON");
		return -EINVAL;
	}
	if (env && get_int(root, "format") == FORMAT) {
		load_environment(&matrix->env, env);
		matrix_mark_na(matrix, 0);
		for (i = 0; i < num; i++)
			known += load_cell(matrix, json_object_array_get_idx(cells, i));
	}
	json_object_put(root);
	if (!known) {
		fprintf(stderr, PROGRAM ": %s holds no answers of format %d\n", path, FORMAT);
		return -EINVAL;
	}
	if (known < num)
		fprintf(stderr, PROGRAM ": %s: %zu of %zu cells are unknown here\n", path,
			num - known, num);
	return 0;
}
