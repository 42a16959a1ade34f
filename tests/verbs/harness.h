/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What the verbs tests share. Only libibverbs is used, so that the same programs
 * run on any RDMA device: $UODP_TEST_DEVICE names it (uodp0 by default).
 *
 * A test works with two endpoints. Endpoint A is always in the test's own
 * process; B is there too, or in a peer process, which is this program started
 * again before any verbs call was made. struct side hides which of the two it
 * is: a command runs in place, or goes over a socket.
 */
#ifndef TESTS_VERBS_HARNESS_H
#define TESTS_VERBS_HARNESS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include <infiniband/verbs.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PORT 1
#define ALL_ACCESS                                                                                 \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |               \
	 IBV_ACCESS_REMOTE_ATOMIC)
#define REMOTE_ACCESS (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)
#define QKEY 0x11111111u
#define MAX_WC 32
#define MAX_TSGE 32
#define LONG_MS 30000 /* "must come": far above what any device on a busy host needs */

/* ---- Checks ---- */

/* One failed check; the case goes on. */
void t_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The running case cannot be done on this device. */
void t_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Failures so far in the running case. */
int t_failures(void);
/* A word that failure messages of this case carry (a size, an opcode). */
void t_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(cond)                                                                                \
	({                                                                                         \
		bool ok_ = (cond);                                                                 \
		if (!ok_)                                                                          \
			t_fail(__FILE__, __LINE__, "%s", #cond);                                   \
		ok_;                                                                               \
	})
#define CHECK_INT(got, want)                                                                       \
	({                                                                                         \
		long long got_ = (long long)(got), want_ = (long long)(want);                      \
		if (got_ != want_)                                                                 \
			t_fail(__FILE__, __LINE__, "%s: got %lld (%#llx), expected %lld (%#llx)",  \
			       #got, got_, got_, want_, want_);                                    \
		got_ == want_;                                                                     \
	})
#define CHECK_ERRNO(got, want)                                                                     \
	({                                                                                         \
		int got_ = (got), want_ = (want);                                                  \
		if (got_ != want_)                                                                 \
			t_fail(__FILE__, __LINE__, "%s: got %d (%s), expected %d (%s)", #got,      \
			       got_, strerror(got_), want_, strerror(want_));                      \
		got_ == want_;                                                                     \
	})
#define CHECK_STATUS(got, want)                                                                    \
	({                                                                                         \
		int got_ = (int)(got), want_ = (int)(want);                                        \
		if (got_ != want_)                                                                 \
			t_fail(__FILE__, __LINE__, "%s: got %d (%s), expected %d (%s)", #got,      \
			       got_, ibv_wc_status_str((enum ibv_wc_status)got_), want_,           \
			       ibv_wc_status_str((enum ibv_wc_status)want_));                      \
		got_ == want_;                                                                     \
	})
/* For what a case cannot go on without. */
#define REQUIRE(cond)                                                                              \
	do {                                                                                       \
		if (!CHECK(cond))                                                                  \
			return;                                                                    \
	} while (0)

/* ---- The device ---- */

struct tdev {
	const char *name;
	struct ibv_device *ibdev;
	struct ibv_device_attr attr;
	struct ibv_odp_caps odp;
	struct ibv_port_attr port;
	int gid_index;
	union ibv_gid gid;
	bool rxe; /* some answers of rdma_rxe are its own; each use says which */
};
/* Opens the device on first use; exits with the skip status when there is none. */
const struct tdev *tdev(void);
/* A new context on it; never NULL. */
struct ibv_context *tdev_open(void);

/* ---- Endpoints ---- */

struct ep_conf {
	enum ibv_qp_type type;
	uint32_t len; /* of the buffer, 0: 64 KiB */
	int mr_access;
	int qp_access;
	struct ibv_qp_cap cap; /* zero fields: 32 WRs, 4 SGEs, 64 B inline */
	int cqe;               /* 0: 256 */
	int sq_sig_all;
	int timeout; /* as in struct ibv_qp_attr; -1 below means 0 */
	int retry_cnt, rnr_retry, min_rnr_timer, rd_atomic, dest_rd_atomic;
	int mtu;           /* 0: the port's active MTU */
	uint32_t srq_wr;   /* > 0: with an SRQ of that many */
	bool odp, fresh;   /* on demand; never touched before registration */
	bool channel;      /* one completion channel for both CQs */
	uint64_t send_ops; /* != 0: ibv_create_qp_ex with these */
	uint32_t skew;     /* the buffer starts this far after a page's start */
	/* != 0: CQs by ibv_create_cq_ex(), with these enum ibv_create_cq_wc_flags and
	 * ibv_create_cq_attr_flags */
	uint32_t wc_flags, cq_flags;
};
#define RC_CONF                                                                                    \
	{                                                                                          \
		.type = IBV_QPT_RC, .mr_access = ALL_ACCESS, .qp_access = REMOTE_ACCESS,           \
		.timeout = 12, .retry_cnt = 2, .rnr_retry = 7, .min_rnr_timer = 12,                \
		.rd_atomic = 4, .dest_rd_atomic = 4,                                               \
	}

struct ep_info {
	uint32_t qpn, psn, rkey, rkey_other;
	uint64_t addr, len;
	union ibv_gid gid;
};

struct ep {
	struct ep_conf conf;
	struct ibv_context *ctx;
	struct ibv_pd *pd, *pd_other;
	struct ibv_comp_channel *chan;
	struct ibv_cq *scq, *rcq;
	struct ibv_srq *srq;
	struct ibv_qp *qp;
	struct ibv_mr *mr, *mr_other; /* the same buffer in another PD */
	struct ibv_ah *ah;            /* UD: to the other endpoint */
	struct ep_info peer;
	uint8_t *map, *buf;
	size_t map_len;
	uint32_t psn;
};

/* A work request in the test's terms; buffers are offsets, so that a command
 * means the same in any process. */
struct twr {
	uint64_t id;
	enum ibv_wr_opcode op;
	unsigned int flags;
	uint32_t imm;  /* host order, or the rkey to invalidate */
	uint64_t off;  /* one SGE: offset in the buffer ... */
	uint32_t len;  /* ... and length; 0: no SGE */
	uint32_t lkey; /* 0: the buffer's */
	int nsge;      /* > 0: these instead, addr is an offset */
	struct ibv_sge sge[MAX_TSGE];
	uint64_t raddr;
	uint32_t rkey;
	uint64_t compare_add, swap;
	uint32_t qpn, qkey; /* UD; 0: of the other endpoint */
};

int ep_open(struct ep *ep, const struct ep_conf *conf); /* 0 or errno; QP in RESET */
int ep_init(struct ep *ep);                             /* -> INIT */
int ep_rtr(struct ep *ep, const struct ep_info *peer);
int ep_rts(struct ep *ep);
int ep_close(struct ep *ep); /* everything that is left; the first errno */
void ep_info(struct ep *ep, struct ep_info *info);
int ep_state(struct ep *ep); /* enum ibv_qp_state */
/* The state; rxe reports an error first and moves its QP then, so it gets time. */
int ep_settled(struct ep *ep, int want);
int ep_modify(struct ep *ep, enum ibv_qp_state state);
int ep_send(struct ep *ep, const struct twr *wr);
int ep_recv(struct ep *ep, const struct twr *wr);
/* Fill WC with N completions, or with those that came in MS milliseconds. */
int ep_poll(struct ibv_cq *cq, struct ibv_wc *wc, int n, int ms);
/* An async event of the endpoint's context: its type, or -1 after MS
 * milliseconds. *MINE says whether it names the endpoint's own object. */
int ep_event(struct ep *ep, int ms, bool *mine);
/* Wait for a completion event; false after MS milliseconds. */
bool ep_cq_event(struct ep *ep, int ms, struct ibv_cq **cq);
void ep_attr_init(const struct ep *ep, struct ibv_qp_attr *attr);
void ep_attr_rtr(const struct ep *ep, const struct ep_info *peer, struct ibv_qp_attr *attr);
void ep_attr_rts(const struct ep *ep, struct ibv_qp_attr *attr);
int ep_mask_init(enum ibv_qp_type type);
int ep_mask_rtr(enum ibv_qp_type type);
int ep_mask_rts(enum ibv_qp_type type);

/* LEN, or what RLIMIT_MEMLOCK lets the two endpoints of a process pin (twice each). */
uint32_t pinned_len(uint32_t len);

/* Bytes that depend on SEED and position; and a checksum of any. */
void fill_bytes(void *p, size_t len, uint64_t seed);
uint64_t sum_bytes(const void *p, size_t len);

/* ---- The other side, here or in a peer process ---- */

struct side {
	struct ep ep; /* used when it is here */
	int fd;       /* to the peer process, -1: here */
	pid_t pid;
};

int side_open(struct side *s, const struct ep_conf *conf, struct ep_info *info);
int side_connect(struct side *s, const struct ep_info *peer, enum ibv_qp_state upto);
int side_close(struct side *s);
int side_state(struct side *s);
int side_settled(struct side *s, int want); /* as ep_settled() */
int side_modify(struct side *s, enum ibv_qp_state state);
int side_recv(struct side *s, const struct twr *wr);
int side_send(struct side *s, const struct twr *wr);
enum { SEND_CQ, RECV_CQ };
int side_poll(struct side *s, int which, struct ibv_wc *wc, int n, int ms);
void side_fill(struct side *s, uint64_t off, uint64_t len, uint64_t seed);
uint64_t side_sum(struct side *s, uint64_t off, uint64_t len);
void side_put(struct side *s, uint64_t off, uint64_t val);
uint64_t side_get(struct side *s, uint64_t off);
int side_event(struct side *s, int ms, bool *mine);
int side_destroy_qp(struct side *s);
int side_dereg(struct side *s);
uint32_t side_lkey(struct side *s, bool other);
int side_arm(struct side *s, int which, int solicited_only);
int side_cq_event(struct side *s, int ms); /* 1, or 0 after MS milliseconds */
void side_cq_event_begin(struct side *s, int ms);
int side_cq_event_end(struct side *s);
/*
 * Wait until the byte at OFF has become VAL, then checksum [0, OFF]; no
 * completion is asked for. The answer is fetched with side_spin_end().
 */
void side_spin_begin(struct side *s, uint64_t off, uint8_t val, int ms);
uint64_t side_spin_end(struct side *s);
int side_srq_limit(struct side *s, uint32_t limit);
void side_kill(struct side *s, int sig); /* and reap */
void side_exit(struct side *s);          /* the peer calls exit() without destroying */
void side_reap(struct side *s);          /* a peer that has nothing open ends by itself */

/* A command of the test's own. The function must be set before t_main(). Between
 * begin and end a peer process runs it while the test goes on. */
struct hook_msg {
	uint32_t what, n;
	uint64_t v[6];
	uint8_t data[6000];
};
typedef void (*hook_fn)(struct ep *ep, const struct hook_msg *in, struct hook_msg *out);
void t_hook(hook_fn fn);
void side_hook(struct side *s, const struct hook_msg *in, struct hook_msg *out);
void side_hook_begin(struct side *s, const struct hook_msg *in);
void side_hook_end(struct side *s, struct hook_msg *out);

/* ---- A connected pair and the cases ---- */

struct pair {
	struct ep a;
	struct side b;
	struct ep_info ai, bi;
	bool remote;
};

/* Open and connect both; false (and a failed check) when that did not work. */
bool pair_up(struct pair *p, const struct ep_conf *a, const struct ep_conf *b);
/* Destroy both; every destroy must succeed. */
void pair_down(struct pair *p);

struct tcase {
	const char *name;
	void (*fn)(struct pair *p);
	enum { HERE = 1, PEER = 2, BOTH = 3 } where;
};

/*
 * Run the cases, each in the places it names; arguments select by substring.
 * NPEERS processes are started first. Returns the exit status: 0, 1 on failure,
 * 77 when every case was skipped.
 */
int t_main(int argc, char **argv, unsigned int npeers, const struct tcase *cases, size_t n);
/* A peer process that no other case uses (for those that kill it). */
bool side_spawned(struct side *s);

uint64_t now_ms(void);
void sleep_ms(unsigned int ms);

#endif
