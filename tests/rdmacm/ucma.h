/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Commands of rdma/rdma_user_cm.h as they are, without librdmacm: what a program may
 * write, and must not. Nothing here is uodp's: the same programs run on any rdma_cm;
 * $RDMACM_TEST_ADDR is an address of an RDMA device there (127.0.0.1 by default).
 */
#ifndef TESTS_RDMACM_UCMA_H
#define TESTS_RDMACM_UCMA_H

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <infiniband/verbs.h>
#include <rdma/rdma_user_cm.h>

/* Of rdma/rdma_cma.h, which does not go together with the ABI's header. */
enum {
	RDMA_CM_EVENT_ADDR_RESOLVED,
	RDMA_CM_EVENT_ADDR_ERROR,
	RDMA_CM_EVENT_ROUTE_RESOLVED,
	RDMA_CM_EVENT_ROUTE_ERROR,
	RDMA_CM_EVENT_CONNECT_REQUEST,
	RDMA_CM_EVENT_CONNECT_RESPONSE,
	RDMA_CM_EVENT_CONNECT_ERROR,
	RDMA_CM_EVENT_UNREACHABLE,
	RDMA_CM_EVENT_REJECTED,
	RDMA_CM_EVENT_ESTABLISHED,
	RDMA_CM_EVENT_DISCONNECTED,
	RDMA_CM_EVENT_DEVICE_REMOVAL,
	RDMA_CM_EVENT_MULTICAST_JOIN,
	RDMA_CM_EVENT_MULTICAST_ERROR,
	RDMA_CM_EVENT_ADDR_CHANGE,
	RDMA_CM_EVENT_TIMEWAIT_EXIT,
};

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define EVENT_MS 20000 /* "must come" */
#define NONE_MS 150    /* "must not" */

extern int t_failed;
#define CHECK_INT(got, want)                                                                       \
	({                                                                                         \
		long long got_ = (long long)(got), want_ = (long long)(want);                      \
		if (got_ != want_) {                                                               \
			t_failed++;                                                                \
			printf("%s:%d: %s: %s: got %lld, expected %lld\n", __FILE__, __LINE__,     \
			       t_case, #got, got_, want_);                                         \
		}                                                                                  \
		got_ == want_;                                                                     \
	})
#define CHECK(cond) CHECK_INT(!!(cond), 1)
extern const char *t_case;
#define RUN(fn)                                                                                    \
	do {                                                                                       \
		t_case = #fn;                                                                      \
		printf("%s\n", t_case);                                                            \
		fflush(stdout);                                                                    \
		fn();                                                                              \
	} while (0)

/* ---- the channel: -errno on failure ---- */
int ch_open(void);
/* One command; IN of N bytes, OUT bytes for the answer. */
int ch_write(int fd, unsigned cmd, const void *in, size_t n, size_t out);
/* The next event within MS, or -ETIMEDOUT; its number. RESP may be NULL. */
int ch_event(int fd, struct rdma_ucm_event_resp *resp, int ms);

/* ---- identifiers: uid is never 0 ---- */
int id_new(int fd, unsigned ps, unsigned qp_type);
int id_destroy(int fd, int id); /* events that were reported */
int id_bind(int fd, int id, const struct sockaddr *sa);
int id_listen(int fd, int id, uint32_t backlog);
int id_port(int fd, int id);
int id_resolve_addr(int fd, int id, const struct sockaddr *dst);
int id_resolve_route(int fd, int id);
int id_connect(int fd, int id, const void *data, size_t len);
int id_accept(int fd, int id, const void *data, size_t len);
int id_accepted(int fd, int id); /* the active side: with the RTU */
int id_reject(int fd, int id, uint8_t reason, const void *data, size_t len);
int id_disconnect(int fd, int id);
int id_option(int fd, int id, unsigned level, unsigned name, const void *value, size_t len);
int id_int_option(int fd, int id, unsigned name, int value);
int id_attr(int fd, int id, unsigned state, struct ib_uverbs_qp_attr *attr);
int id_migrate(int fd, int id, int from);

/* Addresses, in a buffer of the function's. V6 of ::1. */
const struct sockaddr *ip4(const char *addr, uint16_t port);
const struct sockaddr *ip6(const char *addr, uint16_t port);
const char *test_addr(void);

/* A listener at any port of ADDR, its port in *PORT; and an identifier that is ready to
 * connect to it. */
int listener(int fd, unsigned ps, const struct sockaddr *addr, uint16_t *port);
int ready(int fd, unsigned ps, const struct sockaddr *dst);

#endif
