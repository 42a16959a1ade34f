/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A port's counters as sysfs shows them: those of IBTA 16.1.3.5 that the kernel has in
 * counters/, and in hw_counters/ those of rdma_rxe and mlx5 that have a meaning here.
 *
 * A file is brought up to date when it is opened (preload/open.c). All that is sent over a
 * port comes in at one of the same run directory, and the same device, so what it sends is
 * what it receives. A message is a packet. Nothing is lost on a link that does not exist:
 * its error counters are 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "counters.h"
#include "totals.h"

enum source { NOTHING, PACKETS, WORDS, RNR };

struct counter {
	const char *name;
	enum source source;
};

static const struct counter port_counters[] = {
	{"VL15_dropped", NOTHING},
	{"excessive_buffer_overrun_errors", NOTHING},
	{"link_downed", NOTHING},
	{"link_error_recovery", NOTHING},
	{"local_link_integrity_errors", NOTHING},
	{"multicast_rcv_packets", NOTHING},
	{"multicast_xmit_packets", NOTHING},
	{"port_rcv_constraint_errors", NOTHING},
	{"port_rcv_data", WORDS},
	{"port_rcv_errors", NOTHING},
	{"port_rcv_packets", PACKETS},
	{"port_rcv_remote_physical_errors", NOTHING},
	{"port_rcv_switch_relay_errors", NOTHING},
	{"port_xmit_constraint_errors", NOTHING},
	{"port_xmit_data", WORDS},
	{"port_xmit_discards", NOTHING},
	{"port_xmit_packets", PACKETS},
	{"port_xmit_wait", NOTHING},
	{"symbol_error", NOTHING},
	{"unicast_rcv_packets", PACKETS},
	{"unicast_xmit_packets", PACKETS},
};

static const struct counter hw_counters[] = {
	/* rdma_rxe's */
	{"duplicate_request", NOTHING},
	{"out_of_seq_request", NOTHING},
	{"rcvd_pkts", PACKETS},
	{"rcvd_rnr_err", RNR},
	{"rcvd_seq_err", NOTHING},
	{"send_rnr_err", RNR},
	{"sent_pkts", PACKETS},
	/* mlx5's */
	{"implied_nak_seq_err", NOTHING},
	{"out_of_sequence", NOTHING},
	{"packet_seq_err", NOTHING},
};

static const struct group {
	const char *dir;
	const struct counter *list;
	unsigned count;
} groups[] = {
	{"counters", port_counters, sizeof(port_counters) / sizeof(port_counters[0])},
	{"hw_counters", hw_counters, sizeof(hw_counters) / sizeof(hw_counters[0])},
};
#define GROUPS (sizeof(groups) / sizeof(groups[0]))

static uint64_t value(enum source source, const struct uodp_sums *s)
{
	switch (source) {
	case PACKETS:
		return s->tx_msgs;
	case WORDS: /* IBTA: 32-bit words */
		return s->tx_bytes / 4;
	case RNR:
		return s->rnr;
	default:
		return 0;
	}
}

void uodp_counters_make(struct uodp_dir *port)
{
	for (unsigned g = 0; g < GROUPS; g++) {
		struct uodp_dir dir = uodp_dir_sub(port, groups[g].dir);

		for (unsigned i = 0; i < groups[g].count && !dir.err; i++)
			if (faccessat(dir.fd, groups[g].list[i].name, F_OK, 0))
				uodp_file_write(&dir, groups[g].list[i].name, "0");
		uodp_dir_close(&dir, port);
	}
}

static const struct counter *counter_find(const struct group *g, const char *name)
{
	for (unsigned i = 0; i < g->count; i++)
		if (!strcmp(g->list[i].name, name))
			return &g->list[i];
	return NULL;
}

static const char *last(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool uodp_counter_maybe(const char *path)
{
	const char *name = path ? last(path) : "";
	const struct counter *c = NULL;

	for (unsigned g = 0; g < GROUPS && !c; g++)
		c = strchr(name, '_') ? counter_find(&groups[g], name) : NULL;
	return c && c->source != NOTHING;
}

static const struct uodp_device *device_find(const char *name, size_t len)
{
	struct uodp_device *devs;
	unsigned n = uodp_devices(&devs);

	for (unsigned i = 0; i < n; i++)
		if (strlen(devs[i].name) == len && !memcmp(devs[i].name, name, len))
			return &devs[i];
	return NULL;
}

static void refresh(const struct uodp_device *dev, const struct group *g, const struct counter *c)
{
	char path[IBV_SYSFS_PATH_MAX + 64], text[32];
	struct uodp_sums sums;
	int fd, len;

	uodp_sums_read(dev->name, &sums);
	len = snprintf(text, sizeof(text), "%" PRIu64 "\n", value(c->source, &sums));
	snprintf(path, sizeof(path), "%s/ports/1/%s/%s", dev->path, g->dir, c->name);
	/* In its place: who has asked for its inode (cp) opens the same file. Numbers grow, so
	 * that a reader sees the old one or the new one. */
	fd = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	if (pwrite(fd, text, (size_t)len, 0) == len && ftruncate(fd, len))
		odp_log(ODP_LOG_DEBUG, "%s: %s", path, strerror(errno));
	close(fd);
}

/* The part of PATH before END, which the last "/" of it begins; NULL: another. */
static const char *part_before(const char *path, const char *end)
{
	while (end > path && end[-1] != '/')
		end--;
	return end > path ? end : NULL;
}

void uodp_counter_refresh(const char *path)
{
	const struct uodp_device *dev;
	const struct counter *c;
	const char *at, *name;
	int err = errno;
	char tail[64];

	uodp_files_raw++;
	for (unsigned g = 0; g < GROUPS; g++) {
		snprintf(tail, sizeof(tail), "/ports/1/%s/", groups[g].dir);
		at = strstr(path, tail);
		c = at ? counter_find(&groups[g], at + strlen(tail)) : NULL;
		name = c ? part_before(path, at) : NULL;
		dev = name ? device_find(name, (size_t)(at - name)) : NULL;
		if (dev)
			refresh(dev, &groups[g], c);
	}
	uodp_files_raw--;
	errno = err;
}
