/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What the answers depend on. The device is asked in a process of its own. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <time.h>

#include "odpcmp.h"

static void set_error(struct environment *env, const struct options *opt, int ret)
{
	const char *device = opt->device ? opt->device : "the first device";

	if ((ret == -ENODEV || ret == -ENOSYS) && opt->device)
		snprintf(env->error, sizeof(env->error), "there is no device '%.63s'", device);
	else if (ret == -ENODEV || ret == -ENOSYS) /* ENOSYS: a kernel without RDMA */
		snprintf(env->error, sizeof(env->error),
			 "there is no RDMA device; under uodprun there is uodp0");
	else if (ret == -ENETDOWN)
		snprintf(env->error, sizeof(env->error), "port %d of %.63s is not active",
			 opt->port, *env->device ? env->device : device);
	else if (ret == -ENOENT)
		snprintf(env->error, sizeof(env->error), "port %d of %.63s has no such GID",
			 opt->port, *env->device ? env->device : device);
	else
		snprintf(env->error, sizeof(env->error), "cannot use %.63s, port %d: %s",
			 *env->device ? env->device : device, opt->port, strerror(-ret));
}

static void find_attributes(struct environment *env, struct rdma *rdma)
{
	struct ibv_device_attr_ex attr;
	struct ibv_port_attr port;
	union ibv_gid gid;

	if (!ibv_query_device_ex(rdma->context, NULL, &attr)) {
		snprintf(env->fw_ver, sizeof(env->fw_ver), "%.63s", attr.orig_attr.fw_ver);
		env->odp = attr.odp_caps.general_caps & IBV_ODP_SUPPORT;
	}
	if (!ibv_query_port(rdma->context, rdma->port, &port))
		snprintf(env->link_layer, sizeof(env->link_layer), "%s",
			 port.link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "InfiniBand");
	env->port = rdma->port;
	env->gid_index = rdma->gid_index;
	if (rdma->gid_index >= 0 &&
	    !ibv_query_gid(rdma->context, rdma->port, rdma->gid_index, &gid))
		inet_ntop(AF_INET6, gid.raw, env->gid, sizeof(env->gid));
}

/* Of memory that the device cannot move: on uodp that makes a difference. */
static void find_events(struct environment *env, struct rdma *rdma)
{
	const size_t len = 4096;
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct ibv_pd *pd = ibv_alloc_pd(rdma->context);
	struct ibv_mr *mr = NULL;

	if (pd && p != MAP_FAILED)
		mr = ibv_reg_mr(pd, p, len, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
	if (mr) {
		dv_events(mr, env->events, sizeof(env->events));
		ibv_dereg_mr(mr);
	}
	if (pd)
		ibv_dealloc_pd(pd);
	if (p != MAP_FAILED)
		munmap(p, len);
}

static void device_body(const void *arg, void *result)
{
	const struct options *opt = arg;
	struct environment *env = result;
	struct rdma rdma;
	int ret;

	ret = rdma_open(&rdma, opt->device, env->device, sizeof(env->device));
	if (!ret) {
		ret = rdma_find_gid(&rdma, opt->port, opt->gid_index);
		if (!ret)
			find_attributes(env, &rdma);
		if (env->odp)
			find_events(env, &rdma);
		rdma_close(&rdma);
	}
	if (ret)
		set_error(env, opt, ret);
}

/* The library's file name carries the version; no function tells it. */
static void find_libibverbs(char *buf, size_t len)
{
	static const char prefix[] = "libibverbs.so.";
	void *symbol = dlsym(RTLD_DEFAULT, "ibv_wc_status_str");
	const char *found;
	Dl_info info;
	char *path;

	snprintf(buf, len, "unknown");
	if (!symbol || !dladdr(symbol, &info))
		return;
	path = realpath(info.dli_fname, NULL);
	found = path ? strstr(path, prefix) : NULL;
	if (found)
		snprintf(buf, len, "%s", found + strlen(prefix));
	free(path);
}

static void find_file_system(const char *dir, char *buf, size_t len)
{
	static const struct {
		unsigned long type;
		const char *name;
	} types[] = {
		{EXT4_SUPER_MAGIC, "ext4"},
		{XFS_SUPER_MAGIC, "xfs"},
		{BTRFS_SUPER_MAGIC, "btrfs"},
		{TMPFS_MAGIC, "tmpfs"},
		{OVERLAYFS_SUPER_MAGIC, "overlayfs"},
		{FUSE_SUPER_MAGIC, "fuse"},
		{NFS_SUPER_MAGIC, "nfs"},
		{V9FS_MAGIC, "9p"},
	};
	struct statfs fs;
	size_t i;

	snprintf(buf, len, "unknown");
	if (statfs(dir, &fs))
		return;
	for (i = 0; i < ARRAY_SIZE(types); i++)
		if ((unsigned long)fs.f_type == types[i].type)
			snprintf(buf, len, "%s", types[i].name);
}

void environment_find(struct environment *env, const struct options *opt)
{
	struct utsname uts;
	time_t now = time(NULL);
	struct tm tm;
	int ret, sig = 0;

	memset(env, 0, sizeof(*env));
	if (!uname(&uts)) {
		snprintf(env->kernel, sizeof(env->kernel), "%s", uts.release);
		snprintf(env->machine, sizeof(env->machine), "%.31s", uts.machine);
	}
	strftime(env->date, sizeof(env->date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	find_libibverbs(env->libibverbs, sizeof(env->libibverbs));
	find_file_system(opt->dir, env->file_system, sizeof(env->file_system));

	ret = isolate(device_body, opt, env, sizeof(*env), opt->timeout, &sig);
	if (ret && !*env->error)
		snprintf(env->error, sizeof(env->error), "asking the device failed: %s%s",
			 ret == -EINTR ? "SIG" : "",
			 ret == -EINTR ? sigabbrev_np(sig) ?: "?" : strerror(-ret));
}
