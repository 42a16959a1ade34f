/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The QP state machine: every transition of RC, UC and UD with the required
 * attributes, without each of them, with each optional and each foreign one.
 */
#include "harness.h"

/* Alternate paths are optional in IBTA and in devices; they are left out. */
static const struct {
	int bit;
	const char *name;
} attrs[] = {
	{IBV_QP_CUR_STATE, "CUR_STATE"},
	{IBV_QP_EN_SQD_ASYNC_NOTIFY, "EN_SQD_ASYNC_NOTIFY"},
	{IBV_QP_ACCESS_FLAGS, "ACCESS_FLAGS"},
	{IBV_QP_PKEY_INDEX, "PKEY_INDEX"},
	{IBV_QP_PORT, "PORT"},
	{IBV_QP_QKEY, "QKEY"},
	{IBV_QP_AV, "AV"},
	{IBV_QP_PATH_MTU, "PATH_MTU"},
	{IBV_QP_TIMEOUT, "TIMEOUT"},
	{IBV_QP_RETRY_CNT, "RETRY_CNT"},
	{IBV_QP_RNR_RETRY, "RNR_RETRY"},
	{IBV_QP_RQ_PSN, "RQ_PSN"},
	{IBV_QP_MAX_QP_RD_ATOMIC, "MAX_QP_RD_ATOMIC"},
	{IBV_QP_MIN_RNR_TIMER, "MIN_RNR_TIMER"},
	{IBV_QP_SQ_PSN, "SQ_PSN"},
	{IBV_QP_MAX_DEST_RD_ATOMIC, "MAX_DEST_RD_ATOMIC"},
	{IBV_QP_DEST_QPN, "DEST_QPN"},
};

enum type { UD, UC, RC, N_TYPES };
static const enum ibv_qp_type types[] = {IBV_QPT_UD, IBV_QPT_UC, IBV_QPT_RC};
static const char *const type_name[] = {"UD", "UC", "RC"};

#define ADDRESS (IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN)
#define INIT_UD (IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY)
#define INIT_CONN (IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS)

struct trans {
	enum ibv_qp_state from, to;
	int req[N_TYPES], opt[N_TYPES];
};

static const struct trans table[] = {
	{IBV_QPS_RESET, IBV_QPS_RESET, {0}, {0}},
	{IBV_QPS_RESET, IBV_QPS_INIT, {INIT_UD, INIT_CONN, INIT_CONN}, {0}},
	{IBV_QPS_INIT, IBV_QPS_RESET, {0}, {0}},
	{IBV_QPS_INIT, IBV_QPS_ERR, {0}, {0}},
	{IBV_QPS_INIT, IBV_QPS_INIT, {0}, {INIT_UD, INIT_CONN, INIT_CONN}},
	{IBV_QPS_INIT,
	 IBV_QPS_RTR,
	 {0, ADDRESS, ADDRESS | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER},
	 {IBV_QP_PKEY_INDEX | IBV_QP_QKEY, IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX,
	  IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX}},
	{IBV_QPS_RTR, IBV_QPS_RESET, {0}, {0}},
	{IBV_QPS_RTR, IBV_QPS_ERR, {0}, {0}},
	{IBV_QPS_RTR,
	 IBV_QPS_RTS,
	 {IBV_QP_SQ_PSN, IBV_QP_SQ_PSN,
	  IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
		  IBV_QP_MAX_QP_RD_ATOMIC},
	 {IBV_QP_CUR_STATE | IBV_QP_QKEY, IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS,
	  IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER}},
	{IBV_QPS_RTS, IBV_QPS_RESET, {0}, {0}},
	{IBV_QPS_RTS, IBV_QPS_ERR, {0}, {0}},
	{IBV_QPS_RTS,
	 IBV_QPS_RTS,
	 {0},
	 {IBV_QP_CUR_STATE | IBV_QP_QKEY, IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS,
	  IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER}},
	{IBV_QPS_RTS,
	 IBV_QPS_SQD,
	 {0},
	 {IBV_QP_EN_SQD_ASYNC_NOTIFY, IBV_QP_EN_SQD_ASYNC_NOTIFY, IBV_QP_EN_SQD_ASYNC_NOTIFY}},
	{IBV_QPS_SQD, IBV_QPS_RESET, {0}, {0}},
	{IBV_QPS_SQD, IBV_QPS_ERR, {0}, {0}},
	{IBV_QPS_SQD,
	 IBV_QPS_RTS,
	 {0},
	 {IBV_QP_CUR_STATE | IBV_QP_QKEY, IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS,
	  IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER}},
	{IBV_QPS_SQD,
	 IBV_QPS_SQD,
	 {0},
	 {IBV_QP_PKEY_INDEX | IBV_QP_QKEY, IBV_QP_AV | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX,
	  IBV_QP_PORT | IBV_QP_AV | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
		  IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_ACCESS_FLAGS |
		  IBV_QP_PKEY_INDEX | IBV_QP_MIN_RNR_TIMER}},
	{IBV_QPS_ERR, IBV_QPS_RESET, {0}, {0}},
	{IBV_QPS_ERR, IBV_QPS_ERR, {0}, {0}},
};

static const char *state_name(int s)
{
	static const char *const names[] = {"RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR"};

	return s >= 0 && s <= IBV_QPS_ERR ? names[s] : "unknown";
}

static const struct trans *trans_find(int from, int to)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		if ((int)table[i].from == from && (int)table[i].to == to)
			return &table[i];
	return NULL;
}

/* Values that are right for any transition. */
static struct ibv_qp_attr good_attr(struct ep *ep, int from, int to)
{
	struct ibv_qp_attr attr = {.cap = ep->conf.cap};
	struct ep_info self;

	ep_info(ep, &self);
	ep_attr_init(ep, &attr);
	ep_attr_rtr(ep, &self, &attr);
	ep_attr_rts(ep, &attr);
	attr.cur_qp_state = (enum ibv_qp_state)from;
	attr.qp_state = (enum ibv_qp_state)to;
	return attr;
}

/* SQD is reached once what was posted is done; rxe takes its time for that. */
static void wait_drained(struct ep *ep)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	int i;

	for (i = 0; i < 100; i++) {
		if (ibv_query_qp(ep->qp, &attr, IBV_QP_STATE, &init) || !attr.sq_draining)
			return;
		sleep_ms(1);
	}
}

static bool goto_state(struct ep *ep, enum type type, int state)
{
	static const enum ibv_qp_state path[] = {IBV_QPS_RESET, IBV_QPS_INIT, IBV_QPS_RTR,
						 IBV_QPS_RTS, IBV_QPS_SQD};
	const struct trans *t;
	struct ibv_qp_attr attr;
	size_t i;

	/* rxe leaves SQD while it drains only for ERR */
	if (ep_modify(ep, IBV_QPS_RESET) &&
	    (ep_modify(ep, IBV_QPS_ERR) || ep_modify(ep, IBV_QPS_RESET)))
		return false;
	if (state == IBV_QPS_ERR)
		return goto_state(ep, type, IBV_QPS_INIT) && !ep_modify(ep, IBV_QPS_ERR);
	for (i = 1; i < ARRAY_SIZE(path) && (int)path[i] <= state; i++) {
		t = trans_find(path[i - 1], path[i]);
		attr = good_attr(ep, path[i - 1], path[i]);
		if (ibv_modify_qp(ep->qp, &attr, IBV_QP_STATE | t->req[type]))
			return false;
	}
	if (state == IBV_QPS_SQD)
		wait_drained(ep);
	return true;
}

/* Try FROM -> TO with MASK and check that the QP is where it must be then. */
static void try_one(struct ep *ep, enum type type, int from, int to, int mask, bool ok)
{
	struct ibv_qp_attr attr = good_attr(ep, from, to);
	int err, now;

	if (!CHECK(goto_state(ep, type, from)))
		return;
	err = ibv_modify_qp(ep->qp, &attr, IBV_QP_STATE | mask);
	/* rxe's UC and UD QPs say that they have drained and refuse all the same */
	if (tdev()->rxe && from == IBV_QPS_SQD && err && ok)
		return;
	CHECK_ERRNO(err, ok ? 0 : EINVAL);
	now = ep_state(ep);
	if (now != (ok ? to : from))
		t_fail(__FILE__, __LINE__, "state is %s, expected %s", state_name(now),
		       state_name(ok ? to : from));
}

static void try_transition(struct ep *ep, enum type type, int from, int to)
{
	const struct trans *t = trans_find(from, to);
	int req = t ? t->req[type] : 0, opt = t ? t->opt[type] : 0;
	size_t i;

	t_note("%s %s -> %s", type_name[type], state_name(from), state_name(to));
	try_one(ep, type, from, to, req, t != NULL);
	if (!t)
		return;
	for (i = 0; i < ARRAY_SIZE(attrs) && t_failures() < 20; i++) {
		int bit = attrs[i].bit;

		/* Going to RESET or ERR, devices differ on attributes they ignore. */
		if (to == IBV_QPS_RESET || to == IBV_QPS_ERR)
			break;
		if (req & bit) {
			t_note("%s %s -> %s without %s", type_name[type], state_name(from),
			       state_name(to), attrs[i].name);
			try_one(ep, type, from, to, req & ~bit, false);
		} else if (opt & bit) {
			t_note("%s %s -> %s with optional %s", type_name[type], state_name(from),
			       state_name(to), attrs[i].name);
			try_one(ep, type, from, to, req | bit, true);
		} else {
			t_note("%s %s -> %s with foreign %s", type_name[type], state_name(from),
			       state_name(to), attrs[i].name);
			try_one(ep, type, from, to, req | bit, false);
		}
	}
}

static void all_transitions(struct pair *p, enum type type)
{
	static const int states[] = {IBV_QPS_RESET, IBV_QPS_INIT, IBV_QPS_RTR,
				     IBV_QPS_RTS,   IBV_QPS_SQD,  IBV_QPS_ERR};
	struct ep_conf c = RC_CONF;
	size_t i;
	int to;

	c.type = types[type];
	REQUIRE(ep_open(&p->a, &c) == 0);
	for (i = 0; i < ARRAY_SIZE(states); i++)
		for (to = IBV_QPS_RESET; to <= IBV_QPS_ERR; to++)
			try_transition(&p->a, type, states[i], to);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static void c_rc(struct pair *p)
{
	all_transitions(p, RC);
}

static void c_uc(struct pair *p)
{
	all_transitions(p, UC);
}

static void c_ud(struct pair *p)
{
	all_transitions(p, UD);
}

static void c_query(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr got, set;
	int mask;

	c.rd_atomic = 2;
	c.dest_rd_atomic = 8;
	c.timeout = 13;
	c.retry_cnt = 5;
	c.rnr_retry = 3;
	c.min_rnr_timer = 17;
	c.mtu = IBV_MTU_512;
	c.qp_access = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
	c.sq_sig_all = 1;
	REQUIRE(ep_open(&p->a, &c) == 0);
	REQUIRE(goto_state(&p->a, RC, IBV_QPS_RTS));
	set = good_attr(&p->a, IBV_QPS_RTS, IBV_QPS_RTS);
	mask = IBV_QP_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_CAP;
	memset(&got, 0xa5, sizeof(got));
	memset(&init, 0xa5, sizeof(init));
	REQUIRE(ibv_query_qp(p->a.qp, &got, mask, &init) == 0);
	CHECK_INT(got.qp_state, IBV_QPS_RTS);
	CHECK_INT(p->a.qp->state, IBV_QPS_RTS);
	CHECK_INT(got.path_mtu, IBV_MTU_512);
	CHECK_INT(got.rq_psn, set.rq_psn);
	CHECK_INT(got.sq_psn, set.sq_psn);
	CHECK_INT(got.dest_qp_num, p->a.qp->qp_num);
	CHECK_INT(got.qp_access_flags, c.qp_access);
	CHECK_INT(got.port_num, PORT);
	CHECK_INT(got.pkey_index, 0);
	CHECK_INT(got.timeout, 13);
	CHECK_INT(got.retry_cnt, 5);
	CHECK_INT(got.rnr_retry, 3);
	CHECK_INT(got.min_rnr_timer, 17);
	CHECK_INT(got.max_rd_atomic, 2);
	CHECK_INT(got.max_dest_rd_atomic, 8);
	CHECK_INT(got.sq_draining, 0);
	CHECK_INT(got.ah_attr.is_global, 1);
	CHECK_INT(got.ah_attr.grh.sgid_index, tdev()->gid_index);
	CHECK_INT(got.ah_attr.port_num, PORT);
	CHECK(!memcmp(&got.ah_attr.grh.dgid, &set.ah_attr.grh.dgid, 16));
	CHECK(init.qp_type == IBV_QPT_RC);
	CHECK(init.send_cq == p->a.scq);
	CHECK(init.recv_cq == p->a.rcq);
	CHECK(init.srq == NULL);
	CHECK(init.qp_context == NULL);
	CHECK_INT(init.sq_sig_all, 1);
	CHECK(init.cap.max_send_wr >= 32);
	CHECK(init.cap.max_recv_wr >= 32);
	CHECK(init.cap.max_send_sge >= 4);
	CHECK(init.cap.max_recv_sge >= 4);
	CHECK(init.cap.max_inline_data >= 64);
	/* what RTS -> RTS may change */
	set.min_rnr_timer = 3;
	set.qp_access_flags = IBV_ACCESS_REMOTE_ATOMIC;
	CHECK_ERRNO(ibv_modify_qp(p->a.qp, &set,
				  IBV_QP_STATE | IBV_QP_MIN_RNR_TIMER | IBV_QP_ACCESS_FLAGS),
		    0);
	REQUIRE(ibv_query_qp(p->a.qp, &got, mask, &init) == 0);
	CHECK_INT(got.min_rnr_timer, 3);
	CHECK_INT(got.qp_access_flags, IBV_ACCESS_REMOTE_ATOMIC);
	/* and without IBV_QP_STATE: the state stays */
	set.min_rnr_timer = 9;
	CHECK_ERRNO(ibv_modify_qp(p->a.qp, &set, IBV_QP_MIN_RNR_TIMER), 0);
	REQUIRE(ibv_query_qp(p->a.qp, &got, mask, &init) == 0);
	CHECK_INT(got.min_rnr_timer, 9);
	CHECK_INT(got.qp_state, IBV_QPS_RTS);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static void c_query_ud(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr got;

	c.type = IBV_QPT_UD;
	REQUIRE(ep_open(&p->a, &c) == 0);
	REQUIRE(goto_state(&p->a, UD, IBV_QPS_RTS));
	REQUIRE(ibv_query_qp(p->a.qp, &got, IBV_QP_QKEY, &init) == 0);
	CHECK_INT(got.qkey, QKEY);
	CHECK_INT(got.qp_state, IBV_QPS_RTS);
	CHECK_INT(got.sq_psn, p->a.psn);
	CHECK(init.qp_type == IBV_QPT_UD);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

/* cur_qp_state must be a state in which it may be given, and the right one. */
static void c_cur_state(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_qp_attr attr;

	REQUIRE(ep_open(&p->a, &c) == 0);
	REQUIRE(goto_state(&p->a, RC, IBV_QPS_RTS));
	attr = good_attr(&p->a, IBV_QPS_RESET, IBV_QPS_RTS);
	CHECK_ERRNO(ibv_modify_qp(p->a.qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE), EINVAL);
	attr = good_attr(&p->a, IBV_QPS_INIT, IBV_QPS_RTR);
	CHECK_ERRNO(ibv_modify_qp(p->a.qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE), EINVAL);
	CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

/* Attribute values out of range. */
static void c_values(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_qp_attr attr;

	REQUIRE(ep_open(&p->a, &c) == 0);
	attr = good_attr(&p->a, IBV_QPS_RESET, IBV_QPS_INIT);
	attr.port_num = 99;
	CHECK_ERRNO(ibv_modify_qp(p->a.qp, &attr, ep_mask_init(IBV_QPT_RC)), EINVAL);
	CHECK_INT(ep_state(&p->a), IBV_QPS_RESET);
	REQUIRE(goto_state(&p->a, RC, IBV_QPS_INIT));
	attr = good_attr(&p->a, IBV_QPS_INIT, IBV_QPS_RTR);
	attr.ah_attr.is_global = 0; /* RoCE has no other addressing than a GRH */
	CHECK_ERRNO(ibv_modify_qp(p->a.qp, &attr, ep_mask_rtr(IBV_QPT_RC)), EINVAL);
	attr = good_attr(&p->a, IBV_QPS_INIT, IBV_QPS_RTR);
	attr.ah_attr.grh.sgid_index = 250;
	CHECK(ibv_modify_qp(p->a.qp, &attr, ep_mask_rtr(IBV_QPT_RC)) != 0);
	CHECK_INT(ep_state(&p->a), IBV_QPS_INIT);
	attr = good_attr(&p->a, IBV_QPS_INIT, IBV_QPS_RTR);
	attr.path_mtu = IBV_MTU_4096 + 2;
	CHECK_ERRNO(ibv_modify_qp(p->a.qp, &attr, ep_mask_rtr(IBV_QPT_RC)), EINVAL);
	REQUIRE(goto_state(&p->a, RC, IBV_QPS_RTR));
	attr = good_attr(&p->a, IBV_QPS_RTR, IBV_QPS_RTS);
	attr.timeout = 32;
	CHECK_ERRNO(ibv_modify_qp(p->a.qp, &attr, ep_mask_rts(IBV_QPT_RC)), EINVAL);
	attr = good_attr(&p->a, IBV_QPS_RTR, IBV_QPS_RTS);
	attr.max_rd_atomic = (uint8_t)(tdev()->attr.max_qp_init_rd_atom + 1);
	if (tdev()->attr.max_qp_init_rd_atom < 255)
		CHECK_ERRNO(ibv_modify_qp(p->a.qp, &attr, ep_mask_rts(IBV_QPT_RC)), EINVAL);
	CHECK_INT(ep_state(&p->a), IBV_QPS_RTR);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

/* What may be posted where. */
static void c_post(struct pair *p)
{
	static const int states[] = {IBV_QPS_RESET, IBV_QPS_INIT, IBV_QPS_RTR};
	const struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 8};
	const struct twr r = {.id = 2, .len = 8};
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;
	size_t i;
	int type;

	for (type = UD; type < N_TYPES; type++) {
		c.type = types[type];
		REQUIRE(ep_open(&p->a, &c) == 0);
		for (i = 0; i < ARRAY_SIZE(states); i++) {
			struct ep_info self;

			t_note("%s %s", type_name[type], state_name(states[i]));
			REQUIRE(goto_state(&p->a, (enum type)type, IBV_QPS_INIT));
			ep_info(&p->a, &self);
			CHECK_ERRNO(ep_rtr(&p->a, &self), 0); /* the AH for UD */
			REQUIRE(goto_state(&p->a, (enum type)type, states[i]));
			CHECK_ERRNO(ep_send(&p->a, &s), EINVAL);
			CHECK_ERRNO(ep_recv(&p->a, &r), states[i] == IBV_QPS_RESET ? EINVAL : 0);
		}
		/* in ERR both are taken and flushed */
		REQUIRE(goto_state(&p->a, (enum type)type, IBV_QPS_ERR));
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, 0), 0);
		if (!tdev()->rxe) { /* its library rings no bell for receives */
			CHECK_ERRNO(ep_recv(&p->a, &r), 0);
			CHECK_INT(ep_poll(p->a.rcq, &wc, 1, LONG_MS), 1);
			CHECK_STATUS(wc.status, IBV_WC_WR_FLUSH_ERR);
			CHECK_INT(wc.wr_id, 2);
		}
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_WR_FLUSH_ERR);
		CHECK_INT(wc.wr_id, 1);
		CHECK_ERRNO(ep_close(&p->a), 0);
	}
}

/* ERR flushes both queues in order; RESET forgets them without completions. */
static void c_flush(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.op = IBV_WR_SEND, .len = 8}, r = {.len = 8};
	struct ibv_wc wc[16];
	int i;

	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < 8; i++) {
		s.id = 100 + (uint64_t)i;
		s.flags = i & 1 ? IBV_SEND_SIGNALED : 0; /* errors are always signalled */
		CHECK_ERRNO(ep_send(&p->a, &s), 0);      /* waits: no receive at B */
		r.id = 200 + (uint64_t)i;
		CHECK_ERRNO(ep_recv(&p->a, &r), 0);
	}
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
	REQUIRE(ep_poll(p->a.scq, wc, 8, LONG_MS) == 8);
	for (i = 0; i < 8; i++) {
		CHECK_STATUS(wc[i].status, IBV_WC_WR_FLUSH_ERR);
		CHECK_INT(wc[i].wr_id, 100 + i);
		CHECK_INT(wc[i].qp_num, p->ai.qpn);
	}
	REQUIRE(ep_poll(p->a.rcq, wc, 8, LONG_MS) == 8);
	for (i = 0; i < 8; i++) {
		CHECK_STATUS(wc[i].status, IBV_WC_WR_FLUSH_ERR);
		CHECK_INT(wc[i].wr_id, 200 + i);
		CHECK_INT(wc[i].qp_num, p->ai.qpn);
	}
	CHECK_INT(ep_poll(p->a.scq, wc, 1, 5), 0);
	pair_down(p);
}

static void c_reset_clears(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr r = {.len = 8},
		   s = {.id = 7, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ibv_wc wc;
	int i;

	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < 4; i++) {
		r.id = 300 + (uint64_t)i;
		CHECK_ERRNO(ep_recv(&p->a, &r), 0);
	}
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RESET), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 10), 0);
	CHECK_INT(ep_poll(p->a.rcq, &wc, 1, 0), 0);
	/* A new life, with new receives; none of the old ones is used. */
	CHECK_ERRNO(side_modify(&p->b, IBV_QPS_RESET), 0);
	CHECK_ERRNO(ep_init(&p->a), 0);
	CHECK_ERRNO(ep_rtr(&p->a, &p->bi), 0);
	CHECK_ERRNO(ep_rts(&p->a), 0);
	CHECK_ERRNO(side_connect(&p->b, &p->ai, IBV_QPS_RTS), 0);
	for (i = 0; i < (int)p->a.conf.cap.max_recv_wr; i++) {
		r.id = 400 + (uint64_t)i;
		CHECK_ERRNO(ep_recv(&p->a, &r), 0);
	}
	CHECK_ERRNO(side_send(&p->b, &s), 0);
	CHECK_INT(ep_poll(p->a.rcq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, 400);
	pair_down(p);
}

/* In SQD what is posted waits; back in RTS it goes out. */
static void c_sqd(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 1, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_SQD), 0);
	wait_drained(&p->a);
	CHECK_INT(ep_state(&p->a), IBV_QPS_SQD);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 10), 0);
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RTS), 0);
	s.id = 2;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, 1);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_INT(wc.wr_id, 2);
	pair_down(p);
}

/* SQD tells when what was under way is done. A send that waits for a receive is
 * not under way between two tries (rxe has it so, too): it goes on in RTS. */
static void c_drained(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_SQD, .en_sqd_async_notify = 1};
	struct ibv_wc wc;
	bool mine = false;
	int waits;

	for (waits = 0; waits < 2 && !t_failures(); waits++) {
		t_note(waits ? "a send waits" : "nothing waits");
		REQUIRE(pair_up(p, &c, &c));
		if (waits) {
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
			CHECK_INT(ep_poll(p->a.scq, &wc, 1, 10), 0);
		}
		CHECK_ERRNO(
			ibv_modify_qp(p->a.qp, &attr, IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY),
			0);
		CHECK_INT(ep_event(&p->a, LONG_MS, &mine), IBV_EVENT_SQ_DRAINED);
		CHECK(mine);
		wait_drained(&p->a);
		CHECK_INT(ep_state(&p->a), IBV_QPS_SQD);
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 9, .len = 8}), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, 20), 0);
		CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RTS), 0);
		if (!waits)
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
		else if (tdev()->rxe) /* looks at its queue again at the next post only */
			CHECK_ERRNO(ep_send(&p->a, &(struct twr){.op = IBV_WR_RDMA_WRITE}), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		pair_down(p);
	}
}

static const struct tcase cases[] = {
	{"RC transitions", c_rc, HERE},          {"UC transitions", c_uc, HERE},
	{"UD transitions", c_ud, HERE},          {"query returns what was set", c_query, HERE},
	{"query UD", c_query_ud, HERE},          {"cur_qp_state", c_cur_state, HERE},
	{"values out of range", c_values, HERE}, {"posting in each state", c_post, HERE},
	{"ERR flushes in order", c_flush, BOTH}, {"RESET clears", c_reset_clears, BOTH},
	{"SQD drains", c_drained, BOTH},         {"SQD holds sends back", c_sqd, BOTH},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
