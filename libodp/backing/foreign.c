/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory with a userfaultfd of the program's own. A device's fault on a page that is
 * missing there waits for the program's handler, as in Linux 7.3 ("RDMA/umem: use
 * hmm_range_fault_unlocked_timeout() for ODP faults"; the lock of the address space is
 * dropped for that, so FAULT_FLAG_ALLOW_RETRY is set and fs/userfaultfd.c may wait).
 * Before, such a fault took no FAULT_FLAG_ALLOW_RETRY and got SIGBUS at once.
 *
 * Here whoever runs the transfer must not wait: it may be the handler itself, or a
 * service thread. It leaves the page in a table of the owner's and comes back, as for
 * any fault that takes its time; threads of the owner touch the pages left there, each
 * waiting for one. A page that goes right after it was found there is waited for by
 * the system call that copies.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "backing.h"

#define LINE_MAX_LEN 512
#define STACK_SIZE ((size_t)256 << 10)

/* How soon to come back. */
#define WAIT_NS 100000u
#define WAIT_FULL_NS 2000000u
#define STALE_NS 2000000000u /* a failure that nobody has come back for */

static int proc_open(const struct odp_peer *peer, const char *name)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)peer->pid, name);
	return odp_own_open(path, O_RDONLY | O_CLOEXEC);
}

/* The first page of [start, end) that is neither in memory nor in swap; 0: none. */
static uint64_t page_missing(const struct odp_peer *peer, uint64_t start, uint64_t end)
{
	uint64_t first = start >> ODP_PAGE_SHIFT, last = (end - 1) >> ODP_PAGE_SHIFT, e;
	int fd = proc_open(peer, "pagemap");
	uint64_t missing = 0;

	if (fd < 0)
		return 0;
	for (uint64_t page = first; page <= last && !missing; page++)
		if (odp_sys_pread(fd, &e, sizeof(e), page * sizeof(e)) == sizeof(e) &&
		    !(e & ODP_PAGEMAP_THERE))
			missing = page << ODP_PAGE_SHIFT;
	odp_fd_close(fd);
	return missing;
}

/* The lines of a file, one after the other, each cut at the end of BUF. */
struct lines {
	int fd;
	size_t at, have;
	char buf[4096];
};

static bool line_next(struct lines *l, char *line)
{
	size_t n = 0;

	for (;;) {
		char c;

		if (l->at == l->have) {
			ssize_t got = odp_own_read(l->fd, l->buf, sizeof(l->buf));

			if (got <= 0)
				return false;
			l->have = (size_t)got;
			l->at = 0;
		}
		c = l->buf[l->at++];
		if (c == '\n')
			break;
		if (n < LINE_MAX_LEN - 1)
			line[n++] = c;
	}
	line[n] = 0;
	return true;
}

/* The same of those alone whose mapping is private and watched for missing pages. */
static uint64_t watched_missing(const struct odp_peer *peer, uint64_t addr, uint64_t addr_end)
{
	struct lines l = {.fd = proc_open(peer, "smaps")};
	char line[LINE_MAX_LEN], perms[5] = "";
	bool inside = false, past = false;
	unsigned long start, end;
	uint64_t found = 0;

	if (l.fd < 0)
		return 0;
	while (!found && !past && line_next(&l, line))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) == 3) {
			inside = start < addr_end && end > addr;
			past = start >= addr_end;
		} else if (inside && perms[3] == 'p' && !strncmp(line, "VmFlags:", 8) &&
			   strstr(line, " um")) {
			found = page_missing(peer, odp_max(start, addr), odp_min(end, addr_end));
		}
	odp_fd_close(l.fd);
	return found;
}

/* ---- whoever runs a transfer ---- */

static struct odp_foreign_shm *shm_get(const struct odp_peer *peer)
{
	/* acquire: pairs with the release in odp_foreign_start(). */
	uint64_t off = atomic_load_explicit(&peer->seg->foreign, memory_order_acquire);

	return off ? odp_peer_ptr(peer, off, sizeof(struct odp_foreign_shm)) : NULL;
}

static enum odp_foreign_state state_of(uint64_t word)
{
	return word & ODP_PAGE_MASK;
}

/* Only the winner may act on WORD. acq_rel: what the other side wrote before. */
static bool word_change(_Atomic uint64_t *p, uint64_t word, uint64_t new)
{
	return atomic_compare_exchange_strong_explicit(p, &word, new, memory_order_acq_rel,
						       memory_order_relaxed);
}

static bool stale(struct odp_foreign_shm *shm, unsigned i, uint64_t now)
{
	return now - atomic_load_explicit(&shm->failed_at[i], memory_order_relaxed) > STALE_NS;
}

/* Is PAGE in the table? -ENOENT if not. Two who ask at once may both put it there: the
 * second touch finds the page. */
static int page_look(struct odp_foreign_shm *shm, uint64_t page, uint32_t key, uint64_t now)
{
	for (unsigned i = 0; i < ODP_FOREIGN_PAGES; i++) {
		/* acquire: FAILED_AT belongs to it. */
		uint64_t word = atomic_load_explicit(&shm->pages[i], memory_order_acquire);

		if (odp_page_down(word) != page || !word)
			continue;
		if (state_of(word) != ODP_FOREIGN_FAILED)
			return -EINPROGRESS;
		/* Memory that was unmapped meanwhile fails for the region that asked, not
		 * for one that was registered at its address since. */
		if (!word_change(&shm->pages[i], word, 0) || stale(shm, i, now))
			continue;
		if (atomic_load_explicit(&shm->keys[i], memory_order_relaxed) == key)
			return -EFAULT;
	}
	return -ENOENT;
}

static bool page_put(struct odp_foreign_shm *shm, uint64_t page, uint32_t key, uint64_t now)
{
	for (unsigned i = 0; i < ODP_FOREIGN_PAGES; i++) {
		uint64_t word = atomic_load_explicit(&shm->pages[i], memory_order_acquire);

		if (word && !(state_of(word) == ODP_FOREIGN_FAILED && stale(shm, i, now)))
			continue;
		if (!word_change(&shm->pages[i], word, page | ODP_FOREIGN_ASKED))
			continue;
		atomic_store_explicit(&shm->keys[i], key, memory_order_relaxed);
		/* seq_cst: before the look of the owner's at the bell. */
		atomic_fetch_add_explicit(&shm->bell, 1, memory_order_seq_cst);
		odp_sys6(SYS_futex, (long)&shm->bell, FUTEX_WAKE, 1, 0, 0, 0);
		return true;
	}
	return false;
}

int odp_foreign_ready(struct odp_peer *peer, uint32_t key, uint64_t addr, size_t n, uint64_t *when)
{
	struct odp_foreign_shm *shm;
	uint64_t page, now;
	int ret;

	/* The first alone is cheap. */
	if (!page_missing(peer, addr, addr + n))
		return 0;
	page = watched_missing(peer, addr, addr + n);
	if (!page)
		return 0;
	shm = shm_get(peer);
	if (!shm)
		return -EFAULT;
	now = odp_now();
	ret = page_look(shm, page, key, now);
	*when = now + WAIT_NS;
	if (ret != -ENOENT)
		return ret;
	if (!page_put(shm, page, key, now))
		*when = now + WAIT_FULL_NS;
	return -EINPROGRESS;
}

/* ---- the owner ---- */

static int thread_start(struct odp_mem *m);

/* One byte is enough: the page is there then, whoever wants to write it. */
static bool page_touch(uint64_t page)
{
	char byte;
	struct iovec local = {&byte, 1}, remote = {(void *)(uintptr_t)page, 1};

	return odp_sys6(SYS_process_vm_readv, getpid(), (long)&local, 1, (long)&remote, 1, 0) == 1;
}

static void page_serve(struct odp_foreign_shm *shm, unsigned i, uint64_t page)
{
	bool good = page_touch(page);

	atomic_store_explicit(&shm->failed_at[i], odp_now(), memory_order_relaxed);
	/* release: after the page, and FAILED_AT. */
	atomic_store_explicit(&shm->pages[i], good ? 0 : page | ODP_FOREIGN_FAILED,
			      memory_order_release);
}

/* Before this thread waits: another takes what is asked for meanwhile. */
static void follower_start(struct odp_mem *m)
{
	/* relaxed: one more or less than needed does no harm. */
	if (!atomic_load_explicit(&m->ask_idle, memory_order_relaxed) &&
	    atomic_load_explicit(&m->ask_threads, memory_order_relaxed) <= ODP_FOREIGN_PAGES)
		thread_start(m);
}

static void *ask_main(void *arg)
{
	struct odp_mem *m = arg;
	struct odp_foreign_shm *shm = shm_get(m->proc->self);

	for (;;) {
		/* seq_cst: before the look at the pages; pairs with page_put(). */
		uint32_t bell = atomic_load_explicit(&shm->bell, memory_order_seq_cst);

		for (unsigned i = 0; i < ODP_FOREIGN_PAGES; i++) {
			uint64_t word = atomic_load_explicit(&shm->pages[i], memory_order_acquire);
			uint64_t page = odp_page_down(word);

			if (state_of(word) != ODP_FOREIGN_ASKED ||
			    !word_change(&shm->pages[i], word, page | ODP_FOREIGN_TAKEN))
				continue;
			atomic_fetch_sub_explicit(&m->ask_idle, 1, memory_order_relaxed);
			follower_start(m);
			page_serve(shm, i, page);
			atomic_fetch_add_explicit(&m->ask_idle, 1, memory_order_relaxed);
		}
		odp_sys6(SYS_futex, (long)&shm->bell, FUTEX_WAIT, bell, 0, 0, 0);
	}
	return NULL;
}

static int thread_start(struct odp_mem *m)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int ret;

	ret = pthread_attr_init(&attr);
	if (ret)
		return -ret;
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	atomic_fetch_add_explicit(&m->ask_threads, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&m->ask_idle, 1, memory_order_relaxed);
	/* A handler of the program's may not run there. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&thread, &attr, ask_main, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (!ret)
		return 0;
	atomic_fetch_sub_explicit(&m->ask_threads, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&m->ask_idle, 1, memory_order_relaxed);
	return -ret;
}

void odp_foreign_start(struct odp_mem *m)
{
	const size_t size = sizeof(struct odp_foreign_shm);
	struct odp_seg *seg = m->proc->self->seg;
	uint64_t off;
	int ret;

	if (atomic_load_explicit(&seg->foreign, memory_order_relaxed))
		return;
	off = odp_arena_alloc(m->proc, size);
	/* release: pairs with shm_get(). */
	atomic_store_explicit(&seg->foreign, off, memory_order_release);
	ret = off ? thread_start(m) : -ENOMEM;
	if (!ret)
		return;
	odp_log(ODP_LOG_ERR, "no thread that asks the program's userfaultfd: %s",
		strerrordesc_np(-ret));
	atomic_store_explicit(&seg->foreign, 0, memory_order_relaxed);
	if (off)
		odp_arena_free(m->proc, off, size);
}
