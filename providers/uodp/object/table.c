/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Tables of the objects of a process, by number. */
#include <errno.h>

#include "queue.h"

struct uodp_proc *uodp_self;

int uodp_table_claim(struct uodp_proc *proc, struct uodp_table *table, void *obj,
		     struct ibv_context *ctx)
{
	int ret = -ENOMEM;

	pthread_mutex_lock(&proc->pin_lock);
	for (uint32_t n = 0; n < table->size; n++) {
		uint32_t i = table->next++ % table->size;

		if (table->slots[i] || table->owners[i])
			continue;
		table->slots[i] = obj;
		table->owners[i] = ctx;
		if (atomic_load_explicit(table->high, memory_order_relaxed) <= i)
			atomic_store_explicit(table->high, i + 1, memory_order_relaxed);
		ret = (int)i;
		break;
	}
	pthread_mutex_unlock(&proc->pin_lock);
	return ret;
}

void uodp_table_release(struct uodp_proc *proc, struct uodp_table *table, uint32_t index)
{
	pthread_mutex_lock(&proc->pin_lock);
	table->slots[index] = NULL;
	table->owners[index] = NULL;
	pthread_mutex_unlock(&proc->pin_lock);
}

void uodp_table_retire(struct uodp_proc *proc, struct uodp_table *table, uint32_t index)
{
	static struct ibv_context nobody;

	pthread_mutex_lock(&proc->pin_lock);
	table->slots[index] = NULL;
	table->owners[index] = &nobody;
	pthread_mutex_unlock(&proc->pin_lock);
}

void *uodp_table_find(struct uodp_proc *proc, struct uodp_table *table,
		      const struct ibv_context *ctx)
{
	void *obj = NULL;

	pthread_mutex_lock(&proc->pin_lock);
	for (uint32_t i = 0; i < table->size && !obj; i++)
		if (table->owners[i] == ctx)
			obj = table->slots[i];
	pthread_mutex_unlock(&proc->pin_lock);
	return obj;
}
