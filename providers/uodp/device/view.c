/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What a process is to find below /sys/class/infiniband*, and /dev/infiniband: links
 * to its own devices, and to the host's. A directory of links in the run directory,
 * one for each choice of devices, never changed once it is whole: processes with
 * other $UODP_DEVICES share the run directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tree.h"
#include "uodp.h"

#define NOWHERE "/proc/self/uodp" /* nothing can be there */

__thread unsigned uodp_files_raw;

static struct {
	char root[PATH_MAX]; /* "": none */
	dev_t dev;
	ino_t nodes[UODP_MAX_DEVICES]; /* of the directories that stand for files */
} view;

/* Where the host's own entries are linked from. */
static const char *const host_dirs[] = {"sys/class/infiniband", "sys/class/infiniband_verbs",
					"sys/class/infiniband_mad", "dev/infiniband"};

static bool only_ours(void)
{
	const char *value = secure_getenv("UODP_ONLY");

	if (!value || !*value || !strcmp(value, "0"))
		return false;
	if (strcmp(value, "1"))
		odp_log(ODP_LOG_ERR, "UODP_ONLY: \"%s\" is neither 0 nor 1; taken as 1", value);
	return true;
}

static uint64_t hash_add(uint64_t hash, const char *text)
{
	do                                                             /* the final 0 too */
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3u; /* FNV-1a */
	while (*text++);
	return hash;
}

/* Call FN for each of the host's entries in host_dirs[]. */
static void host_walk(void (*fn)(void *arg, const char *dir, const char *name), void *arg)
{
	char path[64];

	for (unsigned i = 0; i < sizeof(host_dirs) / sizeof(host_dirs[0]); i++) {
		const struct dirent *entry;
		DIR *dir;

		snprintf(path, sizeof(path), "/%s", host_dirs[i]);
		dir = opendir(path);
		while (dir && (entry = readdir(dir)))
			if (*entry->d_name != '.')
				fn(arg, host_dirs[i], entry->d_name);
		if (dir)
			closedir(dir);
	}
}

static void host_hash(void *arg, const char *dir, const char *name)
{
	uint64_t *sum = arg;

	/* A sum: in whatever order they are listed. */
	*sum += hash_add(hash_add(0xcbf29ce484222325u, dir), name);
}

static void host_link(void *arg, const char *where, const char *name)
{
	char target[PATH_MAX];
	struct uodp_dir *root = arg, dir = uodp_dir_sub(root, where);
	int n = snprintf(target, sizeof(target), "/%s/%s", where, name);

	if (n < (int)sizeof(target))
		uodp_link_write(&dir, name, target);
	uodp_dir_close(&dir, root);
}

/* After the host's: a name that both have is ours. */
static void ours_link(struct uodp_dir *root, const char *run, const struct uodp_device *dev)
{
	char name[16], target[PATH_MAX];
	struct uodp_dir dir;

	snprintf(name, sizeof(name), "uverbs%u", dev->uverbs);
	dir = uodp_dir_sub(root, "sys/class/infiniband");
	uodp_link_write(&dir, dev->name, dev->path);
	uodp_dir_close(&dir, root);
	dir = uodp_dir_sub(root, "sys/class/infiniband_verbs");
	snprintf(target, sizeof(target), "%.4000s/%s_verbs/%s", run,
		 dev->infiniband ? UODP_SYSFS_IB_DIR : UODP_SYSFS_DIR, name);
	uodp_link_write(&dir, name, target);
	uodp_dir_close(&dir, root);
	dir = uodp_dir_sub(root, "dev/infiniband");
	snprintf(target, sizeof(target), "%.4000s/" UODP_NODE_DIR "/%s", run, dev->name);
	uodp_link_write(&dir, name, target);
	uodp_dir_close(&dir, root);
}

dev_t uodp_view_rdma_cm(void)
{
	return makedev(10, 0x40000); /* a misc device's, that the kernel gives nobody */
}

/* The connection manager's file, and what is said of it. */
static void rdma_cm_write(struct uodp_dir *run, struct uodp_dir *root)
{
	struct uodp_dir dir = uodp_dir_sub(run, "dev/rdma_cm");

	if (!dir.err && fchmod(dir.fd, UODP_NODE_MODE))
		dir.err = -errno;
	uodp_dir_close(&dir, run);
	dir = uodp_dir_sub(root, "sys/class/misc/rdma_cm");
	uodp_file_write(&dir, "abi_version", "4");
	uodp_file_write(&dir, "dev", "%u:%u", major(uodp_view_rdma_cm()),
			minor(uodp_view_rdma_cm()));
	uodp_dir_close(&dir, root);
	dir = uodp_dir_sub(root, "dev/infiniband");
	uodp_link_write(&dir, "rdma_cm", "../../../../dev/rdma_cm");
	uodp_dir_close(&dir, root);
}

static void versions_write(struct uodp_dir *root)
{
	struct uodp_dir dir = uodp_dir_sub(root, "sys/class/infiniband_verbs");

	uodp_file_write(&dir, "abi_version", "6");
	uodp_dir_close(&dir, root);
	dir = uodp_dir_sub(root, "sys/class/infiniband_mad");
	uodp_file_write(&dir, "abi_version", "5");
	uodp_dir_close(&dir, root);
}

static void view_write(const char *run, const struct uodp_device *devs, unsigned n, bool only)
{
	struct uodp_dir root, dir = uodp_dir_open(run);
	uint64_t id = hash_add(0xcbf29ce484222325u, only ? "only" : "all");
	char path[40];

	for (unsigned i = 0; i < n; i++)
		id = hash_add(hash_add(id, devs[i].name), devs[i].infiniband ? "infiniband" : "");
	if (!only)
		host_walk(host_hash, &id);
	snprintf(path, sizeof(path), "view/%016llx", (unsigned long long)id);
	root = uodp_dir_sub(&dir, path);
	if (!only)
		host_walk(host_link, &root);
	versions_write(&root);
	rdma_cm_write(&dir, &root);
	for (unsigned i = 0; i < n; i++)
		ours_link(&root, run, &devs[i]);
	uodp_dir_close(&root, &dir);
	uodp_dir_close(&dir, NULL);
	if (dir.err)
		odp_log(ODP_LOG_ERR, "cannot write %s/%s: %s; no uodp device", run, path,
			strerror(-dir.err));
	else if (snprintf(view.root, sizeof(view.root), "%s/%s", run, path) >=
		 (int)sizeof(view.root))
		view.root[0] = '\0';
}

static void nodes_note(const char *run, const struct uodp_device *devs, unsigned n)
{
	char path[PATH_MAX];
	struct stat st;

	for (unsigned i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%.4000s/" UODP_NODE_DIR "/%s", run, devs[i].name);
		if (lstat(path, &st))
			continue;
		view.dev = st.st_dev;
		view.nodes[i] = st.st_ino;
	}
}

static void view_init(void)
{
	struct uodp_device *devs;
	unsigned n = uodp_devices(&devs);
	bool only = only_ours();
	char run[IBV_SYSFS_PATH_MAX];

	uodp_files_raw++;
	if ((n || only) && !uodp_devices_errno() && !odp_dir_get(run, sizeof(run))) {
		view_write(run, devs, n, only);
		nodes_note(run, devs, n);
	}
	/* The host's are to stay hidden all the same. */
	if (only && !view.root[0])
		strcpy(view.root, NOWHERE);
	uodp_files_raw--;
}

const char *uodp_view_root(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int err = errno;

	pthread_once(&once, view_init);
	errno = err;
	return view.root[0] ? view.root : NULL;
}

const struct uodp_device *uodp_view_device(unsigned number)
{
	struct uodp_device *devs;
	unsigned n = uodp_devices(&devs);

	for (unsigned i = 0; i < n; i++)
		if (devs[i].uverbs == number)
			return &devs[i];
	return NULL;
}

const struct uodp_device *uodp_view_node(const struct stat *st)
{
	struct uodp_device *devs;
	unsigned n;

	if (!uodp_view_root() || st->st_dev != view.dev)
		return NULL;
	n = uodp_devices(&devs);
	for (unsigned i = 0; i < n; i++)
		if (view.nodes[i] == st->st_ino)
			return &devs[i];
	return NULL;
}
