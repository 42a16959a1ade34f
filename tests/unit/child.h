/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A unit test's other processes: the same program again, in a role. A role
 * talks with the test through lines on its stdin and stdout.
 */
#ifndef UNIT_CHILD_H
#define UNIT_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child_role {
	const char *name;
	int (*run)(void);
};

struct child {
	pid_t pid;
	int in, out; /* the child's stdin, for writing; its stdout, for reading */
};

/* To be called first in main(): runs the role if this is a child. */
void child_main(int argc, char **argv, const struct child_role *roles);

bool child_start(struct child *c, const char *role);
/* One number from the child, -1 when it has ended or nothing came in 10 s. */
long child_get(struct child *c);
void child_put(struct child *c, long value);
/* Close its stdin, wait; its exit status, or 128 + signal. */
int child_end(struct child *c);
void child_kill(struct child *c);

/* In the child. */
void parent_put(long value);
long parent_get(void); /* -1 at the end of input */

/* What FN(ARG) writes to stderr, in BUF; returns how many lines. */
int stderr_lines(void (*fn)(void *arg), void *arg, char *buf, unsigned size);
/* Milliseconds of CLOCK_MONOTONIC; sleep; wait until FN(ARG), at most 10 s. */
uint64_t now_ms(void);
void sleep_ms(unsigned ms);
bool wait_for(bool (*fn)(void *arg), void *arg);

#endif
