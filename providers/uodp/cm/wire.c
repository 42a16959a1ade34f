/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * QP 1 among the processes of a run directory: a datagram socket a process, cm/<pid>.<start>
 * there. As on a wire a datagram may be lost, and whoever waits for an answer sends it
 * again; one that cannot be sent because the receiver's queue is full is sent by the
 * thread a little later.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cm.h"

#define PACKET_MAGIC 0x75434d31u

struct packet {
	uint32_t magic;
	uint32_t pid;
	uint64_t start;
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

static int dir_fd = -1; /* of cm/ */

static void name_of(const struct cm_node *node, struct sockaddr_un *sun)
{
	sun->sun_family = AF_UNIX;
	/* By the descriptor: a run directory's path may be longer than this. */
	snprintf(sun->sun_path, sizeof(sun->sun_path), "/proc/self/fd/%d/%u.%llu", dir_fd,
		 node->pid, (unsigned long long)node->start);
}

/* Mailboxes of processes that are no more. */
static void sweep(void)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	unsigned long long start;
	struct cm_node node;

	while (dir && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, "%u.%llu", &node.pid, &start) != 2)
			continue;
		node.start = start;
		if (!node_alive(&node))
			unlinkat(dir_fd, entry->d_name, 0);
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

static int dir_open(void)
{
	char path[IBV_SYSFS_PATH_MAX + 8], run[IBV_SYSFS_PATH_MAX];
	struct stat st;
	int fd;

	if (odp_dir_get(run, sizeof(run)))
		return -EIO;
	snprintf(path, sizeof(path), "%s/cm", run);
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || st.st_uid != geteuid() || st.st_mode & 077) {
		close(fd);
		return -EPERM;
	}
	dir_fd = odp_fd_keep(fd);
	return 0;
}

int wire_open(void)
{
	struct sockaddr_un sun;
	int fd, size = 1 << 20, ret = dir_open();

	if (ret)
		return ret;
	sweep();
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	fd = odp_fd_keep(fd);
	name_of(&cm.self, &sun);
	unlink(sun.sun_path);
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
	dir_fd = -1;
}

void wire_close(void)
{
	struct sockaddr_un sun;

	if (cm.wire_fd < 0)
		return;
	name_of(&cm.self, &sun);
	unlink(sun.sun_path);
	odp_fd_close(cm.wire_fd);
	odp_fd_close(dir_fd);
	cm.wire_fd = dir_fd = -1;
}

/* 0, -EAGAIN, or another error. */
static int packet_send(const struct cm_node *to, const struct packet *p)
{
	struct sockaddr_un sun;

	name_of(to, &sun);
	return sendto(cm.wire_fd, p, sizeof(*p), MSG_DONTWAIT | MSG_NOSIGNAL,
		      (struct sockaddr *)&sun, sizeof(sun)) < 0
		       ? -errno
		       : 0;
}

static bool same_node(const struct cm_node *a, const struct cm_node *b)
{
	return a->pid == b->pid && a->start == b->start;
}

static bool pending_for(const struct cm_node *to)
{
	const struct pending *p = pending;

	while (p && !same_node(&p->to, to))
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
	cm_wake();
}

bool wire_flush(void)
{
	struct pending **at = &pending, *p;
	struct cm_node full = {0};

	while ((p = *at)) {
		/* The first that finds no room stands for those behind it. */
		if (same_node(&p->to, &full) || packet_send(&p->to, &p->packet) == -EAGAIN) {
			full = p->to;
			at = &p->next;
			continue;
		}
		*at = p->next;
		free(p);
		num_pending--;
	}
	pending_end = at;
	return pending;
}

void wire_send(const struct cm_node *node, const union ibv_gid *sgid, const union ibv_gid *dgid,
	       const struct cm_mad *mad)
{
	struct packet p = {
		.magic = PACKET_MAGIC, .pid = cm.self.pid, .start = cm.self.start, .mad = *mad};

	memcpy(p.sgid, sgid, sizeof(p.sgid));
	memcpy(p.dgid, dgid, sizeof(p.dgid));
	if (pending_for(node) || packet_send(node, &p) == -EAGAIN)
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
	*from = (struct cm_node){p.pid, p.start};
	memcpy(sgid, p.sgid, sizeof(*sgid));
	memcpy(dgid, p.dgid, sizeof(*dgid));
	*mad = p.mad;
	return true;
}
