/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Addresses, and the devices that have them. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <string.h>

#include "cm.h"

size_t addr_size(const union cm_addr *a)
{
	switch (a->sa.sa_family) {
	case AF_INET:
		return sizeof(a->in);
	case AF_INET6:
		return sizeof(a->in6);
	case AF_IB:
		return sizeof(a->ib);
	default:
		return 0;
	}
}

bool addr_any(const union cm_addr *a)
{
	static const struct in6_addr any;

	switch (a->sa.sa_family) {
	case AF_INET:
		return !a->in.sin_addr.s_addr;
	case AF_INET6:
		return !memcmp(&a->in6.sin6_addr, &any, sizeof(any));
	case AF_IB:
		return !memcmp(&a->ib.sib_addr, &any, sizeof(any));
	default:
		return true;
	}
}

bool addr_loopback(const union cm_addr *a)
{
	if (a->sa.sa_family == AF_INET)
		return ntohl(a->in.sin_addr.s_addr) >> 24 == 127;
	return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

bool addr_multicast(const union cm_addr *a)
{
	if (a->sa.sa_family == AF_INET)
		return IN_MULTICAST(ntohl(a->in.sin_addr.s_addr));
	return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_MULTICAST(&a->in6.sin6_addr);
}

uint16_t addr_port(const union cm_addr *a)
{
	switch (a->sa.sa_family) {
	case AF_INET:
		return ntohs(a->in.sin_port);
	case AF_INET6:
		return ntohs(a->in6.sin6_port);
	case AF_IB:
		return (uint16_t)(be64toh(a->ib.sib_sid) & be64toh(a->ib.sib_sid_mask));
	default:
		return 0;
	}
}

void addr_port_set(union cm_addr *a, uint16_t port)
{
	if (a->sa.sa_family == AF_INET)
		a->in.sin_port = htons(port);
	else if (a->sa.sa_family == AF_INET6)
		a->in6.sin6_port = htons(port);
	else if (a->sa.sa_family == AF_IB)
		a->ib.sib_sid = htobe64((be64toh(a->ib.sib_sid) & ~(uint64_t)0xffff) | port);
}

union ibv_gid addr_gid(const union cm_addr *a)
{
	union ibv_gid gid = {.raw = {0}};

	if (a->sa.sa_family == AF_INET) {
		gid.raw[10] = gid.raw[11] = 0xff;
		memcpy(gid.raw + 12, &a->in.sin_addr, 4);
	} else if (a->sa.sa_family == AF_INET6) {
		memcpy(gid.raw, &a->in6.sin6_addr, 16);
	} else if (a->sa.sa_family == AF_IB) {
		memcpy(gid.raw, &a->ib.sib_addr, 16);
	}
	return gid;
}

static bool same_ip(const struct sockaddr *sa, const union cm_addr *a)
{
	if (!sa || sa->sa_family != a->sa.sa_family)
		return false;
	if (sa->sa_family == AF_INET)
		return ((const struct sockaddr_in *)sa)->sin_addr.s_addr == a->in.sin_addr.s_addr;
	return sa->sa_family == AF_INET6 &&
	       !memcmp(&((const struct sockaddr_in6 *)sa)->sin6_addr, &a->in6.sin6_addr, 16);
}

bool addr_local(const union cm_addr *a)
{
	struct ifaddrs *list, *i;
	bool found = false;

	if (addr_loopback(a))
		return true;
	if (getifaddrs(&list))
		return false;
	for (i = list; i && !found; i = i->ifa_next)
		found = same_ip(i->ifa_addr, a);
	freeifaddrs(list);
	return found;
}

const struct uodp_device *addr_device(const union cm_addr *a, int *err)
{
	struct uodp_device *devs;
	unsigned n = uodp_devices(&devs);
	union ibv_gid gid = addr_gid(a);

	*err = -ENODEV;
	for (unsigned i = 0; i < n; i++)
		for (unsigned g = 0; g < UODP_NUM_GIDS; g++)
			if (uodp_device_plugged(&devs[i]) &&
			    !memcmp(&devs[i].gids[g], &gid, sizeof(gid)))
				return &devs[i];
	if (a->sa.sa_family == AF_IB)
		return NULL;
	if (!addr_local(a)) {
		*err = -EADDRNOTAVAIL;
		return NULL;
	}
	/* Another address of this host: on the first device, whose port leads to it. */
	for (unsigned i = 0; i < n; i++)
		if (uodp_device_plugged(&devs[i]))
			return &devs[i];
	return NULL;
}

uint8_t gid_index(const struct uodp_device *dev, const union ibv_gid *gid)
{
	for (unsigned i = 0; i < UODP_NUM_GIDS; i++)
		if (!memcmp(&dev->gids[i], gid, sizeof(*gid)))
			return (uint8_t)i;
	return 1; /* the IPv4 one */
}

union ibv_gid addr_device_gid(const struct uodp_device *dev, const union cm_addr *a)
{
	union ibv_gid gid = addr_gid(a);

	return dev->gids[gid_index(dev, &gid)];
}

uint64_t addr_service(uint16_t ps, const union cm_addr *a)
{
	if (a->sa.sa_family == AF_IB)
		return be64toh(a->ib.sib_sid);
	return (uint64_t)ps << 16 | addr_port(a);
}
