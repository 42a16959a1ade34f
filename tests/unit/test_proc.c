/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Processes that attach, see each other, die, and are replaced. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "domain.h"
#include "peer.h"
#include "suite.h"

static struct odp_proc *self;

/* ThreadSanitizer otherwise ends a forked child that starts a thread. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

/* ---- Roles ---- */

static struct odp_proc *role_attach(void)
{
	struct odp_proc *proc;

	if (odp_proc_get(&proc))
		exit(2);
	return proc;
}

/* Attach, say the slot, stay. */
static int role_stay(void)
{
	parent_put(odp_proc_slot(role_attach()));
	return parent_get() == -1 ? 0 : 1;
}

/* As that, with a root object that holds 0x600d and two blocks of QPNs. */
static int role_publish(void)
{
	struct odp_proc *proc = role_attach();
	uint64_t off = odp_arena_alloc(proc, 8192);
	uint64_t *p = odp_peer_ptr(odp_proc_self(proc), off, 8192);
	unsigned block;

	p[0] = 0x600d;
	odp_root_set(proc, off);
	parent_put(odp_proc_slot(proc));
	parent_put(odp_qpn_block_alloc(proc, &block) ? -1 : (long)block);
	parent_put(odp_qpn_block_alloc(proc, &block) ? -1 : (long)block);
	if (parent_get() == 1)
		parent_put((long)p[1]);
	return parent_get() == -1 ? 0 : 1;
}

/* Take the lock at the root of the process in the slot that is told; die with it. */
static int role_hold(void)
{
	struct odp_proc *proc = role_attach();
	struct odp_peer *peer;

	if (odp_peer_get(proc, (unsigned)parent_get(), &peer))
		return 3;
	odp_lock(proc, odp_peer_ptr(peer, odp_peer_root(peer), sizeof(struct odp_lock)));
	parent_put(1);
	parent_get();
	return 0;
}

static int role_exec(void)
{
	parent_put(odp_proc_slot(role_attach()));
	parent_get();
	execl("/bin/sleep", "sleep", "20", NULL);
	return 1;
}

/* Is the slot that is told alive? Say what odp_peer_get() answers. */
static int role_look(void)
{
	struct odp_proc *proc = role_attach();
	struct odp_peer *peer;
	long slot;

	while ((slot = parent_get()) >= 0)
		parent_put(-odp_peer_get(proc, (unsigned)slot, &peer));
	return 0;
}

/* Hold every slot that is free, as a thousand processes would. */
static int role_squat(void)
{
	struct flock fl = {
		.l_type = F_WRLCK, .l_start = ODP_LIVE_BYTE + 1, .l_len = ODP_MAX_PROCS - 1};
	struct odp_domain *dom;
	char path[300];
	unsigned nr;
	int fd;

	snprintf(path, sizeof(path), "%s/domain", getenv("UODP_DIR"));
	fd = open(path, O_RDWR);
	dom = mmap(NULL, sizeof(*dom), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (dom == MAP_FAILED || fcntl(fd, F_SETLK, &fl))
		return 1;
	for (nr = 1; nr < ODP_MAX_PROCS; nr++) {
		dom->slots[nr].pid = getpid();
		dom->slots[nr].state = ODP_SLOT_LIVE;
	}
	parent_put(1);
	return parent_get() == -1 ? 0 : 1;
}

/* Attach, when told to; say the error. */
static int role_try(void)
{
	struct odp_proc *proc;

	parent_put(-odp_proc_get(&proc));
	return parent_get() == -1 ? 0 : 1;
}

/* ---- Tests ---- */

static void *get_thread(void *arg)
{
	struct odp_proc **proc = arg;

	return (void *)(intptr_t)odp_proc_get(proc);
}

static void test_get_once(void)
{
	struct odp_proc *procs[8] = {NULL};
	pthread_t threads[8];
	void *ret;
	unsigned i;

	CU_ASSERT_PTR_NULL(odp_proc_attached());
	for (i = 0; i < 8; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, get_thread, &procs[i]), 0);
	for (i = 0; i < 8; i++) {
		CU_ASSERT_EQUAL(pthread_join(threads[i], &ret), 0);
		CU_ASSERT_PTR_NULL(ret);
		CU_ASSERT_PTR_EQUAL(procs[i], procs[0]);
	}
	self = procs[0];
	CU_ASSERT_PTR_NOT_NULL_FATAL(self);
	CU_ASSERT_PTR_EQUAL(odp_proc_attached(), self);
	CU_ASSERT_STRING_EQUAL(odp_proc_dir(self), getenv("UODP_DIR"));
	CU_ASSERT_TRUE(odp_peer_check(odp_proc_self(self)));
	CU_ASSERT_EQUAL(odp_peer_pid(odp_proc_self(self)), getpid());
}

static void test_high_descriptors(void)
{
	int fd;

	CU_ASSERT(self->domain_fd >= 512 && self->dir_fd >= 512 && self->seg_fd >= 512);
	CU_ASSERT(self->bell_rd >= 512 && self->self->bell_fd >= 512);
	fd = open("/dev/null", O_RDONLY);
	CU_ASSERT(fd >= 0 && fd < 10);
	close(fd);
}

static void test_peers_see_each_other(void)
{
	struct odp_peer *peer, *again;
	struct child c;
	uint64_t *p, off;
	long slot;

	CU_ASSERT_FATAL(child_start(&c, "publish"));
	slot = child_get(&c);
	CU_ASSERT_FATAL(slot >= 0);
	CU_ASSERT(child_get(&c) > 0 && child_get(&c) > 0);
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)slot, &peer), 0);
	CU_ASSERT_EQUAL(odp_peer_pid(peer), c.pid);
	CU_ASSERT_EQUAL(odp_peer_slot(peer), slot);
	CU_ASSERT_TRUE(odp_peer_alive(peer));
	CU_ASSERT_TRUE(odp_peer_check(peer));
	CU_ASSERT_EQUAL(odp_peer_get(self, (unsigned)slot, &again), 0);
	CU_ASSERT_PTR_EQUAL(peer, again);
	off = odp_peer_root(peer);
	p = odp_peer_ptr(peer, off, 8192);
	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	CU_ASSERT_EQUAL(p[0], 0x600d);
	p[1] = 4711;
	child_put(&c, 1);
	CU_ASSERT_EQUAL(child_get(&c), 4711);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

static void test_peer_bounds(void)
{
	struct odp_peer *me = odp_proc_self(self);

	CU_ASSERT_PTR_NULL(odp_peer_ptr(me, 0, 8));
	CU_ASSERT_PTR_NULL(odp_peer_ptr(me, ODP_ARENA_OFF - 1, 8));
	CU_ASSERT_PTR_NOT_NULL(odp_peer_ptr(me, ODP_ARENA_OFF, 8));
	CU_ASSERT_PTR_NOT_NULL(odp_peer_ptr(me, ODP_SEG_SIZE - 8, 8));
	CU_ASSERT_PTR_NULL(odp_peer_ptr(me, ODP_SEG_SIZE - 8, 9));
	CU_ASSERT_PTR_NULL(odp_peer_ptr(me, ODP_ARENA_OFF, SIZE_MAX));
	CU_ASSERT_PTR_NULL(odp_peer_ptr(me, UINT64_MAX, 2));
	CU_ASSERT_PTR_NULL(odp_pool_ptr(me, ODP_POOL_SIZE, 1));
	CU_ASSERT_PTR_NULL(odp_pool_ptr(me, UINT64_MAX - 1, 1));
	CU_ASSERT_PTR_NULL(odp_pool_ptr(me, (1ull << ODP_WINDOW_SHIFT) - 8, 16));
	CU_ASSERT_PTR_NULL(odp_pool_ptr(me, 0, SIZE_MAX));
}

static void test_nobody_there(void)
{
	struct odp_peer *peer;

	CU_ASSERT_EQUAL(odp_peer_get(self, ODP_MAX_PROCS - 1, &peer), -ENOENT);
	CU_ASSERT_EQUAL(odp_peer_get(self, ODP_MAX_PROCS, &peer), -ENOENT);
	CU_ASSERT_EQUAL(odp_peer_get(self, UINT32_MAX, &peer), -ENOENT);
}

static bool peer_is_dead(void *peer)
{
	return !odp_peer_alive(peer);
}

static void test_death_is_noticed(void)
{
	struct odp_peer *peer, *next;
	struct child c;
	long slot;

	CU_ASSERT_FATAL(child_start(&c, "stay"));
	slot = child_get(&c);
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)slot, &peer), 0);
	CU_ASSERT_TRUE(odp_peer_alive(peer));
	child_kill(&c);
	/* By the service thread, unasked. */
	CU_ASSERT_TRUE(wait_for(peer_is_dead, peer));
	CU_ASSERT_FALSE(odp_peer_check(peer));
	CU_ASSERT_EQUAL(odp_peer_get(self, (unsigned)slot, &next), -ENOENT);
	/* The next process takes the slot, and is somebody else. */
	CU_ASSERT_FATAL(child_start(&c, "stay"));
	CU_ASSERT_EQUAL(child_get(&c), slot);
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)slot, &next), 0);
	CU_ASSERT_PTR_NOT_EQUAL(next, peer);
	CU_ASSERT_EQUAL(next->gen, peer->gen + 1);
	CU_ASSERT_FALSE(odp_peer_alive(peer));
	CU_ASSERT_TRUE(odp_peer_check(next));
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

static void test_death_frees_blocks(void)
{
	struct child c;
	long slot, block[2];

	CU_ASSERT_FATAL(child_start(&c, "publish"));
	slot = child_get(&c);
	block[0] = child_get(&c);
	block[1] = child_get(&c);
	CU_ASSERT(block[0] > 0 && block[1] > 0 && block[0] != block[1]);
	CU_ASSERT_EQUAL(odp_qpn_block_slot(self, (unsigned)block[0]), slot);
	CU_ASSERT_EQUAL(odp_qpn_block_slot(self, (unsigned)block[1]), slot);
	child_kill(&c);
	/* A new process reaps the old one's slot before it takes its own. */
	CU_ASSERT_FATAL(child_start(&c, "stay"));
	CU_ASSERT_EQUAL(child_get(&c), slot);
	CU_ASSERT_EQUAL(odp_qpn_block_slot(self, (unsigned)block[0]), -ENOENT);
	CU_ASSERT_EQUAL(odp_qpn_block_slot(self, (unsigned)block[1]), -ENOENT);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

static void test_exec_is_death(void)
{
	struct odp_peer *peer;
	struct child c;
	long slot;

	CU_ASSERT_FATAL(child_start(&c, "exec"));
	slot = child_get(&c);
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)slot, &peer), 0);
	CU_ASSERT_TRUE(odp_peer_check(peer));
	child_put(&c, 1);
	while (odp_slot_alive(self, (unsigned)slot))
		sleep_ms(1);
	CU_ASSERT_FALSE(odp_peer_check(peer));
	CU_ASSERT_EQUAL(kill(c.pid, 0), 0);
	child_kill(&c);
}

static void free_block(void *arg)
{
	odp_qpn_block_free(self, *(unsigned *)arg);
}

static void test_blocks(void)
{
	unsigned blocks[100], i, other = ODP_QPN_BLOCKS - 1;
	char line[256];

	for (i = 0; i < 100; i++) {
		CU_ASSERT_EQUAL(odp_qpn_block_alloc(self, &blocks[i]), 0);
		CU_ASSERT(blocks[i] >= 1 && blocks[i] <= 65535);
		CU_ASSERT_EQUAL(odp_qpn_block_slot(self, blocks[i]), (int)odp_proc_slot(self));
	}
	for (i = 0; i < 100; i++) {
		odp_qpn_block_free(self, blocks[i]);
		CU_ASSERT_EQUAL(odp_qpn_block_slot(self, blocks[i]), -ENOENT);
	}
	CU_ASSERT_EQUAL(stderr_lines(free_block, &blocks[0], line, sizeof(line)), 1);
	CU_ASSERT_EQUAL(stderr_lines(free_block, &other, line, sizeof(line)), 1);
	other = UINT32_MAX;
	CU_ASSERT_EQUAL(stderr_lines(free_block, &other, line, sizeof(line)), 1);
	CU_ASSERT_EQUAL(odp_qpn_block_slot(self, 0), -ENOENT);
	CU_ASSERT_EQUAL(odp_qpn_block_slot(self, ODP_QPN_BLOCKS), -ENOENT);
}

static void test_blocks_exhausted(void)
{
	unsigned block, n = 0;

	while (!odp_qpn_block_alloc(self, &block))
		n++;
	CU_ASSERT(n > 65000 && n <= ODP_QPN_BLOCKS - 1);
	CU_ASSERT_EQUAL(odp_qpn_block_alloc(self, &block), -ENOSPC);
	for (block = 1; block < ODP_QPN_BLOCKS; block++) {
		if (odp_qpn_block_slot(self, block) == (int)odp_proc_slot(self))
			odp_qpn_block_free(self, block);
	}
	CU_ASSERT_EQUAL(odp_qpn_block_alloc(self, &block), 0);
	odp_qpn_block_free(self, block);
}

/* ---- Locks ---- */

static struct odp_lock *lock_publish(void)
{
	uint64_t off = odp_arena_alloc(self, sizeof(struct odp_lock));

	odp_root_set(self, off);
	return odp_peer_ptr(odp_proc_self(self), off, sizeof(struct odp_lock));
}

static void test_lock_of_the_dead(void)
{
	struct odp_lock *lock = lock_publish();
	struct child c;

	CU_ASSERT_FATAL(child_start(&c, "hold"));
	child_put(&c, odp_proc_slot(self));
	CU_ASSERT_EQUAL_FATAL(child_get(&c), 1);
	CU_ASSERT_FALSE(odp_trylock(self, lock));
	child_kill(&c);
	CU_ASSERT_FALSE(odp_trylock(self, lock));
	odp_lock(self, lock);
	CU_ASSERT_EQUAL(lock->owner, self->lock_owner);
	odp_unlock(lock);
	CU_ASSERT_TRUE(odp_trylock(self, lock));
	odp_unlock(lock);
	odp_root_set(self, 0);
	/* A former process of a slot that another one has now; and rubbish. */
	lock->owner = self->lock_owner - (1u << 16);
	odp_lock(self, lock);
	odp_unlock(lock);
	lock->owner = self->lock_owner - (1u << 16);
	CU_ASSERT_FALSE(odp_trylock(self, lock));
	CU_ASSERT_TRUE(odp_lock_try(self, lock));
	CU_ASSERT_FALSE(odp_lock_try(self, lock)); /* its holder lives */
	odp_unlock(lock);
	lock->owner = 0xffffu;
	odp_lock(self, lock);
	odp_unlock(lock);
}

struct lock_run {
	struct odp_lock *lock;
	unsigned long count;
};

static void *lock_thread(void *arg)
{
	struct lock_run *r = arg;
	unsigned i;

	for (i = 0; i < 20000; i++) {
		odp_lock(self, r->lock);
		r->count++;
		odp_unlock(r->lock);
	}
	return NULL;
}

static void test_lock_excludes(void)
{
	struct lock_run r = {.lock = lock_publish()};
	pthread_t threads[4];
	unsigned i;

	for (i = 0; i < 4; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, lock_thread, &r), 0);
	for (i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(pthread_join(threads[i], NULL), 0);
	CU_ASSERT_EQUAL(r.count, 80000);
	CU_ASSERT_EQUAL(r.lock->owner, 0);
}

/* ---- Descriptors of peers ---- */

/* A pipe and a socket; say the pipe's write end and the socket. */
static int role_fds(void)
{
	struct odp_proc *proc = role_attach();
	int fds[2], null = open("/dev/null", O_RDWR);
	char byte;

	if (pipe(fds) || null < 0)
		return 4;
	parent_put(odp_proc_slot(proc));
	parent_put(fds[1]);
	parent_put(null);
	parent_put(read(fds[0], &byte, 1) == 1 ? byte : 0);
	parent_get();
	close(fds[0]);
	close(fds[1]);
	parent_put(1);
	return parent_get() == -1 ? 0 : 1;
}

static void test_peer_fd(void)
{
	struct odp_peer *peer;
	struct child c;
	int fd, nullfd, pipefd;

	CU_ASSERT_FATAL(child_start(&c, "fds"));
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)child_get(&c), &peer), 0);
	pipefd = (int)child_get(&c);
	nullfd = (int)child_get(&c);
	fd = odp_peer_fd(peer, pipefd, O_WRONLY | O_NONBLOCK);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CU_ASSERT_EQUAL(write(fd, "x", 1), 1);
	CU_ASSERT_EQUAL(child_get(&c), 'x');
	child_put(&c, 1);
	CU_ASSERT_EQUAL(child_get(&c), 1);
	/* The reader is gone; no SIGPIPE. */
	CU_ASSERT_EQUAL(write(fd, "x", 1), 1);
	close(fd);
	CU_ASSERT_EQUAL(odp_peer_fd(peer, pipefd, O_WRONLY | O_NONBLOCK), -EBADF);
	CU_ASSERT_EQUAL(odp_peer_fd(peer, -1, O_WRONLY), -EBADF);
	fd = odp_peer_fd(peer, nullfd, O_RDWR);
	if (fd == -EPERM)
		printf(" (pidfd_getfd not permitted here)");
	else
		CU_ASSERT(fd >= 0);
	if (fd >= 0)
		close(fd);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	CU_ASSERT_EQUAL(odp_peer_fd(peer, pipefd, O_WRONLY), -ESRCH);
}

/* ---- fork ---- */

static int count_fds(const char *what)
{
	char path[64], target[128];
	ssize_t n;
	int fd, found = 0;

	for (fd = 0; fd < 1024; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = 0;
		found += !!strstr(target, what);
	}
	return found;
}

/* In the child after fork; the exit status says which check failed. */
static int forked(unsigned parent_slot)
{
	struct odp_proc *proc;
	struct odp_peer *peer;

	if (odp_proc_attached())
		return 1;
	if (count_fds("uodp-segment") || count_fds("/domain"))
		return 2;
	if (odp_proc_get(&proc) || proc == self)
		return 3;
	if (odp_proc_slot(proc) == parent_slot || odp_peer_pid(odp_proc_self(proc)) != getpid())
		return 4;
	if (odp_lane_get(proc) < proc->domain->lanes[odp_proc_slot(proc)] ||
	    odp_lane_get(proc) >= proc->domain->lanes[odp_proc_slot(proc) + 1])
		return 5;
	if (odp_peer_get(proc, parent_slot, &peer) || odp_peer_pid(peer) != getppid())
		return 6;
	if (count_fds("uodp-segment") != 1 || count_fds("/domain") != 1)
		return 7;
	return 0;
}

static void test_fork(void)
{
	struct odp_peer *peer;
	struct child c;
	int status;
	long slot;
	pid_t pid;

	odp_lane_get(self);
	CU_ASSERT_FATAL(child_start(&c, "look"));
	fflush(NULL);
	pid = fork();
	if (!pid)
		_exit(forked(odp_proc_slot(self)));
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	/* The parent has lost nothing by it: others still see it alive. */
	child_put(&c, odp_proc_slot(self));
	CU_ASSERT_EQUAL(child_get(&c), 0);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	CU_ASSERT_PTR_EQUAL(odp_proc_attached(), self);
	CU_ASSERT_FATAL(child_start(&c, "stay"));
	slot = child_get(&c);
	CU_ASSERT_EQUAL(odp_peer_get(self, (unsigned)slot, &peer), 0);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

/* ---- Liars ---- */

static void test_foreign_header(void)
{
	struct odp_slot *slot;
	struct odp_peer *peer;
	struct child c;
	long nr;
	int seg_fd;

	CU_ASSERT_FATAL(child_start(&c, "stay"));
	nr = child_get(&c);
	slot = &self->domain->slots[nr];
	seg_fd = slot->seg_fd;
	printf(" (three lines are expected)\n");
	fflush(stdout);
	slot->seg_fd = slot->bell_fd;
	CU_ASSERT_EQUAL(odp_peer_get(self, (unsigned)nr, &peer), -EPROTO);
	slot->seg_fd = slot->pool_fd;
	CU_ASSERT_EQUAL(odp_peer_get(self, (unsigned)nr, &peer), -EPROTO);
	slot->seg_fd = 99999;
	CU_ASSERT_EQUAL(odp_peer_get(self, (unsigned)nr, &peer), -EBADF);
	slot->seg_fd = seg_fd;
	slot->start_time++;
	CU_ASSERT_EQUAL(odp_peer_get(self, (unsigned)nr, &peer), -ENOENT);
	slot->start_time--;
	CU_ASSERT_EQUAL(odp_peer_get(self, (unsigned)nr, &peer), 0);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

/* ---- Many ---- */

#define MANY 40

static void test_many(void)
{
	struct odp_peer *peers[MANY];
	struct child c[MANY];
	unsigned i;

	for (i = 0; i < MANY; i++)
		CU_ASSERT_FATAL(child_start(&c[i], "stay"));
	for (i = 0; i < MANY; i++) {
		long slot = child_get(&c[i]);

		CU_ASSERT_FATAL(slot >= 0);
		CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)slot, &peers[i]), 0);
	}
	for (i = 0; i < MANY; i++)
		kill(c[i].pid, SIGKILL);
	for (i = 0; i < MANY; i++) {
		CU_ASSERT_TRUE(wait_for(peer_is_dead, peers[i]));
		child_end(&c[i]);
	}
	CU_ASSERT_FATAL(child_start(&c[0], "stay"));
	CU_ASSERT(child_get(&c[0]) <= 2);
	CU_ASSERT_EQUAL(child_end(&c[0]), 0);
}

static void try_attach(void *arg)
{
	struct child c;

	CU_ASSERT_FATAL(child_start(&c, "try"));
	*(long *)arg = child_get(&c);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

static void test_all_slots_used(void)
{
	struct child squatter;
	char line[512];
	long err;

	CU_ASSERT_EQUAL(odp_slot_reap(self), 0);
	CU_ASSERT_EQUAL_FATAL(odp_proc_slot(self), 0);
	CU_ASSERT_FATAL(child_start(&squatter, "squat"));
	CU_ASSERT_EQUAL_FATAL(child_get(&squatter), 1);
	CU_ASSERT_EQUAL(stderr_lines(try_attach, &err, line, sizeof(line)), 1);
	CU_ASSERT_EQUAL(err, EUSERS);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, "slots"));
	child_kill(&squatter);
	CU_ASSERT_EQUAL(stderr_lines(try_attach, &err, line, sizeof(line)), 0);
	CU_ASSERT_EQUAL(err, 0);
}

/* ---- Narrow limits ---- */

static int role_limited(void)
{
	struct rlimit files = {.rlim_cur = 40, .rlim_max = 4096};
	struct odp_proc *proc;
	struct odp_peer *peer;
	long slot;

	setrlimit(RLIMIT_NOFILE, &files);
	if (odp_proc_get(&proc))
		return 2;
	while ((slot = parent_get()) >= 0)
		parent_put(-odp_peer_get(proc, (unsigned)slot, &peer));
	return 0;
}

/* More peers than the soft limit of open files has room for. */
static void test_few_files(void)
{
	struct child c[20], limited;
	unsigned i;

	CU_ASSERT_FATAL(child_start(&limited, "limited"));
	for (i = 0; i < 20; i++) {
		CU_ASSERT_FATAL(child_start(&c[i], "stay"));
		child_put(&limited, child_get(&c[i]));
		CU_ASSERT_EQUAL(child_get(&limited), 0);
	}
	CU_ASSERT_EQUAL(child_end(&limited), 0);
	for (i = 0; i < 20; i++)
		CU_ASSERT_EQUAL(child_end(&c[i]), 0);
}

static void attach_with_limit(void *arg)
{
	const int *resource = arg;
	struct rlimit old, small = {.rlim_cur = 1 << 30};
	long err = 0;

	getrlimit((unsigned)*resource, &old);
	small.rlim_max = old.rlim_max;
	setrlimit((unsigned)*resource, &small);
	try_attach(&err);
	setrlimit((unsigned)*resource, &old);
	CU_ASSERT_EQUAL(err, *resource == RLIMIT_AS ? ENOMEM : EFBIG);
}

static void test_small_limits(void)
{
	int fsize = RLIMIT_FSIZE, as = RLIMIT_AS;
	char line[512];

	CU_ASSERT_EQUAL(stderr_lines(attach_with_limit, &fsize, line, sizeof(line)), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, "ulimit -f"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	CU_ASSERT_EQUAL(stderr_lines(attach_with_limit, &as, line, sizeof(line)), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, "ulimit -v"));
#else
	(void)as; /* a sanitizer's own memory needs more */
#endif
}

/* A server outlives thousands of clients: what does each leave in it? */
static void test_retired(void)
{
	struct odp_peer *peer, *next;
	struct child c;
	uint64_t *p;
	long slot;

	CU_ASSERT_FATAL(child_start(&c, "publish"));
	slot = child_get(&c);
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)slot, &peer), 0);
	p = odp_peer_ptr(peer, odp_peer_root(peer), 8192);
	CU_ASSERT_EQUAL(p[0], 0x600d);
	child_kill(&c);
	CU_ASSERT_FATAL(child_start(&c, "stay"));
	CU_ASSERT_EQUAL(child_get(&c), slot);
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)slot, &next), 0);
	CU_ASSERT_EQUAL(p[0], 0x600d); /* not yet */
	child_kill(&c);
	sleep_ms(2100);
	CU_ASSERT_FATAL(child_start(&c, "stay"));
	CU_ASSERT_EQUAL(child_get(&c), slot);
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)slot, &next), 0);
	CU_ASSERT_EQUAL(p[0], 0);
	p[1023] = 1; /* still writable */
	CU_ASSERT_FALSE(odp_peer_check(peer));
	odp_bell_ring(peer);
	CU_ASSERT_EQUAL(odp_peer_fd(peer, 0, O_RDONLY), -ESRCH);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

/* ---- Another PID namespace ---- */

static unsigned far_slot;

static void far_ask(void *arg)
{
	int *wrong = arg;
	struct odp_peer *peer;

	for (unsigned i = 0; i < 50; i++)
		*wrong += odp_peer_get(self, far_slot, &peer) != -EXDEV;
}

/* Its first child lives in a namespace of its own: 77 where that is not to be had. */
static int namespace_ask(void)
{
	struct child c;
	char text[2048];
	int wrong = 0, lines;

	/* Attached first: a thread cannot be in another namespace than its process. */
	self = role_attach();
	if (unshare(CLONE_NEWPID) || !child_start(&c, "stay"))
		return 77;
	far_slot = (unsigned)child_get(&c);
	lines = stderr_lines(far_ask, &wrong, text, sizeof(text));
	child_kill(&c);
	if (wrong || lines != 1 || !strstr(text, "PID namespace")) {
		fprintf(stderr, "%d wrong, %d lines: %s", wrong, lines, text);
		return 1;
	}
	return 0;
}

static int role_namespace(void)
{
	int ret = namespace_ask();

	/* Past a leak checker, whose own child would be in the other namespace. */
	fflush(NULL);
	_exit(ret);
}

static void test_namespace(void)
{
	struct child c;
	int ret;

	CU_ASSERT_FATAL(child_start(&c, "namespace"));
	ret = child_end(&c);
	if (ret == 77)
		printf(" (skipped: no PID namespace) ");
	else
		CU_ASSERT_EQUAL(ret, 0);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {
		{"stay", role_stay},
		{"publish", role_publish},
		{"hold", role_hold},
		{"exec", role_exec},
		{"look", role_look},
		{"fds", role_fds},
		{"squat", role_squat},
		{"try", role_try},
		{"limited", role_limited},
		{"namespace", role_namespace},
		{NULL, NULL},
	};
	static CU_TestInfo tests[] = {
		{"threads attach the process once", test_get_once},
		{"descriptors keep out of the way", test_high_descriptors},
		{"two processes see each other", test_peers_see_each_other},
		{"offsets out of bounds give no pointer", test_peer_bounds},
		{"an empty slot is nobody", test_nobody_there},
		{"a killed peer is noticed and replaced", test_death_is_noticed},
		{"the blocks of the dead are free", test_death_frees_blocks},
		{"a process that called exec is gone", test_exec_is_death},
		{"blocks of queue pair numbers", test_blocks},
		{"all blocks can be had, and no more", test_blocks_exhausted},
		{"the lock of a killed holder is taken over", test_lock_of_the_dead},
		{"a lock excludes", test_lock_excludes},
		{"descriptors of peers", test_peer_fd},
		{"a forked child attaches anew", test_fork},
		{"a slot that lies is refused", test_foreign_header},
		{"the slots can all be in use", test_all_slots_used},
		{"more peers than open files", test_few_files},
		{"limits of the process are told", test_small_limits},
		{"what a dead peer cost is given back", test_retired},
		{"processes of two PID namespaces", test_namespace},
		{"many processes come and go", test_many},
		CU_TEST_INFO_NULL,
	};

	child_main(argc, argv, roles);
	return suite_run("proc", tests);
}
