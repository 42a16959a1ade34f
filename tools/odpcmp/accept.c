/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Cells that may differ from another device's, each with its reason: an array of
 * objects with kind, event, mr and op (a name, names separated by commas, or *), policy
 * (the same; any if absent), here and there (the two answers; any if absent), and reason.
 */
#include <errno.h>
#include <json.h>
#include <stdlib.h>
#include <string.h>

#include "odpcmp.h"

struct accepted {
	struct json_object *list;
	size_t num;
	struct use {
		bool asked;   /* cells that it names were compared */
		size_t cells; /* that it was the reason of */
	} * uses;
};

static const char *field(struct json_object *entry, const char *key)
{
	struct json_object *value;

	if (!json_object_is_type(entry, json_type_object) ||
	    !json_object_object_get_ex(entry, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

static bool complete(struct json_object *entry)
{
	static const char *const keys[] = {"kind", "event", "mr", "op", "reason"};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++)
		if (!field(entry, keys[i]) || !*field(entry, keys[i]))
			return false;
	return true;
}

struct accepted *accept_load(const char *path)
{
	struct accepted *accepted = calloc(1, sizeof(*accepted));
	size_t i;

	if (!accepted)
		return NULL;
	errno = 0;
	accepted->list = json_object_from_file(path);
	if (!json_object_is_type(accepted->list, json_type_array)) {
		fprintf(stderr, PROGRAM ": %s: %s\n", path,
			errno ? strerror(errno) : "not an array in JSON");
		goto err_free;
	}
	accepted->num = json_object_array_length(accepted->list);
	for (i = 0; i < accepted->num; i++) {
		if (complete(json_object_array_get_idx(accepted->list, i)))
			continue;
		fprintf(stderr, PROGRAM ": %s: entry %zu lacks kind, event, mr, op or reason\n",
			path, i + 1);
		goto err_free;
	}
	accepted->uses = calloc(accepted->num + 1, sizeof(*accepted->uses));
	if (accepted->uses)
		return accepted;

err_free:
	accept_free(accepted);
	return NULL;
}

void accept_free(struct accepted *accepted)
{
	if (!accepted)
		return;
	json_object_put(accepted->list);
	free(accepted->uses);
	free(accepted);
}

static bool lists(const char *list, const char *name)
{
	size_t len = strlen(name), word;

	if (!strcmp(list, "*"))
		return true;
	for (; *list; list += word + (list[word] == ',')) {
		word = strcspn(list, ",");
		if (word == len && !strncmp(list, name, len))
			return true;
	}
	return false;
}

static bool agrees(const char *wanted, const char *text)
{
	return !wanted || !strcmp(wanted, text);
}

static bool names(struct json_object *entry, const struct cell_name *cell)
{
	const char *policy = field(entry, "policy");

	return (!policy || lists(policy, cell->policy)) &&
	       lists(field(entry, "kind"), cell->kind) &&
	       lists(field(entry, "event"), cell->event) && lists(field(entry, "mr"), cell->mr) &&
	       lists(field(entry, "op"), cell->op);
}

void accept_asked(struct accepted *accepted, const struct cell_name *cell)
{
	size_t i;

	for (i = 0; accepted && i < accepted->num; i++)
		accepted->uses[i].asked |=
			names(json_object_array_get_idx(accepted->list, i), cell);
}

const char *accept_reason(struct accepted *accepted, const struct cell_name *cell, const char *here,
			  const char *there)
{
	struct json_object *entry;
	size_t i;

	for (i = 0; accepted && i < accepted->num; i++) {
		entry = json_object_array_get_idx(accepted->list, i);
		if (!names(entry, cell) || !agrees(field(entry, "here"), here) ||
		    !agrees(field(entry, "there"), there))
			continue;
		accepted->uses[i].cells++;
		return field(entry, "reason");
	}
	return NULL;
}

void accept_print(FILE *out, const struct accepted *accepted)
{
	struct json_object *entry;
	const struct use *use;
	size_t i;

	for (i = 0; accepted && i < accepted->num; i++) {
		entry = json_object_array_get_idx(accepted->list, i);
		use = &accepted->uses[i];
		if (!use->asked)
			continue;
		if (use->cells)
			fprintf(out, "accepted, %zu cells", use->cells);
		else
			fputs("accepted, but nothing differs so", out);
		fprintf(out, ": %s %s %s %s: %s\n", field(entry, "kind"), field(entry, "event"),
			field(entry, "mr"), field(entry, "op"), field(entry, "reason"));
	}
}
