/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Peer processes of the harness; tests use the side_*() functions instead. */
#ifndef TESTS_VERBS_PEER_H
#define TESTS_VERBS_PEER_H

#include "harness.h"

/* Does not return when this process was started as a peer. */
void peer_main(int argc, char **argv);
/* Start N peers of program SELF. */
void peer_start(const char *self, unsigned int n);
/* The first living peer; false if there is none. */
bool peer_get(struct side *s);
void peer_stop(void);

#endif
