/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "traffic.h"

enum { REGION_PAGES = 2048 };

static int dontneed(uint8_t *addr, size_t length, int fd)
{
	(void)fd;
	return madvise(addr, length, MADV_DONTNEED) ? -errno : 0;
}

static int punch(uint8_t *addr, size_t length, int fd)
{
	(void)addr;
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, length) ? -errno : 0;
}

static int truncate_grow(uint8_t *addr, size_t length, int fd)
{
	(void)addr;
	return ftruncate(fd, 0) || ftruncate(fd, length) ? -errno : 0;
}

const struct traffic_event traffic_events[] = {
	{"anon:dontneed", "madvise(MADV_DONTNEED) on private anonymous memory", false, dontneed},
	{"memfd:punch", "a hole punched into a memfd", true, punch},
	{"memfd:truncate-grow", "a memfd cut and grown again", true, truncate_grow},
};

const size_t num_traffic_events = ARRAY_SIZE(traffic_events);

const struct traffic_event *traffic_event_find(const char *name)
{
	size_t i;

	for (i = 0; i < num_traffic_events; i++)
		if (!strcmp(traffic_events[i].name, name))
			return &traffic_events[i];
	return NULL;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- the process under test ---- */

struct scene {
	const struct environment *env;
	const struct options *opt;
	const struct traffic_event *event;
	size_t region;
	enum mr_kind mr;
	/* in the process itself: */
	struct traffic_curve *curve;
	struct memory m;
	struct rdma rdma;
	atomic_bool stop;
	int event_error;
};

static int scene_map(struct scene *scene)
{
	struct memory *m = &scene->m;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	void *addr;

	*m = (struct memory){
		.kind = &kinds[0],
		.page = sysconf(_SC_PAGESIZE),
		.length = scene->region,
		.fd = -1,
	};
	if (scene->event->file) {
		flags = MAP_SHARED;
		m->fd = memfd_create(PROGRAM, MFD_CLOEXEC);
		if (m->fd < 0 || ftruncate(m->fd, m->length))
			return -errno;
	}
	addr = mmap(NULL, m->length, PROT_READ | PROT_WRITE, flags, m->fd, 0);
	if (addr == MAP_FAILED)
		return -errno;
	memset(addr, TAG_OLD, m->length);
	m->addr = addr;
	m->reg_addr = addr;
	m->reg_length = m->length;
	return 0;
}

static void sleep_until(uint64_t ns)
{
	struct timespec ts = {ns / 1000000000, ns % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void *strike(void *arg)
{
	struct scene *scene = arg;
	struct traffic_curve *curve = scene->curve;
	uint64_t next = curve->start_ns + TRAFFIC_PERIOD_MS / 2 * UINT64_C(1000000), begin;

	for (;; next += TRAFFIC_PERIOD_MS * UINT64_C(1000000)) {
		sleep_until(next);
		if (atomic_load_explicit(&scene->stop, memory_order_relaxed) ||
		    curve->num_events == TRAFFIC_MAX_EVENTS)
			return NULL;
		begin = now_ns();
		scene->event_error =
			scene->event->apply(scene->m.addr, scene->m.length, scene->m.fd);
		if (scene->event_error)
			return NULL;
		curve->events_ms[curve->num_events] = (begin - curve->start_ns) / 1e6;
		curve->events_took_ms[curve->num_events++] = (now_ns() - begin) / 1e6;
	}
}

/* READs and WRITEs by turns, page after page, until the time is up; -errno. */
static int keep_moving(struct scene *scene)
{
	struct traffic_curve *curve = scene->curve;
	uint64_t begin = curve->start_ns, end = begin, last;
	uint64_t length = scene->opt->traffic_ms * UINT64_C(1000000);
	struct traffic_bin *bin;
	const char *call;
	size_t i;
	int ret;

	last = begin + length;
	for (i = 0; begin < last; i++, begin = end) {
		ret = rdma_move(&scene->rdma, i & 1 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
				scene->m.addr + i / 2 * scene->m.page % scene->m.length);
		if (ret < 0)
			return ret;
		end = now_ns();
		bin = &curve->bins[(begin - curve->start_ns) / 1000000 / TRAFFIC_BIN_MS];
		bin->transfers += ret == IBV_WC_SUCCESS;
		bin->errors += ret != IBV_WC_SUCCESS;
		if (bin->slowest_ns < end - begin)
			bin->slowest_ns = end - begin;
		scene->rdma.spent = ret != IBV_WC_SUCCESS;
		ret = rdma_reconnect(&scene->rdma, &call);
		if (ret)
			return ret;
	}
	curve->end_ns = end;
	return 0;
}

static int scene_play(struct scene *scene, const char **step)
{
	struct traffic_curve *curve = scene->curve;
	pthread_t striker;
	int ret;

	*step = "moving data";
	curve->num_bins = scene->opt->traffic_ms / TRAFFIC_BIN_MS;
	curve->start_ns = now_ns();
	ret = -pthread_create(&striker, NULL, strike, scene);
	if (ret)
		return ret;
	ret = keep_moving(scene);
	atomic_store_explicit(&scene->stop, true, memory_order_relaxed);
	pthread_join(striker, NULL);
	if (!scene->event_error)
		return ret;
	*step = "the event";
	return scene->event_error;
}

static int scene_run(struct scene *scene, const char **step)
{
	struct rdma *rdma = &scene->rdma;
	char name[64];
	int ret;

	*step = "mapping memory";
	ret = scene_map(scene);
	if (ret)
		return ret;
	*step = "opening the device";
	ret = rdma_open(rdma, scene->env->device, name, sizeof(name));
	if (ret)
		return ret;
	rdma->port = scene->env->port;
	rdma->gid_index = scene->env->gid_index;
	ret = rdma_connect(rdma, step);
	if (ret)
		goto out_close;
	*step = "registering";
	ret = rdma_register(rdma, &scene->m, scene->mr, 0);
	if (!ret)
		ret = scene_play(scene, step);
out_close:
	rdma_close(rdma);
	return ret;
}

static void scene_body(const void *arg, void *result)
{
	struct scene scene = *(const struct scene *)arg;
	const char *step;
	char name[24];
	int ret;

	scene.curve = result;
	ret = scene_run(&scene, &step);
	if (ret)
		snprintf(scene.curve->error, sizeof(scene.curve->error), "%s: %s", step,
			 errno_name(-ret, name, sizeof(name)));
}

/* ---- the process that watches ---- */

static void watch(struct isolated *job, const struct scene *scene)
{
	struct traffic_curve *curve = job->shared;
	struct traffic_sample sample, *samples = curve->samples;
	struct timespec pause = {0, TRAFFIC_SAMPLE_MS * 1000000L};
	uint64_t before;

	while (!isolate_ended(job)) {
		nanosleep(&pause, NULL);
		if (!curve->start_ns || curve->end_ns || curve->num_samples == TRAFFIC_MAX_SAMPLES)
			continue;
		before = now_ns();
		if (!counters_read(job->pid, scene->region, scene->mr, &sample))
			continue;
		sample.ms = ((before + now_ns()) / 2 - curve->start_ns) / 1e6;
		samples[curve->num_samples++] = sample;
	}
}

static void curve_find(struct scene *scene, struct traffic_curve *curve)
{
	unsigned int timeout = scene->opt->timeout + scene->opt->traffic_ms / 1000;
	struct isolated job;
	int ret, sig = 0;

	curve->asked = true;
	ret = isolate_start(&job, scene_body, scene, curve, sizeof(*curve), timeout);
	if (!ret) {
		watch(&job, scene);
		ret = isolate_end(&job, curve, &sig);
	}
	if (ret && !*curve->error)
		snprintf(curve->error, sizeof(curve->error), "the process ended badly: %s%s",
			 ret == -EINTR ? "SIG" : "",
			 ret == -EINTR ? sigabbrev_np(sig) ?: "?" : strerror(-ret));
}

bool traffic_run(struct traffic *traffic, const struct environment *env, const struct options *opt)
{
	struct scene scene = {.env = env, .opt = opt, .event = traffic->event};
	bool any = false;
	size_t mr;

	traffic->region = REGION_PAGES * (size_t)sysconf(_SC_PAGESIZE);
	traffic->transfer = PAGES * PROBE;
	scene.region = traffic->region;
	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		if (!opt->mrs[mr])
			continue;
		scene.mr = mr;
		curve_find(&scene, &traffic->curves[mr]);
		any |= !*traffic->curves[mr].error;
	}
	return any;
}

/* ---- figures ---- */

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, size_t num)
{
	qsort(values, num, sizeof(*values), compare_doubles);
	return num ? values[num / 2] : 0;
}

struct traffic_summary traffic_sum_up(const struct traffic *traffic, enum mr_kind mr)
{
	const struct traffic_curve *curve = &traffic->curves[mr];
	double rates[TRAFFIC_MAX_BINS], took[TRAFFIC_MAX_EVENTS];
	struct traffic_summary sum = {0};
	size_t i;

	for (i = 0; i < curve->num_bins; i++) {
		sum.transfers += curve->bins[i].transfers;
		sum.errors += curve->bins[i].errors;
		rates[i] = traffic_rate(traffic, &curve->bins[i]);
		if (sum.slowest_us < curve->bins[i].slowest_ns / 1e3)
			sum.slowest_us = curve->bins[i].slowest_ns / 1e3;
	}
	memcpy(took, curve->events_took_ms, sizeof(took));
	sum.rate_between = median(rates, curve->num_bins);
	sum.event_ms = median(took, curve->num_events);
	if (curve->end_ns > curve->start_ns)
		sum.rate =
			sum.transfers * traffic->transfer * 1e3 / (curve->end_ns - curve->start_ns);
	if (curve->num_samples)
		sum.faults = curve->samples[curve->num_samples - 1].faults;
	return sum;
}

void traffic_print(FILE *out, const struct traffic *traffic)
{
	struct traffic_summary sum;
	size_t mr;

	fprintf(out, "\nunder traffic: %s, every %d ms, %zu KiB; transfers of %zu B\n",
		traffic->event->what, TRAFFIC_PERIOD_MS, traffic->region >> 10, traffic->transfer);
	for (mr = 0; mr < NUM_MR_KINDS; mr++) {
		if (!traffic->curves[mr].asked)
			continue;
		sum = traffic_sum_up(traffic, mr);
		if (*traffic->curves[mr].error) {
			fprintf(out, "%-8s %s\n", mr_names[mr].name, traffic->curves[mr].error);
			continue;
		}
		fprintf(out,
			"%-8s %.0f MB/s, median %.0f MB/s; slowest transfer %.0f us; "
			"%zu events, median %.2f ms; %llu errors",
			mr_names[mr].name, sum.rate, sum.rate_between, sum.slowest_us,
			traffic->curves[mr].num_events, sum.event_ms,
			(unsigned long long)sum.errors);
		if (traffic->curves[mr].num_samples)
			fprintf(out, "; %llu faults", (unsigned long long)sum.faults);
		fputc('\n', out);
	}
}
