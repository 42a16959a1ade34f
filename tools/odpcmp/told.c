/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What a program is told of an event: asynchronous events and SIGIO. */
#include <errno.h>
#include <infiniband/uodpdv.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "odpcmp.h"

enum { TOLD_LEASE = 1 << 0, TOLD_SIGIO = 1 << 1, TOLD_REVOKED = 1 << 2, TOLD_OTHER = 1 << 3 };
enum { POLL_MS = 10, SETTLE_MS = 3000 };

/* Shared with whoever wants to know, whatever becomes of the one who is told. */
struct told {
	atomic_uint what;
	atomic_bool stop;
	struct ibv_context *context;
	pthread_t thread;
	bool listens;
	struct sigaction old;
	sigset_t mask;
};

/* For the handler. */
static struct told *told_here;

static void sigio_hit(int sig)
{
	(void)sig;
	if (told_here)
		atomic_fetch_or(&told_here->what, TOLD_SIGIO);
}

static unsigned int event_bit(int type)
{
	/* Beyond those of the enumeration. */
	switch ((unsigned int)type) {
	case UODPDV_EVENT_MR_LEASE:
		return TOLD_LEASE;
	case UODPDV_EVENT_MR_REVOKED:
		return TOLD_REVOKED;
	default:
		return TOLD_OTHER;
	}
}

static void *listen_main(void *arg)
{
	struct told *told = arg;
	struct pollfd pfd = {.fd = told->context->async_fd, .events = POLLIN};
	struct ibv_async_event event;
	int type;

	while (!atomic_load(&told->stop)) {
		if (poll(&pfd, 1, POLL_MS) <= 0 || ibv_get_async_event(told->context, &event))
			continue;
		type = event.event_type;
		/* That a QP went to error is the transfer's answer. */
		if (type != IBV_EVENT_QP_FATAL && type != IBV_EVENT_QP_REQ_ERR &&
		    type != IBV_EVENT_QP_ACCESS_ERR && type != IBV_EVENT_QP_LAST_WQE_REACHED &&
		    type != IBV_EVENT_COMM_EST)
			atomic_fetch_or(&told->what, event_bit(type));
		ibv_ack_async_event(&event);
	}
	return NULL;
}

struct told *told_create(void)
{
	void *told = mmap(NULL, sizeof(struct told), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return told == MAP_FAILED ? NULL : told;
}

void told_destroy(struct told *told)
{
	if (told)
		munmap(told, sizeof(*told));
}

int told_listen(struct told *told, struct ibv_context *context)
{
	struct sigaction act = {.sa_handler = sigio_hit, .sa_flags = SA_RESTART};
	sigset_t sigio;
	int ret;

	told->context = context;
	told_here = told;
	sigaction(SIGIO, &act, &told->old);
	ret = pthread_create(&told->thread, NULL, listen_main, told);
	told->listens = !ret;
	/* A thread that waits for the truncate itself would be told after it. */
	sigemptyset(&sigio);
	sigaddset(&sigio, SIGIO);
	pthread_sigmask(SIG_BLOCK, &sigio, &told->mask);
	return -ret;
}

void told_unlisten(struct told *told)
{
	if (!told->listens)
		return;
	atomic_store(&told->stop, true);
	pthread_join(told->thread, NULL);
	pthread_sigmask(SIG_SETMASK, &told->mask, NULL);
	sigaction(SIGIO, &told->old, NULL);
	told_here = NULL;
	told->listens = false;
}

void told_settle(struct told *told, bool revoked)
{
	uint64_t limit = isolate_now() + SETTLE_MS;

	/* One of a lease comes before the lease ends, and that before the revocation's. */
	usleep(2 * POLL_MS * 1000);
	while (revoked && !(atomic_load(&told->what) & TOLD_REVOKED) && isolate_now() < limit)
		usleep(1000);
}

void told_text(const struct told *told, bool killed, char *buf, size_t len)
{
	static const struct {
		unsigned int bit;
		const char *text;
	} texts[] = {
		{TOLD_LEASE, "lease"},
		{TOLD_SIGIO, "SIGIO"},
		{TOLD_REVOKED, "revoked"},
		{TOLD_OTHER, "another event"},
	};
	unsigned int what = atomic_load(&((struct told *)told)->what);
	size_t i, at = 0;

	for (i = 0; i < ARRAY_SIZE(texts); i++)
		if (what & texts[i].bit)
			at += snprintf(buf + at, len - at, "%s%s", at ? ", " : "", texts[i].text);
	if (killed)
		at += snprintf(buf + at, len - at, "%sSIGKILL", at ? ", " : "");
	if (!at)
		snprintf(buf, len, "-");
}
