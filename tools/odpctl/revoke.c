/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Ending the access through regions on a file: acts, and so attaches (plug.c). */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include <odp/odp.h>

#include "odpctl.h"

struct revocation {
	struct odp_proc *proc;
	struct mappings on;
	unsigned processes, mrs;
};

static void process_revoke(struct ctl *ctl, struct process *p, void *arg)
{
	const struct odp_mr_shm *mr;
	struct revocation *r = arg;
	unsigned before = r->mrs;
	struct odp_peer *peer;
	struct scan s;
	int ret;

	mappings_find(ctl, p, &r->on);
	if (!r->on.n)
		return;
	ret = odp_peer_get(r->proc, p->slot, &peer);
	if (ret) {
		ctl_incomplete(ctl, "process %d: cannot be reached: %s", (int)p->pid,
			       strerror(-ret));
		return;
	}
	scan_begin(&s, p, offsetof(struct odp_seg, mrs), sizeof(*mr), p->regions,
		   offsetof(struct odp_mr_shm, key));
	while ((mr = scan_next_mr(&s)))
		if (mappings_hold(&r->on, mr->addr, mr->length))
			r->mrs += !odp_peer_revoke_key(r->proc, peer, mr->key);
	r->processes += r->mrs > before;
}

void revoke_run(struct ctl *ctl)
{
	struct revocation r = {0};
	int ret = ctl->attached ? odp_proc_get(&r.proc) : 0;

	if (ret)
		ctl_die(ctl, "cannot attach: %s", strerror(-ret));
	if (ctl->attached)
		domain_each(ctl, process_revoke, &r);
	mappings_free(&r.on);
	if (ctl->json) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "processes", json_object_new_int64(r.processes));
		json_object_object_add(o, "mrs", json_object_new_int64(r.mrs));
		puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_SPACED));
		json_object_put(o);
	} else {
		printf("revoked; processes: %u, memory regions: %u\n", r.processes, r.mrs);
	}
}
