/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Everything that is asked of libodp: which regions are on a file, and their recall. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <odp/odp.h>

#include "odpfs.h"

enum { STALE_TRIES = 1000, STALE_MS = 10 };

static struct odp_watch *watch; /* NULL: a plain file system */
static struct odp_proc *process;

int recall_options_check(const struct recall_options *options)
{
	enum odp_policy policy;

	if (options->policy && odp_policy_parse(options->policy, &policy)) {
		odpfs_note("there is no policy \"%s\"; they are: odp, pinned, scratch, revoke, "
			   "lease, kill, deny",
			   options->policy);
		return -EINVAL;
	}
	if (options->uodp && strcmp(options->uodp, "auto") && strcmp(options->uodp, "require") &&
	    strcmp(options->uodp, "off")) {
		odpfs_note("uodp= takes auto, require or off, not \"%s\"", options->uodp);
		return -EINVAL;
	}
	if (options->policy && options->uodp && strcmp(options->uodp, "require")) {
		odpfs_note("policy=%s cannot be kept with uodp=%s: it takes uodp=require",
			   options->policy, options->uodp);
		return -EINVAL;
	}
	return 0;
}

/* With libodp's lock. */
static void leased(void *arg, uint64_t ino)
{
	(void)arg;
	ahead_leased(ino);
}

static int watch_start(const struct recall_options *options)
{
	struct odp_watch_attr attr = {
		.dev = odpfs.dev, .lease_ms = options->lease_ms, .leased = leased};
	const struct timespec nap = {.tv_nsec = STALE_MS * 1000000};
	int err = odp_proc_get(&process);

	if (err)
		return err;
	if (options->policy)
		odp_policy_parse(options->policy, &attr.policy);
	err = odp_watch_create(process, &attr, &watch);
	/* The device number is ours now. Who still watches it has been unmounted, and ends. */
	for (int i = 0; err == -EEXIST && i < STALE_TRIES; i++) {
		nanosleep(&nap, NULL);
		err = odp_watch_create(process, &attr, &watch);
	}
	return err;
}

/* Starts threads. A policy that was named is kept, or there is no mount. */
int recall_attach(const struct recall_options *options)
{
	const char *uodp = options->policy ? "require" : options->uodp ? options->uodp : "auto";
	int err;

	if (!strcmp(uodp, "off"))
		return 0;
	err = watch_start(options);
	if (!err)
		return 0;
	if (!strcmp(uodp, "require")) {
		odpfs_note("cannot watch for memory regions (%s%s): %s",
			   options->policy ? "policy=" : "uodp=require",
			   options->policy ? options->policy : "", strerror(-err));
		return err;
	}
	odpfs_note("a plain file system, which knows of no memory regions: %s", strerror(-err));
	return 0;
}

void recall_detach(void)
{
	if (watch)
		odp_watch_destroy(watch);
	watch = NULL;
}

const char *recall_run(void)
{
	return watch ? odp_proc_dir(process) : NULL;
}

bool recall_waits(const struct node *node, uint64_t start, uint64_t end)
{
	return watch && odp_watch_policy(watch, attr_ino(node->dev, node->ino), start, end) !=
				ODP_POLICY_DEFAULT;
}

bool recall_leased(const struct node *node, off_t size)
{
	enum odp_policy policy = ODP_POLICY_DEFAULT;

	if (watch)
		policy = odp_watch_policy(watch, attr_ino(node->dev, node->ino), (uint64_t)size,
					  UINT64_MAX);
	/* What another one denies comes later, or not at all. */
	return policy >= ODP_POLICY_LEASE;
}

/* As truncate(2) says of leases: a signal ends the wait. */
static bool interrupted(void *req)
{
	return fuse_req_interrupted(req);
}

int recall_begin(const struct node *node, uint64_t start, uint64_t end, struct odp_recall *recall,
		 fuse_req_t req)
{
	if (!watch)
		return 0;
	return odp_recall_begin_unless(watch, attr_ino(node->dev, node->ino), start, end, recall,
				       interrupted, req);
}

int recall_await(const struct node *node, uint64_t start, uint64_t end, struct odp_recall *recall,
		 fuse_req_t req)
{
	return odp_recall_await(watch, attr_ino(node->dev, node->ino), start, end, recall,
				interrupted, req);
}

bool recall_end(struct odp_recall *recall)
{
	if (!watch)
		return false;
	odp_recall_end(watch, recall);
	return recall->stuck;
}

bool recall_settle(void)
{
	return !watch || odp_watch_settle(watch);
}
