/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A queue pair with what it needs, for unit tests that run traffic. */
#ifndef UNIT_PAIR_H
#define UNIT_PAIR_H

#include <infiniband/verbs.h>

#define END_LEN 4096u

struct end {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *scq, *rcq;
	struct ibv_comp_channel *ch; /* of both */
	struct ibv_srq *srq;         /* NULL: none */
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	char *buf; /* END_LEN bytes */
};

/* Make an end in INIT; false, with what there is, when that fails. */
bool end_make(struct end *e, struct ibv_context *ctx, enum ibv_qp_type type, bool srq);
/* To RTS, with the other end's QP number; 0 for UD. */
bool end_connect(struct end *e, uint32_t qpn);
/* Destroy all of it: 0, or the first errno. */
int end_drop(struct end *e);
/* Both ends, connected to each other. */
bool pair_make(struct end *a, struct end *b, struct ibv_context *ctx, enum ibv_qp_type type,
	       bool srq);

int end_recv(struct end *e, uint64_t id);
/* LEN bytes of E's buffer, by OP; for a WRITE to REMOTE's. */
int end_send(struct end *e, enum ibv_wr_opcode op, uint64_t id, uint32_t len,
	     const struct ibv_mr *remote, uint32_t imm);
/* How many of N completions come in MS milliseconds. */
int end_poll(struct ibv_cq *cq, struct ibv_wc *wc, int n, unsigned ms);
/* A message between two new QPs, page faults and munmap() of their regions. */
bool pair_works(struct ibv_context *ctx);

#endif
