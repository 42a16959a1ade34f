/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The file cm/services of a run directory: who has which rdma_cm service. services.c
 * changes it; uodprun --pair reads it, to see that a server listens.
 */
#ifndef UODP_CM_SERVICES_H
#define UODP_CM_SERVICES_H

#include <stdint.h>

#define CM_SERVICES_FILE "cm/services" /* below the run directory */
#define CM_SERVICES_MAGIC 0x756f6470636d0002ull
#define CM_SERVICES_BUCKETS 8192u
#define CM_SERVICES_RECORDS 65536u

/* Of a record's flags. */
enum cm_service_flags {
	CM_SERVICE_USED = 1,
	CM_SERVICE_LISTENS = 2,
	CM_SERVICE_REUSE = 4,
	CM_SERVICE_AFONLY = 8,
	CM_SERVICE_ANY = 16,
};

struct cm_service_record {
	uint64_t sid;
	uint8_t gid[16]; /* IPv4: mapped */
	uint64_t tag;    /* with PID: the node, see node.c */
	uint32_t pid;
	uint32_t flags;
	uint32_t next; /* index + 1 */
	uint16_t family;
	uint16_t pad[7];
};
_Static_assert(sizeof(struct cm_service_record) == 64, "one line a record");

struct cm_services {
	uint64_t magic;
	uint32_t hint; /* where the search for a free record begins */
	uint32_t pad[13];
	uint32_t buckets[CM_SERVICES_BUCKETS];
	struct cm_service_record records[CM_SERVICES_RECORDS];
};

#endif
