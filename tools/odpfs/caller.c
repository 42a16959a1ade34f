/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What a caller may do that its user number does not tell. */
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "odpfs.h"

/* Capabilities of another user namespace are none here. */
static bool same_namespace(pid_t pid)
{
	struct stat ours, theirs;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	return !stat(path, &theirs) && !stat("/proc/self/ns/user", &ours) &&
	       ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

static unsigned long long effective(pid_t pid)
{
	unsigned long long caps = 0;
	char line[256];
	FILE *status;

	snprintf(line, sizeof(line), "/proc/%d/status", (int)pid);
	status = fopen(line, "re");
	while (status && fgets(line, sizeof(line), status))
		if (!strncmp(line, "CapEff:", 7))
			caps = strtoull(line + 7, NULL, 16);
	if (status)
		fclose(status);
	return caps;
}

/* It waits for our answer, so that PID is nobody else's meanwhile; 0 is somebody of a PID
 * namespace that we do not see. */
bool caller_is_admin(pid_t pid)
{
	return pid && effective(pid) >> CAP_SYS_ADMIN & 1 && same_namespace(pid);
}
