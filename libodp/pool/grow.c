/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * mremap lets a program grow a mapping of the pool as far as it likes: past its
 * guard the pool's offsets are another mapping's, or what a pinned region keeps.
 * Nothing of that part has been touched when the first fault there comes: it is
 * given other offsets of the pool.
 *
 * The program may unmap that part meanwhile, and map something else there, so a
 * mapping of MAP_FIXED could destroy what is not ours. remap_file_pages() changes
 * the offset of what is mapped, in one step: it refuses private memory and holes,
 * and since it raises no event the service thread can call it. Who unmaps the part
 * after we looked at it waits for an event that is not read before we are done.
 */
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>

#include "grow.h"
#include "pool.h"

#define MOST ((uint64_t)1 << 30) /* at once: each page has a count */

/* struct uffdio_poison (Linux 6.6), for headers that lack it. */
struct poison {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated;
};
#define POISON _IOWR(0xAA, 0x08, struct poison)

/* Part of a mapping, and its new place in the pool. */
struct part {
	uint64_t start, len, off;
	uint32_t prot;
	struct odp_extent *ext;
};

/* A node of our own: the service thread takes no allocator's lock. */
static struct odp_extent *extent_make(struct odp_mem *m, uint64_t len)
{
	long at = odp_sys_mmap(0, ODP_PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at < 0 && at > -4096)
		return NULL;
	if (odp_extent_enter(m, (struct odp_extent *)at, len, true))
		return (struct odp_extent *)at;
	odp_sys_munmap((uint64_t)at, ODP_PAGE_SIZE);
	return NULL;
}

/* From the page of ADDR to the end of its mapping, or to the next record. */
static int part_find(struct odp_mem *m, uint64_t addr, struct part *p)
{
	struct odp_umem *um;
	struct odp_vma vma;

	if (!odp_umem_look(m, addr, &vma))
		return -ENOENT;
	p->start = odp_page_down(addr);
	p->prot = vma.prot;
	um = odp_umem_first(m, p->start, vma.end);
	p->len = odp_min((um ? um->it.start : vma.end) - p->start, MOST);
	p->ext = extent_make(m, p->len);
	if (!p->ext)
		return -ENOMEM;
	odp_extent_hold(p->ext);
	p->off = p->ext->it.start;
	return 0;
}

/* Not populated (MAP_NONBLOCK): the faults to come do that. */
static int part_remap(const struct part *p)
{
	return (int)odp_sys6(SYS_remap_file_pages, (long)p->start, (long)p->len, 0,
			     (long)(p->off >> ODP_PAGE_SHIFT), MAP_NONBLOCK, 0);
}

static int part_watch(struct odp_mem *m, const struct part *p)
{
	struct uffdio_range range = {p->start, p->len};
	struct odp_vma vma;
	int ret = odp_uffd_watch(m, p->start, p->len);

	/* Still what it was made? From here on an event tells when it goes. */
	if (ret || (odp_umem_look(m, p->start, &vma) && vma.end >= p->start + p->len &&
		    vma.off + (p->start - vma.start) == p->off))
		return ret;
	odp_sys_ioctl(m->uffd, UFFDIO_UNREGISTER, &range);
	return -ENOENT;
}

/* False: the mapping has gone, or must do unwatched until the next fault. */
static bool part_adopt(struct odp_mem *m, const struct part *p)
{
	if (part_watch(m, p))
		return false;
	odp_sys_madvise(p->start, p->len, MADV_DONTFORK);
	return !odp_umem_add(m, p->start, p->len, p->off, p->ext, p->prot);
}

/* No memory for ADDR: whoever touches it gets SIGBUS, or EFAULT in a system call. */
static void page_refuse(struct odp_mem *m, uint64_t addr, int err)
{
	struct poison p = {.range = {odp_page_down(addr), ODP_PAGE_SIZE}};

	odp_log(ODP_LOG_ERR,
		"%#lx: the program has grown registered memory so far that it needs other "
		"memory, which the kernel refuses (remap_file_pages: %s): SIGBUS",
		(long)addr, strerrordesc_np(-err));
	odp_sys_ioctl(m->uffd, POISON, &p);
}

void odp_grow(struct odp_mem *m, uint64_t addr)
{
	struct part p;
	int ret = part_find(m, addr, &p);

	if (ret == -ENOENT)
		return;
	if (!ret) {
		ret = part_remap(&p);
		/* Once it is mapped, only a record can tell when it no longer is. */
		if (ret || part_adopt(m, &p))
			odp_extent_drop(m, p.ext, true);
	}
	if (ret && ret != -EINVAL) /* that: something else is mapped there by now */
		page_refuse(m, addr, ret);
}
