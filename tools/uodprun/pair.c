/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* uodprun --pair: start a server, its client when it listens, and end both. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pair.h"

#define SERVER_ADDRESS "127.0.0.1"
#define SERVER_WORD "server: "

enum {
	TICK_MS = 20,
	LISTEN_MS = 30000, /* what a server may take until it listens */
	LEAVE_MS = 3000,   /* what is left to one side when the other has ended */
};

struct side {
	pid_t pid; /* 0: not started */
	int status;
	bool ended;
};

struct pair {
	struct side server, client;
	struct lines out, err; /* the server's */
	int signals;
	sigset_t old_mask;
	int64_t deadline; /* of the state that the pair is in; 0: none */
	bool told;        /* the server was told to end: its status no longer counts */
	bool killed;
	int failure; /* an exit status, which counts before the two sides' */
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static unsigned count(char **argv)
{
	unsigned n = 0;

	while (argv[n])
		n++;
	return n;
}

/* ARGV and the server's address. */
static char **with_address(char **argv)
{
	unsigned n = count(argv);
	char **copy = calloc(n + 2, sizeof(*copy));

	if (!copy)
		die(EXIT_SETUP, "%s", strerror(ENOMEM));
	memcpy(copy, argv, n * sizeof(*argv));
	copy[n] = SERVER_ADDRESS;
	return copy;
}

void pair_split(char **argv, char ***server, char ***client)
{
	*server = argv;
	while (*argv && strcmp(*argv, "--"))
		argv++;
	if (argv == *server)
		die(EXIT_USAGE, "--pair needs a server's command before the \"--\"");
	if (!*argv) {
		*client = with_address(*server);
		return;
	}
	*argv = NULL;
	*client = argv + 1;
	if (!**client)
		die(EXIT_USAGE, "--pair needs a client's command behind the \"--\"");
}

/* Neither outlives this process. */
__attribute__((noreturn)) static void side_exec(const struct pair *p, char **argv)
{
	int err;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigprocmask(SIG_SETMASK, &p->old_mask, NULL);
	execvp(argv[0], argv);
	err = errno;
	die(err == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN, "cannot run %s: %s", argv[0],
	    strerror(err));
}

static void lines_open(struct lines *l, int to, int *end)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		die(EXIT_SETUP, "pipe: %s", strerror(errno));
	l->from = fds[0];
	l->to = to;
	*end = fds[1];
}

/* In a group of its own, by which it is found, and ended, with what it starts. */
static void server_start(struct pair *p, char **argv)
{
	int out, err, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	lines_open(&p->out, STDOUT_FILENO, &out);
	lines_open(&p->err, STDERR_FILENO, &err);
	p->server.pid = fork();
	if (p->server.pid < 0)
		die(EXIT_SETUP, "fork: %s", strerror(errno));
	if (!p->server.pid) {
		setpgid(0, 0);
		dup2(null, STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		dup2(err, STDERR_FILENO);
		side_exec(p, argv);
	}
	setpgid(p->server.pid, p->server.pid); /* whoever is first */
	close(out);
	close(err);
	close(null);
}

static void client_start(struct pair *p, char **argv)
{
	p->deadline = 0;
	p->client.pid = fork();
	if (!p->client.pid)
		side_exec(p, argv);
	if (p->client.pid < 0)
		die(EXIT_SETUP, "fork: %s", strerror(errno));
}

static void side_signal(const struct side *s, bool group, int sig)
{
	/* Not waited for yet, so the number is still its own. */
	if (s->pid && !s->ended)
		kill(group ? -s->pid : s->pid, sig);
}

static void end_both(struct pair *p, int sig)
{
	p->told = true;
	side_signal(&p->server, true, sig);
	side_signal(&p->client, false, sig);
	p->killed = sig == SIGKILL;
	p->deadline = now_ms() + LEAVE_MS;
}

static void fail(struct pair *p, int status)
{
	if (!p->failure)
		p->failure = status;
	end_both(p, SIGTERM);
}

/* True when it has just ended. */
static bool side_wait(struct side *s)
{
	if (!s->pid || s->ended || waitpid(s->pid, &s->status, WNOHANG) != s->pid)
		return false;
	s->ended = true;
	return true;
}

static int shell_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void server_ended(struct pair *p)
{
	if (!p->client.pid && !p->told) {
		fprintf(stderr, "uodprun: the server ended before it listened\n");
		p->failure = shell_status(p->server.status);
		p->failure = p->failure ? p->failure : EXIT_SETUP;
	} else if (!p->client.ended && p->server.status) {
		p->deadline = now_ms() + LEAVE_MS;
	}
}

static void deadline_check(struct pair *p)
{
	if (!p->deadline || now_ms() < p->deadline)
		return;
	if (p->told) {
		if (!p->killed)
			end_both(p, SIGKILL);
		return;
	}
	if (!p->client.pid) {
		fprintf(stderr,
			"uodprun: the server listens neither at a TCP port nor through rdma_cm "
			"after %d seconds\n",
			LISTEN_MS / 1000);
		fail(p, EXIT_SETUP);
		return;
	}
	/* One has ended and the other goes on: many servers wait for the next client. */
	end_both(p, SIGTERM);
}

static void signals_read(struct pair *p)
{
	struct signalfd_siginfo info;

	if (read(p->signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo != SIGCHLD)
		fail(p, 128 + (int)info.ssi_signo);
}

static void signals_open(struct pair *p)
{
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < 4; i++)
		sigaddset(&set, ((const int[]){SIGINT, SIGTERM, SIGHUP, SIGCHLD})[i]);
	sigprocmask(SIG_BLOCK, &set, &p->old_mask);
	p->signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (p->signals < 0)
		die(EXIT_SETUP, "signalfd: %s", strerror(errno));
}

/* Wait for output, a signal or a tick, and hand on what there is. False: a tick. */
static bool pair_hear(struct pair *p, int timeout)
{
	struct pollfd fds[] = {
		{p->signals, POLLIN, 0},
		{p->out.from, POLLIN, 0},
		{p->err.from, POLLIN, 0},
	};

	if (poll(fds, 3, timeout) <= 0)
		return false;
	if (fds[0].revents)
		signals_read(p);
	if (fds[1].revents)
		lines_pass(&p->out, SERVER_WORD);
	if (fds[2].revents)
		lines_pass(&p->err, SERVER_WORD);
	return true;
}

static bool over(const struct pair *p)
{
	return p->server.ended && (p->client.ended || !p->client.pid);
}

int pair_run(char **server, char **client)
{
	struct pair p = {.deadline = now_ms() + LISTEN_MS};

	signals_open(&p);
	server_start(&p, server);
	while (!over(&p)) {
		pair_hear(&p, TICK_MS);
		if (side_wait(&p.server))
			server_ended(&p);
		if (side_wait(&p.client) && !p.told)
			p.deadline = now_ms() + LEAVE_MS;
		if (!p.client.pid && !p.told && !p.server.ended && group_listens(p.server.pid))
			client_start(&p, client);
		deadline_check(&p);
	}
	while (pair_hear(&p, 0))
		;
	if (p.failure)
		return p.failure;
	if (p.client.status)
		return shell_status(p.client.status);
	return p.told ? 0 : shell_status(p.server.status);
}
