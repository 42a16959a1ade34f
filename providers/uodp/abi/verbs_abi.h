/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The part of libibverbs' private ABI that this provider uses: what a library
 * with symbols of version IBVERBS_PRIVATE_<n> shares with its providers. It is
 * in no installed header, so it is declared here.
 *
 * The build defines UODP_PRIVATE_ABI (n, from the symbol version) and
 * UODP_IBVERBS_RELEASE (from the library's file name): one table of operations
 * for n = 34 and 57, larger ones for 59, 64 and 65. With n = 59 it also grew
 * between releases 61 and 62, so there the release counts too, and is checked
 * again at run time (uodp_abi_check()). The other structures are the same in
 * all of these. abi_check.c asserts every layout.
 */
#ifndef UODP_VERBS_ABI_H
#define UODP_VERBS_ABI_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include <infiniband/verbs.h>

#ifndef UODP_PRIVATE_ABI
#error "UODP_PRIVATE_ABI is not defined: the n of libibverbs' symbol version IBVERBS_PRIVATE_n"
#endif
#ifndef UODP_IBVERBS_RELEASE
#error "UODP_IBVERBS_RELEASE is not defined: the rdma-core release, NN of libibverbs.so.1.x.NN.y"
#endif

#if UODP_PRIVATE_ABI == 34
#if UODP_IBVERBS_RELEASE < 39 || UODP_IBVERBS_RELEASE > 56
#error "private ABI 34 of libibverbs is known for the releases 39 to 56 of rdma-core only"
#endif
#elif UODP_PRIVATE_ABI == 57
#if UODP_IBVERBS_RELEASE < 57 || UODP_IBVERBS_RELEASE > 58
#error "private ABI 57 of libibverbs is known for the releases 57 and 58 of rdma-core only"
#endif
#elif UODP_PRIVATE_ABI == 59
#if UODP_IBVERBS_RELEASE < 59 || UODP_IBVERBS_RELEASE > 63
#error "private ABI 59 of libibverbs is known for the releases 59 to 63 of rdma-core only"
#endif
#elif UODP_PRIVATE_ABI == 64
#if UODP_IBVERBS_RELEASE != 64
#error "private ABI 64 of libibverbs is known for the release 64 of rdma-core only"
#endif
#elif UODP_PRIVATE_ABI == 65
#if UODP_IBVERBS_RELEASE != 65
#error "private ABI 65 of libibverbs is known for the release 65 of rdma-core only"
#endif
#else
#error "this private ABI of libibverbs is not known; known are 34, 57, 59, 64 and 65"
#endif

/* One release's table is another's neighbour's only where nothing was added. */
#define UODP_ABI_RELEASE_MATTERS (UODP_PRIVATE_ABI == 59)
#define UODP_ABI_SPLIT_RELEASE 62

struct verbs_list_node {
	struct verbs_list_node *next, *prev;
};

/* Node GUID in the field node_guid, so that it is not read from a file. */
#define VERBS_SYSFS_NODE_GUID_KNOWN (1u << 1)

struct verbs_match_ent;

/* What libibverbs knows of a device from sysfs. */
struct verbs_sysfs_dev {
	struct verbs_list_node entry;
	void *provider_data;
	const struct verbs_match_ent *match;
	unsigned int flags;
	char sysfs_name[IBV_SYSFS_NAME_MAX];
	dev_t sysfs_cdev;
	char ibdev_name[IBV_SYSFS_NAME_MAX];
	char ibdev_path[IBV_SYSFS_PATH_MAX];
	char modalias[512];
	uint64_t node_guid; /* host order */
	uint32_t driver_id;
	enum ibv_node_type node_type;
	int ibdev_idx;
	uint32_t num_ports;
	uint32_t abi_ver;
	struct timespec time_created;
};

struct verbs_device;

struct verbs_device_ops {
	const char *name;
	uint32_t match_min_abi_version;
	uint32_t match_max_abi_version;
	const struct verbs_match_ent *match_table;
	const struct verbs_device_ops **static_providers;
	bool (*match_device)(struct verbs_sysfs_dev *sysfs);
	/* CMD_FD becomes the callee's, also when it fails. */
	struct verbs_context *(*alloc_context)(struct ibv_device *dev, int cmd_fd, void *priv);
	struct verbs_context *(*import_context)(struct ibv_device *dev, int cmd_fd);
	struct verbs_device *(*alloc_device)(struct verbs_sysfs_dev *sysfs);
	void (*uninit_device)(struct verbs_device *dev);
};

struct verbs_device {
	struct ibv_device device;
	const struct verbs_device_ops *ops;
	atomic_int refcount; /* each list that names it, each context: one */
	struct verbs_list_node entry;
	struct verbs_sysfs_dev *sysfs;
	uint64_t core_support;
};

enum verbs_mr_type { VERBS_MR_TYPE_MR, VERBS_MR_TYPE_NULL };

struct verbs_mr {
	struct ibv_mr ibv_mr;
	enum verbs_mr_type mr_type;
	int access;
};

/* Device memory; programs call the functions in .dm for themselves. */
struct verbs_dm {
	struct ibv_dm dm;
	uint32_t handle;
};

enum { VERBS_QP_EX = 1 << 1 }; /* in verbs_qp.comp_mask: qp_ex is filled in */

struct verbs_xrcd;

struct verbs_qp {
	union {
		struct ibv_qp qp;
		struct ibv_qp_ex qp_ex;
	};
	uint32_t comp_mask;
	struct verbs_xrcd *xrcd;
};

struct verbs_srq {
	struct ibv_srq srq;
	enum ibv_srq_type srq_type;
	struct verbs_xrcd *xrcd;
	struct ibv_cq *cq;
	uint32_t srq_num;
};

struct verbs_cq {
	union {
		struct ibv_cq cq;
		struct ibv_cq_ex cq_ex;
	};
};

/* An operation that this provider leaves to libibverbs (EOPNOTSUPP). */
typedef void uodp_op_unused(void);

/* In alphabetical order, always. */
struct verbs_context_ops {
	int (*advise_mr)(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, uint32_t flags,
			 struct ibv_sge *sg, uint32_t n);
#if UODP_PRIVATE_ABI >= 64
	uodp_op_unused *alloc_buf;
#endif
	struct ibv_dm *(*alloc_dm)(struct ibv_context *ctx, struct ibv_alloc_dm_attr *attr);
#if UODP_PRIVATE_ABI >= 59
	uodp_op_unused *alloc_dmah;
#endif
	struct ibv_mw *(*alloc_mw)(struct ibv_pd *pd, enum ibv_mw_type type);
	struct ibv_mr *(*alloc_null_mr)(struct ibv_pd *pd);
	struct ibv_pd *(*alloc_parent_domain)(struct ibv_context *ctx,
					      struct ibv_parent_domain_init_attr *attr);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *ctx);
	struct ibv_td *(*alloc_td)(struct ibv_context *ctx, struct ibv_td_init_attr *attr);
	void (*async_event)(struct ibv_context *ctx, struct ibv_async_event *event);
	uodp_op_unused *attach_counters_point_flow;
	int (*attach_mcast)(struct ibv_qp *qp, const union ibv_gid *gid, uint16_t lid);
	int (*bind_mw)(struct ibv_qp *qp, struct ibv_mw *mw, struct ibv_mw_bind *bind);
	int (*close_xrcd)(struct ibv_xrcd *xrcd);
	void (*cq_event)(struct ibv_cq *cq);
	struct ibv_ah *(*create_ah)(struct ibv_pd *pd, struct ibv_ah_attr *attr);
#if UODP_PRIVATE_ABI >= 65
	uodp_op_unused *create_comp_cntr;
#endif
	uodp_op_unused *create_counters;
	struct ibv_cq *(*create_cq)(struct ibv_context *ctx, int cqe,
				    struct ibv_comp_channel *channel, int comp_vector);
	struct ibv_cq_ex *(*create_cq_ex)(struct ibv_context *ctx,
					  struct ibv_cq_init_attr_ex *attr);
	uodp_op_unused *create_flow;
	uodp_op_unused *create_flow_action_esp;
	struct ibv_qp *(*create_qp)(struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
	struct ibv_qp *(*create_qp_ex)(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *attr);
	uodp_op_unused *create_rwq_ind_table;
	struct ibv_srq *(*create_srq)(struct ibv_pd *pd, struct ibv_srq_init_attr *attr);
	struct ibv_srq *(*create_srq_ex)(struct ibv_context *ctx,
					 struct ibv_srq_init_attr_ex *attr);
	uodp_op_unused *create_wq;
#if UODP_PRIVATE_ABI >= 59
	uodp_op_unused *dealloc_dmah;
#endif
	int (*dealloc_mw)(struct ibv_mw *mw);
	int (*dealloc_pd)(struct ibv_pd *pd);
	int (*dealloc_td)(struct ibv_td *td);
	int (*dereg_mr)(struct verbs_mr *vmr);
	int (*destroy_ah)(struct ibv_ah *ah);
#if UODP_PRIVATE_ABI >= 65
	uodp_op_unused *destroy_comp_cntr;
#endif
	uodp_op_unused *destroy_counters;
	int (*destroy_cq)(struct ibv_cq *cq);
	uodp_op_unused *destroy_flow;
	uodp_op_unused *destroy_flow_action;
	int (*destroy_qp)(struct ibv_qp *qp);
	uodp_op_unused *destroy_rwq_ind_table;
	int (*destroy_srq)(struct ibv_srq *srq);
	uodp_op_unused *destroy_wq;
	int (*detach_mcast)(struct ibv_qp *qp, const union ibv_gid *gid, uint16_t lid);
#if UODP_IBVERBS_RELEASE >= 62
	int (*dm_export_dmabuf_fd)(struct ibv_dm *dm);
#endif
#if UODP_PRIVATE_ABI >= 64
	uodp_op_unused *free_buf;
#endif
	void (*free_context)(struct ibv_context *ctx);
	int (*free_dm)(struct ibv_dm *dm);
	int (*get_srq_num)(struct ibv_srq *srq, uint32_t *srq_num);
	uodp_op_unused *import_dm;
	uodp_op_unused *import_mr;
	uodp_op_unused *import_pd;
#if UODP_PRIVATE_ABI >= 65
	uodp_op_unused *inc_comp_cntr;
	uodp_op_unused *inc_err_comp_cntr;
#endif
	int (*modify_cq)(struct ibv_cq *cq, struct ibv_modify_cq_attr *attr);
	uodp_op_unused *modify_flow_action_esp;
	int (*modify_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
	uodp_op_unused *modify_qp_rate_limit;
	int (*modify_srq)(struct ibv_srq *srq, struct ibv_srq_attr *attr, int mask);
	uodp_op_unused *modify_wq;
	struct ibv_qp *(*open_qp)(struct ibv_context *ctx, struct ibv_qp_open_attr *attr);
	struct ibv_xrcd *(*open_xrcd)(struct ibv_context *ctx, struct ibv_xrcd_init_attr *attr);
	int (*poll_cq)(struct ibv_cq *cq, int n, struct ibv_wc *wc);
	int (*post_recv)(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
	int (*post_send)(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
	uodp_op_unused *post_srq_ops;
	int (*post_srq_recv)(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
#if UODP_PRIVATE_ABI >= 65
	uodp_op_unused *qp_attach_comp_cntr;
	uodp_op_unused *query_comp_cntr_caps;
#endif
	int (*query_device_ex)(struct ibv_context *ctx, const struct ibv_query_device_ex_input *in,
			       struct ibv_device_attr_ex *attr, size_t size);
	uodp_op_unused *query_ece;
	int (*query_port)(struct ibv_context *ctx, uint8_t port, struct ibv_port_attr *attr);
#if UODP_IBVERBS_RELEASE >= 62
	uodp_op_unused *query_port_speed;
#endif
	int (*query_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
			struct ibv_qp_init_attr *init);
	uodp_op_unused *query_qp_data_in_order;
	int (*query_rt_values)(struct ibv_context *ctx, struct ibv_values_ex *values);
	int (*query_srq)(struct ibv_srq *srq, struct ibv_srq_attr *attr);
#if UODP_PRIVATE_ABI >= 65
	uodp_op_unused *read_comp_cntr;
#endif
	uodp_op_unused *read_counters;
#if UODP_PRIVATE_ABI >= 65
	uodp_op_unused *read_err_comp_cntr;
#endif
	struct ibv_mr *(*reg_dm_mr)(struct ibv_pd *pd, struct ibv_dm *dm, uint64_t dm_offset,
				    size_t length, unsigned int access);
	struct ibv_mr *(*reg_dmabuf_mr)(struct ibv_pd *pd, uint64_t offset, size_t length,
					uint64_t iova, int fd, int access);
	struct ibv_mr *(*reg_mr)(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				 int access);
#if UODP_PRIVATE_ABI >= 59
	uodp_op_unused *reg_mr_ex;
#endif
	int (*req_notify_cq)(struct ibv_cq *cq, int solicited_only);
	int (*rereg_mr)(struct verbs_mr *vmr, int flags, struct ibv_pd *pd, void *addr,
			size_t length, int access);
	int (*resize_cq)(struct ibv_cq *cq, int cqe);
#if UODP_PRIVATE_ABI >= 65
	uodp_op_unused *set_comp_cntr;
#endif
	uodp_op_unused *set_ece;
#if UODP_PRIVATE_ABI >= 65
	uodp_op_unused *set_err_comp_cntr;
#endif
	uodp_op_unused *unimport_dm;
	uodp_op_unused *unimport_mr;
	uodp_op_unused *unimport_pd;
};

/*
 * Allocate SIZE zeroed bytes with a context at OFFSET and initialize it. It owns
 * CMD_FD from now on, also when this fails, and holds a reference to DEV. The
 * driver id 0 is "unknown".
 */
void *_verbs_init_and_alloc_context(struct ibv_device *dev, int cmd_fd, size_t size,
				    struct verbs_context *offset, uint32_t driver_id);
/* Undo that, but for the memory: closes cmd_fd and async_fd. */
void verbs_uninit_context(struct verbs_context *ctx);
/* Take over the operations that are not NULL. */
void verbs_set_ops(struct verbs_context *ctx, const struct verbs_context_ops *ops);
struct ibv_context *verbs_open_device(struct ibv_device *dev, void *priv);
void verbs_init_cq(struct ibv_cq *cq, struct ibv_context *ctx, struct ibv_comp_channel *channel,
		   void *cq_context);

#define UODP_ABI_NAME_(name, n) name##n
#define UODP_ABI_NAME(name, n) UODP_ABI_NAME_(name, n)
#define verbs_register_driver UODP_ABI_NAME(verbs_register_driver_, UODP_PRIVATE_ABI)
/* OPS, which stays where it is, answers for the devices that it matches. */
void verbs_register_driver(const struct verbs_device_ops *ops);

/* ---- abi_check.c ---- */
/* Is the libibverbs in this process one that this provider was built for? If
 * not, one line on stderr says so. */
bool uodp_abi_check(void);

#endif
