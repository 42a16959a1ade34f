/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A cell with a policy. Besides what a cell is elsewhere: before the event RDMA writes
 * marks behind the bytes that the program wrote; the event may be refused, which is an
 * answer; and at the end the marks are looked for, in the file, where the program sees
 * them, and through the region.
 */
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "odpcmp.h"

enum { MARK = FILL }; /* offset in each page of the window */

static bool may_write(const struct memory *m)
{
	return !(m->kind->flags & KIND_READ_RIGHTS);
}

/* ---- marks ---- */

static int marks_write(struct rdma *rdma, const struct memory *m)
{
	int status;
	size_t i;

	if (!may_write(m))
		return 0;
	for (i = 0; i < WINDOW_PAGES; i++)
		pattern_fill(rdma_probe(rdma, i), PROBE, i, TAG_BEFORE);
	status = rdma_transfer(rdma, IBV_WR_RDMA_WRITE, memory_window(m) + MARK, WINDOW_PAGES,
			       m->page);
	if (status < 0)
		return status;
	return status == IBV_WC_SUCCESS ? 0 : -EREMOTEIO;
}

static bool is_mark(const void *buf, size_t page)
{
	return pattern_find(buf, PROBE, page) == TAG_BEFORE;
}

/* As the process pid sees it. */
static bool mark_seen(pid_t pid, const uint8_t *window, size_t page, size_t page_size)
{
	_Alignas(uint64_t) uint8_t buf[PROBE];
	struct iovec here = {buf, PROBE};
	struct iovec there = {(void *)(window + page * page_size + MARK), PROBE};

	return window && process_vm_readv(pid, &here, 1, &there, 1, 0) == PROBE &&
	       is_mark(buf, page);
}

static bool mark_in_file(const struct memory *m, size_t page)
{
	_Alignas(uint64_t) uint8_t buf[PROBE];
	off_t at = m->offset + page * m->page + MARK;

	return m->fd >= 0 && pread(m->fd, buf, PROBE, at) == PROBE && is_mark(buf, page);
}

static bool mark_through_region(struct rdma *rdma, const struct memory *m, size_t page)
{
	const char *call;
	int status;

	if (rdma_reconnect(rdma, &call))
		return false;
	memset(rdma_probe(rdma, 0), 0xee, PROBE);
	status = rdma_transfer(rdma, IBV_WR_RDMA_READ, memory_window(m) + page * m->page + MARK, 1,
			       m->page);
	rdma->spent |= status != IBV_WC_SUCCESS;
	return status == IBV_WC_SUCCESS && is_mark(rdma_probe(rdma, 0), page);
}

/* The peer of an owner that is another process cannot be connected again. */
static int32_t marks_lost(struct rdma *rdma, const struct memory *m, pid_t pid)
{
	int32_t lost = 0;
	size_t i;

	if (!may_write(m))
		return -1;
	for (i = 0; i < WINDOW_PAGES; i++) {
		if (mark_in_file(m, i) || mark_seen(pid, memory_window(m), i, m->page) ||
		    mark_seen(pid, m->moved, i, m->page))
			continue;
		if ((pid == getpid() || !rdma->spent) && mark_through_region(rdma, m, i))
			continue;
		lost += PROBE;
	}
	return lost;
}

/* ---- the event ---- */

static uint32_t ms_since(uint64_t began)
{
	return isolate_now() - began;
}

static void truncater_set(struct aftermath *after, int ret)
{
	char name[24];

	snprintf(after->truncater, sizeof(after->truncater), "%.15s",
		 ret ? errno_name(-ret, name, sizeof(name)) : "ok");
}

/* What a program does that wants new data there, whatever became of the event. */
static int renew(const struct event *event, struct memory *m)
{
	int ret;

	if (event->flags & (EVENT_NO_NEW_DATA | EVENT_UNTOUCHED))
		return 0;
	ret = memory_renew(m);
	return ret;
}

static int region_prepare(const struct group *group, const struct operation *op, struct rdma *rdma,
			  struct memory *m, struct answer *answer)
{
	int ret;

	answer_step(answer, "registering");
	rdma->policy = group->policy;
	rdma->lease_ms = group->opt->lease_ms;
	ret = rdma_register(rdma, m, group->mr, op->access);
	if (ret)
		answer_refused(answer, -ret);
	return ret;
}

static int peer_prepare(struct rdma *rdma, const struct memory *m, struct answer *answer)
{
	int ret;

	answer_step(answer, "reading before the event");
	ret = cell_warm_up(rdma, m);
	if (!ret) {
		answer_step(answer, "writing before the event");
		ret = marks_write(rdma, m);
	}
	if (ret) {
		rdma->spent = true;
		answer_step_failed(answer, ret);
	}
	return ret;
}

/* ---- the owner is this process ---- */

static void ask(const struct group *group, const struct operation *op, struct rdma *rdma,
		struct memory *m, struct answer *answer, struct told *told)
{
	struct aftermath *after = &answer->after;
	uint64_t began;
	int ret;

	if (peer_prepare(rdma, m, answer))
		return;
	answer_step(answer, "the event");
	began = isolate_now();
	ret = group->event->apply(m);
	after->waited_ms = ms_since(began);
	truncater_set(after, ret);
	answer_step(answer, "writing after the event");
	ret = renew(group->event, m);
	if (ret) {
		answer_step_failed(answer, ret);
		return;
	}
	told_settle(told, dv_is_revoked(rdma->mr));
	answer_step(answer, "the transfer after the event");
	op->run(rdma, m, answer);
	if (answer->state != ANSWER_GOOD)
		return;
	told_text(told, false, after->told, sizeof(after->told));
	after->lost = marks_lost(rdma, m, getpid());
	after->known = true;
}

void policy_ask(const struct group *group, const struct operation *op, struct rdma *rdma,
		struct memory *m, struct answer *answer)
{
	struct told *told;

	if (region_prepare(group, op, rdma, m, answer))
		return;
	told = told_create();
	if (!told || told_listen(told, rdma->context)) {
		answer_step(answer, "listening to events");
		answer_step_failed(answer, -ENOMEM);
	} else {
		ask(group, op, rdma, m, answer, told);
		told_unlisten(told);
	}
	told_destroy(told);
}

/* ---- the owner is another process, and may be killed ---- */

/* What the owner tells, when all is set up, and after the event. */
struct hello {
	struct answer answer;
	struct memory m;
	uint32_t rkey;
	uint32_t qp_num;
	int ret;
	bool revoked;
};

struct owner {
	pid_t pid;
	int fd;
	bool killed;
	struct told *told;
};

static void owner_register(const struct group *group, const struct operation *op, struct rdma *rdma,
			   struct hello *hello)
{
	struct answer *answer = &hello->answer;
	int ret;

	if (!owner_open_half(group, rdma, true, answer))
		return;
	hello->qp_num = rdma->target->qp_num;
	answer_step(answer, "setting the memory up");
	ret = memory_create(&hello->m, group->kind, group->opt->dir);
	if (ret)
		answer_step_failed(answer, ret);
	else if (!region_prepare(group, op, rdma, &hello->m, answer))
		hello->rkey = rdma->rkey;
}

/* 'e': the event is yours; 'r': it has been. */
static void owner_run(const struct group *group, const struct operation *op, struct owner *owner)
{
	struct hello hello = {.answer.state = ANSWER_NONE};
	struct rdma rdma = {0};
	char order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	owner_register(group, op, &rdma, &hello);
	if (hello.answer.state == ANSWER_NONE && told_listen(owner->told, rdma.context))
		_exit(1);
	if (!owner_put(owner->fd, &hello, sizeof(hello)) || hello.answer.state != ANSWER_NONE)
		_exit(1);
	if (!owner_accept(owner->fd, &rdma))
		_exit(1);
	while (owner_get(owner->fd, &order, 1)) {
		hello.ret = order == 'e' ? group->event->apply(&hello.m)
					 : renew(group->event, &hello.m);
		hello.revoked = dv_is_revoked(rdma.mr);
		if (!owner_put(owner->fd, &hello, sizeof(hello)))
			break;
	}
	_exit(0);
}

static int owner_start(const struct group *group, const struct operation *op, struct owner *owner)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	owner->pid = fork();
	if (!owner->pid) {
		close(fds[0]);
		owner->fd = fds[1];
		owner_run(group, op, owner);
	}
	close(fds[1]);
	owner->fd = fds[0];
	return owner->pid > 0 ? 0 : -EAGAIN;
}

/* False: it was killed before it could answer. */
static bool owner_order(struct owner *owner, char order, struct hello *hello)
{
	siginfo_t info = {.si_pid = 0};

	if (!owner->killed && owner_put(owner->fd, &order, 1) &&
	    owner_get(owner->fd, hello, sizeof(*hello)))
		return true;
	waitid(P_PID, owner->pid, &info, WEXITED | WNOWAIT);
	owner->killed = info.si_code == CLD_KILLED && info.si_status == SIGKILL;
	return false;
}

/* The owner's file, here. */
static int file_borrow(const struct owner *owner, struct memory *m)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)owner->pid, m->fd);
	m->fd = open(path, O_RDWR | O_CLOEXEC);
	return m->fd < 0 ? -errno : 0;
}

/* By the helper, a child of ours that has the file, or by the owner itself. */
static int owner_happen(const struct group *group, struct owner *owner, struct hello *hello,
			struct memory *m, struct aftermath *after)
{
	uint64_t began = isolate_now();
	int ret;

	if (group->event->flags & EVENT_HELPER)
		ret = group->event->apply(m);
	else
		ret = owner_order(owner, 'e', hello) ? hello->ret : -EINTR;
	after->waited_ms = ms_since(began);
	truncater_set(after, ret);
	m->moved = hello->m.moved;
	if (owner->killed) {
		snprintf(after->truncater, sizeof(after->truncater), "SIGKILL");
		return 0;
	}
	/* Says whether it lives, too. */
	return owner_order(owner, 'r', hello) || owner->killed ? 0 : -ECHILD;
}

/* A view that is another process's cannot be looked at by touching it. */
static void owner_judge(const struct owner *owner, const struct memory *m, struct answer *answer)
{
	_Alignas(uint64_t) uint8_t buf[PROBE];
	struct iovec here = {buf, PROBE}, there = {memory_window(m), PROBE};

	if (answer->state == ANSWER_GOOD && !owner->killed && strstr(answer->text, "no view") &&
	    process_vm_readv(owner->pid, &here, 1, &there, 1, 0) == PROBE)
		answer_set(answer,
			   pattern_find(buf, PROBE, 0) == TAG_REMOTE ? "visible" : "not visible");
	else if (answer->state == ANSWER_GOOD && !owner->killed &&
		 strstr(answer->text, "file only") &&
		 process_vm_readv(owner->pid, &here, 1, &there, 1, 0) == PROBE &&
		 pattern_find(buf, PROBE, 0) == TAG_REMOTE)
		answer_set(answer, "visible");
}

static void owner_ask_all(const struct group *group, const struct operation *op, struct rdma *rdma,
			  struct owner *owner, struct hello *hello, struct answer *answer)
{
	struct aftermath *after = &answer->after;
	struct memory m = hello->m;
	int ret;

	answer_step(answer, "the event");
	ret = file_borrow(owner, &m);
	if (!ret && group->event->flags & EVENT_HELPER)
		ret = helper_start(&m);
	if (!ret)
		ret = owner_happen(group, owner, hello, &m, after);
	if (ret) {
		answer_step_failed(answer, ret);
		return;
	}
	told_settle(owner->told, !owner->killed && hello->revoked);
	answer_step(answer, "the transfer after the event");
	m.child_fd = -1;
	m.child = 0;
	op->run(rdma, &m, answer);
	owner_judge(owner, &m, answer);
	if (answer->state == ANSWER_GOOD) {
		told_text(owner->told, owner->killed, after->told, sizeof(after->told));
		after->lost = marks_lost(rdma, &m, owner->pid);
		after->known = true;
	}
	helper_end(&m);
	close(m.fd);
}

static bool owner_join(struct rdma *rdma, struct owner *owner, const struct hello *hello,
		       struct answer *answer)
{
	int ret;

	answer_step(answer, "connecting to the owner");
	ret = owner_connect(owner->fd, rdma, hello->qp_num);
	if (ret)
		answer_step_failed(answer, ret);
	rdma->rkey = hello->rkey;
	return !ret;
}

void policy_owner_ask(const struct group *group, const struct operation *op, struct answer *answer)
{
	struct owner owner = {.fd = -1, .told = told_create()};
	struct rdma rdma = {0};
	struct hello hello;
	int ret;

	answer_step(answer, "starting the owner");
	ret = owner.told ? owner_start(group, op, &owner) : -ENOMEM;
	if (ret) {
		answer_step_failed(answer, ret);
		return;
	}
	if (!owner_get(owner.fd, &hello, sizeof(hello)))
		answer_step_failed(answer, -ECHILD);
	else if (hello.answer.state != ANSWER_NONE)
		*answer = hello.answer;
	else if (owner_open_half(group, &rdma, false, answer) &&
		 owner_join(&rdma, &owner, &hello, answer) &&
		 !peer_prepare(&rdma, &hello.m, answer))
		owner_ask_all(group, op, &rdma, &owner, &hello, answer);
	rdma_close(&rdma);
	close(owner.fd);
	kill(owner.pid, SIGKILL);
	waitpid(owner.pid, NULL, 0);
	told_destroy(owner.told);
}
