/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The provider's part of a process: tables of objects that peers reach. */
#include <errno.h>
#include <string.h>

#include "queue.h"
#include "totals.h"

static pthread_mutex_t once_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t service(void *arg)
{
	struct uodp_proc *proc = arg;
	uint64_t again, next;

	if (!atomic_load_explicit(&proc->service_known, memory_order_relaxed)) {
		proc->service = pthread_self();
		/* release: pairs with the acquire in uodp_pending_set() */
		atomic_store_explicit(&proc->service_known, 1, memory_order_release);
	}
	uodp_events_drain(proc);
	if (uodp_unlikely(odp_proc_lost(proc->odp)))
		uodp_lost(proc);
	again = uodp_unplugged_end(proc);
	next = uodp_cqs_due(proc);
	again = next < again ? next : again;
	next = uodp_flushes_go_on(proc);
	again = next < again ? next : again;
	next = uodp_progress(proc, true);
	return again < next ? again : next;
}

static struct uodp_table *table_create(uint32_t size, _Atomic uint32_t *high)
{
	struct uodp_table *table = odp_priv_alloc(sizeof(*table));

	if (!table)
		return NULL;
	table->slots = odp_priv_alloc(size * sizeof(*table->slots));
	table->owners = odp_priv_alloc(size * sizeof(*table->owners));
	table->size = size;
	table->high = high;
	return table->slots && table->owners ? table : NULL;
}

static void *shared(struct uodp_proc *proc, uint64_t *off, size_t size)
{
	*off = odp_arena_alloc(proc->odp, size);
	return *off ? odp_peer_ptr(proc->self, *off, size) : NULL;
}

/* Sparse: a table costs memory only where it is used. The arena is the
 * process's own and dies with it, so failure leaves nothing to undo. */
static int tables_create(struct uodp_proc *proc)
{
	struct uodp_root *root;
	uint64_t off;

	root = shared(proc, &off, sizeof(*root));
	if (!root)
		return -ENOMEM;
	proc->root = root;
	proc->qps_shm = shared(proc, &root->qps, UODP_MAX_QP * sizeof(struct uodp_qp_shm));
	proc->cqs_shm = shared(proc, &root->cqs, UODP_MAX_CQ * sizeof(struct uodp_cq_shm));
	proc->srqs_shm = shared(proc, &root->srqs, UODP_MAX_SRQ * sizeof(struct uodp_srq_shm));
	proc->dms_shm = shared(proc, &root->dms, UODP_MAX_DM * sizeof(struct uodp_dm_shm));
	proc->mcasts_shm =
		shared(proc, &root->mcasts, UODP_MAX_MCAST * sizeof(struct uodp_mcast_shm));
	proc->qps = table_create(UODP_MAX_QP, &root->qp_high);
	proc->cqs = table_create(UODP_MAX_CQ, &root->cq_high);
	proc->srqs = table_create(UODP_MAX_SRQ, &root->srq_high);
	proc->dms = table_create(UODP_MAX_DM, &root->dm_high);
	proc->ord_block = odp_priv_alloc((UODP_MAX_QP >> ODP_QPN_BLOCK_SHIFT) * sizeof(uint16_t));
	proc->live = odp_priv_alloc(UODP_MAX_QP * sizeof(*proc->live));
	if (!proc->qps_shm || !proc->cqs_shm || !proc->srqs_shm || !proc->dms_shm ||
	    !proc->mcasts_shm || !proc->qps || !proc->cqs || !proc->srqs || !proc->dms ||
	    !proc->ord_block || !proc->live)
		return -ENOMEM;
	proc->qps->size = 0; /* grows by a QPN block at a time (qp.c) */
	root->version = UODP_SHM_VERSION;
	root->magic = UODP_ROOT_MAGIC;
	odp_root_set(proc->odp, off);
	return 0;
}

static int proc_create(struct odp_proc *odp)
{
	struct uodp_proc *proc;
	int ret;

	proc = odp_priv_alloc(sizeof(*proc));
	if (!proc)
		return -ENOMEM;
	proc->odp = odp;
	proc->self = odp_proc_self(odp);
	proc->lock_tag = odp_lock_tag(odp);
	pthread_mutex_init(&proc->lock, NULL);
	pthread_mutex_init(&proc->pin_lock, NULL);
	pthread_mutex_init(&proc->grow_lock, NULL);
	atomic_store_explicit(&proc->service_next, UINT64_MAX, memory_order_relaxed);
	ret = tables_create(proc);
	if (!ret)
		ret = uodp_mrs_init(proc);
	if (!ret)
		ret = uodp_channels_init(proc);
	if (ret)
		return ret;
	uodp_notice_init(proc);
	uodp_self = proc;
	odp_service_set(odp, service, proc);
	return 0;
}

/*
 * What the child has of its parent's objects says EIO from now on. Read without locks:
 * the lists are whole at every store, and what is on them has not been freed.
 */
static void inherit(struct uodp_proc *proc)
{
	for (struct uodp_context *ctx = proc->contexts; ctx; ctx = ctx->next)
		uodp_ops_end(ctx);
	/* Not the high mark: it is in memory that the child has not. */
	for (uint32_t i = 0; i < proc->qps->size; i++) {
		struct uodp_qp *qp = proc->qps->slots[i];

		if (qp && qp->vqp.comp_mask & VERBS_QP_EX)
			uodp_wr_ops_end(&qp->vqp.qp_ex);
	}
	for (uint32_t i = 0; i < proc->cqs->size; i++)
		if (proc->cqs->slots[i])
			uodp_cq_ops_end(proc->cqs->slots[i]);
}

/* What queue pairs have counted that nobody destroys before the program ends. */
__attribute__((destructor)) static void proc_count(void)
{
	struct uodp_root *root = uodp_self ? uodp_self->root : NULL;
	uint32_t high = root ? atomic_load_explicit(&root->qp_high, memory_order_relaxed) : 0;

	for (uint32_t i = 0; i < high; i++) {
		struct uodp_qp_shm *qp = &uodp_self->qps_shm[i];

		if (qp->device < root->num_devices)
			uodp_totals_add(root->devices[qp->device], qp);
	}
}

/* A child of fork needs tables of its own, whatever its parent's threads held. */
void uodp_proc_child(void)
{
	pthread_mutex_init(&once_lock, NULL);
	if (uodp_self)
		inherit(uodp_self);
	uodp_self = NULL;
}

__attribute__((constructor)) static void proc_init(void)
{
	pthread_atfork(NULL, NULL, uodp_proc_child);
}

int uodp_proc_get(struct uodp_proc **proc)
{
	struct odp_proc *odp;
	int ret;

	pthread_mutex_lock(&once_lock);
	ret = odp_proc_get(&odp);
	if (!ret && !uodp_self) {
		uodp_changes_init();
		ret = proc_create(odp);
	}
	if (!ret)
		*proc = uodp_self;
	pthread_mutex_unlock(&once_lock);
	return ret;
}
