/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Files that this process watches itself: who asks for them, and their recalls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "local.h"
#include "watch.h"

#define RETRY_NS 5000000
#define RETRY_LIMIT_NS 5000000000ull /* since a lease was broken */

/* ---- the watch ---- */

static struct odp_local *local_make(struct odp_mem *m)
{
	struct odp_local *l = odp_priv_alloc(sizeof(*l));

	if (!l)
		return NULL;
	l->mem = m;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	if (odp_watch_create_local(m->proc, &l->watch))
		goto err_free;
	if (odp_keeper_start(l))
		goto err_destroy_watch;
	return l;

err_destroy_watch:
	odp_watch_destroy(l->watch);
err_free:
	odp_priv_free(l, sizeof(*l));
	return NULL;
}

static struct odp_local *local_get(struct odp_mem *m)
{
	struct odp_local *l;

	/* acquire: pairs with the store below. */
	l = atomic_load_explicit(&m->local, memory_order_acquire);
	if (l)
		return l;
	pthread_mutex_lock(&m->conv_lock);
	l = atomic_load_explicit(&m->local, memory_order_relaxed);
	if (!l) {
		l = local_make(m);
		/* release: it is complete. */
		atomic_store_explicit(&m->local, l, memory_order_release);
	}
	pthread_mutex_unlock(&m->conv_lock);
	return l;
}

struct odp_watch_shm *odp_local_shm(struct odp_mem *m)
{
	struct odp_local *l = atomic_load_explicit(&m->local, memory_order_acquire);

	return l ? l->watch->shm : NULL;
}

/* ---- recalls ---- */

struct odp_local_event *odp_local_event_add(struct odp_local_file *f, uint64_t start, uint64_t end)
{
	struct odp_local_event *e;

	if (f->n == ODP_LOCAL_EVENTS)
		return NULL;
	e = &f->events[(f->first + f->n++) % ODP_LOCAL_EVENTS];
	memset(e, 0, sizeof(*e));
	e->start = start;
	e->end = end;
	e->fd = -1;
	pthread_cond_broadcast(&f->todo);
	return e;
}

/* lock, given up meanwhile */
static void event_recall(struct odp_local_file *f, struct odp_local_event *e)
{
	struct odp_local *l = f->local;
	struct odp_recall rc;
	int ret;

	pthread_mutex_unlock(&l->lock);
	ret = odp_recall_begin(l->watch, f->id, e->start, e->end, &rc);
	pthread_mutex_lock(&l->lock);
	e->ret = ret;
	e->state = ODP_LE_RECALLED;
	odp_local_wake(l);
	while (e->state != ODP_LE_DONE)
		pthread_cond_wait(&f->todo, &l->lock);
	if (!ret)
		odp_recall_end(l->watch, &rc);
	f->first = (f->first + 1) % ODP_LOCAL_EVENTS;
	f->n--;
}

static void *recaller_main(void *arg)
{
	struct odp_local_file *f = arg;
	struct odp_local *l = f->local;

	pthread_mutex_lock(&l->lock);
	while (f->n || !f->leaving) {
		if (f->n)
			event_recall(f, &f->events[f->first]);
		else
			pthread_cond_wait(&f->todo, &l->lock);
	}
	f->left = true;
	odp_local_wake(l);
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* ---- files (lock) ---- */

static struct odp_local_file *file_make(struct odp_local *l, const struct odp_part *p)
{
	struct odp_local_file *f = odp_priv_alloc(sizeof(*f)), **last = &l->files;
	pthread_t th;

	if (!f)
		return NULL;
	f->local = l;
	f->id = ++l->ids;
	f->dev = p->dev;
	f->ino = p->ino;
	f->fd = -1;
	pthread_cond_init(&f->todo, NULL);
	if (odp_local_thread(&th, recaller_main, f, "uodp-recall")) {
		odp_priv_free(f, sizeof(*f));
		return NULL;
	}
	/* Behind its predecessor, whose mark goes first. */
	while (*last)
		last = &(*last)->next;
	*last = f;
	return f;
}

static struct odp_local_file *file_get(struct odp_local *l, const struct odp_part *p)
{
	struct odp_local_file *f = l->files;

	while (f && (f->dev != p->dev || f->ino != p->ino || f->left))
		f = f->next;
	if (!f)
		f = file_make(l, p);
	if (!f)
		return NULL;
	f->refs++;
	f->leaving = false;
	return f;
}

static void file_put(struct odp_local_file *f)
{
	if (--f->refs)
		return;
	f->leaving = true;
	pthread_cond_broadcast(&f->todo);
}

struct answer {
	int err, fan_err;
	bool sealed;
	uint32_t lost;
};

/* lock, given up meanwhile */
static void file_ask(struct odp_local_file *f, const struct odp_part *p, struct answer *answer)
{
	struct odp_local *l = f->local;

	while (f->asking)
		pthread_cond_wait(&l->changed, &l->lock);
	f->asking = true;
	f->map_start = p->map_start;
	f->map_end = p->map_end;
	f->deny = p->policy == ODP_POLICY_DENY;
	f->asked++;
	odp_local_wake(l);
	while (f->answered != f->asked)
		pthread_cond_wait(&l->changed, &l->lock);
	*answer = (struct answer){f->err, f->fan_err, f->sealed, f->lost_then};
	f->asking = false;
	pthread_cond_broadcast(&l->changed);
}

/* Whoever broke a lease has the file for himself until he is done with it. */
static void file_ask_patiently(struct odp_local_file *f, const struct odp_part *p,
			       struct answer *answer)
{
	const struct timespec nap = {.tv_nsec = RETRY_NS};
	struct odp_local *l = f->local;
	uint64_t limit;

	file_ask(f, p, answer);
	limit = l->lost_at ? l->lost_at + RETRY_LIMIT_NS : 0;
	while (answer->err == -EAGAIN && odp_now() < limit) {
		pthread_mutex_unlock(&l->lock);
		nanosleep(&nap, NULL);
		pthread_mutex_lock(&l->lock);
		file_ask(f, p, answer);
	}
}

/* ---- why not ---- */

static const char *fan_reason(int err)
{
	switch (err) {
	case -EPERM:
		return "it takes CAP_SYS_ADMIN";
	case -EINVAL:
		return "it takes Linux 6.14";
	case -EOPNOTSUPP:
		return "this file system has none";
	case -ETXTBSY:
		return "another process has opened the file to write before";
	default:
		return strerrordesc_np(-err);
	}
}

static const char *lease_reason(int err)
{
	switch (err) {
	case -EAGAIN:
		return "the file is open more than once";
	case -EBADF:
		return "no descriptor of the file is open here";
	case -EACCES:
		return "the file is another user's";
	case -EBUSY:
		return "there is one already";
	case -EINVAL:
		return "this file system has none";
	default:
		return strerrordesc_np(-err);
	}
}

static const char *seal_reason(int err)
{
	switch (err) {
	case -EINVAL:
		return "no memfd";
	case -EPERM:
		return "not made with MFD_ALLOW_SEALING, or not open to write";
	default:
		return lease_reason(err);
	}
}

static int refuse(const struct odp_part *p, int fan_err, int err)
{
	bool deny = p->policy == ODP_POLICY_DENY;

	odp_log(ODP_LOG_ERR,
		"%#lx: policy %s: this file cannot be watched: no fanotify (%s), no %s (%s): put "
		"it on odpfs, or name another policy",
		(long)p->start, odp_policy_name(p->policy), fan_reason(fan_err),
		deny ? "seal" : "lease", deny ? seal_reason(err) : lease_reason(err));
	return -EOPNOTSUPP;
}

/* ---- for regions ---- */

static int part_take(struct odp_local *l, struct odp_part *p)
{
	struct answer answer = {.err = -ENOMEM};
	struct odp_local_file *f;

	pthread_mutex_lock(&l->lock);
	f = file_get(l, p);
	if (f) {
		file_ask_patiently(f, p, &answer);
		if (answer.err || answer.sealed)
			file_put(f);
	}
	pthread_mutex_unlock(&l->lock);
	if (answer.err == -ENOMEM || answer.err == -ESTALE)
		return answer.err;
	if (answer.err)
		return refuse(p, answer.fan_err, answer.err);
	if (answer.sealed)
		return 0; /* nothing will happen that one would have to hear of */
	p->local = f;
	p->local_lost = answer.lost;
	p->watch = ODP_WATCH_LOCAL;
	return 0;
}

int odp_local_get(struct odp_mem *m, struct odp_part *p)
{
	struct odp_local *l = local_get(m);

	if (!l) {
		odp_log(ODP_LOG_ERR, "%#lx: policy %s: no thread or memory to watch files with",
			(long)p->start, odp_policy_name(p->policy));
		return -ENOMEM;
	}
	/* A second mapping of the file, which the kernel keeps true, is all it takes. */
	if (p->policy == ODP_POLICY_ODP && p->shared) {
		p->watch = ODP_WATCH_LOCAL;
		return 0;
	}
	return part_take(l, p);
}

void odp_local_put(struct odp_local_file *f)
{
	struct odp_local *l = f->local;

	pthread_mutex_lock(&l->lock);
	file_put(f);
	pthread_mutex_unlock(&l->lock);
}

uint32_t odp_local_lost(struct odp_local_file *f)
{
	uint32_t lost;

	pthread_mutex_lock(&f->local->lock);
	lost = f->lost;
	pthread_mutex_unlock(&f->local->lock);
	return lost;
}

uint64_t odp_local_id(const struct odp_local_file *f)
{
	return f ? f->id : 0;
}

uint32_t odp_local_lease_cap(struct odp_local_file *f)
{
	bool lease;

	pthread_mutex_lock(&f->local->lock);
	lease = f->way == ODP_LOCAL_LEASE;
	pthread_mutex_unlock(&f->local->lock);
	return lease ? odp_lease_cap_ms() : 0;
}
