/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * An odpfs of our own, with a backing directory and a mount point of its own. A
 * process of its own keeps it: however this one ends, that one unmounts and cleans up.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odpcmp.h"

enum { START_MS = 30000, STOP_MS = 5000 };

static struct {
	char top[PATH_MAX]; /* of these two */
	char back[PATH_MAX + 8], mnt[PATH_MAX + 8];
	pid_t keeper;
	int fd; /* closed when it is to stop */
} fs = {.fd = -1};

/* ---- in the keeper ---- */

static bool mounted(void)
{
	struct stat top, mnt;

	return !stat(fs.top, &top) && !stat(fs.mnt, &mnt) && top.st_dev != mnt.st_dev;
}

static void find_odpfs(char *path, size_t len)
{
	ssize_t got = readlink("/proc/self/exe", path, len - sizeof("/odpfs"));
	char *slash;

	path[got > 0 ? got : 0] = '\0';
	slash = strrchr(path, '/');
	strcpy(slash ? slash : path, "/odpfs");
}

static pid_t odpfs_start(void)
{
	char path[PATH_MAX];
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	find_odpfs(path, sizeof(path));
	/* It uses libodp itself, and no verbs. */
	unsetenv("LD_PRELOAD");
	setenv("UODP_LOG", "0", 0); /* whom it kills the table says */
	execl(path, path, "-f", "-o", "uodp=require", fs.back, fs.mnt, (char *)NULL);
	fprintf(stderr, PROGRAM ": --fs: cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

static bool ended(pid_t pid, int ms)
{
	int status;

	for (; ms > 0; ms -= 10) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return true;
		usleep(10000);
	}
	return false;
}

static void unmount(void)
{
	pid_t pid;

	if (!mounted() || !umount2(fs.mnt, MNT_DETACH))
		return;
	pid = fork();
	if (!pid) {
		execlp("fusermount3", "fusermount3", "-u", "-z", fs.mnt, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* SIGTERM makes it write all and unmount. */
static void odpfs_stop(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGTERM);
		if (!ended(pid, STOP_MS)) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
	}
	unmount();
}

/* Files whose makers were killed may have kept their names. */
static void directories_remove(void)
{
	DIR *dir = opendir(fs.back);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(fs.back);
	if (!mounted())
		rmdir(fs.mnt);
	rmdir(fs.top);
}

static bool odpfs_await(pid_t pid)
{
	uint64_t limit = isolate_now() + START_MS;
	siginfo_t info;

	while (isolate_now() < limit) {
		if (mounted())
			return true;
		info.si_pid = 0;
		if (!waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid)
			return false;
		usleep(5000);
	}
	fprintf(stderr, PROGRAM ": --fs: odpfs did not mount %s in %d s\n", fs.mnt,
		START_MS / 1000);
	return false;
}

/* Until the one that uses it says so, or is no more. */
__attribute__((noreturn)) static void keep(int fd, pid_t user)
{
	struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
				{.fd = syscall(SYS_pidfd_open, user, 0), .events = POLLIN}};
	pid_t odpfs;
	bool good;

	setsid(); /* the terminal's signals are for the others */
	odpfs = odpfs_start();
	good = odpfs > 0 && odpfs_await(odpfs);
	if (send(fd, good ? "y" : "n", 1, MSG_NOSIGNAL) == 1 && good)
		while (poll(fds, 2, -1) < 0)
			;
	odpfs_stop(odpfs);
	directories_remove();
	_exit(!good);
}

/* ---- here ---- */

static const char *lacking(void)
{
	const char *path = getenv("PATH");
	char *copy = strdup(path ? path : "/usr/bin:/bin"), *rest = copy, *dir;
	char file[PATH_MAX];
	bool found = !geteuid(); /* mounts by itself */

	if (access("/dev/fuse", R_OK | W_OK)) {
		free(copy);
		return errno == ENOENT
			       ? "there is no /dev/fuse: load the kernel module fuse, or let "
				 "the container have the device"
			       : "/dev/fuse may not be opened";
	}
	while (!found && (dir = strsep(&rest, ":"))) {
		snprintf(file, sizeof(file), "%s/fusermount3", dir);
		found = !access(file, X_OK);
	}
	free(copy);
	return found ? NULL : "fusermount3 is not installed (package fuse3)";
}

static int directories_make(const char *dir)
{
	char real[PATH_MAX - 32];
	int err;

	if (!realpath(dir, real))
		return -errno;
	snprintf(fs.top, sizeof(fs.top), "%s/" PROGRAM "-odpfs.XXXXXX", real);
	if (!mkdtemp(fs.top))
		return -errno;
	snprintf(fs.back, sizeof(fs.back), "%s/back", fs.top);
	snprintf(fs.mnt, sizeof(fs.mnt), "%s/mnt", fs.top);
	if (!mkdir(fs.back, 0700) && !mkdir(fs.mnt, 0700))
		return 0;
	err = -errno;
	directories_remove();
	return err;
}

const char *fs_start(const char *dir)
{
	const char *why = lacking();
	pid_t user = getpid();
	int fds[2], ret;
	char byte = 'n';

	if (why) {
		fprintf(stderr, PROGRAM ": --fs odpfs: %s\n", why);
		return NULL;
	}
	ret = directories_make(dir);
	if (!ret && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) {
		ret = -errno;
		directories_remove();
	}
	if (ret) {
		fprintf(stderr, PROGRAM ": --fs odpfs: %s: %s\n", dir, strerror(-ret));
		return NULL;
	}
	fflush(NULL);
	fs.keeper = fork();
	if (!fs.keeper) {
		close(fds[0]);
		keep(fds[1], user);
	}
	close(fds[1]);
	fs.fd = fds[0];
	if (fs.keeper > 0 && read(fs.fd, &byte, 1) == 1 && byte == 'y')
		return fs.mnt;
	fputs(PROGRAM ": --fs odpfs: it could not be started\n", stderr);
	fs_stop();
	return NULL;
}

void fs_stop(void)
{
	if (fs.fd < 0)
		return;
	close(fs.fd);
	fs.fd = -1;
	if (fs.keeper > 0)
		waitpid(fs.keeper, NULL, 0);
}
