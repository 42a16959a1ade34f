/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* uodprun --pair: a server and its client, of two processes. */
#ifndef UODPRUN_PAIR_H
#define UODPRUN_PAIR_H

#include <stdbool.h>
#include <sys/types.h>

/* As env(1) and the shell have them. */
enum { EXIT_USAGE = 2, EXIT_SETUP = 125, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

/* "uodprun: ", the message, and the end of this process with STATUS. */
__attribute__((noreturn, format(printf, 2, 3))) void die(int status, const char *fmt, ...);

/*
 * ARGV's two commands, for execvp(): what is before "--" and what is behind it, or all of
 * it, and all of it again with the server's address at its end. ARGV is changed and kept.
 * Ends this process where one of them is missing.
 */
void pair_split(char **argv, char ***server, char ***client);

/*
 * Start SERVER, CLIENT once that listens, and return when both have ended: the exit
 * status for this process, in the shell's way (128 + N for signal N). The server gets
 * SIGTERM when it has not ended a while after its client. What it writes comes line by
 * line with "server: " in front.
 */
int pair_run(char **server, char **client);

/*
 * Does a process of process group GROUP listen: at a TCP port, or as an rdma_cm service
 * of the run directory?
 */
bool group_listens(pid_t group);

/* Lines of another process, read from a pipe and written with a word in front. */
struct lines {
	int from, to; /* FROM: -1 at its end */
	size_t used;
	char buf[4096];
};

/* Read once what there is, which may block, and write whole lines of it. */
void lines_pass(struct lines *l, const char *front);

#endif
