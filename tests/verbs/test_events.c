/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Completion channels: when there is an event, when there is none, and for whom. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"

static struct twr send64 = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};

static bool up(struct pair *p)
{
	struct ep_conf c = RC_CONF;

	c.channel = true;
	return pair_up(p, &c, &c);
}

static void recvs(struct pair *p, int n)
{
	while (n--)
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 2, .len = 64}), 0);
}

static void send_ok(struct pair *p, unsigned int flags)
{
	struct twr s = send64;
	struct ibv_wc wc;

	s.flags |= flags;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
}

static void b_polls(struct pair *p, int n)
{
	struct ibv_wc wc[8];

	CHECK_INT(side_poll(&p->b, RECV_CQ, wc, n, LONG_MS), n);
}

static void c_armed(struct pair *p)
{
	if (!up(p))
		return;
	recvs(p, 6);
	send_ok(p, 0); /* not armed: no event */
	CHECK_INT(side_cq_event(&p->b, 20), 0);
	b_polls(p, 1);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 0), 0);
	CHECK_INT(side_cq_event(&p->b, 20), 0); /* nothing new yet */
	send_ok(p, 0);
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	send_ok(p, 0); /* one arming, one event */
	CHECK_INT(side_cq_event(&p->b, 20), 0);
	b_polls(p, 2);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 0), 0);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 0), 0); /* twice is once */
	send_ok(p, 0);
	send_ok(p, 0);
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	CHECK_INT(side_cq_event(&p->b, 20), 0);
	pair_down(p);
}

/*
 * Completions that were there before the arming, and have not been polled. IBTA asks for
 * no event; mlx5 raises one at once, which programs count on (as they must bear one too
 * many), and so does uodp. rxe waits for the next completion.
 */
static void c_armed_late(struct pair *p)
{
	if (!up(p))
		return;
	recvs(p, 4);
	send_ok(p, 0);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 0), 0);
	CHECK_INT(side_cq_event(&p->b, tdev()->rxe ? 20 : LONG_MS), !tdev()->rxe);
	send_ok(p, 0);
	CHECK_INT(side_cq_event(&p->b, tdev()->rxe ? LONG_MS : 20), tdev()->rxe); /* disarmed */
	b_polls(p, 2);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 0), 0);
	CHECK_INT(side_cq_event(&p->b, 20), 0); /* all polled: it waits for the next */
	send_ok(p, 0);
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	b_polls(p, 1);
	pair_down(p);
}

/* The same for solicited events alone: only what they are for counts. */
static void c_armed_late_solicited(struct pair *p)
{
	if (tdev()->rxe)
		return t_skip("rdma_rxe raises events for later completions only");
	if (!up(p))
		return;
	recvs(p, 6);
	send_ok(p, 0);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 1), 0);
	CHECK_INT(side_cq_event(&p->b, 20), 0);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 0), 0); /* more is asked for: it is there */
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	send_ok(p, IBV_SEND_SOLICITED);
	send_ok(p, 0);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 1), 0);
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	b_polls(p, 2); /* past the solicited one */
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 1), 0);
	CHECK_INT(side_cq_event(&p->b, 20), 0);
	b_polls(p, 1);
	CHECK_ERRNO(side_modify(&p->b, IBV_QPS_ERR), 0); /* an error counts */
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 1), 0);
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	b_polls(p, 3);
	pair_down(p);
}

/* "Get an event, arm, poll one", as long as there are events. */
static void c_poll_one(struct pair *p)
{
	struct twr w = {.op = IBV_WR_RDMA_WRITE, .len = 8};
	struct ep_conf c = RC_CONF;
	struct ibv_cq *cq = NULL;
	struct ibv_wc wc;
	uint64_t seen = 0;
	int i;

	if (tdev()->rxe)
		return t_skip("rdma_rxe raises events for later completions only");
	c.channel = true;
	c.cap.max_send_wr = 100;
	c.sq_sig_all = 1;
	REQUIRE(pair_up(p, &c, &c));
	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	CHECK_ERRNO(ibv_req_notify_cq(p->a.scq, 0), 0);
	for (i = 0; i < 100; i++) {
		w.id = (uint64_t)i;
		CHECK_ERRNO(ep_send(&p->a, &w), 0);
	}
	while (seen < 100 && CHECK(ep_cq_event(&p->a, LONG_MS, &cq))) {
		CHECK_ERRNO(ibv_req_notify_cq(cq, 0), 0);
		if (ibv_poll_cq(cq, 1, &wc) != 1)
			continue;
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(wc.wr_id, seen++);
	}
	CHECK_INT(seen, 100);
	pair_down(p);
}

static void c_solicited(struct pair *p)
{
	struct twr w = {.id = 3,
			.op = IBV_WR_RDMA_WRITE_WITH_IMM,
			.len = 64,
			.flags = IBV_SEND_SIGNALED | IBV_SEND_SOLICITED};
	struct ibv_wc wc;

	if (!up(p))
		return;
	recvs(p, 6);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 1), 0);
	send_ok(p, 0);
	CHECK_INT(side_cq_event(&p->b, 20), 0);
	send_ok(p, IBV_SEND_SOLICITED);
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 1), 0);
	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &w), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	/* armed for any, then for solicited only: any stays */
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 0), 0);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 1), 0);
	send_ok(p, 0);
	CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	b_polls(p, 4);
	CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 1), 0);
	CHECK_ERRNO(side_modify(&p->b, IBV_QPS_ERR), 0);
	/* an error counts as solicited (IBTA 11.4.2.2); rxe forgets it for a flush */
	if (!tdev()->rxe)
		CHECK_INT(side_cq_event(&p->b, LONG_MS), 1);
	b_polls(p, 2);
	pair_down(p);
}

/* Both CQs of A share its channel. */
static void c_two_cqs(struct pair *p)
{
	struct ibv_cq *cq = NULL;
	struct ibv_wc wc;
	int i;

	if (!up(p))
		return;
	recvs(p, 4);
	for (i = 0; i < 2; i++) {
		CHECK_ERRNO(ibv_req_notify_cq(p->a.scq, 0), 0);
		CHECK_ERRNO(ibv_req_notify_cq(p->a.rcq, 0), 0);
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		CHECK(ep_cq_event(&p->a, LONG_MS, &cq));
		CHECK(cq == p->a.scq);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 9, .len = 64}), 0);
		CHECK_ERRNO(side_send(&p->b, &send64), 0);
		CHECK(ep_cq_event(&p->a, LONG_MS, &cq));
		CHECK(cq == p->a.rcq);
		CHECK_INT(ep_poll(p->a.rcq, &wc, 1, LONG_MS), 1);
		CHECK(!ep_cq_event(&p->a, 5, &cq));
	}
	pair_down(p);
}

/* The peer sleeps in poll() on the channel while the message comes. */
static void c_sleeper_process(struct pair *p)
{
	int i;

	if (!up(p))
		return;
	recvs(p, 5);
	for (i = 0; i < 5; i++) {
		CHECK_ERRNO(side_arm(&p->b, RECV_CQ, 0), 0);
		side_cq_event_begin(&p->b, LONG_MS);
		sleep_ms(5);
		send_ok(p, 0);
		CHECK_INT(side_cq_event_end(&p->b), 1);
		b_polls(p, 1);
	}
	pair_down(p);
}

struct sleeper {
	struct ep *ep;
	struct ibv_cq *cq;
	int ret;
};

static void *sleep_in_get(void *arg)
{
	struct sleeper *s = arg;
	void *context;

	s->ret = ibv_get_cq_event(s->ep->chan, &s->cq, &context);
	return NULL;
}

static void c_sleeper_thread(struct pair *p)
{
	struct sleeper s = {.ep = &p->a};
	pthread_t thread;
	struct ibv_wc wc;
	int i;

	if (!up(p))
		return;
	for (i = 0; i < 5; i++) {
		CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 9, .len = 64}), 0);
		CHECK_ERRNO(ibv_req_notify_cq(p->a.rcq, 0), 0);
		CHECK_INT(pthread_create(&thread, NULL, sleep_in_get, &s), 0);
		sleep_ms(5);
		CHECK_ERRNO(side_send(&p->b, &send64), 0);
		pthread_join(thread, NULL);
		CHECK_INT(s.ret, 0);
		CHECK(s.cq == p->a.rcq);
		ibv_ack_cq_events(p->a.rcq, 1);
		CHECK_INT(ep_poll(p->a.rcq, &wc, 1, LONG_MS), 1);
	}
	pair_down(p);
}

static void c_nonblocking(struct pair *p)
{
	struct ibv_cq *cq;
	void *context;
	int fl;

	if (!up(p))
		return;
	fl = fcntl(p->a.chan->fd, F_GETFL);
	CHECK_INT(fcntl(p->a.chan->fd, F_SETFL, fl | O_NONBLOCK), 0);
	errno = 0;
	CHECK_INT(ibv_get_cq_event(p->a.chan, &cq, &context), -1);
	CHECK_ERRNO(errno, EAGAIN);
	recvs(p, 1);
	CHECK_ERRNO(ibv_req_notify_cq(p->a.scq, 0), 0);
	send_ok(p, 0);
	CHECK(ep_cq_event(&p->a, LONG_MS, &cq));
	CHECK(cq == p->a.scq);
	pair_down(p);
}

/* Events that nobody reads are kept, each one. */
static void c_backlog(struct pair *p)
{
	struct ibv_cq *cq;
	int i, n = 200;

	if (!up(p))
		return;
	for (i = 0; i < n; i++) {
		struct twr w = {.id = 4,
				.op = IBV_WR_RDMA_WRITE,
				.flags = IBV_SEND_SIGNALED,
				.len = 8,
				.raddr = p->bi.addr,
				.rkey = p->bi.rkey};
		struct ibv_wc wc;

		CHECK_ERRNO(ibv_req_notify_cq(p->a.scq, 0), 0);
		CHECK_ERRNO(ep_send(&p->a, &w), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	}
	/* rxe (as others) reports before the completion is visible to the poller, so
	 * the last event may still be on its way */
	for (i = 0; i < n; i++)
		if (!CHECK(ep_cq_event(&p->a, 1000, &cq)))
			break;
	CHECK(!ep_cq_event(&p->a, 5, &cq));
	pair_down(p);
}

static _Atomic int destroyed;

static void *destroyer(void *arg)
{
	struct ibv_cq *cq = arg;

	CHECK_ERRNO(ibv_destroy_cq(cq), 0);
	atomic_store_explicit(&destroyed, 1, memory_order_release); /* pairs with the test's load */
	return NULL;
}

/* ibv_destroy_cq waits for the last acknowledgement. */
static void c_destroy_waits(struct pair *p)
{
	struct ibv_cq *cq;
	pthread_t thread;
	void *context;

	if (!up(p))
		return;
	recvs(p, 1);
	CHECK_ERRNO(ibv_req_notify_cq(p->a.scq, 0), 0);
	send_ok(p, 0);
	REQUIRE(ibv_get_cq_event(p->a.chan, &cq, &context) == 0);
	CHECK_ERRNO(ibv_destroy_qp(p->a.qp), 0);
	p->a.qp = NULL;
	atomic_store_explicit(&destroyed, 0, memory_order_relaxed);
	CHECK_INT(pthread_create(&thread, NULL, destroyer, p->a.scq), 0);
	sleep_ms(30);
	CHECK_INT(atomic_load_explicit(&destroyed, memory_order_acquire), 0);
	ibv_ack_cq_events(cq, 1);
	pthread_join(thread, NULL);
	CHECK_INT(atomic_load_explicit(&destroyed, memory_order_acquire), 1);
	p->a.scq = NULL;
	pair_down(p);
}

/* ---- Destroying what an unread event names ---- */

/* What the process lacks when it destroys: anything that can be had by asking may be
 * gone by then. */
enum lack { LACK_NOTHING, LACK_DESCRIPTORS, LACK_ROOT, N_LACK };
static const char *const lack_name[] = {"nothing", "descriptors", "its root directory"};
static struct rlimit files_before;
static int root_before;

/* False: not here. */
static bool lack_begin(enum lack lack)
{
	struct rlimit none;

	t_note("without %s", lack_name[lack]);
	if (lack == LACK_DESCRIPTORS) {
		if (!CHECK(!getrlimit(RLIMIT_NOFILE, &files_before)))
			return false;
		none = files_before;
		none.rlim_cur = 0;
		return CHECK(!setrlimit(RLIMIT_NOFILE, &none));
	}
	if (lack != LACK_ROOT)
		return true;
	root_before = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return CHECK(root_before >= 0) && !chroot("/dev/shm") && CHECK(!chdir("/"));
}

static void lack_end(enum lack lack)
{
	if (lack == LACK_DESCRIPTORS) {
		CHECK(!setrlimit(RLIMIT_NOFILE, &files_before));
	} else if (lack == LACK_ROOT) {
		CHECK(!fchdir(root_before) && !chroot("."));
		close(root_before);
	}
}

static void destroy_unread(struct pair *p, enum lack lack)
{
	struct ibv_cq *cq = NULL;

	if (!up(p))
		return;
	recvs(p, 2);
	for (int i = 0; i < 2; i++) {
		CHECK_ERRNO(ibv_req_notify_cq(p->a.scq, 0), 0);
		send_ok(p, 0);
	}
	CHECK_ERRNO(ibv_destroy_qp(p->a.qp), 0);
	p->a.qp = NULL;
	if (lack_begin(lack)) {
		CHECK_ERRNO(ibv_destroy_cq(p->a.scq), 0);
		lack_end(lack);
		p->a.scq = NULL;
	}
	/* and it is not delivered for a CQ that is gone */
	CHECK(!ep_cq_event(&p->a, 5, &cq));
	pair_down(p);
}

/* An event that was raised and not read does not keep the CQ alive. */
static void c_destroy_unread(struct pair *p)
{
	for (int lack = 0; lack < N_LACK && !t_failures(); lack++)
		if (!tdev()->rxe || !lack)
			destroy_unread(p, (enum lack)lack);
}

/* Those of other CQs stay. */
static void c_destroy_one(struct pair *p)
{
	struct ibv_cq *cq = NULL;

	if (!up(p))
		return;
	recvs(p, 2);
	CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 2, .len = 64}), 0);
	CHECK_ERRNO(ibv_req_notify_cq(p->a.scq, 0), 0);
	CHECK_ERRNO(ibv_req_notify_cq(p->a.rcq, 0), 0);
	send_ok(p, 0);
	CHECK_ERRNO(side_send(&p->b, &send64), 0);
	CHECK_ERRNO(ibv_destroy_qp(p->a.qp), 0);
	p->a.qp = NULL;
	CHECK_ERRNO(ibv_destroy_cq(p->a.scq), 0);
	p->a.scq = NULL;
	CHECK(ep_cq_event(&p->a, LONG_MS, &cq));
	CHECK(cq == p->a.rcq);
	pair_down(p);
}

/* ---- Async events ---- */

/* One event of each object that can have one: a CQ that runs over, an SRQ below
 * its limit, a QP that takes no more of that SRQ. */
enum { OF_CQ, OF_SRQ, OF_QP, N_OF };
static const char *const of_name[] = {"CQ", "SRQ", "QP"};
static const int of_type[] = {IBV_EVENT_CQ_ERR, IBV_EVENT_SRQ_LIMIT_REACHED,
			      IBV_EVENT_QP_LAST_WQE_REACHED};

static bool raise_event(struct pair *p, int of)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct ibv_srq_attr limit = {.srq_limit = 2};
	int i, n;

	cb.srq_wr = 64;
	cb.cqe = 4;
	ca.cap.max_send_wr = 64;
	ca.timeout = 8;
	if (!pair_up(p, &ca, &cb))
		return false;
	n = of == OF_CQ ? p->b.ep.rcq->cqe + 2 : 2;
	for (i = 0; i < n; i++)
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 2, .len = 64}), 0);
	if (of == OF_SRQ)
		CHECK_ERRNO(ibv_modify_srq(p->b.ep.srq, &limit, IBV_SRQ_LIMIT), 0);
	if (of == OF_QP)
		CHECK_ERRNO(side_modify(&p->b, IBV_QPS_ERR), 0);
	else
		for (i = 0; i < n; i++)
			CHECK_ERRNO(ep_send(&p->a, &send64), 0);
	return true;
}

static void *destroy_all(void *arg)
{
	struct pair *p = arg;
	int err = side_close(&p->b);

	CHECK_ERRNO(err, 0);
	atomic_store_explicit(&destroyed, 1, memory_order_release); /* pairs with the test's load */
	return NULL;
}

/* Destroying what an event names waits until the event is acknowledged. */
static void c_async_ack(struct pair *p)
{
	struct ibv_async_event ev;
	pthread_t thread;
	int of;

	for (of = 0; of < N_OF && !t_failures(); of++) {
		t_note("%s", of_name[of]);
		if (!raise_event(p, of))
			return;
		do {
			REQUIRE(ibv_get_async_event(p->b.ep.ctx, &ev) == 0);
			if ((int)ev.event_type != of_type[of])
				ibv_ack_async_event(&ev); /* of what came of it */
		} while ((int)ev.event_type != of_type[of]);
		atomic_store_explicit(&destroyed, 0, memory_order_relaxed);
		REQUIRE(!pthread_create(&thread, NULL, destroy_all, p));
		sleep_ms(30);
		CHECK_INT(atomic_load_explicit(&destroyed, memory_order_acquire), 0);
		ibv_ack_async_event(&ev);
		pthread_join(thread, NULL);
		CHECK_INT(atomic_load_explicit(&destroyed, memory_order_acquire), 1);
		pair_down(p);
	}
}

static void async_unread(struct pair *p, int of, enum lack lack)
{
	struct ep *b = &p->b.ep;

	t_note("%s", of_name[of]);
	if (!raise_event(p, of))
		return;
	sleep_ms(tdev()->rxe ? 100 : 20); /* it is there now */
	if (lack_begin(lack)) {
		CHECK_ERRNO(ibv_destroy_qp(b->qp), 0);
		b->qp = NULL;
		CHECK_ERRNO(ibv_destroy_srq(b->srq), 0);
		b->srq = NULL;
		CHECK_ERRNO(ibv_destroy_cq(b->rcq), 0);
		b->rcq = NULL;
		lack_end(lack);
		CHECK_INT(ep_event(b, 20, NULL), -1);
	}
	pair_down(p);
}

/* An event that nobody read goes with its object: it must not name what is gone. */
static void c_async_unread(struct pair *p)
{
	for (int lack = 0; lack < N_LACK; lack++)
		for (int of = 0; of < N_OF && !t_failures(); of++)
			if (!tdev()->rxe || !lack)
				async_unread(p, of, (enum lack)lack);
}

/* A thread sleeps in ibv_get_async_event until something happens. */
static void *async_sleeper(void *arg)
{
	struct ep *ep = arg;
	struct ibv_async_event ev;
	static int type;

	type = -1;
	if (!ibv_get_async_event(ep->ctx, &ev)) {
		type = (int)ev.event_type;
		ibv_ack_async_event(&ev);
	}
	return &type;
}

static void c_async_sleeper(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	pthread_t thread;
	void *type;

	ca.srq_wr = 16;
	REQUIRE(pair_up(p, &ca, &cb));
	REQUIRE(!pthread_create(&thread, NULL, async_sleeper, &p->a));
	sleep_ms(20);
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
	pthread_join(thread, &type);
	CHECK_INT(*(int *)type, IBV_EVENT_QP_LAST_WQE_REACHED);
	pair_down(p);
}

static const struct tcase cases[] = {
	{"armed or not", c_armed, BOTH},
	{"armed after the completion", c_armed_late, BOTH},
	{"armed for solicited ones after them", c_armed_late_solicited, BOTH},
	{"event, arm, poll one", c_poll_one, BOTH},
	{"solicited only", c_solicited, BOTH},
	{"two CQs on a channel", c_two_cqs, BOTH},
	{"a process sleeps in poll", c_sleeper_process, PEER},
	{"a thread sleeps in ibv_get_cq_event", c_sleeper_thread, BOTH},
	{"non-blocking channel", c_nonblocking, BOTH},
	{"backlog of events", c_backlog, HERE},
	{"destroy waits for the ack", c_destroy_waits, HERE},
	{"destroy waits for the async ack", c_async_ack, HERE},
	{"destroy with an unread async event", c_async_unread, HERE},
	{"a thread sleeps in ibv_get_async_event", c_async_sleeper, BOTH},
	{"destroy with an unread event", c_destroy_unread, HERE},
	{"destroy one of two with unread events", c_destroy_one, HERE},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
