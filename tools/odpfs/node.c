/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The files that the kernel or an open file refers to, in a hash by device and inode. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "odpfs.h"

/* An O_PATH descriptor pins its inode, so that (dev, ino) names one file for as long
 * as the node lives. The lock is held for list work alone, never over a system call. */
static struct {
	pthread_mutex_t lock;
	struct node **buckets;
	size_t mask, count, hand;
	struct node root;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t bucket_of(dev_t dev, ino_t ino)
{
	uint64_t h = (ino ^ (uint64_t)dev * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;

	return (size_t)(h ^ h >> 32) & table.mask;
}

static void node_link(struct node *node)
{
	size_t b = bucket_of(node->dev, node->ino);

	node->next = table.buckets[b];
	table.buckets[b] = node;
}

/* Without the memory for more buckets it goes on with longer chains. */
static void table_grow(void)
{
	struct node **old = table.buckets;
	size_t n = table.mask + 1;
	struct node **new = calloc(2 * n, sizeof(struct node *));

	if (!new)
		return;
	table.buckets = new;
	table.mask = 2 * n - 1;
	for (size_t i = 0; i < n; i++) {
		for (struct node *node = old[i], *next; node; node = next) {
			next = node->next;
			node_link(node);
		}
	}
	free(old);
}

int node_init(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	table.buckets = calloc(1024, sizeof(struct node *));
	if (!table.buckets)
		return -ENOMEM;
	table.mask = 1023;
	table.root.lookups = 1;
	table.root.dev = st.st_dev;
	table.root.ino = st.st_ino;
	table.root.type = S_IFDIR;
	table.root.fd = fd;
	table.count = 1;
	node_link(&table.root);
	return 0;
}

struct node *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &table.root : (struct node *)(uintptr_t)ino;
}

fuse_ino_t node_number(const struct node *node)
{
	return node == &table.root ? FUSE_ROOT_ID : (uintptr_t)node;
}

static struct node *node_find(dev_t dev, ino_t ino)
{
	struct node *node = table.buckets[bucket_of(dev, ino)];

	while (node && (node->dev != dev || node->ino != ino))
		node = node->next;
	return node;
}

/* Takes NAME over; gives back what is to be freed. */
static char *node_place_set(struct node *node, fuse_ino_t parent, char *name)
{
	char *old = node->name;

	if (!name)
		return NULL;
	node->parent = parent;
	node->name = name;
	return old;
}

int node_get(int fd, fuse_ino_t parent, const char *name, struct node **found, struct stat *st)
{
	struct node *new, *node;
	char *copy = NULL;
	int err = mode_stat(fd, st);

	if (err) {
		close(fd);
		return err;
	}
	new = calloc(1, sizeof(*new));
	if (name)
		copy = strdup(name);
	if (!new) {
		free(copy);
		close(fd);
		return -ENOMEM;
	}
	pthread_mutex_lock(&table.lock);
	node = node_find(st->st_dev, st->st_ino);
	if (!node) {
		if (table.count > 2 * table.mask)
			table_grow();
		node = new;
		node->dev = st->st_dev;
		node->ino = st->st_ino;
		node->type = st->st_mode & S_IFMT;
		node->fd = fd;
		node_link(node);
		table.count++;
		new = NULL;
	}
	node->lookups++;
	copy = node_place_set(node, parent, copy);
	pthread_mutex_unlock(&table.lock);
	free(copy);
	if (new) {
		free(new);
		close(fd);
	}
	*found = node;
	return 0;
}

struct node *node_get_known(dev_t dev, ino_t ino, fuse_ino_t parent, const char *name)
{
	char *copy = strdup(name);
	struct node *node;

	pthread_mutex_lock(&table.lock);
	node = node_find(dev, ino);
	if (node) {
		node->lookups++;
		copy = node_place_set(node, parent, copy);
	}
	pthread_mutex_unlock(&table.lock);
	free(copy);
	return node;
}

struct node *node_get_number(uint64_t ino)
{
	struct node *node;

	pthread_mutex_lock(&table.lock);
	node = node_find(table.root.dev, ino);
	if (node)
		node->lookups++;
	pthread_mutex_unlock(&table.lock);
	return node;
}

void node_ref(struct node *node)
{
	pthread_mutex_lock(&table.lock);
	node->lookups++;
	pthread_mutex_unlock(&table.lock);
}

static void node_unlink(struct node *node)
{
	struct node **p = &table.buckets[bucket_of(node->dev, node->ino)];

	while (*p != node)
		p = &(*p)->next;
	*p = node->next;
	table.count--;
}

void node_put(struct node *node, uint64_t lookups)
{
	bool last;

	if (node == &table.root)
		return;
	pthread_mutex_lock(&table.lock);
	node->lookups -= lookups < node->lookups ? lookups : node->lookups;
	last = !node->lookups;
	if (last)
		node_unlink(node);
	pthread_mutex_unlock(&table.lock);
	if (last) {
		close(node->fd);
		free(node->name);
		free(node);
	}
}

size_t node_count(void)
{
	size_t n;

	pthread_mutex_lock(&table.lock);
	n = table.count;
	pthread_mutex_unlock(&table.lock);
	return n;
}

static bool is_visited(const struct node_visited *visited, const struct node *node)
{
	uint64_t ino = attr_ino(node->dev, node->ino);

	for (size_t i = 0; i < visited->n; i++)
		if (visited->inos[i] == ino)
			return true;
	return false;
}

/* Relaxed: a file that is opened meanwhile is only looked up again. */
static bool is_idle(const struct node *node, const struct node_visited *visited)
{
	return node->name && !atomic_load_explicit(&node->files, memory_order_relaxed) &&
	       S_ISDIR(node->type) == !!visited && !(visited && is_visited(visited, node));
}

size_t node_places(struct node_place *places, size_t n, const struct node_visited *visited)
{
	size_t found = 0;

	pthread_mutex_lock(&table.lock);
	for (size_t i = 0; i <= table.mask && found < n; i++) {
		struct node *node = table.buckets[table.hand++ & table.mask];

		for (; node && found < n; node = node->next) {
			if (!is_idle(node, visited))
				continue;
			places[found].name = strdup(node->name);
			if (!places[found].name)
				break;
			places[found++].parent = node->parent;
		}
	}
	pthread_mutex_unlock(&table.lock);
	return found;
}

void node_fini(void)
{
	for (size_t i = 0; i <= table.mask; i++) {
		for (struct node *node = table.buckets[i], *next; node; node = next) {
			next = node->next;
			if (node == &table.root)
				continue;
			close(node->fd);
			free(node->name);
			free(node);
		}
	}
	free(table.buckets);
}
