/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The device's files. A preloaded provider stands in front of the C library's calls
 * that take a path, so that /dev/infiniband and /sys/class/infiniband* are where this
 * process's devices are too (device/view.c), and in front of those that take a
 * descriptor, for descriptors of such device files.
 *
 * Not seen: system calls that do not go through the C library, what its own functions
 * call inside (so glob(), scandir() and their like are here as well), and names that
 * are relative to a directory above those.
 */
#ifndef UODP_FILES_H
#define UODP_FILES_H

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <sys/stat.h>

#include "handle.h"
#include "uodp.h"

enum uodp_path_kind {
	UODP_PATH_OTHER, /* not ours to answer */
	UODP_PATH_HOST,  /* in the view, and what it links to is the host's */
	UODP_PATH_TREE,  /* a directory or an attribute of ours: read-only, as in sysfs */
	UODP_PATH_NODE,  /* a device file of ours */
};

struct uodp_path {
	enum uodp_path_kind kind;
	const struct uodp_device *dev; /* NODE; NULL: rdma_cm */
	char real[PATH_MAX];
};

/* Could PATH be one of them? Cheap: the common answer is no. */
bool uodp_path_maybe(int dirfd, const char *path);
/* PATH, relative to DIRFD, as an absolute name without "//", "." and ".."; false: it does
 * not fit, or DIRFD is no directory. */
bool uodp_path_absolute(int dirfd, const char *path, char out[PATH_MAX]);
/* What PATH, relative to DIRFD, is; fills P->real unless OTHER. Keeps errno. */
enum uodp_path_kind uodp_path_find(int dirfd, const char *path, struct uodp_path *p);

/* The next definition of a function behind this library's, the C library's as a rule. */
#define UODP_NEXT(name)                                                                            \
	({                                                                                         \
		static __typeof__(&name) _Atomic next_;                                            \
		__typeof__(&name) next_now_ = atomic_load_explicit(&next_, memory_order_relaxed);  \
                                                                                                   \
		if (uodp_unlikely(!next_now_)) {                                                   \
			next_now_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                    \
			/* Whoever stores it stores the same. */                                   \
			atomic_store_explicit(&next_, next_now_, memory_order_relaxed);            \
		}                                                                                  \
		next_now_;                                                                         \
	})

/* Make ST what stat() says of DEV's file (NULL: rdma_cm's). */
void uodp_node_stat(const struct uodp_device *dev, mode_t *mode, dev_t *rdev);

#endif
