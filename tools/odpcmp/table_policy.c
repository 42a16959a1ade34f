/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The table of policies: a row a kind of memory, event, policy and kind of region. */
#include <string.h>

#include "odpcmp.h"

enum { GAP = 2, EXTRA = 3 };

bool table_has_policies(const struct matrix *matrix)
{
	struct cell_at at = CELL_START;

	while (cell_next(&at))
		if (at.policy && matrix_cell(matrix, at)->state > ANSWER_NA)
			return true;
	return false;
}

static void told_join(char *told, size_t len, const char *more)
{
	char both[64];

	if (!*told || !strcmp(told, "-"))
		snprintf(told, len, "%s", more);
	else if (strcmp(more, "-") && strcmp(told, more)) {
		snprintf(both, sizeof(both), "%s | %s", told, more);
		snprintf(told, len, "%.39s", both);
	}
}

struct aftermath aftermath_join(const struct matrix *matrix, struct cell_at at)
{
	struct aftermath all = {.lost = -1};
	const struct aftermath *one;

	for (at.op = 0; at.op < num_operations; at.op++) {
		one = &matrix_cell(matrix, at)->after;
		if (!one->known)
			continue;
		if (!all.known || strcmp(one->truncater, "ok"))
			snprintf(all.truncater, sizeof(all.truncater), "%s", one->truncater);
		if (one->waited_ms > all.waited_ms)
			all.waited_ms = one->waited_ms;
		if (one->lost > all.lost)
			all.lost = one->lost;
		told_join(all.told, sizeof(all.told), one->told);
		all.known = true;
	}
	return all;
}

/* ---- columns: five names, the operations, what the truncater saw, told, lost ---- */

enum { COLUMN_KIND, COLUMN_EVENT, COLUMN_POLICY, COLUMN_MR, NAMES };
enum { COLUMNS = NAMES + MAX_OPS + EXTRA };

struct line {
	char text[COLUMNS][48];
};

static void line_head(const struct matrix *matrix, struct line *line)
{
	struct cell_at at = CELL_START;

	*line = (struct line){{"memory", "event", "policy", "region"}};
	while (cell_next(&at))
		if (at.policy && matrix_cell(matrix, at)->state > ANSWER_NA)
			snprintf(line->text[NAMES + at.op], sizeof(line->text[0]), "%s",
				 operations[at.op].title);
	snprintf(line->text[COLUMNS - 3], sizeof(line->text[0]), "truncater");
	snprintf(line->text[COLUMNS - 2], sizeof(line->text[0]), "program was told");
	snprintf(line->text[COLUMNS - 1], sizeof(line->text[0]), "lost");
}

/* False: nothing was asked there. */
static bool line_fill(const struct matrix *matrix, struct cell_at at, struct line *line)
{
	struct aftermath after = aftermath_join(matrix, at);
	const struct answer *answer;
	bool asked = false;

	*line = (struct line){{""}};
	snprintf(line->text[COLUMN_KIND], sizeof(line->text[0]), "%s", kinds[at.kind].name);
	snprintf(line->text[COLUMN_EVENT], sizeof(line->text[0]), "%s", events[at.event].name);
	snprintf(line->text[COLUMN_POLICY], sizeof(line->text[0]), "%s", policies[at.policy].name);
	snprintf(line->text[COLUMN_MR], sizeof(line->text[0]), "%s", mr_names[at.mr].name);
	for (at.op = 0; at.op < num_operations; at.op++) {
		answer = matrix_cell(matrix, at);
		if (answer->state <= ANSWER_NA)
			continue;
		asked = true;
		snprintf(line->text[NAMES + at.op], sizeof(line->text[0]), "%s", answer->text);
	}
	if (after.known) {
		snprintf(line->text[COLUMNS - 3], sizeof(line->text[0]), "%s, %u ms",
			 after.truncater, after.waited_ms);
		snprintf(line->text[COLUMNS - 2], sizeof(line->text[0]), "%s", after.told);
	}
	if (after.lost >= 0)
		snprintf(line->text[COLUMNS - 1], sizeof(line->text[0]), "%d B", after.lost);
	return asked;
}

static void widen(const struct line *line, int *widths)
{
	int i, len;

	for (i = 0; i < COLUMNS; i++) {
		len = strlen(line->text[i]);
		if (len && widths[i] < len + GAP)
			widths[i] = len + GAP;
	}
}

static void line_print(FILE *out, const struct line *line, const int *widths)
{
	int i, pad = 0;

	for (i = 0; i < COLUMNS; i++) {
		if (!widths[i])
			continue;
		if (*line->text[i]) {
			fprintf(out, "%*s%s", pad, "", line->text[i]);
			pad = widths[i] - strlen(line->text[i]);
		} else {
			pad += widths[i];
		}
	}
	fputc('\n', out);
}

void table_print_policies(FILE *out, const struct matrix *matrix)
{
	struct cell_at at = CELL_START, last = CELL_START;
	int widths[COLUMNS] = {0};
	struct line line;
	bool first = true;

	line_head(matrix, &line);
	widen(&line, widths);
	while (cell_next(&at))
		if (at.policy && !at.op && line_fill(matrix, at, &line))
			widen(&line, widths);
	line_head(matrix, &line);
	line_print(out, &line, widths);
	for (at = (struct cell_at)CELL_START; cell_next(&at);) {
		if (!at.policy || at.op || !line_fill(matrix, at, &line))
			continue;
		if (!first && (last.kind != at.kind || last.event != at.event))
			fputc('\n', out);
		line_print(out, &line, widths);
		last = at;
		first = false;
	}
	fputs("\ntruncater: what the one who took the blocks away got, and how long it took\n"
	      "lost: bytes that RDMA had written before and that are now neither in the file, nor\n"
	      "      where the program sees them, nor where the region reads them\n",
	      out);
}
