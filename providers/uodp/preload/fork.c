/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Children that are made past the C library's fork() and so past its handlers: by
 * _Fork(), clone() and syscall(). They have memory of their own as fork()'s have, and get
 * their copies of what is in the pool in the same way. Children that share the memory
 * (CLONE_VM: threads, vfork(), posix_spawn()) have it, and are left alone.
 *
 * _Fork() and syscall() may be called from signal handlers: nothing here allocates.
 */
#include <dlfcn.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cm_open.h"
#include "uodp.h"

/* What none of this helps: memory that is shared; descriptors that are shared, which the
 * child would close; thread-local storage that is another's; a parent that the kernel
 * holds until the child is gone. */
#define LEFT_ALONE (CLONE_VM | CLONE_FILES | CLONE_SETTLS | CLONE_VFORK)

static struct {
	pid_t (*fork)(void); /* _Fork() */
	int (*clone)(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);
	long (*syscall)(long nr, ...);
} next;

/* Not at the first call, which a signal handler may make; but that of another library's
 * constructor may come before this one. */
__attribute__((constructor)) static void next_find(void)
{
	next.fork = (pid_t(*)(void))dlsym(RTLD_NEXT, "_Fork");
	next.clone = dlsym(RTLD_NEXT, "clone");
	next.syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
}

/* In the child, when libodp is done there. Keeps errno. */
static void child_end(void)
{
	odp_fork_end(true);
	uodp_proc_child();
	uodp_adopt_child();
	cm_child();
}

static void fork_end(bool begun, bool child)
{
	if (!begun)
		return;
	if (child)
		child_end();
	else
		odp_fork_end(false);
}

pid_t _Fork(void)
{
	bool begun;
	pid_t pid;

	if (!next.fork)
		next_find();
	begun = odp_fork_begin();
	pid = next.fork();
	fork_end(begun, !pid);
	return pid;
}

struct start {
	int (*fn)(void *arg);
	void *arg;
	bool begun;
};

/* START is on its parent's stack, of which the child has a copy. */
static int child_start(void *start)
{
	struct start s = *(struct start *)start;

	fork_end(s.begun, true);
	return s.fn(s.arg);
}

int clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...)
{
	struct start s = {.fn = fn, .arg = arg};
	pid_t *parent_tid, *child_tid;
	void *tls;
	va_list args;
	int ret;

	/* Those that FLAGS do not ask for hold anything, and nobody looks. */
	va_start(args, arg);
	parent_tid = va_arg(args, pid_t *);
	tls = va_arg(args, void *);
	child_tid = va_arg(args, pid_t *);
	va_end(args);
	if (!next.clone)
		next_find();
	if (flags & LEFT_ALONE || !fn || !stack)
		return next.clone(fn, stack, flags, arg, parent_tid, tls, child_tid);
	s.begun = odp_fork_begin();
	ret = next.clone(child_start, stack, flags, &s, parent_tid, tls, child_tid);
	fork_end(s.begun, false);
	return ret;
}

/* Does a system call make a child that goes on where the call was? */
static bool syscall_forks(long nr, const long *a)
{
	const struct clone_args *c = (const struct clone_args *)a[0];

	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
		return true;
#endif
	case SYS_clone:
		return !(a[0] & LEFT_ALONE) && !a[1];
	case SYS_clone3:
		return c && (size_t)a[1] >= CLONE_ARGS_SIZE_VER0 && !(c->flags & LEFT_ALONE) &&
		       !c->stack;
	default:
		return false;
	}
}

long syscall(long nr, ...)
{
	long a[6], ret;
	bool begun;
	va_list args;

	va_start(args, nr);
	for (unsigned i = 0; i < sizeof(a) / sizeof(*a); i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (!next.syscall)
		next_find();
	begun = syscall_forks(nr, a) && odp_fork_begin();
	ret = next.syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	fork_end(begun, !ret);
	return ret;
}
