/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* SIGTERM, SIGINT, SIGHUP: what is cached is written, the mount point freed. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odpfs.h"

extern char **environ;

static int helper_run(void)
{
	char *const argv[] = {"fusermount3", "-u", "-q", "-z", "--", (char *)odpfs.mountpoint,
			      NULL};
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;
	int status, err;

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attr, &none);
	err = posix_spawnp(&pid, argv[0], NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (err)
		return -err;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return 0;
}

/* The mount may be gone already, and another one in its place. */
static bool is_ours(void)
{
	struct pollfd device = {.fd = fuse_session_fd(odpfs.session), .events = POLLIN};
	uint64_t dev;

	if (poll(&device, 1, 0) == 1 && device.revents & POLLERR)
		return false;
	return !path_mount_dev(&dev) && dev == odpfs.dev;
}

/* Nobody new gets in; the mount ends when the last open file is closed. */
void leave_now(void)
{
	if (is_ours() && umount2(odpfs.mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW))
		helper_run();
}

/*
 * The session goes on meanwhile, to take what the kernel has to write. If that was the
 * last user, the session loop ends by itself, and main() with it.
 */
static void *leave_thread(void *arg)
{
	(void)arg;
	inside_sync();
	leave_now();
	return NULL;
}

static void leave_start(void)
{
	pthread_t thread;

	if (!pthread_create(&thread, NULL, leave_thread, NULL))
		pthread_detach(thread);
}

/* A program that has files open loses them after a while, or with the second signal. */
static void *signal_thread(void *arg)
{
	struct timespec grace = {.tv_sec = 5};
	sigset_t *signals = arg;
	int signal;

	if (sigwait(signals, &signal))
		return NULL;
	leave_start();
	while (sigtimedwait(signals, NULL, &grace) < 0 && errno == EINTR)
		;
	leave_now();
	_exit(ODPFS_OK);
}

/* Before any other thread, so that all have the signals blocked. */
int leave_watch(void)
{
	static sigset_t signals;
	pthread_t thread;
	int err;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG to the one who writes */
	err = pthread_create(&thread, NULL, signal_thread, &signals);
	if (!err)
		pthread_detach(thread);
	return -err;
}
