/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Checks, cases and the device. */
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "peer.h"

#define SKIP_STATUS 77

static struct {
	const char *name;
	const char *where;
	int failures;
	bool skipped;
	char note[128];
} cur;

void t_fail(const char *file, int line, const char *fmt, ...)
{
	const char *base = strrchr(file, '/');
	va_list ap;

	cur.failures++;
	if (cur.failures > 20)
		return;
	printf("  %s:%d: %s%s%s: ", base ? base + 1 : file, line, cur.name ? cur.name : "setup",
	       cur.note[0] ? ", " : "", cur.note);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

void t_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cur.note, sizeof(cur.note), fmt, ap);
	va_end(ap);
}

void t_skip(const char *fmt, ...)
{
	va_list ap;

	cur.skipped = true;
	printf("skip %s (%s): ", cur.name, cur.where);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

int t_failures(void)
{
	return cur.failures;
}

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

/* Eight bytes at a time: megabytes are filled and summed often. */
void fill_bytes(void *p, size_t len, uint64_t seed)
{
	uint8_t *b = p;
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

	for (; len; b += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (len < 8)
			break;
		memcpy(b, &x, 8);
		len -= 8;
	}
	memcpy(b, &x, len);
}

uint64_t sum_bytes(const void *p, size_t len)
{
	const uint8_t *b = p;
	uint64_t h = 0xcbf29ce484222325ull ^ len, x;

	for (; len >= 8; b += 8, len -= 8) {
		memcpy(&x, b, 8);
		h = (h ^ x) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 29;
	}
	x = 0;
	memcpy(&x, b, len);
	return (h ^ x) * 0x100000001b3ull;
}

/* ---- The device ---- */

/* RoCE v2 with an IPv4-mapped address if there is one, else any RoCE v2, else 0. */
static int gid_choose(struct ibv_context *ctx, int n, union ibv_gid *gid)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct ibv_gid_entry e;
	int i, best = 0;
	bool any = false;

	for (i = 0; i < n; i++) {
		if (ibv_query_gid_ex(ctx, PORT, (uint32_t)i, &e, 0) ||
		    e.gid_type != IBV_GID_TYPE_ROCE_V2)
			continue;
		if (!memcmp(e.gid.raw, mapped, sizeof(mapped))) {
			best = i;
			break;
		}
		if (!any)
			best = i;
		any = true;
	}
	if (ibv_query_gid(ctx, PORT, best, gid)) {
		printf("  cannot query GID %d\n", best);
		exit(1);
	}
	return best;
}

static struct tdev the_dev;

const struct tdev *tdev(void)
{
	struct ibv_device_attr_ex ex = {.comp_mask = 0};
	struct tdev *d = &the_dev;
	static struct ibv_device **list; /* kept: contexts are opened from it all the time */
	struct ibv_context *ctx;
	int i, n;

	if (d->ibdev)
		return d;
	d->name = getenv("UODP_TEST_DEVICE");
	if (!d->name)
		d->name = "uodp0";
	list = ibv_get_device_list(&n);
	for (i = 0; list && i < n; i++)
		if (!strcmp(ibv_get_device_name(list[i]), d->name))
			d->ibdev = list[i];
	if (!d->ibdev) {
		printf("no RDMA device %s (set UODP_TEST_DEVICE)\n", d->name);
		exit(getenv("UODP_TEST_DEVICE") ? SKIP_STATUS : 1);
	}
	ctx = tdev_open();
	if (ibv_query_device(ctx, &d->attr) || ibv_query_port(ctx, PORT, &d->port)) {
		printf("cannot query %s: %s\n", d->name, strerror(errno));
		exit(1);
	}
	if (!ibv_query_device_ex(ctx, NULL, &ex))
		d->odp = ex.odp_caps;
	d->gid_index = gid_choose(ctx, d->port.gid_tbl_len, &d->gid);
	d->rxe = !strncmp(d->name, "rxe", 3);
	ibv_close_device(ctx);
	return d;
}

struct ibv_context *tdev_open(void)
{
	struct ibv_context *ctx = ibv_open_device(the_dev.ibdev ? the_dev.ibdev : tdev()->ibdev);

	if (!ctx) {
		printf("cannot open the device: %s\n", strerror(errno));
		exit(1);
	}
	return ctx;
}

/* ---- Cases ---- */

bool pair_up(struct pair *p, const struct ep_conf *a, const struct ep_conf *b)
{
	int err = ep_open(&p->a, a);

	if (!CHECK_ERRNO(err, 0))
		return false;
	ep_info(&p->a, &p->ai);
	err = side_open(&p->b, b, &p->bi);
	if (!CHECK_ERRNO(err, 0))
		return false;
	err = ep_init(&p->a);
	if (!err)
		err = ep_rtr(&p->a, &p->bi);
	if (!err)
		err = ep_rts(&p->a);
	if (!CHECK_ERRNO(err, 0))
		return false;
	err = side_connect(&p->b, &p->ai, IBV_QPS_RTS);
	return CHECK_ERRNO(err, 0);
}

void pair_down(struct pair *p)
{
	int err = ep_close(&p->a);

	CHECK_ERRNO(err, 0);
	err = side_close(&p->b);
	CHECK_ERRNO(err, 0);
}

static bool wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (strstr(name, argv[i]))
			return true;
	return argc < 2;
}

/* 1 failed, 0 passed, -1 skipped */
static int case_run(const struct tcase *c, bool remote)
{
	struct pair p;
	uint64_t start = now_ms();

	memset(&p, 0, sizeof(p));
	p.remote = remote;
	p.b.fd = -1;
	memset(&cur, 0, sizeof(cur));
	cur.name = c->name;
	cur.where = remote ? "two processes" : "one process";
	if (remote && !peer_get(&p.b)) {
		printf("FAIL %s: no peer process\n", c->name);
		return 1;
	}
	c->fn(&p);
	/* What a failed case left open must not meet the next one. */
	ep_close(&p.a);
	side_close(&p.b);
	if (cur.failures)
		printf("FAIL %s (%s): %d checks\n", c->name, cur.where, cur.failures);
	else if (!cur.skipped)
		printf("ok   %s (%s) %llu ms\n", c->name, cur.where,
		       (unsigned long long)(now_ms() - start));
	return cur.failures ? 1 : cur.skipped ? -1 : 0;
}

int t_main(int argc, char **argv, unsigned int npeers, const struct tcase *cases, size_t n)
{
	const char *limit = getenv("UODP_TEST_ALARM");
	int passed = 0, failed = 0, skipped = 0;
	size_t i;
	int place, r;

	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(limit ? (unsigned int)atoi(limit) : 280);
	peer_main(argc, argv);
	peer_start(argv[0], npeers);
	tdev();
	for (i = 0; i < n; i++) {
		if (!wanted(cases[i].name, argc, argv))
			continue;
		for (place = HERE; place <= PEER; place++) {
			if (!(cases[i].where & place))
				continue;
			r = case_run(&cases[i], place == PEER);
			passed += r == 0;
			failed += r > 0;
			skipped += r < 0;
		}
	}
	peer_stop();
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	if (failed)
		return 1;
	return passed ? 0 : SKIP_STATUS;
}
