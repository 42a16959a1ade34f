/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Random operations on files, against a model of their content in memory. */
#ifndef CHURN_H
#define CHURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILE_MAX ((size_t)768 << 10) /* no file grows beyond */
#define N_FILES 2                    /* of one worker, which copies between them */
#define LOG_SIZE 48

struct tracked {
	char path[512];
	unsigned name;
	int fd;
	unsigned char *map;   /* FILE_MAX bytes of it, MAP_SHARED */
	unsigned char *model; /* FILE_MAX bytes: zeros from SIZE on */
	size_t size;
};

struct worker {
	unsigned number;
	uint64_t random;
	const char *dir;
	struct tracked files[N_FILES];
	uint64_t operations, refused; /* refused: EOPNOTSUPP */
	char log[LOG_SIZE][128];      /* a ring of the last operations */
	unsigned char *buf;           /* FILE_MAX bytes */
};

/* churn_file.c */
void tracked_open(struct worker *w, struct tracked *f, unsigned index);
void tracked_reopen(struct worker *w, struct tracked *f, int flags);
void tracked_close(struct tracked *f);
void model_resize(struct tracked *f, size_t size);
void model_written(struct tracked *f, size_t off, const void *data, size_t len);
/* Read it all, and compare. */
void tracked_check(struct worker *w, struct tracked *f);
void bytes_check(struct worker *w, struct tracked *f, const char *how, size_t off,
		 const unsigned char *got, size_t len);

/* churn_op.c */
void operation_run(struct worker *w);
uint64_t random_below(struct worker *w, uint64_t n);
void random_fill(struct worker *w, unsigned char *buf, size_t len);

/* churn.c: does not return. */
void worker_fail(struct worker *w, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 2, 3)));
void worker_log(struct worker *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
