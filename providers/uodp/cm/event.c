/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Events that wait to be read, in the order in which they came. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"

struct cm_queued *event_new(struct cm_id *id, enum cm_event event, int status)
{
	struct cm_queued *q;

	/* A connection whose request has not been read, or was not accepted yet, has nobody
	 * to tell (ucma.c, ucma_event_handler()). */
	if (event != CM_CONNECT_REQUEST && (!id->uid || id->handle == UINT32_MAX))
		return NULL;
	q = calloc(1, sizeof(*q));
	if (!q)
		return NULL;
	q->id = id;
	q->resp.uid = id->uid;
	q->resp.id = id->handle;
	q->resp.event = event;
	q->resp.status = (uint32_t)status;
	return q;
}

void event_put(struct cm_queued *q)
{
	struct cm_file *file = q->id->file;

	q->next = NULL;
	*file->events_end = q;
	file->events_end = &q->next;
	file_ready(file, true);
}

int event_queue(struct cm_id *id, enum cm_event event, int status)
{
	struct cm_queued *q = event_new(id, event, status);

	if (!q)
		return -ENOMEM;
	event_put(q);
	return 0;
}

struct cm_queued *event_first(struct cm_file *file)
{
	return file->events;
}

static void unlink_at(struct cm_file *file, struct cm_queued **at)
{
	struct cm_queued *q = *at;

	*at = q->next;
	if (file->events_end == &q->next)
		file->events_end = at;
	if (!file->events)
		file_ready(file, false);
}

void event_pop(struct cm_file *file)
{
	struct cm_queued *q = file->events;

	q->id->events_reported++;
	if (q->mcast)
		q->mcast->events_reported++;
	unlink_at(file, &file->events);
	free(q);
}

void events_drop(struct cm_id *id)
{
	struct cm_file *file = id->file;
	struct cm_queued **at = &file->events, *q;

	while ((q = *at)) {
		if (q->id != id) {
			at = &q->next;
			continue;
		}
		unlink_at(file, at);
		/* A request that nobody has read goes with its listener. */
		if (q->new_id) {
			q->new_id->listener = NULL;
			id_destroy(q->new_id);
			at = &file->events; /* the list may have changed */
		}
		free(q);
	}
}

void events_drop_mcast(struct cm_mcast *mc)
{
	struct cm_file *file = mc->id->file;
	struct cm_queued **at = &file->events, *q;

	while ((q = *at)) {
		if (q->mcast == mc) {
			unlink_at(file, at);
			free(q);
		} else {
			at = &q->next;
		}
	}
}

void events_move(struct cm_id *id, struct cm_file *to)
{
	struct cm_file *from = id->file;
	struct cm_queued **at = &from->events, *q;

	while ((q = *at)) {
		if (q->id != id) {
			at = &q->next;
			continue;
		}
		unlink_at(from, at);
		if (q->new_id)
			q->new_id->file = to;
		q->next = NULL;
		*to->events_end = q;
		to->events_end = &q->next;
		file_ready(to, true);
	}
	id->file = to;
}
