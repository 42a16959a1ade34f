/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Files with numbered pages, regions on them, transfers. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "recall.h"

struct odp_proc *proc;

void file_fill(int fd, unsigned first, const char *fill)
{
	for (unsigned n = first; n < PAGES; n++) {
		char page[PAGE] = "";

		snprintf(page, sizeof(page), "%s%u", fill, n);
		CHECK(pwrite(fd, page, PAGE, (off_t)(n * PAGE)) == (ssize_t)PAGE);
	}
}

int file_make(const char *name, const char *fill)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	file_fill(fd, 0, fill);
	return fd;
}

bool file_has(int fd, unsigned page, const char *text)
{
	char buf[64] = "";

	return pread(fd, buf, sizeof(buf) - 1, (off_t)(page * PAGE)) > 0 && !strcmp(buf, text);
}

struct odp_region *region_make(void *mem, size_t len, enum odp_policy policy, uint32_t lease_ms)
{
	struct odp_region_attr attr = {.addr = mem,
				       .length = len,
				       .iova = (uintptr_t)mem,
				       .pd = PD,
				       .access = ODP_ACCESS_LOCAL_WRITE | ODP_ACCESS_REMOTE_WRITE |
						 ODP_ACCESS_REMOTE_READ,
				       .kind = ODP_ON_DEMAND,
				       .policy = policy,
				       .lease_ms = lease_ms};
	struct odp_region *region = NULL;
	int err = odp_region_create(proc, &attr, &region);

	errno = -err;
	return err ? NULL : region;
}

static int span_copy(struct odp_span *dst, struct odp_span *src, size_t len)
{
	while (len) {
		size_t n = len;
		int err = odp_copy(dst, src, &n);

		if (err && err != -EAGAIN)
			return err;
		if (!err)
			len -= n;
	}
	return 0;
}

int key_write(struct odp_peer *peer, uint32_t key, uint64_t addr, const void *data, size_t len)
{
	struct odp_span dst = {0}, src = {0};
	int err = odp_span_region(&dst, peer, key, PD, addr, len, ODP_ACCESS_REMOTE_WRITE);

	odp_span_private(&src, (void *)(uintptr_t)data);
	return err ? err : span_copy(&dst, &src, len);
}

int key_read(struct odp_peer *peer, uint32_t key, uint64_t addr, void *data, size_t len)
{
	struct odp_span dst = {0}, src = {0};
	int err = odp_span_region(&src, peer, key, PD, addr, len, ODP_ACCESS_REMOTE_READ);

	odp_span_private(&dst, data);
	return err ? err : span_copy(&dst, &src, len);
}
