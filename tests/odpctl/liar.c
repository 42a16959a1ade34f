/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Usage: liar LIE
 *
 * Attach to $UODP_DIR by hand, as a process with one queue pair and one region,
 * everything right but what LIE names; say "ready", stay until stdin ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <layout.h>
#include <shm.h>

#define ROOT_OFF ODP_ARENA_OFF
#define TABLE_SIZE ((uint64_t)16 << 20) /* more than any table needs */
#define QPS_OFF (ROOT_OFF + TABLE_SIZE)
#define CQS_OFF (QPS_OFF + TABLE_SIZE)
#define SRQS_OFF (CQS_OFF + TABLE_SIZE)
#define XLAT_OFF (SRQS_OFF + TABLE_SIZE)

static const char *lie;

static bool lies(const char *name)
{
	return !strcmp(lie, name);
}

__attribute__((noreturn)) static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void put(int fd, const void *data, size_t len, uint64_t off)
{
	if (pwrite(fd, data, len, (off_t)off) != (ssize_t)len)
		fail("pwrite");
}

static uint64_t start_time(void)
{
	char buf[1024], *at;
	int field, fd = open("/proc/self/stat", O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	if (n <= 0)
		fail("/proc/self/stat");
	close(fd);
	buf[n] = '\0';
	at = strrchr(buf, ')');
	for (field = 2; field < 22; field++)
		at = strchr(at + 1, ' ');
	return strtoull(at + 1, NULL, 10);
}

static void root_write(int fd)
{
	struct uodp_root *root = calloc(1, sizeof(*root));

	if (!root)
		fail("calloc");
	root->magic = lies("root-magic") ? 1 : UODP_ROOT_MAGIC;
	root->version = UODP_SHM_VERSION + lies("root-version");
	root->num_devices = lies("devices") ? UINT32_MAX : 1;
	strcpy(root->devices[0], lies("device-name") ? "../\x1b[31m" : "uodp0");
	root->qps = lies("qps-outside") ? ODP_SEG_SIZE - 4096 : QPS_OFF;
	root->cqs = lies("cqs-outside") ? UINT64_MAX - 4096 : CQS_OFF;
	root->srqs = lies("srqs-outside") ? 64 : SRQS_OFF;
	root->qp_high = lies("qp-high") ? UINT32_MAX : 1;
	root->cq_high = root->srq_high = 0;
	put(fd, root, sizeof(*root), ROOT_OFF);
	free(root);
}

static void qp_write(int fd)
{
	struct uodp_qp_shm qp = {
		.gen = 1,
		.qpn = 0x1234,
		.state = lies("qp-state") ? UINT32_MAX : IBV_QPS_RTS,
		.type = lies("qp-state") ? UINT32_MAX : IBV_QPT_RC,
		.device = lies("qp-device") ? UINT32_MAX : 0,
	};

	put(fd, &qp, sizeof(qp), QPS_OFF);
}

static void mr_write(int fd)
{
	struct odp_mr_shm mr = {
		.key = 0x105,
		.kind = lies("mr-kind") ? 255 : ODP_ON_DEMAND,
		.backing = lies("mr-kind") ? 255 : ODP_BACKING_VA,
		.npages = lies("mr-pages") ? UINT64_MAX : 1,
		.xlat = lies("mr-xlat") ? ODP_SEG_SIZE - 4 : XLAT_OFF,
	};
	const odp_entry_t entry = ODP_E_VA | ODP_E_VALID;

	put(fd, &mr, sizeof(mr), offsetof(struct odp_seg, mrs[1]));
	put(fd, &entry, sizeof(entry), XLAT_OFF);
}

static void random_write(int fd, uint64_t off, size_t len)
{
	static char buf[65536];
	size_t i;

	while (len) {
		const size_t n = len < sizeof(buf) ? len : sizeof(buf);

		for (i = 0; i < n; i++)
			buf[i] = (char)random();
		put(fd, buf, n, off);
		off += n;
		len -= n;
	}
}

static void head_write(int fd, unsigned slot)
{
	struct odp_seg *seg = mmap(NULL, sizeof(*seg), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (seg == MAP_FAILED)
		fail("mmap");
	seg->magic = lies("magic") ? 0 : ODP_SEG_MAGIC;
	seg->version = ODP_LAYOUT_VERSION + lies("version");
	seg->slot = slot + lies("slot");
	seg->gen = 3 + lies("gen");
	seg->pid = getpid() + lies("seg-pid");
	seg->size = ODP_SEG_SIZE;
	seg->arena = lies("arena") ? 0 : ODP_ARENA_OFF;
	seg->root = lies("root-outside") ? ODP_SEG_SIZE - 64
		    : lies("root-wraps") ? UINT64_MAX
					 : ROOT_OFF;
	seg->regions_high = lies("regions-high") ? UINT32_MAX : 2;
	munmap(seg, sizeof(*seg));
}

static int segment_make(unsigned slot)
{
	int fd = memfd_create("uodp-liar", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)ODP_SEG_SIZE))
		fail("memfd");
	root_write(fd);
	if (lies("random-tables")) {
		random_write(fd, QPS_OFF, 32768);
		random_write(fd, offsetof(struct odp_seg, mrs), 32768);
	} else {
		qp_write(fd);
		mr_write(fd);
	}
	if (lies("random-root"))
		random_write(fd, ROOT_OFF + 16, offsetof(struct uodp_root, block_ord) - 16);
	head_write(fd, slot);
	if (lies("short") && ftruncate(fd, 4096))
		fail("ftruncate");
	return fd;
}

static void slot_write(int domain, unsigned nr, int seg_fd)
{
	struct odp_slot slot = {
		.state = ODP_SLOT_LIVE,
		.gen = 3,
		.pid = getpid() + lies("pid"),
		.seg_fd = seg_fd,
		.pool_fd = lies("pool-fd") ? 0 : -1,
		.start_time = start_time() + lies("start"),
		.comm = "liar",
		.lane_high = lies("lanes") ? UINT32_MAX : 1,
	};

	if (lies("seg-fd-none"))
		slot.seg_fd = -1;
	if (lies("seg-fd-stdin"))
		slot.seg_fd = 0;
	if (lies("seg-fd-far"))
		slot.seg_fd = INT32_MAX;
	if (lies("comm"))
		memcpy(slot.comm, "\x1b[2J\n\xff\xfe\"\\yyyyyyyyyy", sizeof(slot.comm));
	put(domain, &slot, sizeof(slot), offsetof(struct odp_domain, slots[nr]));
}

static int domain_make(void)
{
	const struct {
		uint64_t magic;
		uint32_t version, size_check;
	} head = {ODP_DOMAIN_MAGIC, ODP_LAYOUT_VERSION, sizeof(struct odp_domain)};
	const char *dir = getenv("UODP_DIR");
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/domain", dir ? dir : ".");
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(struct odp_domain)))
		fail(path);
	if (lies("random-slots"))
		random_write(fd, 4096, offsetof(struct odp_domain, lanes) - 4096);
	put(fd, &head, sizeof(head), 0);
	return fd;
}

int main(int argc, char **argv)
{
	const unsigned nr = 5;
	struct flock fl = {.l_type = F_WRLCK, .l_start = ODP_LIVE_BYTE, .l_len = ODP_MAX_PROCS};
	int domain;

	if (argc != 2)
		return 2;
	lie = argv[1];
	srandom(1);
	domain = domain_make();
	if (!lies("random-slots")) {
		fl.l_start += nr;
		fl.l_len = 1;
		slot_write(domain, nr, segment_make(nr));
	}
	if (!lies("unlocked") && fcntl(domain, F_SETLK, &fl))
		fail("lock");
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
