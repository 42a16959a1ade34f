/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Takes blocks away, writes new content, and looks at every word. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checker.h"

#define LIMIT_NS 60000000000ull

enum how { BY_TRUNCATE, BY_TRUNCATE_WRITE, BY_OPEN, BY_PUNCH, BY_ZERO, HOWS };
static const char *const how_names[HOWS] = {"truncate and grow", "truncate and write", "O_TRUNC",
					    "punch", "zero range"};

/* What was taken away: bytes [start, end) of the file. */
struct taken {
	enum how how;
	uint64_t start, end;
	uint32_t k; /* phases 2k+1, 2k+2 */
};

static bool write_all(int fd, const void *buf, size_t len, uint64_t at)
{
	return pwrite(fd, buf, len, (off_t)at) == (ssize_t)len;
}

/* [start, end), which begins with a word. */
static bool content_write(int fd, uint32_t phase, uint64_t start, uint64_t end)
{
	uint64_t buf[8 * 1024 / 8], at, n;

	for (at = start; at < end; at += n) {
		n = end - at < sizeof(buf) ? end - at : sizeof(buf);
		for (uint64_t i = 0; i < (n + 7) / 8; i++)
			buf[i] = word_make(TAG_NEW, phase, 0, at + 8 * i);
		if (!write_all(fd, buf, n, at)) {
			fail("cannot write the file: %s", strerror(errno));
			return false;
		}
	}
	return true;
}

bool round_begin_content(struct rounds *r)
{
	return content_write(r->fd, 0, 0, FILE_LEN);
}

/* ---- taking blocks away ---- */

static void taken_pick(struct rounds *r, struct taken *t)
{
	uint32_t pages = FILE_LEN / PAGE, first = rng_below(&r->rng, pages);

	t->how = (enum how)rng_below(&r->rng, HOWS);
	t->end = FILE_LEN;
	switch (t->how) {
	case BY_OPEN:
		t->start = 0;
		break;
	case BY_PUNCH:
	case BY_ZERO:
		t->start = first * PAGE;
		t->end = (first + 1 + rng_below(&r->rng, pages - first)) * PAGE;
		break;
	default: /* in the middle of a page, too */
		t->start = first * PAGE + (rng_below(&r->rng, 4) ? 0 : 8 * rng_below(&r->rng, 512));
		break;
	}
}

static int take(struct rounds *r, const struct taken *t)
{
	int mode = FALLOC_FL_KEEP_SIZE |
		   (t->how == BY_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	int fd;

	switch (t->how) {
	case BY_OPEN:
		fd = open(r->path, O_RDWR | O_TRUNC | O_CLOEXEC);
		if (fd < 0)
			return errno;
		close(fd);
		return 0;
	case BY_PUNCH:
	case BY_ZERO:
		return fallocate(r->fd, mode, (off_t)t->start, (off_t)(t->end - t->start)) ? errno
											   : 0;
	default:
		return ftruncate(r->fd, (off_t)t->start) ? errno : 0;
	}
}

/* ---- looking ---- */

static const char *word_wrong(const struct taken *t, uint64_t word, uint64_t at)
{
	bool hole = t->how == BY_PUNCH || t->how == BY_ZERO;
	uint32_t oldest = 2 * t->k + (hole ? 0 : 2);

	if (word != word_make(word_tag(word), word_phase(word), word_reg(word), at))
		return "is of another place";
	if (word_tag(word) == TAG_NEW)
		return word_phase(word) == 2 * t->k + 2 ? NULL : "is of content before";
	if (word_tag(word) != TAG_RDMA)
		return word ? "was written by nobody" : "is zero";
	if (ctl->policy == UODPDV_POLICY_ODP && word_phase(word) < oldest)
		return "came from a transfer that had begun before";
	if (ctl->policy != UODPDV_POLICY_ODP &&
	    atomic_load(&ctl->reg_phase[word_reg(word)]) < 2 * t->k + 1)
		return "came by a region of the old blocks";
	return NULL;
}

/* Of the part that was not taken: from whenever. */
static const char *word_odd(uint64_t word, uint64_t at)
{
	unsigned int tag = word_tag(word);

	if (word != word_make(tag, word_phase(word), word_reg(word), at))
		return "is of another place";
	return tag == TAG_NEW || tag == TAG_RDMA ? NULL
	       : word                            ? "was written by nobody"
						 : "is zero";
}

/* A word may be caught while it is written: then it is another one now. */
static void word_complain(int fd, const char *where, const struct taken *t, uint64_t word,
			  uint64_t at, const char *why)
{
	uint64_t again = 0;

	if (pread(fd, &again, sizeof(again), (off_t)at) == sizeof(again) && again != word)
		return;
	fail("policy %s, %u: %s of [%#llx, %#llx): the word at %#llx %s %s: %#llx: phase %u, "
	     "registration %u of phase %u",
	     policy_names[ctl->policy], t->k, how_names[t->how], (unsigned long long)t->start,
	     (unsigned long long)t->end, (unsigned long long)at, where, why,
	     (unsigned long long)word, word_phase(word), word_reg(word),
	     atomic_load(&ctl->reg_phase[word_reg(word)]));
}

static void look(struct rounds *r, int fd, const char *where, const struct taken *t, bool kept)
{
	static uint64_t buf[65536 / 8];
	uint64_t first = (t->start + PAGE - 1) & ~(PAGE - 1);

	for (uint64_t at = 0; at < FILE_LEN && !over(); at += sizeof(buf)) {
		if (pread(fd, buf, sizeof(buf), (off_t)at) != sizeof(buf)) {
			fail("cannot read the file at %#llx: %s", (unsigned long long)at,
			     strerror(errno));
			return;
		}
		for (uint64_t i = 0; i < sizeof(buf) / 8; i++) {
			uint64_t pos = at + 8 * i;
			bool mine = !kept && pos >= first && pos < t->end;
			/* The page that was cut in the middle stays with the old regions. */
			bool neither = !kept && pos >= (t->start & ~(PAGE - 1)) && pos < first;
			const char *why = neither ? NULL
					  : mine  ? word_wrong(t, buf[i], pos)
						  : word_odd(buf[i], pos);

			if (why)
				word_complain(fd, where, t, buf[i], pos, why);
			r->words += mine;
			r->rdma += mine && word_tag(buf[i]) == TAG_RDMA;
		}
	}
}

/*
 * What has got to the backing file. That a process was killed in the middle of a
 * store is one of the errors of FUSE's write-back, told once; nothing is missing
 * for it.
 */
static void look_behind(struct rounds *r, const struct taken *t, bool kept)
{
	int fd = open(r->back, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (fdatasync(r->fd) && fdatasync(r->fd)))
		fail("cannot open %s or synchronise: %s", r->back, strerror(errno));
	else
		look(r, fd, "in the backing file", t, kept);
	if (fd >= 0)
		close(fd);
}

/* ---- others that are stopped, or killed, in the middle of a transfer ---- */

static unsigned int torment_begin(struct rounds *r)
{
	unsigned int who;

	if (!r->torment || rng_below(&r->rng, r->torment))
		return 0;
	who = 1 + rng_below(&r->rng, 3);
	for (int i = 0; i < 2; i++)
		if (who >> i & 1 && r->pids[i])
			kill(r->pids[i], SIGSTOP);
	r->stops++;
	return who;
}

static void torment_end(struct rounds *r, unsigned int who)
{
	for (int i = 0; i < 2; i++) {
		if (!(who >> i & 1) || !r->pids[i])
			continue;
		if (!rng_below(&r->rng, 4)) {
			r->killed[i] = true;
			kill(r->pids[i], SIGKILL);
			r->kills++;
		}
		kill(r->pids[i], SIGCONT);
	}
}

/* ---- a round ---- */

static void stamps_wait(uint32_t phase)
{
	uint64_t limit = now_ns() + LIMIT_NS;

	for (unsigned int i = 0; i < ctl->threads; i++) {
		while (atomic_load(&ctl->link[i].stamped) < phase && !over()) {
			if (now_ns() > limit)
				fail("requester %u is stuck in a transfer", i);
			nap_us(20);
		}
	}
}

static void denied(struct rounds *r, const struct taken *t, int err)
{
	struct stat st;

	if (err != ETXTBSY)
		fail("policy deny: %s gave %s", how_names[t->how], strerrorname_np(err));
	if (fstat(r->fd, &st) || st.st_size != (off_t)FILE_LEN)
		fail("policy deny: the file's size is another one after %s", how_names[t->how]);
	look(r, r->fd, "", t, true);
	if (!rng_below(&r->rng, 4))
		look_behind(r, t, true);
}

/* The file is whole again. */
static bool renew(struct rounds *r, const struct taken *t)
{
	if (t->how == BY_TRUNCATE && ftruncate(r->fd, FILE_LEN)) {
		fail("cannot grow the file: %s", strerror(errno));
		return false;
	}
	return content_write(r->fd, 2 * t->k + 2, t->start, t->end);
}

void round_run(struct rounds *r)
{
	struct taken t = {.k = atomic_load(&ctl->phase) / 2};
	unsigned int who;
	uint64_t began;
	int err;

	taken_pick(r, &t);
	nap_us(rng_below(&r->rng, 3000));
	who = torment_begin(r);
	atomic_store(&ctl->phase, 2 * t.k + 1);
	began = now_ns();
	err = take(r, &t);
	began = now_ns() - began;
	if (began > r->slowest_ns)
		r->slowest_ns = began;
	atomic_store(&ctl->phase, 2 * t.k + 2);
	torment_end(r, who);
	/* Dead ones have nothing left to send. */
	for (unsigned int i = 0; r->killed[1] && i < ctl->threads; i++)
		atomic_store(&ctl->link[i].stamped, 2 * t.k + 2);
	if (began > LIMIT_NS)
		fail("%s took %llu s", how_names[t.how], (unsigned long long)(began / 1000000000));
	r->done[t.how]++;
	/* An owner that has died denies nothing, nor does one that has not begun to. */
	if (ctl->policy == UODPDV_POLICY_DENY && r->killed[0]) {
		if (!err)
			renew(r, &t);
		return;
	}
	if (ctl->policy == UODPDV_POLICY_DENY) {
		denied(r, &t, err);
		return;
	}
	if (err) {
		fail("%s: %s", how_names[t.how], strerrorname_np(err));
		return;
	}
	/* Else all that may come by regions of now is wrong, whatever it carries. */
	if (ctl->policy == UODPDV_POLICY_ODP || !rng_below(&r->rng, 4))
		stamps_wait(2 * t.k + 2);
	if (!renew(r, &t))
		return;
	nap_us(rng_below(&r->rng, 3000));
	look(r, r->fd, "", &t, false);
	if (!rng_below(&r->rng, 8))
		look_behind(r, &t, false);
}

void rounds_print(const struct rounds *r)
{
	uint64_t writes = 0, bytes = 0, errors = 0;

	for (unsigned int i = 0; i < ctl->threads; i++) {
		writes += atomic_load(&ctl->link[i].writes);
		bytes += atomic_load(&ctl->link[i].bytes);
		errors += atomic_load(&ctl->link[i].errors);
	}
	printf("%-8s", policy_names[ctl->policy]);
	for (int i = 0; i < HOWS; i++)
		printf(" %u %s,", r->done[i], how_names[i]);
	printf(" the slowest %llu ms; %u stopped, %u killed\n",
	       (unsigned long long)(r->slowest_ns / 1000000), r->stops, r->kills);
	printf("         %llu writes of %llu MB, %llu failed; %u registrations, %u not to be had, "
	       "%u revoked, %u leases kept; %llu words looked at, %llu by RDMA\n",
	       (unsigned long long)writes, (unsigned long long)(bytes >> 20),
	       (unsigned long long)errors, atomic_load(&ctl->registrations),
	       atomic_load(&ctl->refused), atomic_load(&ctl->revocations),
	       atomic_load(&ctl->leases_kept), (unsigned long long)r->words,
	       (unsigned long long)r->rdma);
}
