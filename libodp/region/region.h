/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What region offers, and what its files know of each other. */
#ifndef ODP_REGION_H
#define ODP_REGION_H

#include "local.h"

/* ---- place.c (conv_lock), region.c ---- */
/* Choose R's backing (AUTO on entry: choose freely) and make its memory so. */
int odp_place(struct odp_region *r, bool write, enum odp_backing *backing);
void odp_region_reap(struct odp_mem *m);
/* Tell O, which stays, of regions from here on. */
void odp_region_observe(struct odp_mem *m, struct odp_region_observer *o);
/* CAP_IPC_LOCK: RLIMIT_MEMLOCK does not count. */
bool odp_lock_exempt(void);

/* R is for huge pages alone: entries of others refuse access, with -EINVAL if such
 * a page is there. */
int odp_huge_check(struct odp_region *r);

/* ---- file.c: not by the service thread ---- */
/* Find R's parts that files lie under, make them known to who watches these, and
 * wait until they are. -EOPNOTSUPP: nobody can do what was asked for. */
int odp_files_ask(struct odp_region *r);
/* Has one lost its watch, which this process was to itself? To be asked once more
 * when the key is out: a recall before that has not found it. */
bool odp_files_lost(struct odp_region *r);
/* Are they still what is mapped? (conv_lock) */
bool odp_files_same(struct odp_region *r);
/* The watched part that holds ADDR, NULL: none. */
struct odp_part *odp_part_find(const struct odp_region *r, uint64_t addr);
/* Map the shared ones a second time, for the device alone. */
int odp_shadow_map(struct odp_region *r);
void odp_shadow_unmap(struct odp_region *r);
void odp_files_drop(struct odp_region *r);

/* The watch of a file, NULL: none in this run directory. */
struct odp_watch_shm *odp_file_watch(struct odp_proc *proc, uint64_t dev, uint64_t ino);

/* ---- elsewhere.c ---- */
/* 0, or -EOPNOTSUPP, with a line: R is on files that are watched in another run directory.
 * No lock held, not by the service thread. */
int odp_files_elsewhere(struct odp_region *r);

/* ---- record.c ---- */
/* Is P's policy what a region of R's kind does by itself? */
bool odp_part_natural(const struct odp_region *r, const struct odp_part *p);
/* P's watch; NULL: it has ended. */
struct odp_watch_shm *odp_part_watch(const struct odp_region *r, const struct odp_part *p);
/* Its watch has ended: it has none from here on. */
void odp_part_unwatch(struct odp_region *r, struct odp_part *p);
/* Make P known to W. 0 or -ENOMEM. */
int odp_record_ask(struct odp_region *r, struct odp_part *p, struct odp_watch_shm *w);
/* Until the watch knows of it; 0 with P's watch cleared if that has ended. -ETIMEDOUT,
 * -EOPNOTSUPP, with a line. */
int odp_record_wait(struct odp_region *r, struct odp_part *p);
/* P's region has ended, or will not be. */
void odp_record_drop(struct odp_mem *m, struct odp_part *p);

/* ---- unwatched.c ---- */
/* Before R's key is there: which watches it cannot be without. */
void odp_files_need(struct odp_region *r);
/* Hear of the end of the process that watches P's file. */
void odp_files_follow(struct odp_region *r, const struct odp_part *p);
/* When a watch may have ended: sees to the regions that it was for, with notices. */
extern const struct odp_source odp_unwatched_source;

/* ---- keys.c (mem_lock) ---- */
int odp_key_alloc(struct odp_mem *m, uint32_t *key);
void odp_key_free(struct odp_mem *m, uint32_t key);

/* ---- window.c (mem_lock) ---- */
/* Is a window bound to R? */
bool odp_windows_bound(struct odp_region *r);

#endif
