/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What each of several users may do, and what becomes of set-ID bits, capabilities and
 * ACLs then. Usage, by root: rights DIRECTORY; the directory is empty and open to all. On
 * any file system of the kernel it has nothing to complain of.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { USER = 1234, GROUP = 4321 };

static int failures;

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			printf("FAILED: %s:%d: %s (errno: %s)\n", __func__, __LINE__, #what,       \
			       strerror(errno));                                                   \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

/* FN as USER, with GROUP besides its own if MEMBER; its exit status. */
static int as_user(int (*fn)(void), bool member)
{
	gid_t group = GROUP;
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (setgroups(member, &group) || setgid(USER) || setuid(USER))
			_exit(99);
		_exit(fn());
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static unsigned mode_of(const char *name)
{
	struct stat st;

	return stat(name, &st) ? 0 : st.st_mode & 07777;
}

/* A file of USER and GROUP. */
static void make(const char *name, unsigned mode)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && write(fd, "0123456789", 10) == 10);
	close(fd);
	CHECK(!chown(name, USER, GROUP) && !chmod(name, mode) && mode_of(name) == mode);
}

/* user::rwx user:77:r-x group::rwx mask::rwx other::r-x */
static int acl_set(void)
{
	static const struct {
		uint32_t version;
		struct {
			uint16_t tag, perm;
			uint32_t id;
		} e[5];
	} acl = {2, {{1, 7, -1u}, {2, 5, 77}, {4, 7, -1u}, {16, 7, -1u}, {32, 5, -1u}}};

	return setxattr("file", "system.posix_acl_access", &acl, sizeof(acl), 0) ? errno : 0;
}

static void acl_and_set_group_id(void)
{
	make("file", 02775);
	CHECK(as_user(acl_set, false) == 0 && mode_of("file") == 0775);
	CHECK(!unlink("file"));
	make("file", 02775);
	CHECK(as_user(acl_set, true) == 0 && mode_of("file") == 02775);
	CHECK(!unlink("file"));
	make("file", 02775);
	CHECK(acl_set() == 0 && mode_of("file") == 02775);
	CHECK(!unlink("file"));
}

/* How often NAME is in the list; the length alone has to agree with it. */
static int listed(const char *name)
{
	char list[4096];
	ssize_t n = listxattr("file", list, sizeof(list));
	int found = 0;

	if (n < 0 || listxattr("file", NULL, 0) != n)
		return 90;
	if (n > 0 && (listxattr("file", list, (size_t)n - 1) != -1 || errno != ERANGE))
		return 91;
	for (char *p = list; p < list + n; p += strlen(p) + 1)
		found += !strcmp(p, name);
	return found;
}

static int listed_trusted(void)
{
	return listed("trusted.secret");
}

static int listed_user(void)
{
	return listed("user.open");
}

static int as_lesser_root(int (*fn)(void))
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (syscall(SYS_capget, &header, data))
			_exit(99);
		data[0].effective &= ~(1u << CAP_SYS_ADMIN);
		_exit(syscall(SYS_capset, &header, data) ? 99 : fn());
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void trusted_names(void)
{
	make("file", 0666);
	CHECK(!setxattr("file", "user.open", "x", 1, 0));
	if (setxattr("file", "trusted.secret", "x", 1, 0)) {
		printf("no trusted attributes here: %s\n", strerror(errno));
	} else {
		CHECK(listed_trusted() == 1);
		CHECK(as_user(listed_trusted, false) == 0);
		CHECK(as_lesser_root(listed_trusted) == 0);
	}
	CHECK(listed_user() == 1 && as_user(listed_user, false) == 1);
	CHECK(!unlink("file"));
}

static int open_and_do(int (*fn)(int fd), int flags)
{
	int fd = open("file", flags | O_CLOEXEC);
	int err = fd < 0 || fn(fd) ? errno : 0;

	close(fd);
	return err;
}

static int one_byte(int fd)
{
	return pwrite(fd, "x", 1, 3) != 1;
}

static int in_sequence(int fd)
{
	for (int i = 0; i < 100; i++)
		if (pwrite(fd, "x", 1, i) != 1)
			return 1;
	return 0;
}

static int cut(int fd)
{
	return ftruncate(fd, 5);
}

static int room(int fd)
{
	return fallocate(fd, 0, 0, 8192);
}

static int do_write(void)
{
	return open_and_do(one_byte, O_RDWR);
}

static int do_writes(void)
{
	return open_and_do(in_sequence, O_WRONLY);
}

static int do_truncate(void)
{
	return open_and_do(cut, O_WRONLY);
}

static int do_truncate_by_name(void)
{
	return truncate("file", 5) ? errno : 0;
}

static int do_empty(void)
{
	int fd = open("file", O_WRONLY | O_TRUNC | O_CLOEXEC);

	close(fd);
	return fd < 0 ? errno : 0;
}

static int do_fallocate(void)
{
	return open_and_do(room, O_RDWR);
}

static const struct {
	const char *name;
	int (*fn)(void);
} changes[] = {
	{"write", do_write},        {"writes", do_writes},
	{"ftruncate", do_truncate}, {"truncate", do_truncate_by_name},
	{"O_TRUNC", do_empty},      {"fallocate", do_fallocate},
};

/* The mode that is left, as stat and as another open file see it, and as it stays. */
static void change_is(size_t i, bool by_user, unsigned before, unsigned after)
{
	unsigned mode;

	make("file", before);
	CHECK((by_user ? as_user(changes[i].fn, false) : changes[i].fn()) == 0);
	mode = mode_of("file");
	if (mode != after) {
		printf("FAILED: %s by %s: %04o became %04o, not %04o\n", changes[i].name,
		       by_user ? "a user" : "root", before, mode, after);
		failures++;
	}
	CHECK(!unlink("file"));
}

static void set_id_bits(void)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		change_is(i, true, 06777, 0777);
		change_is(i, true, 04766, 0766);
		change_is(i, true, 0666, 0666);
		change_is(i, false, 06777, 06777);
	}
	make("file", 06777);
	CHECK(!chown("file", -1u, -1u) && mode_of("file") == 0777);
	CHECK(!chmod("file", 06777) && !chown("file", USER, GROUP) && mode_of("file") == 0777);
	CHECK(!unlink("file"));
	CHECK(!mkdir("dir", 0755) && !chmod("dir", 02755) && !chown("dir", -1u, -1u));
	CHECK(mode_of("dir") == 02755 && !rmdir("dir"));
}

/* Capabilities of a program go with any write, also after one that found none, and when
 * they have been given in between. */
static void capabilities(void)
{
	static const uint32_t cap[5] = {0x02000001, 1 << CAP_CHOWN, 0, 0, 0};
	char buf[64];
	int fd;

	make("file", 0777);
	fd = open("file", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 3; i++) {
		CHECK(pwrite(fd, "x", 1, 0) == 1);
		CHECK(!setxattr("file", "security.capability", cap, sizeof(cap), 0));
		CHECK(getxattr("file", "security.capability", buf, sizeof(buf)) == sizeof(cap));
		CHECK(pwrite(fd, "y", 1, 0) == 1);
		CHECK(getxattr("file", "security.capability", buf, sizeof(buf)) == -1 &&
		      errno == ENODATA);
		CHECK(!chmod("file", 04777) && mode_of("file") == 04777);
		CHECK(as_user(do_write, false) == 0 && mode_of("file") == 0777);
	}
	close(fd);
	CHECK(!unlink("file"));
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"ACLs and set-group-ID", acl_and_set_group_id},
	{"trusted attributes", trusted_names},
	{"set-ID bits", set_id_bits},
	{"capabilities", capabilities},
};

int main(int argc, char **argv)
{
	umask(0);
	if (argc != 2 || chdir(argv[1]) || geteuid()) {
		fprintf(stderr, "Usage, by root: rights DIRECTORY\n");
		return 2;
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int before = failures;

		cases[i].run();
		printf("%s %s\n", failures == before ? "ok    " : "FAILED", cases[i].name);
		fflush(stdout);
	}
	return failures ? 1 : 0;
}
