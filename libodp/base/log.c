/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * One line a message, in one write, without malloc or stdio. Nobody waits for whoever
 * reads standard error: the service thread logs, and threads that hold locks do, and a
 * pipe that is full may stay full for ever. What finds no room is lost, and counted.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base.h"
#include "own.h"

#define LOG_LEVEL_UNKNOWN (-1)

static _Atomic int log_level = LOG_LEVEL_UNKNOWN;

static _Atomic unsigned log_lost; /* lines since the last that was written */

/*
 * Write without waiting, whatever standard error is: 0, or -EAGAIN without room. No flag
 * of the descriptor may change, which others share. A socket and, on newer kernels, a
 * pipe can be told for one call. Of what cannot (a terminal, a file, an older kernel's
 * pipe) poll(2) knows: a pipe that it calls writable has room for a page, so a line fits
 * unless another process is faster.
 */
static int log_put(const char *line, size_t len)
{
	struct iovec iov = {.iov_base = (char *)line, .iov_len = len};
	struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
	struct timespec now = {0};
	long ret = odp_sys6(SYS_sendto, STDERR_FILENO, (long)line, (long)len,
			    MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);

	if (ret != -ENOTSOCK)
		return ret == -EAGAIN ? -EAGAIN : 0;
	ret = odp_sys6(SYS_pwritev2, STDERR_FILENO, (long)&iov, 1, -1, -1, RWF_NOWAIT);
	/* EAGAIN may be a file's, whose page must be read first: that ends. */
	if (ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -EINVAL || ret == -EAGAIN) {
		ret = odp_sys6(SYS_ppoll, (long)&pfd, 1, (long)&now, 0, 0, 0);
		if (!ret)
			return -EAGAIN;
		ret = odp_sys(SYS_write, STDERR_FILENO, line, len);
	}
	return ret == -EAGAIN ? -EAGAIN : 0; /* closed: nobody to tell */
}

/* Say first that lines are missing; false: there is still no room. */
static bool log_catch_up(void)
{
	/* relaxed: a count, which orders nothing */
	unsigned lost = atomic_exchange_explicit(&log_lost, 0, memory_order_relaxed);
	char line[96];
	int n;

	if (odp_likely(!lost))
		return true;
	n = snprintf(line, sizeof(line), "uodp: %u lines lost: standard error was full\n", lost);
	if (!log_put(line, (size_t)n))
		return true;
	atomic_fetch_add_explicit(&log_lost, lost, memory_order_relaxed);
	return false;
}

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
	if (!log_catch_up() || log_put(line, len))
		atomic_fetch_add_explicit(&log_lost, 1, memory_order_relaxed);
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
