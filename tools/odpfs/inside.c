/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Calls that go into the mount itself, or have the kernel wait for what odpfs has still
 * to write: notices to the kernel, stat(2) of a file as the kernel has it, sync, and what
 * full.c does to a file by way of the mount. Made in a process of their own.
 *
 * Such a call sleeps in the kernel until a session worker has answered, and cannot be
 * killed. In a thread of odpfs it would outlive a SIGKILL that takes the workers, and
 * keep /dev/fuse open, so that the kernel would never end the connection: odpfs and all
 * of its users would hang for good. This process has a descriptor of the connection of
 * its own. If odpfs dies, its descriptors are closed, which ends all requests that it
 * has read; those that nobody has read yet are read and refused here, until the call
 * that is under way has come back; then this process exits, and the connection ends.
 *
 * One call at a time. The workers that it waits for wait for the backing file system
 * alone, never for a call of these; a sync may wait for a truncate's leases, and comes
 * when odpfs leaves.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odpfs.h"

enum kind { JOB_INVAL, JOB_FORGET, JOB_STAT, JOB_SYNC, JOB_OPEN, JOB_CUT, JOB_REFRESH };

struct job {
	enum kind kind;
	uint64_t node;
	int64_t off, len;
	int flags;
	char text[2 * PATH_MAX]; /* a name or path; sent as far as its end */
};

struct answer {
	int err;
	uint64_t ino, size;
};

/* A job, or an answer, with a descriptor (-1: none). */
struct parcel {
	void *data;
	size_t size;
	int fd;
};

#define ORPHAN_SIGNAL SIGUSR1   /* odpfs's main thread has ended */
#define REQUEST_SIZE (2u << 20) /* no less than the kernel's largest */

/* ---- both ways ---- */

union control {
	struct cmsghdr head;
	char buf[CMSG_SPACE(sizeof(int))];
};

static bool parcel_send(int socket, const struct parcel *p)
{
	struct iovec iov = {p->data, p->size};
	union control control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (p->fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &p->fd, sizeof(int));
	}
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == (ssize_t)p->size;
}

/* As recv(2), but that signals do not matter; the descriptor is the caller's. */
static ssize_t parcel_receive(int socket, struct parcel *p)
{
	struct iovec iov = {p->data, p->size};
	union control control = {0};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	ssize_t n;

	do
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	p->fd = -1;
	if (n > 0 && CMSG_FIRSTHDR(&msg) && control.head.cmsg_type == SCM_RIGHTS)
		memcpy(&p->fd, CMSG_DATA(&control.head), sizeof(int));
	return n;
}

/* ---- in that process ---- */

static int device = -1, jobs = -1;

/* Sequentially consistent: set when a call begins, cleared when it is back. */
static _Atomic bool busy;

static int notify(int code, const void *arg, size_t size, const char *name)
{
	struct fuse_out_header out = {.error = code};
	struct iovec iov[3] = {{&out, sizeof(out)},
			       {(void *)arg, size},
			       {(void *)name, name ? strlen(name) + 1 : 0}};

	out.len = (uint32_t)(iov[0].iov_len + iov[1].iov_len + iov[2].iov_len);
	return writev(device, iov, name ? 3 : 2) < 0 ? -errno : 0;
}

static int job_inval(const struct job *job)
{
	const struct fuse_notify_inval_inode_out arg = {
		.ino = job->node, .off = job->off, .len = job->len};

	return notify(FUSE_NOTIFY_INVAL_INODE, &arg, sizeof(arg), NULL);
}

static int job_forget(const struct job *job)
{
	const struct fuse_notify_inval_entry_out arg = {.parent = job->node,
							.namelen = (uint32_t)strlen(job->text)};

	return notify(FUSE_NOTIFY_INVAL_ENTRY, &arg, sizeof(arg), job->text);
}

static int job_stat(const struct job *job, struct answer *answer)
{
	struct statx st;

	if (statx(AT_FDCWD, job->text, AT_SYMLINK_NOFOLLOW | job->flags, STATX_SIZE | STATX_INO,
		  &st))
		return -errno;
	answer->ino = st.stx_ino;
	answer->size = st.stx_size;
	return 0;
}

static int job_sync(const struct job *job)
{
	int fd = open(job->text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || syncfs(fd) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

/* *FD: of the file, O_PATH. */
static int job_open(const struct job *job, struct answer *answer, int *fd)
{
	struct statx st;

	*fd = open(job->text, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0 || statx(*fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st))
		return -errno;
	answer->ino = st.stx_ino;
	return 0;
}

static int job_refresh(int fd)
{
	struct statx st;

	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st) ? -errno
											  : 0;
}

/* FD: the job's; then the answer's. */
static int job_run(const struct job *job, struct answer *answer, int *fd)
{
	switch (job->kind) {
	case JOB_OPEN:
		return job_open(job, answer, fd);
	case JOB_CUT:
		return truncate(fd_path(*fd).text, job->off) ? -errno : 0;
	case JOB_REFRESH:
		return job_refresh(*fd);
	case JOB_INVAL:
		return job_inval(job);
	case JOB_FORGET:
		return job_forget(job);
	case JOB_STAT:
		return job_stat(job, answer);
	case JOB_SYNC:
		return job_sync(job);
	}
	return -EINVAL;
}

static void request_refuse(char *buf)
{
	ssize_t n = read(device, buf, REQUEST_SIZE);
	const struct fuse_in_header *in = (const void *)buf;
	const struct fuse_out_header out = {
		.len = sizeof(out), .error = -EIO, .unique = in->unique};

	if (n < (ssize_t)sizeof(*in) || in->opcode == FUSE_FORGET ||
	    in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT)
		return;
	while (write(device, &out, sizeof(out)) < 0 && errno == EINTR)
		;
}

/* Odpfs has died: this process shall too, once the call that is under way is back. */
__attribute__((noreturn)) static void *orphan_thread(void *arg)
{
	struct pollfd poll_device = {.fd = device, .events = POLLIN};
	char *buf = malloc(REQUEST_SIZE);
	sigset_t set;
	int signal;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, ORPHAN_SIGNAL);
	while (sigwait(&set, &signal))
		;
	while (busy) {
		if (poll(&poll_device, 1, 10) == 1 && poll_device.revents & POLLIN && buf)
			request_refuse(buf);
		else if (poll_device.revents)
			usleep(10000);
	}
	_exit(ODPFS_OK);
}

__attribute__((noreturn)) static void jobs_serve(void)
{
	static struct job job;
	struct answer answer;
	struct parcel in = {.data = &job, .size = sizeof(job)};
	struct parcel out = {.data = &answer, .size = sizeof(answer)};
	ssize_t n;
	bool sent;

	while ((n = parcel_receive(jobs, &in)) > 0) {
		answer = (struct answer){0};
		out.fd = in.fd;
		if (n < (ssize_t)offsetof(struct job, text))
			answer.err = -EINVAL;
		busy = true;
		if (!answer.err)
			answer.err = job_run(&job, &answer, &out.fd);
		if (job.kind != JOB_OPEN && in.fd >= 0) {
			close(in.fd);
			out.fd = -1;
		}
		sent = parcel_send(jobs, &out);
		if (out.fd >= 0)
			close(out.fd);
		busy = false;
		if (!sent)
			break;
	}
	_exit(ODPFS_OK);
}

/* Nothing of odpfs is kept but the connection and the socket. */
static bool descriptors_settle(int socket)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	uint32_t session = (uint32_t)fuse_session_fd(odpfs.session);
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (null_fd < 0 || fd < 0 || ioctl(fd, FUSE_DEV_IOC_CLONE, &session))
		return false;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 16);
	socket = fcntl(socket, F_DUPFD_CLOEXEC, 16);
	for (int i = 0; i < 3; i++)
		dup2(null_fd, i);
	device = dup3(fd, 3, O_CLOEXEC);
	jobs = dup3(socket, 4, O_CLOEXEC);
	return device == 3 && jobs == 4 && !close_range(5, ~0u, 0);
}

__attribute__((noreturn)) static void inside_main(int socket, pid_t parent)
{
	pthread_t thread;
	sigset_t set;

	sigfillset(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	setsid();
	prctl(PR_SET_NAME, "odpfs-inside");
	if (prctl(PR_SET_PDEATHSIG, ORPHAN_SIGNAL) || getppid() != parent ||
	    !descriptors_settle(socket) || pthread_create(&thread, NULL, orphan_thread, NULL))
		_exit(ODPFS_FAILED);
	jobs_serve();
}

/* ---- in odpfs ---- */

static struct {
	pthread_mutex_t lock; /* over a whole call */
	int socket;
	pid_t pid;
} inside = {.lock = PTHREAD_MUTEX_INITIALIZER, .socket = -1};

/* *FD, -1: none, goes with the job; then it is the answer's. */
static int call_fd(const struct job *job, struct answer *answer, int *fd)
{
	const struct parcel out = {(void *)job, offsetof(struct job, text) + strlen(job->text) + 1,
				   *fd};
	struct parcel in = {answer, sizeof(*answer), -1};

	*answer = (struct answer){.err = -EPIPE};
	pthread_mutex_lock(&inside.lock);
	if (parcel_send(inside.socket, &out) &&
	    parcel_receive(inside.socket, &in) != sizeof(*answer))
		answer->err = -EPIPE;
	pthread_mutex_unlock(&inside.lock);
	*fd = in.fd;
	return answer->err;
}

static int call(const struct job *job, struct answer *answer)
{
	int fd = -1;

	return call_fd(job, answer, &fd);
}

void inside_inval(fuse_ino_t ino, off_t off, off_t len)
{
	struct answer answer;

	call(&(struct job){.kind = JOB_INVAL, .node = ino, .off = off, .len = len}, &answer);
}

void inside_forget(fuse_ino_t parent, const char *name)
{
	struct job job = {.kind = JOB_FORGET, .node = parent};
	struct answer answer;

	strncpy(job.text, name, sizeof(job.text) - 1);
	call(&job, &answer);
}

int inside_stat(const char *path, int flags, uint64_t *ino, off_t *size)
{
	struct job job = {.kind = JOB_STAT, .flags = flags};
	struct answer answer;
	int err;

	strncpy(job.text, path, sizeof(job.text) - 1);
	err = call(&job, &answer);
	*ino = answer.ino;
	*size = (off_t)answer.size;
	return err;
}

int inside_open(const char *path, uint64_t *ino)
{
	struct job job = {.kind = JOB_OPEN};
	struct answer answer;
	int fd = -1, err;

	strncpy(job.text, path, sizeof(job.text) - 1);
	err = call_fd(&job, &answer, &fd);
	*ino = answer.ino;
	if (err && fd >= 0)
		close(fd);
	return err ? err : fd;
}

int inside_cut(int path_fd, off_t size)
{
	struct job job = {.kind = JOB_CUT, .off = size};
	struct answer answer;

	return call_fd(&job, &answer, &path_fd);
}

void inside_refresh(int path_fd)
{
	struct job job = {.kind = JOB_REFRESH};
	struct answer answer;

	call_fd(&job, &answer, &path_fd);
}

pid_t inside_pid(void)
{
	return inside.pid;
}

void inside_sync(void)
{
	struct job job = {.kind = JOB_SYNC};
	struct answer answer;

	strncpy(job.text, odpfs.mountpoint, sizeof(job.text) - 1);
	call(&job, &answer);
}

/* From the main thread, whose end the process waits for; there must be no other yet. */
int inside_start(void)
{
	pid_t self = getpid();
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return -errno;
	inside.pid = fork();
	if (inside.pid < 0) {
		int err = -errno;

		close(fds[0]);
		close(fds[1]);
		return err;
	}
	if (!inside.pid)
		inside_main(fds[1], self);
	close(fds[1]);
	inside.socket = fds[0];
	return 0;
}

void inside_stop(void)
{
	if (inside.socket < 0)
		return;
	/* Whoever waits for an answer has one now, and leaves the lock. */
	shutdown(inside.socket, SHUT_RDWR);
	pthread_mutex_lock(&inside.lock);
	close(inside.socket);
	inside.socket = -1;
	pthread_mutex_unlock(&inside.lock);
	while (waitpid(inside.pid, NULL, 0) < 0 && errno == EINTR)
		;
}
