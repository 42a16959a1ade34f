/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * churn: random operations on the files of a directory, each compared with a model in
 * memory. Several workers at once, each with files of its own. The files stay behind.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "churn.h"

static struct {
	const char *dir;
	uint64_t seed, operations; /* operations of a worker; 0: until the time is up */
	unsigned seconds, workers;
	time_t end;
} config = {.seconds = 5, .workers = 4};

static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

void worker_log(struct worker *w, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(w->log[w->operations % LOG_SIZE], sizeof(w->log[0]), fmt, args);
	va_end(args);
}

/* The first to fail ends the program. */
void worker_fail(struct worker *w, const char *fmt, ...)
{
	va_list args;

	pthread_mutex_lock(&output);
	printf("FAILED: worker %u, operation %llu: ", w->number, (unsigned long long)w->operations);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\nthe last operations:\n");
	for (uint64_t i = w->operations < LOG_SIZE ? 0 : w->operations - LOG_SIZE + 1;
	     i <= w->operations; i++)
		printf("  %s\n", w->log[i % LOG_SIZE]);
	printf("again with: --seed=%llu --workers=%u\n", (unsigned long long)config.seed,
	       config.workers);
	fflush(stdout);
	_exit(1);
}

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;

	w->buf = malloc(FILE_MAX);
	if (!w->buf)
		worker_fail(w, "out of memory");
	for (unsigned i = 0; i < N_FILES; i++)
		tracked_open(w, &w->files[i], i);
	while (config.operations ? w->operations < config.operations : now() < config.end) {
		w->log[w->operations % LOG_SIZE][0] = '\0';
		operation_run(w);
	}
	for (unsigned i = 0; i < N_FILES; i++) {
		tracked_reopen(w, &w->files[i], 0);
		tracked_check(w, &w->files[i]);
		tracked_close(&w->files[i]);
		free(w->files[i].model);
	}
	free(w->buf);
	return NULL;
}

static void run(void)
{
	struct worker *workers = calloc(config.workers, sizeof(*workers));
	pthread_t *threads = calloc(config.workers, sizeof(*threads));
	unsigned long long operations = 0, refused = 0;

	if (!workers || !threads) {
		puts("out of memory");
		exit(1);
	}
	config.end = now() + config.seconds;
	for (unsigned i = 0; i < config.workers; i++) {
		workers[i] = (struct worker){
			.number = i, .dir = config.dir, .random = config.seed * 1000003 + i};
		if (pthread_create(&threads[i], NULL, worker_run, &workers[i])) {
			puts("cannot start a thread");
			exit(1);
		}
	}
	for (unsigned i = 0; i < config.workers; i++) {
		pthread_join(threads[i], NULL);
		operations += workers[i].operations;
		refused += workers[i].refused;
	}
	printf("churn: seed %llu: %llu operations on %u files, of them %llu not supported\n",
	       (unsigned long long)config.seed, operations, config.workers * N_FILES, refused);
	free(workers);
	free(threads);
	/* All operations refused would prove nothing. */
	if (refused * 4 > operations || operations < config.workers)
		exit(1);
}

__attribute__((noreturn)) static void usage_die(void)
{
	fputs("Usage: churn [--seconds=N | --operations=N] [--seed=N] [--workers=N] DIRECTORY\n",
	      stderr);
	exit(2);
}

static uint64_t number_parse(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (*end || end == text)
		usage_die();
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
						{"operations", required_argument, NULL, 'o'},
						{"seed", required_argument, NULL, 'r'},
						{"workers", required_argument, NULL, 'w'},
						{0}};
	int c;

	config.seed = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			config.seconds = (unsigned)number_parse(optarg);
		else if (c == 'o')
			config.operations = number_parse(optarg);
		else if (c == 'r')
			config.seed = number_parse(optarg);
		else if (c == 'w')
			config.workers = (unsigned)number_parse(optarg);
		else
			usage_die();
	}
	if (optind != argc - 1 || !config.workers || config.workers > 256)
		usage_die();
	config.dir = argv[optind];
	printf("churn: seed %llu\n", (unsigned long long)config.seed);
	fflush(stdout);
	run();
	return 0;
}
