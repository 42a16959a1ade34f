/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Waiting with ppoll, where io_uring is not to be had. */
#include <errno.h>

#include "service_priv.h"

static int poll_open(struct odp_service *svc)
{
	svc->npeers = 0;
	return 0;
}

static void poll_close(struct odp_service *svc)
{
	(void)svc;
}

static bool poll_watch(struct odp_service *svc, struct odp_peer *peer)
{
	/* Twice as many places as there are slots: the dead among them leave at the
	 * next wait. */
	if (svc->npeers == ODP_POLL_PEERS)
		return false;
	svc->peers[svc->npeers++] = peer;
	return true;
}

static unsigned poll_fill(struct odp_service *svc)
{
	const int bell = svc->broken & ODP_EV_BELL ? -1 : svc->proc->bell_rd;
	unsigned i, n = 0;

	svc->pollfds[n++] = (struct pollfd){.fd = bell, .events = POLLIN};
	for (i = 0; i < ODP_SOURCES; i++)
		svc->pollfds[n++] = (struct pollfd){
			.fd = svc->broken & (unsigned)ODP_EV_SOURCE << i ? -1 : svc->fds[i],
			.events = POLLIN};
	for (i = 0; i < svc->npeers; i++)
		svc->pollfds[n++] = (struct pollfd){.fd = svc->peers[i]->pidfd, .events = POLLIN};
	return n;
}

/* Dead peers leave; the rest close up. */
static unsigned poll_sweep(struct odp_service *svc)
{
	unsigned i, n = 0, ev = 0;

	for (i = 0; i < svc->npeers; i++) {
		short revents = svc->pollfds[1 + ODP_SOURCES + i].revents;

		if (revents & POLLNVAL)
			continue; /* lost; odp_peer_check() still asks the kernel */
		if (!(revents & (POLLIN | POLLHUP))) {
			svc->peers[n++] = svc->peers[i];
			continue;
		}
		odp_service_peer_ended(svc->peers[i]);
		ev = ODP_EV_PEER;
	}
	svc->npeers = n;
	return ev;
}

static unsigned poll_wait(struct odp_service *svc, uint64_t timeout)
{
	const struct timespec ts = {
		.tv_sec = (time_t)(timeout / 1000000000u),
		.tv_nsec = (long)(timeout % 1000000000u),
	};
	unsigned n = poll_fill(svc);
	unsigned i, ev = 0;

	if (ppoll(svc->pollfds, n, timeout == ODP_WAIT_FOREVER ? NULL : &ts, NULL) <= 0)
		return 0;
	if (svc->pollfds[0].revents)
		ev |= odp_service_polled(svc, ODP_EV_BELL, svc->pollfds[0].revents);
	for (i = 0; i < ODP_SOURCES; i++)
		if (svc->pollfds[1 + i].revents)
			ev |= odp_service_polled(svc, (unsigned)ODP_EV_SOURCE << i,
						 svc->pollfds[1 + i].revents);
	return ev | poll_sweep(svc);
}

const struct odp_poller odp_poller_poll = {
	.name = "ppoll",
	.open = poll_open,
	.wait = poll_wait,
	.watch = poll_watch,
	.close = poll_close,
};
