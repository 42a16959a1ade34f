/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Which process has which service, and who listens: one table in the run directory, in
 * chains by service ID. Whoever reads or changes it holds a lock on the file, which the
 * kernel drops when its holder ends; a change is complete with its last store to a
 * chain, so that a holder that is killed leaves at worst an unused record. Records of
 * processes that are no more go when somebody comes by.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cm.h"
#include "services.h"

static struct cm_services *table;
static int table_fd = -1;

#define LOCK_TRIES 2000 /* of a millisecond */

static bool lock_by(short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};

	return !fcntl(table_fd, F_OFD_SETLK, &lock);
}

/* Bounded: the holder may be stopped. */
static int lock(void)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (lock_by(F_WRLCK))
			return 0;
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	odp_log(ODP_LOG_ERR, "the table of rdma_cm services stays locked: is a process of this "
			     "run directory stopped?");
	return -EAGAIN;
}

static void unlock(void)
{
	lock_by(F_UNLCK);
}

static int table_map(int dir)
{
	struct stat st;
	int fd = openat(dir, "services", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    ftruncate(fd, sizeof(*table))) {
		close(fd);
		return -EIO;
	}
	table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (table == MAP_FAILED) {
		int err = -errno;

		close(fd);
		table = NULL;
		return err;
	}
	table_fd = odp_fd_keep(fd);
	return 0;
}

static int table_open(void)
{
	int dir;

	if (table)
		return 0;
	dir = node_dir();
	return dir < 0 ? dir : table_map(dir);
}

void services_forget(void)
{
	if (!table)
		return;
	munmap(table, sizeof(*table));
	odp_fd_close(table_fd);
	table = NULL;
	table_fd = -1;
}

/* Open and lock; a table of another layout is begun anew. */
static int table_lock(void)
{
	int ret = table_open();

	if (!ret)
		ret = lock();
	if (!ret && table->magic != CM_SERVICES_MAGIC) {
		memset(table, 0, sizeof(*table));
		table->magic = CM_SERVICES_MAGIC;
	}
	return ret;
}

static uint32_t *bucket(uint64_t sid)
{
	return &table->buckets[(sid ^ sid >> 16) * 0x9e3779b1u % CM_SERVICES_BUCKETS];
}

static struct cm_service_record *record_at(uint32_t link)
{
	return link && link <= CM_SERVICES_RECORDS ? &table->records[link - 1] : NULL;
}

static void record_unlink(uint32_t *at, struct cm_service_record *r)
{
	*at = r->next;
	r->flags = 0;
}

/* The next record of SID behind *AT, of a process that lives; NULL: none. At most as
 * many as there are: a chain that somebody has garbled may be a ring. */
static struct cm_service_record *record_next(uint64_t sid, uint32_t **at)
{
	struct cm_service_record *r;

	for (uint32_t n = 0; (r = record_at(**at)) && n < CM_SERVICES_RECORDS; n++) {
		struct cm_node node = {r->pid, r->tag};

		if (!(r->flags & CM_SERVICE_USED) || !node_alive(&node)) {
			record_unlink(*at, r);
			continue;
		}
		*at = &r->next;
		if (r->sid == sid)
			return r;
	}
	return NULL;
}

static uint32_t flags_of(const struct cm_id *id)
{
	return CM_SERVICE_USED | (id->reuseaddr ? CM_SERVICE_REUSE : 0) |
	       (id->afonly ? CM_SERVICE_AFONLY : 0) | (addr_any(&id->src) ? CM_SERVICE_ANY : 0);
}

/* May ID have SID beside those that are there? As cma.c, cma_check_port(). */
static int conflict(const struct cm_id *id, uint64_t sid, bool reuse)
{
	union ibv_gid gid = addr_gid(&id->src);
	uint32_t *at = bucket(sid);
	struct cm_service_record *r;

	while ((r = record_next(sid, &at))) {
		if (id->service && r == record_at(id->service))
			continue;
		if (reuse && r->flags & CM_SERVICE_REUSE)
			continue;
		if (id->afonly && r->flags & CM_SERVICE_AFONLY && id->src.sa.sa_family != r->family)
			continue;
		if (addr_any(&id->src) || r->flags & CM_SERVICE_ANY)
			return -EADDRNOTAVAIL;
		if (!memcmp(r->gid, &gid, sizeof(gid)))
			return -EADDRINUSE;
	}
	return 0;
}

static bool taken(uint64_t sid)
{
	uint32_t *at = bucket(sid);

	return record_next(sid, &at);
}

/* Out of the chain that it may still be in, see service_drop(). */
static void record_leave(struct cm_service_record *r)
{
	uint32_t *at = bucket(r->sid), n = 0;
	struct cm_service_record *i;

	while ((i = record_at(*at)) && i != r && n++ < CM_SERVICES_RECORDS)
		at = &i->next;
	if (i == r)
		record_unlink(at, r);
}

static struct cm_service_record *record_free(void)
{
	for (uint32_t n = 0; n < CM_SERVICES_RECORDS; n++) {
		struct cm_service_record *r =
			&table->records[(table->hint + n) % CM_SERVICES_RECORDS];
		struct cm_node node = {r->pid, r->tag};

		if (!(r->flags & CM_SERVICE_USED) ||
		    (n > CM_SERVICES_RECORDS / 2 && !node_alive(&node))) {
			record_leave(r);
			table->hint = (table->hint + n + 1) % CM_SERVICES_RECORDS;
			return r;
		}
	}
	return NULL;
}

static void port_range(unsigned *low, unsigned *high)
{
	FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");

	if (!f || fscanf(f, "%u %u", low, high) != 2 || *low < 1 || *high > 65535 || *low > *high) {
		*low = 32768;
		*high = 60999;
	}
	if (f)
		fclose(f);
}

/* A port that nobody has, into ID's address. */
static int port_any(struct cm_id *id)
{
	unsigned low, high, n, start = cm_random();

	port_range(&low, &high);
	n = high - low + 1;
	for (unsigned i = 0; i < n; i++) {
		addr_port_set(&id->src, (uint16_t)(low + (start + i) % n));
		if (!taken(addr_service(id->ps, &id->src)))
			return 0;
	}
	addr_port_set(&id->src, 0);
	return -EADDRNOTAVAIL;
}

static int record_make(struct cm_id *id)
{
	struct cm_service_record *r = record_free();
	union ibv_gid gid = addr_gid(&id->src);
	uint32_t *head;

	if (!r)
		return -ENOMEM;
	r->sid = addr_service(id->ps, &id->src);
	memcpy(r->gid, &gid, sizeof(r->gid));
	r->family = id->src.sa.sa_family;
	r->pid = cm.self.pid;
	r->tag = cm.self.tag;
	r->flags = flags_of(id);
	head = bucket(r->sid);
	r->next = *head;
	/* release: the record is complete for who is stopped and killed here. */
	__atomic_store_n(head, (uint32_t)(r - table->records) + 1, __ATOMIC_RELEASE);
	id->service = (uint32_t)(r - table->records) + 1;
	return 0;
}

int service_bind(struct cm_id *id)
{
	int ret = table_lock();

	if (ret)
		return ret;
	if (!addr_port(&id->src))
		ret = port_any(id);
	else
		ret = conflict(id, addr_service(id->ps, &id->src), id->reuseaddr);
	if (!ret)
		ret = record_make(id);
	unlock();
	return ret;
}

int service_listen(struct cm_id *id)
{
	struct cm_service_record *r = record_at(id->service);
	int ret;

	if (!r)
		return -EINVAL;
	ret = table_lock();
	if (ret)
		return ret;
	ret = conflict(id, r->sid, false);
	if (!ret) {
		id->reuseaddr = false; /* it shares no more (cma.c, rdma_listen()) */
		r->flags = flags_of(id) | CM_SERVICE_LISTENS;
	}
	unlock();
	return ret;
}

void service_drop(struct cm_id *id)
{
	struct cm_service_record *r = record_at(id->service);

	if (!r)
		return;
	id->service = 0;
	if (table_lock()) {
		r->flags = 0; /* it is unlinked when somebody comes by */
		return;
	}
	record_leave(r);
	r->flags = 0;
	unlock();
}

bool service_find(uint64_t sid, const union ibv_gid *gid, struct cm_node *node)
{
	struct cm_service_record *r, *best = NULL;
	uint32_t *at;

	if (table_lock())
		return false;
	for (at = bucket(sid); (r = record_next(sid, &at));) {
		bool v4 = IN6_IS_ADDR_V4MAPPED(gid);

		if (!(r->flags & CM_SERVICE_LISTENS))
			continue;
		if (r->flags & CM_SERVICE_ANY ? (r->flags & CM_SERVICE_AFONLY &&
						 r->family != AF_IB && (r->family == AF_INET) != v4)
					      : memcmp(r->gid, gid, sizeof(r->gid)))
			continue;
		/* The exact address before any. */
		if (!best || best->flags & CM_SERVICE_ANY)
			best = r;
	}
	if (best)
		*node = (struct cm_node){best->pid, best->tag};
	unlock();
	return best;
}
