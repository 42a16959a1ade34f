/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The other side: commands that run here, or in a peer process. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"

#define MAX_PEERS 32

enum op {
	OP_OPEN,
	OP_CONNECT,
	OP_CLOSE,
	OP_STATE,
	OP_MODIFY,
	OP_RECV,
	OP_SEND,
	OP_POLL,
	OP_FILL,
	OP_SUM,
	OP_PUT,
	OP_GET,
	OP_EVENT,
	OP_DESTROY_QP,
	OP_DEREG,
	OP_LKEY,
	OP_ARM,
	OP_CQ_EVENT,
	OP_SPIN,
	OP_SRQ_LIMIT,
	OP_HOOK,
	OP_EXIT,
};

struct cmd {
	enum op op;
	int arg, n, ms;
	uint64_t off, len, val;
	union {
		struct ep_conf conf;
		struct ep_info info;
		struct twr wr;
		struct hook_msg hook;
	};
};

struct reply {
	int err, n;
	bool flag;
	uint64_t val;
	union {
		struct ep_info info;
		struct ibv_wc wc[MAX_WC];
		struct hook_msg hook;
	};
};

static struct {
	pid_t pid;
	int fd;
} peers[MAX_PEERS];

static hook_fn hook;

void t_hook(hook_fn fn)
{
	hook = fn;
}

static int connect_upto(struct ep *ep, const struct ep_info *peer, enum ibv_qp_state upto)
{
	int err = ep_init(ep);

	if (!err && upto >= IBV_QPS_RTR)
		err = ep_rtr(ep, peer);
	if (!err && upto >= IBV_QPS_RTS)
		err = ep_rts(ep);
	return err;
}

static uint64_t spin(struct ep *ep, uint64_t off, uint8_t val, int ms)
{
	uint64_t end = now_ms() + (uint64_t)ms;

	/* Acquire: pairs with the device's store of a write's last byte. */
	while (__atomic_load_n(ep->buf + off, __ATOMIC_ACQUIRE) != val)
		if (now_ms() > end)
			return 0;
	return sum_bytes(ep->buf, off + 1);
}

static int qp_destroy(struct ep *ep)
{
	int err = ibv_destroy_qp(ep->qp);

	if (!err)
		ep->qp = NULL;
	return err;
}

static int mr_dereg(struct ep *ep)
{
	int err = ibv_dereg_mr(ep->mr);

	if (!err)
		ep->mr = NULL;
	return err;
}

static int srq_limit(struct ep *ep, uint32_t limit)
{
	struct ibv_srq_attr attr = {.srq_limit = limit};

	return ibv_modify_srq(ep->srq, &attr, IBV_SRQ_LIMIT);
}

static void exec_cmd(struct ep *ep, const struct cmd *c, struct reply *r)
{
	struct ibv_cq *cq = c->arg == SEND_CQ ? ep->scq : ep->rcq;

	memset(r, 0, sizeof(*r));
	switch (c->op) {
	case OP_OPEN:
		r->err = ep_open(ep, &c->conf);
		if (!r->err)
			ep_info(ep, &r->info);
		break;
	case OP_CONNECT:
		r->err = connect_upto(ep, &c->info, (enum ibv_qp_state)c->arg);
		break;
	case OP_CLOSE:
		r->err = ep_close(ep);
		break;
	case OP_STATE:
		r->n = ep_state(ep);
		break;
	case OP_MODIFY:
		r->err = ep_modify(ep, (enum ibv_qp_state)c->arg);
		break;
	case OP_RECV:
		r->err = ep_recv(ep, &c->wr);
		break;
	case OP_SEND:
		r->err = ep_send(ep, &c->wr);
		break;
	case OP_POLL:
		r->n = ep_poll(cq, r->wc, c->n, c->ms);
		break;
	case OP_FILL:
		fill_bytes(ep->buf + c->off, c->len, c->val);
		break;
	case OP_SUM:
		r->val = sum_bytes(ep->buf + c->off, c->len);
		break;
	case OP_PUT:
		memcpy(ep->buf + c->off, &c->val, sizeof(c->val));
		break;
	case OP_GET:
		memcpy(&r->val, ep->buf + c->off, sizeof(r->val));
		break;
	case OP_EVENT:
		r->n = ep_event(ep, c->ms, &r->flag);
		break;
	case OP_DESTROY_QP:
		r->err = qp_destroy(ep);
		break;
	case OP_DEREG:
		r->err = mr_dereg(ep);
		break;
	case OP_LKEY:
		r->val = c->arg ? ep->mr_other->lkey : ep->mr->lkey;
		break;
	case OP_ARM:
		r->err = ibv_req_notify_cq(cq, c->n);
		break;
	case OP_CQ_EVENT:
		r->n = ep_cq_event(ep, c->ms, NULL);
		break;
	case OP_SPIN:
		r->val = spin(ep, c->off, (uint8_t)c->val, c->ms);
		break;
	case OP_SRQ_LIMIT:
		r->err = srq_limit(ep, (uint32_t)c->val);
		break;
	case OP_HOOK:
		hook(ep, &c->hook, &r->hook);
		break;
	case OP_EXIT:
		exit(0);
	}
}

/* ---- The peer process ---- */

void peer_main(int argc, char **argv)
{
	static struct reply r;
	static struct cmd c;
	static struct ep ep;
	int fd;

	if (argc != 3 || strcmp(argv[1], "--peer"))
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = atoi(argv[2]);
	while (recv(fd, &c, sizeof(c), 0) == sizeof(c)) {
		exec_cmd(&ep, &c, &r);
		if (send(fd, &r, sizeof(r), MSG_NOSIGNAL) != sizeof(r))
			break;
	}
	ep_close(&ep);
	exit(0);
}

static void start_one(const char *self, unsigned int i)
{
	char arg[16];
	int sv[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv)) {
		perror("socketpair");
		exit(1);
	}
	pid = fork();
	if (!pid) {
		/* Only its own end crosses the exec. */
		fcntl(sv[1], F_SETFD, 0);
		snprintf(arg, sizeof(arg), "%d", sv[1]);
		execl("/proc/self/exe", self, "--peer", arg, (char *)NULL);
		_exit(127);
	}
	close(sv[1]);
	peers[i].pid = pid;
	peers[i].fd = sv[0];
}

void peer_start(const char *self, unsigned int n)
{
	unsigned int i;

	fflush(stdout);
	for (i = 0; i < n && i < MAX_PEERS; i++)
		start_one(self, i);
}

bool peer_get(struct side *s)
{
	unsigned int i;

	for (i = 0; i < MAX_PEERS; i++) {
		if (peers[i].pid <= 0)
			continue;
		s->pid = peers[i].pid;
		s->fd = peers[i].fd;
		return true;
	}
	return false;
}

bool side_spawned(struct side *s)
{
	unsigned int i;

	for (i = MAX_PEERS; i-- > 0;) {
		if (peers[i].pid <= 0)
			continue;
		memset(s, 0, sizeof(*s));
		s->pid = peers[i].pid;
		s->fd = peers[i].fd;
		/* Taken: the caller ends it or keeps it. */
		peers[i].pid = 0;
		return true;
	}
	return false;
}

static void forget(pid_t pid)
{
	unsigned int i;

	for (i = 0; i < MAX_PEERS; i++)
		if (peers[i].pid == pid)
			peers[i].pid = 0;
}

static void reap(struct side *s)
{
	if (s->fd >= 0)
		close(s->fd);
	waitpid(s->pid, NULL, 0);
	forget(s->pid);
	s->pid = 0;
	s->fd = -1;
}

void peer_stop(void)
{
	struct side s;

	while (side_spawned(&s))
		reap(&s);
}

/* ---- Commands ---- */

static void put_cmd(struct side *s, const struct cmd *c)
{
	if (send(s->fd, c, sizeof(*c), MSG_NOSIGNAL) != sizeof(*c))
		CHECK(!"the peer process takes no command: it has died");
}

static void get_reply(struct side *s, struct reply *r)
{
	memset(r, 0, sizeof(*r));
	if (recv(s->fd, r, sizeof(*r), 0) != sizeof(*r)) {
		CHECK(!"the peer process gives no answer: it has died");
		memset(r, 0, sizeof(*r));
		r->err = ESRCH;
		r->n = -1;
	}
}

static void call(struct side *s, const struct cmd *c, struct reply *r)
{
	if (s->fd < 0) {
		if (s->ep.ctx || c->op == OP_OPEN || c->op == OP_CLOSE || c->op == OP_HOOK) {
			exec_cmd(&s->ep, c, r);
			return;
		}
		memset(r, 0, sizeof(*r));
		r->err = ESRCH;
		return;
	}
	put_cmd(s, c);
	get_reply(s, r);
}

int side_open(struct side *s, const struct ep_conf *conf, struct ep_info *info)
{
	struct cmd c = {.op = OP_OPEN, .conf = *conf};
	struct reply r;

	call(s, &c, &r);
	*info = r.info;
	return r.err;
}

int side_connect(struct side *s, const struct ep_info *peer, enum ibv_qp_state upto)
{
	struct cmd c = {.op = OP_CONNECT, .arg = upto, .info = *peer};
	struct reply r;

	call(s, &c, &r);
	return r.err;
}

static int simple(struct side *s, enum op op, int arg)
{
	struct cmd c = {.op = op, .arg = arg};
	struct reply r;

	call(s, &c, &r);
	return r.err ? r.err : r.n;
}

int side_close(struct side *s)
{
	if (s->fd < 0 && !s->ep.ctx)
		return 0;
	return simple(s, OP_CLOSE, 0);
}

int side_state(struct side *s)
{
	return simple(s, OP_STATE, 0);
}

int side_settled(struct side *s, int want)
{
	int i, state = side_state(s);

	for (i = 0; tdev()->rxe && i < 200 && state != want; i++) {
		sleep_ms(5);
		state = side_state(s);
	}
	return state;
}

int side_modify(struct side *s, enum ibv_qp_state state)
{
	return simple(s, OP_MODIFY, state);
}

int side_destroy_qp(struct side *s)
{
	return simple(s, OP_DESTROY_QP, 0);
}

int side_dereg(struct side *s)
{
	return simple(s, OP_DEREG, 0);
}

int side_recv(struct side *s, const struct twr *wr)
{
	struct cmd c = {.op = OP_RECV, .wr = *wr};
	struct reply r;

	call(s, &c, &r);
	return r.err;
}

int side_send(struct side *s, const struct twr *wr)
{
	struct cmd c = {.op = OP_SEND, .wr = *wr};
	struct reply r;

	call(s, &c, &r);
	return r.err;
}

int side_poll(struct side *s, int which, struct ibv_wc *wc, int n, int ms)
{
	struct cmd c = {.op = OP_POLL, .arg = which, .n = n, .ms = ms};
	struct reply r;

	if (n > MAX_WC)
		abort();
	call(s, &c, &r);
	memcpy(wc, r.wc, sizeof(*wc) * (size_t)n);
	return r.n;
}

void side_fill(struct side *s, uint64_t off, uint64_t len, uint64_t seed)
{
	struct cmd c = {.op = OP_FILL, .off = off, .len = len, .val = seed};
	struct reply r;

	call(s, &c, &r);
}

uint64_t side_sum(struct side *s, uint64_t off, uint64_t len)
{
	struct cmd c = {.op = OP_SUM, .off = off, .len = len};
	struct reply r;

	call(s, &c, &r);
	return r.val;
}

void side_put(struct side *s, uint64_t off, uint64_t val)
{
	struct cmd c = {.op = OP_PUT, .off = off, .val = val};
	struct reply r;

	call(s, &c, &r);
}

uint64_t side_get(struct side *s, uint64_t off)
{
	struct cmd c = {.op = OP_GET, .off = off};
	struct reply r;

	call(s, &c, &r);
	return r.val;
}

int side_event(struct side *s, int ms, bool *mine)
{
	struct cmd c = {.op = OP_EVENT, .ms = ms};
	struct reply r;

	call(s, &c, &r);
	if (mine)
		*mine = r.flag;
	return r.n;
}

uint32_t side_lkey(struct side *s, bool other)
{
	struct cmd c = {.op = OP_LKEY, .arg = other};
	struct reply r;

	call(s, &c, &r);
	return (uint32_t)r.val;
}

int side_arm(struct side *s, int which, int solicited_only)
{
	struct cmd c = {.op = OP_ARM, .arg = which, .n = solicited_only};
	struct reply r;

	call(s, &c, &r);
	return r.err;
}

int side_cq_event(struct side *s, int ms)
{
	struct cmd c = {.op = OP_CQ_EVENT, .ms = ms};
	struct reply r;

	call(s, &c, &r);
	return r.n;
}

void side_spin_begin(struct side *s, uint64_t off, uint8_t val, int ms)
{
	struct cmd c = {.op = OP_SPIN, .off = off, .val = val, .ms = ms};

	put_cmd(s, &c);
}

uint64_t side_spin_end(struct side *s)
{
	struct reply r;

	get_reply(s, &r);
	return r.val;
}

int side_srq_limit(struct side *s, uint32_t limit)
{
	struct cmd c = {.op = OP_SRQ_LIMIT, .val = limit};
	struct reply r;

	call(s, &c, &r);
	return r.err;
}

void side_cq_event_begin(struct side *s, int ms)
{
	struct cmd c = {.op = OP_CQ_EVENT, .ms = ms};

	put_cmd(s, &c);
}

int side_cq_event_end(struct side *s)
{
	struct reply r;

	get_reply(s, &r);
	return r.n;
}

void side_hook(struct side *s, const struct hook_msg *in, struct hook_msg *out)
{
	struct cmd c = {.op = OP_HOOK, .hook = *in};
	struct reply r;

	call(s, &c, &r);
	if (out)
		*out = r.hook;
}

void side_hook_begin(struct side *s, const struct hook_msg *in)
{
	struct cmd c = {.op = OP_HOOK, .hook = *in};

	put_cmd(s, &c);
}

void side_hook_end(struct side *s, struct hook_msg *out)
{
	struct reply r;

	get_reply(s, &r);
	*out = r.hook;
}

void side_reap(struct side *s)
{
	reap(s);
}

void side_kill(struct side *s, int sig)
{
	kill(s->pid, sig);
	reap(s);
}

void side_exit(struct side *s)
{
	struct cmd c = {.op = OP_EXIT};

	put_cmd(s, &c);
	reap(s);
}
