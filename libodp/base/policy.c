/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Policies by name, and what the environment says of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

#define LEASE_MS_MAX 3600000ul

static const char *const names[] = {
	[ODP_POLICY_DEFAULT] = "default", [ODP_POLICY_ODP] = "odp",
	[ODP_POLICY_PINNED] = "pinned",   [ODP_POLICY_SCRATCH] = "scratch",
	[ODP_POLICY_REVOKE] = "revoke",   [ODP_POLICY_LEASE] = "lease",
	[ODP_POLICY_KILL] = "kill",       [ODP_POLICY_DENY] = "deny",
};

ODP_EXPORT int odp_policy_parse(const char *name, enum odp_policy *policy)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(name, names[i]))
			continue;
		*policy = (enum odp_policy)i;
		return 0;
	}
	return -EINVAL;
}

ODP_EXPORT const char *odp_policy_name(enum odp_policy policy)
{
	return (unsigned)policy < sizeof(names) / sizeof(*names) ? names[policy] : "?";
}

static enum odp_policy env_policy;
static uint32_t env_lease_ms;
static pthread_once_t env_once = PTHREAD_ONCE_INIT;

static void env_read(void)
{
	const char *policy = secure_getenv("UODP_POLICY"), *ms = secure_getenv("UODP_LEASE_MS");
	unsigned long n;
	char *end;

	if (policy && *policy && odp_policy_parse(policy, &env_policy))
		odp_log(ODP_LOG_WARN,
			"UODP_POLICY=%.32s is none of odp, pinned, scratch, revoke, lease, kill, "
			"deny: not used",
			policy);
	if (!ms || !*ms)
		return;
	n = strtoul(ms, &end, 10);
	if (*end || *ms == '-' || !n || n > LEASE_MS_MAX)
		odp_log(ODP_LOG_WARN, "UODP_LEASE_MS=%.32s is not 1 to %lu: not used", ms,
			LEASE_MS_MAX);
	else
		env_lease_ms = (uint32_t)n;
}

enum odp_policy odp_policy_env(void)
{
	pthread_once(&env_once, env_read);
	return env_policy;
}

uint32_t odp_lease_env(void)
{
	pthread_once(&env_once, env_read);
	return env_lease_ms;
}
