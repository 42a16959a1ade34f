/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A device that goes away under its programs, and comes back. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "harness.h"

#define DM_LEN (64u << 10)
#define DM_ACCESS (ALL_ACCESS | IBV_ACCESS_ZERO_BASED)

/* ---- what touching an address does ---- */

static sigjmp_buf fatal;

static void on_bus(int sig)
{
	siglongjmp(fatal, sig);
}

/* Does a load, or a store, from ADDR give SIGBUS? */
static bool bus(volatile uint8_t *addr, bool write)
{
	struct sigaction sa = {.sa_handler = on_bus}, old;
	int sig;

	sigaction(SIGBUS, &sa, &old);
	sig = sigsetjmp(fatal, 1);
	if (!sig && write)
		*addr = 1;
	else if (!sig)
		(void)*addr;
	sigaction(SIGBUS, &old, NULL);
	return sig == SIGBUS;
}

/* ---- device memory on either side ---- */

struct mem {
	struct ibv_dm *dm;
	struct ibv_mr *mr;
	uint8_t *map;
	int fd;
};

static bool mem_open(struct ep *ep, struct mem *m)
{
	struct ibv_alloc_dm_attr a = {.length = DM_LEN};

	m->dm = ibv_alloc_dm(ep->ctx, &a);
	if (!CHECK(m->dm))
		return false;
	m->fd = uodpdv_dmabuf_export(m->dm);
	m->mr = ibv_reg_dm_mr(ep->pd, m->dm, 0, DM_LEN, DM_ACCESS);
	m->map = uodpdv_dm_map(m->dm);
	return CHECK(m->fd >= 0 && m->mr && m->map);
}

static void mem_close(struct mem *m)
{
	CHECK_ERRNO(uodpdv_dm_unmap(m->dm, m->map), 0);
	CHECK_ERRNO(ibv_dereg_mr(m->mr), 0);
	CHECK_ERRNO(ibv_free_dm(m->dm), 0);
	close(m->fd);
}

/* ---- every verb, on a context whose device is gone ---- */

#define GONE(ptr)                                                                                  \
	do {                                                                                       \
		errno = 0;                                                                         \
		CHECK(!(ptr));                                                                     \
		CHECK_ERRNO(errno, EIO);                                                           \
	} while (0)

static void verbs_gone(struct ep *ep, struct mem *m)
{
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = 1, .max_sge = 1}};
	struct ibv_qp_init_attr qpi = {
		.send_cq = ep->scq, .recv_cq = ep->rcq, .qp_type = IBV_QPT_RC};
	struct ibv_ah_attr ah = {.is_global = 1, .port_num = PORT, .grh.dgid = tdev()->gid};
	struct ibv_sge sge = {(uintptr_t)ep->buf, 4096, ep->mr->lkey};
	struct ibv_alloc_dm_attr dm = {.length = 4096};
	struct ibv_device_attr_ex ex;
	struct ibv_device_attr dev;
	struct ibv_port_attr port;
	struct ibv_qp_attr qpa = {.qp_state = IBV_QPS_RESET};
	uint8_t byte = 0;

	CHECK_ERRNO(ibv_query_device(ep->ctx, &dev), EIO);
	CHECK_ERRNO(ibv_query_device_ex(ep->ctx, NULL, &ex), EIO);
	CHECK_ERRNO(ibv_query_port(ep->ctx, PORT, &port), EIO);
	GONE(ibv_alloc_pd(ep->ctx));
	GONE(ibv_reg_mr(ep->pd, ep->buf, 4096, IBV_ACCESS_LOCAL_WRITE));
	GONE(ibv_create_comp_channel(ep->ctx));
	GONE(ibv_create_cq(ep->ctx, 1, NULL, NULL, 0));
	GONE(ibv_create_srq(ep->pd, &srq));
	GONE(ibv_create_qp(ep->pd, &qpi));
	GONE(ibv_create_ah(ep->pd, &ah));
	GONE(ibv_alloc_dm(ep->ctx, &dm));
	GONE(ibv_reg_dm_mr(ep->pd, m->dm, 0, 4096, DM_ACCESS));
	GONE(ibv_reg_dmabuf_mr(ep->pd, 0, 4096, 0, m->fd, IBV_ACCESS_LOCAL_WRITE));
	GONE(uodpdv_dm_map(m->dm));
	CHECK_INT(uodpdv_dmabuf_export(m->dm), -1);
	CHECK_ERRNO(errno, EIO);
	CHECK_ERRNO(uodpdv_dmabuf_move(m->dm), EIO);
	CHECK_ERRNO(uodpdv_dmabuf_revoke(m->dm), EIO);
	CHECK_ERRNO(ibv_memcpy_to_dm(m->dm, 0, &byte, 1), EIO);
	CHECK_ERRNO(ibv_memcpy_from_dm(&byte, m->dm, 0, 1), EIO);
	CHECK_ERRNO(ibv_resize_cq(ep->scq, 8), EIO);
	CHECK_ERRNO(ibv_req_notify_cq(ep->scq, 0), EIO);
	CHECK_ERRNO(ibv_modify_qp(ep->qp, &qpa, IBV_QP_STATE), EIO);
	CHECK_ERRNO(ibv_query_qp(ep->qp, &qpa, IBV_QP_STATE, &qpi), EIO);
	CHECK_ERRNO(ibv_advise_mr(ep->pd, IBV_ADVISE_MR_ADVICE_PREFETCH, 0, &sge, 1), EIO);
	CHECK(ibv_rereg_mr(ep->mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, 0));
}

static void flushed(struct ibv_cq *cq, int n)
{
	struct ibv_wc wc[MAX_WC];

	if (!CHECK_INT(ep_poll(cq, wc, n, LONG_MS), n))
		return;
	for (int i = 0; i < n; i++)
		CHECK_STATUS(wc[i].status, IBV_WC_WR_FLUSH_ERR);
}

/* All that a program sees whose device has just gone. */
static void gone_check(struct ep *ep, struct mem *m, int sends, int recvs)
{
	struct twr wr = {.id = 7, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct uodpdv_mr_attr attr = {0};

	CHECK_INT(ep_event(ep, LONG_MS, NULL), IBV_EVENT_DEVICE_FATAL);
	flushed(ep->scq, sends);
	flushed(ep->rcq, recvs);
	CHECK_ERRNO(uodpdv_query_mr(ep->mr, &attr, sizeof(attr)), 0);
	CHECK_INT(attr.pages_valid, 0);
	CHECK(bus(m->map, false));
	CHECK(bus(m->map + DM_LEN - 1, true));
	/* In the error state work requests are taken, and flushed. */
	CHECK_ERRNO(ep_send(ep, &wr), 0);
	CHECK_ERRNO(ep_recv(ep, &wr), 0);
	flushed(ep->scq, 1);
	flushed(ep->rcq, 1);
	verbs_gone(ep, m);
	CHECK_INT(ep_event(ep, 20, NULL), -1); /* one event, once */
}

/* ---- B, wherever it is ---- */

enum { H_OPEN = 1, H_CLOSE, H_GONE, H_STREAM };

/* Write to RADDR until that fails: the status. */
static int stream(struct ep *ep, uint64_t raddr, uint32_t rkey)
{
	struct twr w = {.op = IBV_WR_RDMA_WRITE,
			.flags = IBV_SEND_SIGNALED,
			.len = ep->conf.len,
			.raddr = raddr,
			.rkey = rkey};
	struct ibv_wc wc = {0};

	for (w.id = 1; !wc.status; w.id++) {
		memset(ep->buf, (int)w.id, w.len);
		if (ep_send(ep, &w) || ep_poll(ep->scq, &wc, 1, LONG_MS) != 1)
			return -1;
	}
	return (int)wc.status;
}

static void hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	static struct mem m;

	out->v[0] = 0;
	switch (in->what) {
	case H_OPEN:
		out->v[0] = mem_open(ep, &m);
		out->v[1] = (uint64_t)m.fd;
		out->v[2] = m.mr ? m.mr->rkey : 0;
		break;
	case H_CLOSE:
		mem_close(&m);
		break;
	case H_STREAM:
		out->v[0] = (uint64_t)stream(ep, in->v[0], (uint32_t)in->v[1]);
		break;
	case H_GONE:
		gone_check(ep, &m, (int)in->v[0], (int)in->v[1]);
		out->v[0] = (uint64_t)t_failures();
		break;
	}
}

static struct hook_msg b_do(struct pair *p, uint32_t what, uint64_t v0, uint64_t v1)
{
	static struct hook_msg in, out;

	in = (struct hook_msg){.what = what, .v = {v0, v1}};
	side_hook(&p->b, &in, &out);
	return out;
}

/* A mapping of B's device memory, and its key. */
static uint8_t *b_open(struct pair *p, uint32_t *rkey)
{
	struct hook_msg out = b_do(p, H_OPEN, 0, 0);
	char path[64];
	void *map;
	int fd;

	if (!CHECK(out.v[0]))
		return NULL;
	*rkey = (uint32_t)out.v[2];
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", p->remote ? (int)p->b.pid : (int)getpid(),
		 (int)out.v[1]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	map = mmap(NULL, DM_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return CHECK(map != MAP_FAILED) ? map : NULL;
}

static int write_status(struct pair *p, uint64_t raddr, uint32_t rkey)
{
	struct twr w = {.id = 1,
			.op = IBV_WR_RDMA_WRITE,
			.flags = IBV_SEND_SIGNALED,
			.len = 4096,
			.raddr = raddr,
			.rkey = rkey};
	struct ibv_wc wc;

	if (!CHECK_ERRNO(ep_send(&p->a, &w), 0) ||
	    !CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return -1;
	return (int)wc.status;
}

static bool listed(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	bool found = false;

	for (int i = 0; list && list[i]; i++)
		found |= !strcmp(ibv_get_device_name(list[i]), tdev()->name);
	if (list)
		ibv_free_device_list(list);
	return found;
}

/* ---- cases ---- */

static void c_arguments(struct pair *p)
{
	struct uodpdv_unplug_info info;

	(void)p;
	CHECK_ERRNO(uodpdv_unplug("", 0, NULL, 0), EINVAL);
	CHECK_ERRNO(uodpdv_unplug("../x", 0, NULL, 0), EINVAL);
	CHECK_ERRNO(uodpdv_unplug("nosuch0", 0, NULL, 0), ENODEV);
	CHECK_ERRNO(uodpdv_plug("nosuch0", 0), ENODEV);
	CHECK_ERRNO(uodpdv_unplug(tdev()->name, -1, NULL, 0), EINVAL);
	CHECK_ERRNO(uodpdv_unplug(tdev()->name, 1, NULL, 0), ESRCH);
	CHECK_ERRNO(uodpdv_unplug(tdev()->name, 0, &info, 4), EINVAL);
	CHECK_ERRNO(uodpdv_plug(tdev()->name, 0), 0); /* it is in already */
	CHECK(listed());
}

/* Everything at once: objects of every sort, posted work, mappings. */
static void c_all(struct pair *p)
{
	struct twr r = {.id = 5, .len = 64};
	struct uodpdv_unplug_info info;
	struct ep_conf c = RC_CONF;
	struct ibv_context *ctx;
	struct mem mine;
	uint32_t rkey;
	uint8_t *theirs;

	c.retry_cnt = 7;
	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(mem_open(&p->a, &mine));
	theirs = b_open(p, &rkey);
	REQUIRE(theirs);
	theirs[5] = 42;
	CHECK_STATUS(write_status(p, 0, rkey), IBV_WC_SUCCESS);
	CHECK(theirs[5] == p->a.buf[5]);
	for (int i = 0; i < 3; i++) {
		CHECK_ERRNO(ep_recv(&p->a, &r), 0);
		CHECK_ERRNO(side_recv(&p->b, &r), 0);
	}

	CHECK_ERRNO(uodpdv_unplug(tdev()->name, 0, &info, sizeof(info)), 0);
	CHECK(info.processes >= 1u + p->remote && info.qps >= 2 && info.mrs >= 6 && info.dms == 2);
	CHECK(bus(theirs, false) && bus(theirs + 4096, true));
	CHECK(bus(mine.map, false));
	gone_check(&p->a, &mine, 0, 3);
	CHECK_INT(b_do(p, H_GONE, 0, 3).v[0], 0);
	CHECK(!listed());
	errno = 0;
	ctx = ibv_open_device(tdev()->ibdev);
	CHECK(!ctx);
	CHECK_ERRNO(errno, ENODEV);
	/* Once more changes nothing. */
	CHECK_ERRNO(uodpdv_unplug(tdev()->name, 0, &info, sizeof(info)), 0);
	CHECK_INT(info.mrs + info.dms, 0);

	CHECK_ERRNO(uodpdv_plug(tdev()->name, 0), 0);
	CHECK(listed());
	verbs_gone(&p->a, &mine); /* what was open is gone for good */
	b_do(p, H_CLOSE, 0, 0);
	mem_close(&mine);
	munmap(theirs, DM_LEN);
	pair_down(p);

	REQUIRE(pair_up(p, &c, &c));
	CHECK_STATUS(write_status(p, p->bi.addr, p->bi.rkey), IBV_WC_SUCCESS);
	pair_down(p);
}

/* One of two processes, which is stopped meanwhile: the other's device stays. */
static void c_stopped(struct pair *p)
{
	struct twr r = {.id = 5, .len = 64};
	struct ep_conf c = RC_CONF;
	struct ibv_context *ctx;
	uint32_t rkey;
	uint8_t *theirs;
	uint64_t began;

	c.retry_cnt = 1;
	REQUIRE(pair_up(p, &c, &c));
	theirs = b_open(p, &rkey);
	REQUIRE(theirs);
	CHECK_STATUS(write_status(p, 0, rkey), IBV_WC_SUCCESS);
	CHECK_ERRNO(side_recv(&p->b, &r), 0);

	kill(p->b.pid, SIGSTOP);
	began = now_ms();
	CHECK_ERRNO(uodpdv_unplug(tdev()->name, p->b.pid, NULL, 0), 0);
	CHECK(now_ms() - began < LONG_MS);
	CHECK(bus(theirs, false));
	/* Nobody answers there any more. */
	CHECK_STATUS(write_status(p, p->bi.addr, p->bi.rkey), IBV_WC_RETRY_EXC_ERR);
	CHECK(listed());
	ctx = tdev_open();
	CHECK_ERRNO(ibv_close_device(ctx), 0);
	CHECK_INT(ep_event(&p->a, 20, NULL), -1);
	kill(p->b.pid, SIGCONT);

	CHECK_INT(b_do(p, H_GONE, 0, 1).v[0], 0);
	CHECK_ERRNO(uodpdv_plug(tdev()->name, p->b.pid), 0);
	b_do(p, H_CLOSE, 0, 0);
	munmap(theirs, DM_LEN);
	pair_down(p);
}

/* Another device of the same processes goes: this one stays, with all it has. */
static void c_other(struct pair *p)
{
	static uint8_t mem[2 * 4096];
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *ctx = NULL;
	struct uodpdv_unplug_info info;
	struct uodpdv_mr_attr attr;
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;
	struct ibv_pd *pd;

	for (int i = 0; list && list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), "uodp1"))
			ctx = ibv_open_device(list[i]);
	ibv_free_device_list(list);
	REQUIRE(ctx);
	REQUIRE(pair_up(p, &c, &c));
	pd = ibv_alloc_pd(ctx);
	mr = ibv_reg_mr(pd, mem, sizeof(mem), ALL_ACCESS);
	REQUIRE(mr);
	CHECK_ERRNO(uodpdv_unplug("uodp1", 0, &info, sizeof(info)), 0);
	CHECK_INT(info.mrs, 1);
	CHECK_INT(info.qps, 0);
	CHECK_ERRNO(uodpdv_query_mr(mr, &attr, sizeof(attr)), 0);
	CHECK_INT(attr.pages_valid, 0);
	GONE(ibv_alloc_pd(ctx));
	CHECK(listed());
	CHECK_STATUS(write_status(p, p->bi.addr, p->bi.rkey), IBV_WC_SUCCESS);
	CHECK_INT(ep_event(&p->a, 20, NULL), -1);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	CHECK_ERRNO(ibv_dealloc_pd(pd), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
	CHECK_ERRNO(uodpdv_plug("uodp1", 0), 0);
	pair_down(p);
}

/* ---- under traffic ---- */

struct stream {
	struct ep *ep;
	const struct ep_info *to;
	_Atomic uint64_t done, failed;
};

static void *stream_run(void *arg)
{
	struct stream *s = arg;
	struct ibv_wc wc;

	for (uint32_t i = 1;; i++) {
		struct twr w = {.id = i,
				.op = IBV_WR_RDMA_WRITE,
				.flags = IBV_SEND_SIGNALED,
				.len = s->ep->conf.len,
				.raddr = s->to->addr,
				.rkey = s->to->rkey};

		memset(s->ep->buf, (int)i, w.len);
		if (ep_send(s->ep, &w) || ep_poll(s->ep->scq, &wc, 1, LONG_MS) != 1 || wc.status)
			break;
		s->done++;
	}
	s->failed = 1 + (uint64_t)wc.status;
	return NULL;
}

/* After the unplug has returned, nothing is written any more. */
static void c_traffic(struct pair *p)
{
	struct ep_conf c = RC_CONF;

	for (int i = 0; i < 10; i++) {
		struct stream s = {0};
		pthread_t thread;
		uint64_t sum;

		c.len = 128 << 10;
		c.odp = i & 1;
		REQUIRE(pair_up(p, &c, &c));
		s.ep = &p->a;
		s.to = &p->bi;
		pthread_create(&thread, NULL, stream_run, &s);
		while (s.done < 20 && !s.failed)
			sleep_ms(1);
		CHECK_ERRNO(uodpdv_unplug(tdev()->name, 0, NULL, 0), 0);
		sum = side_sum(&p->b, 0, c.len);
		sleep_ms(20);
		CHECK(side_sum(&p->b, 0, c.len) == sum);
		pthread_join(thread, NULL);
		CHECK(s.failed > 1);
		CHECK_ERRNO(uodpdv_plug(tdev()->name, 0), 0);
		pair_down(p);
	}
}

/* Who writes is stopped somewhere, perhaps in the middle of a transfer: it is waited
 * for, but not for ever. */
static void c_stopped_writer(struct pair *p)
{
	static struct hook_msg in, out;
	struct ep_conf c = RC_CONF;

	for (int i = 0; i < 4; i++) {
		uint64_t began;

		c.len = 256 << 10;
		c.odp = i & 1;
		c.retry_cnt = 1;
		REQUIRE(pair_up(p, &c, &c));
		in = (struct hook_msg){.what = H_STREAM, .v = {p->ai.addr, p->ai.rkey}};
		side_hook_begin(&p->b, &in);
		sleep_ms(5 + (unsigned)i);
		kill(p->b.pid, SIGSTOP);
		began = now_ms();
		CHECK_ERRNO(uodpdv_unplug(tdev()->name, getpid(), NULL, 0), 0);
		CHECK(now_ms() - began < LONG_MS);
		CHECK_INT(ep_event(&p->a, LONG_MS, NULL), IBV_EVENT_DEVICE_FATAL);
		kill(p->b.pid, SIGCONT);
		side_hook_end(&p->b, &out);
		CHECK(out.v[0] == IBV_WC_RETRY_EXC_ERR || out.v[0] == IBV_WC_REM_ACCESS_ERR);
		CHECK_ERRNO(uodpdv_plug(tdev()->name, getpid()), 0);
		pair_down(p);
	}
}

/* ---- those who wait ---- */

/* Without a time: as programs wait. How many events there were before that failed. */
static void *async_wait(void *arg)
{
	struct ep *ep = arg;
	struct ibv_async_event ev;
	uintptr_t n = 0;

	while (!ibv_get_async_event(ep->ctx, &ev)) {
		CHECK_INT(ev.event_type, IBV_EVENT_DEVICE_FATAL);
		ibv_ack_async_event(&ev);
		n++;
	}
	return (void *)n;
}

/* The same of completions, of which there are none; a CQ that cannot be armed any more
 * gives none. */
static void *comp_wait(void *arg)
{
	struct ep *ep = arg;
	struct ibv_cq *cq;
	uintptr_t n = 0;
	struct ibv_wc wc;
	void *context;

	while (!ibv_req_notify_cq(ep->rcq, 0) && !ibv_get_cq_event(ep->chan, &cq, &context)) {
		CHECK(cq == ep->rcq);
		CHECK_INT(ibv_poll_cq(cq, 1, &wc), 0);
		ibv_ack_cq_events(cq, 1);
		n++;
	}
	return (void *)n;
}

/* Threads that would wait for ever; at first perhaps not there yet. */
static void c_waiters(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	pthread_t async, comp;
	void *events;

	c.channel = true;
	for (unsigned i = 0; i < 6; i++) {
		REQUIRE(pair_up(p, &c, &c));
		REQUIRE(!pthread_create(&async, NULL, async_wait, &p->a));
		REQUIRE(!pthread_create(&comp, NULL, comp_wait, &p->a));
		sleep_ms(i * 4);
		CHECK_ERRNO(uodpdv_unplug(tdev()->name, 0, NULL, 0), 0);
		pthread_join(async, &events);
		CHECK_INT((uintptr_t)events, 1);
		pthread_join(comp, &events);
		CHECK((uintptr_t)events <= 1);
		CHECK_ERRNO(uodpdv_plug(tdev()->name, 0), 0);
		pair_down(p);
	}
}

static _Atomic bool stop;

/* Who has opened it hears of its end, however soon that came. */
static void *told_run(void *arg)
{
	_Atomic unsigned *running = arg;

	while (!stop && !t_failures()) {
		struct ep ep = {.ctx = ibv_open_device(tdev()->ibdev)};

		if (!ep.ctx)
			continue;
		CHECK_INT(ep_event(&ep, LONG_MS, NULL), IBV_EVENT_DEVICE_FATAL);
		CHECK_ERRNO(ibv_close_device(ep.ctx), 0);
	}
	--*running;
	return NULL;
}

static void c_told(struct pair *p)
{
	_Atomic unsigned running = 3;
	pthread_t threads[3];

	(void)p;
	stop = false;
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, told_run, &running);
	for (int i = 0; atomic_load(&running); i++) {
		stop = i >= 200;
		CHECK_ERRNO(uodpdv_unplug(tdev()->name, 0, NULL, 0), 0);
		CHECK_ERRNO(uodpdv_plug(tdev()->name, 0), 0);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

/* Open, use, close, in threads, while the device comes and goes. */
static void *opener_run(void *arg)
{
	_Atomic unsigned *rounds = arg;
	static uint8_t mem[4 * 4096];

	while (!stop) {
		struct ibv_alloc_dm_attr a = {.length = 8192};
		struct ibv_context *ctx = ibv_open_device(tdev()->ibdev);
		struct ibv_pd *pd = ctx ? ibv_alloc_pd(ctx) : NULL;
		struct ibv_dm *dm = ctx ? ibv_alloc_dm(ctx, &a) : NULL;
		struct ibv_mr *mr = pd ? ibv_reg_mr(pd, mem, sizeof(mem), 0) : NULL;

		if (!ctx)
			CHECK(errno == ENODEV);
		if (mr)
			CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		if (dm)
			CHECK_ERRNO(ibv_free_dm(dm), 0);
		if (pd)
			CHECK_ERRNO(ibv_dealloc_pd(pd), 0);
		if (ctx)
			CHECK_ERRNO(ibv_close_device(ctx), 0);
		*rounds += ctx != NULL;
	}
	return NULL;
}

static void c_churn(struct pair *p)
{
	_Atomic unsigned rounds = 0;
	pthread_t threads[3];

	(void)p;
	stop = false;
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, opener_run, &rounds);
	for (int i = 0; i < 25; i++) {
		CHECK_ERRNO(uodpdv_unplug(tdev()->name, 0, NULL, 0), 0);
		sleep_ms(2);
		CHECK_ERRNO(uodpdv_plug(tdev()->name, 0), 0);
		sleep_ms(3);
	}
	for (uint64_t end = now_ms() + LONG_MS; !rounds && now_ms() < end;)
		sleep_ms(1);
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	CHECK(rounds);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"arguments", c_arguments, HERE}, {"all", c_all, BOTH},
		{"stopped", c_stopped, PEER},     {"traffic", c_traffic, BOTH},
		{"churn", c_churn, HERE},         {"stopped-writer", c_stopped_writer, PEER},
		{"other", c_other, BOTH},         {"waiters", c_waiters, BOTH},
		{"told", c_told, HERE},
	};

	t_hook(hook);
	setenv("UODP_DEVICES", "uodp0,uodp1", 1);
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
