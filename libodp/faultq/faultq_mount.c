/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A FUSE file system whose root is a regular file and which is mounted nowhere: the
 * file is opened through the descriptor of the mount, and keeps it alive. Who may
 * not mount does it from a user namespace of a short-lived child, which shares our
 * memory and our open files.
 */
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/wait.h>

#include "base.h"
#include "faultq.h"

#define STACK ((size_t)64 << 10)

struct mount {
	int dev, root;
	uint32_t uid, gid;
	int ret;
};

/* No libc in what the child runs. */
ODP_NO_SANITIZE static char *put_number(char *to, uint32_t n, unsigned base)
{
	char digits[12];
	unsigned i = 0;

	do
		digits[i++] = (char)('0' + n % base);
	while (n /= base);
	while (i)
		*to++ = digits[--i];
	*to = 0;
	return to;
}

ODP_NO_SANITIZE static long set_number(int fs, const char *key, uint32_t n, unsigned base)
{
	char value[16];

	put_number(value, n, base);
	return odp_sys6(SYS_fsconfig, fs, FSCONFIG_SET_STRING, (long)key, (long)value, 0, 0);
}

ODP_NO_SANITIZE static long fs_configure(int fs, const struct mount *m)
{
	long ret = set_number(fs, "fd", (uint32_t)m->dev, 10);

	if (!ret)
		ret = set_number(fs, "rootmode", 0100600, 8); /* a regular file */
	if (!ret)
		ret = set_number(fs, "user_id", m->uid, 10);
	if (!ret)
		ret = set_number(fs, "group_id", m->gid, 10);
	if (!ret)
		ret = odp_sys6(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0, 0);
	return ret;
}

ODP_NO_SANITIZE static long mount_make(struct mount *m)
{
	long ret, fs;

	fs = odp_sys(SYS_fsopen, "fuse", FSOPEN_CLOEXEC, 0);
	if (fs < 0)
		return fs;
	ret = odp_sys6(SYS_openat, AT_FDCWD, (long)"/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK, 0,
		       0, 0);
	if (ret < 0)
		goto close_fs;
	m->dev = (int)ret;
	ret = fs_configure((int)fs, m);
	if (!ret)
		ret = odp_sys(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
			      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	if (ret >= 0)
		m->root = (int)ret;
	else
		odp_sys(SYS_close, m->dev, 0, 0);
close_fs:
	odp_sys(SYS_close, fs, 0, 0);
	return ret < 0 ? ret : 0;
}

ODP_NO_SANITIZE static long file_put(const char *path, const char *text, size_t n)
{
	long fd = odp_sys6(SYS_openat, AT_FDCWD, (long)path, O_WRONLY | O_CLOEXEC, 0, 0, 0);
	long ret;

	if (fd < 0)
		return fd;
	ret = odp_sys(SYS_write, fd, text, n);
	odp_sys(SYS_close, fd, 0, 0);
	return ret < 0 ? ret : 0;
}

/* Root inside: what the file is taken to be until the kernel has asked. */
ODP_NO_SANITIZE static long map_put(const char *path, uint32_t id)
{
	char text[40], *end;

	text[0] = '0';
	text[1] = ' ';
	end = put_number(text + 2, id, 10);
	*end++ = ' ';
	*end++ = '1';
	return file_put(path, text, (size_t)(end - text));
}

ODP_NO_SANITIZE static int child_main(void *arg)
{
	struct mount *m = arg;
	long ret = map_put("/proc/self/uid_map", m->uid);

	if (!ret)
		ret = file_put("/proc/self/setgroups", "deny", 4);
	if (!ret)
		ret = map_put("/proc/self/gid_map", m->gid);
	m->uid = m->gid = 0;
	if (!ret)
		ret = mount_make(m);
	m->ret = (int)ret;
	odp_sys(SYS_exit, 0, 0, 0);
	return 0;
}

/* clone() in the C library, in front of which nobody stands. */
int __clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);

static int mount_in_child(struct mount *m)
{
	char *stack = odp_priv_alloc(STACK);
	sigset_t all, old;
	int pid, ret;

	if (!stack)
		return -ENOMEM;
	m->ret = -ECHILD;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* no handler in the child */
	pid = __clone(child_main, stack + STACK,
		      CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_NEWUSER | CLONE_NEWNS, m);
	ret = pid < 0 ? -errno : m->ret;
	if (pid > 0)
		while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	odp_priv_free(stack, STACK);
	return ret;
}

int odp_faultq_mount(int *dev, int *root)
{
	struct mount m = {.uid = geteuid(), .gid = getegid()};
	int ret = (int)mount_make(&m);

	if (ret == -EPERM)
		ret = mount_in_child(&m);
	if (ret)
		return ret;
	*dev = odp_fd_high(m.dev);
	*root = m.root;
	return 0;
}
