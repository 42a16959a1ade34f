/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Files that no file system in user space watches: this process watches those under
 * its own regions itself, in the ways that the kernel has.
 *
 *   registering threads   ask for a file, and wait for the answer (local.c)
 *   the keeper            one thread: takes leases and marks, hears of what happens to
 *                         the files, and lets it go on (local_keep.c). It waits for
 *                         nobody: a thread of this process may be what is held up. Its
 *                         table of descriptors is its own: whoever closes a file's
 *                         descriptor drops all the fcntl locks that his table's owner
 *                         has on the file, and these are the program's.
 *   a recaller a file     runs the recalls, which may wait for leases and lanes
 */
#ifndef ODP_LOCAL_H
#define ODP_LOCAL_H

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "watch.h"

/* fstat(2) by the keeper: a sanitizer that knows of one table of descriptors would
 * take its number for the program's. 0 or -errno. */
static inline int odp_local_stat(int fd, struct stat *st)
{
	return (int)odp_sys6(SYS_newfstatat, fd, (long)"", (long)st, AT_EMPTY_PATH, 0, 0);
}

#define ODP_LOCAL_EVENTS 64u

enum odp_local_way {
	ODP_LOCAL_NONE,  /* nothing is watched, nothing need be */
	ODP_LOCAL_FAN,   /* fanotify pre-content events */
	ODP_LOCAL_LEASE, /* a lease on the program's open file description */
};

/* A taking away of blocks that is being held up. All but DONE_BY are set by the
 * keeper, RET by the recaller; under lock. */
struct odp_local_event {
	uint64_t start, end;
	enum { ODP_LE_WAITS, ODP_LE_RECALLED, ODP_LE_PASSING, ODP_LE_DONE } state;
	int ret;       /* of odp_recall_begin() */
	int fd;        /* fanotify: of the event */
	pid_t tid;     /* ... who is held up */
	bool modified; /* ... and has changed the file since it was let go */
	uint64_t limit;
	char call[160]; /* where it was, as /proc/TID/syscall says */
};

struct odp_local_file {
	struct odp_local_file *next;
	struct odp_local *local;
	uint64_t id;                 /* stands for the inode number */
	uint64_t dev, ino;           /* as the mapping shows them */
	uint64_t st_dev;             /* fanotify: as stat() does */
	uint64_t map_start, map_end; /* a mapping of it, when it was asked for */
	unsigned refs;               /* parts of regions */
	uint32_t asked, answered;    /* for the keeper; it answers */
	bool asking;                 /* by one at a time */
	bool deny;                   /* the question */
	int err, fan_err;            /* the last answer */
	bool sealed;
	uint32_t lost_then; /* LOST when it was given */
	enum odp_local_way way;
	bool leaving;  /* nobody's; the recaller has been told */
	bool left;     /* the recaller is gone */
	uint32_t lost; /* how often a lease was broken */
	int fd;        /* keeper: of the lease, or O_PATH for the mark */
	int old_sig;   /* keeper: what the description had */
	struct f_owner_ex old_owner;
	struct odp_local_event events[ODP_LOCAL_EVENTS];
	unsigned first, n;
	pthread_cond_t todo; /* for the recaller */
};

struct odp_local {
	struct odp_mem *mem;
	struct odp_watch *watch;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* for those who asked */
	struct odp_local_file *files;
	uint64_t ids;
	uint64_t lost_at; /* when a lease was broken last */
	/* the keeper */
	pthread_t thread;
	_Atomic pid_t tid;
	int start_err;
	int sig_fd, pid_fd, fan_fd, modify_fd;
	int fan_err;
};

/* A part of a region that maps a file which somebody watches. */
struct odp_part {
	uint64_t start, end; /* addresses */
	uint64_t dev, ino, off;
	uint32_t watch;               /* serial; 0: nobody, after all */
	uint32_t watch_nr;            /* its record in the domain, if it is not LOCAL */
	struct odp_local_file *local; /* NULL: it is not this process that watches it */
	uint32_t local_lost;          /* what odp_local_lost() said then */
	uint64_t map_start, map_end;  /* the whole mapping */
	uint32_t index;               /* of its record in the segment, ODP_MAX_FILES: none */
	enum odp_policy policy;       /* never DEFAULT */
	bool named;                   /* by somebody */
	bool lost;                    /* its watch ended, and the policy asks for one */
	bool shared;
};

/* ---- local.c ---- */
/* Not by the service thread, no lock held. */
/* See that PART, whose policy asks for it, is watched by this process: 0, with
 * part->watch and part->local set where that takes anything; -EOPNOTSUPP, with a line
 * that says why. */
int odp_local_get(struct odp_mem *m, struct odp_part *part);
void odp_local_put(struct odp_local_file *f);
/* How often its watch was lost: a region that was not ready before is to be asked
 * for anew. */
uint32_t odp_local_lost(struct odp_local_file *f);
/* What stands for its inode number in records. */
uint64_t odp_local_id(const struct odp_local_file *f);
/* How long a lease of a region there may be at most, in ms; 0: any length. */
uint32_t odp_local_lease_cap(struct odp_local_file *f);
/* The local watch's record; NULL: there is none yet. */
struct odp_watch_shm *odp_local_shm(struct odp_mem *m);
/* A recall for the recaller; false: too many are waiting (lock). */
struct odp_local_event *odp_local_event_add(struct odp_local_file *f, uint64_t start, uint64_t end);
void odp_local_wake(struct odp_local *l);

/* ---- local_keep.c ---- */
int odp_keeper_start(struct odp_local *l);
/* A detached thread with every signal blocked. */
int odp_local_thread(pthread_t *thread, void *(*fn)(void *), void *arg, const char *name);

/* ---- local_lease.c: by the keeper, under lock ---- */
int odp_lease_take(struct odp_local *l, struct odp_local_file *f);
void odp_lease_drop(struct odp_local_file *f);
/* Does somebody want what this lease holds? */
bool odp_lease_broken(const struct odp_local_file *f);
/* A lease-break time of less than this is safe; 0: of any length. */
uint32_t odp_lease_cap_ms(void);
/* For odp_caps(): 0 or -errno. */
int odp_lease_probe(void);
/* Seal F so that it cannot shrink: 0 or -errno. */
int odp_seal_take(struct odp_local *l, struct odp_local_file *f);

/* ---- local_fan.c: by the keeper ---- */
void odp_fan_open(struct odp_local *l);
int odp_fan_mark(struct odp_local *l, struct odp_local_file *f);    /* lock */
void odp_fan_unmark(struct odp_local *l, struct odp_local_file *f); /* lock */
void odp_fan_read(struct odp_local *l);                             /* takes the lock */
void odp_fan_modified(struct odp_local *l);                         /* takes the lock */
void odp_fan_answer(struct odp_local *l, struct odp_local_file *f, struct odp_local_event *e);
/* Has the call that was let go come to its end? (lock) */
bool odp_fan_passed(struct odp_local *l, struct odp_local_file *f, struct odp_local_event *e);
/* For odp_caps(): 0 or -errno, tried on a file in DIR. */
int odp_fan_probe(const char *dir);

#endif
