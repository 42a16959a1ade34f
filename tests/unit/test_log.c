/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Messages: nobody who logs waits for who reads standard error. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base.h"
#include "suite.h"

#define FILLED 2000 /* lines of more bytes than a pipe or a socket holds */

static const char filler[] = "a line that is long enough for two thousand of them to fill whatever "
			     "holds what nobody reads, a pipe as well as a socket of the kernel's "
			     "usual size, and with a number at its end: %d";

/* Let standard error be FD meanwhile. */
static int stderr_set(int fd)
{
	int old = dup(STDERR_FILENO);

	fflush(stderr);
	CU_ASSERT_FATAL(old >= 0 && dup2(fd, STDERR_FILENO) == STDERR_FILENO);
	return old;
}

static void stderr_back(int old)
{
	dup2(old, STDERR_FILENO);
	close(old);
}

/* Everything that RD holds, read to its end; the last bytes stay in BUF. */
static void drain(int rd, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	fcntl(rd, F_SETFL, O_NONBLOCK);
	for (;;) {
		if (len == size - 1) {
			memmove(buf, buf + size / 2, len - size / 2);
			len -= size / 2;
		}
		n = read(rd, buf + len, size - 1 - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	buf[len] = 0;
}

/* WR is standard error that nobody reads. Fails by not returning: SIGALRM. */
static void full(int rd, int wr)
{
	int flags = fcntl(wr, F_GETFL), old = stderr_set(wr), i;
	static char buf[8192];

	alarm(60);
	for (i = 0; i < FILLED; i++)
		odp_log(ODP_LOG_ERR, filler, i);
	alarm(0);
	drain(rd, buf, sizeof(buf));
	odp_log(ODP_LOG_ERR, "there is room again");
	stderr_back(old);
	CU_ASSERT_PTR_NOT_NULL(strstr(buf, "uodp: a line that is long"));
	drain(rd, buf, sizeof(buf));
	CU_ASSERT_PTR_NOT_NULL(strstr(buf, "lines lost: standard error was full\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(buf, "uodp: there is room again\n"));
	/* It was others' descriptor too. */
	CU_ASSERT_EQUAL(fcntl(wr, F_GETFL), flags);
	close(rd);
	close(wr);
}

static void test_pipe(void)
{
	int fds[2];

	CU_ASSERT_FATAL(!pipe(fds));
	full(fds[0], fds[1]);
}

static void test_socket(void)
{
	int fds[2];

	CU_ASSERT_FATAL(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	full(fds[0], fds[1]);
}

static void test_file(void)
{
	char buf[64] = "";
	int fd = memfd_create("log", MFD_CLOEXEC), old;

	CU_ASSERT_FATAL(fd >= 0);
	old = stderr_set(fd);
	odp_log(ODP_LOG_ERR, "one");
	odp_log(ODP_LOG_ERR, "two");
	stderr_back(old);
	CU_ASSERT_EQUAL(pread(fd, buf, sizeof(buf) - 1, 0), 20);
	CU_ASSERT_STRING_EQUAL(buf, "uodp: one\nuodp: two\n");
	close(fd);
}

static void test_closed(void)
{
	int old = dup(STDERR_FILENO);

	close(STDERR_FILENO);
	odp_log(ODP_LOG_ERR, "nobody to tell");
	stderr_back(old);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a pipe that is full", test_pipe},
		{"a socket that is full", test_socket},
		{"a file", test_file},
		{"closed", test_closed},
		CU_TEST_INFO_NULL,
	};

	return suite_run("log", tests);
}
