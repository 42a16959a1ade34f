/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* fork() in a program that has called ibv_fork_init(): memory that is, or was,
 * registered. */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define LEN 65536

/* In a child: what BUF holds, and then other bytes. Its exit status. */
static int child_writes(uint8_t *buf)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		int seen = buf[5000];

		memset(buf, 0x99, LEN);
		_exit(seen);
	}
	if (!CHECK(pid > 0) || !CHECK_INT(waitpid(pid, &status, 0), pid))
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void fork_after(struct pair *p, int access)
{
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;
	uint8_t *buf;

	REQUIRE(pair_up(p, &c, &c));
	buf = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(buf != MAP_FAILED);
	memset(buf, 0x11, LEN);
	mr = ibv_reg_mr(p->a.pd, buf, LEN, access);
	REQUIRE(mr);
	buf[5000] = 0x22;
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	CHECK_INT(child_writes(buf), 0x22);
	for (int i = 0; i < LEN && !t_failures(); i++) {
		t_note("byte %d", i);
		CHECK_INT(buf[i], i == 5000 ? 0x22 : 0x11);
	}
	munmap(buf, LEN);
	pair_down(p);
}

static void c_after_pinned(struct pair *p)
{
	fork_after(p, IBV_ACCESS_LOCAL_WRITE);
}

static void c_after_odp(struct pair *p)
{
	if (tdev()->odp.general_caps & IBV_ODP_SUPPORT)
		fork_after(p, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
	else
		t_skip("no on-demand paging");
}

/* Transfers still reach the parent's memory while a child has been there. */
static void c_transfers(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr w = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = LEN};
	struct ibv_wc wc;
	pid_t pid;

	REQUIRE(pair_up(p, &c, &c));
	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	for (int i = 0; i < 3 && !t_failures(); i++) {
		pid = fork();
		if (!pid)
			_exit(0);
		fill_bytes(p->a.buf, LEN, (uint64_t)i);
		CHECK_ERRNO(ep_send(&p->a, &w), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK(side_sum(&p->b, 0, LEN) == sum_bytes(p->a.buf, LEN));
		CHECK_INT(waitpid(pid, NULL, 0), pid);
	}
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"after-pinned", c_after_pinned, HERE},
		{"after-odp", c_after_odp, HERE},
		{"transfers", c_transfers, HERE},
	};

	if (ibv_fork_init()) {
		printf("ibv_fork_init failed: %s\n", strerror(errno));
		return 1;
	}
	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
