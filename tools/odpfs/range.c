/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Write-back against hole punching. The kernel writes a range back before it sends
 * FALLOCATE and drops its pages after the answer, but a page that is dirtied between
 * the two (through a mapping, by a transfer) can be written back in that time too: what
 * was there before would come back after the blocks are gone. So such data counts as
 * written before the punch: it is left out.
 */
#include <errno.h>
#include <pthread.h>

#include "odpfs.h"

/* The lock is held for list work alone; a taker waits for writes into the backing
 * file system only, and these wait for nobody. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t closed;
	struct range *first;
} open_ranges = {.lock = PTHREAD_MUTEX_INITIALIZER, .closed = PTHREAD_COND_INITIALIZER};

static const struct range *range_find(const struct range *of, bool taking)
{
	const struct range *r = open_ranges.first;

	for (; r; r = r->next)
		if (r->taking == taking && r->node == of->node && r->start < of->end &&
		    of->start < r->end)
			return r;
	return NULL;
}

static void range_link(struct range *range)
{
	range->next = open_ranges.first;
	open_ranges.first = range;
}

void range_take(struct range *range, const struct node *node, uint64_t start, uint64_t end)
{
	*range = (struct range){.node = node, .start = start, .end = end, .taking = true};
	pthread_mutex_lock(&open_ranges.lock);
	range_link(range);
	while (range_find(range, false))
		pthread_cond_wait(&open_ranges.closed, &open_ranges.lock);
	pthread_mutex_unlock(&open_ranges.lock);
}

void range_close(struct range *range)
{
	struct range **p = &open_ranges.first;

	pthread_mutex_lock(&open_ranges.lock);
	while (*p != range)
		p = &(*p)->next;
	*p = range->next;
	pthread_cond_broadcast(&open_ranges.closed);
	pthread_mutex_unlock(&open_ranges.lock);
}

/* The part of [*START, END) that may be written next; empty at the end. */
static void range_open_part(struct range *part, const struct node *node, uint64_t start,
			    uint64_t end)
{
	const struct range *taken;

	*part = (struct range){.node = node, .start = start, .end = end};
	pthread_mutex_lock(&open_ranges.lock);
	while (part->start < part->end && (taken = range_find(part, true))) {
		if (taken->start > part->start)
			part->end = taken->start;
		else if (taken->end < end)
			part->start = taken->end, part->end = end;
		else
			part->start = part->end = end;
	}
	range_link(part);
	pthread_mutex_unlock(&open_ranges.lock);
}

int range_write(const struct node *node, int fd, const char *buf, size_t size, off_t off)
{
	uint64_t at = (uint64_t)off, end = at + size;
	int err = 0;

	while (at < end && !err) {
		struct range part;

		range_open_part(&part, node, at, end);
		err = data_write(fd, buf + (part.start - (uint64_t)off), part.end - part.start,
				 (off_t)part.start);
		at = part.end;
		range_close(&part);
	}
	return err;
}
