/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory that the program has taken out of core dumps stays out when it moves to the
 * pool. Only smaps tells, which is slow to read, so nobody looks before the first
 * MADV_DONTDUMP.
 */
#include <stdio.h>
#include <string.h>

#include "mem.h"

static _Atomic bool noted;

ODP_EXPORT void odp_dump_note(void)
{
	/* relaxed: registration of that memory follows in the program's own order. */
	atomic_store_explicit(&noted, true, memory_order_relaxed);
}

bool odp_dump_left_out(uint64_t addr)
{
	unsigned long start, end;
	bool here = false, found = false, out = false;
	char line[512];
	FILE *f;

	if (!atomic_load_explicit(&noted, memory_order_relaxed))
		return false;
	f = odp_own_fopen("/proc/self/smaps");
	while (f && !found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %*4s", &start, &end) == 2)
			here = start <= addr && addr < end;
		found = here && !strncmp(line, "VmFlags:", 8);
		out = found && strstr(line, " dd");
	}
	if (f)
		fclose(f);
	return out;
}
