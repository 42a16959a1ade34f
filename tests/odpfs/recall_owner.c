/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Another process that has a file mapped and registered. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recall.h"

struct hello {
	int err;
	unsigned slot;
	uint32_t key;
	uint64_t addr;
};

static struct hello owner_set_up(const char *name, enum odp_policy policy, uint32_t lease_ms)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);
	void *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct hello hello = {.addr = (uintptr_t)mem};
	struct odp_region *region;

	if (fd < 0 || mem == MAP_FAILED)
		return (struct hello){.err = errno};
	hello.err = odp_proc_get(&proc);
	if (hello.err)
		return hello;
	region = region_make(mem, LEN, policy, lease_ms);
	if (!region)
		return (struct hello){.err = errno};
	hello.slot = odp_proc_slot(proc);
	hello.key = odp_region_key(region);
	return hello;
}

/* This program again, as an owner: says hello on stdout, lives until its stdin ends. */
int owner_main(char **argv)
{
	struct hello hello = {.err = -EINVAL};
	enum odp_policy policy;
	char c;

	if (!odp_policy_parse(argv[1], &policy))
		hello = owner_set_up(argv[0], policy, (uint32_t)atoi(argv[2]));

	if (write(1, &hello, sizeof(hello)) != sizeof(hello))
		return 1;
	while (read(0, &c, 1) > 0)
		;
	return 0;
}

__attribute__((noreturn)) static void owner_exec(int in, int out, const char *name,
						 enum odp_policy policy, uint32_t lease_ms)
{
	char lease[16];

	snprintf(lease, sizeof(lease), "%u", lease_ms);
	dup2(in, 0);
	dup2(out, 1);
	execl("/proc/self/exe", "recall", "--owner", name, odp_policy_name(policy), lease, NULL);
	_exit(127);
}

bool owner_start(struct owner *o, const char *name, enum odp_policy policy, uint32_t lease_ms)
{
	struct hello hello = {.err = EPIPE};
	int to[2], from[2];

	fflush(stdout);
	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		return false;
	o->pid = fork();
	if (!o->pid)
		owner_exec(to[0], from[1], name, policy, lease_ms);
	close(to[0]);
	close(from[1]);
	o->in = to[1];
	CHECK(read(from[0], &hello, sizeof(hello)) == sizeof(hello));
	close(from[0]);
	errno = abs(hello.err);
	CHECK(!hello.err);
	o->key = hello.key;
	o->addr = hello.addr;
	return !hello.err && !odp_peer_get(proc, hello.slot, &o->peer);
}

int owner_end(struct owner *o)
{
	int status = -1;

	close(o->in);
	kill(o->pid, SIGCONT);
	CHECK(waitpid(o->pid, &status, 0) == o->pid);
	return status;
}

const char *owner_page(struct owner *o, unsigned page)
{
	static char text[64];

	text[sizeof(text) - 1] = '\0';
	if (key_read(o->peer, o->key, o->addr + page * PAGE, text, sizeof(text) - 1))
		return "?";
	return text;
}
