/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Regions on files of an odpfs mount, and what truncates do to them. */
#ifndef RECALL_H
#define RECALL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <odp/odp.h>

#define PAGE ((size_t)4096)
#define PAGES 8
#define LEN (PAGES * PAGE)
#define PD 3u

extern int failures;

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			printf("FAILED: %s:%d: %s (errno %d)\n", __func__, __LINE__, #what,        \
			       errno);                                                             \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

/* recall_file.c */
extern struct odp_proc *proc;
int file_make(const char *name, const char *fill); /* pages "<fill>0", "<fill>1" ... */
void file_fill(int fd, unsigned first, const char *fill);
bool file_has(int fd, unsigned page, const char *text);
struct odp_region *region_make(void *mem, size_t len, enum odp_policy policy, uint32_t lease_ms);
/* Through the region: 0 or -errno. */
int key_write(struct odp_peer *peer, uint32_t key, uint64_t addr, const void *data, size_t len);
int key_read(struct odp_peer *peer, uint32_t key, uint64_t addr, void *data, size_t len);

/* recall_owner.c: another process with a region on all of a file */
struct owner {
	pid_t pid;
	int in;
	struct odp_peer *peer;
	uint32_t key;
	uint64_t addr;
};
int owner_main(char **argv); /* name, policy, lease_ms */
bool owner_start(struct owner *o, const char *name, enum odp_policy policy, uint32_t lease_ms);
int owner_end(struct owner *o); /* its wait status */
/* What it reads in PAGE, or "?": through its region. */
const char *owner_page(struct owner *o, unsigned page);

/* recall_load.c */
void load_run(enum odp_policy policy);
void crowd_run(void);

#endif
