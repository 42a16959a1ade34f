/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Lines of another process, each with a word in front: none is mixed with one of ours. */
#include <string.h>
#include <unistd.h>

#include <sys/uio.h>

#include "pair.h"

static void line_write(const struct lines *l, const char *front, size_t from, size_t len)
{
	struct iovec parts[] = {
		{(void *)front, strlen(front)},
		{(void *)(l->buf + from), len},
	};

	/* A reader that has gone is no reason to end the server. */
	if (writev(l->to, parts, 2) < 0)
		return;
}

/* The whole lines; a part of one when it fills the buffer, or NOW. */
static void lines_write(struct lines *l, const char *front, bool now)
{
	size_t from = 0;
	const char *end;

	while ((end = memchr(l->buf + from, '\n', l->used - from))) {
		size_t len = (size_t)(end - l->buf) + 1 - from;

		line_write(l, front, from, len);
		from += len;
	}
	if (from < l->used && (now || (!from && l->used == sizeof(l->buf)))) {
		line_write(l, front, from, l->used - from);
		if (now && write(l->to, "\n", 1) < 0)
			return;
		from = l->used;
	}
	l->used -= from;
	memmove(l->buf, l->buf + from, l->used);
}

void lines_pass(struct lines *l, const char *front)
{
	ssize_t n = read(l->from, l->buf + l->used, sizeof(l->buf) - l->used);

	if (n > 0)
		l->used += (size_t)n;
	lines_write(l, front, n <= 0);
	if (n <= 0) {
		close(l->from);
		l->from = -1;
	}
}
