/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * An event under traffic: a peer reads and writes a region without a pause while
 * the event strikes all of it again and again; once for each kind of region.
 */
#ifndef ODPCMP_TRAFFIC_H
#define ODPCMP_TRAFFIC_H

#include "odpcmp.h"

enum {
	TRAFFIC_BIN_MS = 10,
	TRAFFIC_PERIOD_MS = 200, /* from event to event */
	TRAFFIC_SAMPLE_MS = 50,  /* of the counters */
	TRAFFIC_MAX_MS = 10000,
	TRAFFIC_MAX_BINS = TRAFFIC_MAX_MS / TRAFFIC_BIN_MS,
	TRAFFIC_MAX_EVENTS = TRAFFIC_MAX_MS / TRAFFIC_PERIOD_MS,
	TRAFFIC_MAX_SAMPLES = 2 * TRAFFIC_MAX_MS / TRAFFIC_SAMPLE_MS,
};

struct traffic_bin {
	uint32_t transfers;
	uint32_t errors;
	uint32_t slowest_ns;
};

struct traffic_sample {
	double ms;       /* since the start */
	uint64_t faults; /* so far */
	uint64_t invalidations;
};

/* Lives in memory shared with the process that finds it out: no pointers. */
struct traffic_curve {
	bool asked;
	char error[160];   /* why there is no curve, else empty */
	uint64_t start_ns; /* of CLOCK_MONOTONIC; 0: not yet */
	uint64_t end_ns;
	size_t num_bins;
	size_t num_events;
	size_t num_samples; /* 0: the device's counters are not to be had */
	struct traffic_bin bins[TRAFFIC_MAX_BINS];
	double events_ms[TRAFFIC_MAX_EVENTS];
	double events_took_ms[TRAFFIC_MAX_EVENTS];
	struct traffic_sample samples[TRAFFIC_MAX_SAMPLES];
};

struct traffic_event {
	const char *name; /* KIND:EVENT */
	const char *what;
	bool file; /* a memfd, else private anonymous memory */
	int (*apply)(uint8_t *addr, size_t length, int fd);
};

extern const struct traffic_event traffic_events[];
extern const size_t num_traffic_events;

struct traffic {
	const struct traffic_event *event;
	size_t region;   /* bytes */
	size_t transfer; /* bytes */
	struct traffic_curve curves[NUM_MR_KINDS];
};

/* Sums up a curve. */
struct traffic_summary {
	uint64_t transfers;
	uint64_t errors;
	double rate;         /* MB/s over all */
	double rate_between; /* the median bin's */
	double slowest_us;
	double event_ms; /* the median event took */
	uint64_t faults;
};

/* MB/s */
static inline double traffic_rate(const struct traffic *traffic, const struct traffic_bin *bin)
{
	return bin->transfers * (double)traffic->transfer / (TRAFFIC_BIN_MS * 1e3);
}

struct traffic_summary traffic_sum_up(const struct traffic *traffic, enum mr_kind mr);

const struct traffic_event *traffic_event_find(const char *name);
/* False: no kind of region gave a curve. */
bool traffic_run(struct traffic *traffic, const struct environment *env, const struct options *opt);
void traffic_print(FILE *out, const struct traffic *traffic);

/* Counters of an on-demand region of process pid, as odpctl says (counters.c). */
bool counters_read(pid_t pid, size_t region, enum mr_kind mr, struct traffic_sample *sample);

#endif
