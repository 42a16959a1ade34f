/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The kinds of regions, the RDMA operations, and how each is judged. */
#include <infiniband/verbs.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "odpcmp.h"

const struct mr_name mr_names[NUM_MR_KINDS] = {
	[MR_PINNED] =
		{
			.name = "pinned",
			.help = "registered without IBV_ACCESS_ON_DEMAND",
			.title = "pinned",
		},
	[MR_ODP] =
		{
			.name = "odp",
			.help = "registered with IBV_ACCESS_ON_DEMAND",
			.title = "on demand",
			.access = IBV_ACCESS_ON_DEMAND,
		},
};

/* True if the transfer succeeded; if not, the answer is given. here: see answer_wc(). */
static bool succeeded(struct rdma *rdma, int status, int here, struct answer *answer)
{
	char name[24];

	if (status < 0) {
		rdma->spent = true;
		answer_fail(answer, "failed", "cannot transfer: %s",
			    errno_name(-status, name, sizeof(name)));
		return false;
	}
	answer_wc(answer, status, here);
	rdma->spent |= status != IBV_WC_SUCCESS;
	return status == IBV_WC_SUCCESS;
}

static const char *data_text(enum tag tag)
{
	switch (tag) {
	case TAG_OLD:
		return "old";
	case TAG_NEW:
		return "new";
	case TAG_CHILD:
		return "child's";
	case TAG_ZERO:
		return "zeros";
	case TAG_MIXED:
		return "mixed";
	case TAG_REMOTE:
	case TAG_BEFORE:
	case TAG_ALIEN:
	case TAG_NOTHING:
		break;
	}
	return "alien";
}

/* ---- what came out of the memory ---- */

/* Data that no event leaves behind: what stays of it was not transferred. */
static void probes_spoil(struct rdma *rdma)
{
	memset(rdma->buf, 0xee, rdma->len);
}

static enum tag probes_find(const struct rdma *rdma)
{
	enum tag found = TAG_NOTHING, tag;
	size_t i;

	for (i = 0; i < WINDOW_PAGES; i++) {
		tag = pattern_find(rdma_probe(rdma, i), PROBE, i);
		found = i ? tag_join(found, tag) : tag;
	}
	return found;
}

static void read_run(struct rdma *rdma, struct memory *m, struct answer *answer)
{
	int status;

	probes_spoil(rdma);
	status = rdma_transfer(rdma, IBV_WR_RDMA_READ, memory_window(m), WINDOW_PAGES, m->page);
	if (succeeded(rdma, status, -1, answer))
		answer_set(answer, data_text(probes_find(rdma)));
}

static void send_run(struct rdma *rdma, struct memory *m, struct answer *answer)
{
	int status;

	probes_spoil(rdma);
	status = rdma_send(rdma, memory_window(m), WINDOW_PAGES, m->page);
	if (succeeded(rdma, status, -1, answer))
		answer_set(answer, data_text(probes_find(rdma)));
}

/* ---- where it went in the memory ---- */

/* The child of a fork has its own copy of private memory, and shares the rest. */
static const char *child_text(struct memory *m)
{
	bool shared = m->kind->flags & KIND_SHARED;
	enum tag seen = fork_child_sees(m);

	if (seen == TAG_MIXED)
		return "partly in child";
	if ((seen == TAG_REMOTE) == shared)
		return "visible";
	return seen == TAG_REMOTE ? "leaks to child" : "not in child";
}

struct views {
	enum tag here;
	enum tag moved;
	enum tag file;
};

static const char *landing_text(struct memory *m, const struct views *views)
{
	if (views->here == TAG_REMOTE)
		return m->child_has_it ? child_text(m) : "visible";
	if (views->here == TAG_MIXED)
		return "mixed";
	if (views->here == TAG_ALIEN)
		return "alien";
	if (views->moved == TAG_REMOTE)
		return "moved only";
	if (views->file == TAG_REMOTE)
		return "file only";
	if (views->here == TAG_NOTHING && views->moved == TAG_NOTHING && views->file == TAG_NOTHING)
		return "no view";
	return "not visible";
}

/* The program looks at what it may not access only now, after the transfer. */
static void uncover(struct memory *m)
{
	if (m->hidden)
		mprotect(memory_window(m), m->window, PROT_READ);
	m->hidden = false;
}

static bool file_is_shared(const struct memory *m)
{
	return (m->kind->flags & KIND_FILE) && (m->kind->flags & KIND_SHARED);
}

static void landing_find(struct memory *m, struct answer *answer)
{
	struct views views = {.moved = TAG_NOTHING, .file = TAG_NOTHING};

	uncover(m);
	views.here = memory_see(m, memory_window(m));
	if (m->moved)
		views.moved = memory_see(m, m->moved);
	if (file_is_shared(m))
		views.file = memory_see_file(m);
	answer_set(answer, landing_text(m, &views));
}

static void probes_fill(struct rdma *rdma)
{
	size_t i;

	for (i = 0; i < WINDOW_PAGES; i++)
		pattern_fill(rdma_probe(rdma, i), PROBE, i, TAG_REMOTE);
}

static void write_run(struct rdma *rdma, struct memory *m, struct answer *answer)
{
	int status;

	probes_fill(rdma);
	status = rdma_transfer(rdma, IBV_WR_RDMA_WRITE, memory_window(m), WINDOW_PAGES, m->page);
	if (succeeded(rdma, status, -1, answer))
		landing_find(m, answer);
}

static void recv_run(struct rdma *rdma, struct memory *m, struct answer *answer)
{
	int status, here = -1;

	probes_fill(rdma);
	status = rdma_receive(rdma, memory_window(m), WINDOW_PAGES, m->page, &here);
	if (succeeded(rdma, status, here, answer))
		landing_find(m, answer);
}

/* ---- both at once: words that are fetched, and grow by one ---- */

static uint64_t fetched_word(const struct rdma *rdma, size_t page)
{
	uint64_t word;

	memcpy(&word, rdma_probe(rdma, page), sizeof(word));
	return word;
}

/* TAG_REMOTE: each word is one more than what was fetched. */
static enum tag grown_tag(const struct rdma *rdma, const uint64_t words[WINDOW_PAGES])
{
	enum tag found = TAG_NOTHING, tag;
	size_t i;

	for (i = 0; i < WINDOW_PAGES; i++) {
		tag = words[i] == fetched_word(rdma, i) + 1 ? TAG_REMOTE : TAG_OLD;
		found = i ? tag_join(found, tag) : tag;
	}
	return found;
}

static enum tag grown_see(const struct rdma *rdma, const struct memory *m, const uint8_t *from)
{
	uint64_t words[WINDOW_PAGES];
	size_t i;

	for (i = 0; i < WINDOW_PAGES; i++)
		if (cpu_read(&words[i], from + i * m->page, sizeof(words[i])))
			return TAG_NOTHING;
	return grown_tag(rdma, words);
}

static enum tag grown_see_file(const struct rdma *rdma, const struct memory *m)
{
	uint64_t words[WINDOW_PAGES];
	size_t i;

	for (i = 0; i < WINDOW_PAGES; i++)
		if (pread(m->fd, &words[i], sizeof(words[i]), m->offset + i * m->page) !=
		    sizeof(words[i]))
			return TAG_NOTHING;
	return grown_tag(rdma, words);
}

static void atomic_judge(struct rdma *rdma, struct memory *m, struct answer *answer)
{
	struct views views = {.moved = TAG_NOTHING, .file = TAG_NOTHING};
	enum tag found = TAG_NOTHING, tag;
	char text[sizeof(answer->text)];
	size_t i;

	for (i = 0; i < WINDOW_PAGES; i++) {
		tag = pattern_word_tag(fetched_word(rdma, i), i, 0);
		found = i ? tag_join(found, tag) : tag;
	}
	uncover(m);
	views.here = grown_see(rdma, m, memory_window(m));
	if (m->moved)
		views.moved = grown_see(rdma, m, m->moved);
	if (file_is_shared(m))
		views.file = grown_see_file(rdma, m);
	/* The child answers for what it sees of whole probes alone. */
	fork_child_end(m);
	snprintf(text, sizeof(text), "%s, %s", data_text(found), landing_text(m, &views));
	answer_set(answer, text);
}

static void atomic_run(struct rdma *rdma, struct memory *m, struct answer *answer)
{
	int status;

	probes_spoil(rdma);
	status = rdma_fetch_add(rdma, memory_window(m), WINDOW_PAGES, m->page);
	if (succeeded(rdma, status, -1, answer))
		atomic_judge(rdma, m, answer);
}

const struct operation operations[] = {
	{
		.name = "read",
		.help = "RDMA READ: what the peer reads",
		.title = "READ sees",
		.usual = true,
		.run = read_run,
	},
	{
		.name = "write",
		.help = "RDMA WRITE: whether the program sees it",
		.title = "WRITE is",
		.usual = true,
		.run = write_run,
	},
	{
		.name = "send",
		.help = "SEND from the region: what the peer receives",
		.title = "SEND carries",
		.two_sided = true,
		.run = send_run,
	},
	{
		.name = "recv",
		.help = "SEND to a receive buffer in the region: whether the program sees it",
		.title = "RECV is",
		.two_sided = true,
		.run = recv_run,
	},
	{
		.name = "atomic",
		.help = "FETCH_ADD: what it fetches, and whether the program sees the sum",
		.title = "FETCH_ADD",
		.access = IBV_ACCESS_REMOTE_ATOMIC,
		.run = atomic_run,
	},
};

const size_t num_operations = ARRAY_SIZE(operations);
_Static_assert(ARRAY_SIZE(operations) <= MAX_OPS, "raise MAX_OPS");

/* Who is killed cannot say what a child of fork sees. */
static bool policy_suits(const struct kind *kind, const struct event *event,
			 const struct operation *op, size_t policy)
{
	bool kills = !strcmp(policies[policy].name, "kill");

	if (!(kind->flags & KIND_DISK))
		return false;
	return !kills || (!op->two_sided && !(event->class & (CLASS_FORK | CLASS_FORKS)));
}

bool cell_suits(const struct kind *kind, const struct event *event, const struct operation *op,
		size_t policy)
{
	if (policy && !policy_suits(kind, event, op, policy))
		return false;
	if (!policy && event->class == CLASS_SPACE)
		return false;
	if (op->two_sided && event->flags & EVENT_OWNER_ENDS)
		return false;
	return event->class & kind->classes;
}
