/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "pager.h"

#define MESSAGES 64

/* ---- the file ---- */

int pager_file_make(const uint8_t *bytes, uint32_t pages)
{
	uint64_t head[2] = {pages, 0}, at = (pages + 2) * sizeof(uint64_t);
	int fd = memfd_create("compressed", MFD_CLOEXEC);
	uint8_t out[2 * PAGER_PAGE];

	if (fd < 0 || pwrite(fd, head, 8, 0) != 8)
		return -1;
	for (uint32_t i = 0; i < pages; i++) {
		uLongf n = sizeof(out);

		if (compress2(out, &n, bytes + (size_t)i * PAGER_PAGE, PAGER_PAGE, 9) != Z_OK ||
		    pwrite(fd, out, n, (off_t)at) != (ssize_t)n ||
		    pwrite(fd, &at, 8, 8 + i * 8) != 8)
			return -1;
		at += n;
	}
	return pwrite(fd, &at, 8, 8 + pages * 8) == 8 ? fd : -1;
}

static bool place_get(int file, uint32_t page, uint64_t place[2])
{
	uint64_t pages;

	return pread(file, &pages, 8, 0) == 8 && page < pages &&
	       pread(file, place, 16, 8 + page * 8) == 16 && place[1] > place[0] &&
	       place[1] - place[0] <= 2 * PAGER_PAGE;
}

bool pager_file_spoil(int file, uint32_t page)
{
	uint64_t place[2];

	return place_get(file, page, place) &&
	       pwrite(file, "spoiled", 7, (off_t)(place[1] - 8)) == 7;
}

static bool page_get(int file, uint32_t page, uint8_t *to)
{
	uint8_t in[2 * PAGER_PAGE];
	uLongf n = PAGER_PAGE;
	uint64_t place[2];

	return place_get(file, page, place) &&
	       pread(file, in, place[1] - place[0], (off_t)place[0]) ==
		       (ssize_t)(place[1] - place[0]) &&
	       uncompress(to, &n, in, place[1] - place[0]) == Z_OK && n == PAGER_PAGE;
}

/* ---- the pager ---- */

/* What was there before the page was forgotten by the device is newer. */
static bool page_serve(struct pager *p, const struct uodpdv_fault_msg *m)
{
	uint8_t page[PAGER_PAGE];
	bool ok = page_get(p->file, (uint32_t)((m->addr - m->context) / PAGER_PAGE), page);

	if (ok)
		memcpy((void *)(uintptr_t)m->addr, page, sizeof(page));
	atomic_fetch_add_explicit(ok ? &p->served : &p->refused, 1, memory_order_relaxed);
	return ok;
}

/* All pages of a group, then one answer. */
static void *pager_main(void *arg)
{
	struct uodpdv_fault_msg m[MESSAGES];
	struct pager *p = arg;
	bool ok = true;
	ssize_t n;

	while ((n = read(p->fd, m, sizeof(m))) > 0) {
		for (size_t i = 0; i < (size_t)n / sizeof(*m); i++) {
			struct uodpdv_fault_response r = {.cookie = m[i].cookie};

			ok &= page_serve(p, &m[i]);
			if (!(m[i].flags & UODPDV_FAULT_LAST))
				continue;
			r.code = ok ? UODPDV_FAULT_SUCCESS : UODPDV_FAULT_INVALID;
			ok = true;
			/* EINVAL: the MR has ended meanwhile. */
			if (write(p->fd, &r, sizeof(r)) < 0)
				continue;
		}
	}
	return NULL;
}

bool pager_open(struct pager *p, struct ibv_pd *pd, int file, uint32_t pages, int access)
{
	struct uodpdv_fault_queue_attr qa = {.group_pages = 8};
	struct uodpdv_fault_attach_attr a = {0};

	memset(p, 0, sizeof(*p));
	p->file = file;
	p->pages = pages;
	p->mem = mmap(NULL, (size_t)pages * PAGER_PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->mem == MAP_FAILED)
		return false;
	a.context = (uintptr_t)p->mem;
	p->mr = ibv_reg_mr(pd, p->mem, (size_t)pages * PAGER_PAGE, access | IBV_ACCESS_ON_DEMAND);
	p->queue = uodpdv_create_fault_queue(pd->context, &qa, sizeof(qa));
	p->fd = p->queue ? p->queue->fd : -1;
	return p->mr && p->queue && !uodpdv_attach_fault_queue(p->mr, p->queue, &a, sizeof(a)) &&
	       !pthread_create(&p->thread, NULL, pager_main, p);
}

void pager_close(struct pager *p)
{
	/* The thread's read() ends with the queue; the descriptor must be there still. */
	p->queue->fd = -1;
	ibv_dereg_mr(p->mr);
	uodpdv_destroy_fault_queue(p->queue);
	pthread_join(p->thread, NULL);
	close(p->fd);
	munmap(p->mem, (size_t)p->pages * PAGER_PAGE);
}
