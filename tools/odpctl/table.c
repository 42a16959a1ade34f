/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Rows of cells: aligned columns, or one JSON object a row. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "odpctl.h"

void text_clean(char *dst, size_t size, const char *str, size_t len)
{
	size_t i;

	for (i = 0; i < len && i < size - 1 && str[i]; i++)
		dst[i] = str[i] < 0x20 || str[i] > 0x7e ? '?' : str[i];
	dst[i] = '\0';
}

void table_begin(struct table *t, const struct ctl *ctl, const struct column *columns,
		 unsigned count)
{
	memset(t, 0, sizeof(*t));
	t->columns = columns;
	t->count = count;
	t->json = ctl->json;
	if (t->json)
		fputs("[", stdout);
}

static void cell_set(struct table *t, unsigned column, const char *text, struct json_object *value)
{
	if (t->json && t->columns[column].key) {
		if (!t->row)
			t->row = json_object_new_object();
		json_object_object_add(t->row, t->columns[column].key, value);
		return;
	}
	json_object_put(value);
	if (!t->json && text)
		snprintf(t->cells[column], TABLE_CELL, "%s", text);
}

void table_both(struct table *t, unsigned column, const char *text, struct json_object *value)
{
	cell_set(t, column, text, value);
}

void table_num(struct table *t, unsigned column, uint64_t value)
{
	static const char *const formats[] = {
		[COLUMN_TEXT] = "%" PRIu64,
		[COLUMN_NUM] = "%" PRIu64,
		[COLUMN_HEX] = "0x%" PRIx64,
		[COLUMN_ADDR] = "%" PRIx64,
	};
	char text[32];

	if (t->json) {
		cell_set(t, column, NULL, json_object_new_uint64(value));
		return;
	}
	snprintf(text, sizeof(text), formats[t->columns[column].kind], value);
	cell_set(t, column, text, NULL);
}

void table_text(struct table *t, unsigned column, const char *value)
{
	cell_set(t, column, value, t->json ? json_object_new_string(value) : NULL);
}

void table_bool(struct table *t, unsigned column, bool value)
{
	cell_set(t, column, value ? "yes" : "no", t->json ? json_object_new_boolean(value) : NULL);
}

static void row_print_json(struct table *t)
{
	if (!t->row)
		t->row = json_object_new_object();
	printf("%s\n  %s", t->rows ? "," : "",
	       json_object_to_json_string_ext(t->row, JSON_C_TO_STRING_SPACED |
							      JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(t->row);
	t->row = NULL;
}

static void row_keep(struct table *t)
{
	unsigned i;

	for (i = 0; i < t->count; i++) {
		char *cell = t->cells[i];
		size_t len;

		if (!*cell)
			strcpy(cell, "-");
		len = strlen(cell);
		if (t->size - t->len < len + 1) {
			t->size = t->size * 2 + TABLE_CELL;
			t->text = ctl_realloc(t->text, t->size);
		}
		memcpy(t->text + t->len, cell, len + 1);
		t->len += len + 1;
		if (t->columns[i].wrap && len > t->columns[i].wrap)
			len = t->columns[i].wrap;
		if (t->widths[i] < len)
			t->widths[i] = (unsigned)len;
		*cell = '\0';
	}
}

void table_row(struct table *t)
{
	if (t->json)
		row_print_json(t);
	else
		row_keep(t);
	t->rows++;
}

/* How many characters of TEXT go on a line of WIDTH. */
static size_t line_break(const char *text, size_t width)
{
	size_t len = strlen(text), at;

	if (len <= width)
		return len;
	for (at = width; at > 0 && text[at] != ' '; at--)
		;
	return at ? at : width;
}

/* One line of every cell; true when cells have more. */
static bool line_print(const struct table *t, const char **cells)
{
	unsigned i, last = 0, blanks = 0;
	bool more = false;

	for (i = 0; i < t->count; i++) {
		const struct column *c = &t->columns[i];
		unsigned width = t->widths[i];
		size_t n;

		if (!c->title || t->hidden[i])
			continue;
		n = c->wrap ? line_break(cells[i], width) : strlen(cells[i]);
		/* Blanks wait for text behind them: lines end without. */
		if (last++)
			blanks++;
		if (c->kind != COLUMN_TEXT)
			blanks += width - (unsigned)n;
		if (n)
			printf("%*s%.*s", (int)blanks, "", (int)n, cells[i]);
		if (n)
			blanks = 0;
		if (c->kind == COLUMN_TEXT)
			blanks += width - (unsigned)n;
		cells[i] += n;
		while (*cells[i] == ' ')
			cells[i]++;
		more |= *cells[i];
	}
	putchar('\n');
	return more;
}

static void row_print(const struct table *t, const char **cells)
{
	while (line_print(t, cells))
		;
}

static void print_text(struct table *t)
{
	const char *cells[TABLE_COLUMNS], *at = t->text;
	unsigned i;
	size_t row;

	for (i = 0; i < t->count; i++) {
		cells[i] = t->columns[i].title ? t->columns[i].title : "";
		if (t->widths[i] < strlen(cells[i]))
			t->widths[i] = (unsigned)strlen(cells[i]);
	}
	row_print(t, cells);
	for (row = 0; row < t->rows; row++) {
		for (i = 0; i < t->count; i++) {
			cells[i] = t->columns[i].title ? at : "";
			at += strlen(at) + 1;
		}
		row_print(t, cells);
	}
}

void table_end(struct table *t)
{
	if (t->json)
		fputs(t->rows ? "\n]\n" : "]\n", stdout);
	else
		print_text(t);
	free(t->text);
	t->text = NULL;
}
