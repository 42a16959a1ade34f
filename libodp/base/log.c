/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* One line a message, in one write(2), without malloc or stdio. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define LOG_LEVEL_UNKNOWN (-1)

static _Atomic int log_level = LOG_LEVEL_UNKNOWN;

static void log_write(const char *fmt, va_list ap)
{
	static const char prefix[] = "uodp: ";
	char line[512];
	size_t len = sizeof(prefix) - 1;
	int n;

	memcpy(line, prefix, len);
	n = vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	if (n < 0)
		return;
	len += (size_t)n;
	if (len > sizeof(line) - 1)
		len = sizeof(line) - 1; /* cut, but still a line */
	line[len++] = '\n';
	/* Nobody to tell when stderr is closed or full. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}

__attribute__((format(printf, 1, 2))) static void log_line(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_write(fmt, ap);
	va_end(ap);
}

static int log_level_parse(bool *bad)
{
	const char *env = secure_getenv("UODP_LOG");

	*bad = false;
	if (!env || !*env)
		return ODP_LOG_WARN;
	if (env[0] >= '0' && env[0] <= '2' && !env[1])
		return env[0] - '0';
	*bad = true;
	return ODP_LOG_WARN;
}

static int log_level_get(void)
{
	/* relaxed: the value is all there is; a race only parses twice. */
	int level = atomic_load_explicit(&log_level, memory_order_relaxed);
	int unknown = LOG_LEVEL_UNKNOWN;
	bool bad;

	if (odp_likely(level != LOG_LEVEL_UNKNOWN))
		return level;
	level = log_level_parse(&bad);
	if (atomic_compare_exchange_strong_explicit(&log_level, &unknown, level,
						    memory_order_relaxed, memory_order_relaxed) &&
	    bad)
		log_line("UODP_LOG=%.32s is not 0, 1 or 2: using 1", secure_getenv("UODP_LOG"));
	return level;
}

ODP_EXPORT void odp_log(enum odp_log_level level, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if ((int)level <= log_level_get()) {
		va_start(ap, fmt);
		log_write(fmt, ap);
		va_end(ap);
	}
	errno = saved;
}
