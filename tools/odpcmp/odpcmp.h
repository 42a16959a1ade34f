/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * odpcmp: what does RDMA see after memory changes, with a pinned and with an
 * on-demand-paging memory region? One answer a cell; a cell is a kind of
 * memory, an event, a kind of region and an operation.
 *
 * Kinds, events and operations are tables: a new one is a new entry.
 */
#ifndef ODPCMP_H
#define ODPCMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define PROGRAM "odpcmp"

enum {
	MAX_KINDS = 32,
	MAX_EVENTS = 48,
	MAX_OPS = 8,
	MAX_JOBS = 64,
	MAX_COMPARED = 16, /* files of --compare */
	NUM_POLICIES = 8,  /* the first is: none was asked for */
};

/* ---- answers (answer.c) ---- */

enum answer_state {
	ANSWER_NONE,   /* not asked */
	ANSWER_NA,     /* makes no sense, or another kind of memory answers for it */
	ANSWER_FAILED, /* could not be determined; note says why */
	ANSWER_GOOD,
};

/*
 * What an event meant to others, where memory has a policy (policy.c). The texts are
 * what comparisons compare.
 */
struct aftermath {
	bool known;
	char truncater[16]; /* "ok", an errno, or "SIGKILL" */
	uint32_t waited_ms; /* how long that took */
	char told[40];      /* what the program was told of it, or "-" */
	int32_t lost;       /* bytes that RDMA had written; -1: it could write none */
};

/* Lives in memory shared with the process that finds it out: no pointers. */
struct answer {
	enum answer_state state;
	char text[32];   /* what the table shows and comparisons compare */
	char status[40]; /* name of the work completion's status, or empty */
	char error[24];  /* name of the errno of a refused registration, or empty */
	char note[160];  /* the step under way, or why it failed */
	struct aftermath after;
};

void answer_set(struct answer *answer, const char *text);
void answer_na(struct answer *answer);
void answer_refused(struct answer *answer, int err);
/* here: the status at the other end too where it has a say, else negative. */
void answer_wc(struct answer *answer, int status, int here);
__attribute__((format(printf, 3, 4))) void answer_fail(struct answer *answer, const char *text,
						       const char *fmt, ...);

/* What is being done, and that it gave -errno. */
void answer_step(struct answer *answer, const char *what);
void answer_step_failed(struct answer *answer, int ret);

/* The text, and what is known of the aftermath, as far as it is to be compared. */
const char *answer_brief(const struct answer *answer, char *buf, size_t len);
enum { BRIEF = 128 };

const char *errno_name(int err, char *buf, size_t len);

/* ---- what is written into memory, and found there (pattern.c) ---- */

/* Who wrote a page; part of each word of it. */
enum tag {
	TAG_OLD = 'O',    /* the program, before the event */
	TAG_NEW = 'N',    /* the program, after the event */
	TAG_CHILD = 'C',  /* a forked child */
	TAG_REMOTE = 'R', /* RDMA */
	TAG_BEFORE = 'B', /* RDMA, before the event (policy.c) */
	/* what looking at pages may also find: */
	TAG_ZERO = 'z',
	TAG_MIXED = 'm',   /* pages or words differ */
	TAG_ALIEN = 'a',   /* data that nobody here wrote */
	TAG_NOTHING = '-', /* cannot be looked at */
};

/*
 * The bytes at the start of each page that are transferred and looked at. The
 * smallest MTU, so that each transfer is one packet that begins with its page:
 * rdma_rxe (Linux 7.2, ODP) copies to and from the page's first byte, whatever
 * the address says, and would answer with wrong data for anything else. What the
 * program writes is longer: RDMA must leave the rest as it is.
 */
enum {
	PROBE = 256,
	FILL = 2 * PROBE,
};

uint64_t pattern_word(enum tag tag, size_t page, size_t at);
void pattern_fill(void *buf, size_t len, size_t page, enum tag tag);
/* What len bytes of a page say, TAG_ZERO and TAG_ALIEN included. */
enum tag pattern_find(const void *buf, size_t len, size_t page);
enum tag pattern_word_tag(uint64_t word, size_t page, size_t at);
/* Of two pages: one answer for both. */
enum tag tag_join(enum tag a, enum tag b);

/* Touch memory as the program does; -EFAULT where that raises a signal. */
int cpu_read(void *buf, const void *from, size_t len);
int cpu_write(void *to, const void *buf, size_t len);

/* ---- memory under test (memory.c, kind.c, place.c) ---- */

struct kind;

enum {
	PAGES = 4,
	WINDOW_PAGES = 2, /* the last ones: truncation strikes the end */
};

struct memory {
	const struct kind *kind;
	size_t page;
	uint8_t *addr; /* the pages under test */
	size_t length;
	size_t offset; /* of the window: what the event strikes and RDMA touches */
	size_t window;
	uint8_t *base; /* the mapping, if it is larger than the pages */
	size_t base_length;
	uint8_t *reg_addr; /* the range to register */
	size_t reg_length;
	uint8_t *moved; /* where the window went, if it did */
	bool hidden;    /* PROT_NONE: to be made readable before looking */
	int fd;         /* of the file behind it, else -1 */
	void *block;    /* what malloc() gave, if it did */
	struct uffd_keeper *keeper;
	pid_t helper; /* that acts on the file from outside, else 0 */
	int helper_fd;
	pid_t child;       /* that shares or inherited it, else 0 */
	int child_fd;      /* a socket to it, else -1 */
	bool child_has_it; /* it can say what it sees */
};

enum {
	KIND_SHARED = 1 << 0,      /* MAP_SHARED */
	KIND_FILE = 1 << 1,        /* has a descriptor */
	KIND_HUGE = 1 << 2,        /* pages are huge pages */
	KIND_ONCE = 1 << 3,        /* one in a process: .bss is not had twice */
	KIND_READ_ONLY = 1 << 4,   /* the program cannot write there */
	KIND_NO_ACCESS = 1 << 5,   /* nor read */
	KIND_READ_RIGHTS = 1 << 6, /* registered for reading alone */
	KIND_IOVA = 1 << 7,        /* registered with an iova other than the address */
	KIND_TWICE = 1 << 8,       /* registered as the other kind of region, too */
	KIND_UNTOUCHED = 1 << 9,   /* the window is not written to at first */
	KIND_LARGE_ODP = 1 << 10,  /* pinned: only the pages under test */
	KIND_DISK = 1 << 11,       /* a file in --dir */
};

/* Events by what they need of the memory. */
enum event_class {
	CLASS_NONE = 1 << 0,
	CLASS_ADVISE = 1 << 1,  /* MADV_DONTNEED */
	CLASS_FREE = 1 << 2,    /* MADV_FREE: private memory */
	CLASS_RECLAIM = 1 << 3, /* MADV_PAGEOUT, COLD */
	CLASS_REMOVE = 1 << 4,  /* MADV_REMOVE: shared memory */
	CLASS_UNMAP = 1 << 5,   /* munmap, mmap over: a mapping of one's own */
	CLASS_MOVE = 1 << 6,
	CLASS_RESIZE = 1 << 7, /* the whole mapping */
	CLASS_PROTECT = 1 << 8,
	CLASS_FORK = 1 << 9,
	CLASS_FORKS = 1 << 10, /* the rest of fork, vfork and posix_spawn */
	CLASS_FILE = 1 << 11,  /* truncate, punch */
	CLASS_BRK = 1 << 12,
	CLASS_TRIM = 1 << 13,
	CLASS_END = 1 << 14,   /* exit, exec of the owner */
	CLASS_SPACE = 1 << 15, /* more that takes blocks away, with --fs */
};

struct kind {
	const char *name;
	const char *help;
	unsigned int flags;
	unsigned int classes; /* of events that make sense and are asked */
	bool usual;           /* part of the table without options */
	/* A reason why this system has no such memory, or NULL. */
	const char *(*lacking)(const char *dir);
	/* Opens the file behind it, if any: a descriptor or -errno. */
	int (*open)(const char *dir, size_t length);
	int map_flags;
	/* Instead of a mapping of map_flags; -errno. */
	int (*place)(struct memory *m);
	/* After it was filled; -errno. */
	int (*finish)(struct memory *m);
};

extern const struct kind kinds[];
extern const size_t num_kinds;

int memory_create(struct memory *m, const struct kind *kind, const char *dir);
void memory_destroy(struct memory *m);

static inline uint8_t *memory_window(const struct memory *m)
{
	return m->addr + m->offset;
}

/* mmap() where no automatic mapping goes: a hole there stays a hole. */
void *memory_map(unsigned int slot, size_t length, int prot, int flags, int fd);

int memory_write(struct memory *m, uint8_t *to, size_t pages, enum tag tag);
/* The window as the program has it at from, and as its file has it. */
enum tag memory_see(const struct memory *m, const uint8_t *from);
enum tag memory_see_file(const struct memory *m);
/* Writes new data to the window as the program can, if it can. */
int memory_renew(struct memory *m);

/* Special places (place.c, uffd.c); those with _finish follow the filling. */
int place_heap(struct memory *m);
int place_brk(struct memory *m);
int place_bss(struct memory *m);
int place_stack(struct memory *m);
int place_overcommit(struct memory *m);
int place_thp(struct memory *m);
int place_unaligned(struct memory *m);
int place_mixed(struct memory *m);
int place_read_only(struct memory *m);
int finish_read_only(struct memory *m);
int finish_no_access(struct memory *m);
int finish_uffd(struct memory *m);

/* Room on the stack of whoever calls memory_create() for KIND stack. */
enum { STACK_ROOM = 1 << 17 };
void place_stack_set(uint8_t *room);

void uffd_keeper_end(struct uffd_keeper *keeper);
const char *uffd_lacking(const char *dir);

/* Huge pages (hugepages.c): taken from the system for a run, and given back. */
size_t huge_page_size(void);
const char *huge_lacking(const char *dir);
void huge_reserve(unsigned int jobs);
void huge_give_back(void);
void huge_leave(void);

/* ---- events (event*.c) ---- */

enum {
	EVENT_NO_NEW_DATA = 1 << 0, /* leaves nothing writable at the window */
	EVENT_UNTOUCHED = 1 << 1,   /* the program writes nothing: RDMA comes first */
	EVENT_HELPER = 1 << 2,      /* another process does it */
	EVENT_OWNER_ENDS = 1 << 3,  /* the peer is another process, and stays */
};

struct event {
	const char *name;
	const char *help;
	unsigned int class;
	unsigned int flags;
	bool usual;    /* part of the table without options */
	bool fs_usual; /* the same, with --fs */
	int (*apply)(struct memory *m);
};

extern const struct event events[];
extern const size_t num_events;

/* event_file.c */
int event_truncate(struct memory *m);
int event_truncate_grow(struct memory *m);
int event_truncate_other(struct memory *m);
int event_truncate_grow_other(struct memory *m);
int event_punch(struct memory *m);
int event_punch_other(struct memory *m);
int event_zero(struct memory *m);
int event_zero_other(struct memory *m);
int event_open_trunc(struct memory *m);
int event_open_trunc_other(struct memory *m);
int helper_start(struct memory *m);
void helper_end(struct memory *m);

/* event_map.c */
int event_munmap(struct memory *m);
int event_munmap_all(struct memory *m);
int event_mmap_over(struct memory *m);
int event_mremap(struct memory *m);
int event_mremap_grow(struct memory *m);
int event_mremap_shrink(struct memory *m);
int event_mprotect_read(struct memory *m);
int event_mprotect_none(struct memory *m);
int event_mprotect_back(struct memory *m);
int event_brk(struct memory *m);
int event_brk_grow(struct memory *m);
int event_malloc_trim(struct memory *m);

/* event_fork.c */
int event_fork_child(struct memory *m);
int event_fork_parent(struct memory *m);
int event_fork_exit(struct memory *m);
int event_fork_exec(struct memory *m);
int event_fork_thread(struct memory *m);
int event_vfork(struct memory *m);
int event_spawn(struct memory *m);
enum tag fork_child_sees(struct memory *m);
int event_owner_exits(struct memory *m);
int event_owner_execs(struct memory *m);
void fork_child_end(struct memory *m);

/* ---- region kinds and operations (operation.c) ---- */

enum mr_kind { MR_PINNED, MR_ODP, NUM_MR_KINDS };

struct mr_name {
	const char *name;
	const char *help;
	const char *title;
	int access; /* besides the rights that every region gets */
};

extern const struct mr_name mr_names[NUM_MR_KINDS];

struct rdma;
struct operation {
	const char *name;
	const char *help;
	const char *title;
	bool usual;     /* part of the table without options */
	bool two_sided; /* the owner posts work requests, too */
	int access;     /* rights that it needs besides reading and writing */
	/* Prepares, runs and judges; a work completion error is an answer too. */
	void (*run)(struct rdma *rdma, struct memory *m, struct answer *answer);
};

/* Whether the question makes sense, and no other kind answers for this one. */
bool cell_suits(const struct kind *kind, const struct event *event, const struct operation *op,
		size_t policy);

extern const struct operation operations[];
extern const size_t num_operations;

/* ---- policies for files whose blocks go away (policy.c) ---- */

struct policy {
	const char *name;
	const char *help;
	const char *term; /* what it was called when it was proposed */
};

/* By the numbers that uodpdv(7) has for them. */
extern const struct policy policies[NUM_POLICIES];

/* Direct verbs of uodp, where they are loaded (dv.c). */
bool dv_has_policies(void);
struct ibv_mr;
struct ibv_pd;
struct ibv_mr *dv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access, size_t policy,
			 unsigned int lease_ms);
/* How MR hears of events, as words; empty: nobody tells. */
void dv_events(struct ibv_mr *mr, char *buf, size_t len);
bool dv_is_revoked(struct ibv_mr *mr);

/* What a program was told, in memory that outlives it (told.c). */
struct told;
struct ibv_context;
struct told *told_create(void);
void told_destroy(struct told *told);
/* From here on, in this process; 0 or -errno. */
int told_listen(struct told *told, struct ibv_context *context);
void told_unlisten(struct told *told);
/* Gives what is on its way time to come; revoked: that must have been told. */
void told_settle(struct told *told, bool revoked);
void told_text(const struct told *told, bool killed, char *buf, size_t len);

/* An odpfs of our own (fs.c): where it is mounted, or NULL; complains itself. */
const char *fs_start(const char *dir);
void fs_stop(void);

/* ---- options and selection (options.c) ---- */

struct options {
	const char *device; /* NULL: the first one */
	int port;
	int gid_index;        /* -1: choose */
	const char *dir;      /* of disk files */
	unsigned int timeout; /* of a cell, in seconds */
	unsigned int jobs;    /* processes at once */
	bool json;
	bool verbose;
	bool list;
	bool all;
	const struct traffic_event *traffic; /* an event under traffic, else NULL */
	unsigned int traffic_ms;             /* how long it lasts */
	const char *compare[MAX_COMPARED];   /* files to compare with; the first leads */
	size_t compared;                     /* how many */
	bool beside;                         /* show all answers beside each other */
	const char *accept;                  /* file of cells that may differ */
	const char *from;                    /* file to take the answers from */
	const char *report;                  /* file to write a page to */
	bool kinds[MAX_KINDS];
	bool events[MAX_EVENTS];
	bool mrs[NUM_MR_KINDS];
	bool ops[MAX_OPS];
	bool policies[NUM_POLICIES];
	bool kinds_named; /* by the user */
	bool events_named;
	bool jobs_named;
	bool lease_named;
	bool fs;               /* on an odpfs of our own */
	unsigned int lease_ms; /* of policies lease and kill there */
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_BAD };

enum options_result options_parse(struct options *opt, int argc, char **argv);
void options_list(FILE *out);

/* ---- verbs (rdma.c, transfer.c) ---- */

struct ibv_context;
struct ibv_pd;
struct ibv_cq;
struct ibv_qp;
struct ibv_mr;

/* Two connected RC QPs in one process: the peer requests, the target serves. */
struct rdma {
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *peer;
	struct ibv_qp *target;
	void *buf; /* the peer's own buffer: a probe for each page */
	size_t len;
	struct ibv_mr *buf_mr;
	uint32_t rkey;
	struct ibv_mr *mr;       /* the region under test */
	struct ibv_pd *other_pd; /* of another region of the same pages */
	struct ibv_mr *other_mr;
	uint64_t iova_offset; /* of the region: iova less address */
	size_t policy;        /* of the region to be registered, 0: none */
	unsigned int lease_ms;
	int port;
	int gid_index;
	bool spent; /* the QPs are in error */
};

int rdma_open(struct rdma *rdma, const char *device, char *name, size_t name_len);
int rdma_find_gid(struct rdma *rdma, int port, int wanted);
/* *call: what was called last. */
int rdma_connect(struct rdma *rdma, const char **call);
/* One QP of two processes: *qp, rdma->peer or rdma->target, and then to the other. */
int rdma_connect_half(struct rdma *rdma, struct ibv_qp **qp, const char **call);
int rdma_join(struct rdma *rdma, struct ibv_qp *qp, uint32_t dest, const char **call);
/* New QPs if the old ones are spent. */
int rdma_reconnect(struct rdma *rdma, const char **call);
int rdma_register(struct rdma *rdma, struct memory *m, enum mr_kind kind, int access);
void rdma_deregister(struct rdma *rdma);
void rdma_close(struct rdma *rdma);

/*
 * Each moves or changes the probes of pages pages from addr on, one after the
 * other. The status of the work completion, of the first one that failed if one
 * did; -errno. *here: the target's own status where it has one, else -1.
 */
int rdma_transfer(struct rdma *rdma, int opcode, const void *addr, size_t pages, size_t page);
/* The peer's whole buffer at once, from or to remote on. */
int rdma_move(struct rdma *rdma, int opcode, const void *remote);
int rdma_send(struct rdma *rdma, const void *addr, size_t pages, size_t page);
int rdma_receive(struct rdma *rdma, const void *addr, size_t pages, size_t page, int *here);
/* Leaves what the words were at the start of each probe of rdma->buf. */
int rdma_fetch_add(struct rdma *rdma, const void *addr, size_t pages, size_t page);

static inline uint8_t *rdma_probe(const struct rdma *rdma, size_t page)
{
	return (uint8_t *)rdma->buf + page * PROBE;
}

/* ---- the environment of a run (environment.c) ---- */

struct environment {
	char device[64];
	char fw_ver[64];
	char link_layer[16];
	int port;
	int gid_index;
	char gid[64];
	bool odp;
	char events[80]; /* how shared memory on demand hears of events; empty: the device does
			  * not tell */
	char kernel[80];
	char machine[32];
	char libibverbs[32];
	char file_system[32];
	char date[32];
	char error[160]; /* why there is no device to ask, else empty */
};

void environment_find(struct environment *env, const struct options *opt);

/* ---- the matrix (matrix.c) and one cell of it (cell.c) ---- */

struct matrix {
	struct environment env;
	struct answer cells[NUM_POLICIES][MAX_KINDS][MAX_EVENTS][NUM_MR_KINDS][MAX_OPS];
};

/* The cells that one process finds out, one operation after the other. */
struct group {
	const struct options *opt;
	const struct environment *env;
	const struct kind *kind;
	const struct event *event;
	enum mr_kind mr;
	size_t policy;
};

struct group_result {
	int current;                    /* the operation under way, -1 at the end */
	struct answer answers[MAX_OPS]; /* ANSWER_NONE: to be asked, if selected */
	bool asked[MAX_OPS];
};

/* In a process of its own. */
void group_body(const void *arg, void *result);
/*
 * With a policy (cell_policy.c): from the registration on, in ANSWER; and one cell of a
 * policy that may end the owner, which then is a process of its own.
 */
void policy_ask(const struct group *group, const struct operation *op, struct rdma *rdma,
		struct memory *m, struct answer *answer);
void policy_owner_ask(const struct group *group, const struct operation *op, struct answer *answer);
/* With the owner in a process of its own (owner.c): all of LEN bytes of its socket. */
bool owner_get(int fd, void *buf, size_t len);
bool owner_put(int fd, const void *buf, size_t len);
/* A QP in INIT, the owner's or the peer's; the answer is given if that fails. */
bool owner_open_half(const struct group *group, struct rdma *rdma, bool owner,
		     struct answer *answer);
/* Connect them: the owner's side; and the peer's, with the owner's QP number. */
bool owner_accept(int fd, struct rdma *rdma);
int owner_connect(int fd, struct rdma *rdma, uint32_t dest);
/* One cell of an event that ends the owner (cell_owner.c). */
void owner_ask(const struct group *group, const struct operation *op, struct answer *answer);
/*
 * A READ from outside the window. It proves that the connection works, and what
 * a provider sets up on first use does not fall into the hole to come.
 */
int cell_warm_up(struct rdma *rdma, const struct memory *m);
/* Blames the operation under way for how the process ended, see isolate_end(). */
void group_ended(const struct group *group, struct group_result *result, int ret, int sig);

/* Where a cell stands. */
struct cell_at {
	size_t kind;
	size_t event;
	size_t mr;
	size_t op;
	size_t policy;
};

#define CELL_START                                                                                 \
	{                                                                                          \
		.op = SIZE_MAX,                                                                    \
	}

/* From CELL_START on, to each cell in turn; false behind the last one. */
bool cell_next(struct cell_at *at);

static inline struct answer *matrix_cell(const struct matrix *matrix, struct cell_at at)
{
	return (struct answer *)&matrix->cells[at.policy][at.kind][at.event][at.mr][at.op];
}

struct matrix *matrix_create(void);
void matrix_destroy(struct matrix *matrix);
void matrix_run(struct matrix *matrix, const struct options *opt);
/* Answers where none is to be had: events that do not suit the memory. */
void matrix_mark_na(struct matrix *matrix, size_t policy);
size_t matrix_failed(const struct matrix *matrix);

/* ---- a process of its own (isolate.c) ---- */

struct isolated {
	pid_t pid; /* 0: none */
	int pidfd;
	int messages;
	uint64_t deadline; /* in ms, as isolate_now() */
	void *shared;
	size_t len;
};

uint64_t isolate_now(void);
/*
 * Runs body in a forked process that fills result (len bytes, also what it
 * wrote before it died).
 */
int isolate_start(struct isolated *job, void (*body)(const void *arg, void *result),
		  const void *arg, const void *result, size_t len, unsigned int timeout);
/* Waits until one of jobs has ended or is past its time, and gives its index. */
size_t isolate_wait(struct isolated *jobs, size_t num);
/*
 * 0; -ETIMEDOUT; -EINTR when a signal ended it, named in *sig; -ECHILD when it
 * exited badly.
 */
int isolate_end(struct isolated *job, void *result, int *sig);
/* Without waiting: has it ended, or is it past its time? */
bool isolate_ended(const struct isolated *job);
/* All three. */
int isolate(void (*body)(const void *arg, void *result), const void *arg, void *result, size_t len,
	    unsigned int timeout, int *sig);

/* Its standard error, each line once (messages.c). */
int messages_create(void);
void messages_redirect(int fd);
void messages_show(int fd);
void messages_forget(void);

/* ---- cells that may differ (accept.c) ---- */

struct cell_name {
	const char *kind;
	const char *event;
	const char *mr;
	const char *op;
	const char *policy; /* "" for none */
};

static inline struct cell_name cell_name(struct cell_at at)
{
	return (struct cell_name){kinds[at.kind].name, events[at.event].name, mr_names[at.mr].name,
				  operations[at.op].name, policies[at.policy].name};
}

struct accepted;

/* Complains itself. */
struct accepted *accept_load(const char *path);
void accept_free(struct accepted *accepted);
/* The reason why this cell may answer so here and so there, or NULL. */
const char *accept_reason(struct accepted *accepted, const struct cell_name *cell, const char *here,
			  const char *there);
/* A cell that is compared. */
void accept_asked(struct accepted *accepted, const struct cell_name *cell);
/* The reasons that had their chance, and how many cells had them. */
void accept_print(FILE *out, const struct accepted *accepted);

/* ---- output ---- */

void table_print(FILE *out, const struct matrix *matrix, const struct options *opt);
bool table_has_policies(const struct matrix *matrix);
void table_print_policies(FILE *out, const struct matrix *matrix);
/* One row of them: a region of a kind under a policy, its operations taken together. */
struct aftermath aftermath_join(const struct matrix *matrix, struct cell_at at);
void json_print(FILE *out, const struct matrix *matrix);
int json_load(struct matrix *matrix, const char *path);
struct json_object *environment_json(const struct environment *env);
enum comparison { COMPARE_NOTHING, COMPARE_MISSING, COMPARE_SAME, COMPARE_DIFFERS };

enum comparison compare_cell(const struct answer *ours, const struct answer *theirs);
/*
 * With NUM other runs, the one to be followed first. A cell that answers as any of them
 * does not differ. The number of cells that do and are not accepted; -errno if nothing
 * could be compared.
 */
int compare_print(FILE *out, const struct matrix *matrix, struct matrix *const *theirs, size_t num,
		  struct accepted *accepted);

/* Runs beside each other, a line a cell that one of them has (beside.c). */
void beside_print(FILE *out, const struct matrix *const *runs, size_t num);
void beside_json(FILE *out, const struct matrix *const *runs, size_t num);

#endif
