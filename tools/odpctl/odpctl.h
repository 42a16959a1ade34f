/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * odpctl: look at a run directory without being part of it (but to unplug: plug.c).
 *
 * Nothing is mapped and nothing is written: a read(2) of a sparse memfd allocates
 * no page of it, and one that has shrunk meanwhile is a short read and no SIGBUS.
 * All that is read was written by others, who may be broken or half done: every
 * number is checked before it is used, every string cleaned before it is shown.
 */
#ifndef ODPCTL_H
#define ODPCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <layout.h>
#include <shm.h>

enum { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

/* Bytes [START, END) of a file; PATH NULL: none was named. */
struct file_part {
	const char *path;
	dev_t dev;
	ino_t ino;
	uint64_t start, end;
};

struct ctl {
	bool json;
	pid_t pid;             /* show this process only, 0: all */
	const char *device;    /* the argument of those that take one */
	struct file_part file; /* regions on it alone */
	char dir[256];         /* the run directory */
	bool attached;         /* there is a domain: domain_fd is open */
	int dir_fd;            /* -1: there is no run directory */
	int domain_fd;
	int status; /* what to exit with */
	bool quiet; /* has said already what it could not show */
};

/* An attached process, valid during a process_fn. */
struct process {
	unsigned slot;
	uint32_t gen;
	pid_t pid;     /* here; 0: in another PID namespace */
	pid_t own_pid; /* as it calls itself */
	char comm[16];
	uint64_t start;         /* field 22 of /proc/PID/stat */
	unsigned lanes;         /* in use */
	int proc_fd;            /* /proc/PID */
	int seg_fd;             /* its segment, -1: could not be read */
	int pool_fd;            /* that number in the process, -1: none */
	uint32_t regions;       /* records in the region table to look at */
	uint64_t root_off;      /* of the verbs objects, 0: none */
	struct uodp_root *root; /* a checked copy up to block_ord, NULL: none */
};

/* ---- main.c ---- */
/* One line on stderr: what could not be shown; the exit status becomes 1. */
void ctl_incomplete(struct ctl *ctl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One line on stderr about what is no failure. */
void ctl_note(struct ctl *ctl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Exit with status 1; for --json with an object {"error": TEXT} on stdout. */
__attribute__((noreturn)) void ctl_fail(struct ctl *ctl, const char *text);
/* The same, with the text on stderr too. Before anything was printed only. */
__attribute__((noreturn, format(printf, 2, 3))) void ctl_die(struct ctl *ctl, const char *fmt, ...);
/* Never NULL. */
void *ctl_realloc(void *p, size_t size);

/* ---- domain.c ---- */
/* Find the run directory and its domain file, or exit after saying why not. */
void domain_open(struct ctl *ctl);
typedef void (*process_fn)(struct ctl *ctl, struct process *p, void *arg);
/* FN for each process that lives and is not filtered out. */
void domain_each(struct ctl *ctl, process_fn fn, void *arg);

/* ---- process.c ---- */
/* Open what PROCESS has in shared memory; false when it has ended meanwhile. */
bool process_open(struct ctl *ctl, struct process *p, const struct odp_slot *slot);
void process_close(struct process *p);
/* Does it still live? */
bool process_lives(const struct process *p);
/* LEN bytes at OFF of its segment; false when they are not to be had. */
bool process_read(const struct process *p, uint64_t off, void *buf, size_t len);
/* The bytes that its pool holds now. */
bool process_pool(const struct process *p, uint64_t *bytes);
/* Seconds that it has run. */
bool process_uptime(const struct process *p, uint64_t *seconds);

/* Records of SIZE bytes at BASE, read many at a time. */
struct scan {
	const struct process *p;
	uint64_t base;
	uint32_t size, count;
	uint32_t next;          /* index after the last one returned */
	uint32_t first, filled; /* what BUF holds */
	size_t gen_off;         /* of the 32-bit word that changes with every reuse */
	_Alignas(64) char buf[16384];
};
void scan_begin(struct scan *s, const struct process *p, uint64_t base, size_t size, uint32_t count,
		size_t gen_off);
/* The next record whose generation word is the same before and after it was read;
 * NULL at the end. Its index is s->next - 1. */
const void *scan_next(struct scan *s);
/* The same of the records of regions, among which those of windows are passed over. */
const struct odp_mr_shm *scan_next_mr(struct scan *s);

/* ---- onfile.c ---- */
/* --file, and --range ("START[:LENGTH]"; false: it is none). */
void file_set(struct ctl *ctl, const char *path);
bool range_set(struct file_part *file, const char *text);
/* Where a process maps the part of the file: N ranges [start, end). */
struct mappings {
	uint64_t (*at)[2];
	size_t n, room;
};
void mappings_find(struct ctl *ctl, const struct process *p, struct mappings *m);
bool mappings_hold(const struct mappings *m, uint64_t addr, uint64_t length);
void mappings_free(struct mappings *m);

/* ---- count.c ---- */
struct counts {
	uint64_t qps, qps_rts, cqs, srqs;
	uint64_t mrs, mrs_odp;
	uint64_t pinned, odp; /* bytes */
	uint64_t page_faults, page_invalidations;
	uint64_t pool; /* bytes */
};
void counts_add(struct counts *c, const struct process *p);

/* ---- one a subcommand ---- */
void devices_show(struct ctl *ctl);
void processes_show(struct ctl *ctl);
void qps_show(struct ctl *ctl);
void mrs_show(struct ctl *ctl);
void revoke_run(struct ctl *ctl);
void cqs_show(struct ctl *ctl);
void stats_show(struct ctl *ctl);
void caps_show(struct ctl *ctl);
void overview_show(struct ctl *ctl);
void plug_run(struct ctl *ctl);
void unplug_run(struct ctl *ctl);

/* ---- table.c ---- */
#define TABLE_COLUMNS 32
#define TABLE_CELL 320

enum column_kind {
	COLUMN_TEXT, /* left-aligned */
	COLUMN_NUM,  /* decimal, right-aligned */
	COLUMN_HEX,  /* with 0x */
	COLUMN_ADDR, /* hexadecimal, bare, as in /proc/PID/maps */
};

struct column {
	const char *key;   /* name in JSON, NULL: not there */
	const char *title; /* in text, NULL: not there */
	enum column_kind kind;
	unsigned wrap; /* text longer than that is broken at spaces, 0: never */
};

struct json_object;

/* Rows of cells; a cell that is not set is "-", or absent in JSON. */
struct table {
	const struct column *columns;
	unsigned count;
	bool json;
	bool hidden[TABLE_COLUMNS];
	unsigned widths[TABLE_COLUMNS];
	size_t rows;
	struct json_object *row;               /* JSON: the row being made */
	char cells[TABLE_COLUMNS][TABLE_CELL]; /* text: the same */
	char *text;                            /* all rows' cells, each with its NUL */
	size_t len, size;
};

void table_begin(struct table *t, const struct ctl *ctl, const struct column *columns,
		 unsigned count);
void table_num(struct table *t, unsigned column, uint64_t value);
void table_text(struct table *t, unsigned column, const char *value);
void table_bool(struct table *t, unsigned column, bool value);
/* Two sides of one cell; takes VALUE over. TEXT may be NULL. */
void table_both(struct table *t, unsigned column, const char *text, struct json_object *value);
void table_row(struct table *t);
/* Print what there is (text waits for the widths), and free it. */
void table_end(struct table *t);

/* STR with all but printable ASCII replaced; at most SIZE - 1 characters. */
void text_clean(char *dst, size_t size, const char *str, size_t len);

#endif
