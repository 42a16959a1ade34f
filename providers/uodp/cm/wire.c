/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * QP 1 among the processes of a run directory: a datagram socket a process, cm/<pid>.<tag>
 * there (node.c). As on a wire a datagram may be lost, and whoever waits for an answer sends it
 * again; one that cannot be sent because the receiver's queue is full is sent by the
 * thread a little later.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "cm.h"

#define PACKET_MAGIC 0x75434d31u

struct packet {
	uint32_t magic;
	uint32_t pid;
	uint64_t tag;
	uint8_t sgid[16], dgid[16];
	struct cm_mad mad;
};

/* Datagrams for which there was no room (net.unix.max_dgram_qlen is small), oldest
 * first. One to the same receiver does not overtake them. */
struct pending {
	struct cm_node to;
	struct packet packet;
	struct pending *next;
};
static struct pending *pending, **pending_end = &pending;
static unsigned num_pending;
#define PENDING_MAX 65536u /* beyond: lost */
#define PENDING_OF 256u
static unsigned pending_of[PENDING_OF]; /* of them, by the receiver's tag */

/* HERE: the calling thread's directory is that of the mailboxes. */
static void name_of(const struct cm_node *node, bool here, struct sockaddr_un *sun)
{
	char name[NODE_NAME];

	sun->sun_family = AF_UNIX;
	/* By the descriptor: a run directory's path may be longer than this. */
	node_name(node, name);
	if (here)
		snprintf(sun->sun_path, sizeof(sun->sun_path), "%s", name);
	else
		snprintf(sun->sun_path, sizeof(sun->sun_path), "/proc/self/fd/%d/%s", node_dir(),
			 name);
}

int wire_open(void)
{
	struct sockaddr_un sun;
	int fd, size = 1 << 20, ret;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	fd = odp_fd_keep(fd);
	name_of(&cm.self, false, &sun);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		ret = -errno;
		odp_fd_close(fd);
		return ret;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	cm.wire_fd = fd;
	return 0;
}

void wire_forget(void)
{
	pending = NULL;
	pending_end = &pending;
	num_pending = 0;
	memset(pending_of, 0, sizeof(pending_of));
}

/* 0, -EAGAIN, or another error. */
static int packet_send(const struct cm_node *to, bool here, const struct packet *p)
{
	struct sockaddr_un sun;

	name_of(to, here, &sun);
	return sendto(cm.wire_fd, p, sizeof(*p), MSG_DONTWAIT | MSG_NOSIGNAL,
		      (struct sockaddr *)&sun, sizeof(sun)) < 0
		       ? -errno
		       : 0;
}

static unsigned *pending_count(const struct cm_node *to)
{
	return &pending_of[to->tag % PENDING_OF];
}

static bool pending_for(const struct cm_node *to)
{
	const struct pending *p = *pending_count(to) ? pending : NULL;

	while (p && !node_is(&p->to, to))
		p = p->next;
	return p;
}

static void pending_add(const struct cm_node *to, const struct packet *packet)
{
	struct pending *p = num_pending < PENDING_MAX ? malloc(sizeof(*p)) : NULL;

	if (!p)
		return;
	*p = (struct pending){.to = *to, .packet = *packet};
	*pending_end = p;
	pending_end = &p->next;
	num_pending++;
	++*pending_count(to);
	cm_wake();
}

bool wire_flush(bool here, bool *progress)
{
	struct pending **at = &pending, *p;
	struct cm_node full = {0};

	*progress = false;
	while ((p = *at)) {
		/* The first that finds no room stands for those behind it. */
		if (node_is(&p->to, &full) || packet_send(&p->to, here, &p->packet) == -EAGAIN) {
			full = p->to;
			at = &p->next;
			continue;
		}
		*at = p->next;
		--*pending_count(&p->to);
		free(p);
		num_pending--;
		*progress = true;
	}
	pending_end = at;
	return pending;
}

/*
 * No room; or this thread finds no path to the mailboxes, since the program has changed
 * its root: the connection manager's thread has a directory of its own.
 */
static bool sends_later(int ret)
{
	return ret == -EAGAIN || ret == -ENOENT || ret == -ENOTDIR || ret == -EACCES;
}

void wire_send(const struct cm_node *node, const union ibv_gid *sgid, const union ibv_gid *dgid,
	       const struct cm_mad *mad)
{
	struct packet p = {
		.magic = PACKET_MAGIC, .pid = cm.self.pid, .tag = cm.self.tag, .mad = *mad};

	memcpy(p.sgid, sgid, sizeof(p.sgid));
	memcpy(p.dgid, dgid, sizeof(p.dgid));
	if (pending_for(node) || sends_later(packet_send(node, false, &p)))
		pending_add(node, &p);
}

bool wire_receive(struct cm_node *from, union ibv_gid *sgid, union ibv_gid *dgid,
		  struct cm_mad *mad)
{
	struct packet p;
	ssize_t n;

	do {
		n = recv(cm.wire_fd, &p, sizeof(p), MSG_DONTWAIT | MSG_TRUNC);
		if (n < 0)
			return false;
	} while (n != sizeof(p) || p.magic != PACKET_MAGIC || !mad_valid(&p.mad));
	*from = (struct cm_node){p.pid, p.tag};
	memcpy(sgid, p.sgid, sizeof(*sgid));
	memcpy(dgid, p.dgid, sizeof(*dgid));
	*mad = p.mad;
	return true;
}
