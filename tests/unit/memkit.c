/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include "memkit.h"
#include "region.h"
#include "suite.h"
#include "top.h"
#include "transfer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct odp_proc *kit_proc;
_Thread_local int kit_err;

int kit_start(void)
{
	return odp_proc_get(&kit_proc);
}

bool kit_events(void)
{
	return kit_proc->mem->uffd >= 0;
}

int kit_suite(const char *name, struct CU_TestInfo *tests)
{
	const char *poor = getenv("UODP_NO_UFFD");
	int ret = kit_start();

	if (ret) {
		fprintf(stderr, "odp_proc_get: %s\n", strerror(-ret));
		return 1;
	}
	if (!poor && !kit_events())
		printf("no userfaultfd here: tested without it only\n");
	ret = suite_run(name, tests);
	if (ret || poor || !kit_events())
		return ret;
	printf("\n%s again, without userfaultfd:\n", name);
	fflush(stdout);
	setenv("UODP_NO_UFFD", "1", 1);
	execl("/proc/self/exe", name, NULL);
	perror("execl");
	return 1;
}

static struct odp_region *reg(const struct odp_region_attr *attr)
{
	struct odp_region *r = NULL;

	kit_err = odp_region_create(kit_proc, attr, &r);
	return kit_err ? NULL : r;
}

struct odp_region *kit_reg(void *addr, size_t len, enum odp_kind kind, enum odp_backing backing)
{
	struct odp_region_attr attr = {.addr = addr,
				       .length = len,
				       .iova = (uintptr_t)addr,
				       .pd = PD,
				       .access = ALL,
				       .kind = kind,
				       .backing = backing};

	return reg(&attr);
}

struct odp_region *kit_reg_access(void *addr, size_t len, enum odp_kind kind, uint32_t access)
{
	struct odp_region_attr attr = {.addr = addr,
				       .length = len,
				       .iova = (uintptr_t)addr,
				       .pd = PD,
				       .access = access,
				       .kind = kind};

	return reg(&attr);
}

int kit_copy(struct odp_span *dst, struct odp_span *src, size_t n)
{
	while (n) {
		size_t len = n;
		int ret = odp_copy(dst, src, &len);

		if (ret == -EAGAIN)
			continue;
		if (ret)
			return ret;
		n -= len;
	}
	return 0;
}

int kit_peer_write(struct odp_peer *peer, uint32_t key, uint64_t addr, const void *buf, size_t n)
{
	struct odp_span dst, src;
	int ret = odp_span_region(&dst, peer, key, PD, addr, n, ODP_ACCESS_REMOTE_WRITE);

	odp_span_private(&src, (void *)(uintptr_t)buf);
	return ret ? ret : kit_copy(&dst, &src, n);
}

int kit_peer_read(struct odp_peer *peer, uint32_t key, uint64_t addr, void *buf, size_t n)
{
	struct odp_span dst, src;
	int ret = odp_span_region(&src, peer, key, PD, addr, n, ODP_ACCESS_REMOTE_READ);

	odp_span_private(&dst, buf);
	return ret ? ret : kit_copy(&dst, &src, n);
}

int kit_write(struct odp_region *r, void *addr, const void *buf, size_t n)
{
	return kit_peer_write(odp_proc_self(kit_proc), odp_region_key(r), (uintptr_t)addr, buf, n);
}

int kit_read(struct odp_region *r, void *addr, void *buf, size_t n)
{
	return kit_peer_read(odp_proc_self(kit_proc), odp_region_key(r), (uintptr_t)addr, buf, n);
}

const char *kit_see(struct odp_region *r, void *addr)
{
	static char buf[32];
	int ret = kit_read(r, addr, buf, 16);

	if (ret)
		snprintf(buf, sizeof(buf), "?%d", -ret);
	buf[16] = 0;
	return buf;
}

void kit_fill(char *p, size_t len, const char *fill)
{
	for (size_t i = 0; i < len; i += PAGE)
		snprintf(p + i, 32, "%.8s%u", fill, (unsigned)(i / PAGE));
}

static char *map(size_t len, int flags, const char *fill)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (fill)
		kit_fill(p, len, fill);
	return p;
}

char *kit_private(size_t len, const char *fill)
{
	return map(len, MAP_PRIVATE, fill);
}

char *kit_shared(size_t len, const char *fill)
{
	return map(len, MAP_SHARED, fill);
}
