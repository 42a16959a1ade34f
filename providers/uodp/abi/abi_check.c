/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The layouts of verbs_abi.h, asserted against numbers that were taken from
 * libibverbs' releases one by one, so that a slip in the conditional members
 * cannot pass. To check another layout than the installed library's, compile
 * this file alone with its UODP_PRIVATE_ABI and UODP_IBVERBS_RELEASE.
 */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <odp/odp.h>

#include "verbs_abi.h"

#define POINTER sizeof(void *)
#define OP_AT(op, n)                                                                               \
	_Static_assert(offsetof(struct verbs_context_ops, op) == (n)*POINTER,                      \
		       "verbs_context_ops." #op " is not where libibverbs has it")
#define OPS_ARE(n)                                                                                 \
	_Static_assert(sizeof(struct verbs_context_ops) == (n)*POINTER,                            \
		       "verbs_context_ops has not the size that libibverbs has")

#if UODP_PRIVATE_ABI <= 57
OPS_ARE(76);
OP_AT(advise_mr, 0);
OP_AT(alloc_dm, 1);
OP_AT(alloc_parent_domain, 4);
OP_AT(alloc_pd, 5);
OP_AT(alloc_td, 6);
OP_AT(async_event, 7);
OP_AT(attach_mcast, 9);
OP_AT(close_xrcd, 11);
OP_AT(cq_event, 12);
OP_AT(create_ah, 13);
OP_AT(create_cq, 15);
OP_AT(create_cq_ex, 16);
OP_AT(create_qp, 19);
OP_AT(create_qp_ex, 20);
OP_AT(create_srq, 22);
OP_AT(create_srq_ex, 23);
OP_AT(dealloc_pd, 26);
OP_AT(dealloc_td, 27);
OP_AT(dereg_mr, 28);
OP_AT(destroy_ah, 29);
OP_AT(destroy_cq, 31);
OP_AT(destroy_qp, 34);
OP_AT(destroy_srq, 36);
OP_AT(detach_mcast, 38);
OP_AT(free_context, 39);
OP_AT(free_dm, 40);
OP_AT(get_srq_num, 41);
OP_AT(import_dm, 42);
OP_AT(import_mr, 43);
OP_AT(import_pd, 44);
OP_AT(modify_cq, 45);
OP_AT(modify_qp, 47);
OP_AT(modify_srq, 49);
OP_AT(open_qp, 51);
OP_AT(open_xrcd, 52);
OP_AT(poll_cq, 53);
OP_AT(post_recv, 54);
OP_AT(post_send, 55);
OP_AT(post_srq_recv, 57);
OP_AT(query_device_ex, 58);
OP_AT(query_port, 60);
OP_AT(query_qp, 61);
OP_AT(query_rt_values, 63);
OP_AT(query_srq, 64);
OP_AT(reg_dm_mr, 66);
OP_AT(reg_dmabuf_mr, 67);
OP_AT(reg_mr, 68);
OP_AT(req_notify_cq, 69);
OP_AT(rereg_mr, 70);
OP_AT(resize_cq, 71);
OP_AT(unimport_dm, 73);
OP_AT(unimport_mr, 74);
OP_AT(unimport_pd, 75);
#elif UODP_PRIVATE_ABI == 59 && UODP_IBVERBS_RELEASE < UODP_ABI_SPLIT_RELEASE
OPS_ARE(79);
OP_AT(advise_mr, 0);
OP_AT(alloc_dm, 1);
OP_AT(alloc_parent_domain, 5);
OP_AT(alloc_pd, 6);
OP_AT(alloc_td, 7);
OP_AT(async_event, 8);
OP_AT(attach_mcast, 10);
OP_AT(close_xrcd, 12);
OP_AT(cq_event, 13);
OP_AT(create_ah, 14);
OP_AT(create_cq, 16);
OP_AT(create_cq_ex, 17);
OP_AT(create_qp, 20);
OP_AT(create_qp_ex, 21);
OP_AT(create_srq, 23);
OP_AT(create_srq_ex, 24);
OP_AT(dealloc_pd, 28);
OP_AT(dealloc_td, 29);
OP_AT(dereg_mr, 30);
OP_AT(destroy_ah, 31);
OP_AT(destroy_cq, 33);
OP_AT(destroy_qp, 36);
OP_AT(destroy_srq, 38);
OP_AT(detach_mcast, 40);
OP_AT(free_context, 41);
OP_AT(free_dm, 42);
OP_AT(get_srq_num, 43);
OP_AT(import_dm, 44);
OP_AT(import_mr, 45);
OP_AT(import_pd, 46);
OP_AT(modify_cq, 47);
OP_AT(modify_qp, 49);
OP_AT(modify_srq, 51);
OP_AT(open_qp, 53);
OP_AT(open_xrcd, 54);
OP_AT(poll_cq, 55);
OP_AT(post_recv, 56);
OP_AT(post_send, 57);
OP_AT(post_srq_recv, 59);
OP_AT(query_device_ex, 60);
OP_AT(query_port, 62);
OP_AT(query_qp, 63);
OP_AT(query_rt_values, 65);
OP_AT(query_srq, 66);
OP_AT(reg_dm_mr, 68);
OP_AT(reg_dmabuf_mr, 69);
OP_AT(reg_mr, 70);
OP_AT(req_notify_cq, 72);
OP_AT(rereg_mr, 73);
OP_AT(resize_cq, 74);
OP_AT(unimport_dm, 76);
OP_AT(unimport_mr, 77);
OP_AT(unimport_pd, 78);
#elif UODP_PRIVATE_ABI == 59
OPS_ARE(81);
OP_AT(advise_mr, 0);
OP_AT(alloc_dm, 1);
OP_AT(alloc_parent_domain, 5);
OP_AT(alloc_pd, 6);
OP_AT(alloc_td, 7);
OP_AT(async_event, 8);
OP_AT(attach_mcast, 10);
OP_AT(close_xrcd, 12);
OP_AT(cq_event, 13);
OP_AT(create_ah, 14);
OP_AT(create_cq, 16);
OP_AT(create_cq_ex, 17);
OP_AT(create_qp, 20);
OP_AT(create_qp_ex, 21);
OP_AT(create_srq, 23);
OP_AT(create_srq_ex, 24);
OP_AT(dealloc_pd, 28);
OP_AT(dealloc_td, 29);
OP_AT(dereg_mr, 30);
OP_AT(destroy_ah, 31);
OP_AT(destroy_cq, 33);
OP_AT(destroy_qp, 36);
OP_AT(destroy_srq, 38);
OP_AT(detach_mcast, 40);
OP_AT(dm_export_dmabuf_fd, 41);
OP_AT(free_context, 42);
OP_AT(free_dm, 43);
OP_AT(get_srq_num, 44);
OP_AT(import_dm, 45);
OP_AT(import_mr, 46);
OP_AT(import_pd, 47);
OP_AT(modify_cq, 48);
OP_AT(modify_qp, 50);
OP_AT(modify_srq, 52);
OP_AT(open_qp, 54);
OP_AT(open_xrcd, 55);
OP_AT(poll_cq, 56);
OP_AT(post_recv, 57);
OP_AT(post_send, 58);
OP_AT(post_srq_recv, 60);
OP_AT(query_device_ex, 61);
OP_AT(query_port, 63);
OP_AT(query_qp, 65);
OP_AT(query_rt_values, 67);
OP_AT(query_srq, 68);
OP_AT(reg_dm_mr, 70);
OP_AT(reg_dmabuf_mr, 71);
OP_AT(reg_mr, 72);
OP_AT(req_notify_cq, 74);
OP_AT(rereg_mr, 75);
OP_AT(resize_cq, 76);
OP_AT(unimport_dm, 78);
OP_AT(unimport_mr, 79);
OP_AT(unimport_pd, 80);
#elif UODP_PRIVATE_ABI == 64
OPS_ARE(83);
OP_AT(advise_mr, 0);
OP_AT(alloc_dm, 2);
OP_AT(alloc_parent_domain, 6);
OP_AT(alloc_pd, 7);
OP_AT(alloc_td, 8);
OP_AT(async_event, 9);
OP_AT(attach_mcast, 11);
OP_AT(close_xrcd, 13);
OP_AT(cq_event, 14);
OP_AT(create_ah, 15);
OP_AT(create_cq, 17);
OP_AT(create_cq_ex, 18);
OP_AT(create_qp, 21);
OP_AT(create_qp_ex, 22);
OP_AT(create_srq, 24);
OP_AT(create_srq_ex, 25);
OP_AT(dealloc_pd, 29);
OP_AT(dealloc_td, 30);
OP_AT(dereg_mr, 31);
OP_AT(destroy_ah, 32);
OP_AT(destroy_cq, 34);
OP_AT(destroy_qp, 37);
OP_AT(destroy_srq, 39);
OP_AT(detach_mcast, 41);
OP_AT(dm_export_dmabuf_fd, 42);
OP_AT(free_context, 44);
OP_AT(free_dm, 45);
OP_AT(get_srq_num, 46);
OP_AT(import_dm, 47);
OP_AT(import_mr, 48);
OP_AT(import_pd, 49);
OP_AT(modify_cq, 50);
OP_AT(modify_qp, 52);
OP_AT(modify_srq, 54);
OP_AT(open_qp, 56);
OP_AT(open_xrcd, 57);
OP_AT(poll_cq, 58);
OP_AT(post_recv, 59);
OP_AT(post_send, 60);
OP_AT(post_srq_recv, 62);
OP_AT(query_device_ex, 63);
OP_AT(query_port, 65);
OP_AT(query_qp, 67);
OP_AT(query_rt_values, 69);
OP_AT(query_srq, 70);
OP_AT(reg_dm_mr, 72);
OP_AT(reg_dmabuf_mr, 73);
OP_AT(reg_mr, 74);
OP_AT(req_notify_cq, 76);
OP_AT(rereg_mr, 77);
OP_AT(resize_cq, 78);
OP_AT(unimport_dm, 80);
OP_AT(unimport_mr, 81);
OP_AT(unimport_pd, 82);
#elif UODP_PRIVATE_ABI == 65
OPS_ARE(93);
OP_AT(advise_mr, 0);
OP_AT(alloc_dm, 2);
OP_AT(alloc_parent_domain, 6);
OP_AT(alloc_pd, 7);
OP_AT(alloc_td, 8);
OP_AT(async_event, 9);
OP_AT(attach_mcast, 11);
OP_AT(close_xrcd, 13);
OP_AT(cq_event, 14);
OP_AT(create_ah, 15);
OP_AT(create_cq, 18);
OP_AT(create_cq_ex, 19);
OP_AT(create_qp, 22);
OP_AT(create_qp_ex, 23);
OP_AT(create_srq, 25);
OP_AT(create_srq_ex, 26);
OP_AT(dealloc_pd, 30);
OP_AT(dealloc_td, 31);
OP_AT(dereg_mr, 32);
OP_AT(destroy_ah, 33);
OP_AT(destroy_cq, 36);
OP_AT(destroy_qp, 39);
OP_AT(destroy_srq, 41);
OP_AT(detach_mcast, 43);
OP_AT(dm_export_dmabuf_fd, 44);
OP_AT(free_context, 46);
OP_AT(free_dm, 47);
OP_AT(get_srq_num, 48);
OP_AT(import_dm, 49);
OP_AT(import_mr, 50);
OP_AT(import_pd, 51);
OP_AT(modify_cq, 54);
OP_AT(modify_qp, 56);
OP_AT(modify_srq, 58);
OP_AT(open_qp, 60);
OP_AT(open_xrcd, 61);
OP_AT(poll_cq, 62);
OP_AT(post_recv, 63);
OP_AT(post_send, 64);
OP_AT(post_srq_recv, 66);
OP_AT(query_device_ex, 69);
OP_AT(query_port, 71);
OP_AT(query_qp, 73);
OP_AT(query_rt_values, 75);
OP_AT(query_srq, 76);
OP_AT(reg_dm_mr, 80);
OP_AT(reg_dmabuf_mr, 81);
OP_AT(reg_mr, 82);
OP_AT(req_notify_cq, 84);
OP_AT(rereg_mr, 85);
OP_AT(resize_cq, 86);
OP_AT(unimport_dm, 90);
OP_AT(unimport_mr, 91);
OP_AT(unimport_pd, 92);
#endif

#define AT(type, member, n)                                                                        \
	_Static_assert(offsetof(struct type, member) == (n),                                       \
		       #type "." #member " is not where libibverbs has it")
#define SIZE(type, n)                                                                              \
	_Static_assert(sizeof(struct type) == (n), #type " has another size in libibverbs")

#ifdef __LP64__
SIZE(verbs_sysfs_dev, 992);
AT(verbs_sysfs_dev, flags, 32);
AT(verbs_sysfs_dev, sysfs_name, 36);
AT(verbs_sysfs_dev, ibdev_name, 112);
AT(verbs_sysfs_dev, ibdev_path, 176);
AT(verbs_sysfs_dev, node_guid, 944);
AT(verbs_sysfs_dev, node_type, 956);
AT(verbs_sysfs_dev, ibdev_idx, 960);
AT(verbs_sysfs_dev, num_ports, 964);
SIZE(verbs_device_ops, 72);
AT(verbs_device_ops, alloc_context, 40);
SIZE(verbs_device, 712);
AT(verbs_device, ops, 664);
AT(verbs_device, refcount, 672);
AT(verbs_device, sysfs, 696);
AT(verbs_device, core_support, 704);
SIZE(verbs_mr, 56);
AT(verbs_mr, mr_type, 48);
AT(verbs_mr, access, 52);
SIZE(verbs_dm, 40);
AT(verbs_dm, handle, 32);
SIZE(verbs_srq, 160);
AT(verbs_srq, cq, 144);
AT(verbs_srq, srq_num, 152);
#endif
AT(verbs_device, device, 0);
AT(ibv_qp_ex, qp_base, 0);
AT(verbs_qp, qp, 0);
AT(verbs_qp, comp_mask, sizeof(struct ibv_qp_ex));
AT(verbs_cq, cq, 0);
AT(verbs_srq, srq, 0);
AT(verbs_mr, ibv_mr, 0);

/* The release number in a file name libibverbs.so.1.<x>.<release>.<y>, or -1. */
static int abi_release(const char *path)
{
	const char *name = strrchr(path, '/');
	int release;

	name = name ? name + 1 : path;
	return sscanf(name, "libibverbs.so.1.%*d.%d.", &release) == 1 ? release : -1;
}

bool uodp_abi_check(void)
{
	char path[PATH_MAX];
	Dl_info info;
	int release;

	if (!UODP_ABI_RELEASE_MATTERS)
		return true;
	if (!dladdr((void *)verbs_set_ops, &info) || !realpath(info.dli_fname, path)) {
		odp_log(ODP_LOG_ERR, "cannot find the file of libibverbs; no uodp device");
		return false;
	}
	release = abi_release(path);
	if (release >= 0 &&
	    (release < UODP_ABI_SPLIT_RELEASE) == (UODP_IBVERBS_RELEASE < UODP_ABI_SPLIT_RELEASE))
		return true;
	odp_log(ODP_LOG_ERR,
		"%s is not the libibverbs that uodp was built for (release %d): "
		"build it again; no uodp device",
		path, UODP_IBVERBS_RELEASE);
	return false;
}
