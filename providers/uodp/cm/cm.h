/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The connection manager: what the kernel's rdma_ucm, rdma_cm and ib_cm do for
 * librdmacm. Programs write commands of rdma/rdma_user_cm.h to /dev/infiniband/rdma_cm
 * (ucma.c); identifiers have the states of rdma_cm (id.c); connections speak the
 * protocol of IBTA chapter 12 (conn.c, sidr.c) in datagrams (mad.h) to the peer's QP 1,
 * which is a mailbox in the run directory (wire.c).
 *
 * One lock over all of it, cm.lock; it is held for no wait and no call of the program's.
 * A thread of the process's own (thread.c) receives, and keeps the time. Functions below
 * are called with the lock held unless they say otherwise, and return 0 or -errno with
 * the meaning that the kernel's have (drivers/infiniband/core/cma.c, ucma.c, cm.c).
 */
#ifndef UODP_CM_H
#define UODP_CM_H

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include <rdma/rdma_user_cm.h>

#include "cm_open.h"
#include "mad.h"
#include "uodp.h"

/* As the kernel's struct sockaddr_ib (rdma/ib.h), which only librdmacm installs. */
struct sockaddr_ib {
	unsigned short sib_family;
	uint16_t sib_pkey;
	uint32_t sib_flowinfo;
	uint8_t sib_addr[16];
	uint64_t sib_sid;
	uint64_t sib_sid_mask;
	uint64_t sib_scope_id;
};
_Static_assert(sizeof(struct sockaddr_ib) == 48, "the kernel's");

/* Service IDs of the port spaces (annex A11.2; rdma/rdma_cma.h has the same names). */
#define RDMA_IB_IP_PS_MASK 0xffffffffffff0000u
#define RDMA_IB_IP_PS_TCP 0x0000000001060000u
#define RDMA_IB_IP_PS_UDP 0x0000000001110000u
#define RDMA_IB_PS_IB 0x00000000013f0000u

/* Of struct rdma_cm_event (rdma/rdma_cma.h); the ABI's. */
enum cm_event {
	CM_ADDR_RESOLVED,
	CM_ADDR_ERROR,
	CM_ROUTE_RESOLVED,
	CM_ROUTE_ERROR,
	CM_CONNECT_REQUEST,
	CM_CONNECT_RESPONSE,
	CM_CONNECT_ERROR,
	CM_UNREACHABLE,
	CM_REJECTED,
	CM_ESTABLISHED,
	CM_DISCONNECTED,
	CM_DEVICE_REMOVAL,
	CM_MULTICAST_JOIN,
	CM_MULTICAST_ERROR,
	CM_ADDR_CHANGE,
	CM_TIMEWAIT_EXIT,
};

/* What an identifier may be asked for (cma.c, enum rdma_cm_state). */
enum cm_state {
	CM_IDLE,
	CM_ADDR_BOUND,
	CM_ADDR_DONE,
	CM_ROUTE_DONE,
	CM_LISTEN,
	CM_CONNECT,
	CM_DISCONNECT,
};

/* Where its connection is (IBTA 12.9; cm.c, enum ib_cm_state). */
enum cm_conn_state {
	CONN_NONE,
	CONN_REQ_SENT,
	CONN_REQ_RCVD,
	CONN_REP_SENT,
	CONN_REP_RCVD,
	CONN_ESTABLISHED,
	CONN_DREQ_SENT,
	CONN_DREQ_RCVD,
	CONN_TIMEWAIT,
	CONN_SIDR_REQ_SENT,
	CONN_SIDR_REQ_RCVD,
};

/* A mailbox: a process, from its first use of rdma_cm to its end or exec. */
struct cm_node {
	uint32_t pid;
	uint64_t tag; /* random: the process ID alone is used again */
};

union cm_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_ib ib;
	struct sockaddr_storage ss;
};

struct cm_file;
struct cm_mcast;

/* The parameters of a connection, from this side. */
struct cm_conn_param {
	uint32_t qpn, psn;
	uint8_t responder_resources, initiator_depth;
	uint8_t retry_count, rnr_retry;
	uint8_t flow_control, srq;
};

struct cm_id {
	uint32_t handle; /* UINT32_MAX: not the program's yet */
	uint64_t uid;
	struct cm_file *file;
	uint32_t events_reported;
	uint32_t backlog; /* requests that may still be queued */
	enum cm_state state;
	uint16_t ps;
	uint8_t qp_type;
	bool reuseaddr, afonly, afonly_set, timeout_set;
	uint8_t tos, timeout;
	union cm_addr src, dst;
	const struct uodp_device *dev; /* NULL: not bound to one */
	uint32_t service;              /* its record + 1 among the services, 0: none */
	uint64_t service_id;           /* listened on, or connected to */
	bool has_path;
	struct cm_mcast *mcasts;

	/* the connection */
	enum cm_conn_state conn;
	bool active;
	uint32_t local_comm, remote_comm;
	uint64_t tid;
	struct cm_node peer;
	union ibv_gid sgid, dgid; /* of the datagrams, and of the path */
	struct cm_conn_param local, remote;
	uint32_t qkey;
	uint8_t mtu; /* enum ibv_mtu */
	uint8_t ack_timeout;
	struct cm_mad msg; /* the last one that asks for an answer, or is one */
	unsigned tries;    /* left */
	uint64_t when;     /* ns: the next try, or the end of a wait; 0: none */
	bool mra;          /* the other side wants more time */
	struct rdma_ucm_ece ece;

	struct cm_id *listener;                 /* whose queue the request is in */
	struct cm_id *next, **at;               /* in cm.ids */
	struct cm_id *hash_next;                /* by local_comm */
	struct cm_id *remote_next, **remote_at; /* by remote_comm; NULL: not passive */
};

struct cm_mcast {
	uint32_t handle;
	uint64_t uid;
	struct cm_id *id;
	uint32_t events_reported;
	union cm_addr addr;
	union ibv_gid mgid;
	struct cm_mcast *next;
};

struct cm_queued {
	struct cm_id *id;     /* whose it is: a listener, for a request */
	struct cm_id *new_id; /* CONNECT_REQUEST: the connection's */
	struct cm_mcast *mcast;
	struct rdma_ucm_event_resp resp;
	struct cm_queued *next;
};

#define CM_HASH 4096u
struct cm {
	pthread_mutex_t lock;
	struct cm_id *ids;
	struct cm_id *conns[CM_HASH];   /* by local_comm */
	struct cm_id *remotes[CM_HASH]; /* the passive ones, by remote_comm */
	struct cm_file *files, *closed; /* closed: to be used again */
	struct cm_id **handles;         /* by handle; NULL: free */
	uint32_t num_handles, free_handle;
	struct cm_mcast **mcasts;
	uint32_t num_mcasts;
	uint32_t next_comm;
	int wire_fd; /* our mailbox, -1: none */
	int wake_fd; /* eventfd: the thread is to look at the time again */
	struct cm_node self;
	pid_t pid;    /* a child that no atfork handler saw gets EIO */
	bool running; /* the thread does */
	bool broken;  /* its descriptors were closed under it */
};
extern struct cm cm;

uint64_t cm_now(void); /* ns, CLOCK_MONOTONIC */
uint32_t cm_random(void);

/* ---- addr.c ---- */
size_t addr_size(const union cm_addr *a); /* 0: a family that is not known */
bool addr_any(const union cm_addr *a);
bool addr_loopback(const union cm_addr *a);
bool addr_multicast(const union cm_addr *a);
uint16_t addr_port(const union cm_addr *a); /* host order */
void addr_port_set(union cm_addr *a, uint16_t port);
/* IPv4 as an IPv4-mapped GID. */
union ibv_gid addr_gid(const union cm_addr *a);
/* Is it one of this host's? */
bool addr_local(const union cm_addr *a);
/* The device that has the local address A; NULL: none, *ERR says why (-errno). */
const struct uodp_device *addr_device(const union cm_addr *a, int *err);
/* The GID of DEV for A, or its first IPv4 one; its index. */
union ibv_gid addr_device_gid(const struct uodp_device *dev, const union cm_addr *a);
uint8_t gid_index(const struct uodp_device *dev, const union ibv_gid *gid);
/* The service that a port of a port space is (annex A11.2). */
uint64_t addr_service(uint16_t ps, const union cm_addr *a);

/* ---- services.c: who has which port, over all processes of the run directory ---- */
/* Give ID the service of its src, with any free port if that is 0: -EADDRINUSE,
 * -EADDRNOTAVAIL (no port is free). */
int service_bind(struct cm_id *id);
/* ID listens there now: -EADDRINUSE, when another one does. */
int service_listen(struct cm_id *id);
void service_drop(struct cm_id *id);
/* Who listens on SID at the address GID (IPv4: mapped); false: nobody. */
bool service_find(uint64_t sid, const union ibv_gid *gid, struct cm_node *node);
/* In a child of fork: the parent's is not ours. */
void services_forget(void);

/* ---- node.c ---- */
#define NODE_NAME 48
/* A descriptor of the folder of mailboxes, or -errno. Not to be closed. */
int node_dir(void);
/* Begin cm.self, which lives from now on. */
int node_open(void);
/* The name of NODE's mailbox in the folder. */
void node_name(const struct cm_node *node, char name[NODE_NAME]);
bool node_is(const struct cm_node *node, const struct cm_node *other);
bool node_alive(const struct cm_node *node);
/* A descriptor of which poll() reports something once NODE has ended, or -errno. It ends
 * with odp_fd_close(). */
int node_watch(const struct cm_node *node);
/* Take what cm.self has in the folder away: the process ends. */
void node_unlink(void);
/* In a child of fork. */
void node_forget(void);

/* ---- wire.c ---- */
int wire_open(void);
/* Send MAD to NODE, from SGID to DGID; it may be lost, as a datagram may. */
void wire_send(const struct cm_node *node, const union ibv_gid *sgid, const union ibv_gid *dgid,
	       const struct cm_mad *mad);
/* By the thread: send what found no room before; true: some does not yet. PROGRESS: some
 * did. HERE: the thread's directory is node_dir(). */
bool wire_flush(bool here, bool *progress);
/* In a child of fork. */
void wire_forget(void);
/* One datagram that has come, or false. */
bool wire_receive(struct cm_node *from, union ibv_gid *sgid, union ibv_gid *dgid,
		  struct cm_mad *mad);

/* ---- thread.c ---- */
/* Called without the lock, before anything else: the thread runs. */
int cm_start(void);
/* ID's time has changed. */
void cm_wake(void);
/* Tell when NODE's process ends (cm_node_dead()). */
void cm_watch(const struct cm_node *node);

/* ---- id.c ---- */
struct cm_id *id_create(struct cm_file *file, uint64_t uid, uint16_t ps, uint8_t qp_type);
/* End its connection as the kernel does for an owner that goes, and free it; events of
 * its that nobody has read go as well. Returns how many were reported. */
uint32_t id_destroy(struct cm_id *id);
int id_handle_new(struct cm_id *id);
struct cm_id *id_get(struct cm_file *file, uint32_t handle, int *err);
int id_bind(struct cm_id *id, const union cm_addr *addr);
int id_resolve_addr(struct cm_id *id, const union cm_addr *src, const union cm_addr *dst);
int id_resolve_route(struct cm_id *id);
int id_listen(struct cm_id *id, uint32_t backlog);
int id_set_option(struct cm_id *id, uint32_t level, uint32_t name, const void *value, size_t len);

/* ---- event.c ---- */
int event_queue(struct cm_id *id, enum cm_event event, int status);
/* The same, to be filled in before the lock is dropped; NULL: there is no memory, or
 * nobody to tell. LISTENER: ID's, for a request. */
struct cm_queued *event_new(struct cm_id *id, enum cm_event event, int status);
void event_put(struct cm_queued *q);
void events_drop(struct cm_id *id);
void events_drop_mcast(struct cm_mcast *mc);
void events_move(struct cm_id *id, struct cm_file *to);
struct cm_queued *event_first(struct cm_file *file);
void event_pop(struct cm_file *file);

/* ---- conn.c: RC, UC and XRC ---- */
int conn_connect(struct cm_id *id, const struct rdma_ucm_conn_param *param,
		 const struct rdma_ucm_ece *ece);
int conn_accept(struct cm_id *id, const struct rdma_ucm_conn_param *param,
		const struct rdma_ucm_ece *ece);
int conn_reject(struct cm_id *id, const void *data, size_t len, uint8_t reason);
int conn_disconnect(struct cm_id *id);
int conn_established(struct cm_id *id); /* a receive completed before the RTU came */
/* The owner goes. */
void conn_end(struct cm_id *id);
void conn_receive(const struct cm_node *from, const union ibv_gid *sgid, const union ibv_gid *dgid,
		  struct cm_mad *mad);
/* ID's time has come. */
void conn_timeout(struct cm_id *id);
/* The process at the other end is no more: what its kernel would have sent. */
void conn_peer_dead(struct cm_id *id);
struct cm_id *conn_find(uint32_t local_comm);
/* Of a request that came from NODE with its number REMOTE_COMM; UD: a SIDR one. */
struct cm_id *conn_find_passive(const struct cm_node *node, uint32_t remote_comm, bool ud);
/* Give ID a number, and enter it by that, and a passive one by the other side's. */
void conn_enter(struct cm_id *id);
void conn_leave(struct cm_id *id);
/* A request for SID with the private data HEADER, at DGID: who listens here; NULL: nobody. */
struct cm_id *listener_find(uint64_t sid, const uint8_t *header, const union ibv_gid *dgid);
/* The CMA header of ID's private data; and what one in a request says. */
void cma_header_put(const struct cm_id *id, uint8_t *data);
bool cma_header_get(struct cm_id *id, const uint8_t *data);
/* A new identifier for a request from the wire to LISTENER; NULL: no memory, backlog. */
struct cm_id *request_id(struct cm_id *listener, const union ibv_gid *sgid,
			 const union ibv_gid *dgid, const struct cm_node *from);

/* ---- sidr.c: UD ---- */
int sidr_connect(struct cm_id *id, const struct rdma_ucm_conn_param *param);
int sidr_accept(struct cm_id *id, const struct rdma_ucm_conn_param *param);
int sidr_reject(struct cm_id *id, const void *data, size_t len);
void sidr_end(struct cm_id *id);
void sidr_receive(const struct cm_node *from, const union ibv_gid *sgid, const union ibv_gid *dgid,
		  struct cm_mad *mad);
void sidr_timeout(struct cm_id *id);

/* ---- mcast.c ---- */
int mcast_join(struct cm_id *id, uint64_t uid, const union cm_addr *addr, unsigned flags,
	       uint32_t *handle);
/* Returns how many events were reported of it, or -errno. */
int mcast_leave(struct cm_file *file, uint32_t handle);
void mcasts_drop(struct cm_id *id);

/* ---- query.c ---- */
int query_route(struct cm_id *id, struct rdma_ucm_query_route_resp *resp);
int query_addr(struct cm_id *id, struct rdma_ucm_query_addr_resp *resp);
int query_gid(struct cm_id *id, struct rdma_ucm_query_addr_resp *resp);
/* RESP of OUT bytes at the most; returns its size. */
size_t query_path(struct cm_id *id, struct rdma_ucm_query_path_resp *resp, size_t out);
int query_qp_attr(struct cm_id *id, enum ibv_qp_state state, struct ib_uverbs_qp_attr *attr);
void query_ah(const struct cm_id *id, struct ib_uverbs_ah_attr *ah);

/* ---- ucma.c ---- */
/* Is the file's list of events empty? Sets what poll() sees. */
void file_ready(struct cm_file *file, bool ready);

struct cm_file {
	struct uodp_handle handle; /* first */
	int fd;                    /* an eventfd of our own: a copy of the program's */
	bool ready;                /* what it says */
	bool closed;
	uint32_t users; /* threads in a command: it ends after the last one's */
	uint32_t seq;   /* futex: an event has come, or the end */
	pid_t pid;      /* who opened it, and as whom: others get EACCES */
	uid_t uid;
	gid_t gid;
	struct cm_queued *events, **events_end;
	struct cm_file *next;
};

#define CM_RESPONSE_TIMEOUT 20 /* 4.096 us * 2^20: cma.c, CMA_CM_RESPONSE_TIMEOUT */
#define CM_MAX_RETRIES 15
/*
 * How often, and how far apart, to look for who listens. A server that closes one
 * connection's listener and opens the next one's (perftest does) has its time for that
 * on a network, where a request takes a while: so it has here.
 */
#define CM_LOOKS 10
#define CM_LOOK_NS 10000000u
#define CM_MRA_TIMEOUT 24
#define CM_LIFE_TIME 16 /* of a packet */
#define CM_UD_QKEY 0x01234567u
static inline uint64_t cm_time(unsigned exponent)
{
	return 4096ull << exponent;
}

#endif
