/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What a file system is expected to do, one function each. Usage: features DIRECTORY;
 * the directory is empty, on the file system, and the caller's own.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int failures;

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			printf("FAILED: %s:%d: %s (errno: %s)\n", __func__, __LINE__, #what,       \
			       strerror(errno));                                                   \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

/* CALL fails with the errno WANTED. */
#define CHECK_ERRNO(call, wanted)                                                                  \
	do {                                                                                       \
		errno = 0;                                                                         \
		CHECK((call) == -1 && errno == (wanted));                                          \
	} while (0)

static int file_make(const char *name, const char *text)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return fd;
}

static bool file_is(const char *name, const char *text)
{
	char buf[256] = "";
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(text) && !strcmp(buf, text);
}

/* Exit status of FN in a process of its own. */
static int child_run(int (*fn)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(fn());
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void links(void)
{
	struct stat a, b;
	char text[64];
	int fd = file_make("one", "text");

	CHECK(!link("one", "two"));
	CHECK(!stat("one", &a) && !stat("two", &b));
	CHECK(a.st_ino == b.st_ino && a.st_nlink == 2);
	CHECK(pwrite(fd, "T", 1, 0) == 1);
	CHECK(file_is("two", "Text"));
	CHECK(!unlink("one"));
	CHECK(!fstat(fd, &a) && a.st_nlink == 1);
	CHECK_ERRNO(link("two", "two"), EEXIST);
	CHECK(!symlink("two", "soft"));
	CHECK(readlink("soft", text, sizeof(text)) == 3 && !memcmp(text, "two", 3));
	CHECK(file_is("soft", "Text"));
	CHECK(!lstat("soft", &a) && S_ISLNK(a.st_mode));
	CHECK(!symlink("nowhere", "dangling"));
	CHECK_ERRNO(open("dangling", O_RDONLY), ENOENT);
	CHECK(!unlink("dangling") && !unlink("soft") && !unlink("two"));
	/* A file without a name goes on. */
	CHECK(pwrite(fd, "more", 4, 4) == 4);
	CHECK(!ftruncate(fd, 6) && !fchmod(fd, 0600));
	CHECK(!fstat(fd, &a) && a.st_nlink == 0 && a.st_size == 6 && (a.st_mode & 0777) == 0600);
	close(fd);
}

static void directories(void)
{
	CHECK(!mkdir("dir", 0755));
	CHECK_ERRNO(mkdir("dir", 0755), EEXIST);
	close(file_make("dir/file", "x"));
	CHECK_ERRNO(rmdir("dir"), ENOTEMPTY);
	CHECK_ERRNO(unlink("dir"), EISDIR);
	CHECK_ERRNO(rmdir("dir/file"), ENOTDIR);
	CHECK(!unlink("dir/file") && !rmdir("dir"));
	CHECK_ERRNO(rmdir("dir"), ENOENT);
}

static void many_names(void)
{
	enum { N = 500 };
	static bool seen[N];
	struct dirent *d;
	char name[64];
	long middle = 0;
	int n = 0, again = 0, fd;
	DIR *dir;

	CHECK(!mkdir("many", 0755));
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "many/a-name-that-takes-some-room-%d", i);
		fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
		CHECK(fd >= 0);
		close(fd);
	}
	dir = opendir("many");
	CHECK(dir);
	while ((d = readdir(dir))) {
		int i;

		if (sscanf(d->d_name, "a-name-that-takes-some-room-%d", &i) != 1)
			continue;
		CHECK(!seen[i]);
		seen[i] = true;
		if (++n == N / 2)
			middle = telldir(dir);
	}
	CHECK(n == N);
	seekdir(dir, middle);
	while (readdir(dir))
		again++;
	CHECK(again == N - N / 2 || again == N - N / 2 + 1 || again == N - N / 2 + 2);
	rewinddir(dir);
	while ((d = readdir(dir)))
		if (d->d_name[0] == 'a')
			CHECK(!unlinkat(dirfd(dir), d->d_name, 0));
	closedir(dir);
	CHECK(!rmdir("many"));
}

static void renames(void)
{
	struct stat a, b;

	close(file_make("from", "1"));
	close(file_make("to", "2"));
	CHECK_ERRNO(renameat2(AT_FDCWD, "from", AT_FDCWD, "to", RENAME_NOREPLACE), EEXIST);
	CHECK(!renameat2(AT_FDCWD, "from", AT_FDCWD, "to", RENAME_EXCHANGE));
	CHECK(file_is("from", "2") && file_is("to", "1"));
	CHECK(!stat("from", &a) && !rename("from", "to") && !stat("to", &b));
	CHECK(a.st_ino == b.st_ino && file_is("to", "2"));
	CHECK_ERRNO(stat("from", &a), ENOENT);
	CHECK(!mkdir("d1", 0755) && !mkdir("d1/d2", 0755));
	CHECK_ERRNO(rename("d1", "d1/d2/d3"), EINVAL);
	CHECK(!rename("to", "d1/d2/to") && file_is("d1/d2/to", "2"));
	CHECK(!rename("d1/d2", "d2") && file_is("d2/to", "2"));
	CHECK(!unlink("d2/to") && !rmdir("d2") && !rmdir("d1"));
}

static void attributes(void)
{
	struct timespec t[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
	struct stat st;
	mode_t mask;
	int fd = file_make("file", "text");

	CHECK(!chmod("file", 0640) && !stat("file", &st) && (st.st_mode & 07777) == 0640);
	CHECK(!utimensat(AT_FDCWD, "file", t, 0) && !stat("file", &st));
	CHECK(st.st_atim.tv_sec == 1000000000 && st.st_atim.tv_nsec == 123456789);
	CHECK(st.st_mtim.tv_sec == 1100000000 && st.st_mtim.tv_nsec == 987654321);
	CHECK(!symlink("file", "soft"));
	CHECK(!utimensat(AT_FDCWD, "soft", t, AT_SYMLINK_NOFOLLOW) && !lstat("soft", &st));
	CHECK(st.st_mtim.tv_sec == 1100000000);
	/* A write, also through a mapping, is a newer time. */
	CHECK(pwrite(fd, "x", 1, 0) == 1 && !fsync(fd) && !fstat(fd, &st));
	CHECK(st.st_mtim.tv_sec > 1100000000);
	mask = umask(027);
	close(open("masked", O_CREAT | O_RDWR | O_CLOEXEC, 0777));
	CHECK(!mkdir("masked-dir", 0777));
	umask(mask);
	CHECK(!stat("masked", &st) && (st.st_mode & 0777) == 0750);
	CHECK(!stat("masked-dir", &st) && (st.st_mode & 0777) == 0750);
	/* Set-user-ID goes with a write of somebody without the privilege. */
	CHECK(!chmod("file", 04755) && !stat("file", &st) && (st.st_mode & 07777) == 04755);
	if (!geteuid()) {
		CHECK(!chown("file", 1234, 4321) && !stat("file", &st));
		CHECK(st.st_uid == 1234 && st.st_gid == 4321 && !(st.st_mode & 04000));
		CHECK(!lchown("soft", 1, 2) && !lstat("soft", &st) && st.st_uid == 1);
	}
	close(fd);
	CHECK(!unlink("file") && !unlink("soft") && !unlink("masked") && !rmdir("masked-dir"));
}

static void special_files(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), in, out;
	char c = 0;

	CHECK(!mkfifo("fifo", 0600));
	in = open("fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	out = open("fifo", O_WRONLY | O_CLOEXEC);
	CHECK(write(out, "x", 1) == 1 && read(in, &c, 1) == 1 && c == 'x');
	close(in);
	close(out);
	CHECK(!bind(s, (struct sockaddr *)&addr, sizeof(addr)) && !listen(s, 1));
	in = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(!connect(in, (struct sockaddr *)&addr, sizeof(addr)));
	close(in);
	close(s);
	CHECK(!unlink("fifo") && !unlink("socket"));
}

static void xattrs(void)
{
	char buf[256], big[2000];
	int fd = file_make("file", "text");

	memset(big, 'b', sizeof(big));
	CHECK_ERRNO(getxattr("file", "user.none", buf, sizeof(buf)), ENODATA);
	CHECK(!setxattr("file", "user.colour", "green", 5, 0));
	CHECK_ERRNO(setxattr("file", "user.colour", "red", 3, XATTR_CREATE), EEXIST);
	CHECK_ERRNO(setxattr("file", "user.other", "red", 3, XATTR_REPLACE), ENODATA);
	CHECK(getxattr("file", "user.colour", NULL, 0) == 5);
	CHECK(getxattr("file", "user.colour", buf, sizeof(buf)) == 5 && !memcmp(buf, "green", 5));
	CHECK_ERRNO(getxattr("file", "user.colour", buf, 2), ERANGE);
	CHECK(!fsetxattr(fd, "user.big", big, sizeof(big), 0));
	CHECK(fgetxattr(fd, "user.big", NULL, 0) == sizeof(big));
	CHECK(listxattr("file", buf, sizeof(buf)) >= (ssize_t)sizeof("user.colour"));
	CHECK(memmem(buf, sizeof(buf), "user.colour", sizeof("user.colour")));
	CHECK(!removexattr("file", "user.colour"));
	CHECK_ERRNO(removexattr("file", "user.colour"), ENODATA);
	CHECK(!mkdir("dir", 0755) && !setxattr("dir", "user.x", "", 0, 0));
	CHECK(!getxattr("dir", "user.x", buf, sizeof(buf)));
	close(fd);
	CHECK(!unlink("file") && !rmdir("dir"));
}

static int flock_try(void)
{
	int fd = open("file", O_RDWR | O_CLOEXEC);

	return flock(fd, LOCK_EX | LOCK_NB) ? errno : 0;
}

static int posix_try(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 10};
	int fd = open("file", O_RDWR | O_CLOEXEC);

	return fcntl(fd, F_SETLK, &l) ? errno : 0;
}

static void locks(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 105, .l_len = 1};
	int fd = file_make("file", "text");

	CHECK(!flock(fd, LOCK_SH));
	CHECK(child_run(flock_try) == EWOULDBLOCK);
	CHECK(!flock(fd, LOCK_UN));
	CHECK(child_run(flock_try) == 0);
	CHECK(!fcntl(fd, F_SETLK, &l));
	CHECK(child_run(posix_try) == EAGAIN);
	l.l_type = F_UNLCK;
	CHECK(!fcntl(fd, F_SETLK, &l));
	CHECK(child_run(posix_try) == 0);
	l.l_type = F_WRLCK;
	CHECK(!fcntl(fd, F_OFD_SETLK, &l));
	CHECK(child_run(posix_try) == EAGAIN);
	close(fd);
	CHECK(child_run(posix_try) == 0);
	CHECK(!unlink("file"));
}

static void nameless(void)
{
	char path[64];
	struct stat st;
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640), excl;

	CHECK(fd >= 0);
	CHECK(write(fd, "hidden", 6) == 6);
	CHECK(!fstat(fd, &st) && st.st_nlink == 0 && st.st_size == 6 &&
	      (st.st_mode & 0777) == 0640);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(!linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	CHECK(file_is("named", "hidden"));
	close(fd);
	CHECK(file_is("named", "hidden"));
	excl = open(".", O_TMPFILE | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(excl >= 0 && write(excl, "x", 1) == 1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", excl);
	CHECK_ERRNO(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
	close(excl);
	CHECK(!unlink("named"));
}

static void holes(void)
{
	enum { MIB = 1 << 20 };
	struct stat st;
	char zeros[4096], buf[4096];
	int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	memset(zeros, 0, sizeof(zeros));
	memset(buf, 'x', sizeof(buf));
	/* Also while what was written is in the kernel alone. */
	CHECK(pwrite(fd, buf, sizeof(buf), 4 * MIB) == sizeof(buf));
	CHECK(lseek(fd, 0, SEEK_DATA) == 4 * MIB);
	CHECK(lseek(fd, 0, SEEK_HOLE) == 0);
	CHECK(lseek(fd, 4 * MIB, SEEK_HOLE) == 4 * MIB + 4096);
	CHECK_ERRNO(lseek(fd, 4 * MIB + 4096, SEEK_DATA), ENXIO);
	CHECK(!fsync(fd) && !fstat(fd, &st) && st.st_size == 4 * MIB + 4096);
	CHECK(st.st_blocks * 512 < MIB);
	for (int i = 0; i < 16; i++)
		CHECK(pwrite(fd, buf, sizeof(buf), i * 4096) == sizeof(buf));
	CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 8192));
	CHECK(lseek(fd, 0, SEEK_HOLE) == 8192 && lseek(fd, 8192, SEEK_DATA) == 16384);
	CHECK(pread(fd, buf, sizeof(buf), 8192) == sizeof(buf) && !memcmp(buf, zeros, sizeof(buf)));
	CHECK(!fallocate(fd, 0, 8 * MIB, MIB) && !fstat(fd, &st) && st.st_size == 9 * MIB);
	/* FUSE in the kernel knows no more of them. */
	CHECK_ERRNO(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
	CHECK_ERRNO(fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, 4096), EOPNOTSUPP);
	close(fd);
	CHECK(!unlink("file"));
}

/* Mappings and descriptors of one file show the same. */
static void mappings(void)
{
	int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	char c = 0, *shared, *private;

	CHECK(!ftruncate(fd, 3 * 4096));
	shared = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	private = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(shared != MAP_FAILED && private != MAP_FAILED);
	CHECK(pwrite(fd, "a", 1, 5000) == 1 && shared[5000] == 'a' && private[5000] == 'a');
	shared[5001] = 'b';
	CHECK(pread(fd, &c, 1, 5001) == 1 && c == 'b' && private[5001] == 'b');
	private[5002] = 'c';
	CHECK(pread(fd, &c, 1, 5002) == 1 && c == 0 && shared[5002] == 0);
	CHECK(!msync(shared, 3 * 4096, MS_SYNC));
	/* Cut off, and longer again: zeros. */
	CHECK(!ftruncate(fd, 5000) && !ftruncate(fd, 3 * 4096));
	CHECK(shared[4999] == 0 && shared[5000] == 0 && shared[5001] == 0);
	CHECK(private[5002] == 'c');
	munmap(shared, 3 * 4096);
	munmap(private, 3 * 4096);
	close(fd);
	CHECK(!unlink("file"));
}

static int past_the_end(void)
{
	int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	volatile char *p;

	if (ftruncate(fd, 8192))
		return 1;
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	p[4096] = 1;
	if (truncate("file", 4096))
		return 2;
	p[4096] = 2;
	return 3;
}

static void bus_error(void)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		signal(SIGBUS, SIG_DFL); /* a sanitizer handles it */
		_exit(past_the_end());
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	CHECK(!unlink("file"));
}

static int append_many(void)
{
	int fd = open("file", O_WRONLY | O_APPEND | O_CLOEXEC);

	for (int i = 0; i < 200; i++)
		if (write(fd, "0123456789abcdef", 16) != 16)
			return 1;
	return 0;
}

static void appends(void)
{
	struct stat st;
	pid_t pids[4];
	int status;

	close(file_make("file", ""));
	fflush(stdout);
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		if (!pids[i])
			_exit(append_many());
	}
	for (int i = 0; i < 4; i++)
		CHECK(waitpid(pids[i], &status, 0) == pids[i] && !status);
	CHECK(!stat("file", &st) && st.st_size == 4 * 200 * 16);
	CHECK(!unlink("file"));
}

/* The file is known to libodp by the number that a mapping shows. */
static void map_number(void)
{
	char line[512], wanted[64];
	struct stat st;
	bool found = false;
	int fd = file_make("file", "text");
	void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	FILE *maps = fopen("/proc/self/maps", "re");

	CHECK(!fstat(fd, &st) && p != MAP_FAILED && maps);
	snprintf(wanted, sizeof(wanted), " %llu ", (unsigned long long)st.st_ino);
	while (fgets(line, sizeof(line), maps))
		if (strtoull(line, NULL, 16) == (unsigned long long)(uintptr_t)p)
			found = strstr(line, wanted);
	CHECK(found);
	fclose(maps);
	munmap(p, 4096);
	close(fd);
	CHECK(!unlink("file"));
}

/* Who may write and not read can do so, and only so. */
static int write_only(void)
{
	char c;
	int fd;

	if (!geteuid() && (setgroups(0, NULL) || setgid(1234) || setuid(1234)))
		return 77;
	fd = open("file", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || pwrite(fd, "X", 1, 1) != 1 || close(fd))
		return 1;
	fd = open("file", O_RDONLY | O_CLOEXEC);
	return fd < 0 && errno == EACCES && read(fd, &c, 1) < 0 ? 0 : 2;
}

static void access_rights(void)
{
	struct stat st;
	int status;

	close(file_make("file", "text"));
	CHECK(!stat(".", &st));
	if (!geteuid())
		CHECK(!chown("file", 1234, 1234));
	CHECK(!chmod("file", 0200));
	status = child_run(write_only);
	/* A mount of root's is closed to others without -o allow_other. */
	CHECK(status == 0 || (!geteuid() && status == 1));
	CHECK(!chmod("file", 0600));
	if (!status)
		CHECK(file_is("file", "tXxt"));
	CHECK(!unlink("file"));
}

static void room(void)
{
	struct statvfs before, after;
	int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	CHECK(!statvfs(".", &before) && before.f_blocks && before.f_bsize &&
	      before.f_namemax >= 255);
	CHECK(!fstatvfs(fd, &after) && after.f_blocks == before.f_blocks);
	close(fd);
	CHECK(!unlink("file"));
}

static const struct {
	const char *name;
	void (*run)(void);
} features[] = {
	{"links", links},
	{"directories", directories},
	{"many names", many_names},
	{"renames", renames},
	{"attributes", attributes},
	{"special files", special_files},
	{"extended attributes", xattrs},
	{"locks", locks},
	{"O_TMPFILE", nameless},
	{"holes", holes},
	{"mappings", mappings},
	{"SIGBUS", bus_error},
	{"appends", appends},
	{"the number in maps", map_number},
	{"rights", access_rights},
	{"statfs", room},
};

int main(int argc, char **argv)
{
	if (argc != 2 || chdir(argv[1])) {
		fprintf(stderr, "Usage: features DIRECTORY\n");
		return 2;
	}
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		int before = failures;

		features[i].run();
		printf("%s %s\n", failures == before ? "ok    " : "FAILED", features[i].name);
		fflush(stdout);
	}
	return failures ? 1 : 0;
}
