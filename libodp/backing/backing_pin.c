/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Pinned memory that cannot be in the pool: io_uring registered buffers, which
 * are the same long-term pin that ibv_reg_mr() takes. Bytes move between them
 * and a pipe of the executing process; peers submit to the owner's ring.
 */
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <string.h>
#include <sys/uio.h>

#include "backing.h"
#include "base.h"
#include "domain.h"

#define RING_ENTRIES 8u
#define PIPE_SIZE ((int)(256 << 10)) /* a bounce buffer, however it is aligned */

static uint64_t slot_bytes(void)
{
	return (uint64_t)1 << ODP_PIN_SHIFT;
}

/* ---- the owner's side ---- */

static int ring_setup(struct io_uring_params *p)
{
	int fd;

	memset(p, 0, sizeof(*p));
	fd = (int)odp_sys(SYS_io_uring_setup, RING_ENTRIES, p, 0);
	if (fd < 0)
		return fd;
	if (p->features & IORING_FEAT_SINGLE_MMAP)
		return odp_fd_high(fd);
	odp_fd_close(fd);
	return -EOPNOTSUPP;
}

static void ring_publish(struct odp_pin_ring *pin, const struct io_uring_params *p)
{
	uint32_t sq = p->sq_off.array + p->sq_entries * (uint32_t)sizeof(uint32_t);
	uint32_t cq = p->cq_off.cqes + p->cq_entries * (uint32_t)sizeof(struct io_uring_cqe);

	pin->cq_entries = p->cq_entries;
	pin->ring_len = sq > cq ? sq : cq;
	pin->sqes_len = p->sq_entries * (uint32_t)sizeof(struct io_uring_sqe);
	pin->sq_head = p->sq_off.head;
	pin->sq_tail = p->sq_off.tail;
	pin->sq_array = p->sq_off.array;
	pin->cq_head = p->cq_off.head;
	pin->cq_tail = p->cq_off.tail;
	pin->cqes = p->cq_off.cqes;
	/* release: peers that see it see the rest. */
	atomic_store_explicit(&pin->entries, p->sq_entries, memory_order_release);
}

static int table_register(int fd)
{
	struct io_uring_rsrc_register reg = {
		.nr = ODP_PIN_SLOTS,
		.flags = IORING_RSRC_REGISTER_SPARSE,
	};

	return (int)odp_sys6(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS2, (long)&reg,
			     sizeof(reg), 0, 0);
}

static int pipe_open(struct odp_mem *m)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	m->pipe_rd = odp_fd_high(fd[0]);
	m->pipe_wr = odp_fd_high(fd[1]);
	odp_own_fcntl(m->pipe_wr, F_SETPIPE_SZ, PIPE_SIZE);
	return 0;
}

/* The rings of a process are mapped alike by who goes by what is told of the first. */
static bool ring_same(const struct odp_pin_ring *a, const struct odp_pin_ring *b)
{
	return atomic_load_explicit(&a->entries, memory_order_relaxed) ==
		       atomic_load_explicit(&b->entries, memory_order_relaxed) &&
	       !memcmp((const char *)a + sizeof(a->entries), (const char *)b + sizeof(b->entries),
		       sizeof(*a) - sizeof(a->entries));
}

/* One ring more, with its buffers all free (pin_slots). */
static int ring_add(struct odp_mem *m)
{
	struct odp_seg *seg = m->proc->self->seg;
	struct odp_pin_ring pin = {0};
	struct io_uring_params p;
	int fd, ret;

	if (m->pin_rings == ODP_PIN_RINGS)
		return -ENOMEM;
	fd = ring_setup(&p);
	if (fd < 0)
		return fd;
	ret = table_register(fd);
	if (ret)
		goto err_close;
	if (!m->pin_rings)
		ring_publish(&seg->pin, &p);
	ring_publish(&pin, &p);
	ret = -EOPNOTSUPP;
	if (!ring_same(&seg->pin, &pin))
		goto err_close;
	m->pin_fds[m->pin_rings] = fd;
	/* release: pairs with view_open(). */
	atomic_store_explicit(&seg->pin_fds[m->pin_rings], fd + 1, memory_order_release);
	m->pin_rings++;
	return 0;

err_close:
	odp_fd_close(fd);
	return ret;
}

int odp_pin_open(struct odp_mem *m)
{
	int ret;

	m->pins = odp_mem_map((size_t)ODP_MAX_PROCS * ODP_PIN_RINGS * sizeof(*m->pins));
	m->pin_used = odp_mem_map(ODP_PIN_RINGS * ODP_PIN_SLOTS / 8);
	if (!m->pins || !m->pin_used)
		return -ENOMEM;
	ret = odp_on_valgrind() ? -ECANCELED : pipe_open(m);
	if (!ret)
		ret = ring_add(m);
	m->pin_ok = !ret;
	return ret;
}

void odp_pin_child(struct odp_mem *m)
{
	/* They would hold the parent's pages when that has ended. */
	for (uint32_t i = 0; i < m->pin_rings; i++)
		odp_fd_close(m->pin_fds[i]);
	m->pin_rings = 0;
}

bool odp_pin_usable(const struct odp_mem *m)
{
	return m->pin_ok;
}

static bool slot_used(const struct odp_mem *m, uint32_t i)
{
	return m->pin_used[i / 64] >> (i % 64) & 1;
}

static void slots_mark(struct odp_mem *m, uint32_t first, uint32_t n, bool used)
{
	for (uint32_t i = first; i < first + n; i++) {
		uint64_t bit = (uint64_t)1 << (i % 64);

		if (used)
			m->pin_used[i / 64] |= bit;
		else
			m->pin_used[i / 64] &= ~bit;
	}
	if (used && first == m->pin_low)
		m->pin_low = first + n;
	else if (!used && first < m->pin_low)
		m->pin_low = first;
}

/* N buffers in a row, or -ENOMEM: in none of the rings that are open. */
static int slots_find(const struct odp_mem *m, uint32_t n)
{
	for (uint32_t i = m->pin_low, run = 0; i < m->pin_rings * ODP_PIN_SLOTS; i++) {
		if (!(i % 64) && !~m->pin_used[i / 64]) {
			i += 63;
			run = 0;
			continue;
		}
		run = slot_used(m, i) ? 0 : run + 1;
		if (run == n)
			return (int)(i + 1 - n);
	}
	return -ENOMEM;
}

static int slots_alloc(struct odp_mem *m, uint32_t n)
{
	int first, ret = 0;

	while ((first = slots_find(m, n)) < 0 && !ret)
		ret = ring_add(m);
	if (first < 0) {
		odp_log(ODP_LOG_WARN, "no more memory can be pinned: %s%s", strerrordesc_np(-ret),
			ret == -EMFILE ? "; see RLIMIT_NOFILE" : "");
		return -ENOMEM;
	}
	slots_mark(m, (uint32_t)first, n, true);
	return first;
}

static int slot_update(struct odp_mem *m, uint32_t slot, uint64_t addr, uint64_t len)
{
	struct iovec iov = {(void *)(uintptr_t)addr, len};
	struct io_uring_rsrc_update2 up = {
		.offset = slot % ODP_PIN_SLOTS, .data = (uintptr_t)&iov, .nr = 1};
	long ret = odp_sys6(SYS_io_uring_register, m->pin_fds[slot / ODP_PIN_SLOTS],
			    IORING_REGISTER_BUFFERS_UPDATE, (long)&up, sizeof(up), 0, 0);

	return ret == 1 ? 0 : ret < 0 ? (int)ret : -EFAULT;
}

static void slots_clear(struct odp_mem *m, uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		slot_update(m, first + i, 0, 0);
}

int odp_pin_register(struct odp_region *r)
{
	struct odp_mem *m = r->mem;
	uint64_t len = r->npages << ODP_PAGE_SHIFT, at;
	uint32_t n = (uint32_t)((len + slot_bytes() - 1) >> ODP_PIN_SHIFT), i;
	int first, ret = 0;

	pthread_mutex_lock(&m->pin_slots);
	first = slots_alloc(m, n);
	if (first < 0) {
		ret = first;
		goto out;
	}
	for (i = 0, at = 0; i < n && !ret; i++, at += slot_bytes())
		ret = slot_update(m, (uint32_t)first + i, r->it.start + at,
				  odp_min(len - at, slot_bytes()));
	if (ret) {
		slots_clear(m, (uint32_t)first, i - 1);
		slots_mark(m, (uint32_t)first, n, false);
		goto out;
	}
	r->mr->pin_first = (uint32_t)first;
	r->mr->pin_count = n;
out:
	pthread_mutex_unlock(&m->pin_slots);
	return ret;
}

void odp_pin_unregister(struct odp_region *r)
{
	struct odp_mem *m = r->mem;

	if (r->hold) {
		odp_pipe_unregister(r);
		return;
	}
	pthread_mutex_lock(&m->pin_slots);
	slots_clear(m, r->mr->pin_first, r->mr->pin_count);
	slots_mark(m, r->mr->pin_first, r->mr->pin_count, false);
	pthread_mutex_unlock(&m->pin_slots);
	r->mr->pin_first = r->mr->pin_count = 0;
}

/* ---- the executing side, under pin_pipe ---- */

/* What another process says of its ring: is each queue inside the mapping? */
static bool ring_sane(const struct odp_pin_ring *r)
{
	const uint32_t words[] = {r->sq_head, r->sq_tail, r->cq_head, r->cq_tail};
	uint32_t entries = atomic_load_explicit(&r->entries, memory_order_relaxed);

	if (!entries || entries > 4096 || entries & (entries - 1) || !r->cq_entries ||
	    r->cq_entries > 8192 || r->cq_entries & (r->cq_entries - 1) || r->ring_len > 1u << 20 ||
	    r->sqes_len > 1u << 20 || r->sqes_len < entries * sizeof(struct io_uring_sqe))
		return false;
	for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (words[i] % sizeof(uint32_t) || words[i] + sizeof(uint32_t) > r->ring_len)
			return false;
	return r->sq_array % sizeof(uint32_t) == 0 && r->cqes % sizeof(uint64_t) == 0 &&
	       (uint64_t)r->sq_array + entries * sizeof(uint32_t) <= r->ring_len &&
	       (uint64_t)r->cqes + r->cq_entries * sizeof(struct io_uring_cqe) <= r->ring_len;
}

static void view_close(struct odp_pin_view *v, struct odp_peer *peer)
{
	if (v->ring)
		odp_sys_munmap((uintptr_t)v->ring, v->ring_len);
	if (v->sqes)
		odp_sys_munmap((uintptr_t)v->sqes, v->sqes_len);
	if (v->ring_fd >= 0 && !peer->self)
		odp_fd_close(v->ring_fd);
	memset(v, 0, sizeof(*v));
}

static int view_open(struct odp_pin_view *v, struct odp_peer *peer, uint32_t ring)
{
	struct odp_pin_ring *pin = &v->pin;
	void *p;
	int fd;

	v->ring_fd = -1;
	/* acquire: pairs with ring_add(). */
	fd = atomic_load_explicit(&peer->seg->pin_fds[ring], memory_order_acquire) - 1;
	if (fd < 0)
		return -EFAULT;
	memcpy(pin, &peer->seg->pin, sizeof(*pin));
	if (!ring_sane(pin))
		return -EPROTO;
	if (!peer->self)
		fd = odp_peer_fd(peer, fd, O_RDWR);
	if (fd < 0)
		return fd;
	v->ring_fd = fd;
	v->ring_len = pin->ring_len;
	v->sqes_len = pin->sqes_len;
	p = odp_own_mmap(NULL, v->ring_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
			 IORING_OFF_SQ_RING);
	if (p == MAP_FAILED)
		return -errno;
	v->ring = p;
	p = odp_own_mmap(NULL, v->sqes_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
			 IORING_OFF_SQES);
	if (p == MAP_FAILED)
		return -errno;
	v->sqes = p;
	odp_own_madvise(v->ring, v->ring_len, MADV_DONTFORK);
	odp_own_madvise(v->sqes, v->sqes_len, MADV_DONTFORK);
	return 0;
}

static int view_get(struct odp_mem *m, struct odp_peer *peer, uint32_t ring,
		    struct odp_pin_view **view)
{
	struct odp_pin_view *v = &m->pins[peer->nr * ODP_PIN_RINGS + ring];
	int ret;

	*view = v;
	if (v->gen == peer->gen + 1)
		return 0;
	if (v->gen)
		view_close(v, peer);
	ret = view_open(v, peer, ring);
	if (ret) {
		view_close(v, peer);
		odp_log(ODP_LOG_DEBUG, "cannot reach the pinned memory of process %d: %s",
			(int)peer->pid, strerrordesc_np(-ret));
		return -EFAULT;
	}
	v->gen = peer->gen + 1;
	return 0;
}

static inline _Atomic uint32_t *ring_word(const struct odp_pin_view *v, uint32_t off)
{
	return (_Atomic uint32_t *)(v->ring + off);
}

/* What a submitter left that died half way: entries never submitted, completions
 * never reaped. */
static void ring_tidy(const struct odp_pin_view *v, const struct odp_pin_ring *pin)
{
	atomic_store_explicit(
		ring_word(v, pin->sq_tail),
		atomic_load_explicit(ring_word(v, pin->sq_head), memory_order_acquire),
		memory_order_release);
	atomic_store_explicit(
		ring_word(v, pin->cq_head),
		atomic_load_explicit(ring_word(v, pin->cq_tail), memory_order_acquire),
		memory_order_release);
}

static void ring_push(const struct odp_pin_view *v, const struct odp_pin_ring *pin,
		      const struct io_uring_sqe *sqe)
{
	uint32_t entries = atomic_load_explicit(&pin->entries, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(ring_word(v, pin->sq_tail), memory_order_relaxed);
	uint32_t i = tail & (entries - 1);

	((struct io_uring_sqe *)v->sqes)[i] = *sqe;
	((uint32_t *)(v->ring + pin->sq_array))[i] = i;
	/* release: the kernel reads the entry after the tail. */
	atomic_store_explicit(ring_word(v, pin->sq_tail), tail + 1, memory_order_release);
}

/* The result of the entry with USER_DATA, skipping those of the dead. */
static bool ring_reap(const struct odp_pin_view *v, const struct odp_pin_ring *pin,
		      uint64_t user_data, int *res)
{
	uint32_t head = atomic_load_explicit(ring_word(v, pin->cq_head), memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(ring_word(v, pin->cq_tail), memory_order_acquire);
	const struct io_uring_cqe *cqes = (const void *)(v->ring + pin->cqes);
	bool found = false;

	for (; head != tail && !found; head++) {
		const struct io_uring_cqe *cqe = &cqes[head & (pin->cq_entries - 1)];

		if (cqe->user_data == user_data) {
			*res = cqe->res;
			found = true;
		}
	}
	/* release: the kernel may overwrite what we have read. */
	atomic_store_explicit(ring_word(v, pin->cq_head), head, memory_order_release);
	return found;
}

/* Entries that the kernel has not taken yet: short of memory, it takes none, and to wait
 * for their completion would be to wait for ever. */
static uint32_t ring_left(const struct odp_pin_view *v, const struct odp_pin_ring *pin)
{
	/* acquire: pairs with the kernel's release when it has taken one. */
	return atomic_load_explicit(ring_word(v, pin->sq_tail), memory_order_relaxed) -
	       atomic_load_explicit(ring_word(v, pin->sq_head), memory_order_acquire);
}

static bool ring_lock(struct odp_proc *proc, struct odp_lock *lock)
{
	for (int i = 0; i < 100; i++) {
		if (odp_lock_try(proc, lock))
			return true;
		sched_yield();
	}
	return false;
}

static int ring_run(struct odp_mem *m, struct odp_peer *peer, const struct odp_pin_view *v,
		    struct io_uring_sqe *sqe)
{
	static uint32_t serial; /* pin_pipe */
	const struct odp_pin_ring *pin = &v->pin;
	int res = -EFAULT;

	sqe->user_data = (uint64_t)m->proc->self->pid << 32 | ++serial;
	/* Held for a system call; by a process that is stopped for longer. */
	if (!ring_lock(m->proc, &peer->seg->ring))
		return -EAGAIN;
	ring_tidy(v, pin);
	ring_push(v, pin, sqe);
	for (int i = 0; i < 1000; i++) {
		long ret = odp_sys6(SYS_io_uring_enter, v->ring_fd, ring_left(v, pin), 1,
				    IORING_ENTER_GETEVENTS, 0, 0);

		if (ring_reap(v, pin, sqe->user_data, &res) ||
		    (ret < 0 && ret != -EINTR && ret != -EAGAIN))
			break;
	}
	odp_unlock(&peer->seg->ring);
	return res;
}

static ssize_t pin_xfer(struct odp_mem *m, struct odp_peer *peer, const struct odp_pin_view *v,
			struct io_uring_sqe *sqe, uint64_t addr, size_t n)
{
	sqe->addr = addr;
	sqe->len = (uint32_t)n;
	sqe->off = (uint64_t)-1;
	return ring_run(m, peer, v, sqe);
}

size_t odp_pin_take(struct odp_mem *m, void *buf, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t part = read(m->pipe_rd, (char *)buf + got, n - got);

		if (part <= 0)
			break;
		got += (size_t)part;
	}
	return got;
}

void odp_pin_drain(struct odp_mem *m)
{
	char scratch[512];

	while (read(m->pipe_rd, scratch, sizeof(scratch)) > 0)
		;
}

static ssize_t pin_write(struct odp_mem *m, struct odp_peer *peer, const struct odp_pin_view *v,
			 struct io_uring_sqe *sqe, uint64_t addr, void *buf, size_t n)
{
	struct iovec iov = {buf, n};
	ssize_t put, ret;

	/* Small: into the pipe; large: the pipe refers to BUF until all is read. */
	put = n <= ODP_PAGE_SIZE ? odp_own_write(m->pipe_wr, buf, n)
				 : vmsplice(m->pipe_wr, &iov, 1, SPLICE_F_NONBLOCK);
	if (put <= 0)
		return -EFAULT;
	sqe->opcode = IORING_OP_READ_FIXED;
	sqe->fd = m->pipe_rd;
	ret = pin_xfer(m, peer, v, sqe, addr, (size_t)put);
	if (ret != put)
		odp_pin_drain(m);
	return ret;
}

static ssize_t pin_read(struct odp_mem *m, struct odp_peer *peer, const struct odp_pin_view *v,
			struct io_uring_sqe *sqe, uint64_t addr, void *buf, size_t n)
{
	ssize_t got;

	sqe->opcode = IORING_OP_WRITE_FIXED;
	sqe->fd = m->pipe_wr;
	got = pin_xfer(m, peer, v, sqe, addr, n);
	return got > 0 ? (ssize_t)odp_pin_take(m, buf, (size_t)got) : got;
}

ssize_t odp_pin_io(struct odp_peer *peer, const struct odp_mr_shm *mr, uint64_t addr, void *buf,
		   size_t n, bool write)
{
	struct odp_mem *m = odp_self->mem;
	uint64_t pos = addr - odp_page_down(mr->addr);
	uint64_t slot = mr->pin_first + (pos >> ODP_PIN_SHIFT);
	struct io_uring_sqe sqe = {.buf_index = (uint16_t)(slot % ODP_PIN_SLOTS)};
	struct odp_pin_view *v;
	ssize_t ret;

	if (pos >> ODP_PIN_SHIFT >= mr->pin_count || slot / ODP_PIN_SLOTS >= ODP_PIN_RINGS ||
	    m->pipe_rd < 0)
		return -EFAULT;
	n = odp_min(n, slot_bytes() - (pos & (slot_bytes() - 1)));
	n = odp_min(n, ODP_BOUNCE_SIZE);
	pthread_mutex_lock(&m->pin_pipe);
	ret = view_get(m, peer, (uint32_t)(slot / ODP_PIN_SLOTS), &v);
	if (!ret)
		ret = write ? pin_write(m, peer, v, &sqe, addr, buf, n)
			    : pin_read(m, peer, v, &sqe, addr, buf, n);
	pthread_mutex_unlock(&m->pin_pipe);
	return ret > 0 ? ret : ret == -EINTR || ret == -EAGAIN ? -EAGAIN : -EFAULT;
}
