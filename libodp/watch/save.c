/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Reading pages that are about to go, from the memory of the process that maps them,
 * without getting stuck in it: on FUSE, whoever stores to a page that is to be
 * written back sleeps until the truncate is answered, with the page locked, and a
 * read of it that is a fault waits for the lock. So what is not mapped there is read by
 * a thread of its own, which has some time for it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "watch.h"

#define SAVE_WAIT_NS 100000000
#define PAGEMAP_PRESENT (1ull << 63)

static bool page_read(pid_t pid, uint64_t addr, void *buf)
{
	struct iovec local = {buf, ODP_PAGE_SIZE};
	struct iovec remote = {(void *)(uintptr_t)addr, ODP_PAGE_SIZE};

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)ODP_PAGE_SIZE;
}

static bool page_present(int fd, uint64_t addr)
{
	uint64_t e;

	return fd >= 0 &&
	       odp_sys_pread(fd, &e, sizeof(e), addr / ODP_PAGE_SIZE * sizeof(e)) == sizeof(e) &&
	       e & PAGEMAP_PRESENT;
}

int odp_saver_open(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	return odp_own_open(path, O_RDONLY | O_CLOEXEC);
}

static void *saver_main(void *arg)
{
	struct odp_saver *s = arg;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (!s->stop && s->state != ODP_SAVER_ASKED)
			pthread_cond_wait(&s->changed, &s->lock);
		if (s->stop)
			break;
		pthread_mutex_unlock(&s->lock);
		s->good = page_read(s->pid, s->addr, s->buf);
		pthread_mutex_lock(&s->lock);
		s->state = s->abandoned ? ODP_SAVER_IDLE : ODP_SAVER_DONE;
		s->abandoned = false;
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Until DEADLINE for the state; lock. */
static bool saver_await(struct odp_saver *s, unsigned state, uint64_t deadline)
{
	while (s->state != state)
		if (!odp_cond_wait(&s->changed, &s->lock, deadline))
			return s->state == state;
	return true;
}

/* By the thread; false too when it sits in a read that was given up. */
static bool saver_ask(struct odp_saver *s, pid_t pid, uint64_t addr, void *buf)
{
	uint64_t deadline = odp_now() + SAVE_WAIT_NS;
	bool good = false;

	pthread_mutex_lock(&s->lock);
	if (!s->abandoned && saver_await(s, ODP_SAVER_IDLE, deadline)) {
		s->pid = pid;
		s->addr = addr;
		s->state = ODP_SAVER_ASKED;
		pthread_cond_broadcast(&s->changed);
		if (saver_await(s, ODP_SAVER_DONE, deadline)) {
			good = s->good;
			if (good)
				memcpy(buf, s->buf, ODP_PAGE_SIZE);
			s->state = ODP_SAVER_IDLE;
			pthread_cond_broadcast(&s->changed);
		} else {
			s->abandoned = true;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return good;
}

bool odp_saver_read(struct odp_saver *s, int pagemap, pid_t pid, uint64_t addr, void *buf)
{
	if (page_present(pagemap, addr))
		return page_read(pid, addr, buf);
	return saver_ask(s, pid, addr, buf);
}

int odp_saver_start(struct odp_saver *s)
{
	pthread_mutex_init(&s->lock, NULL);
	odp_cond_init(&s->changed);
	return -pthread_create(&s->thread, NULL, saver_main, s);
}

void odp_saver_stop(struct odp_saver *s)
{
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
}
