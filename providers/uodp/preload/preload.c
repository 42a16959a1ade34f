/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The functions that a preloaded provider answers in libibverbs' place, for its
 * own devices and for nothing else: libibverbs lists only devices of the kernel,
 * opens them by their files, and asks the kernel for completion channels.
 *
 * Loaded by libibverbs as a provider, this library does nothing: no kernel
 * device is ours.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "uodp.h"

static struct {
	struct ibv_device **(*get_device_list)(int *num);
	void (*free_device_list)(struct ibv_device **list);
	struct ibv_context *(*open_device)(struct ibv_device *dev);
	struct ibv_comp_channel *(*create_comp_channel)(struct ibv_context *ctx);
	int (*destroy_comp_channel)(struct ibv_comp_channel *ch);
} next;

/* Without a version: libibverbs' default ones, or another preloaded library's. */
static void next_find(void)
{
	next.get_device_list = dlsym(RTLD_NEXT, "ibv_get_device_list");
	next.free_device_list = dlsym(RTLD_NEXT, "ibv_free_device_list");
	next.open_device = dlsym(RTLD_NEXT, "ibv_open_device");
	next.create_comp_channel = dlsym(RTLD_NEXT, "ibv_create_comp_channel");
	next.destroy_comp_channel = dlsym(RTLD_NEXT, "ibv_destroy_comp_channel");
}

static void next_get(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, next_find);
}

__attribute__((constructor)) static void preload_init(void)
{
	next_get();
}

static bool only_ours(void)
{
	const char *value = secure_getenv("UODP_ONLY");
	static _Atomic bool said;

	if (!value || !*value || !strcmp(value, "0"))
		return false;
	if (strcmp(value, "1") && !atomic_exchange_explicit(&said, true, memory_order_relaxed))
		odp_log(ODP_LOG_ERR, "UODP_ONLY: \"%s\" is neither 0 nor 1; taken as 1", value);
	return true;
}

/* LIST, *N entries long, with ours behind; when that fails LIST as it was. */
static struct ibv_device **list_append(struct ibv_device **list, int *n, struct uodp_device *devs,
				       unsigned num_devs)
{
	struct ibv_device **longer;

	/* libibverbs allocates and frees lists with malloc and free. */
	longer = realloc(list, (*n + num_devs + 1) * sizeof(*list));
	if (!longer)
		return list;
	for (unsigned i = 0; i < num_devs; i++) {
		if (!uodp_device_plugged(&devs[i]))
			continue;
		/* The reference that ibv_free_device_list() drops. */
		atomic_fetch_add_explicit(&devs[i].vdev.refcount, 1, memory_order_relaxed);
		longer[(*n)++] = &devs[i].vdev.device;
	}
	longer[*n] = NULL;
	return longer;
}

struct ibv_device **ibv_get_device_list(int *num)
{
	struct uodp_device *devs = NULL;
	struct ibv_device **list;
	unsigned num_devs;
	bool hide;
	int n = 0, err;

	next_get();
	if (num)
		*num = 0;
	if (!next.get_device_list) {
		errno = ENOSYS;
		return NULL;
	}
	list = next.get_device_list(&n); /* NULL: a host without RDMA */
	err = errno;
	num_devs = uodp_abi_check() ? uodp_devices(&devs) : 0;
	hide = only_ours() && list;
	if (hide) {
		next.free_device_list(list);
		list = NULL;
		n = 0;
	}
	if (num_devs || hide)
		list = list_append(list, &n, devs, num_devs);
	if (num)
		*num = n;
	errno = err; /* the host's, when there is nothing to add */
	return list;
}

struct ibv_context *ibv_open_device(struct ibv_device *dev)
{
	next_get();
	if (uodp_is_device(dev))
		return verbs_open_device(&to_uodp_device(dev)->opener.device, to_uodp_device(dev));
	if (!next.open_device) {
		errno = ENOSYS;
		return NULL;
	}
	return next.open_device(dev);
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
	next_get();
	if (uodp_is_device(ctx->device))
		return uodp_create_comp_channel(ctx);
	if (!next.create_comp_channel) {
		errno = ENOSYS;
		return NULL;
	}
	return next.create_comp_channel(ctx);
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *ch)
{
	next_get();
	if (uodp_is_device(ch->context->device))
		return uodp_destroy_comp_channel(ch);
	return next.destroy_comp_channel ? next.destroy_comp_channel(ch) : ENOSYS;
}
