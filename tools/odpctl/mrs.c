/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Memory regions; names as in `rdma resource show mr`, `rdma statistic show mr`. */
#include <json-c/json.h>

#include "odpctl.h"

enum {
	M_PID,
	M_COMM,
	M_MRN,
	M_LKEY,
	M_RKEY,
	M_PDN,
	M_KIND,
	M_BACKING,
	M_SEEN,
	M_ADDR,
	M_IOVA,
	M_MRLEN,
	M_ACCESS,
	M_POLICY,
	M_REVOKED,
	M_PAGES,
	M_VALID,
	M_FAULTS,
	M_FAULTS_HANDLED,
	M_INVALS,
	M_INVALS_HANDLED,
	M_PREFETCH,
	M_COLUMNS
};

static const struct column columns[M_COLUMNS] = {
	[M_PID] = {"pid", "PID", COLUMN_NUM, 0},
	[M_COMM] = {"comm", NULL, COLUMN_TEXT, 0},
	[M_MRN] = {"mrn", NULL, COLUMN_NUM, 0},
	[M_LKEY] = {"lkey", "LKEY", COLUMN_HEX, 0},
	[M_RKEY] = {"rkey", NULL, COLUMN_HEX, 0},
	[M_PDN] = {"pdn", "PDN", COLUMN_NUM, 0},
	[M_KIND] = {"kind", "KIND", COLUMN_TEXT, 0},
	[M_BACKING] = {"backing", "BACK", COLUMN_TEXT, 0},
	[M_SEEN] = {"seen", "SEEN", COLUMN_TEXT, 0},
	[M_ADDR] = {"addr", "ADDR", COLUMN_ADDR, 0},
	[M_IOVA] = {"iova", "IOVA", COLUMN_ADDR, 0},
	[M_MRLEN] = {"mrlen", "MRLEN", COLUMN_NUM, 0},
	[M_ACCESS] = {"access", "ACC", COLUMN_TEXT, 0},
	[M_POLICY] = {"policy", "POLICY", COLUMN_TEXT, 0},
	[M_REVOKED] = {"revoked", "REVOKED", COLUMN_TEXT, 0},
	[M_PAGES] = {"pages", "PAGES", COLUMN_NUM, 0},
	[M_VALID] = {"pages_valid", "VALID", COLUMN_NUM, 0},
	[M_FAULTS] = {"page_faults", "FAULTS", COLUMN_NUM, 0},
	[M_FAULTS_HANDLED] = {"page_faults_handled", "HANDLED", COLUMN_NUM, 0},
	[M_INVALS] = {"page_invalidations", "INVALS", COLUMN_NUM, 0},
	[M_INVALS_HANDLED] = {"page_invalidations_handled", "HANDLED", COLUMN_NUM, 0},
	[M_PREFETCH] = {"page_prefetch", "PREF", COLUMN_NUM, 0},
};

/* Above this a region's entries are not looked through for its backing. */
#define SCAN_PAGES ((uint64_t)1 << 18)

struct mrs {
	struct table t;
	bool iova_differs, policies, revoked;
	struct mappings on; /* the file, if one is named */
};

/* What the entries say; 0 when they say nothing, or more than one thing. */
static odp_entry_t entries_where(const struct process *p, const struct odp_mr_shm *mr, bool *mixed)
{
	odp_entry_t buf[512], where = 0;
	uint64_t at, n, i;

	*mixed = false;
	if (mr->npages > SCAN_PAGES || mr->xlat < ODP_ARENA_OFF || mr->xlat > ODP_SEG_SIZE)
		return 0;
	for (at = 0; at < mr->npages && !*mixed; at += n) {
		n = mr->npages - at < 512 ? mr->npages - at : 512;
		if (!process_read(p, mr->xlat + at * sizeof(buf[0]), buf, n * sizeof(buf[0])))
			return 0;
		for (i = 0; i < n; i++) {
			*mixed |=
				where && (buf[i] & ODP_E_WHERE) && where != (buf[i] & ODP_E_WHERE);
			where |= buf[i] & ODP_E_WHERE;
		}
	}
	return where;
}

static const char *backing_name(const struct process *p, const struct odp_mr_shm *mr)
{
	bool mixed;
	odp_entry_t where = entries_where(p, mr, &mixed);

	if (mixed)
		return "mixed";
	if (mr->backing == ODP_BACKING_FD)
		return "fd";
	if (where == ODP_E_POOL || (!where && mr->backing == ODP_BACKING_POOL))
		return "pool";
	if (where == ODP_E_VA || (!where && mr->backing == ODP_BACKING_VA))
		return "va";
	if (where == ODP_E_PIN || (!where && mr->backing == ODP_BACKING_PIN))
		return "pin";
	return "?";
}

/* How it hears that its pages go. */
static const char *seen_name(const struct odp_mr_shm *mr)
{
	if (mr->seen & ODP_SEEN_KERNEL)
		return "kernel";
	if (mr->seen & ODP_SEEN_CALLS)
		return "calls";
	return mr->seen & ODP_SEEN_ACCESS ? "access" : NULL;
}

static const char *kind_name(uint8_t kind)
{
	return kind == ODP_PINNED      ? "pinned"
	       : kind == ODP_ON_DEMAND ? "odp"
	       : kind == ODP_NULL      ? "null"
				       : "?";
}

static void row_access(struct table *t, const struct odp_mr_shm *mr)
{
	static const struct {
		uint32_t bit;
		char letter;
		const char *name;
	} flags[] = {
		{ODP_ACCESS_LOCAL_WRITE, 'l', "local_write"},
		{ODP_ACCESS_REMOTE_WRITE, 'w', "remote_write"},
		{ODP_ACCESS_REMOTE_READ, 'r', "remote_read"},
		{ODP_ACCESS_REMOTE_ATOMIC, 'a', "remote_atomic"},
		{ODP_ACCESS_BIND, 'b', "mw_bind"},
	};
	struct json_object *names = t->json ? json_object_new_array() : NULL;
	char text[6] = "----"; /* and a fifth, which is rare */

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (!(mr->access & flags[i].bit))
			continue;
		text[i] = flags[i].letter;
		if (names)
			json_object_array_add(names, json_object_new_string(flags[i].name));
	}
	table_both(t, M_ACCESS, text, names);
}

static void row_counters(struct table *t, const struct odp_mr_shm *mr)
{
	if (!(mr->flags & ODP_MR_IMPLICIT))
		table_num(t, M_PAGES,
			  ((mr->addr & (ODP_PAGE_SIZE - 1)) + mr->length + ODP_PAGE_SIZE - 1) >>
				  ODP_PAGE_SHIFT);
	table_num(t, M_VALID, mr->pages_valid);
	table_num(t, M_FAULTS, mr->page_faults);
	table_num(t, M_FAULTS_HANDLED, mr->page_faults_handled);
	table_num(t, M_INVALS, mr->page_invalidations);
	table_num(t, M_INVALS_HANDLED, mr->page_invalidations_handled);
	table_num(t, M_PREFETCH, mr->page_prefetch);
}

/* What becomes of it when blocks of its files go away, and whether that was so. */
static void row_policy(struct mrs *mrs, const struct odp_mr_shm *mr)
{
	enum odp_policy policy = (enum odp_policy)(mr->flags >> ODP_MR_POLICY);
	bool revoked = mr->flags & ODP_MR_REVOKED;

	if (policy)
		table_text(&mrs->t, M_POLICY, odp_policy_name(policy));
	table_both(&mrs->t, M_REVOKED, revoked ? "yes" : "no",
		   mrs->t.json ? json_object_new_boolean(revoked) : NULL);
	mrs->policies |= policy;
	mrs->revoked |= revoked;
}

static void mr_row(struct mrs *mrs, const struct process *p, const struct odp_mr_shm *mr)
{
	struct table *t = &mrs->t;

	mrs->iova_differs |= mr->iova != mr->addr;
	table_num(t, M_PID, (uint64_t)p->pid);
	table_text(t, M_COMM, p->comm);
	table_num(t, M_MRN, mr->key >> 8);
	table_num(t, M_LKEY, mr->key);
	table_num(t, M_RKEY, mr->key);
	table_num(t, M_PDN, mr->pd);
	table_text(t, M_KIND, kind_name(mr->kind));
	table_text(t, M_BACKING, backing_name(p, mr));
	if (seen_name(mr))
		table_text(t, M_SEEN, seen_name(mr));
	table_num(t, M_ADDR, mr->addr);
	table_num(t, M_IOVA, mr->iova);
	table_num(t, M_MRLEN, mr->length);
	row_access(t, mr);
	row_policy(mrs, mr);
	row_counters(t, mr);
	table_row(t);
}

static void process_mrs(struct ctl *ctl, struct process *p, void *arg)
{
	const struct odp_mr_shm *mr;
	struct mrs *mrs = arg;
	struct scan s;

	scan_begin(&s, p, offsetof(struct odp_seg, mrs), sizeof(*mr), p->regions,
		   offsetof(struct odp_mr_shm, key));
	if (ctl->file.path)
		mappings_find(ctl, p, &mrs->on);
	while ((mr = scan_next_mr(&s)))
		if (!ctl->file.path || mappings_hold(&mrs->on, mr->addr, mr->length))
			mr_row(mrs, p, mr);
}

void mrs_show(struct ctl *ctl)
{
	struct mrs mrs = {.iova_differs = false};

	table_begin(&mrs.t, ctl, columns, M_COLUMNS);
	domain_each(ctl, process_mrs, &mrs);
	/* Rarely asked for, and it makes the lines long. */
	mrs.t.hidden[M_IOVA] = !mrs.iova_differs;
	mrs.t.hidden[M_POLICY] = !mrs.policies;
	mrs.t.hidden[M_REVOKED] = !mrs.revoked;
	table_end(&mrs.t);
	mappings_free(&mrs.on);
}
