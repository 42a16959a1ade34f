/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What a cell's process, the provider within it above all, says on standard
 * error. The same line from each of some hundred processes is shown once.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "odpcmp.h"

enum { MAX_BYTES = 1 << 16 };

static char **seen;
static size_t num_seen;

static bool first_time(const char *line)
{
	char **larger;
	size_t i;

	for (i = 0; i < num_seen; i++)
		if (!strcmp(seen[i], line))
			return false;
	larger = realloc(seen, (num_seen + 1) * sizeof(*seen));
	if (!larger)
		return true;
	seen = larger;
	seen[num_seen] = strdup(line);
	if (seen[num_seen])
		num_seen++;
	return true;
}

/* A descriptor to collect in, or -1: then lines go where they always go. */
int messages_create(void)
{
	return memfd_create(PROGRAM "-messages", MFD_CLOEXEC);
}

/* In the process that is to be listened to. */
void messages_redirect(int fd)
{
	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
}

/* Shows what is new in fd, which it closes. */
void messages_show(int fd)
{
	char *buf = malloc(MAX_BYTES + 1), *rest = buf, *line;
	ssize_t len;

	if (fd < 0 || !buf)
		goto out;
	len = pread(fd, buf, MAX_BYTES, 0);
	buf[len > 0 ? len : 0] = '\0';
	while ((line = strsep(&rest, "\n")))
		if (*line && first_time(line))
			fprintf(stderr, "%s\n", line);
out:
	free(buf);
	if (fd >= 0)
		close(fd);
}

void messages_forget(void)
{
	while (num_seen)
		free(seen[--num_seen]);
	free(seen);
	seen = NULL;
}
