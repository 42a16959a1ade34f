/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Stock verbs have no counters of a region's faults. odpctl has those of uodp's
 * devices; where it is installed beside this program, it is asked.
 */
#include <json.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"

static bool find_odpctl(char *path, size_t len)
{
	ssize_t got = readlink("/proc/self/exe", path, len - 1);
	char *slash;

	if (got <= 0)
		return false;
	path[got] = '\0';
	slash = strrchr(path, '/');
	if (!slash || (size_t)(slash - path) + sizeof("/odpctl") > len)
		return false;
	strcpy(slash, "/odpctl");
	/* It goes between quotes. */
	return !access(path, X_OK) && !strchr(path, '\'');
}

static char *ask_odpctl(pid_t pid)
{
	char path[PATH_MAX], command[PATH_MAX + 64], *text = NULL;
	size_t len = 0;
	FILE *pipe;

	if (!find_odpctl(path, sizeof(path)))
		return NULL;
	snprintf(command, sizeof(command), "'%s' mrs --json --pid=%d 2>/dev/null", path, (int)pid);
	pipe = popen(command, "re");
	if (!pipe)
		return NULL;
	if (getdelim(&text, &len, '\0', pipe) < 0) {
		free(text);
		text = NULL;
	}
	pclose(pipe);
	return text;
}

static bool number(struct json_object *object, const char *key, uint64_t *value)
{
	struct json_object *field;

	if (!json_object_object_get_ex(object, key, &field))
		return false;
	*value = json_object_get_uint64(field);
	return true;
}

static bool is_region(struct json_object *object, size_t region, enum mr_kind mr)
{
	struct json_object *kind;
	uint64_t length;

	return json_object_is_type(object, json_type_object) &&
	       json_object_object_get_ex(object, "kind", &kind) &&
	       !strcmp(json_object_get_string(kind), mr_names[mr].name) &&
	       number(object, "mrlen", &length) && length == region;
}

bool counters_read(pid_t pid, size_t region, enum mr_kind mr, struct traffic_sample *sample)
{
	char *text = ask_odpctl(pid);
	struct json_object *list = text ? json_tokener_parse(text) : NULL, *object;
	bool found = false;
	size_t i, num;

	free(text);
	num = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	for (i = 0; i < num && !found; i++) {
		object = json_object_array_get_idx(list, i);
		found = is_region(object, region, mr) &&
			number(object, "page_faults", &sample->faults) &&
			number(object, "page_invalidations", &sample->invalidations);
	}
	json_object_put(list);
	return found;
}
