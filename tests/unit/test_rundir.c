/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The run directory and the domain file in it: made, trusted, refused. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "domain.h"
#include "suite.h"

static char base[128]; /* of this test program's directories */
static unsigned count;

/* The path of a new directory, not made yet; UODP_DIR names it. */
static const char *dir_next(void)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/run%u", base, count++);
	setenv("UODP_DIR", path, 1);
	return path;
}

struct dir_call {
	char dir[256];
	int ret;
};

static void dir_call(void *arg)
{
	struct dir_call *c = arg;

	c->ret = odp_dir_get(c->dir, sizeof(c->dir));
}

/* The error, which must have come with one line that holds WORD. */
static int dir_refused(const char *word)
{
	struct dir_call c;
	char line[1024];

	CU_ASSERT_EQUAL(stderr_lines(dir_call, &c, line, sizeof(line)), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, word));
	CU_ASSERT_EQUAL(strncmp(line, "uodp: ", 6), 0);
	return c.ret;
}

static void test_dir_made(void)
{
	const char *path = dir_next();
	struct stat st;
	char dir[256];

	umask(0);
	CU_ASSERT_EQUAL(odp_dir_get(dir, sizeof(dir)), 0);
	umask(022);
	CU_ASSERT_STRING_EQUAL(dir, path);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode, S_IFDIR | 0700);
	CU_ASSERT_EQUAL(odp_dir_get(dir, sizeof(dir)), 0);
}

static void test_dir_relative(void)
{
	char dir[256], want[256];

	CU_ASSERT_EQUAL_FATAL(chdir(base), 0);
	setenv("UODP_DIR", "relative//", 1);
	CU_ASSERT_EQUAL(odp_dir_get(dir, sizeof(dir)), 0);
	snprintf(want, sizeof(want), "%s/relative", base);
	CU_ASSERT_STRING_EQUAL(dir, want);
	CU_ASSERT_EQUAL(chdir("/"), 0);
}

static void test_dir_xdg(void)
{
	char dir[256], want[256];

	unsetenv("UODP_DIR");
	setenv("XDG_RUNTIME_DIR", base, 1);
	CU_ASSERT_EQUAL(odp_dir_get(dir, sizeof(dir)), 0);
	snprintf(want, sizeof(want), "%s/uodp", base);
	CU_ASSERT_STRING_EQUAL(dir, want);
	/* Not there: as if it were not set. */
	setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
	CU_ASSERT_EQUAL(odp_dir_get(dir, sizeof(dir)), 0);
	snprintf(want, sizeof(want), "/dev/shm/uodp-%u", (unsigned)geteuid());
	CU_ASSERT_STRING_EQUAL(dir, want);
	rmdir(want); /* stays if others use it */
	unsetenv("XDG_RUNTIME_DIR");
}

static void test_dir_refused(void)
{
	const char *path;
	char link[256];
	int fd;

	path = dir_next();
	CU_ASSERT_EQUAL(mkdir(path, 0755), 0);
	CU_ASSERT_EQUAL(dir_refused(path), -EACCES);
	CU_ASSERT_EQUAL(chmod(path, 0710), 0);
	CU_ASSERT_EQUAL(dir_refused("chmod"), -EACCES);

	snprintf(link, sizeof(link), "%s/link/", base);
	link[strlen(link) - 1] = 0;
	CU_ASSERT_EQUAL(symlink(base, link), 0);
	setenv("UODP_DIR", link, 1);
	CU_ASSERT_EQUAL(dir_refused(link), -ENOTDIR);
	link[strlen(link)] = '/';
	setenv("UODP_DIR", link, 1);
	CU_ASSERT_EQUAL(dir_refused("symbolic link"), -ENOTDIR);

	path = dir_next();
	fd = creat(path, 0600);
	CU_ASSERT(fd >= 0);
	close(fd);
	CU_ASSERT_EQUAL(dir_refused(path), -ENOTDIR);

	setenv("UODP_DIR", "/nonexistent/run", 1);
	CU_ASSERT_EQUAL(dir_refused("/nonexistent/run"), -ENOENT);
}

static void test_dir_wrong_owner(void)
{
	const char *path = dir_next();

	if (geteuid()) {
		printf(" (skipped: only root can give a directory away)");
		return;
	}
	CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
	CU_ASSERT_EQUAL(chown(path, 65534, 65534), 0);
	CU_ASSERT_EQUAL(dir_refused("65534"), -EACCES);
}

static void test_dir_too_long(void)
{
	char path[600];
	char tiny[4];

	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = 0;
	setenv("UODP_DIR", path, 1);
	CU_ASSERT_EQUAL(dir_refused("longer"), -ENAMETOOLONG);
	path[300] = 0;
	setenv("UODP_DIR", path, 1);
	CU_ASSERT_EQUAL(dir_refused("longer"), -ENAMETOOLONG);
	dir_next();
	CU_ASSERT_EQUAL(odp_dir_get(tiny, sizeof(tiny)), -ENAMETOOLONG);
}

/* ---- The domain file ---- */

static void domain_call(void *arg)
{
	struct odp_proc *proc;
	int *ret = arg;

	proc = odp_priv_alloc(sizeof(*proc));
	proc->domain_fd = proc->dir_fd = -1;
	*ret = odp_domain_open(proc);
	if (!*ret) {
		*ret = proc->domain->magic == ODP_DOMAIN_MAGIC ? 0 : 1;
		odp_domain_close(proc);
	}
	odp_priv_free(proc, sizeof(*proc));
}

static int domain_refused(const char *word)
{
	char line[1024];
	int ret;

	CU_ASSERT_EQUAL(stderr_lines(domain_call, &ret, line, sizeof(line)), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, word));
	CU_ASSERT_PTR_NOT_NULL(strstr(line, "/domain: "));
	return ret;
}

static int domain_accepted(void)
{
	char line[1024];
	int ret;

	CU_ASSERT_EQUAL(stderr_lines(domain_call, &ret, line, sizeof(line)), 0);
	return ret;
}

/* The domain file of a new run directory, open for writing. */
static int domain_fresh(bool complete)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/domain", dir_next());
	CU_ASSERT_EQUAL(complete ? domain_accepted() : mkdir(getenv("UODP_DIR"), 0700), 0);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	CU_ASSERT_FATAL(fd >= 0);
	return fd;
}

static void poke(int fd, size_t off, uint64_t value, size_t size)
{
	CU_ASSERT_EQUAL(pwrite(fd, &value, size, (off_t)off), (ssize_t)size);
	close(fd);
}

static void test_domain_refused(void)
{
	int fd;

	poke(domain_fresh(true), offsetof(struct odp_domain, magic), 0x1234, 8);
	CU_ASSERT_EQUAL(domain_refused("corrupt"), -EPROTO);
	poke(domain_fresh(true), offsetof(struct odp_domain, size_check), 4096, 4);
	CU_ASSERT_EQUAL(domain_refused("wrong size"), -EPROTO);

	fd = domain_fresh(true);
	CU_ASSERT_EQUAL(ftruncate(fd, 8192), 0);
	close(fd);
	CU_ASSERT_EQUAL(domain_refused("wrong size"), -EPROTO);
	fd = domain_fresh(false);
	CU_ASSERT_EQUAL(write(fd, "rubbish", 7), 7);
	close(fd);
	CU_ASSERT_EQUAL(domain_refused("remove the directory"), -EPROTO);
}

/* Left by another version: replaced, unless one of its processes lives. */
static void test_domain_version(void)
{
	struct flock fl = {.l_type = F_WRLCK, .l_start = ODP_LIVE_BYTE + 3, .l_len = 1};
	char path[256];
	int fd;

	poke(domain_fresh(true), offsetof(struct odp_domain, version), 99, 4);
	CU_ASSERT_EQUAL(domain_accepted(), 0);
	poke(domain_fresh(true), offsetof(struct odp_domain, version), 99, 4);
	snprintf(path, sizeof(path), "%s/domain", getenv("UODP_DIR"));
	fd = open(path, O_RDWR);
	/* As another process's lock: it belongs to the open file. */
	CU_ASSERT_EQUAL(fcntl(fd, F_OFD_SETLK, &fl), 0);
	CU_ASSERT_EQUAL(domain_refused("another version"), -EPROTO);
	close(fd);
	CU_ASSERT_EQUAL(domain_accepted(), 0);
}

static void test_domain_not_a_file(void)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/domain", dir_next());
	CU_ASSERT_EQUAL(mkdir(getenv("UODP_DIR"), 0700), 0);
	CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
	CU_ASSERT_EQUAL(domain_refused("not a file"), -EPROTO);
	CU_ASSERT_EQUAL(unlink(path), 0);
	CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
	CU_ASSERT_EQUAL(domain_refused("remove it"), -EPROTO);
	CU_ASSERT_EQUAL(rmdir(path), 0);
	CU_ASSERT_EQUAL(symlink("/etc/passwd", path), 0);
	CU_ASSERT_EQUAL(domain_refused("remove it"), -EPROTO);
}

/* Its creator died before it was complete. */
static void test_domain_unborn(void)
{
	int fd;

	close(domain_fresh(false));
	CU_ASSERT_EQUAL(domain_accepted(), 0);
	fd = domain_fresh(false);
	CU_ASSERT_EQUAL(ftruncate(fd, sizeof(struct odp_domain)), 0);
	poke(fd, offsetof(struct odp_domain, version), 77, 4);
	CU_ASSERT_EQUAL(domain_accepted(), 0);
}

static int role_open(void)
{
	int ret;

	parent_get(); /* all at once */
	domain_call(&ret);
	return ret ? 1 : 0;
}

static void test_domain_race(void)
{
	struct child c[8];
	unsigned i;

	dir_next();
	for (i = 0; i < 8; i++)
		CU_ASSERT_FATAL(child_start(&c[i], "open"));
	for (i = 0; i < 8; i++)
		child_put(&c[i], 1);
	for (i = 0; i < 8; i++)
		CU_ASSERT_EQUAL(child_end(&c[i]), 0);
}

/* ---- Messages ---- */

static int role_log(void)
{
	errno = ENXIO;
	odp_log(ODP_LOG_ERR, "an error");
	odp_log(ODP_LOG_WARN, "a warning");
	odp_log(ODP_LOG_DEBUG, "a detail");
	return errno == ENXIO ? 0 : 1;
}

static void log_child(void *arg)
{
	struct child c;

	*(int *)arg = child_start(&c, "log") ? child_end(&c) : -1;
}

static int log_lines(const char *level)
{
	char lines[2048];
	int ret, n;

	setenv("UODP_LOG", level, 1);
	n = stderr_lines(log_child, &ret, lines, sizeof(lines));
	unsetenv("UODP_LOG");
	CU_ASSERT_EQUAL(ret, 0);
	CU_ASSERT_EQUAL(!!strstr(lines, "uodp: UODP_LOG="), !strcmp(level, "xyz"));
	return n;
}

static void test_log_levels(void)
{
	CU_ASSERT_EQUAL(log_lines("0"), 1);
	CU_ASSERT_EQUAL(log_lines("1"), 2);
	CU_ASSERT_EQUAL(log_lines("2"), 3);
	CU_ASSERT_EQUAL(log_lines(""), 2);
	CU_ASSERT_EQUAL(log_lines("xyz"), 3); /* one of them says so */
}

static void long_line(void *arg)
{
	char text[2000];

	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = 0;
	odp_log(ODP_LOG_ERR, "%s", text);
	(void)arg;
}

static void test_log_long(void)
{
	char line[4096];

	CU_ASSERT_EQUAL(stderr_lines(long_line, NULL, line, sizeof(line)), 1);
	CU_ASSERT_EQUAL(line[strlen(line) - 1], '\n');
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {
		{"open", role_open},
		{"log", role_log},
		{NULL, NULL},
	};
	static CU_TestInfo tests[] = {
		{"a directory is made for its owner alone", test_dir_made},
		{"a relative path is made absolute", test_dir_relative},
		{"XDG_RUNTIME_DIR is used if it can be", test_dir_xdg},
		{"what is not a private directory is refused", test_dir_refused},
		{"another user's directory is refused", test_dir_wrong_owner},
		{"a path too long is refused", test_dir_too_long},
		{"a corrupt or foreign domain is refused", test_domain_refused},
		{"the domain file of another version", test_domain_version},
		{"a domain that is no file is refused", test_domain_not_a_file},
		{"a domain left incomplete is made anew", test_domain_unborn},
		{"one of many creators wins", test_domain_race},
		{"UODP_LOG chooses what is said", test_log_levels},
		{"a long message is one line", test_log_long},
		CU_TEST_INFO_NULL,
	};
	const char *tmp = getenv("TMPDIR");
	char cmd[160];
	int ret;

	child_main(argc, argv, roles);
	snprintf(base, sizeof(base), "%.64s/uodp-rundir.XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(base)) {
		perror(base);
		return 1;
	}
	ret = suite_run("rundir", tests);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", base);
	return system(cmd) || ret;
}
