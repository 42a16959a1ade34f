/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <stdbool.h>
#include <stddef.h>

#include "base.h"
#include "itree.h"

/* Order: start, then the node's own address, so that equal intervals have one. */
static bool node_before(const struct odp_inode *a, const struct odp_inode *b)
{
	if (a->start != b->start)
		return a->start < b->start;
	return (uintptr_t)a < (uintptr_t)b;
}

static void node_update(struct odp_inode *n)
{
	n->max = n->last;
	for (int i = 0; i < 2; i++)
		if (n->child[i] && n->child[i]->max > n->max)
			n->max = n->child[i]->max;
}

static uint32_t tree_random(struct odp_itree *tree)
{
	uint32_t x = tree->seed ? tree->seed : 2463534242u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return tree->seed = x;
}

/* All of the left half comes before NODE, all of the right half after it. */
static void node_split(struct odp_inode *t, const struct odp_inode *node, struct odp_inode **left,
		       struct odp_inode **right)
{
	if (!t) {
		*left = *right = NULL;
	} else if (node_before(t, node)) {
		node_split(t->child[1], node, &t->child[1], right);
		*left = t;
		node_update(t);
	} else {
		node_split(t->child[0], node, left, &t->child[0]);
		*right = t;
		node_update(t);
	}
}

static struct odp_inode *node_merge(struct odp_inode *a, struct odp_inode *b)
{
	if (!a || !b)
		return a ? a : b;
	if (a->prio > b->prio) {
		a->child[1] = node_merge(a->child[1], b);
		node_update(a);
		return a;
	}
	b->child[0] = node_merge(a, b->child[0]);
	node_update(b);
	return b;
}

static struct odp_inode *node_insert(struct odp_inode *t, struct odp_inode *node)
{
	if (!t || node->prio > t->prio) {
		node_split(t, node, &node->child[0], &node->child[1]);
		node_update(node);
		return node;
	}
	if (node_before(node, t))
		t->child[0] = node_insert(t->child[0], node);
	else
		t->child[1] = node_insert(t->child[1], node);
	node_update(t);
	return t;
}

static struct odp_inode *node_remove(struct odp_inode *t, struct odp_inode *node)
{
	if (!t)
		return NULL;
	if (t == node)
		return node_merge(t->child[0], t->child[1]);
	if (node_before(node, t))
		t->child[0] = node_remove(t->child[0], node);
	else
		t->child[1] = node_remove(t->child[1], node);
	node_update(t);
	return t;
}

void odp_itree_insert(struct odp_itree *tree, struct odp_inode *node)
{
	node->child[0] = node->child[1] = NULL;
	node->prio = tree_random(tree);
	node_update(node);
	tree->root = node_insert(tree->root, node);
}

void odp_itree_remove(struct odp_itree *tree, struct odp_inode *node)
{
	tree->root = node_remove(tree->root, node);
}

void odp_itree_resize(struct odp_itree *tree, struct odp_inode *node, uint64_t start, uint64_t last)
{
	odp_itree_remove(tree, node);
	node->start = start;
	node->last = last;
	odp_itree_insert(tree, node);
}

/* The first overlap below T that comes after AFTER (NULL: any). */
static struct odp_inode *node_first(struct odp_inode *t, const struct odp_inode *after,
				    uint64_t start, uint64_t last)
{
	struct odp_inode *found;

	if (!t || t->max < start)
		return NULL;
	if (after && !node_before(after, t))
		return node_first(t->child[1], after, start, last);
	found = node_first(t->child[0], after, start, last);
	if (found || t->start > last)
		return found;
	if (t->last >= start)
		return t;
	return node_first(t->child[1], after, start, last);
}

struct odp_inode *odp_itree_first(const struct odp_itree *tree, uint64_t start, uint64_t last)
{
	return node_first(tree->root, NULL, start, last);
}

struct odp_inode *odp_itree_next(const struct odp_itree *tree, const struct odp_inode *node,
				 uint64_t start, uint64_t last)
{
	return node_first(tree->root, node, start, last);
}

struct odp_inode *odp_itree_below(const struct odp_itree *tree, uint64_t at)
{
	struct odp_inode *t = tree->root, *best = NULL;

	while (t) {
		if (t->start <= at) {
			best = t;
			t = t->child[1];
		} else {
			t = t->child[0];
		}
	}
	return best;
}
