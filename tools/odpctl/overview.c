/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Without a subcommand: the sums, then the processes. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "devices.h"

struct overview {
	struct counts counts;
	uint64_t processes;
};

static void process_add(struct ctl *ctl, struct process *p, void *arg)
{
	struct overview *o = arg;

	(void)ctl;
	o->processes++;
	if (p->seg_fd >= 0)
		counts_add(&o->counts, p);
}

static void print_text(struct ctl *ctl, const struct overview *o, const struct devices *devs)
{
	const struct counts *c = &o->counts;
	unsigned i;

	printf("run directory       %s%s\n", ctl->dir, ctl->dir_fd < 0 ? " (not there yet)" : "");
	printf("devices            ");
	for (i = 0; i < devs->count; i++)
		printf(" %s", devs->list[i].name);
	printf("%s\n", devs->count ? "" : " none");
	printf("processes           %" PRIu64 "\n", o->processes);
	printf("queue pairs         %" PRIu64 " (%" PRIu64 " in RTS)\n", c->qps, c->qps_rts);
	printf("completion queues   %" PRIu64 "\n", c->cqs);
	printf("shared recv queues  %" PRIu64 "\n", c->srqs);
	printf("memory regions      %" PRIu64 " (%" PRIu64 " on demand)\n", c->mrs, c->mrs_odp);
	printf("pinned              %" PRIu64 " bytes\n", c->pinned);
	printf("on demand           %" PRIu64 " bytes\n", c->odp);
	printf("in pools            %" PRIu64 " bytes\n", c->pool);
	printf("page faults         %" PRIu64 "\n", c->page_faults);
	printf("page invalidations  %" PRIu64 "\n", c->page_invalidations);
}

static void print_json(struct ctl *ctl, const struct overview *o, const struct devices *devs)
{
	const struct counts *c = &o->counts;
	const struct {
		const char *key;
		uint64_t value;
	} sums[] = {
		{"processes", o->processes},
		{"qps", c->qps},
		{"qps_rts", c->qps_rts},
		{"cqs", c->cqs},
		{"srqs", c->srqs},
		{"mrs", c->mrs},
		{"mrs_odp", c->mrs_odp},
		{"pinned_bytes", c->pinned},
		{"odp_bytes", c->odp},
		{"pool_bytes", c->pool},
		{"page_faults", c->page_faults},
		{"page_invalidations", c->page_invalidations},
	};
	struct json_object *out = json_object_new_object(), *names = json_object_new_array();
	char dir[sizeof(ctl->dir)];
	unsigned i;

	text_clean(dir, sizeof(dir), ctl->dir, sizeof(dir));
	json_object_object_add(out, "dir", json_object_new_string(dir));
	for (i = 0; i < devs->count; i++)
		json_object_array_add(names, json_object_new_string(devs->list[i].name));
	json_object_object_add(out, "devices", names);
	for (i = 0; i < sizeof(sums) / sizeof(sums[0]); i++)
		json_object_object_add(out, sums[i].key, json_object_new_uint64(sums[i].value));
	puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
							 JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(out);
}

void overview_show(struct ctl *ctl)
{
	struct overview o = {.processes = 0};
	struct devices devs;

	domain_each(ctl, process_add, &o);
	ctl->quiet = true; /* the same again */
	devices_collect(ctl, &devs);
	if (ctl->json) {
		print_json(ctl, &o, &devs);
	} else {
		print_text(ctl, &o, &devs);
		if (o.processes) {
			putchar('\n');
			processes_show(ctl);
		}
	}
	devices_free(&devs);
}
