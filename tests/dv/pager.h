/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A pager: memory whose pages are in a compressed file, each by itself, and come to
 * memory when a transfer wants them.
 */
#ifndef TESTS_DV_PAGER_H
#define TESTS_DV_PAGER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <infiniband/uodpdv.h>

#define PAGER_PAGE 4096u

/* A compressed file: how many pages, where each begins (one more than there are),
 * the pages. */
int pager_file_make(const uint8_t *bytes, uint32_t pages); /* its descriptor, or -1 */
/* Damage PAGE's bytes in it. */
bool pager_file_spoil(int file, uint32_t page);

struct pager {
	struct uodpdv_fault_queue *queue;
	struct ibv_mr *mr;
	uint8_t *mem;
	uint32_t pages;
	int file, fd;
	pthread_t thread;
	_Atomic uint32_t served, refused; /* pages */
};

/* Register PAGES fresh pages, filled from FILE as they are wanted. */
bool pager_open(struct pager *p, struct ibv_pd *pd, int file, uint32_t pages, int access);
void pager_close(struct pager *p);

#endif
