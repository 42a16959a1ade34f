/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What watch.c and recall.c share: the regions on watched files, by inode. */
#ifndef ODP_WATCH_H
#define ODP_WATCH_H

#include "pool.h"

#define ODP_WATCH_BUCKETS 4096u

/* A part of some process's region, as its owner told of it: a private copy, which
 * is trusted no more than the owner could have lied then. */
struct odp_node {
	struct odp_inode it; /* bytes of the file */
	struct odp_ino *ino;
	struct odp_peer *peer;
	uint32_t index; /* of the record */
	uint32_t key;
	uint64_t page, npages, spare;
	uint32_t lease_ms;
	enum odp_policy policy;
	unsigned users; /* recalls that act on it without the lock */
	bool gone;      /* to be freed by the last user */
	bool waits;     /* in the list of the deferred */
	bool told;      /* of a lease, which ends at */
	bool revoked;
	uint64_t deadline;
	struct odp_node *deferred; /* next whose record waits for a recall's end */
};

/* Reads pages of other processes that are not mapped there (save.c). */
struct odp_saver {
	pthread_t thread;
	pthread_mutex_t lock; /* all of it but BUF and GOOD while a read is under way */
	pthread_cond_t changed;
	enum { ODP_SAVER_IDLE, ODP_SAVER_ASKED, ODP_SAVER_DONE } state;
	bool abandoned; /* nobody waits for what is under way */
	bool stop;
	bool good;
	pid_t pid;
	uint64_t addr;
	char buf[ODP_PAGE_SIZE];
};

/* The serial number of the watch that a process is to itself. */
#define ODP_WATCH_LOCAL UINT32_MAX

struct odp_ino {
	uint64_t nr;
	struct odp_itree tree;
	unsigned nodes;
	struct odp_ino *next;
};

/* What is known of a process. */
struct odp_owner {
	struct odp_peer *peer;
	struct odp_node **nodes; /* by the record's index */
	uint32_t tail;           /* announcements read */
	unsigned frozen;         /* freezers of this watch; under lock */
};

/*
 * Locks: LOCK guards all of it but SERIAL and INDEX, and is held for look-ups and
 * stores only: not while a process's memory is read, nor a lane waited for. So
 * whoever serves the file system may take it at any time.
 */
struct odp_watch {
	struct odp_proc *proc;
	struct odp_watch_shm *shm;
	unsigned index;
	uint32_t serial;
	bool local; /* of this process alone: the record is private */
	uint32_t lease_ms;
	void (*leased)(void *arg, uint64_t ino); /* NULL: nobody asks */
	void *leased_arg;
	pthread_t thread;
	struct odp_saver saver;
	_Atomic bool stop;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a node has gone, or a lease's owner */
	struct odp_recall *recalls;
	struct odp_node *deferred;
	struct odp_ino *buckets[ODP_WATCH_BUCKETS];
	struct odp_owner owners[ODP_MAX_PROCS];
};

/* A condition that is waited for by the clock of odp_now(), which nobody sets. */
void odp_cond_init(pthread_cond_t *cond);
/* False: it is UNTIL already. */
bool odp_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t until);

/* The inode's regions, NULL when it has none (lock). */
struct odp_ino *odp_ino_find(struct odp_watch *w, uint64_t nr);
struct odp_file_shm *odp_node_record(const struct odp_node *node);
/* Is there still a region, of a process that lives? (any thread) */
bool odp_node_live(const struct odp_node *node);
/* Done with a node that was counted as used (lock). */
void odp_node_put(struct odp_watch *w, struct odp_node *node);
/* Take notice of all that was registered before, by processes that are attached (lock).
 * 0 or -ENOMEM: some are not known. */
int odp_news_catch(struct odp_watch *w);
/* A watch of this process's own regions, of serial ODP_WATCH_LOCAL. */
int odp_watch_create_local(struct odp_proc *proc, struct odp_watch **watch);
int odp_saver_start(struct odp_saver *saver);
void odp_saver_stop(struct odp_saver *saver);
/* For odp_saver_read(); -1 is good too. */
int odp_saver_open(pid_t pid);
/* The page at ADDR of process PID; false: there is none, or it cannot be had now. */
bool odp_saver_read(struct odp_saver *saver, int pagemap, pid_t pid, uint64_t addr, void *buf);
/* Wake the watch's thread: a recall has ended. */
void odp_watch_ring(struct odp_watch *w);

/* ---- recall.c (lock) ---- */
/* The regions on the blocks of a recall, one after the other. */
struct odp_node *odp_node_first(struct odp_watch *w, const struct odp_recall *rc);
struct odp_node *odp_node_next(const struct odp_recall *rc, const struct odp_node *node);

/* ---- lease.c (lock, given up while they wait) ---- */
void odp_notice_give(struct odp_node *node, enum odp_notice what);
/* Until nobody's lease is running: all have ended their regions, or time is over. False:
 * GIVEN_UP(ARG), NULL: never, has become true meanwhile. */
bool odp_leases_wait(struct odp_watch *w, struct odp_recall *rc, bool (*given_up)(void *arg),
		     void *arg);
/* Kill those that have not, where that is the policy. */
void odp_leases_kill(struct odp_watch *w, struct odp_recall *rc);

/* Passes notices of recalls on. */
extern const struct odp_source odp_notices_source;

/* ---- recall_act.c: the owner's gate shut, lanes fenced; without the lock ---- */
/* Do to the region what its policy says, *PAGES pages of it. False: there is no such
 * key, of a region that is ending, or being made. */
bool odp_node_act(struct odp_watch *w, const struct odp_recall *rc, struct odp_node *node,
		  uint64_t *pages);

#endif
