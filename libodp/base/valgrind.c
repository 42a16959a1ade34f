/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Valgrind lets one thread run at a time, and holds its lock in system calls that it
 * does not know to wait: io_uring's, and page faults that a userfaultfd answers. With
 * either, the program and the service thread wait for each other for ever; so the
 * callers of odp_on_valgrind() do without.
 */
#include "base.h"

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>

bool odp_on_valgrind(void)
{
	return RUNNING_ON_VALGRIND;
}

void odp_valgrind_hide(void *p, size_t size)
{
	if (!RUNNING_ON_VALGRIND)
		return;
	VALGRIND_MAKE_MEM_NOACCESS(p, size);
	VALGRIND_DISABLE_ADDR_ERROR_REPORTING_IN_RANGE(p, size);
}

void odp_valgrind_show(void *p, size_t size)
{
	if (RUNNING_ON_VALGRIND)
		VALGRIND_ENABLE_ADDR_ERROR_REPORTING_IN_RANGE(p, size);
}

void odp_valgrind_defined(void *p, size_t size)
{
	if (RUNNING_ON_VALGRIND)
		VALGRIND_MAKE_MEM_DEFINED_IF_ADDRESSABLE(p, size);
}

#else /* without valgrind's header this was built for programs outside of it */

bool odp_on_valgrind(void)
{
	return false;
}

void odp_valgrind_hide(void *p, size_t size)
{
	(void)p;
	(void)size;
}

void odp_valgrind_show(void *p, size_t size)
{
	(void)p;
	(void)size;
}

void odp_valgrind_defined(void *p, size_t size)
{
	(void)p;
	(void)size;
}

#endif
