/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Small files and links in the run directory, written so that any number of
 * processes can write the same ones at once: a reader sees the old file or the new
 * one, whole, and what is right already is left alone.
 */
#ifndef UODP_TREE_H
#define UODP_TREE_H

#include <dirent.h>

struct uodp_dir {
	int fd;  /* -1: could not be opened */
	int err; /* the first error, -errno; the rest is then skipped */
};

/* Open the absolute PATH, which is there; the error is in the result. */
struct uodp_dir uodp_dir_open(const char *path);
/* Open PATH below DIR; each part of it is made, and made again where something else
 * stands in its place. */
struct uodp_dir uodp_dir_sub(const struct uodp_dir *dir, const char *path);
/* Close SUB, opened in DIR (NULL: by its path); its error becomes DIR's. */
void uodp_dir_close(struct uodp_dir *sub, struct uodp_dir *dir);
/* Its entries, to be closed with closedir(); NULL with errno. */
DIR *uodp_dir_list(const struct uodp_dir *dir);
/* The file NAME holds the text and a newline, at most UODP_FILE_MAX bytes. */
#define UODP_FILE_MAX 128
__attribute__((format(printf, 3, 4))) void uodp_file_write(struct uodp_dir *dir, const char *name,
							   const char *fmt, ...);
/* NAME is a symbolic link to TARGET. */
void uodp_link_write(struct uodp_dir *dir, const char *name, const char *target);

#endif
