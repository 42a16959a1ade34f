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
	MAX_EVENTS = 32,
	MAX_OPS = 8,
};

/* ---- answers (answer.c) ---- */

enum answer_state {
	ANSWER_NONE,	/* not asked */
	ANSWER_NA,	/* the event makes no sense for this kind of memory */
	ANSWER_FAILED,	/* could not be determined; note says why */
	ANSWER_GOOD,
};

/* Lives in memory shared with the process that finds it out: no pointers. */
struct answer {
	enum answer_state state;
	char text[24];		/* what the table shows and comparisons compare */
	char status[40];	/* name of the work completion's status, or empty */
	char error[24];		/* name of the errno of a refused registration, or empty */
	char note[160];		/* the step under way, or why it failed */
};

void answer_set(struct answer *answer, const char *text);
void answer_refused(struct answer *answer, int err);
void answer_wc(struct answer *answer, int status);
__attribute__((format(printf, 3, 4)))
void answer_fail(struct answer *answer, const char *text, const char *fmt, ...);

const char *errno_name(int err, char *buf, size_t len);

/* ---- memory under test (memory.c, kind.c) ---- */

/* Who wrote a page; part of each word of it. */
enum tag {
	TAG_OLD = 'O',		/* the program, before the event */
	TAG_NEW = 'N',		/* the program, after the event */
	TAG_CHILD = 'C',	/* a forked child */
	TAG_REMOTE = 'R',	/* RDMA */
	/* what looking at pages may also find: */
	TAG_ZERO = 'z',
	TAG_MIXED = 'm',	/* pages or words differ */
	TAG_ALIEN = 'a',	/* data that nobody here wrote */
	TAG_NOTHING = '-',	/* cannot be looked at */
};

struct kind;

struct memory {
	const struct kind *kind;
	size_t page;
	uint8_t *addr;		/* the registered range */
	size_t length;
	size_t offset;		/* of the window: what the event strikes and RDMA touches */
	size_t window;
	uint8_t *moved;		/* where the window went, if it did */
	int fd;			/* of the file behind it, else -1 */
	pid_t child;		/* that shares or inherited it, else 0 */
	int child_fd;		/* a socket to it, else -1 */
};

enum {
	KIND_FILE = 1 << 0,	/* can be truncated and punched through a descriptor */
	KIND_SHARED = 1 << 1,	/* MAP_SHARED */
};

struct kind {
	const char *name;
	const char *help;
	unsigned int flags;
	/* A reason why this system has no such memory, or NULL. */
	const char *(*lacking)(const char *dir);
	/* Opens the file behind it, if any: a descriptor or -errno. */
	int (*open)(const char *dir, size_t length);
	int map_flags;
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

/*
 * The bytes at the start of each page that are transferred and looked at. The
 * smallest MTU, so that each transfer is one packet that begins with its page:
 * rdma_rxe (Linux 7.2, ODP) copies to and from the page's first byte, whatever
 * the address says, and would answer with wrong data for anything else.
 */
enum { PROBE = 256 };

void pattern_fill(void *buf, size_t len, size_t page, enum tag tag);
enum tag pattern_find(const void *buf, size_t len, size_t page);

/* Touch memory as the program does; -EFAULT where that raises a signal. */
int cpu_read(void *buf, const void *from, size_t len);
int cpu_write(void *to, const void *buf, size_t len);

int memory_write(struct memory *m, uint8_t *to, size_t len, enum tag tag);
enum tag memory_see(const struct memory *m, const uint8_t *from);
enum tag memory_see_file(const struct memory *m);

/* ---- events (event.c, event_fork.c) ---- */

enum {
	EVENT_NEEDS_FILE = KIND_FILE,
	EVENT_NEEDS_SHARED = KIND_SHARED,
	EVENT_NO_NEW_DATA = 1 << 8,	/* leaves nothing writable at the window */
};

struct event {
	const char *name;
	const char *help;
	unsigned int flags;
	int (*apply)(struct memory *m);
};

extern const struct event events[];
extern const size_t num_events;

bool event_suits(const struct event *event, const struct kind *kind);

int event_fork_child(struct memory *m);
int event_fork_parent(struct memory *m);
enum tag fork_child_sees(struct memory *m);
void fork_child_end(struct memory *m);

/* ---- region kinds and operations (operation.c) ---- */

enum mr_kind { MR_PINNED, MR_ODP, NUM_MR_KINDS };

struct mr_name {
	const char *name;
	const char *help;
	const char *title;
	int access;	/* besides the rights that every region gets */
};

extern const struct mr_name mr_names[NUM_MR_KINDS];

struct rdma;
struct operation {
	const char *name;
	const char *help;
	const char *title;
	/* Prepares, runs and judges; a work completion error is an answer too. */
	void (*run)(struct rdma *rdma, struct memory *m, struct answer *answer);
};

extern const struct operation operations[];
extern const size_t num_operations;

/* ---- options and selection (options.c) ---- */

struct options {
	const char *device;	/* NULL: the first one */
	int port;
	int gid_index;		/* -1: choose */
	const char *dir;	/* of disk files */
	unsigned int timeout;	/* of a cell, in seconds */
	bool json;
	bool verbose;
	bool list;
	const char *compare;	/* file to compare with */
	const char *from;	/* file to take the answers from */
	bool kinds[MAX_KINDS];
	bool events[MAX_EVENTS];
	bool mrs[NUM_MR_KINDS];
	bool ops[MAX_OPS];
	bool kinds_named;	/* by the user */
	bool events_named;
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_BAD };

enum options_result options_parse(struct options *opt, int argc, char **argv);
void options_list(FILE *out);

/* ---- verbs (rdma.c) ---- */

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
	void *buf;		/* the peer's own buffer, as large as a window */
	size_t len;
	struct ibv_mr *buf_mr;
	struct ibv_mr *mr;	/* the region under test */
	int port;
	int gid_index;
};

int rdma_open(struct rdma *rdma, const char *device, char *name, size_t name_len);
int rdma_find_gid(struct rdma *rdma, int port, int wanted);
/* len: of the peer's own buffer. *call: what was called last. */
int rdma_connect(struct rdma *rdma, size_t len, const char **call);
int rdma_register(struct rdma *rdma, struct memory *m, enum mr_kind kind);
void rdma_close(struct rdma *rdma);

/*
 * READs or WRITEs the probe of each page from remote on, one after the other. The
 * status of the work completion, of the first one that failed if one did; -errno.
 */
int rdma_transfer(struct rdma *rdma, int opcode, const void *remote, size_t len, size_t page);

/* ---- the environment of a run (environment.c) ---- */

struct environment {
	char device[64];
	char fw_ver[64];
	char link_layer[16];
	int port;
	int gid_index;
	char gid[64];
	bool odp;
	char kernel[80];
	char machine[32];
	char libibverbs[32];
	char file_system[32];
	char date[32];
	char error[160];	/* why there is no device to ask, else empty */
};

void environment_find(struct environment *env, const struct options *opt);

/* ---- the matrix (matrix.c) and one cell of it (cell.c) ---- */

struct matrix {
	struct environment env;
	struct answer cells[MAX_KINDS][MAX_EVENTS][NUM_MR_KINDS][MAX_OPS];
};

struct cell {
	const struct options *opt;
	const struct environment *env;
	const struct kind *kind;
	const struct event *event;
	enum mr_kind mr;
	const struct operation *op;
};

void cell_find(const struct cell *cell, struct answer *answer);

struct matrix *matrix_create(void);
void matrix_destroy(struct matrix *matrix);
void matrix_run(struct matrix *matrix, const struct options *opt);
size_t matrix_failed(const struct matrix *matrix);
const struct answer *matrix_cell(const struct matrix *matrix, size_t kind, size_t event,
				 size_t mr, size_t op);

/* ---- a process of its own (isolate.c) ---- */

/*
 * Runs body in a forked process that fills result (len bytes, also what it
 * wrote before it died). 0; -ETIMEDOUT; -EINTR when a signal ended it, named in
 * *sig; -ECHILD when it exited badly; or why it could not be started.
 */
int isolate(void (*body)(const void *arg, void *result), const void *arg, void *result,
	    size_t len, unsigned int timeout, int *sig);

/* Its standard error, each line once (messages.c). */
int messages_create(void);
void messages_redirect(int fd);
void messages_show(int fd);
void messages_forget(void);

/* ---- output ---- */

void table_print(FILE *out, const struct matrix *matrix, const struct options *opt);
void json_print(FILE *out, const struct matrix *matrix);
int json_load(struct matrix *matrix, const char *path);
/* The number of cells that differ; -errno if nothing could be compared. */
int compare_print(FILE *out, const struct matrix *matrix, const struct matrix *theirs);

#endif
