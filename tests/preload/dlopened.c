/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Usage: dlopened HOW
 * As programs do that are to run without libibverbs too: it is loaded when they need
 * it, and its functions are looked up by name, and by version. HOW: "local", "deep"
 * (RTLD_DEEPBIND), "versions" (dlvsym). Opens uodp0, makes a completion channel and all
 * that an RC queue pair needs, and has an event through the channel.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <infiniband/verbs.h>

static void *library;
static const char *how;

static void *find(const char *name, const char *version)
{
	void *fn = !strcmp(how, "versions") ? dlvsym(library, name, version) : dlsym(library, name);

	if (!fn) {
		printf("%s: %s\n", name, dlerror());
		exit(1);
	}
	return fn;
}

#define FN(name, version) ((__typeof__(&name))find(#name, version))

static void require(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static struct ibv_context *open_uodp0(void)
{
	struct ibv_device **list;
	struct ibv_context *ctx = NULL;

	list = FN(ibv_get_device_list, "IBVERBS_1.1")(NULL);
	require(list != NULL, "ibv_get_device_list");
	for (int i = 0; list[i]; i++)
		if (!strcmp(FN(ibv_get_device_name, "IBVERBS_1.1")(list[i]), "uodp0"))
			ctx = FN(ibv_open_device, "IBVERBS_1.1")(list[i]);
	FN(ibv_free_device_list, "IBVERBS_1.1")(list);
	require(ctx != NULL, "no uodp0");
	return ctx;
}

/* A queue pair that is flushed makes completions, and the channel tells. */
static void event_have(struct ibv_context *ctx)
{
	struct ibv_comp_channel *ch = FN(ibv_create_comp_channel, "IBVERBS_1.0")(ctx);
	struct ibv_pd *pd = FN(ibv_alloc_pd, "IBVERBS_1.1")(ctx);
	struct ibv_cq *cq, *got = NULL;
	struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_RC};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1};
	struct ibv_recv_wr wr = {.wr_id = 7}, *bad;
	struct ibv_qp *qp;
	struct ibv_wc wc;
	void *arg;

	require(ch && pd, "channel, PD");
	cq = FN(ibv_create_cq, "IBVERBS_1.1")(ctx, 4, NULL, ch, 0);
	require(cq != NULL, "ibv_create_cq");
	init.send_cq = init.recv_cq = cq;
	init.cap.max_send_wr = init.cap.max_recv_wr = 1;
	init.cap.max_send_sge = init.cap.max_recv_sge = 1;
	qp = FN(ibv_create_qp, "IBVERBS_1.1")(pd, &init);
	require(qp != NULL, "ibv_create_qp");
	require(!FN(ibv_modify_qp, "IBVERBS_1.1")(qp, &attr,
						  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
							  IBV_QP_ACCESS_FLAGS),
		"INIT");
	require(!ibv_req_notify_cq(cq, 0) && !ibv_post_recv(qp, &wr, &bad), "post");
	attr.qp_state = IBV_QPS_ERR;
	require(!FN(ibv_modify_qp, "IBVERBS_1.1")(qp, &attr, IBV_QP_STATE), "ERR");
	require(!FN(ibv_get_cq_event, "IBVERBS_1.1")(ch, &got, &arg) && got == cq, "event");
	FN(ibv_ack_cq_events, "IBVERBS_1.1")(cq, 1);
	require(ibv_poll_cq(cq, 1, &wc) == 1 && wc.wr_id == 7, "poll");
	require(!FN(ibv_destroy_qp, "IBVERBS_1.1")(qp) && !FN(ibv_destroy_cq, "IBVERBS_1.1")(cq) &&
			!FN(ibv_destroy_comp_channel, "IBVERBS_1.0")(ch) &&
			!FN(ibv_dealloc_pd, "IBVERBS_1.1")(pd),
		"destroy");
}

int main(int argc, char **argv)
{
	struct ibv_context *ctx;
	union ibv_gid gid;

	how = argc == 2 ? argv[1] : "local";
	library = dlopen("libibverbs.so.1",
			 RTLD_NOW | RTLD_LOCAL | (strcmp(how, "deep") ? 0 : RTLD_DEEPBIND));
	if (!library) {
		printf("%s\n", dlerror());
		return 1;
	}
	ctx = open_uodp0();
	require(!FN(ibv_query_gid, "IBVERBS_1.1")(ctx, 1, 1, &gid), "ibv_query_gid");
	event_have(ctx);
	require(!FN(ibv_close_device, "IBVERBS_1.1")(ctx), "ibv_close_device");
	printf("ok %s\n", how);
	return 0;
}
