/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The interval tree against a plain list, with intervals that overlap and repeat. */
#include <stdlib.h>
#include <string.h>

#include "itree.h"
#include "suite.h"

#define NODES 300

static struct odp_inode nodes[NODES];
static int used[NODES];
static struct odp_itree tree;

static unsigned dice(unsigned n)
{
	return (unsigned)random() % n;
}

static int overlaps(const struct odp_inode *n, uint64_t start, uint64_t last)
{
	return n->start <= last && n->last >= start;
}

static void check_query(uint64_t start, uint64_t last)
{
	struct odp_inode *n, *prev = NULL;
	int want = 0, got = 0;

	for (int i = 0; i < NODES; i++)
		want += used[i] && overlaps(&nodes[i], start, last);
	for (n = odp_itree_first(&tree, start, last); n;
	     n = odp_itree_next(&tree, n, start, last)) {
		CU_ASSERT_FATAL(overlaps(n, start, last));
		CU_ASSERT_FATAL(!prev || prev->start <= n->start);
		CU_ASSERT_FATAL(used[n - nodes] && n != prev);
		prev = n;
		got++;
	}
	CU_ASSERT_EQUAL_FATAL(got, want);
}

static void check_below(uint64_t at)
{
	struct odp_inode *n = odp_itree_below(&tree, at);
	uint64_t best = 0;
	int any = 0;

	for (int i = 0; i < NODES; i++) {
		if (used[i] && nodes[i].start <= at && (!any || nodes[i].start > best)) {
			best = nodes[i].start;
			any = 1;
		}
	}
	CU_ASSERT_EQUAL_FATAL(n != NULL, any);
	if (n)
		CU_ASSERT_EQUAL_FATAL(n->start, best);
}

static void step(void)
{
	unsigned i = dice(NODES);

	if (!used[i]) {
		nodes[i].start = dice(1000);
		nodes[i].last = nodes[i].start + dice(dice(10) ? 20 : 800);
		odp_itree_insert(&tree, &nodes[i]);
		used[i] = 1;
	} else if (dice(3)) {
		uint64_t start = dice(1000);

		odp_itree_resize(&tree, &nodes[i], start, start + dice(50));
	} else {
		odp_itree_remove(&tree, &nodes[i]);
		used[i] = 0;
	}
}

static void test_random(void)
{
	for (int i = 0; i < 20000; i++) {
		uint64_t start = dice(1100);

		step();
		check_query(start, start + dice(60));
		check_below(dice(1100));
	}
}

static void test_ends(void)
{
	struct odp_itree t = {0};
	struct odp_inode all = {.start = 0, .last = UINT64_MAX};

	CU_ASSERT_PTR_NULL(odp_itree_first(&t, 0, UINT64_MAX));
	CU_ASSERT_PTR_NULL(odp_itree_below(&t, UINT64_MAX));
	odp_itree_insert(&t, &all);
	CU_ASSERT_PTR_EQUAL(odp_itree_first(&t, UINT64_MAX, UINT64_MAX), &all);
	CU_ASSERT_PTR_EQUAL(odp_itree_first(&t, 0, 0), &all);
	CU_ASSERT_PTR_NULL(odp_itree_next(&t, &all, 0, UINT64_MAX));
	odp_itree_remove(&t, &all);
	CU_ASSERT_PTR_NULL(odp_itree_first(&t, 0, UINT64_MAX));
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"random operations agree with a list", test_random},
		{"the ends of the number line", test_ends},
		CU_TEST_INFO_NULL,
	};

	srandom(4711);
	return suite_run("itree", tests);
}
