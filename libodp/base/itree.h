/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Intervals [start, last], found by overlap. A treap with the largest end below
 * each node; intervals may overlap and repeat. The caller locks and owns the
 * nodes; nothing is allocated.
 */
#ifndef ODP_ITREE_H
#define ODP_ITREE_H

#include <stdint.h>

struct odp_inode {
	struct odp_inode *child[2];
	uint64_t start, last; /* not changed while in a tree, but by odp_itree_resize() */
	uint64_t max;
	uint32_t prio;
};

struct odp_itree {
	struct odp_inode *root;
	uint32_t seed;
};

void odp_itree_insert(struct odp_itree *tree, struct odp_inode *node);
void odp_itree_remove(struct odp_itree *tree, struct odp_inode *node);
/* Take NODE out, give it new ends, put it back. */
void odp_itree_resize(struct odp_itree *tree, struct odp_inode *node, uint64_t start,
		      uint64_t last);
/* The first interval, by start, that overlaps [start, last]; the next after NODE. */
struct odp_inode *odp_itree_first(const struct odp_itree *tree, uint64_t start, uint64_t last);
struct odp_inode *odp_itree_next(const struct odp_itree *tree, const struct odp_inode *node,
				 uint64_t start, uint64_t last);
/* The interval with the greatest start that is not above AT. */
struct odp_inode *odp_itree_below(const struct odp_itree *tree, uint64_t at);

#endif
